//! Against state dicts of torchvision, timm, the official ConvNeXt and segmentation_models_pytorch; the other side is
//! `tests/golden/weights/make.py`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::*;
use crate::encoders::convnext::ConvNeXtConfig;
use crate::encoders::{Encoder, EncoderConfig, EncoderName};
use crate::golden::{input, sequence};
use crate::models::segmenter::SegmenterConfig;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/weights");

#[derive(Deserialize)]
struct Golden {
    /// Name, shape and element type of every tensor.
    state: Vec<(String, Vec<usize>, String)>,
    outputs: Vec<Samples>,
}

#[derive(Deserialize)]
struct Samples {
    shape: Vec<usize>,
    step: usize,
    values: Vec<f32>,
}

fn golden(name: &str) -> Golden {
    let text = std::fs::read_to_string(Path::new(FOLDER).join("state_dicts.json")).unwrap();
    let mut goldens: BTreeMap<String, Golden> = serde_json::from_str(&text).unwrap();
    goldens.remove(name).unwrap()
}

impl Golden {
    /// The state dict with the values of the script, as safetensors.
    fn write(&self, folder: &Path) -> PathBuf {
        let tensors = self
            .state
            .iter()
            .enumerate()
            .map(|(index, (name, shape, dtype))| {
                let count: usize = shape.iter().product();
                match dtype.as_str() {
                    "int64" => (name, Dtype::I64, shape, vec![0; 8 * count]),
                    _ => {
                        let values = values(index as u64, name, shape);
                        let bytes = values.flat_map(|v| v.to_le_bytes()).collect();
                        (name, Dtype::F32, shape, bytes)
                    }
                }
            });
        let tensors: Vec<_> = tensors.collect();
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (
                name,
                TensorView::new(*dtype, shape.to_vec(), bytes).unwrap(),
            )
        });
        let path = folder.join("weights of PyTorch.safetensors");
        safetensors::serialize_to_file(views, None, &path).unwrap();
        path
    }

    /// |Δ| ≤ 1e-4 everywhere.
    fn check(&self, name: &str, outputs: Vec<Tensor<4>>) {
        assert_eq!(outputs.len(), self.outputs.len());
        for (i, (ours, theirs)) in outputs.into_iter().zip(&self.outputs).enumerate() {
            assert_eq!(ours.dims().to_vec(), theirs.shape, "{name}, output {i}");
            let ours: Vec<f32> = ours.into_data().try_to_vec().unwrap();
            let pairs = ours.iter().step_by(theirs.step).zip(&theirs.values);
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            println!("{name}, output {i}: max |Δ| = {worst:e}");
            assert!(worst <= 1e-4, "{name}, output {i}: max |Δ| = {worst:e}");
        }
    }
}

/// The script's rule.
fn values(index: u64, name: &str, shape: &[usize]) -> impl Iterator<Item = f32> {
    let grn = name.contains("grn");
    let fan_in: usize = if grn {
        1
    } else {
        shape.iter().skip(1).product()
    };
    let base = match name {
        _ if grn => 0.0,
        _ if name.ends_with(".weight") || name.ends_with("running_var") => 1.0,
        _ if name.ends_with("gamma") || name.ends_with("layer_scale") => 0.2,
        _ => 0.0,
    };
    sequence(index, shape.iter().product()).map(move |u| match fan_in {
        0 | 1 => (base + 0.1 * u) as f32,
        _ => (u * (1.0 / fan_in as f64).sqrt()) as f32,
    })
}

fn encoder(name: EncoderName, channels: usize) -> Encoder {
    name.config(channels).init(&Device::flex())
}

/// The encoder of that name, those in `state_dicts.json`, and whose names that has.
const ENCODERS: [(EncoderName, &str, Family); 13] = [
    (
        EncoderName::SwinT,
        "torchvision swin_t",
        Family::Torchvision,
    ),
    (EncoderName::SwinT, "timm swin_t", Family::Timm),
    (
        EncoderName::MobileNetV3Small,
        "torchvision mobilenet_v3_small",
        Family::Torchvision,
    ),
    (
        EncoderName::MobileNetV3Large,
        "torchvision mobilenet_v3_large",
        Family::Torchvision,
    ),
    (
        EncoderName::ResNet50,
        "torchvision resnet50",
        Family::Torchvision,
    ),
    (
        EncoderName::ResNet18,
        "torchvision resnet18",
        Family::Torchvision,
    ),
    (
        EncoderName::ConvNeXtTiny,
        "torchvision convnext_tiny",
        Family::Torchvision,
    ),
    (
        EncoderName::ConvNeXtTiny,
        "timm convnext_tiny",
        Family::Timm,
    ),
    (
        EncoderName::ConvNeXtAtto,
        "timm convnext_atto",
        Family::Timm,
    ),
    (
        EncoderName::ConvNeXtAtto,
        "timm features convnext_atto",
        Family::TimmFeatures,
    ),
    (
        EncoderName::ConvNeXtTiny,
        "official convnext_tiny",
        Family::OfficialConvNeXt,
    ),
    (
        EncoderName::ConvNeXtV2Atto,
        "timm convnextv2_atto",
        Family::Timm,
    ),
    (
        EncoderName::ConvNeXtV2Atto,
        "official convnextv2_atto",
        Family::OfficialConvNeXt,
    ),
];

