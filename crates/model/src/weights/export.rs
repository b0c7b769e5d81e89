//! From a network into a file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use burn::module::Module;
use safetensors::{Dtype, View};

use super::WeightsError;
use super::names::{Family, Modules, encoder_path};
use super::slots::slots;
use crate::decoders::DecoderName;
use crate::encoders::EncoderConfig;
use crate::encoders::convnext::ConvNeXtConfig;
use crate::encoders::resnet::ResNetBlock;
use crate::models::segmenter::{Head, SegmenterConfig};

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
        let (imports, model) = match self {
            Self::Timm => ("import timm", timm_model(config)),
            Self::Torchvision => ("import torch, torchvision", torchvision_model(config)),
            Self::Smp => (
                "import segmentation_models_pytorch as smp",
                smp_model(config),
            ),
        };
        let path = path.display().to_string();
        format!(
            "{imports}\nfrom safetensors.torch import load_file\n{model}\n\
             model.load_state_dict(load_file({path:?}))"
        )
    }
}

/// timm's name of the encoder, and its sizes where it has no name there.
fn timm_name(config: &SegmenterConfig) -> (String, String) {
    let name = config.encoder.to_string();
    match config.encoder.config(config.input_channels) {
        EncoderConfig::ConvNeXt(ConvNeXtConfig { depths, dims, .. })
            if name.ends_with("_xtiny") || name == "convnextv2_xlarge" =>
        {
            let tiny = format!("{}_tiny", name.split('_').next().unwrap_or_default());
            (tiny, format!(", depths={depths:?}, dims={dims:?}"))
        }
        EncoderConfig::Swin(_) => {
            let sizes = ["tiny", "small", "base"];
            let size = sizes.iter().find(|size| name.ends_with(&size[..1]));
            let name = format!("swin_{}_patch4_window7_224", size.unwrap_or(&"tiny"));
            (name, ", strict_img_size=False".into())
        }
        _ => (name, String::new()),
    }
}

/// timm's encoder.
fn timm_model(config: &SegmenterConfig) -> String {
    let encoder = config.encoder_config();
    let (name, mut arguments) = timm_name(config);
    let indices: Vec<usize> = (0..encoder.channels().len()).collect();
    if let (Some(stride), false) = (encoder.strides().last(), name.starts_with("swin")) {
        arguments = format!(", output_stride={stride}{arguments}");
    }
    format!(
        "model = timm.create_model(\"{name}\", features_only=True, in_chans={}, out_indices={indices:?}{arguments})",
        config.input_channels
    )
}

/// torchvision's model without its classifier, with the input's channels.
fn torchvision_model(config: &SegmenterConfig) -> String {
    let (encoder, name) = (config.encoder_config(), config.encoder);
    let (channels, width) = (config.input_channels, encoder.channels()[0]);
    let stride = encoder.strides().last().copied().unwrap_or(32);
    let identity = |module: &str| format!("model.{module} = torch.nn.Identity()");
    let stem = |module: &str, geometry: &str| {
        format!("model.{module} = torch.nn.Conv2d({channels}, {width}, {geometry})")
    };
    let mut arguments = String::new();
    let mut lines = Vec::new();
    match &encoder {
        EncoderConfig::ConvNeXt(config) => {
            lines.push(stem("features[0][0]", "4, 4"));
            lines.push(format!("del model.features[{}:]", 2 * config.depths.len()));
            lines.push(identity("classifier"));
        }
        EncoderConfig::Swin(config) => {
            lines.push(stem("features[0][0]", "4, 4"));
            lines.push(format!("del model.features[{}:]", 2 * config.depths.len()));
            lines.extend(["norm", "head"].map(identity));
        }
        EncoderConfig::MobileNetV3(config) => {
            lines.push(stem("features[0][0]", "3, 2, 1, bias=False"));
            if config.stages < 4 {
                lines.push(format!("del model.features[{}:]", 1 + config.blocks()));
            }
            lines.push(identity("classifier"));
        }
        EncoderConfig::ResNet(config) => {
            if config.block == ResNetBlock::Bottleneck {
                let dilate = [8, 16].map(|s| if s >= stride { "True" } else { "False" });
                arguments = format!(
                    "replace_stride_with_dilation=[False, {}, {}]",
                    dilate[0], dilate[1]
                );
            }
            lines.push(stem("conv1", "7, 2, 3, bias=False"));
            lines.extend((config.depths.len() + 1..=4).map(|i| identity(&format!("layer{i}"))));
            lines.push(identity("fc"));
        }
    }
    if stride < 32 && arguments.is_empty() {
        lines.push(format!(
            "# torchvision cannot dilate it: it was trained at an output stride of {stride}"
        ));
    }
    format!(
        "model = torchvision.models.{name}({arguments})\n{}",
        lines.join("\n")
    )
}

