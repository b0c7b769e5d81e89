//! Layer normalisation (Ba et al. 2016, arXiv 1607.06450) over the last axis.
//!
//! burn 0.22.1 composes it, and its gradients, of a dozen passes over the tensor. Here the output is one pass and the three gradients are
//! one; mean and deviation of a row are formed again for the gradients rather than kept.

use burn::tensor::{Tensor, module};

#[cfg(feature = "cube")]
use super::cube;
#[cfg(feature = "flex")]
use super::flex;
use super::precision::in_f32;
#[cfg(feature = "cube")]
use super::precision::widened;

/// γ (x − mean) / √(variance + ε) + β, mean and variance (of all values, divided by their number) those of the row.
///
/// # Shapes
/// * x: `[.., channels]`
/// * gamma, beta: `[channels]`
/// * output: `[.., channels]`
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    assert_eq!(x.dims()[D - 1], gamma.dims()[0], "channels of the rows");
    #[cfg(feature = "cube")]
    if cube::is_float(&x) {
        return extension::layer_norm(x, widened(gamma), widened(beta), epsilon);
    }
    in_f32(x, |x| {
        #[cfg(feature = "flex")]
        if flex::is_f32(&x) {
            return extension::layer_norm(x, gamma, beta, epsilon);
        }
        module::layer_norm(x, gamma, Some(beta), epsilon)
    })
}

#[cfg(any(feature = "flex", feature = "cube"))]
pub(super) use extension::RowNorm;

#[cfg(any(feature = "flex", feature = "cube"))]
mod extension {
    use burn::backend::autodiff::NodeId;
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
    use burn::tensor::Tensor;

    pub(super) fn layer_norm<const D: usize>(
        x: Tensor<D>,
        gamma: Tensor<1>,
        beta: Tensor<1>,
        epsilon: f64,
    ) -> Tensor<D> {
        Tensor::from_dispatch(Dispatch::row_norm(
            x.into_dispatch(),
            gamma.into_dispatch(),
            beta.into_dispatch(),
            epsilon,
        ))
    }

    /// Layer normalisation on the backends that have one of ours.
    #[backend_extension(
        Cube: cfg(feature = "cube"),
        Flex: cfg(feature = "flex"),
        Autodiff,
        Fusion: cfg(feature = "cube")
    )]
    pub trait RowNorm: Backend {
        /// γ (x − mean) / √(variance + ε) + β of each row.
        #[fusion(dtype = x, shape = x)]
        fn row_norm(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            epsilon: f64,
        ) -> FloatTensor<Self>;

        /// The gradients by `x`, γ and β, given the one by the output.
        #[fusion(meta = |x, gamma, _dy, _epsilon| (x.clone(), gamma.clone(), gamma.clone()))]
        fn row_norm_gradients(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            dy: FloatTensor<Self>,
            epsilon: f64,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    }

    impl<B: Backend + RowNorm, C: CheckpointStrategy> RowNorm for Autodiff<B, C> {
        fn row_norm(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            epsilon: f64,
        ) -> FloatTensor<Self> {
            let prep = RowNormBackward
                .prepare::<C>([x.node(), gamma.node(), beta.node()])
                .compute_bound()
                .stateful();
            match prep {
                OpsKind::Tracked(mut prep) => {
                    let nodes = [prep.checkpoint(&x), prep.checkpoint(&gamma)];
                    let [x, gamma, beta] = [x, gamma, beta].map(|tensor| tensor.into_primitive());
                    prep.finish((nodes, epsilon), B::row_norm(x, gamma, beta, epsilon))
                }
                OpsKind::UnTracked(prep) => {
                    let [x, gamma, beta] = [x, gamma, beta].map(|tensor| tensor.into_primitive());
                    prep.finish(B::row_norm(x, gamma, beta, epsilon))
                }
            }
        }

        fn row_norm_gradients(
            _: FloatTensor<Self>,
            _: FloatTensor<Self>,
            _: FloatTensor<Self>,
            _: f64,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
            panic!("the gradients of layer normalisation cannot be differentiated");
        }
    }

    #[derive(Debug)]
    struct RowNormBackward;

    impl<B: Backend + RowNorm> Backward<B, 3> for RowNormBackward {
        type State = ([NodeId; 2], f64);

        fn backward(
            self,
            ops: Ops<Self::State, 3>,
            grads: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let dy = grads.consume::<B>(&ops.node);
            let ([x, gamma], epsilon) = ops.state;
            let x = checkpointer.retrieve_node_output(x);
            let gamma = checkpointer.retrieve_node_output(gamma);
            let (dx, dgamma, dbeta) = B::row_norm_gradients(x, gamma, dy, epsilon);
            for (node, gradient) in ops.parents.into_iter().zip([dx, dgamma, dbeta]) {
                if let Some(node) = node {
                    grads.register::<B>(node.id, gradient);
                }
            }
        }
    }
}