#[test]
fn encoders_give_what_their_originals_give() {
    let folder = tempfile::tempdir().unwrap();
    for (encoder_name, name, family) in ENCODERS {
        let golden = golden(name);
        let file = WeightsFile::open(&golden.write(folder.path())).unwrap();
        let stride = if name.contains("features") { 16 } else { 32 };
        let fresh = encoder_name.config(3).with_output_stride(stride);
        let (encoder, report) = file.load_into(fresh.init(&Device::flex())).unwrap();
        assert_eq!(report.family, family, "{name}");
        assert_eq!(report.missing, [""; 0], "{name}");
        let head = ["fc.", "classifier.", "head.", "norm."];
        for skipped in &report.skipped {
            assert!(
                head.iter().any(|head| skipped.starts_with(head)),
                "{name}: {skipped}"
            );
        }
        let swin = name.contains("swin");
        let size = if swin {
            [1, 3, 224, 448]
        } else {
            [1, 3, 96, 64]
        };
        golden.check(name, encoder.forward(input(size)));
    }
}

#[test]
fn a_whole_network_of_torchvision() {
    let golden = golden("torchvision fcn_resnet50");
    let folder = tempfile::tempdir().unwrap();
    let file = WeightsFile::open(&golden.write(folder.path())).unwrap();
    let config = SegmenterConfig {
        input_channels: 3,
        ..SegmenterConfig::from_name("fcn-resnet50").unwrap()
    };
    let model = config.init_lazily(&Device::flex()).unwrap();
    let (model, report) = file.load_into(model).unwrap();
    assert_eq!(report.family, Family::TorchvisionSegmentation);
    assert_eq!(report.missing, [""; 0]);
    let auxiliary = |name: &String| name.starts_with("aux_classifier.");
    assert!(report.skipped.iter().all(auxiliary), "{report}");
    let y = model.forward(input([1, 3, 96, 64]));
    golden.check("torchvision fcn_resnet50", vec![y]);
}

#[test]
fn a_head_of_other_classes_stays_fresh() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smp.safetensors");
    let config = SegmenterConfig {
        decoder_channels: Some(16),
        ..SegmenterConfig::from_name("deeplabv3plus_smp-resnet18").unwrap()
    };
    let fresh = |config: &SegmenterConfig| config.init_lazily(&Device::flex()).unwrap();
    let model = crate::golden::filled(fresh(&config));
    export(&model, Format::Smp, &path).unwrap();
    let file = WeightsFile::open(&path).unwrap();
    let (same, report) = file.load_into(fresh(&config)).unwrap();
    assert_eq!((report.family, report.missing.len()), (Family::Smp, 0));
    let x = input([1, 8, 64, 32]);
    assert_eq!(
        same.forward(x.clone()).into_data(),
        model.forward(x).into_data()
    );

    let one = SegmenterConfig {
        head: crate::models::segmenter::Head::OneLogit,
        ..config
    };
    let (_, report) = file.load_into(fresh(&one)).unwrap();
    let text = report.to_string();
    assert!(
        text.contains(
            "\n  left as it was: head.weight is [1, 16, 1, 1], in the file [2, 16, 1, 1]\n"
        ),
        "{text}"
    );
}

#[test]
fn pth_files_zipped_and_legacy() {
    let golden = golden("official narrow");
    for name in ["narrow.pth", "narrow_legacy.pth"] {
        let file = WeightsFile::open(&Path::new(FOLDER).join(name)).unwrap();
        let config = ConvNeXtConfig::new(3, vec![1, 1, 2, 1], vec![6, 8, 10, 12]);
        let encoder = EncoderConfig::ConvNeXt(config).init(&Device::flex());
        let (encoder, report) = file.load_into(encoder).unwrap();
        assert_eq!(report.family, Family::OfficialConvNeXt);
        assert_eq!(report.applied[0], golden.state.len() - 4);
        let head = ["head.bias", "head.weight", "norm.bias", "norm.weight"];
        assert_eq!(report.skipped, head.map(|name| format!("model.{name}")));
        golden.check(name, encoder.forward(input([1, 3, 96, 64])));
    }
}

