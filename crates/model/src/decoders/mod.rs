//! Decoders: from an encoder's feature maps to one map, on which the head stands.

pub mod convnext_inverse;
pub mod deeplab_v3;
pub mod deeplab_v3_plus;
pub mod fcn;
pub mod full_resolution;
mod name;
pub mod psp_net;
#[cfg(test)]
mod tests;
pub mod unet;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

pub use name::DecoderName;

use convnext_inverse::{ConvNeXtInverse, ConvNeXtInverseConfig};
use deeplab_v3::{DeepLabV3, DeepLabV3Config};
use deeplab_v3_plus::{DeepLabV3Plus, DeepLabV3PlusConfig, DeepLabVariant};
use fcn::{Fcn, FcnConfig};
use psp_net::{PspNet, PspNetConfig};
use unet::{UNet, UNetConfig};

/// Configuration of a [`Decoder`].
#[derive(Debug, Clone)]
pub enum DecoderConfig {
    /// DeepLabV3+.
    DeepLabV3Plus(DeepLabV3PlusConfig),
    /// DeepLabV3.
    DeepLabV3(DeepLabV3Config),
    /// PSPNet.
    PspNet(PspNetConfig),
    /// U-Net.
    UNet(UNetConfig),
    /// FCN.
    Fcn(FcnConfig),
    /// Inverse ConvNeXt.
    ConvNeXtInverse(ConvNeXtInverseConfig),
}

impl DecoderConfig {
    /// The decoder of that name on an encoder's maps, finest first, with these `channels` and `strides`. `width` are the
    /// channels of its widest map; none: as published.
    pub fn new(
        name: DecoderName,
        channels: &[usize],
        strides: &[usize],
        width: Option<usize>,
    ) -> Self {
        let last = channels.len() - 1;
        let (channels_in, stride) = (channels[last], strides[last]);
        let deeplab_v3_plus = |variant| {
            let low = strides.iter().position(|stride| *stride == 4);
            let low = low.expect("every encoder has a map at stride 4");
            let config = DeepLabV3PlusConfig::new(variant, channels[low], channels_in)
                .with_channels(width.unwrap_or(256))
                .with_low_map(low)
                .with_output_stride(stride);
            Self::DeepLabV3Plus(config)
        };
        match name {
            DecoderName::DeepLabV3Plus => deeplab_v3_plus(DeepLabVariant::Paper),
            DecoderName::DeepLabV3PlusKeras => deeplab_v3_plus(DeepLabVariant::Keras),
            DecoderName::DeepLabV3PlusSmp => deeplab_v3_plus(DeepLabVariant::Smp),
            DecoderName::DeepLabV3 => {
                let config = DeepLabV3Config::new(channels_in);
                Self::DeepLabV3(config.with_channels(width.unwrap_or(256)))
            }
            DecoderName::PspNet => {
                let config = PspNetConfig::new(channels_in);
                Self::PspNet(config.with_channels(width.unwrap_or(512)))
            }
            DecoderName::UNet => {
                let config = UNetConfig::new(channels.to_vec(), stride);
                Self::UNet(config.with_channels(width.unwrap_or(256)))
            }
            DecoderName::Fcn => {
                let quarter = (channels_in / 4).max(1);
                Self::Fcn(FcnConfig::new(channels_in, width.unwrap_or(quarter)))
            }
            DecoderName::ConvNeXtInverse => {
                let width = width.unwrap_or(528);
                Self::ConvNeXtInverse(ConvNeXtInverseConfig::xtiny(channels_in, stride, width))
            }
        }
    }

    /// Channels of the decoder's map.
    pub fn channels(&self) -> usize {
        match self {
            Self::DeepLabV3Plus(config) => config.channels,
            Self::DeepLabV3(config) => config.channels,
            Self::PspNet(config) => config.channels,
            Self::UNet(config) => *config.step_channels().last().unwrap_or(&config.channels),
            Self::Fcn(config) => config.channels,
            Self::ConvNeXtInverse(config) => *config.dims.last().unwrap_or(&config.channels_in),
        }
    }

    /// A decoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Decoder {
        match self {
            Self::DeepLabV3Plus(config) => Decoder::DeepLabV3Plus(config.init(device)),
            Self::DeepLabV3(config) => Decoder::DeepLabV3(config.init(device)),
            Self::PspNet(config) => Decoder::PspNet(config.init(device)),
            Self::UNet(config) => Decoder::UNet(config.init(device)),
            Self::Fcn(config) => Decoder::Fcn(config.init(device)),
            Self::ConvNeXtInverse(config) => Decoder::ConvNeXtInverse(config.init(device)),
        }
    }
}

/// Any decoder.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one exists
pub enum Decoder {
    /// DeepLabV3+.
    DeepLabV3Plus(DeepLabV3Plus),
    /// DeepLabV3.
    DeepLabV3(DeepLabV3),
    /// PSPNet.
    PspNet(PspNet),
    /// U-Net.
    UNet(UNet),
    /// FCN.
    Fcn(Fcn),
    /// Inverse ConvNeXt.
    ConvNeXtInverse(ConvNeXtInverse),
}

impl Decoder {
    /// # Shapes
    /// The encoder's maps, finest first → `[batch, channels, h, w]`, see [`DecoderConfig::channels`]
    pub fn forward(&self, maps: Vec<Tensor<4>>) -> Tensor<4> {
        let last = |mut maps: Vec<Tensor<4>>| maps.pop().expect("the encoder has maps");
        match self {
            Self::DeepLabV3Plus(decoder) => decoder.forward(maps),
            Self::DeepLabV3(decoder) => decoder.forward(last(maps)),
            Self::PspNet(decoder) => decoder.forward(last(maps)),
            Self::UNet(decoder) => decoder.forward(maps),
            Self::Fcn(decoder) => decoder.forward(last(maps)),
            Self::ConvNeXtInverse(decoder) => decoder.forward(last(maps)),
        }
    }
}
