//! Contrastive pair ("split"): rain and the water that came of it, brought together in one space, as CLIP (Radford et al. 2021,
//! "Learning transferable visual models from natural language supervision", arXiv 2103.00020) does with pictures and text.
//!
//! The rain encoder can then start a segmenter, see [`Segmenter::with_encoder`](super::segmenter::Segmenter::with_encoder).

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};

use crate::summary::trace::{Kind, layer};
use serde::{Deserialize, Serialize};

use super::draw_initial_values;
use super::pooled_encoder::{PooledEncoder, PooledEncoderConfig};
use crate::config::{ModelError, require};
use crate::encoders::EncoderName;

/// Temperature before the first step (section 2.5 of the paper).
const INITIAL_TEMPERATURE: f64 = 0.07;
/// Upper bound of the scale, 1 / temperature (section 2.5).
const MAX_SCALE: f64 = 100.0;

/// Configuration of a [`Contrastive`] pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContrastiveConfig {
    /// Name of the encoder of rain.
    pub rain_encoder: EncoderName,
    /// Name of the encoder of water.
    pub water_encoder: EncoderName,
    /// Channels of the rain encoder's input.
    pub rain_channels: usize,
    /// Channels of the water encoder's input: 1 for a depth.
    pub water_channels: usize,
    /// Dimensions of the common space.
    pub embedding: usize,
}

impl Default for ContrastiveConfig {
    /// `contrastive-convnext_xtiny` with the 8 channels of the published data set, and `convnext_shallow` for water depth.
    fn default() -> Self {
        Self {
            rain_encoder: EncoderName::ConvNeXtXtiny,
            water_encoder: EncoderName::ConvNeXtShallow,
            rain_channels: 8,
            water_channels: 1,
            embedding: 256,
        }
    }
}

impl ContrastiveConfig {
    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for the first that is wrong.
    pub fn validate(&self) -> Result<(), ModelError> {
        for (field, value) in [
            ("rain_channels", self.rain_channels),
            ("water_channels", self.water_channels),
            ("embedding", self.embedding),
        ] {
            require(value > 0, field, value, "must be at least 1")?;
        }
        Ok(())
    }

    /// A pair with fresh weights on `device`; reproducible after `device.seed(…)`.
    ///
    /// # Errors
    /// If the configuration contradicts itself, see [`Self::validate`].
    pub fn init(&self, device: &Device) -> Result<Contrastive, ModelError> {
        let model = self.init_lazily(device)?;
        draw_initial_values(&model);
        Ok(model)
    }

    /// As [`Self::init`], but each parameter is drawn when it is first used.
    ///
    /// # Errors
    /// As [`Self::init`].
    pub fn init_lazily(&self, device: &Device) -> Result<Contrastive, ModelError> {
        self.validate()?;
        let encoder =
            |name, channels| PooledEncoderConfig::new(name, channels, self.embedding).init(device);
        let log_scale = Initializer::Constant {
            value: (1.0 / INITIAL_TEMPERATURE).ln(),
        };
        Ok(Contrastive {
            rain: encoder(self.rain_encoder, self.rain_channels),
            water: encoder(self.water_encoder, self.water_channels),
            log_scale: log_scale.init([1], device),
        })
    }
}

/// Two encoders into one space, and the temperature of their similarities.
#[derive(Module, Debug)]
pub struct Contrastive {
    /// Encoder of rain (and terrain).
    pub rain: PooledEncoder,
    /// Encoder of water.
    pub water: PooledEncoder,
    /// Logarithm of the similarities' scale, 1 / temperature; `[1]`.
    pub log_scale: Param<Tensor<1>>,
}

impl Contrastive {
    /// Similarity of every rain with every water of a batch: scale · cosine.
    ///
    /// # Shapes
    /// `rain` `[batch, rain channels, height, width]`, `water` `[batch, water channels, h, w]`, sizes of any kind
    /// → `[batch (rain), batch (water)]`
    pub fn forward(&self, rain: Tensor<4>, water: Tensor<4>) -> Tensor<2> {
        let (rain, water) = (self.rain.forward(rain), self.water.forward(water));
        let kind = || Kind::plain("CosineSimilarity").of(&self.log_scale);
        layer(kind, vec![rain, water], |mut vectors| {
            let water = vectors.remove(1);
            similarities(vectors.remove(0), water, self.log_scale.val())
        })
    }

    /// The loss of a batch whose i-th rain made its i-th water, see [`info_nce`]; `[1]`.
    ///
    /// # Shapes
    /// As [`Self::forward`]; at least two samples, or there is nothing to tell apart.
    pub fn loss(&self, rain: Tensor<4>, water: Tensor<4>) -> Tensor<1> {
        info_nce(self.forward(rain, water))
    }

