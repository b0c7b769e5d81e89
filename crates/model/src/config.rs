//! Configuration of a network: saved beside its weights, it rebuilds it.

use burn::tensor::Device;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::encoders::EncoderName;
use crate::models::Model;
use crate::models::autoencoder::{AutoencoderConfig, is_convnext};
use crate::models::contrastive::ContrastiveConfig;
use crate::models::pixel_classifier::PixelClassifierConfig;
use crate::models::segmenter::SegmenterConfig;

/// What is wrong with the description of a network.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No such name.
    #[error("unknown {what} \"{name}\"; nearest: {}", .nearest.join(", "))]
    UnknownName {
        /// What the name should have been of: "model", "encoder" or "decoder".
        what: &'static str,
        /// The name given.
        name: String,
        /// The names most like it.
        nearest: Vec<String>,
    },
    /// A value out of range, or one that contradicts another.
    #[error("model {field} = {value}: {reason}")]
    Invalid {
        /// The field of the configuration.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        reason: String,
    },
}

/// Any network of this crate. In JSON and TOML the fields of the network stand beside `model = "segmenter"` (or `autoencoder`,
/// `pixel_classifier`, `contrastive`), which may be left out of a segmenter's.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "model", rename_all = "snake_case")]
pub enum ModelConfig {
    /// From a map to a map.
    Segmenter(SegmenterConfig),
    /// From a map to a vector and back.
    Autoencoder(AutoencoderConfig),
    /// From the window around a cell to that cell.
    PixelClassifier(PixelClassifierConfig),
    /// Rain and water into one space.
    Contrastive(ContrastiveConfig),
}

impl ModelConfig {
    /// The configuration of a name; all else at its default. A segmenter's is its decoder and its encoder, such as
    /// `deeplabv3plus-convnext_tiny`; the others are `autoencoder`, `pixel_classifier` or `contrastive` and the encoder (of
    /// rain), such as `autoencoder-convnext_xtiny`.
    ///
    /// # Errors
    /// [`ModelError::UnknownName`], with the nearest names.
    pub fn from_name(name: &str) -> Result<Self, ModelError> {
        let found = name.split_once('-').and_then(|(network, encoder)| {
            let encoder = encoder.parse::<EncoderName>();
            match network {
                "autoencoder" => Some(Self::Autoencoder(AutoencoderConfig {
                    encoder: encoder.ok().filter(|encoder| is_convnext(*encoder))?,
                    ..AutoencoderConfig::default()
                })),
                "pixel_classifier" => Some(Self::PixelClassifier(PixelClassifierConfig {
                    encoder: encoder.ok()?,
                    ..PixelClassifierConfig::default()
                })),
                "contrastive" => Some(Self::Contrastive(ContrastiveConfig {
                    rain_encoder: encoder.ok()?,
                    ..ContrastiveConfig::default()
                })),
                _ => SegmenterConfig::parse_name(name).map(Self::Segmenter),
            }
        });
        found.ok_or_else(|| unknown("model", name, Self::names()))
    }

    /// All names that [`Self::from_name`] knows.
    pub fn names() -> Vec<String> {
        let mut names = SegmenterConfig::names();
        for network in ["autoencoder", "pixel_classifier", "contrastive"] {
            let encoders = EncoderName::ALL.iter();
            let encoders =
                encoders.filter(|(encoder, _)| network != "autoencoder" || is_convnext(*encoder));
            names.extend(encoders.map(|(_, encoder)| format!("{network}-{encoder}")));
        }
        names
    }

    /// The name that gives this configuration's network.
    pub fn name(&self) -> String {
        match self {
            Self::Segmenter(config) => config.name(),
            Self::Autoencoder(config) => format!("autoencoder-{}", config.encoder),
            Self::PixelClassifier(config) => format!("pixel_classifier-{}", config.encoder),
            Self::Contrastive(config) => format!("contrastive-{}", config.rain_encoder),
        }
    }

    /// Checks the ranges of all fields, and that they do not contradict each other.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for the first that is wrong.
    pub fn validate(&self) -> Result<(), ModelError> {
        match self {
            Self::Segmenter(config) => config.validate(),
            Self::Autoencoder(config) => config.validate(),
            Self::PixelClassifier(config) => config.validate(),
            Self::Contrastive(config) => config.validate(),
        }
    }

