//! One training step of a tiny segmenter on a GPU backend, with and without gradient checkpointing, compared with the CPU:
//! forward, loss, backward, clipping by the global norm, AdamW. Every kind of layer of the default network takes part, with
//! as few distinct shapes as possible, since the GPU backend tunes its kernels for each shape.
//!
//! Not part of the default tests: `scripts/gpu-tests.sh` runs it, on a GPU or on a software device.
#![cfg(all(
    feature = "flex",
    any(feature = "cuda", feature = "vulkan", feature = "wgpu")
))]

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv::Conv2dConfig;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use pluvial_model::decoders::Decoder;
use pluvial_model::decoders::deeplab_v3_plus::{DeepLabV3PlusConfig, DeepLabVariant};
use pluvial_model::decoders::full_resolution::FullResolutionConfig;
use pluvial_model::encoders::Encoder;
use pluvial_model::encoders::convnext::ConvNeXtConfig;
use pluvial_model::layers::cbam::CbamConfig;
use pluvial_model::losses::LossConfig;
use pluvial_model::models::segmenter::Segmenter;
use pluvial_model::ops::checkpoint;
use pluvial_train::config::OptimConfig;
use pluvial_train::device::DeviceChoice;
use pluvial_train::optim::{adamw, clip_global_norm};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The backend that this test was built for.
const DEVICE: DeviceChoice = if cfg!(feature = "cuda") {
    DeviceChoice::Cuda(0)
} else if cfg!(feature = "vulkan") {
    DeviceChoice::Vulkan(0)
} else {
    DeviceChoice::Wgpu(0)
};

const INPUT_CHANNELS: usize = 3;
const WIDTH: usize = 8;
/// `[batch, height, width]`: not a multiple of the encoder's stride 8, so the padding takes part too.
const CELLS: [usize; 3] = [2, 22, 29];

/// ConvNeXt of two small stages, DeepLabV3+ decoder with attention, refinement at full resolution.
fn tiny_segmenter(device: &Device) -> Segmenter {
    let encoder =
        ConvNeXtConfig::new(INPUT_CHANNELS, vec![1, 1], vec![WIDTH, WIDTH]).with_output_stride(8);
    let decoder = DeepLabV3PlusConfig::new(DeepLabVariant::Paper, WIDTH, WIDTH)
        .with_channels(WIDTH)
        .with_low_channels(WIDTH)
        .with_output_stride(8);
    let refinement = FullResolutionConfig::new(INPUT_CHANNELS, WIDTH, WIDTH);
    Segmenter {
        encoder: Encoder::ConvNeXt(encoder.init(device)),
        decoder: Decoder::DeepLabV3Plus(decoder.init(device)),
        cbam: Some(CbamConfig::new(WIDTH).init(device)),
        refinement: Some(refinement.init(device)),
        head: Conv2dConfig::new([WIDTH, 2], [1, 1]).init(device),
        depth: false,
        aligned: false,
        input_upsampling: 1,
        multiple: 8,
    }
}

/// Smooth inputs and labels of all three kinds: wet, dry, no data.
fn batch() -> (TensorData, TensorData) {
    let [samples, height, width] = CELLS;
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let input: Vec<f32> = (0..samples * INPUT_CHANNELS * height * width)
        .map(|_| random.random_range(-1.0..1.0))
        .collect();
    let labels: Vec<i32> = (0..samples * height * width)
        .map(|_| match random.random_range(0..10) {
            0 => 255,
            1..4 => 1,
            _ => 0,
        })
        .collect();
    (
        TensorData::new(input, [samples, INPUT_CHANNELS, height, width]),
        TensorData::new(labels, [samples, height, width]),
    )
}

/// What a step computed, read back from its device.
struct Step {
    logits: Vec<f32>,
    loss: f32,
    gradient_norm: f64,
    /// Name and gradient of every parameter, after clipping.
    gradients: Vec<(String, Vec<f32>)>,
    /// Name and values of every parameter after the step, running statistics too.
    stepped: Vec<(String, Vec<f32>)>,
}

