//! Autoencoder ("mono"): a ConvNeXt squeezes a map into one vector, and its inverse makes a map of it.

use burn::module::Module;
use burn::nn::conv::ConvTranspose2d;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::ops::precision::widened;
use crate::ops::recorded::{conv_transpose2d, linear};
use serde::{Deserialize, Serialize};

use super::draw_initial_values;
use crate::config::{ModelError, require};
use crate::decoders::convnext_inverse::{ConvNeXtInverse, ConvNeXtInverseConfig, upsample};
use crate::encoders::{Encoder, EncoderConfig, EncoderName};
use crate::layers::init;
use crate::layers::layer_norm2d::{LayerNorm2d, LayerNorm2dConfig};
use crate::layers::pad::pad_to_multiple;

/// Configuration of an [`Autoencoder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoencoderConfig {
    /// Name of the encoder, a ConvNeXt; the decoder has its depths and channels backwards.
    pub encoder: EncoderName,
    /// Channels of the input.
    pub input_channels: usize,
    /// Channels of the output; none: those of the input.
    pub output_channels: Option<usize>,
    /// `[height, width]` of the maps in cells. The vector holds a whole map, so this size is part of the network.
    pub size: [usize; 2],
    /// Values of the vector.
    pub bottleneck: usize,
}

impl Default for AutoencoderConfig {
    /// `autoencoder-convnext_xtiny` with the 8 channels of the published data set on maps of 64 × 64 cells.
    fn default() -> Self {
        Self {
            encoder: EncoderName::ConvNeXtXtiny,
            input_channels: 8,
            output_channels: None,
            size: [64, 64],
            bottleneck: 512,
        }
    }
}

impl AutoencoderConfig {
    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for the first that is wrong.
    pub fn validate(&self) -> Result<(), ModelError> {
        let [height, width] = self.size;
        for (field, value) in [
            ("input_channels", self.input_channels),
            ("output_channels", self.output_channels.unwrap_or(1)),
            ("size", height.min(width)),
            ("bottleneck", self.bottleneck),
        ] {
            require(value > 0, field, value, "must be at least 1")?;
        }
        let reason = "the decoder is the inverse of a ConvNeXt, so the encoder must be one";
        require(is_convnext(self.encoder), "encoder", self.encoder, reason)
    }

    /// A network with fresh weights on `device`; reproducible after `device.seed(…)`.
    ///
    /// # Errors
    /// If the configuration contradicts itself, see [`Self::validate`].
    pub fn init(&self, device: &Device) -> Result<Autoencoder, ModelError> {
        let model = self.init_lazily(device)?;
        draw_initial_values(&model);
        Ok(model)
    }

    /// As [`Self::init`], but each parameter is drawn when it is first used.
    ///
    /// # Errors
    /// As [`Self::init`].
    pub fn init_lazily(&self, device: &Device) -> Result<Autoencoder, ModelError> {
        self.validate()?;
        let EncoderConfig::ConvNeXt(config) = self.encoder.config(self.input_channels) else {
            unreachable!("validate refuses other encoders")
        };
        let stride = 2 << config.dims.len();
        let coarse = self.size.map(|n| n.div_ceil(stride));
        let dims: Vec<usize> = config.dims.iter().rev().copied().collect();
        let depths = config.depths.iter().rev().copied().collect();
        let (coarsest, finest) = (dims[0], dims[dims.len() - 1]);
        let flat = coarsest * coarse[0] * coarse[1];
        let linear = |values, outputs| {
            let config = LinearConfig::new(values, outputs);
            init::linear(config.with_initializer(init::lecun()), device)
        };
        let outputs = self.output_channels.unwrap_or(self.input_channels);
        Ok(Autoencoder {
            norm: LayerNorm2dConfig::new(coarsest).init(device),
            encoder: EncoderConfig::ConvNeXt(config).init(device),
            squeeze: linear(flat, self.bottleneck),
            expand: linear(self.bottleneck, flat),
            decoder: ConvNeXtInverseConfig::new(coarsest, depths, dims).init(device),
            last: upsample([finest, outputs], device),
            size: self.size,
            stride,
        })
    }
}

