//! Configuration of a network: saved beside its weights, it rebuilds it.

use serde::{Deserialize, Serialize};

use crate::decoders::deeplab_v3_plus::DeepLabVariant;
use crate::encoders::resnet::{ResNetForm, ResNetTap};
use crate::encoders::{EncoderConfig, EncoderName};

/// What is wrong with the description of a network.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No such name.
    #[error("unknown {what} \"{name}\"; nearest: {}", .nearest.join(", "))]
    UnknownName {
        /// What the name should have been of: "model" or "encoder".
        what: &'static str,
        /// The name given.
        name: String,
        /// The names most like it.
        nearest: Vec<String>,
    },
    /// A value out of range.
    #[error("model {field} = {value}: {reason}")]
    Invalid {
        /// The field of [`ModelConfig`].
        field: &'static str,
        /// Its value.
        value: usize,
        /// What it should be.
        reason: &'static str,
    },
    /// The drop-path rate is out of range.
    #[error("model drop_path = {0}: must be in [0, 1)")]
    DropPath(f64),
}

/// The decoder variants by the first half of a model's name.
const DECODERS: [(DeepLabVariant, &str); 2] = [
    (DeepLabVariant::Paper, "deeplabv3plus"),
    (DeepLabVariant::Keras, "deeplabv3plus_keras"),
];

/// A segmentation network, [`Segmenter`](crate::models::segmenter::Segmenter).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Name of the encoder, such as `convnext_atto`.
    pub encoder: EncoderName,
    /// Which published DeepLabV3+: `paper` or `keras`. With `resnet50_keras` the latter takes its maps inside the
    /// bottlenecks, as the published rainfall model; with other encoders it takes the stages' outputs.
    pub variant: DeepLabVariant,
    /// Channels of the input.
    pub input_channels: usize,
    /// Logits of each cell: 2 (dry, wet) or 1 (wet).
    pub output_channels: usize,
    /// Stride of the encoder's last map: 16 or 8.
    pub output_stride: usize,
    /// Factor by which the encoder's input is enlarged (nearest cell): 1, or the published rainfall model's 2.
    pub input_upsampling: usize,
    /// Channels of the pyramid and the decoder; 256 in all publications.
    pub decoder_channels: usize,
    /// CBAM attention in the decoder.
    pub cbam: bool,
    /// Channels of the refinement at full resolution; none: the logits are enlarged from stride 4.
    pub refinement_channels: Option<usize>,
    /// Drop-path rate of a ConvNeXt; none: the published rate of its size (0 below tiny).
    pub drop_path: Option<f64>,
}

impl Default for ModelConfig {
    /// `deeplabv3plus-convnext_atto` with the 8 channels of the published data set.
    fn default() -> Self {
        Self {
            encoder: EncoderName::ConvNeXtAtto,
            variant: DeepLabVariant::Paper,
            input_channels: 8,
            output_channels: 2,
            output_stride: 16,
            input_upsampling: 1,
            decoder_channels: 256,
            cbam: false,
            refinement_channels: None,
            drop_path: None,
        }
    }
}

impl ModelConfig {
    /// The configuration of a name such as `deeplabv3plus-convnext_atto`; all else at its default.
    ///
    /// # Errors
    /// [`ModelError::UnknownName`], with the nearest names.
    pub fn from_name(name: &str) -> Result<Self, ModelError> {
        let parts = name.split_once('-').and_then(|(decoder, encoder)| {
            let (variant, _) = DECODERS.iter().find(|(_, known)| *known == decoder)?;
            Some((*variant, encoder.parse().ok()?))
        });
        let (variant, encoder) =
            parts.ok_or_else(|| unknown("model", name, Self::names().into_iter()))?;
        Ok(Self {
            encoder,
            variant,
            ..Self::default()
        })
    }

    /// All names that [`Self::from_name`] knows.
    pub fn names() -> Vec<String> {
        let names = DECODERS.iter().flat_map(|(_, decoder)| {
            let encoders = EncoderName::ALL.iter();
            encoders.map(move |(_, encoder)| format!("{decoder}-{encoder}"))
        });
        names.collect()
    }

