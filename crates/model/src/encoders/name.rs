//! The encoders by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::EncoderConfig;
use super::convnext::{ConvNeXtConfig, ConvNeXtVersion};
use super::mobilenet_v3::{MobileNetV3Config, MobileNetV3Size};
use super::resnet::{ResNetConfig, ResNetForm};
use super::swin::SwinConfig;
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
    ConvNeXtLarge,
    ConvNeXtXlarge,
    ConvNeXtXtiny,
    ConvNeXtShallow,
    ConvNeXtV2Atto,
    ConvNeXtV2Femto,
    ConvNeXtV2Pico,
    ConvNeXtV2Nano,
    ConvNeXtV2Tiny,
    ConvNeXtV2Small,
    ConvNeXtV2Base,
    ConvNeXtV2Large,
    ConvNeXtV2Xlarge,
    ConvNeXtV2Xtiny,
    ConvNeXtV2Shallow,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    /// ResNet-50 in the form of Keras applications.
    ResNet50Keras,
    /// ResNet-101 in the form of Keras applications.
    ResNet101Keras,
    SwinT,
    SwinS,
    SwinB,
    MobileNetV3Small,
    MobileNetV3Large,
}

impl EncoderName {
    /// All of them, with their names in configurations.
    pub const ALL: [(Self, &'static str); 33] = [
        (Self::ConvNeXtAtto, "convnext_atto"),
        (Self::ConvNeXtFemto, "convnext_femto"),
        (Self::ConvNeXtPico, "convnext_pico"),
        (Self::ConvNeXtNano, "convnext_nano"),
        (Self::ConvNeXtTiny, "convnext_tiny"),
        (Self::ConvNeXtSmall, "convnext_small"),
        (Self::ConvNeXtBase, "convnext_base"),
        (Self::ConvNeXtLarge, "convnext_large"),
        (Self::ConvNeXtXlarge, "convnext_xlarge"),
        (Self::ConvNeXtXtiny, "convnext_xtiny"),
        (Self::ConvNeXtShallow, "convnext_shallow"),
        (Self::ConvNeXtV2Atto, "convnextv2_atto"),
        (Self::ConvNeXtV2Femto, "convnextv2_femto"),
        (Self::ConvNeXtV2Pico, "convnextv2_pico"),
        (Self::ConvNeXtV2Nano, "convnextv2_nano"),
        (Self::ConvNeXtV2Tiny, "convnextv2_tiny"),
        (Self::ConvNeXtV2Small, "convnextv2_small"),
        (Self::ConvNeXtV2Base, "convnextv2_base"),
        (Self::ConvNeXtV2Large, "convnextv2_large"),
        (Self::ConvNeXtV2Xlarge, "convnextv2_xlarge"),
        (Self::ConvNeXtV2Xtiny, "convnextv2_xtiny"),
        (Self::ConvNeXtV2Shallow, "convnextv2_shallow"),
        (Self::ResNet18, "resnet18"),
        (Self::ResNet34, "resnet34"),
        (Self::ResNet50, "resnet50"),
        (Self::ResNet101, "resnet101"),
        (Self::ResNet50Keras, "resnet50_keras"),
        (Self::ResNet101Keras, "resnet101_keras"),
        (Self::SwinT, "swin_t"),
        (Self::SwinS, "swin_s"),
        (Self::SwinB, "swin_b"),
        (Self::MobileNetV3Small, "mobilenet_v3_small"),
        (Self::MobileNetV3Large, "mobilenet_v3_large"),
    ];

    /// The whole encoder, as published for classification (its last map at stride 32).
    pub fn config(self, input_channels: usize) -> EncoderConfig {
        let resnet = |config: fn(usize) -> ResNetConfig, form| {
            EncoderConfig::ResNet(config(input_channels).with_form(form))
        };
        let convnext = |config: fn(usize) -> ConvNeXtConfig, version| {
            EncoderConfig::ConvNeXt(config(input_channels).with_version(version))
        };
        let swin = |config: fn(usize) -> SwinConfig| EncoderConfig::Swin(config(input_channels));
        let mobilenet =
            |size| EncoderConfig::MobileNetV3(MobileNetV3Config::new(input_channels, size));
        use ConvNeXtVersion::{V1, V2};
        match self {
            Self::ConvNeXtAtto => convnext(ConvNeXtConfig::atto, V1),
            Self::ConvNeXtFemto => convnext(ConvNeXtConfig::femto, V1),
            Self::ConvNeXtPico => convnext(ConvNeXtConfig::pico, V1),
            Self::ConvNeXtNano => convnext(ConvNeXtConfig::nano, V1),
            Self::ConvNeXtTiny => convnext(ConvNeXtConfig::tiny, V1),
            Self::ConvNeXtSmall => convnext(ConvNeXtConfig::small, V1),
            Self::ConvNeXtBase => convnext(ConvNeXtConfig::base, V1),
            Self::ConvNeXtLarge => convnext(ConvNeXtConfig::large, V1),
            Self::ConvNeXtXlarge => convnext(ConvNeXtConfig::xlarge, V1),
            Self::ConvNeXtXtiny => convnext(ConvNeXtConfig::xtiny, V1),
            Self::ConvNeXtShallow => convnext(ConvNeXtConfig::shallow, V1),
            Self::ConvNeXtV2Atto => convnext(ConvNeXtConfig::atto, V2),
            Self::ConvNeXtV2Femto => convnext(ConvNeXtConfig::femto, V2),
            Self::ConvNeXtV2Pico => convnext(ConvNeXtConfig::pico, V2),
            Self::ConvNeXtV2Nano => convnext(ConvNeXtConfig::nano, V2),
            Self::ConvNeXtV2Tiny => convnext(ConvNeXtConfig::tiny, V2),
            Self::ConvNeXtV2Small => convnext(ConvNeXtConfig::small, V2),
            Self::ConvNeXtV2Base => convnext(ConvNeXtConfig::base, V2),
            Self::ConvNeXtV2Large => convnext(ConvNeXtConfig::large, V2),
            Self::ConvNeXtV2Xlarge => convnext(ConvNeXtConfig::xlarge, V2),
            Self::ConvNeXtV2Xtiny => convnext(ConvNeXtConfig::xtiny, V2),
            Self::ConvNeXtV2Shallow => convnext(ConvNeXtConfig::shallow, V2),
            Self::ResNet18 => resnet(ResNetConfig::resnet18, ResNetForm::Torchvision),
            Self::ResNet34 => resnet(ResNetConfig::resnet34, ResNetForm::Torchvision),
            Self::ResNet50 => resnet(ResNetConfig::resnet50, ResNetForm::Torchvision),
            Self::ResNet101 => resnet(ResNetConfig::resnet101, ResNetForm::Torchvision),
            Self::ResNet50Keras => resnet(ResNetConfig::resnet50, ResNetForm::Keras),
            Self::ResNet101Keras => resnet(ResNetConfig::resnet101, ResNetForm::Keras),
            Self::SwinT => swin(SwinConfig::tiny),
            Self::SwinS => swin(SwinConfig::small),
            Self::SwinB => swin(SwinConfig::base),
            Self::MobileNetV3Small => mobilenet(MobileNetV3Size::Small),
            Self::MobileNetV3Large => mobilenet(MobileNetV3Size::Large),
        }
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