/// Whether an autoencoder can mirror the encoder.
pub(crate) fn is_convnext(encoder: EncoderName) -> bool {
    matches!(encoder.config(1), EncoderConfig::ConvNeXt(_))
}

/// Encoder → normalisation → linear to the vector → linear from the vector → inverse ConvNeXt → transposed convolution to full
/// resolution. The layers around the vector and the last one have no activation: vector and map take any value.
#[derive(Module, Debug)]
pub struct Autoencoder {
    /// Feature maps of the input; the last is used.
    pub encoder: Encoder,
    /// Normalisation of that map.
    pub norm: LayerNorm2d,
    /// From the whole map to the vector.
    pub squeeze: Linear,
    /// From the vector to the whole map.
    pub expand: Linear,
    /// From the stride of the encoder's last map to stride 2.
    pub decoder: ConvNeXtInverse,
    /// 2×2 transposed convolution from stride 2 to the output.
    pub last: ConvTranspose2d,
    /// `[height, width]` of the maps in cells.
    pub size: [usize; 2],
    /// Stride of the encoder's last map.
    pub stride: usize,
}

impl Autoencoder {
    /// The map out of the vector of the map.
    ///
    /// # Shapes
    /// `[batch, input channels, height, width]` of the configured size → `[batch, output channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.decode(self.encode(x))
    }

    /// The vector of a map.
    ///
    /// # Shapes
    /// `[batch, input channels, height, width]` of the configured size → `[batch, bottleneck]`
    ///
    /// # Panics
    /// If the map has another size.
    pub fn encode(&self, x: Tensor<4>) -> Tensor<2> {
        let [batch, _, height, width] = x.dims();
        assert_eq!(
            [height, width],
            self.size,
            "the size of the maps is part of the network"
        );
        let mut maps = self.encoder.forward(pad_to_multiple(x, self.stride));
        let last = maps.pop().expect("the encoder has maps");
        drop(maps);
        let last = self.norm.forward(last).reshape([batch as i32, -1]);
        widened(linear(&self.squeeze, last))
    }

    /// The map of a vector.
    ///
    /// # Shapes
    /// `[batch, bottleneck]` → `[batch, output channels, height, width]`
    pub fn decode(&self, vector: Tensor<2>) -> Tensor<4> {
        let [batch, _] = vector.dims();
        let [height, width] = self.size;
        let [h, w] = self.size.map(|n| n.div_ceil(self.stride));
        let coarse = linear(&self.expand, vector);
        let coarse = coarse.reshape([batch as i32, -1, h as i32, w as i32]);
        let map = conv_transpose2d(&self.last, self.decoder.forward(coarse));
        widened(map.narrow(2, 0, height).narrow(3, 0, width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ParamCount;

    #[test]
    fn only_a_convnext_has_an_inverse() {
        let config = AutoencoderConfig {
            encoder: EncoderName::ResNet18,
            ..AutoencoderConfig::default()
        };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "model encoder = resnet18: the decoder is the inverse of a ConvNeXt, so the encoder must be one"
        );
    }

    #[test]
    fn xtiny_mirrors_its_encoder() {
        let model = AutoencoderConfig::default().init_lazily(&Device::flex());
        let model = model.unwrap();
        let stages = model.decoder.stages.iter();
        let stages = stages.map(|stage| (stage.blocks.len(), stage.upsample.channels));
        let expected = [
            (3, [528, 528]),
            (6, [528, 264]),
            (3, [264, 132]),
            (3, [132, 66]),
        ];
        assert_eq!(stages.collect::<Vec<_>>(), expected);
        // 528 channels on 2 × 2 cells.
        assert_eq!(model.squeeze.weight.lazy_shape().dims(), [2112, 512]);
        assert_eq!(ParamCount::of(&model.last).trainable, 66 * 8 * 4 + 8);
    }
}
