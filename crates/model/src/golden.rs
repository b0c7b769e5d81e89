//! Comparison with PyTorch and Keras in tests; the other side are the Python scripts in `tests/golden`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;

/// Index of the input tensor in the sequence of tensors.
const INPUT: u64 = 1_000_000;
/// Index of the factors of [`loss`].
const LOSS: u64 = 2_000_000;
/// Values kept of an output at most, evenly spaced.
const SAMPLES: usize = 400;

/// Values in [-1, 1) of tensor number `index`.
pub(crate) fn sequence(index: u64, count: usize) -> impl Iterator<Item = f64> {
    (0..count as u64).map(move |i| {
        let mut x = (i * 747_796_405 + index * 2_891_336_453 + 1) & 0xFFFF_FFFF;
        for (shift, factor) in [(16, 0x045D_9F3B), (15, 0x2C1B_3C6D), (16, 1)] {
            x = ((x ^ (x >> shift)) * factor) & 0xFFFF_FFFF;
        }
        x as f64 / 2f64.powi(31) - 1.0
    })
}

/// The input of the given shape.
pub(crate) fn input(shape: [usize; 4]) -> Tensor<4> {
    let values: Vec<f32> = sequence(INPUT, shape.iter().product())
        .map(|u| u as f32)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// [`input`] on the autodiff device, with a gradient.
pub(crate) fn differentiable_input(shape: [usize; 4]) -> Tensor<4> {
    input(shape).autodiff().require_grad()
}

/// Sum of all values, each times a factor of its own: what gradients are compared of.
pub(crate) fn loss(y: Tensor<4>) -> Tensor<1> {
    let shape = y.dims();
    let factors: Vec<f32> = sequence(LOSS, shape.iter().product())
        .map(|u| u as f32)
        .collect();
    let factors = Tensor::<4>::from_data(TensorData::new(factors, shape), &y.device());
    (y * factors).sum()
}

/// The module with all values replaced by those of the sequence, tensor after tensor.
pub(crate) fn filled<M: Module>(module: M) -> M {
    module.map(&mut Filler::default())
}

#[derive(Default)]
struct Filler {
    path: Vec<String>,
    index: u64,
}

impl ModuleMapper for Filler {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape: [usize; D] = param.lazy_shape().dims();
        let u = sequence(self.index, shape.iter().product());
        self.index += 1;
        let field = self.path.last().map(String::as_str);
        param.map(|tensor| {
            let device = tensor.device();
            let differentiable = tensor.is_require_grad();
            let around = |base: f64| move |u: f64| (base + 0.2 * u) as f32;
            let filled = match (D, field) {
                // burn stores a linear layer's matrix as [in, out], PyTorch as [out, in].
                (2, _) => {
                    let scale = (3.0 / shape[0] as f64).sqrt();
                    let values: Vec<f32> = u.map(|u| (u * scale) as f32).collect();
                    let stored = TensorData::new(values, [shape[1], shape[0]]);
                    Tensor::<2>::from_data(stored, &device)
                        .transpose()
                        .reshape(shape)
                }
                (4, _) => {
                    let scale = (3.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
                    let values: Vec<f32> = u.map(|u| (u * scale) as f32).collect();
                    Tensor::from_data(TensorData::new(values, shape), &device)
                }
                (_, Some("gamma" | "running_var")) => {
                    let values: Vec<f32> = u.map(around(1.0)).collect();
                    Tensor::from_data(TensorData::new(values, shape), &device)
                }
                _ => {
                    let values: Vec<f32> = u.map(around(0.0)).collect();
                    Tensor::from_data(TensorData::new(values, shape), &device)
                }
            };
            filled.set_require_grad(differentiable)
        })
    }
}

/// What is kept of one output.
struct Golden {
    shape: Vec<usize>,
    /// Every value, or evenly spaced ones.
    values: Vec<f32>,
}

/// The golden values of all files by name.
static GOLDENS: LazyLock<BTreeMap<String, Golden>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut goldens = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "safetensors") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let shapes = metadata.metadata().as_ref().unwrap();
        for (name, samples) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            let shape = shapes[name].split(' ').map(|n| n.parse().unwrap());
            let (values, _) = samples.data().as_chunks::<4>();
            let golden = Golden {
                shape: shape.collect(),
                values: values.iter().map(|v| f32::from_le_bytes(*v)).collect(),
            };
            let twice = goldens.insert(name.to_owned(), golden).is_some();
            assert!(!twice, "two golden values of {name}");
        }
    }
    goldens
});

/// Largest difference between `tensor` and the golden values of that name, and the largest of these.
fn difference<const D: usize>(name: &str, tensor: Tensor<D>) -> (f32, f32) {
    let golden = GOLDENS.get(name);
    let golden = golden.unwrap_or_else(|| panic!("no golden values of {name}"));
    assert_eq!(tensor.dims().to_vec(), golden.shape, "{name}");
    let values: Vec<f32> = tensor.into_data().try_to_vec().unwrap();
    let samples = values.iter().step_by(values.len().div_ceil(SAMPLES));
    assert_eq!(samples.len(), golden.values.len(), "{name}");
    let largest = |values: &mut dyn Iterator<Item = f32>| {
        values.fold(0f32, |a, b| if b.is_nan() { f32::NAN } else { a.max(b) })
    };
    let mut differences = samples.zip(&golden.values).map(|(a, b)| (a - b).abs());
    let scale = largest(&mut golden.values.iter().map(|v| v.abs()));
    (largest(&mut differences), scale)
}

/// Compares `tensor` with the golden values of that name: |Δ| ≤ 1e-4 everywhere.
pub(crate) fn check<const D: usize>(name: &str, tensor: Tensor<D>) {
    let (worst, scale) = difference(name, tensor);
    println!("{name}: max |Δ| = {worst:e} of {scale}");
    assert!(worst <= 1e-4, "{name}: max |Δ| = {worst:e}");
}

/// Compares a gradient with the golden values of that name: |Δ| ≤ 1e-3 of the largest.
///
/// burn keeps a linear layer's matrix as [in, out], PyTorch as [out, in]: give its gradient transposed.
pub(crate) fn check_gradient<const D: usize>(name: &str, tensor: Tensor<D>) {
    let (worst, scale) = difference(name, tensor);
    println!("{name}: max |Δ| = {worst:e} of {scale}");
    assert!(scale > 0.0, "{name}: the golden gradient is 0");
    assert!(
        worst <= 1e-3 * scale,
        "{name}: max |Δ| = {worst:e} of {scale}"
    );
}
