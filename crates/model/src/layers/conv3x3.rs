//! A 3×3 convolution, full or depthwise-separable.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use super::separable_conv::{SeparableConv, SeparableConvConfig};

/// A 3×3 convolution with normalisation and ReLU in either of its two forms.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // five exist
pub enum Conv3x3 {
    /// A full convolution.
    Full(ConvNormAct),
    /// A depthwise-separable convolution.
    Separable(SeparableConv),
}

impl Conv3x3 {
    /// The full convolution of the given configuration.
    pub fn full(config: ConvNormActConfig, device: &Device) -> Self {
        Self::Full(config.init(device))
    }

    /// A separable convolution between `channels` = [in, out] with the given dilation, in cells.
    pub fn separable(channels: [usize; 2], dilation: usize, device: &Device) -> Self {
        let config = SeparableConvConfig::new(channels).with_dilation(dilation);
        Self::Separable(config.init(device))
    }

    /// # Shapes
    /// `[batch, channels in, height, width]` → `[batch, channels out, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Full(conv) => conv.forward(x),
            Self::Separable(conv) => conv.forward(x),
        }
    }
}
