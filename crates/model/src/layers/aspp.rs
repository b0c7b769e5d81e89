//! Atrous spatial pyramid pooling.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor};

use super::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use super::conv3x3::{Conv3x3, Conv3x3Config, Conv3x3Form};
use super::pool::global_mean;
use crate::ops::precision::in_f32;
use crate::ops::recorded::concat;
use crate::summary::trace::scope;

/// Configuration of [`Aspp`].
#[derive(Config, Debug)]
pub struct AsppConfig {
    /// Channels in and out (the published networks: 256 out).
    pub channels: [usize; 2],
    /// Dilations of the three 3×3 branches, in cells.
    pub rates: [usize; 3],
    /// Form of the 3×3 branches.
    pub form: Conv3x3Form,
    /// Bias of the convolution behind the image pooling (keras.io has it).
    #[config(default = false)]
    pub pool_bias: bool,
    /// Whether the pooled branch is the last of the concatenation, as in torchvision and segmentation_models_pytorch, instead
    /// of the first.
    #[config(default = false)]
    pub pool_last: bool,
    /// Probability of the dropout behind the mixing convolution.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// ε of the batch normalisations of all full convolutions.
    #[config(default = 1e-5)]
    pub epsilon: f64,
}

/// Atrous spatial pyramid pooling (Chen et al. 2017, DeepLabV3, section 3.3): image pooling, a 1×1 and three dilated
/// 3×3 convolutions side by side, concatenated and mixed by a 1×1 convolution.
#[derive(Module, Debug)]
pub struct Aspp {
    /// 1×1 convolution of the map's mean.
    pub pool: ConvNormAct,
    /// The 1×1 branch.
    pub pointwise: ConvNormAct,
    /// The three dilated branches.
    pub dilated: Vec<Conv3x3>,
    /// 1×1 convolution from five branches to one.
    pub project: ConvNormAct,
    /// Dropout.
    pub dropout: Dropout,
    /// Whether the pooled branch is the last of the concatenation.
    pub pool_last: bool,
}

impl AsppConfig {
    /// A layer with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Aspp {
        let [_, width] = self.channels;
        let pointwise = |channels| ConvNormActConfig::new(channels, 1).with_epsilon(self.epsilon);
        let dilated = self.rates.iter().map(|&rate| {
            Conv3x3Config::new(self.channels, self.form)
                .with_dilation(rate)
                .with_epsilon(self.epsilon)
                .init(device)
        });
        Aspp {
            pool: pointwise(self.channels)
                .with_bias(self.pool_bias)
                .init(device),
            pointwise: pointwise(self.channels).init(device),
            dilated: dilated.collect(),
            project: pointwise([5 * width, width]).init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            pool_last: self.pool_last,
        }
    }
}

impl Aspp {
    /// # Shapes
    /// `[batch, channels in, height, width]` → `[batch, channels out, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let _scope = scope(self);
        let [batch, _, height, width] = x.dims();
        // In f32: the normalisation of one value a map over a few maps, which are much alike, would make roundings large.
        let pooled = in_f32(x.clone(), |x| self.pool.forward(global_mean(x)));
        let [_, channels, _, _] = pooled.dims();
        let mut branches = vec![
            pooled.expand([batch, channels, height, width]),
            self.pointwise.forward(x.clone()),
        ];
        branches.extend(self.dilated.iter().map(|conv| conv.forward(x.clone())));
        if self.pool_last {
            branches.rotate_left(1);
        }
        let mixed = self.project.forward(concat(branches));
        self.dropout.forward(mixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn pytorch_values_and_gradients() {
        // In training mode: by the batch's moments.
        for separable in [false, true] {
            let form = match separable {
                true => Conv3x3Form::Separable,
                false => Conv3x3Form::Full,
            };
            let config = AsppConfig::new([8, 6], [2, 4, 6], form).with_pool_bias(!separable);
            let layer = golden::filled(config.init(&Device::flex().autodiff()));
            let x = golden::differentiable_input([3, 8, 13, 9]);
            let y = layer.forward(x.clone());
            let name = if separable { "aspp_separable" } else { "aspp" };
            golden::check(name, y.clone());
            let gradients = golden::loss(y).backward();
            golden::check_gradient(&format!("{name}_x"), x.grad(&gradients).unwrap());
            let pool = layer.pool.conv.weight.val().grad(&gradients).unwrap();
            golden::check_gradient(&format!("{name}_pool"), pool);
            let last = match &layer.dilated[2] {
                Conv3x3::Full(conv) => &conv.conv.weight,
                Conv3x3::Separable(conv) => &conv.depthwise.conv.weight,
            };
            let last = last.val().grad(&gradients).unwrap();
            golden::check_gradient(&format!("{name}_dilated"), last);
        }
    }
}
