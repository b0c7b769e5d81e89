//! The decoders by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::{ModelError, unknown};

/// The decoders by name. One network of the literature is several in code: each published form has a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DecoderName {
    /// DeepLabV3+ as its paper describes it.
    DeepLabV3Plus,
    /// DeepLabV3+ of the keras.io example, on which the published rainfall model stands.
    DeepLabV3PlusKeras,
    /// DeepLabV3+ of segmentation_models_pytorch.
    DeepLabV3PlusSmp,
    /// DeepLabV3 of segmentation_models_pytorch and torchvision.
    DeepLabV3,
    /// PSPNet of segmentation_models_pytorch.
    PspNet,
    /// U-Net of segmentation_models_pytorch.
    UNet,
    /// FCN of torchvision.
    Fcn,
    /// Inverse ConvNeXt.
    ConvNeXtInverse,
}

impl DecoderName {
    /// All of them, with their names in configurations.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::DeepLabV3Plus, "deeplabv3plus"),
        (Self::DeepLabV3PlusKeras, "deeplabv3plus_keras"),
        (Self::DeepLabV3PlusSmp, "deeplabv3plus_smp"),
        (Self::DeepLabV3, "deeplabv3"),
        (Self::PspNet, "pspnet"),
        (Self::UNet, "unet"),
        (Self::Fcn, "fcn"),
        (Self::ConvNeXtInverse, "convnext_inverse"),
    ];

    /// Strides of the encoder's last map that the decoder can stand on, the published one first.
    pub fn output_strides(self) -> &'static [usize] {
        match self {
            Self::DeepLabV3Plus | Self::DeepLabV3PlusKeras | Self::DeepLabV3PlusSmp => &[16, 8],
            Self::DeepLabV3 => &[8, 16],
            Self::PspNet => &[8],
            Self::UNet | Self::ConvNeXtInverse => &[32],
            Self::Fcn => &[8, 16, 32],
        }
    }

    /// Number of the encoder's stages that it uses.
    pub(crate) fn stages(self) -> usize {
        match self {
            Self::PspNet => 2,
            Self::DeepLabV3PlusKeras => 3,
            _ => 4,
        }
    }

    /// Whether its map is of the input's size, so that there is nothing to refine.
    pub fn is_full_resolution(self) -> bool {
        self == Self::UNet
    }

    /// Whether it is of segmentation_models_pytorch, which dilates all of a ResNet's stage and enlarges logits with aligned
    /// corners.
    pub(crate) fn is_smp(self) -> bool {
        matches!(
            self,
            Self::DeepLabV3PlusSmp | Self::DeepLabV3 | Self::PspNet | Self::UNet
        )
    }

    /// Side of the kernel that makes logits of the decoder's map.
    pub(crate) fn head_kernel_size(self) -> usize {
        match self {
            Self::PspNet | Self::UNet => 3,
            _ => 1,
        }
    }
}

impl fmt::Display for DecoderName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let name = Self::ALL.iter().find(|(decoder, _)| decoder == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl From<DecoderName> for String {
    fn from(name: DecoderName) -> Self {
        name.to_string()
    }
}

impl FromStr for DecoderName {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(decoder, _)| *decoder).ok_or_else(|| {
            let known = Self::ALL.iter().map(|(_, known)| (*known).to_owned());
            unknown("decoder", name, known)
        })
    }
}

impl TryFrom<String> for DecoderName {
    type Error = ModelError;

    fn try_from(name: String) -> Result<Self, ModelError> {
        name.parse()
    }
}
