//! The numbers of f32 tensors on the flex backend, to be changed where they lie.

use burn::backend::tensor::FloatTensor;
use burn::backend::{DispatchDevice, Flex};
use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

/// Numbers of a task.
pub(super) const RUN: usize = 1 << 14;

/// Whether this is an f32 tensor on the flex backend without autodiff.
pub(super) fn is_f32<const D: usize>(tensor: &Tensor<D>) -> bool {
    let on_flex = matches!(tensor.device().as_dispatch(), DispatchDevice::Flex(_));
    on_flex && tensor.dtype() == DType::F32
}

/// A tensor for which [`is_f32`] holds, in its own order in memory.
pub(super) struct Numbers(FloatTensor<Flex>);

impl Numbers {
    pub(super) fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        let tensor = tensor
            .try_into_primitive::<Flex>()
            .expect("on flex, as checked before");
        Self(match tensor.is_contiguous() {
            true => tensor,
            false => tensor.to_contiguous(),
        })
    }

    pub(super) fn as_ref(&self) -> &[f32] {
        self.0.as_slice().expect("contiguous f32")
    }

    /// For writing; copied first where another tensor shares them.
    pub(super) fn as_mut(&mut self) -> &mut [f32] {
        let (start, end) = self.0.layout().contiguous_offsets().expect("contiguous");
        &mut self.0.storage_mut()[start..end]
    }

    pub(super) fn into_tensor<const D: usize>(self) -> Tensor<D> {
        Tensor::from_primitive::<Flex>(self.0)
    }
}

/// Sum of the squares, `[1]`: in f64 from runs of sixteen on, whatever the number of threads.
pub(super) fn sum_of_squares<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let device = x.device();
    let of_run = |run: &[f32]| -> f64 {
        let (whole, rest) = run.as_chunks::<16>();
        let mut strands = [0.0f32; 16];
        for chunk in whole {
            for (strand, x) in strands.iter_mut().zip(chunk) {
                *strand += x * x;
            }
        }
        let rest = rest.iter().map(|x| x * x);
        strands.into_iter().chain(rest).map(f64::from).sum()
    };
    let x = Numbers::of(x);
    let sums: Vec<f64> = match x.as_ref() {
        short if short.len() <= RUN => vec![of_run(short)],
        long => long.par_chunks(RUN).map(of_run).collect(),
    };
    Tensor::from_floats([sums.iter().sum::<f64>() as f32], &device)
}

/// `x · factor`
pub(super) fn scaled<const D: usize>(x: Tensor<D>, factor: f32) -> Tensor<D> {
    let mut x = Numbers::of(x);
    x.as_mut()
        .par_chunks_mut(RUN)
        .for_each(|run| run.iter_mut().for_each(|x| *x *= factor));
    x.into_tensor()
}
