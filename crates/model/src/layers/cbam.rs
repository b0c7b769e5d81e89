//! Convolutional block attention module.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use super::init;
use super::pool::{global_max, global_mean};
use crate::ops::precision::in_f32;
use crate::ops::recorded::{add, concat, linear, multiply, relu, sigmoid};
use crate::summary::trace::{Kind, scope, unary};

/// Which published form of CBAM; their weights are not those of one another.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum CbamForm {
    /// The authors' code: biases in the channel gate, `[max, mean]` into the spatial gate, channels / reduction rounded down.
    Official,
    /// timm's: no biases, `[mean, max]`, rounded to the nearest.
    Timm,
}

/// Configuration of [`Cbam`].
#[derive(Config, Debug)]
pub struct CbamConfig {
    /// Channels.
    pub channels: usize,
    /// The channel gate's hidden layer has channels / reduction units, at least one.
    #[config(default = 16)]
    pub reduction: usize,
    /// The published form.
    #[config(default = "CbamForm::Official")]
    pub form: CbamForm,
}

/// CBAM (Woo et al. 2018, "CBAM: Convolutional block attention module", arXiv 1807.06521, section 3): a channel gate, then a spatial
/// gate.
///
/// * channel gate: `x · sigmoid(mlp(mean over cells) + mlp(max over cells))`
/// * spatial gate: `x · sigmoid(batch_norm(conv7×7([max over channels, mean over channels])))`
#[derive(Module, Debug)]
pub struct Cbam {
    /// First layer of the shared MLP, C → C / reduction.
    pub reduce: Linear,
    /// Second layer of the shared MLP, C / reduction → C.
    pub expand: Linear,
    /// 7×7 convolution and normalisation of the spatial gate.
    pub spatial: ConvNormAct,
    /// Whether the mean comes before the maximum in the spatial gate.
    pub mean_first: bool,
}

impl CbamConfig {
    /// A layer with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Cbam {
        let hidden = match self.form {
            CbamForm::Official => self.channels / self.reduction,
            CbamForm::Timm => (self.channels + self.reduction / 2) / self.reduction,
        };
        let hidden = hidden.max(1);
        let linear = |channels_in, channels_out| {
            let config = LinearConfig::new(channels_in, channels_out)
                .with_bias(self.form == CbamForm::Official)
                .with_initializer(init::he_fan_in());
            init::linear(config, device)
        };
        Cbam {
            reduce: linear(self.channels, hidden),
            expand: linear(hidden, self.channels),
            spatial: ConvNormActConfig::new([2, 1], 7)
                .with_activation(false)
                .init(device),
            mean_first: self.form == CbamForm::Timm,
        }
    }
}

impl Cbam {
    /// # Shapes
    /// `[batch, channels, height, width]` → the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let _scope = scope(self);
        let gate = add(
            self.mlp(global_mean(x.clone())),
            self.mlp(global_max(x.clone())),
        );
        let x = multiply(x, sigmoid(gate));
        let mut pooled = vec![
            unary(|| Kind::plain("ReduceMax"), x.clone(), |x| x.max_dim(1)),
            unary(
                || Kind::plain("ReduceMean"),
                x.clone(),
                |x| in_f32(x, |x| x.mean_dim(1)),
            ),
        ];
        if self.mean_first {
            pooled.reverse();
        }
        multiply(x, sigmoid(self.spatial.forward(concat(pooled))))
    }

    fn mlp(&self, pooled: Tensor<4>) -> Tensor<4> {
        let [batch, channels, _, _] = pooled.dims();
        let hidden = relu(linear(&self.reduce, pooled.reshape([batch, channels])));
        linear(&self.expand, hidden).reshape([batch, channels, 1, 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn values_and_gradients_of_both_forms() {
        for (form, name) in [
            (CbamForm::Official, "cbam_official"),
            (CbamForm::Timm, "cbam_timm"),
        ] {
            // 40 / 16 = 2.5: the forms round it differently.
            let config = CbamConfig::new(40).with_form(form);
            let layer = golden::filled(config.init(&Device::flex()));
            golden::check(name, layer.forward(golden::input([2, 40, 9, 5])));

            let layer = golden::filled(config.init(&Device::flex().autodiff()));
            let x = golden::differentiable_input([2, 40, 9, 5]);
            let gradients = golden::loss(layer.forward(x.clone())).backward();
            golden::check_gradient(&format!("{name}_x"), x.grad(&gradients).unwrap());
            let reduce = layer.reduce.weight.val().grad(&gradients).unwrap();
            golden::check_gradient(&format!("{name}_reduce"), reduce.transpose());
            let spatial = layer.spatial.conv.weight.val().grad(&gradients).unwrap();
            golden::check_gradient(&format!("{name}_spatial"), spatial);
        }
    }
}