    /// The name that gives this configuration's encoder and variant.
    pub fn name(&self) -> String {
        let decoder = DECODERS
            .iter()
            .find(|(variant, _)| *variant == self.variant);
        format!("{}-{}", decoder.map_or("", |(_, name)| name), self.encoder)
    }

    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] or [`ModelError::DropPath`] for the first that is out of range.
    pub fn validate(&self) -> Result<(), ModelError> {
        let refinement = self.refinement_channels.unwrap_or(1);
        let positive = "must be at least 1";
        let checks = [
            (
                "input_channels",
                self.input_channels,
                self.input_channels > 0,
                positive,
            ),
            (
                "output_channels",
                self.output_channels,
                matches!(self.output_channels, 1 | 2),
                "must be 1 or 2",
            ),
            (
                "output_stride",
                self.output_stride,
                matches!(self.output_stride, 8 | 16),
                "must be 8 or 16",
            ),
            (
                "input_upsampling",
                self.input_upsampling,
                matches!(self.input_upsampling, 1 | 2),
                "must be 1 or 2",
            ),
            (
                "decoder_channels",
                self.decoder_channels,
                self.decoder_channels > 0,
                positive,
            ),
            ("refinement_channels", refinement, refinement > 0, positive),
        ];
        for (field, value, ok, reason) in checks {
            if !ok {
                return Err(ModelError::Invalid {
                    field,
                    value,
                    reason,
                });
            }
        }
        match self.drop_path {
            Some(rate) if !(0.0..1.0).contains(&rate) => Err(ModelError::DropPath(rate)),
            _ => Ok(()),
        }
    }

    /// The encoder as the decoder needs it: cut behind the stage that the variant uses, at the output stride.
    pub(crate) fn encoder_config(&self) -> EncoderConfig {
        let stages = match self.variant {
            DeepLabVariant::Paper => 4,
            DeepLabVariant::Keras => 3,
        };
        let mut config = self.encoder.config(self.input_channels);
        if let Some(rate) = self.drop_path {
            config = config.with_drop_path(rate);
        }
        if let EncoderConfig::ResNet(resnet) = &mut config
            && resnet.form == ResNetForm::Keras
            && self.variant == DeepLabVariant::Keras
        {
            resnet.tap = ResNetTap::InsideLastBottleneck;
        }
        config
            .truncated(stages)
            .with_output_stride(self.output_stride)
    }
}

/// The error for an unknown name, with the three known names most like it.
pub(crate) fn unknown(
    what: &'static str,
    name: &str,
    known: impl Iterator<Item = String>,
) -> ModelError {
    let mut known: Vec<String> = known.collect();
    known.sort_by_cached_key(|known| strsim::damerau_levenshtein(known, name));
    known.truncate(3);
    ModelError::UnknownName {
        what,
        name: name.to_owned(),
        nearest: known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_gives_its_configuration() {
        for name in ModelConfig::names() {
            assert_eq!(ModelConfig::from_name(&name).unwrap().name(), name);
        }
    }

    #[test]
    fn unknown_name_lists_the_nearest() {
        let error = ModelConfig::from_name("deeplabv3plus-convnext-atto").unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(
                "unknown model \"deeplabv3plus-convnext-atto\"; nearest: deeplabv3plus-convnext_atto"
            ),
            "{text}"
        );
    }

    #[test]
    fn json_round_trip() {
        let config = ModelConfig {
            refinement_channels: Some(24),
            cbam: true,
            ..ModelConfig::from_name("deeplabv3plus_keras-resnet50_keras").unwrap()
        };
        let json = serde_json::to_string(&config).unwrap();
        assert!(
            json.contains(r#""encoder":"resnet50_keras","variant":"keras""#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<ModelConfig>(&json).unwrap(), config);
        let error =
            serde_json::from_str::<ModelConfig>(r#"{"encoder":"convnext_ato"}"#).unwrap_err();
        assert!(
            error.to_string().contains("nearest: convnext_atto"),
            "{error}"
        );
        assert!(serde_json::from_str::<ModelConfig>(r#"{"encodr":"convnext_atto"}"#).is_err());
    }

    #[test]
    fn out_of_range_is_refused() {
        let config = ModelConfig {
            output_stride: 12,
            ..ModelConfig::default()
        };
        let error = config.validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "model output_stride = 12: must be 8 or 16"
        );
    }
}