    /// Holds the scale at or below 100, as CLIP; for after each step of the optimizer.
    pub fn with_clamped_scale(mut self) -> Self {
        self.log_scale = self
            .log_scale
            .map(|scale| scale.clamp_max(MAX_SCALE.ln()).detach().require_grad());
        self
    }
}

/// `exp(log_scale) · cosine` of all pairs.
///
/// # Shapes
/// `[rains, dimensions]`, `[waters, dimensions]` and `[1]` → `[rains, waters]`
pub fn similarities(rain: Tensor<2>, water: Tensor<2>, log_scale: Tensor<1>) -> Tensor<2> {
    let unit = |x: Tensor<2>| {
        let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt();
        // PyTorch's bound in `normalize`.
        x / norm.clamp_min(1e-12)
    };
    unit(rain).matmul(unit(water).transpose()) * log_scale.exp().unsqueeze()
}

/// Symmetric InfoNCE (van den Oord et al. 2018; figure 3 of Radford et al. 2021): the mean of two cross-entropies, of finding
/// each row's and each column's partner on the diagonal; `[1]`.
///
/// # Shapes
/// `[batch, batch]`
pub fn info_nce(similarities: Tensor<2>) -> Tensor<1> {
    let [batch, _] = similarities.dims();
    let diagonal = Tensor::<2>::eye(batch, &similarities.device());
    let both = log_softmax(similarities.clone(), 1) + log_softmax(similarities, 0);
    (both * diagonal).sum().mul_scalar(-0.5 / batch as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::models::segmenter::SegmenterConfig;

    #[test]
    fn info_nce_has_the_values_of_clip() {
        let pairs = golden::differentiable_input([2, 1, 4, 6]);
        let of = |index: usize| pairs.clone().narrow(0, index, 1).reshape([4, 6]);
        let log_scale: Tensor<1> = Tensor::from_floats([(1f32 / 0.07).ln()], &pairs.device());
        let log_scale = log_scale.require_grad();
        let loss = info_nce(similarities(of(0), of(1), log_scale.clone()));
        golden::check("info_nce", loss.clone());
        let gradients = loss.backward();
        golden::check_gradient("info_nce_pairs", pairs.grad(&gradients).unwrap());
        golden::check_gradient("info_nce_scale", log_scale.grad(&gradients).unwrap());
    }

    #[test]
    fn scale_starts_at_temperature_0_07_and_ends_at_100() {
        let device = Device::flex().autodiff();
        let model = ContrastiveConfig::default().init_lazily(&device).unwrap();
        let scale = |model: &Contrastive| model.log_scale.val().exp().into_scalar::<f32>();
        assert!((scale(&model) - 14.285_714).abs() < 1e-4);
        let model = model.with_clamped_scale();
        assert!((scale(&model) - 14.285_714).abs() < 1e-4);
        let mut hot = model;
        hot.log_scale = hot.log_scale.map(|scale| scale.add_scalar(7.0));
        let hot = hot.with_clamped_scale();
        assert!((scale(&hot) - 100.0).abs() < 1e-3);
        assert!(hot.log_scale.val().is_require_grad());
    }

    #[test]
    fn the_rain_encoder_starts_a_segmenter() {
        let device = Device::flex();
        let config = ContrastiveConfig {
            rain_encoder: EncoderName::ConvNeXtAtto,
            rain_channels: 3,
            ..ContrastiveConfig::default()
        };
        let pair = golden::filled(config.init_lazily(&device).unwrap());
        let x = golden::input([1, 3, 64, 32]);
        // One that keeps all stages (the last one dilated) and one that is cut short.
        for (name, stages) in [
            ("deeplabv3plus-convnext_atto", 4),
            ("pspnet-convnext_atto", 2),
        ] {
            let config = SegmenterConfig {
                input_channels: 3,
                ..SegmenterConfig::from_name(name).unwrap()
            };
            let segmenter = config.init(&device).unwrap();
            let segmenter = segmenter.with_encoder(pair.rain.encoder.clone()).unwrap();
            let (ours, theirs) = (
                segmenter.encoder.forward(x.clone()),
                pair.rain.encoder.forward(x.clone()),
            );
            assert_eq!(ours.len(), stages);
            // The first three stages are at the same strides in both.
            for (ours, theirs) in ours.into_iter().zip(theirs).take(3) {
                assert_eq!(ours.into_data(), theirs.into_data());
            }
        }
        // Another encoder, or another number of channels, is refused.
        for name in ["unet-convnext_femto", "unet-convnext_atto"] {
            let segmenter = SegmenterConfig::from_name(name).unwrap();
            let segmenter = segmenter.init(&device).unwrap();
            assert!(segmenter.with_encoder(pair.rain.encoder.clone()).is_err());
        }
    }
}