/// The network of segmentation_models_pytorch.
fn smp_model(config: &SegmenterConfig) -> String {
    let encoder = config.encoder_config();
    let stride = encoder.strides().last().copied().unwrap_or(32);
    let width = |published: usize| config.decoder_channels.unwrap_or(published);
    let (class, arguments) = match config.decoder {
        DecoderName::DeepLabV3 => (
            "DeepLabV3",
            format!(
                "encoder_output_stride={stride}, decoder_channels={}",
                width(256)
            ),
        ),
        DecoderName::PspNet => ("PSPNet", format!("psp_out_channels={}", width(512))),
        DecoderName::UNet => {
            let channels: Vec<usize> = (0..5).map(|i| (width(256) >> i).max(1)).collect();
            ("Unet", format!("decoder_channels={channels:?}"))
        }
        _ => (
            "DeepLabV3Plus",
            format!(
                "encoder_output_stride={stride}, decoder_channels={}",
                width(256)
            ),
        ),
    };
    let resnet = matches!(encoder, EncoderConfig::ResNet(_));
    let (name, sizes) = timm_name(config);
    let mut model = format!(
        "model = smp.{class}(\"{}{name}\", encoder_weights=None, in_channels={}, classes={}, {arguments}{sizes})",
        if resnet { "" } else { "tu-" },
        config.input_channels,
        config.head.channels(),
    );
    if resnet && config.decoder == DecoderName::PspNet {
        // It keeps stages that it does not run.
        model += "\nmodel.encoder.layer3 = model.encoder.layer4 = torch.nn.Identity()";
        model.insert_str(0, "import torch\n");
    }
    if config.head == Head::Depth {
        model += "\n# the depth in metres is the softplus of what it gives";
    }
    if config.input_upsampling > 1 {
        model += &format!(
            "\n# enlarge the input {} times first",
            config.input_upsampling
        );
    }
    model
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
    let slots = slots(model, true);
    let modules = Modules::of(&slots);
    for slot in slots {
        let segments = slot.segments();
        if format != Format::Smp && encoder_path(&segments).is_none() {
            continue;
        }
        let name = family.name(&segments, &slot.shape, &modules);
        let name = name.ok_or_else(|| WeightsError::NoCounterpart {
            library: family,
            parameter: slot.name(),
        })?;
        if let Some(norm) = name.text.strip_suffix(".running_var") {
            tensors.push((format!("{norm}.num_batches_tracked"), Buffer::counter()));
        }
        if let (Format::Torchvision, Some(attention)) = (
            format,
            name.text.strip_suffix("relative_position_bias_table"),
        ) {
            let index = format!("{attention}relative_position_index");
            tensors.push((index, Buffer::relative_positions(slot.shape[0])));
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

    /// torchvision's index from each two cells of a window to the row of the table of biases, which has (2 window − 1)² rows.
    fn relative_positions(rows: usize) -> Self {
        let window = rows.isqrt().div_ceil(2);
        let axis = |query: usize, key: usize| query + window - 1 - key;
        let area = window * window;
        let mut bytes = Vec::with_capacity(8 * area * area);
        for query in 0..area {
            for key in 0..area {
                let row = axis(query / window, key / window);
                let column = axis(query % window, key % window);
                bytes.extend(((row * (2 * window - 1) + column) as i64).to_le_bytes());
            }
        }
        Self {
            dtype: Dtype::I64,
            shape: vec![area * area],
            bytes,
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
