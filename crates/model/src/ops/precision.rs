//! Mixed precision, after PyTorch's `autocast` with bfloat16 (Micikevicius et al. 2018, "Mixed precision training", arXiv 1710.03740, and
//! Kalamkar et al. 2019, "A study of BFLOAT16 for deep learning training", arXiv 1905.12322).
//!
//! Inside [`with`] the products of matrices round what they take and give to bf16, and so the maps between the layers are bf16. Everything
//! else follows the type of its input: additions, maxima and gates stay bf16; norms, means, softmax, GELU and sigmoid compute in f32 and
//! round once; networks give f32. Parameters, their gradients and running statistics are f32 throughout: a cast hands its gradient
//! back in the type that it was given. bf16 has the exponents of f32, so that no loss has to be scaled.

use std::cell::Cell;

use burn::tensor::{DType, Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

#[cfg(feature = "flex")]
use super::flex;

/// Numbers that a network computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits. burn multiplies matrices of them on CUDA's tensor cores, which round the factors to TF32 (10 bits of fraction).
    #[default]
    F32,
    /// bfloat16 (7 bits of fraction) between layers, f32 where it matters.
    Bf16,
}

/// A device that does not compute in bf16.
#[derive(Debug, thiserror::Error)]
#[error(
    "precision bf16: this device does not compute in it; take f32, which works everywhere (bf16: CUDA from compute capability 8.0 on, and the CPU, slowly)"
)]
pub struct Unsupported;

impl Precision {
    /// Whether `device` can compute with these numbers.
    ///
    /// # Errors
    /// If it cannot.
    pub fn check(self, device: &Device) -> Result<(), Unsupported> {
        match self {
            Self::Bf16 if !device.supports_dtype(DType::BF16) => Err(Unsupported),
            _ => Ok(()),
        }
    }
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// `run()`, whose networks compute with `precision` on this thread. The pass backward follows what was recorded here, wherever it runs.
pub fn with<T>(precision: Precision, run: impl FnOnce() -> T) -> T {
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(precision));
    run()
}

/// That of the scope.
#[cfg_attr(not(any(feature = "flex", feature = "cube")), allow(dead_code))]
pub(crate) fn current() -> Precision {
    CURRENT.get()
}

/// `run(x, weight, bias)`, a product of matrices, in the precision of the scope. On the CPU, whose kernels are f32, what comes in and goes
/// out is rounded to bf16: sums are f32 on tensor cores too.
pub(crate) fn product<const D: usize, const W: usize>(
    x: Tensor<D>,
    weight: Tensor<W>,
    bias: Option<Tensor<1>>,
    run: impl FnOnce(Tensor<D>, Tensor<W>, Option<Tensor<1>>) -> Tensor<D>,
) -> Tensor<D> {
    if CURRENT.get() == Precision::F32 {
        return run(x, weight, bias);
    }
    let (x, weight) = (x.cast(FloatDType::BF16), weight.cast(FloatDType::BF16));
    let bias = bias.map(|bias| bias.cast(FloatDType::BF16));
    #[cfg(feature = "flex")]
    if flex::is_on_flex(&x) {
        let bias = bias.map(widened);
        return run(widened(x), widened(weight), bias).cast(FloatDType::BF16);
    }
    run(x, weight, bias)
}

/// `run(x)` in f32, all of it, rounded to the type of `x` if that is bf16.
pub(crate) fn in_f32<const D: usize, const E: usize>(
    x: Tensor<D>,
    run: impl FnOnce(Tensor<D>) -> Tensor<E>,
) -> Tensor<E> {
    let dtype = x.dtype();
    with(Precision::F32, || run(widened(x))).cast(dtype)
}

/// f32 of bf16; others as they are.
pub(crate) fn widened<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::BF16 => x.cast(FloatDType::F32),
        _ => x,
    }
}
