//! GELU, x Φ(x) (Hendrycks & Gimpel 2016, arXiv 1606.08415), exact.
//!
//! burn-flex 0.22.1 computes it number by number in one thread, and the GPU backends differentiate the tanh approximation instead. Here Φ
//! is formula 7.1.26 of Abramowitz & Stegun (1964), whose error is below 7.5e-8 and whose exponential the derivative needs anyway; on the
//! CPU in vectors and in all threads.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::Tensor;

#[cfg(feature = "cube")]
use super::cube;
#[cfg(feature = "flex")]
use super::flex;
use super::precision::in_f32;
use crate::summary::trace::{Kind, unary};

/// GELU of every number.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    unary(|| Kind::plain("GELU"), x, unrecorded)
}

fn unrecorded<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "cube")]
    if cube::is_float(&x) {
        return extension::gelu(x);
    }
    in_f32(x, |x| {
        #[cfg(feature = "flex")]
        if flex::is_f32(&x) {
            return extension::gelu(x);
        }
        by_erf(x)
    })
}

/// GELU by the error function: burn's own has the derivative of the tanh approximation on most of its backends.
fn by_erf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let cumulative = (x.clone() * FRAC_1_SQRT_2).erf() * 0.5 + 0.5;
    x * cumulative
}

#[cfg(any(feature = "flex", feature = "cube"))]
pub(super) use extension::{COEFFICIENTS, ExactGelu, SCALE};

#[cfg(any(feature = "flex", feature = "cube"))]
mod extension {
    use burn::backend::autodiff::NodeId;
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
    use burn::tensor::Tensor;

    pub(super) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
        Tensor::from_dispatch(Dispatch::exact_gelu(x.into_dispatch()))
    }

    /// GELU on the backends that have one of ours.
    #[backend_extension(
        Cube: cfg(feature = "cube"),
        Flex: cfg(feature = "flex"),
        Autodiff,
        Fusion: cfg(feature = "cube")
    )]
    pub trait ExactGelu: Backend {
        /// GELU of every number.
        #[fusion(dtype = x, shape = x)]
        fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

        /// The gradient by `x`, given the one by the output.
        #[fusion(dtype = x, shape = x)]
        fn exact_gelu_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;
    }

    impl<B: Backend + ExactGelu, C: CheckpointStrategy> ExactGelu for Autodiff<B, C> {
        fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
            match GeluBackward
                .prepare::<C>([x.node()])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(mut prep) => {
                    let state = prep.checkpoint(&x);
                    prep.finish(state, B::exact_gelu(x.into_primitive()))
                }
                OpsKind::UnTracked(prep) => prep.finish(B::exact_gelu(x.into_primitive())),
            }
        }

        fn exact_gelu_gradient(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
            panic!("the gradient of GELU cannot be differentiated");
        }
    }

    #[derive(Debug)]
    struct GeluBackward;

    impl<B: Backend + ExactGelu> Backward<B, 1> for GeluBackward {
        type State = NodeId;

        fn backward(
            self,
            ops: Ops<NodeId, 1>,
            grads: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let x = checkpointer.retrieve_node_output(ops.state);
            unary::<B, _>(ops.parents, ops.node, grads, |dy| {
                B::exact_gelu_gradient(x, dy)
            });
        }
    }

    /// Of Abramowitz & Stegun 7.1.26, as printed: erf(x) = 1 − (a₁t + … + a₅t⁵) e^(−x²), t = 1 / (1 + 0.3275911 x), x ≥ 0.
    #[allow(clippy::excessive_precision)]
    pub(in super::super) const COEFFICIENTS: [f32; 5] = [
        0.254_829_592,
        -0.284_496_736,
        1.421_413_741,
        -1.453_152_027,
        1.061_405_429,
    ];

    /// That of |x| in t for Φ(x) = (1 + erf(x / √2)) / 2.
    pub(in super::super) const SCALE: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
}

