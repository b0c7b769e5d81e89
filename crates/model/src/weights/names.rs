//! Names of our parameters in public libraries: one table a family.
//!
//! A table takes the path of a parameter, such as `stages.2.blocks.0.expand.weight`, and gives its name in the library, or
//! nothing where the library has no such layer.

use std::collections::HashSet;
use std::fmt;

use super::slots::Slot;

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
    /// torchvision's segmentation models.
    TorchvisionSegmentation,
    /// segmentation_models_pytorch's whole networks.
    Smp,
}

impl Family {
    /// All of them. Where two give the same names (ResNets), the first is said.
    pub const ALL: [Self; 6] = [
        Self::Torchvision,
        Self::Timm,
        Self::TimmFeatures,
        Self::OfficialConvNeXt,
        Self::TorchvisionSegmentation,
        Self::Smp,
    ];

    /// The name of the parameter with this path, whose shape in PyTorch's layout is given, in a network of these modules.
    pub(super) fn name(self, path: &[&str], shape: &[usize], modules: &Modules) -> Option<Name> {
        match (self, encoder_path(path)) {
            (Self::Torchvision, Some(path)) => torchvision(path, modules),
            (Self::Timm, Some(path)) => timm(path, shape),
            (Self::TimmFeatures, Some(path)) => timm(path, shape).map(Name::flattened),
            (Self::OfficialConvNeXt, Some(path)) => official_convnext(path),
            (Self::TorchvisionSegmentation, Some(path @ ["ResNet", ..])) => {
                Some(torchvision(path, modules)?.under("backbone"))
            }
            (Self::TorchvisionSegmentation, None) => Some(torchvision_decoder(path)?.into()),
            (Self::Smp, Some(path @ ["ResNet", ..])) => {
                Some(torchvision(path, modules)?.under("encoder"))
            }
            (Self::Smp, Some(path)) => Some(timm(path, shape)?.flattened().under("encoder.model")),
            (Self::Smp, None) => Some(smp(path)?.into()),
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
            Self::TorchvisionSegmentation => "torchvision's segmentation models",
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
        ["encoder", rest @ ..] | ["network", "encoder", rest @ ..] => Some(rest),
        ["ConvNeXt" | "ResNet" | "Swin" | "MobileNetV3", ..] => Some(path),
        _ => None,
    }
}

/// The modules of an encoder: some names count the layers before them.
pub(super) struct Modules(HashSet<String>);

impl Modules {
    /// Those on the way to these parameters.
    pub fn of(slots: &[Slot]) -> Self {
        let mut modules = HashSet::new();
        for slot in slots {
            let path = slot.segments();
            let path = encoder_path(&path).unwrap_or_default();
            modules.extend((1..path.len()).map(|n| path[..n].join(".")));
        }
        Self(modules)
    }

    fn has(&self, path: &str) -> bool {
        self.0.contains(path)
    }
}

/// An index with a factor and an offset.
fn at(index: &str, factor: usize, offset: isize) -> Option<usize> {
    (index.parse::<usize>().ok()? * factor).checked_add_signed(offset)
}

fn torchvision(path: &[&str], modules: &Modules) -> Option<Name> {
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
        ["Swin", "stem", leaf] => format!("features.0.0.{leaf}").into(),
        ["Swin", "stem_norm", leaf] => format!("features.0.2.{leaf}").into(),
        ["Swin", "stages", i, "merging", rest @ ..] => {
            format!("features.{}.{}", at(i, 2, 0)?, swin_merging(rest)?).into()
        }
        ["Swin", "stages", i, "blocks", j, rest @ ..] => {
            let block = format!("features.{}.{j}", at(i, 2, 1)?);
            match rest {
                ["expand", leaf] => format!("{block}.mlp.0.{leaf}").into(),
                ["reduce", leaf] => format!("{block}.mlp.3.{leaf}").into(),
                _ => format!("{block}.{}", swin_block(rest)?).into(),
            }
        }
        ["MobileNetV3", "stem", rest @ ..] => format!("features.0.{}", conv_norm(rest)?).into(),
        ["MobileNetV3", "blocks", i, rest @ ..] => {
            let has = |module| modules.has(&format!("MobileNetV3.blocks.{i}.{module}"));
            let expand = usize::from(has("expand"));
            let project = expand + 1 + usize::from(has("squeeze"));
            let block = format!("features.{}.block", at(i, 1, 1)?);
            match rest {
                ["expand", rest @ ..] => format!("{block}.0.{}", conv_norm(rest)?).into(),
                ["depthwise", rest @ ..] => format!("{block}.{expand}.{}", conv_norm(rest)?).into(),
                ["squeeze", "squeeze", leaf] => format!("{block}.{}.fc1.{leaf}", expand + 1).into(),
                ["squeeze", "expand", leaf] => format!("{block}.{}.fc2.{leaf}", expand + 1).into(),
                ["project", rest @ ..] => format!("{block}.{project}.{}", conv_norm(rest)?).into(),
                _ => return None,
            }
        }
        ["MobileNetV3", "last", rest @ ..] => {
            let mut blocks = 0..;
            let absent = |i: &usize| !modules.has(&format!("MobileNetV3.blocks.{i}"));
            format!("features.{}.{}", blocks.find(absent)? + 1, conv_norm(rest)?).into()
        }
        _ => return None,
    })
}

/// A convolution and the normalisation behind it, in a list of both.
fn conv_norm(path: &[&str]) -> Option<String> {
    match path {
        ["conv", leaf] => Some(format!("0.{leaf}")),
        ["norm", leaf] => Some(format!("1.{leaf}")),
        _ => None,
    }
}

