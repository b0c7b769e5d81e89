//! Every name builds and runs; every kind of network learns.

use std::time::Instant;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};

use super::autoencoder::AutoencoderConfig;
use super::contrastive::ContrastiveConfig;
use super::pixel_classifier::PixelClassifierConfig;
use super::segmenter::{Head, SegmenterConfig};
use super::{Model, ParamCount};
use crate::config::ModelConfig;
use crate::decoders::DecoderName;
use crate::encoders::EncoderName;

/// Zeros for all parameters: the shapes are the same, and nothing is drawn.
struct Zeros;

impl ModuleMapper for Zeros {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let zeros = Tensor::zeros(param.lazy_shape(), &Device::flex());
        Param::initialized(param.id, zeros)
    }
}

/// Builds the network of a name and, if `run` says so, runs it on a tiny input.
fn build(name: &str, run: impl Fn(&ModelConfig, usize) -> bool) -> bool {
    let device = Device::flex();
    let config = ModelConfig::from_name(name).unwrap();
    let model = config.init_lazily(&device).unwrap();
    if !run(&config, ParamCount::of(&model).trainable) {
        return false;
    }
    let model = model.map(&mut Zeros);
    let map = |channels, [height, width]: [usize; 2]| {
        Tensor::<4>::ones([1, channels, height, width], &device)
    };
    match (&model, &config) {
        (Model::Segmenter(model), _) => {
            assert_eq!(
                model.forward(map(8, [20, 33])).dims(),
                [1, 2, 20, 33],
                "{name}"
            );
        }
        (Model::Autoencoder(model), ModelConfig::Autoencoder(config)) => {
            let y = model.forward(map(8, config.size));
            assert_eq!(y.dims(), [1, 8, 64, 64], "{name}");
        }
        (Model::PixelClassifier(model), _) => {
            assert_eq!(model.forward(map(8, [63, 63])).dims(), [1, 2], "{name}");
        }
        (Model::Contrastive(model), _) => {
            let y = model.forward(map(8, [20, 33]), map(1, [20, 33]));
            assert_eq!(y.dims(), [1, 1], "{name}");
        }
        _ => panic!("{name} is another kind of network than its configuration"),
    }
    true
}

/// Each name builds. Each encoder of up to 60 million parameters runs under DeepLabV3+, and one of each family under everything.
#[test]
fn every_name_builds_and_each_part_runs() {
    let small = [
        "convnext_atto",
        "convnextv2_atto",
        "resnet18",
        "swin_t",
        "mobilenet_v3_small",
    ];
    let ran = |name: &str| {
        build(name, |config, count| {
            let plain = matches!(config, ModelConfig::Segmenter(config) if config.decoder == DecoderName::DeepLabV3Plus);
            let (_, encoder) = name.split_once('-').unwrap();
            small.contains(&encoder) || (plain && count < 60_000_000)
        })
    };
    let names = ModelConfig::names();
    let ran = names.iter().filter(|name| ran(name)).count();
    assert!(names.len() > 200 && ran > 50, "{ran} of {}", names.len());
}

#[test]
#[ignore = "minutes, and 2 GiB of memory"]
fn every_name_runs() {
    for name in ModelConfig::names() {
        let started = Instant::now();
        build(&name, |_, _| true);
        println!("{:7.1} ms {name}", started.elapsed().as_secs_f64() * 1e3);
    }
}

/// Ten steps of AdamW; the loss must fall.
fn learn<M: Module>(name: &str, mut model: M, loss: impl Fn(&M) -> Tensor<1>) {
    let mut optimizer = AdamWConfig::new().init();
    let steps = (0..10).map(|_| {
        let loss = loss(&model);
        let value = loss.clone().into_scalar::<f32>();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-3, model.clone(), gradients);
        value
    });
    let losses: Vec<f32> = steps.collect();
    assert!(
        losses.iter().all(|loss| loss.is_finite()),
        "{name}: {losses:?}"
    );
    assert!(losses[9] < losses[0], "{name}: {losses:?}");
    println!("{name}: {} → {}", losses[0], losses[9]);
}

