//! Comparison with PyTorch and Keras in tests; the other side is `tests/golden/make_goldens.py`.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

/// Index of the input tensor in the sequence of tensors.
const INPUT: u64 = 1_000_000;

/// Values in [-1, 1) of tensor number `index`.
fn sequence(index: u64, count: usize) -> impl Iterator<Item = f64> {
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
            let around = |base: f64| move |u: f64| (base + 0.2 * u) as f32;
            match (D, field) {
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
            }
        })
    }
}

#[derive(Deserialize)]
struct Golden {
    shape: Vec<usize>,
    step: usize,
    values: Vec<f32>,
}

/// Compares `tensor` with the golden values of that name: |Δ| ≤ 1e-4 everywhere.
pub(crate) fn check<const D: usize>(name: &str, tensor: Tensor<D>) {
    let files = [
        include_str!("../tests/golden/pytorch.json"),
        include_str!("../tests/golden/keras.json"),
    ];
    let golden = files.iter().find_map(|text| {
        let mut goldens: BTreeMap<String, Golden> = serde_json::from_str(text).unwrap();
        goldens.remove(name)
    });
    let golden = golden.unwrap_or_else(|| panic!("no golden values of {name}"));
    assert_eq!(tensor.dims().to_vec(), golden.shape, "{name}");
    let values: Vec<f32> = tensor.into_data().try_to_vec().unwrap();
    let values = values.iter().step_by(golden.step);
    assert_eq!(values.len(), golden.values.len(), "{name}");
    let worst = values
        .zip(&golden.values)
        .map(|(ours, theirs)| (ours - theirs).abs())
        .fold(0f32, |a, b| if b.is_nan() { f32::NAN } else { a.max(b) });
    println!("{name}: max |Δ| = {worst:e}");
    assert!(worst <= 1e-4, "{name}: max |Δ| = {worst:e}");
}
