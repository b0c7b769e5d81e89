//! Fully convolutional network (Long et al. 2015, "Fully convolutional networks for semantic segmentation", arXiv 1411.4038), in
//! the form of torchvision: no skips.
//!
//! The paper's FCN-32s enlarges the logits of the last map; FCN-16s and FCN-8s add logits of finer maps. torchvision reaches stride
//! 8 by dilating the encoder instead, so output stride 8 (the default here, as there) stands for the resolution of FCN-8s, 16
//! for that of FCN-16s and 32 is FCN-32s.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor};

use crate::layers::conv_norm_act::{ConvNormAct, ConvNormActConfig};

/// Configuration of [`Fcn`].
#[derive(Config, Debug)]
pub struct FcnConfig {
    /// Channels of the encoder's last map.
    pub channels_in: usize,
    /// Channels of the output (torchvision: a quarter of the map's).
    pub channels: usize,
    /// Probability of the dropout.
    #[config(default = 0.1)]
    pub dropout: f64,
}

/// A 3×3 convolution on the encoder's last map.
#[derive(Module, Debug)]
pub struct Fcn {
    /// 3×3 convolution.
    pub conv: ConvNormAct,
    /// Dropout.
    pub dropout: Dropout,
}

impl FcnConfig {
    /// A decoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Fcn {
        Fcn {
            conv: ConvNormActConfig::new([self.channels_in, self.channels], 3).init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
        }
    }
}

impl Fcn {
    /// # Shapes
    /// The encoder's last map `[batch, channels in, h, w]` → `[batch, channels, h, w]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.dropout.forward(self.conv.forward(x))
    }
}