#[test]
fn more_channels_see_the_same_picture() {
    let golden = golden("torchvision resnet18");
    let folder = tempfile::tempdir().unwrap();
    let file = WeightsFile::open(&golden.write(folder.path())).unwrap();
    let (encoder, report) = file.load_into(encoder(EncoderName::ResNet18, 6)).unwrap();
    assert_eq!(report.adapted, Some([3, 6]));
    let text = report.to_string();
    assert!(
        text.ends_with(
            "names of torchvision; applied 100 tensors, 11.20 M values\n  \
             first convolution: from 3 to 6 input channels\n  \
             skipped, the network has no such tensor: fc.bias, fc.weight"
        ),
        "{text}"
    );
    // Twice the picture, half the weight each.
    let picture = input([1, 3, 96, 64]);
    golden.check(
        "six channels",
        encoder.forward(picture.clone().repeat_dim(1, 2)),
    );
    let (encoder, _) = file
        .load_into(self::encoder(EncoderName::ResNet18, 1))
        .unwrap();
    // The same grey in all three channels.
    let grey = picture.narrow(1, 0, 1);
    let three = file
        .load_into(self::encoder(EncoderName::ResNet18, 3))
        .unwrap()
        .0;
    let expected = three.forward(grey.clone().repeat_dim(1, 3));
    for (ours, expected) in encoder.forward(grey).into_iter().zip(expected) {
        let worst = (ours - expected).abs().max().into_scalar::<f32>();
        assert!(worst <= 1e-5, "{worst:e}");
    }
}

