//! Depthwise-separable convolution.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::conv_norm_act::{ConvNormAct, ConvNormActConfig};

/// Configuration of [`SeparableConv`].
#[derive(Config, Debug)]
pub struct SeparableConvConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Side of the square depthwise kernel, in cells.
    #[config(default = 3)]
    pub kernel_size: usize,
    /// Spacing of the depthwise kernel's taps, in cells.
    #[config(default = 1)]
    pub dilation: usize,
    /// Whether a normalisation and a ReLU stand between the two convolutions.
    #[config(default = true)]
    pub norm_between: bool,
}

/// A depthwise k×k convolution, then a pointwise one, followed by batch normalisation and ReLU.
///
/// With another normalisation and ReLU between the two it is the form of DeepLabV3+ (Chen et al. 2018, section 3.2 and
/// figure 4), where they are called out, and of MobileNet (Howard et al. 2017); segmentation_models_pytorch has none there.
#[derive(Module, Debug)]
pub struct SeparableConv {
    /// One k×k filter for each channel.
    pub depthwise: ConvNormAct,
    /// 1×1 convolution that mixes the channels.
    pub pointwise: ConvNormAct,
}

impl SeparableConvConfig {
    /// A layer with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> SeparableConv {
        let [channels_in, _] = self.channels;
        SeparableConv {
            depthwise: ConvNormActConfig::new([channels_in; 2], self.kernel_size)
                .with_dilation(self.dilation)
                .with_groups(channels_in)
                .with_norm(self.norm_between)
                .with_activation(self.norm_between)
                .init(device),
            pointwise: ConvNormActConfig::new(self.channels, 1).init(device),
        }
    }
}

impl SeparableConv {
    /// # Shapes
    /// `[batch, channels in, height, width]` → `[batch, channels out, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.pointwise.forward(self.depthwise.forward(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn pytorch_values_and_gradients() {
        // In training mode: by the batch's moments.
        let config = SeparableConvConfig::new([6, 10]).with_dilation(2);
        let layer = golden::filled(config.init(&Device::flex().autodiff()));
        let x = golden::differentiable_input([2, 6, 9, 7]);
        let y = layer.forward(x.clone());
        golden::check("separable_conv", y.clone());
        let gradients = golden::loss(y).backward();
        golden::check_gradient("separable_conv_x", x.grad(&gradients).unwrap());
        for (name, part) in [
            ("depthwise", &layer.depthwise),
            ("pointwise", &layer.pointwise),
        ] {
            let gradient = part.conv.weight.val().grad(&gradients).unwrap();
            golden::check_gradient(&format!("separable_conv_{name}"), gradient);
        }
    }
}
