//! Names of our parameters in public libraries: one table a family.
//!
//! A table takes the path of a parameter, such as `stages.2.blocks.0.expand.weight`, and gives its name in the library, or
//! nothing where the library has no such layer.

use std::fmt;

/// A library that gives names to weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// torchvision's classification models.
    Torchvision,
    /// timm's models.
    Timm,
    /// timm's models made with `features_only=True`: the first two segments are joined by `_`.
    TimmFeatures,
    /// The ConvNeXt and ConvNeXt V2 that their authors published.
    OfficialConvNeXt,
    /// segmentation_models_pytorch's whole networks.
    Smp,
}

impl Family {
    /// All of them. Where two give the same names (ResNets), the first is said.
    pub const ALL: [Self; 5] = [
        Self::Torchvision,
        Self::Timm,
        Self::TimmFeatures,
        Self::OfficialConvNeXt,
        Self::Smp,
    ];

    /// The name of the parameter with this path, whose shape in PyTorch's layout is given.
    pub(super) fn name(self, path: &[&str], shape: &[usize]) -> Option<Name> {
        let in_encoder = encoder_path(path);
        match (self, in_encoder) {
            (Self::Torchvision, Some(path)) => torchvision(path),
            (Self::Timm, Some(path)) => timm(path, shape),
            (Self::TimmFeatures, Some(path)) => timm(path, shape).map(Name::flattened),
            (Self::OfficialConvNeXt, Some(path)) => official_convnext(path),
            (Self::Smp, Some(path)) => match path {
                ["ResNet", ..] => torchvision(path).map(|name| name.under("encoder")),
                _ => Some(timm(path, shape)?.flattened().under("encoder.model")),
            },
            (Self::Smp, None) => smp(path),
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
            Self::TimmFeatures => "timm (features only)",
            Self::OfficialConvNeXt => "the official ConvNeXt",
            Self::Smp => "segmentation_models_pytorch",
        })
    }
}

/// A name and how the tensor's shape differs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub text: String,
    /// Axes of length 1 behind ours: γ as `[C, 1, 1]`, a linear layer as a 1×1 convolution.
    pub trailing_ones: usize,
}

impl Name {
    /// timm flattens the list of stages where it hands out feature maps.
    fn flattened(mut self) -> Self {
        let lists = ["stem.", "stages.", "layers."];
        if lists.iter().any(|list| self.text.starts_with(list)) {
            self.text = self.text.replacen('.', "_", 1);
        }
        self
    }

    fn under(mut self, module: &str) -> Self {
        self.text = format!("{module}.{}", self.text);
        self
    }

    fn with_ones(mut self, trailing_ones: usize) -> Self {
        self.trailing_ones = trailing_ones;
        self
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self {
            text,
            trailing_ones: 0,
        }
    }
}

