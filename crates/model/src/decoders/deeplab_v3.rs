//! DeepLabV3 (Chen et al. 2017, "Rethinking atrous convolution for semantic image segmentation", arXiv 1706.05587), in the form
//! of segmentation_models_pytorch and torchvision.
//!
//! Both have these parameters, with dilations 12, 24 and 36 at any output stride. The auxiliary head that torchvision adds on
//! the third stage while training (an [`Fcn`](super::fcn::Fcn)) is not part of it.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::layers::aspp::{Aspp, AsppConfig};
use crate::layers::conv_norm_act::{ConvNormAct, ConvNormActConfig};
use crate::layers::conv3x3::Conv3x3Form;

/// Configuration of [`DeepLabV3`].
#[derive(Config, Debug)]
pub struct DeepLabV3Config {
    /// Channels of the encoder's last map.
    pub channels_in: usize,
    /// Channels of the pyramid and the output.
    #[config(default = 256)]
    pub channels: usize,
    /// Probability of the dropout behind the pyramid.
    #[config(default = 0.5)]
    pub dropout: f64,
}

/// Atrous pyramid on the encoder's last map, then a 3×3 convolution.
#[derive(Module, Debug)]
pub struct DeepLabV3 {
    /// Atrous spatial pyramid pooling of the last map.
    pub aspp: Aspp,
    /// 3×3 convolution.
    pub conv: ConvNormAct,
}

impl DeepLabV3Config {
    /// A decoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> DeepLabV3 {
        let channels = [self.channels_in, self.channels];
        DeepLabV3 {
            aspp: AsppConfig::new(channels, [12, 24, 36], Conv3x3Form::Full)
                .with_pool_last(true)
                .with_dropout(self.dropout)
                .init(device),
            conv: ConvNormActConfig::new([self.channels; 2], 3).init(device),
        }
    }
}

impl DeepLabV3 {
    /// # Shapes
    /// The encoder's last map `[batch, channels in, h, w]` → `[batch, channels, h, w]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv.forward(self.aspp.forward(x))
    }
}
