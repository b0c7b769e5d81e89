//! From a network into a file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use burn::module::Module;
use safetensors::{Dtype, View};

use super::WeightsError;
use super::names::{Family, encoder_path};
use super::slots::slots;
use crate::encoders::EncoderConfig;
use crate::encoders::resnet::ResNetBlock;
use crate::models::segmenter::SegmenterConfig;

/// Under whose names a network is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The encoder, for `timm.create_model(…, features_only=True)`.
    Timm,
    /// The encoder, for a model of torchvision without its classifier.
    Torchvision,
    /// The whole network, for segmentation_models_pytorch.
    Smp,
}

impl Format {
    fn family(self) -> Family {
        match self {
            Self::Timm => Family::TimmFeatures,
            Self::Torchvision => Family::Torchvision,
            Self::Smp => Family::Smp,
        }
    }

    /// Python that loads the file `path`, exported from a network of this configuration.
    pub fn loading_code(self, config: &SegmenterConfig, path: &Path) -> String {
        let encoder = config.encoder_config();
        let (name, channels) = (config.encoder, config.input_channels);
        let maps = encoder.channels().len();
        let stride = encoder.strides()[maps - 1];
        let (imports, model) = match self {
            Self::Timm => {
                let indices: Vec<usize> = (0..maps).collect();
                let model = format!(
                    "model = timm.create_model(\"{name}\", features_only=True, in_chans={channels}, \
                     out_indices={indices:?}, output_stride={stride})"
                );
                ("import timm", model)
            }
            Self::Torchvision => {
                let width = encoder.channels()[0];
                let mut model = vec![format!("model = torchvision.models.{name}()")];
                let mut dilated = stride == 32;
                match encoder {
                    EncoderConfig::ConvNeXt(config) => {
                        model.push(format!(
                            "model.features[0][0] = torch.nn.Conv2d({channels}, {width}, 4, 4)"
                        ));
                        model.push(format!("del model.features[{}:]", 2 * config.depths.len()));
                        model.push("model.classifier = torch.nn.Identity()".into());
                    }
                    EncoderConfig::ResNet(config) => {
                        if config.block == ResNetBlock::Bottleneck {
                            let dilate =
                                [16, 8].map(|s| if s >= stride { "True" } else { "False" });
                            model[0] = format!(
                                "model = torchvision.models.{name}(replace_stride_with_dilation=[False, {}, {}])",
                                dilate[1], dilate[0]
                            );
                            dilated = true;
                        }
                        model.push(format!(
                            "model.conv1 = torch.nn.Conv2d({channels}, {width}, 7, 2, 3, bias=False)"
                        ));
                        let unused = config.depths.len() + 1..=4;
                        let unused = unused.map(|i| format!("layer{i}")).chain(["fc".into()]);
                        model.extend(unused.map(|m| format!("model.{m} = torch.nn.Identity()")));
                    }
                }
                if !dilated && config.decoder.stages() == 4 {
                    model.push(format!(
                        "# torchvision cannot dilate it: it was trained at output stride {stride}"
                    ));
                }
                ("import torch, torchvision", model.join("\n"))
            }
            Self::Smp => ("import segmentation_models_pytorch as smp", String::new()),
        };
        let path = path.display().to_string();
        format!(
            "{imports}\nfrom safetensors.torch import load_file\n{model}\n\
             model.load_state_dict(load_file({path:?}))"
        )
    }
}

/// Writes the weights of `model` to `path` as safetensors, whole or not at all, and returns the number of tensors.
///
/// The file holds what PyTorch's `load_state_dict(strict=True)` wants, its counters of batches among it: the encoder alone
/// for [`Format::Timm`] and [`Format::Torchvision`], everything for [`Format::Smp`].
///
/// # Errors
/// [`WeightsError::NoCounterpart`] where the library has no such network, [`WeightsError::Write`].
pub fn export<M: Module>(model: &M, format: Format, path: &Path) -> Result<usize, WeightsError> {
    let family = format.family();
    let mut tensors = Vec::new();
    for slot in slots(model, true) {
        let segments = slot.segments();
        if format != Format::Smp && encoder_path(&segments).is_none() {
            continue;
        }
        let name = family.name(&segments, &slot.shape);
        let name = name.ok_or_else(|| WeightsError::NoCounterpart {
            library: family,
            parameter: slot.name(),
        })?;
        if let Some(norm) = name.text.strip_suffix(".running_var") {
            tensors.push((format!("{norm}.num_batches_tracked"), Buffer::counter()));
        }
        let mut shape = slot.shape;
        shape.extend(std::iter::repeat_n(1, name.trailing_ones));
        tensors.push((name.text, Buffer::floats(&slot.values, shape)));
    }
    let count = tensors.len();
    let error = |reason: String| WeightsError::Write {
        path: path.to_owned(),
        reason,
    };
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes =
        safetensors::serialize(tensors, Some(metadata)).map_err(|e| error(e.to_string()))?;
    write_atomic(path, &bytes).map_err(|e| error(e.to_string()))?;
    Ok(count)
}

/// Under a temporary name in the same folder first.
fn write_atomic(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// A tensor to be written.
struct Buffer {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Buffer {
    fn floats(values: &[f32], shape: Vec<usize>) -> Self {
        Self {
            dtype: Dtype::F32,
            shape,
            bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    /// A batch normalisation's count of batches, which PyTorch reads only where its momentum is none.
    fn counter() -> Self {
        Self {
            dtype: Dtype::I64,
            shape: Vec::new(),
            bytes: vec![0; 8],
        }
    }
}

impl View for Buffer {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