/// The path inside the encoder, which begins with its type; none outside of it.
pub(super) fn encoder_path<'a>(path: &'a [&'a str]) -> Option<&'a [&'a str]> {
    match path {
        ["encoder", rest @ ..] => Some(rest),
        ["ConvNeXt" | "ResNet", ..] => Some(path),
        _ => None,
    }
}

/// An index with a factor and an offset.
fn at(index: &str, factor: usize, offset: isize) -> Option<usize> {
    (index.parse::<usize>().ok()? * factor).checked_add_signed(offset)
}

fn torchvision(path: &[&str]) -> Option<Name> {
    Some(match path {
        ["ConvNeXt", "stem", leaf] => format!("features.0.0.{leaf}").into(),
        ["ConvNeXt", "stem_norm", "norm", leaf] => format!("features.0.1.{leaf}").into(),
        ["ConvNeXt", "stages", i, "downsample", rest @ ..] => {
            let i = at(i, 2, 0)?;
            match rest {
                ["norm", "norm", leaf] => format!("features.{i}.0.{leaf}").into(),
                ["conv", leaf] => format!("features.{i}.1.{leaf}").into(),
                _ => return None,
            }
        }
        ["ConvNeXt", "stages", i, "blocks", j, rest @ ..] => {
            let block = format!("features.{}.{j}", at(i, 2, 1)?);
            match rest {
                ["depthwise", "conv", "weight"] => format!("{block}.block.0.weight").into(),
                ["depthwise", "bias"] => format!("{block}.block.0.bias").into(),
                ["norm", leaf] => format!("{block}.block.2.{leaf}").into(),
                ["expand", leaf] => format!("{block}.block.3.{leaf}").into(),
                ["reduce", leaf] => format!("{block}.block.5.{leaf}").into(),
                ["scale", "gamma"] => Name::from(format!("{block}.layer_scale")).with_ones(2),
                _ => return None,
            }
        }
        ["ResNet", rest @ ..] => resnet(rest)?.into(),
        _ => return None,
    })
}

/// torchvision's and timm's.
fn resnet(path: &[&str]) -> Option<String> {
    Some(match path {
        // The Keras form alone has biases here.
        [.., "conv", "bias"] => return None,
        ["stem", "conv", leaf] => format!("conv1.{leaf}"),
        ["stem", "norm", leaf] => format!("bn1.{leaf}"),
        ["stages", i, "blocks", j, rest @ ..] => {
            let block = format!("layer{}.{j}", at(i, 1, 1)?);
            match rest {
                ["convs", k, "conv", leaf] => format!("{block}.conv{}.{leaf}", at(k, 1, 1)?),
                ["convs", k, "norm", leaf] => format!("{block}.bn{}.{leaf}", at(k, 1, 1)?),
                ["shortcut", "conv", leaf] => format!("{block}.downsample.0.{leaf}"),
                ["shortcut", "norm", leaf] => format!("{block}.downsample.1.{leaf}"),
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn timm(path: &[&str], shape: &[usize]) -> Option<Name> {
    Some(match path {
        ["ConvNeXt", "stem", leaf] => format!("stem.0.{leaf}").into(),
        ["ConvNeXt", "stem_norm", "norm", leaf] => format!("stem.1.{leaf}").into(),
        ["ConvNeXt", "stages", i, "downsample", "norm", "norm", leaf] => {
            format!("stages.{i}.downsample.0.{leaf}").into()
        }
        ["ConvNeXt", "stages", i, "downsample", "conv", leaf] => {
            format!("stages.{i}.downsample.1.{leaf}").into()
        }
        ["ConvNeXt", "stages", i, "blocks", j, rest @ ..] => {
            let block = format!("stages.{i}.blocks.{j}");
            match rest {
                ["depthwise", "conv", "weight"] => format!("{block}.conv_dw.weight").into(),
                ["depthwise", "bias"] => format!("{block}.conv_dw.bias").into(),
                ["norm", leaf] => format!("{block}.norm.{leaf}").into(),
                ["expand", leaf] => {
                    let ones = timm_mlp_ones(shape, i)?;
                    Name::from(format!("{block}.mlp.fc1.{leaf}")).with_ones(ones)
                }
                ["reduce", leaf] => {
                    let ones = timm_mlp_ones(shape, i)?;
                    Name::from(format!("{block}.mlp.fc2.{leaf}")).with_ones(ones)
                }
                ["grn", "gamma"] => format!("{block}.mlp.grn.weight").into(),
                ["grn", "beta"] => format!("{block}.mlp.grn.bias").into(),
                ["scale", "gamma"] => format!("{block}.gamma").into(),
                _ => return None,
            }
        }
        ["ResNet", rest @ ..] => resnet(rest)?.into(),
        _ => return None,
    })
}

/// timm's ConvNeXts from atto to nano write the linear layers of stage `i` as 1×1 convolutions, the paper's sizes do not.
fn timm_mlp_ones(shape: &[usize], i: &str) -> Option<usize> {
    let first_channels = shape.iter().min()? >> at(i, 1, 0)?;
    let convolution = shape.len() == 2 && matches!(first_channels, 40 | 48 | 64 | 80);
    Some(if convolution { 2 } else { 0 })
}

fn official_convnext(path: &[&str]) -> Option<Name> {
    Some(match path {
        ["ConvNeXt", "stem", leaf] => format!("downsample_layers.0.0.{leaf}").into(),
        ["ConvNeXt", "stem_norm", "norm", leaf] => format!("downsample_layers.0.1.{leaf}").into(),
        ["ConvNeXt", "stages", i, "downsample", "norm", "norm", leaf] => {
            format!("downsample_layers.{i}.0.{leaf}").into()
        }
        ["ConvNeXt", "stages", i, "downsample", "conv", leaf] => {
            format!("downsample_layers.{i}.1.{leaf}").into()
        }
        ["ConvNeXt", "stages", i, "blocks", j, rest @ ..] => {
            let block = format!("stages.{i}.{j}");
            match rest {
                ["depthwise", "conv", "weight"] => format!("{block}.dwconv.weight").into(),
                ["depthwise", "bias"] => format!("{block}.dwconv.bias").into(),
                ["norm", leaf] => format!("{block}.norm.{leaf}").into(),
                ["expand", leaf] => format!("{block}.pwconv1.{leaf}").into(),
                ["reduce", leaf] => format!("{block}.pwconv2.{leaf}").into(),
                ["grn", leaf] => format!("{block}.grn.{leaf}").into(),
                ["scale", "gamma"] => format!("{block}.gamma").into(),
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// Decoders and heads of segmentation_models_pytorch.
fn smp(_path: &[&str]) -> Option<Name> {
    None
}