    /// A network with fresh weights on `device`; reproducible after `device.seed(…)`.
    ///
    /// # Errors
    /// If the configuration contradicts itself, see [`Self::validate`].
    pub fn init(&self, device: &Device) -> Result<Model, ModelError> {
        Ok(match self {
            Self::Segmenter(config) => Model::Segmenter(config.init(device)?),
            Self::Autoencoder(config) => Model::Autoencoder(config.init(device)?),
            Self::PixelClassifier(config) => Model::PixelClassifier(config.init(device)?),
            Self::Contrastive(config) => Model::Contrastive(config.init(device)?),
        })
    }

    /// As [`Self::init`], but each parameter is drawn when it is first used: a network that is only counted, described or
    /// loaded costs nothing.
    ///
    /// # Errors
    /// As [`Self::init`].
    pub fn init_lazily(&self, device: &Device) -> Result<Model, ModelError> {
        Ok(match self {
            Self::Segmenter(config) => Model::Segmenter(config.init_lazily(device)?),
            Self::Autoencoder(config) => Model::Autoencoder(config.init_lazily(device)?),
            Self::PixelClassifier(config) => Model::PixelClassifier(config.init_lazily(device)?),
            Self::Contrastive(config) => Model::Contrastive(config.init_lazily(device)?),
        })
    }
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = serde_json::Map::deserialize(deserializer)?;
        let model = fields.remove("model").unwrap_or_else(|| "segmenter".into());
        let fields = serde_json::Value::Object(fields);
        let config = match model.as_str() {
            Some("segmenter") => serde_json::from_value(fields).map(Self::Segmenter),
            Some("autoencoder") => serde_json::from_value(fields).map(Self::Autoencoder),
            Some("pixel_classifier") => serde_json::from_value(fields).map(Self::PixelClassifier),
            Some("contrastive") => serde_json::from_value(fields).map(Self::Contrastive),
            _ => {
                return Err(D::Error::custom(format!(
                    "model is {model}: expected segmenter, autoencoder, pixel_classifier or contrastive"
                )));
            }
        };
        config.map_err(D::Error::custom)
    }
}

/// The error for an unknown name, with the three known names most like it.
pub(crate) fn unknown(
    what: &'static str,
    name: &str,
    known: impl IntoIterator<Item = String>,
) -> ModelError {
    let mut known: Vec<String> = known.into_iter().collect();
    known.sort_by_cached_key(|known| strsim::damerau_levenshtein(known, name));
    known.truncate(3);
    ModelError::UnknownName {
        what,
        name: name.to_owned(),
        nearest: known,
    }
}

/// [`ModelError::Invalid`] unless `ok`.
pub(crate) fn require(
    ok: bool,
    field: &'static str,
    value: impl ToString,
    reason: impl Into<String>,
) -> Result<(), ModelError> {
    if ok {
        return Ok(());
    }
    Err(ModelError::Invalid {
        field,
        value: value.to_string(),
        reason: reason.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_gives_its_configuration() {
        for name in ModelConfig::names() {
            let config = ModelConfig::from_name(&name).unwrap();
            assert_eq!(config.name(), name);
            config.validate().unwrap();
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<ModelConfig>(&json).unwrap(), config);
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
    fn a_configuration_is_flat_and_a_segmenter_unless_it_says_otherwise() {
        let config = ModelConfig::from_name("deeplabv3plus_keras-resnet50_keras").unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert!(
            json.starts_with(
                r#"{"model":"segmenter","encoder":"resnet50_keras","decoder":"deeplabv3plus_keras""#
            ),
            "{json}"
        );
        let untagged = json.replace(r#""model":"segmenter","#, "");
        assert_eq!(
            serde_json::from_str::<ModelConfig>(&untagged).unwrap(),
            config
        );
        let message = |json| {
            serde_json::from_str::<ModelConfig>(json)
                .unwrap_err()
                .to_string()
        };
        let error = message(r#"{"encoder":"convnext_ato"}"#);
        assert!(error.contains("nearest: convnext_atto"), "{error}");
        let error = message(r#"{"encodr":"convnext_atto"}"#);
        assert!(error.contains("unknown field `encodr`"), "{error}");
        let error = message(r#"{"model":"segmentor"}"#);
        assert!(
            error.contains(r#"model is "segmentor": expected segmenter, autoencoder"#),
            "{error}"
        );
    }
}
