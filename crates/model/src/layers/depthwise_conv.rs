//! Depthwise convolution with its bias kept apart.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use super::init;
use crate::ops::conv2d;

/// Configuration of [`DepthwiseConv2d`].
#[derive(Config, Debug)]
pub struct DepthwiseConv2dConfig {
    /// Channels.
    pub channels: usize,
    /// Side of the square kernel, in cells; odd.
    pub kernel_size: usize,
    /// Spacing of the kernel's taps, in cells.
    #[config(default = 1)]
    pub dilation: usize,
}

/// One k×k filter and one bias for each channel, at stride 1, padded to keep the size.
#[derive(Module, Debug)]
pub struct DepthwiseConv2d {
    /// The filters, `[channels, 1, k, k]`, without a bias.
    pub conv: Conv2d,
    /// `[channels]`
    pub bias: Param<Tensor<1>>,
}

impl DepthwiseConv2dConfig {
    /// A layer with ConvNeXt's initial weights on `device`.
    pub fn init(&self, device: &Device) -> DepthwiseConv2d {
        let pad = self.dilation * (self.kernel_size / 2);
        DepthwiseConv2d {
            conv: Conv2dConfig::new([self.channels; 2], [self.kernel_size; 2])
                .with_dilation([self.dilation; 2])
                .with_groups(self.channels)
                .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
                .with_bias(false)
                .with_initializer(init::convnext())
                .init(device),
            bias: Initializer::Zeros.init([self.channels], device),
        }
    }
}

impl DepthwiseConv2d {
    /// # Shapes
    /// `[batch, channels, height, width]` → the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d::with_bias(&self.conv, Some(self.bias.val()), x)
    }
}
