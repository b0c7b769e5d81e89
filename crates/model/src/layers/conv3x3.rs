//! A 3×3 convolution, full or depthwise-separable.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use super::separable_conv::{SeparableConv, SeparableConvConfig};

/// The forms of a [`Conv3x3`].
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Conv3x3Form {
    /// A full convolution.
    Full,
    /// Depthwise-separable, with normalisation and ReLU behind both parts.
    Separable,
    /// Depthwise-separable, with normalisation and ReLU at the end only.
    SeparableBare,
}

/// Configuration of [`Conv3x3`].
#[derive(Config, Debug)]
pub struct Conv3x3Config {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// The form.
    pub form: Conv3x3Form,
    /// Spacing of the kernel's taps, in cells.
    #[config(default = 1)]
    pub dilation: usize,
    /// ε of a full convolution's batch normalisation.
    #[config(default = 1e-5)]
    pub epsilon: f64,
}

/// A 3×3 convolution with normalisation and ReLU in either of its two forms.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // five exist
pub enum Conv3x3 {
    /// A full convolution.
    Full(ConvNormAct),
    /// A depthwise-separable convolution.
    Separable(SeparableConv),
}

impl Conv3x3Config {
    /// A layer with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Conv3x3 {
        match self.form {
            Conv3x3Form::Full => Conv3x3::Full(
                ConvNormActConfig::new(self.channels, 3)
                    .with_dilation(self.dilation)
                    .with_epsilon(self.epsilon)
                    .init(device),
            ),
            Conv3x3Form::Separable | Conv3x3Form::SeparableBare => Conv3x3::Separable(
                SeparableConvConfig::new(self.channels)
                    .with_dilation(self.dilation)
                    .with_norm_between(self.form == Conv3x3Form::Separable)
                    .init(device),
            ),
        }
    }
}

impl Conv3x3 {
    /// # Shapes
    /// `[batch, channels in, height, width]` → `[batch, channels out, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Full(conv) => conv.forward(x),
            Self::Separable(conv) => conv.forward(x),
        }
    }
}
