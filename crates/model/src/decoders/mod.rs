//! Decoders: from an encoder's feature maps to one map, on which the head stands.

pub mod deeplab_v3_plus;
pub mod full_resolution;
mod name;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

pub use name::DecoderName;

use deeplab_v3_plus::{DeepLabV3Plus, DeepLabV3PlusConfig, DeepLabVariant};

/// Configuration of a [`Decoder`].
#[derive(Debug, Clone)]
pub enum DecoderConfig {
    /// DeepLabV3+.
    DeepLabV3Plus(DeepLabV3PlusConfig),
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
        let low = strides.iter().position(|stride| *stride == 4).unwrap_or(0);
        let variant = match name {
            DecoderName::DeepLabV3Plus => DeepLabVariant::Paper,
            DecoderName::DeepLabV3PlusKeras => DeepLabVariant::Keras,
        };
        let config = DeepLabV3PlusConfig::new(variant, channels[low], channels[last])
            .with_channels(width.unwrap_or(256))
            .with_low_map(low)
            .with_output_stride(strides[last]);
        Self::DeepLabV3Plus(config)
    }

    /// Channels of the decoder's map.
    pub fn channels(&self) -> usize {
        match self {
            Self::DeepLabV3Plus(config) => config.channels,
        }
    }

    /// A decoder with fresh weights on `device`.
    pub fn init(&self, device: &Device) -> Decoder {
        match self {
            Self::DeepLabV3Plus(config) => Decoder::DeepLabV3Plus(config.init(device)),
        }
    }
}

/// Any decoder.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one exists
pub enum Decoder {
    /// DeepLabV3+.
    DeepLabV3Plus(DeepLabV3Plus),
}

impl Decoder {
    /// # Shapes
    /// The encoder's maps, finest first → `[batch, channels, h, w]`, see [`DecoderConfig::channels`]
    pub fn forward(&self, maps: Vec<Tensor<4>>) -> Tensor<4> {
        match self {
            Self::DeepLabV3Plus(decoder) => decoder.forward(maps),
        }
    }
}