/// torchvision's and timm's.
fn swin_merging(path: &[&str]) -> Option<String> {
    match path {
        ["norm", leaf] => Some(format!("norm.{leaf}")),
        ["reduce", leaf] => Some(format!("reduction.{leaf}")),
        _ => None,
    }
}

/// torchvision's and timm's, but for the linear layers.
fn swin_block(path: &[&str]) -> Option<String> {
    match path {
        ["attention_norm", leaf] => Some(format!("norm1.{leaf}")),
        ["attention", "qkv", leaf] => Some(format!("attn.qkv.{leaf}")),
        ["attention", "project", leaf] => Some(format!("attn.proj.{leaf}")),
        ["attention", "position_bias"] => Some("attn.relative_position_bias_table".into()),
        ["mlp_norm", leaf] => Some(format!("norm2.{leaf}")),
        _ => None,
    }
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
        ["Swin", "stem", leaf] => format!("patch_embed.proj.{leaf}").into(),
        ["Swin", "stem_norm", leaf] => format!("patch_embed.norm.{leaf}").into(),
        ["Swin", "stages", i, "merging", rest @ ..] => {
            format!("layers.{i}.downsample.{}", swin_merging(rest)?).into()
        }
        ["Swin", "stages", i, "blocks", j, rest @ ..] => {
            let block = format!("layers.{i}.blocks.{j}");
            match rest {
                ["expand", leaf] => format!("{block}.mlp.fc1.{leaf}").into(),
                ["reduce", leaf] => format!("{block}.mlp.fc2.{leaf}").into(),
                _ => format!("{block}.{}", swin_block(rest)?).into(),
            }
        }
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

/// Decoders and heads of torchvision's DeepLabV3 and FCN.
fn torchvision_decoder(path: &[&str]) -> Option<String> {
    Some(match path {
        ["decoder", "DeepLabV3", "aspp", rest @ ..] => format!("classifier.0.{}", aspp(rest)?),
        ["decoder", "DeepLabV3", "conv", "conv", leaf] => format!("classifier.1.{leaf}"),
        ["decoder", "DeepLabV3", "conv", "norm", leaf] => format!("classifier.2.{leaf}"),
        ["decoder", "Fcn", "conv", rest @ ..] => format!("classifier.{}", conv_norm(rest)?),
        ["head", leaf] => format!("classifier.4.{leaf}"),
        _ => return None,
    })
}

/// Decoders and heads of segmentation_models_pytorch.
fn smp(path: &[&str]) -> Option<String> {
    Some(match path {
        ["decoder", "DeepLabV3Plus", rest @ ..] => match rest {
            ["aspp", rest @ ..] => format!("decoder.aspp.0.{}", aspp(rest)?),
            ["after_aspp", "Separable", rest @ ..] => match rest {
                ["pointwise", "norm", leaf] => format!("decoder.aspp.2.{leaf}"),
                _ => format!("decoder.aspp.1.{}", separable(rest)?),
            },
            ["low", rest @ ..] => format!("decoder.block1.{}", conv_norm(rest)?),
            ["fuse", "0", "Separable", rest @ ..] => match rest {
                ["pointwise", "norm", leaf] => format!("decoder.block2.1.{leaf}"),
                _ => format!("decoder.block2.0.{}", separable(rest)?),
            },
            _ => return None,
        },
        ["decoder", "DeepLabV3", "aspp", rest @ ..] => format!("decoder.aspp.{}", aspp(rest)?),
        ["decoder", "DeepLabV3", "conv", "conv", leaf] => format!("decoder.conv.{leaf}"),
        ["decoder", "DeepLabV3", "conv", "norm", leaf] => format!("decoder.bn.{leaf}"),
        ["decoder", "PspNet", "branches", i, rest @ ..] => {
            format!("decoder.psp.blocks.{i}.pool.1.{}", conv_norm(rest)?)
        }
        ["decoder", "PspNet", "project", rest @ ..] => format!("decoder.conv.{}", conv_norm(rest)?),
        ["decoder", "UNet", "steps", i, "first", rest @ ..] => {
            format!("decoder.blocks.{i}.conv1.{}", conv_norm(rest)?)
        }
        ["decoder", "UNet", "steps", i, "second", rest @ ..] => {
            format!("decoder.blocks.{i}.conv2.{}", conv_norm(rest)?)
        }
        ["head", leaf] => format!("segmentation_head.0.{leaf}"),
        _ => return None,
    })
}

/// The pyramid of torchvision and segmentation_models_pytorch.
fn aspp(path: &[&str]) -> Option<String> {
    Some(match path {
        // The forms of other publications have a bias here.
        [.., "conv", "bias"] => return None,
        ["pointwise", rest @ ..] => format!("convs.0.{}", conv_norm(rest)?),
        ["dilated", k, form, rest @ ..] => {
            let branch = format!("convs.{}", at(k, 1, 1)?);
            match (*form, rest) {
                ("Full", _) => format!("{branch}.{}", conv_norm(rest)?),
                (_, ["pointwise", "norm", leaf]) => format!("{branch}.1.{leaf}"),
                _ => format!("{branch}.0.{}", separable(rest)?),
            }
        }
        ["pool", "conv", leaf] => format!("convs.4.1.{leaf}"),
        ["pool", "norm", leaf] => format!("convs.4.2.{leaf}"),
        ["project", rest @ ..] => format!("project.{}", conv_norm(rest)?),
        _ => return None,
    })
}

/// The two convolutions of a separable one without a normalisation in between.
fn separable(path: &[&str]) -> Option<String> {
    match path {
        ["depthwise", "conv", leaf] => Some(format!("0.{leaf}")),
        ["pointwise", "conv", leaf] => Some(format!("1.{leaf}")),
        _ => None,
    }
}