#[test]
fn a_wrong_file_is_one_line_and_changes_nothing() {
    let golden = golden("torchvision resnet18");
    let folder = tempfile::tempdir().unwrap();
    let good = golden.write(folder.path());
    let bytes = std::fs::read(&good).unwrap();
    let pth = std::fs::read(Path::new(FOLDER).join("narrow.pth")).unwrap();
    let legacy = std::fs::read(Path::new(FOLDER).join("narrow_legacy.pth")).unwrap();
    let model = encoder(EncoderName::ResNet50, 3);
    let before = model.forward(input([1, 3, 32, 32]))[3].to_data();
    let open_and_load = |path: &Path| match WeightsFile::open(path) {
        Ok(file) => file.load_into(model.clone()).map(|_| ()),
        Err(error) => Err(error),
    };
    let cases: [(&str, Vec<u8>); 9] = [
        ("empty", Vec::new()),
        ("text", b"<html>404 not found</html>".to_vec()),
        ("header cut", bytes[..1000].to_vec()),
        ("values cut", bytes[..bytes.len() - 8].to_vec()),
        ("zip cut", pth[..pth.len() / 2].to_vec()),
        ("zip cut at the end", pth[..pth.len() - 1].to_vec()),
        ("legacy cut", legacy[..legacy.len() / 2].to_vec()),
        ("legacy cut at the end", legacy[..legacy.len() - 4].to_vec()),
        ("another encoder", bytes),
    ];
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = open_and_load(&path).unwrap_err().to_string();
        println!("{error}");
        assert!(error.contains(&format!("{name}: ")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = open_and_load(&folder.path().join("not there"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not there: cannot read: No such file"),
        "{error}"
    );
    let error = open_and_load(&Path::new(FOLDER).join("narrow.pth"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("holds no weights of this network"),
        "{error}"
    );
    let after = model.forward(input([1, 3, 32, 32]))[3].to_data();
    assert_eq!(before, after);
}

/// Name → shape and type, of a file.
fn shapes(path: &Path) -> HashMap<String, (Vec<usize>, String)> {
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let shapes = tensors.iter().map(|(name, view)| {
        let dtype = match view.dtype() {
            Dtype::F32 => "float32",
            Dtype::I64 => "int64",
            _ => "other",
        };
        (name.to_owned(), (view.shape().to_vec(), dtype.to_owned()))
    });
    shapes.collect()
}

#[test]
fn exports_have_every_name_and_shape_of_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    for (encoder_name, name, format) in [
        (
            EncoderName::ResNet50,
            "torchvision resnet50",
            Format::Torchvision,
        ),
        (EncoderName::ResNet18, "torchvision resnet18", Format::Timm),
        (
            EncoderName::ConvNeXtTiny,
            "torchvision convnext_tiny",
            Format::Torchvision,
        ),
        (
            EncoderName::ConvNeXtAtto,
            "timm features convnext_atto",
            Format::Timm,
        ),
        (
            EncoderName::SwinT,
            "torchvision swin_t",
            Format::Torchvision,
        ),
        (
            EncoderName::MobileNetV3Small,
            "torchvision mobilenet_v3_small",
            Format::Torchvision,
        ),
    ] {
        let golden = golden(name);
        let model = encoder(encoder_name, 3);
        export(&model, format, &out).unwrap();
        let head = ["fc.", "classifier.", "head.", "norm."];
        let classifier = |name: &str| head.iter().any(|head| name.starts_with(head));
        let expected: HashMap<_, _> = golden
            .state
            .into_iter()
            .filter(|(name, ..)| !classifier(name))
            .map(|(name, shape, dtype)| (name, (shape, dtype)))
            .collect();
        assert_eq!(shapes(&out), expected, "{name}");
        // And back.
        let x = input([1, 3, 64, 32]);
        let (read, report) = WeightsFile::open(&out)
            .unwrap()
            .load_into(encoder(encoder_name, 3))
            .unwrap();
        assert!(
            report.missing.is_empty() && report.skipped.is_empty(),
            "{report}"
        );
        for (ours, theirs) in model.forward(x.clone()).into_iter().zip(read.forward(x)) {
            assert_eq!(ours.into_data(), theirs.into_data(), "{name}");
        }
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file stays"
    );
    let keras = encoder(EncoderName::ResNet50Keras, 3);
    let error = export(&keras, Format::Torchvision, &out)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "torchvision has no counterpart of this network: no name for ResNet.stem.conv.bias"
    );
    let error = export(&keras, Format::Smp, Path::new("/not there/x")).unwrap_err();
    assert!(matches!(error, WeightsError::NoCounterpart { .. }));
    let model = encoder(EncoderName::ConvNeXtAtto, 3);
    let error = export(&model, Format::Timm, Path::new("/not there/x"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot write /not there/x: No such file"),
        "{error}"
    );
}

/// A Python with the libraries that `load_exports.py` needs.
fn python() -> Option<String> {
    let named = std::env::var("PLUVIAL_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let import = "import safetensors, segmentation_models_pytorch, timm, torch, torchvision";
    let found = std::process::Command::new(&python)
        .args(["-c", import])
        .output();
    let found = found.is_ok_and(|output| output.status.success());
    assert!(
        found || named.is_none(),
        "PLUVIAL_PYTHON={python} cannot `{import}`"
    );
    found.then_some(python)
}

#[test]
fn exports_load_in_pytorch_as_the_printed_code_says() {
    let Some(python) = python() else {
        println!(
            "skipped: no python3 with torch, torchvision, timm and segmentation_models_pytorch"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in [
        ("deeplabv3plus-convnext_atto", Format::Timm),
        ("deeplabv3plus_keras-convnextv2_atto", Format::Timm),
        ("deeplabv3plus_keras-resnet18", Format::Timm),
        ("deeplabv3plus-resnet50", Format::Torchvision),
        ("deeplabv3plus_keras-convnext_tiny", Format::Torchvision),
        ("deeplabv3plus_keras-convnext_xtiny", Format::Timm),
        ("deeplabv3plus_smp-resnet18", Format::Smp),
        ("deeplabv3plus_smp-convnext_atto", Format::Smp),
        ("deeplabv3plus_smp-convnext_xtiny", Format::Smp),
        ("deeplabv3-resnet18", Format::Smp),
        ("pspnet-resnet18", Format::Smp),
        ("unet-resnet18", Format::Smp),
        ("unet-convnext_atto", Format::Smp),
        ("deeplabv3plus-swin_t", Format::Torchvision),
        (
            "deeplabv3plus_keras-mobilenet_v3_small",
            Format::Torchvision,
        ),
    ] {
        let config = SegmenterConfig {
            decoder_channels: Some(16),
            ..SegmenterConfig::from_name(name).unwrap()
        };
        let model = crate::golden::filled(config.init_lazily(&Device::flex()).unwrap());
        let x = input([1, 8, 96, 64]);
        let outputs = match format {
            Format::Smp => vec![model.forward(x.clone())],
            _ => model.encoder.forward(x.clone()),
        };
        let case = format!("{format:?} {name}");
        let path = folder.path().join(format!("{case}.safetensors"));
        export(&model, format, &path).unwrap();
        let code = format.loading_code(&config, &path);
        std::fs::write(path.with_extension("py"), code).unwrap();

        let named = |(i, y): (usize, Tensor<4>)| (format!("output{i}"), y);
        let tensors = outputs.into_iter().enumerate().map(named);
        let tensors = tensors.chain([("input".to_owned(), x)]).map(|(name, y)| {
            let shape = y.dims().to_vec();
            let values: Vec<f32> = y.into_data().try_to_vec().unwrap();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name, shape, bytes)
        });
        let tensors: Vec<_> = tensors.collect();
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
        let values = folder.path().join(format!("{case}_values.safetensors"));
        safetensors::serialize_to_file(views, None, &values).unwrap();
    }
    let script = Path::new(FOLDER).join("load_exports.py");
    let output = std::process::Command::new(python)
        .arg(script)
        .arg(folder.path())
        .output();
    let output = output.unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
