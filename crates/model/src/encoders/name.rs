//! The encoders by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::EncoderConfig;
use super::convnext::ConvNeXtConfig;
use super::resnet::{ResNetConfig, ResNetForm};
use crate::config::{ModelError, unknown};

/// The encoders by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[allow(missing_docs)] // the names say it
pub enum EncoderName {
    ConvNeXtAtto,
    ConvNeXtFemto,
    ConvNeXtPico,
    ConvNeXtNano,
    ConvNeXtTiny,
    ConvNeXtSmall,
    ConvNeXtBase,
    ResNet18,
    ResNet34,
    ResNet50,
    /// ResNet-50 in the form of Keras applications.
    ResNet50Keras,
}

impl EncoderName {
    /// All of them, with their names in configurations.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::ConvNeXtAtto, "convnext_atto"),
        (Self::ConvNeXtFemto, "convnext_femto"),
        (Self::ConvNeXtPico, "convnext_pico"),
        (Self::ConvNeXtNano, "convnext_nano"),
        (Self::ConvNeXtTiny, "convnext_tiny"),
        (Self::ConvNeXtSmall, "convnext_small"),
        (Self::ConvNeXtBase, "convnext_base"),
        (Self::ResNet18, "resnet18"),
        (Self::ResNet34, "resnet34"),
        (Self::ResNet50, "resnet50"),
        (Self::ResNet50Keras, "resnet50_keras"),
    ];

    /// The whole encoder, as published for classification (its last map at stride 32).
    pub fn config(self, input_channels: usize) -> EncoderConfig {
        let convnext = match self {
            Self::ConvNeXtAtto => ConvNeXtConfig::atto,
            Self::ConvNeXtFemto => ConvNeXtConfig::femto,
            Self::ConvNeXtPico => ConvNeXtConfig::pico,
            Self::ConvNeXtNano => ConvNeXtConfig::nano,
            Self::ConvNeXtTiny => ConvNeXtConfig::tiny,
            Self::ConvNeXtSmall => ConvNeXtConfig::small,
            Self::ConvNeXtBase => ConvNeXtConfig::base,
            Self::ResNet18 => return EncoderConfig::ResNet(ResNetConfig::resnet18(input_channels)),
            Self::ResNet34 => return EncoderConfig::ResNet(ResNetConfig::resnet34(input_channels)),
            Self::ResNet50 => return EncoderConfig::ResNet(ResNetConfig::resnet50(input_channels)),
            Self::ResNet50Keras => {
                let config = ResNetConfig::resnet50(input_channels).with_form(ResNetForm::Keras);
                return EncoderConfig::ResNet(config);
            }
        };
        EncoderConfig::ConvNeXt(convnext(input_channels))
    }
}

impl fmt::Display for EncoderName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let name = Self::ALL.iter().find(|(encoder, _)| encoder == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl From<EncoderName> for String {
    fn from(name: EncoderName) -> Self {
        name.to_string()
    }
}

impl FromStr for EncoderName {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(encoder, _)| *encoder).ok_or_else(|| {
            let known = Self::ALL.iter().map(|(_, known)| (*known).to_owned());
            unknown("encoder", name, known)
        })
    }
}

impl TryFrom<String> for EncoderName {
    type Error = ModelError;

    fn try_from(name: String) -> Result<Self, ModelError> {
        name.parse()
    }
}
