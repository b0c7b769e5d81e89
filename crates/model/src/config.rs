//! Configuration of a network: saved beside its weights, it rebuilds it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

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

/// Any network of this crate. In JSON and TOML the fields of the network stand beside `model = "segmenter"`, which may
/// be left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "model", rename_all = "snake_case")]
pub enum ModelConfig {
    /// From a map to a map.
    Segmenter(SegmenterConfig),
}

impl ModelConfig {
    /// The configuration of a name such as `deeplabv3plus-convnext_atto`; all else at its default.
    ///
    /// # Errors
    /// [`ModelError::UnknownName`], with the nearest names.
    pub fn from_name(name: &str) -> Result<Self, ModelError> {
        let segmenter = SegmenterConfig::parse_name(name).map(Self::Segmenter);
        segmenter.ok_or_else(|| unknown("model", name, Self::names()))
    }

    /// All names that [`Self::from_name`] knows.
    pub fn names() -> Vec<String> {
        SegmenterConfig::names()
    }

    /// The name that gives this configuration's network.
    pub fn name(&self) -> String {
        match self {
            Self::Segmenter(config) => config.name(),
        }
    }

    /// Checks the ranges of all fields, and that they do not contradict each other.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for the first that is wrong.
    pub fn validate(&self) -> Result<(), ModelError> {
        match self {
            Self::Segmenter(config) => config.validate(),
        }
    }
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = serde_json::Map::deserialize(deserializer)?;
        let kind = fields.remove("model");
        let fields = serde_json::Value::Object(fields);
        let config = match kind
            .as_ref()
            .map_or(Some("segmenter"), |kind| kind.as_str())
        {
            Some("segmenter") => serde_json::from_value(fields).map(Self::Segmenter),
            _ => return Err(D::Error::custom("unknown model: expected segmenter")),
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
        assert!(error.contains("expected segmenter"), "{error}");
    }
}