#[cfg(feature = "flex")]
mod on_flex {
    use super::super::flex::{contiguous, slice, tensor};
    use super::super::parallel::by_chunks;
    use super::super::simd::{Kernel, Level, Simd};
    use super::{COEFFICIENTS, ExactGelu, SCALE};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Flex, TensorMetadata};

    impl ExactGelu for Flex {
        fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
            let x = contiguous(x);
            let y = map(slice(&x), &[]);
            tensor(y, x.shape().to_vec())
        }

        fn exact_gelu_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
            let (x, dy) = (contiguous(x), contiguous(dy));
            let dx = map(slice(&x), slice(&dy));
            tensor(dx, x.shape().to_vec())
        }
    }

    /// Numbers of a task.
    const RUN: usize = 1 << 14;

    /// GELU of `x`, or, given the gradient `dy` by it, the gradient by `x`.
    fn map(x: &[f32], dy: &[f32]) -> Vec<f32> {
        let level = Level::best();
        by_chunks(x.len(), RUN, |i, y| {
            let x = &x[i * RUN..][..y.len()];
            match dy {
                [] => level.run(Forward { x, y }),
                dy => level.run(Derivative {
                    x,
                    dy: &dy[i * RUN..][..y.len()],
                    dx: y,
                }),
            }
        })
    }

    struct Forward<'a> {
        x: &'a [f32],
        y: &'a mut [f32],
    }

    impl Kernel for Forward<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            for (y, x) in self.y.iter_mut().zip(self.x) {
                let (cumulative, _) = normal(*x);
                *y = x * cumulative;
            }
        }
    }

    struct Derivative<'a> {
        x: &'a [f32],
        dy: &'a [f32],
        dx: &'a mut [f32],
    }

    impl Kernel for Derivative<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            for ((dx, x), dy) in self.dx.iter_mut().zip(self.x).zip(self.dy) {
                let (cumulative, density) = normal(*x);
                *dx = dy * (cumulative + x * density);
            }
        }
    }

    /// Φ(x) and φ(x) of the standard normal distribution.
    #[inline(always)]
    fn normal(x: f32) -> (f32, f32) {
        let e = exp_of_minus(0.5 * x * x);
        // Abramowitz & Stegun 7.1.26 at |x| / √2, halved: 1 − Φ(|x|).
        let t = 1.0 / (1.0 + SCALE * x.abs());
        let [a1, a2, a3, a4, a5] = COEFFICIENTS;
        let polynomial = 0.5 * t * (a1 + t * (a2 + t * (a3 + t * (a4 + t * a5))));
        let tail = polynomial * e;
        let cumulative = if x < 0.0 { tail } else { 1.0 - tail };
        // 1 / √(2π)
        (cumulative, 0.398_942_3 * e)
    }

    /// e^−h for h ≥ 0, to 2 units in the last place; 0 for h above 87. NaN stays NaN.
    #[inline(always)]
    fn exp_of_minus(h: f32) -> f32 {
        // Adding it rounds to a whole number, which is then in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        let bounded = if h > 87.0 { 87.0 } else { h };
        let shifted = ROUND - bounded * std::f32::consts::LOG2_E;
        let n = shifted - ROUND;
        // ln 2 in two parts, so that n times the first is exact.
        let r = -bounded - n * 0.693_359_4 + n * 2.121_944_4e-4;
        let series = 1.0
            + r * (1.0
                + r * (0.5
                    + r * (1.0 / 6.0
                        + r * (1.0 / 24.0
                            + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)))))));
        let power = shifted
            .to_bits()
            .wrapping_sub(ROUND.to_bits())
            .wrapping_add(127)
            << 23;
        let e = series * f32::from_bits(power);
        if h > 87.0 { 0.0 } else { e }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn exponential() {
            for i in 0..=8700 {
                let h = i as f32 * 0.01;
                let exact = (-f64::from(h)).exp();
                let error = (f64::from(exp_of_minus(h)) - exact).abs() / exact;
                assert!(error < 2.5e-7, "exp(-{h}): off by {error}");
            }
            assert_eq!(exp_of_minus(0.0), 1.0);
            assert_eq!(exp_of_minus(1e30), 0.0);
            assert!(exp_of_minus(f32::NAN).is_nan());
        }

        #[test]
        fn every_instruction_set_computes_alike() {
            let x: Vec<f32> = (-80..80).map(|i| i as f32 * 0.1).collect();
            let results: Vec<Vec<f32>> = Level::available()
                .map(|level| {
                    let mut y = vec![0.0; x.len()];
                    level.run(Forward { x: &x, y: &mut y });
                    y
                })
                .collect();
            for other in &results[1..] {
                assert_eq!(&results[0], other);
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// From PyTorch 2.15 in double precision: `x = torch.tensor(X, dtype=torch.float64, requires_grad=True)`,
    /// `y = torch.nn.functional.gelu(x); y.sum().backward()`.
    const X: [f32; 11] = [
        -12.0, -5.0, -3.0, -1.0, -0.25, 0.0, 0.25, 1.0, 3.0, 5.0, 12.0,
    ];
    const Y: [f64; 11] = [
        -0.00000000e+00,
        -1.43325786e-06,
        -4.04969409e-03,
        -1.58655254e-01,
        -1.00323419e-01,
        0.00000000e+00,
        1.49676581e-01,
        8.41344746e-01,
        2.99595031e+00,
        4.99999857e+00,
        1.20000000e+01,
    ];
    const DY: [f64; 11] = [
        -2.57566048e-31,
        -7.14694600e-06,
        -1.19456472e-02,
        -8.33154706e-02,
        3.04626645e-01,
        5.00000000e-01,
        6.95373355e-01,
        1.08331547e+00,
        1.01194565e+00,
        1.00000715e+00,
        1.00000000e+00,
    ];

    #[test]
    fn values_and_derivatives_of_pytorch() {
        values_and_derivatives(&Device::flex(), &[gelu, by_erf]);
    }

    #[test]
    #[cfg(feature = "cube")]
    #[ignore = "needs a GPU; run scripts/gpu-tests.sh"]
    fn values_and_derivatives_of_pytorch_on_gpu() {
        values_and_derivatives(&cube::test_device(), &[gelu]);
    }

    fn values_and_derivatives(device: &Device, ways: &[fn(Tensor<2>) -> Tensor<2>]) {
        let device = device.clone().autodiff();
        let x = Tensor::<2>::from_data(TensorData::new(X.to_vec(), [11, 1]), &device);
        // Two columns, and a tensor in another order than its memory's.
        let x = Tensor::cat(vec![x.clone(), x], 1);
        let x = x.transpose().detach().require_grad();
        let close = |ours: Tensor<2>, theirs: &[f64]| {
            assert_eq!(ours.dims(), [2, 11]);
            let ours = ours.into_data().try_to_vec::<f32>().unwrap();
            for (ours, theirs) in ours.iter().zip(theirs.iter().chain(theirs)) {
                // 7.5e-8 of the formula times |x|, and f32's rounding.
                assert!(
                    (f64::from(*ours) - theirs).abs() < 4e-7,
                    "{ours} is not {theirs}"
                );
            }
        };
        for gelu in ways {
            // The gradient by the output comes in the order of a tensor of its own.
            let factors = Tensor::<2>::ones([2, 11], &device);
            let gradients = (gelu(x.clone()) * factors).sum().backward();
            close(x.grad(&gradients).unwrap(), &DY);
            close(gelu(x.clone().detach()), &Y);
            close(gelu(x.clone().inner()), &Y);
        }
    }

    /// f32 inside: only the input's and the output's rounding.
    #[test]
    #[cfg(feature = "cube")]
    #[ignore = "needs a GPU; run scripts/gpu-tests.sh"]
    fn half_precision_on_gpu() {
        use burn::tensor::DType;
        let device = cube::test_device();
        for (dtype, relative) in [(DType::F16, 1.0 / 2048.0), (DType::BF16, 1.0 / 256.0)] {
            if !device.supports_dtype(dtype) {
                continue;
            }
            let x = Tensor::<1>::from_data(TensorData::new(X.to_vec(), [11]), &device);
            let y = gelu(x.cast(dtype));
            assert_eq!(y.dtype(), dtype);
            let y = y.cast(DType::F32).into_data().try_to_vec::<f32>().unwrap();
            for (ours, theirs) in y.iter().zip(Y) {
                let error = (f64::from(*ours) - theirs).abs();
                assert!(
                    error <= relative * theirs.abs() + 4e-7,
                    "{ours} is not {theirs}"
                );
            }
        }
    }

    #[test]
    fn as_burns_over_several_tasks() {
        let device = Device::flex();
        let x = Tensor::<1, burn::tensor::Int>::arange(0..40_000i64, &device).float() * 3e-4 - 6.0;
        let ours = gelu(x.clone()).into_data();
        let burns = burn::tensor::activation::gelu(x).into_data();
        ours.assert_approx_eq::<f32>(&burns, burn::tensor::Tolerance::absolute(5e-7));
        let empty = Tensor::<1>::zeros([0], &device);
        assert_eq!(gelu(empty).dims(), [0]);
    }
}