/// A map of odd size.
fn map(channels: usize, device: &Device) -> Tensor<4> {
    Tensor::random(
        [1, channels, 61, 45],
        Distribution::Normal(0.0, 1.0),
        device,
    )
}

/// One sample of 61 × 45 cells, whose target its first channel decides cell by cell.
fn segmenter_learns(config: SegmenterConfig) {
    let device = Device::flex().autodiff();
    device.seed(1);
    let x = map(config.input_channels, &device);
    let wet = x.clone().narrow(1, 0, 1).sign();
    let target = match config.head {
        Head::Depth => wet.clamp_min(0.0),
        _ => wet.expand([1, config.head.channels() as i64, 61, 45]),
    };
    let model = config.init(&device).unwrap();
    learn(&format!("{config:?}"), model, |model| {
        let y = model.forward(x.clone());
        if config.head == Head::Depth {
            assert!(y.clone().min().into_scalar::<f32>() >= 0.0);
        }
        (y - target.clone()).powi_scalar(2).mean()
    });
}

#[test]
fn every_decoder_learns() {
    for (i, (decoder, _)) in DecoderName::ALL.into_iter().enumerate() {
        segmenter_learns(SegmenterConfig {
            encoder: [EncoderName::ConvNeXtAtto, EncoderName::ResNet18][i % 2],
            decoder,
            input_channels: [1, 3, 8][i % 3],
            decoder_channels: Some(32),
            head: [Head::TwoClass, Head::OneLogit, Head::Depth][i % 3],
            ..SegmenterConfig::default()
        });
    }
}

#[test]
fn every_option_learns() {
    let narrow = SegmenterConfig {
        input_channels: 3,
        decoder_channels: Some(16),
        ..SegmenterConfig::default()
    };
    segmenter_learns(SegmenterConfig {
        refinement_channels: Some(8),
        cbam: true,
        cbam_reduction: 4,
        drop_path: Some(0.1),
        ..narrow.clone()
    });
    segmenter_learns(SegmenterConfig {
        encoder: EncoderName::ResNet18,
        decoder: DecoderName::PspNet,
        encoder_cbam: true,
        refinement_channels: Some(8),
        ..narrow.clone()
    });
    segmenter_learns(SegmenterConfig {
        encoder: EncoderName::ResNet18,
        output_stride: Some(8),
        input_upsampling: 2,
        ..narrow
    });
}

#[test]
fn the_other_networks_learn() {
    let device = Device::flex().autodiff();
    device.seed(2);
    let (encoder, other) = (EncoderName::ConvNeXtShallow, EncoderName::ResNet18);

    let config = AutoencoderConfig {
        encoder,
        input_channels: 3,
        output_channels: Some(1),
        size: [61, 45],
        bottleneck: 16,
    };
    let x = map(3, &device);
    learn("autoencoder", config.init(&device).unwrap(), |model| {
        let y = model.forward(x.clone());
        (y - x.clone().narrow(1, 0, 1)).powi_scalar(2).mean()
    });

    let config = PixelClassifierConfig {
        encoder: other,
        input_channels: 1,
        window: 45,
        ..PixelClassifierConfig::default()
    };
    let windows = Tensor::random([2, 1, 45, 45], Distribution::Normal(0.0, 1.0), &device);
    learn("pixel classifier", config.init(&device).unwrap(), |model| {
        let logits = model.forward(windows.clone());
        let truth = Tensor::<2>::from_floats([[1.0, -1.0], [-1.0, 1.0]], &device);
        (logits - truth).powi_scalar(2).mean()
    });

    let config = ContrastiveConfig {
        rain_encoder: encoder,
        water_encoder: other,
        rain_channels: 8,
        ..ContrastiveConfig::default()
    };
    let maps = |channels| Tensor::cat((0..3).map(|_| map(channels, &device)).collect(), 0);
    let (rain, water) = (maps(8), maps(1));
    learn("contrastive", config.init(&device).unwrap(), |model| {
        model.loss(rain.clone(), water.clone())
    });
}