fn step(model: Segmenter, device: &Device) -> Step {
    let (input, labels) = batch();
    let optim = OptimConfig {
        // Adam's first step is g / (|g| + ε): with the usual tiny ε it would blow rounding errors of small gradients up to ±1.
        epsilon: 1e-2,
        ..OptimConfig::default()
    };
    let mut optimizer = adamw(&optim, &model);
    let logits = model.forward(Tensor::from_data(input, device));
    let labels = Tensor::<3, Int>::from_data(labels, device);
    let loss = LossConfig::default().forward(logits.clone(), labels);
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let (gradients, gradient_norm) = clip_global_norm(&model, gradients, 0.5);
    let mut named = Named::new(Some(&gradients));
    model.visit(&mut named);
    let gradients_read = named.values;
    let stepped = optimizer.step(0.1, model, gradients);
    let mut named = Named::new(None);
    stepped.visit(&mut named);
    Step {
        logits: read(logits),
        loss: loss.into_scalar(),
        gradient_norm: f64::from(gradient_norm.unwrap().into_scalar::<f32>()),
        gradients: gradients_read,
        stepped: named.values,
    }
}

/// Reads every parameter with its name, or its gradient.
struct Named<'a> {
    gradients: Option<&'a GradientsParams>,
    path: Vec<String>,
    values: Vec<(String, Vec<f32>)>,
}

impl<'a> Named<'a> {
    fn new(gradients: Option<&'a GradientsParams>) -> Self {
        Self {
            gradients,
            path: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl ModuleVisitor for Named<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = match self.gradients {
            Some(gradients) => gradients.get::<D>(param.id),
            None => Some(param.val()),
        };
        if let Some(tensor) = tensor {
            self.values.push((self.path.join("."), read(tensor)));
        }
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// Largest difference, as a share of the largest expected value. Some gradients are sums that cancel to nearly nothing (those
/// before a normalisation over two values, those behind a layer scale of 1e-6): below 1e-3 the share is of 1e-3.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-3f32, |max, x| max.max(x.abs()));
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // Unlike f32::max, this keeps a NaN.
    let most = apart.fold(0.0f32, |max, d| if d > max || d.is_nan() { d } else { max });
    most / largest
}

#[test]
#[ignore = "needs a GPU; run scripts/gpu-tests.sh"]
fn a_training_step_is_that_of_the_cpu_on_gpu() {
    let cpu = Device::flex().autodiff();
    let chosen = DEVICE.resolve().unwrap();
    println!("{}: {:?}", chosen.reason, chosen.device);
    let gpu = chosen.device.autodiff();

    cpu.seed(3);
    let model = tiny_segmenter(&cpu);
    // Parameters are drawn when first read; the copies must be of the same values.
    let mut drawn = Named::new(None);
    model.visit(&mut drawn);
    // Through a record: clones share their running statistics, also on another device.
    let copies =
        [false, true].map(|_| tiny_segmenter(&gpu).load_record(model.clone().into_record()));
    let expected = step(model, &cpu);
    assert!(expected.gradient_norm > 0.5, "clipping takes part");
    for (checkpointing, copy) in [false, true].into_iter().zip(copies) {
        println!("gradient checkpointing: {checkpointing}");
        let found = checkpoint::with(checkpointing, || step(copy, &gpu));
        check_step(&found, &expected);
    }
}

/// Every number of two steps within 1e-3 of the largest of its tensor.
fn check_step(found: &Step, expected: &Step) {
    println!(
        "loss {} on the GPU, {} on the CPU",
        found.loss, expected.loss
    );
    println!(
        "gradient norm {} and {}",
        found.gradient_norm, expected.gradient_norm
    );
    let mut far = Vec::new();
    let mut check = |name: String, found: &[f32], expected: &[f32]| {
        let difference = difference(found, expected);
        println!("{difference:9.2e}  {name}");
        if difference.is_nan() || difference > 1e-3 {
            far.push(format!("{name}: {difference:.2e}"));
        }
    };
    check("loss".into(), &[found.loss], &[expected.loss]);
    check("logits".into(), &found.logits, &expected.logits);
    assert_eq!(found.gradients.len(), expected.gradients.len());
    for ((name, found), (same, expected)) in found.gradients.iter().zip(&expected.gradients) {
        assert_eq!(name, same);
        check(format!("gradient of {name}"), found, expected);
    }
    assert_eq!(found.stepped.len(), expected.stepped.len());
    for ((name, found), (same, expected)) in found.stepped.iter().zip(&expected.stepped) {
        assert_eq!(name, same);
        check(format!("{name} after the step"), found, expected);
    }
    assert!(
        far.is_empty(),
        "apart by more than 1e-3:\n{}",
        far.join("\n")
    );
}