#[cfg(feature = "flex")]
mod on_flex {
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Flex, TensorMetadata};
    use rayon::prelude::*;

    use super::super::flex::{contiguous, slice, tensor};
    use super::super::parallel::by_chunks;
    use super::super::simd::{Kernel, Level, Simd};
    use super::RowNorm;

    impl RowNorm for Flex {
        fn row_norm(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            epsilon: f64,
        ) -> FloatTensor<Self> {
            let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
            let (gamma, beta) = (slice(&gamma), slice(&beta));
            let run = run_of(gamma.len());
            let level = Level::best();
            let numbers = slice(&x);
            let y = by_chunks(numbers.len(), run, |i, y| {
                level.run(Forward {
                    x: &numbers[i * run..][..y.len()],
                    gamma,
                    beta,
                    epsilon,
                    y,
                });
            });
            tensor(y, x.shape().to_vec())
        }

        fn row_norm_gradients(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            dy: FloatTensor<Self>,
            epsilon: f64,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
            let (x, gamma, dy) = (contiguous(x), contiguous(gamma), contiguous(dy));
            let gamma = slice(&gamma);
            let channels = gamma.len();
            let run = run_of(channels);
            let level = Level::best();
            let mut dx = vec![0.0; slice(&x).len()];
            let sums: Vec<Vec<f32>> = dx
                .par_chunks_mut(run)
                .zip(slice(&x).par_chunks(run).zip(slice(&dy).par_chunks(run)))
                .map(|(dx, (x, dy))| {
                    // That by γ, then that by β.
                    let mut sums = vec![0.0; 2 * channels];
                    level.run(Gradients {
                        x,
                        gamma,
                        dy,
                        epsilon,
                        dx,
                        sums: &mut sums,
                    });
                    sums
                })
                .collect();
            let total = |i: usize| sums.iter().map(|sums| f64::from(sums[i])).sum::<f64>() as f32;
            let dgamma = (0..channels).map(total).collect();
            let dbeta = (channels..2 * channels).map(total).collect();
            (
                tensor(dx, x.shape().to_vec()),
                tensor(dgamma, vec![channels]),
                tensor(dbeta, vec![channels]),
            )
        }
    }

    /// Numbers of a task: whole rows.
    fn run_of(channels: usize) -> usize {
        (1usize << 13).div_ceil(channels) * channels
    }

    struct Forward<'a> {
        x: &'a [f32],
        gamma: &'a [f32],
        beta: &'a [f32],
        epsilon: f64,
        y: &'a mut [f32],
    }

    impl Kernel for Forward<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let channels = self.gamma.len();
            let rows = self.x.chunks_exact(channels);
            for (x, y) in rows.zip(self.y.chunks_exact_mut(channels)) {
                let (mean, inverse) = moments(x, self.epsilon);
                let parameters = self.gamma.iter().zip(self.beta);
                for ((y, x), (gamma, beta)) in y.iter_mut().zip(x).zip(parameters) {
                    *y = (x - mean) * inverse * gamma + beta;
                }
            }
        }
    }

    struct Gradients<'a> {
        x: &'a [f32],
        gamma: &'a [f32],
        dy: &'a [f32],
        epsilon: f64,
        dx: &'a mut [f32],
        sums: &'a mut [f32],
    }

    impl Kernel for Gradients<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let gamma = self.gamma;
            let channels = gamma.len();
            let (dgamma, dbeta) = self.sums.split_at_mut(channels);
            let rows = self
                .x
                .chunks_exact(channels)
                .zip(self.dy.chunks_exact(channels));
            for ((x, dy), dx) in rows.zip(self.dx.chunks_exact_mut(channels)) {
                let (mean, inverse) = moments(x, self.epsilon);
                // dx = (γ dy − mean (γ dy) − x̂ mean (γ dy x̂)) / deviation
                let share = 1.0 / channels as f32;
                let mean_of_g = sum(channels, |c| gamma[c] * dy[c]) * share;
                let along = |c: usize| gamma[c] * dy[c] * (x[c] - mean);
                let slope = sum(channels, along) * share * inverse * inverse;
                for c in 0..channels {
                    let centred = x[c] - mean;
                    dx[c] = inverse * (gamma[c] * dy[c] - mean_of_g - centred * slope);
                    dgamma[c] += dy[c] * (centred * inverse);
                    dbeta[c] += dy[c];
                }
            }
        }
    }

    /// Mean and 1 / √(variance + ε).
    #[inline(always)]
    fn moments(x: &[f32], epsilon: f64) -> (f32, f32) {
        let share = 1.0 / x.len() as f32;
        let mean = sum(x.len(), |c| x[c]) * share;
        let variance = sum(x.len(), |c| (x[c] - mean) * (x[c] - mean)) * share;
        (mean, 1.0 / (variance + epsilon as f32).sqrt())
    }

    /// Sum of `term(0)`, …, `term(n − 1)`: in eight strands, so that it is one of vectors.
    #[inline(always)]
    fn sum(n: usize, term: impl Fn(usize) -> f32) -> f32 {
        const STRANDS: usize = 8;
        let mut strands = [0.0f32; STRANDS];
        let whole = n / STRANDS * STRANDS;
        for start in (0..whole).step_by(STRANDS) {
            for (i, strand) in strands.iter_mut().enumerate() {
                *strand += term(start + i);
            }
        }
        let [a, b, c, d, e, f, g, h] = strands;
        let rest: f32 = (whole..n).map(term).sum();
        ((a + e) + (b + f)) + ((c + g) + (d + h)) + rest
    }
}

