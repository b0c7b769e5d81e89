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
}

/// A depthwise k×k convolution, then a pointwise one, each followed by batch normalisation and ReLU.
///
/// The form of DeepLabV3+ (Chen et al. 2018, section 3.2 and figure 4), where the normalisation and ReLU between the
/// two are called out; MobileNet (Howard et al. 2017) has the same.
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