#[cfg(all(test, any(feature = "flex", feature = "cube")))]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Values and gradients against Ba et al.'s formulas in double precision.
    fn check(device: &Device) {
        let device = device.clone().autodiff();
        let epsilon = 1e-3;
        for (rows, channels) in [
            (7, 1),
            (5, 3),
            (3, 5),
            (23, 8),
            (2, 12),
            (1500, 40),
            (9, 385),
        ] {
            let number = |i: usize| ((i * 37 % 101) as f32 * 0.7).sin();
            // Rows far from zero, as after a bias.
            let x: Vec<f32> = (0..rows * channels)
                .map(|i| number(i) + (i / channels) as f32 % 5.0)
                .collect();
            let dy: Vec<f32> = (0..x.len()).map(|i| number(i + 7)).collect();
            let gamma: Vec<f32> = (0..channels).map(|c| 0.5 + number(c + 3)).collect();
            let beta: Vec<f32> = (0..channels).map(|c| number(c + 5)).collect();
            let n = channels as f64;
            let mut y = Vec::new();
            let mut dx = Vec::new();
            let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
            for (x, dy) in x.chunks(channels).zip(dy.chunks(channels)) {
                let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
                let dy: Vec<f64> = dy.iter().map(|dy| f64::from(*dy)).collect();
                let mean = x.iter().sum::<f64>() / n;
                let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                let deviation = (variance + epsilon).sqrt();
                let normal: Vec<f64> = x.iter().map(|x| (x - mean) / deviation).collect();
                let g: Vec<f64> = (0..channels).map(|c| f64::from(gamma[c]) * dy[c]).collect();
                let mean_of_g = g.iter().sum::<f64>() / n;
                let along = g.iter().zip(&normal).map(|(g, normal)| g * normal);
                let along = along.sum::<f64>() / n;
                for c in 0..channels {
                    y.push(normal[c] * f64::from(gamma[c]) + f64::from(beta[c]));
                    dx.push((g[c] - mean_of_g - normal[c] * along) / deviation);
                    dgamma[c] += dy[c] * normal[c];
                    dbeta[c] += dy[c];
                }
            }
            let shape = [rows, channels];
            let vector = |numbers: Vec<f32>| {
                Tensor::<1>::from_data(TensorData::new(numbers, [channels]), &device).require_grad()
            };
            let (gamma, beta) = (vector(gamma), vector(beta));
            let in_order = Tensor::<2>::from_data(TensorData::new(x, shape), &device);
            let across = (in_order.clone().transpose() * 1.0).transpose();
            for x in [in_order, across] {
                let x = x.detach().require_grad();
                let output = layer_norm(x.clone(), gamma.clone(), beta.clone(), epsilon);
                let factors = Tensor::<2>::from_data(TensorData::new(dy.clone(), shape), &device);
                let gradients = (output.clone() * factors).sum().backward();
                let name = format!("{shape:?}");
                close(&format!("{name}: output"), output, &y);
                close(&format!("{name}: by x"), x.grad(&gradients).unwrap(), &dx);
                close(
                    &format!("{name}: by γ"),
                    gamma.grad(&gradients).unwrap(),
                    &dgamma,
                );
                close(
                    &format!("{name}: by β"),
                    beta.grad(&gradients).unwrap(),
                    &dbeta,
                );
            }
        }
    }

    fn close<const D: usize>(name: &str, ours: Tensor<D>, exact: &[f64]) {
        let ours = ours.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(ours.len(), exact.len(), "{name}");
        let scale = exact.iter().fold(1.0f64, |scale, x| scale.max(x.abs()));
        for (ours, exact) in ours.iter().zip(exact) {
            let error = (f64::from(*ours) - exact).abs();
            assert!(error < 5e-6 * scale, "{name}: {ours} is not {exact}");
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn as_the_formulas() {
        check(&Device::flex());
    }

    #[cfg(feature = "cube")]
    #[test]
    #[ignore = "needs a GPU; run scripts/gpu-tests.sh"]
    fn as_the_formulas_on_gpu() {
        check(&cube::test_device());
    }
}
