//! `x W + b` of rows, a linear layer.
//!
//! burn-flex 0.22.1 adds the bias, and sums its gradient, in passes of their own and in one thread.

use burn::tensor::{Tensor, module};

#[cfg(feature = "flex")]
use super::flex;

/// As burn's function of that name.
///
/// # Shapes
/// * x: `[…, features in]`
/// * weight: `[features in, features out]`
/// * bias: `[features out]`
/// * output: `[…, features out]`
pub(super) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(bias) = &bias
        && flex::is_f32(&x)
        && flex::is_f32(&weight)
        && flex::is_f32(bias)
        && x.shape().num_elements() * weight.shape().num_elements() > 0
    {
        return on_flex::linear(x, weight, bias.clone());
    }
    module::linear(x, weight, bias)
}

#[cfg(feature = "flex")]
mod on_flex {
    use burn::backend::autodiff::NodeId;
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use super::super::flex::{contiguous, slice, tensor};
    use super::super::matrix::{Matrix, multiply_in_parallel};
    use super::super::parallel::{by_chunks, zeros};

    pub(super) fn linear<const D: usize>(
        x: Tensor<D>,
        weight: Tensor<2>,
        bias: Tensor<1>,
    ) -> Tensor<D> {
        Tensor::from_dispatch(Dispatch::biased_linear(
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
        ))
    }

    /// A linear layer that runs on the flex backend only.
    #[backend_extension(Flex, Autodiff)]
    pub trait BiasedLinear: Backend {
        /// `x W + b`
        fn biased_linear(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
        ) -> FloatTensor<Self>;
    }

    impl BiasedLinear for Flex {
        fn biased_linear(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
        ) -> FloatTensor<Self> {
            let (x, weight, bias) = (contiguous(x), contiguous(weight), contiguous(bias));
            let [k, n] = weight.shape().dims();
            let m = slice(&x).len() / k;
            let mut y = by_chunks(m * n, n * ROWS, |_, y| {
                for row in y.chunks_exact_mut(n) {
                    row.copy_from_slice(slice(&bias));
                }
            });
            let (a, b) = (rows(&x, k), rows(&weight, n));
            multiply_in_parallel([m, n, k], &mut y, a, b, true);
            let mut shape = x.shape().to_vec();
            *shape.last_mut().expect("a linear layer's input has axes") = n;
            tensor(y, shape)
        }
    }

    impl<C: CheckpointStrategy> BiasedLinear for Autodiff<Flex, C> {
        fn biased_linear(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
        ) -> FloatTensor<Self> {
            let prep = LinearBackward
                .prepare::<C>([x.node(), weight.node(), bias.node()])
                .compute_bound()
                .stateful();
            match prep {
                OpsKind::Tracked(mut prep) => {
                    let state = [prep.checkpoint(&x), prep.checkpoint(&weight)];
                    let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
                    prep.finish(state, Flex::biased_linear(x, weight, bias))
                }
                OpsKind::UnTracked(prep) => {
                    let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
                    prep.finish(Flex::biased_linear(x, weight, bias))
                }
            }
        }
    }

    #[derive(Debug)]
    struct LinearBackward;

    impl Backward<Flex, 3> for LinearBackward {
        type State = [NodeId; 2];

        fn backward(
            self,
            ops: Ops<Self::State, 3>,
            grads: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let dy = contiguous(grads.consume::<Flex>(&ops.node));
            let [x, weight]: [FloatTensor<Flex>; 2] = ops
                .state
                .map(|node| contiguous(checkpointer.retrieve_node_output(node)));
            let [k, n] = weight.shape().dims();
            let m = slice(&x).len() / k;
            let [x_node, weight_node, bias_node] = ops.parents.map(|node| node.map(|node| node.id));
            let (dx, dw) = rayon::join(
                || {
                    x_node.map(|node| {
                        let mut dx = zeros(m * k);
                        let b = rows(&weight, n).transposed();
                        multiply_in_parallel([m, k, n], &mut dx, rows(&dy, n), b, false);
                        (node, tensor(dx, x.shape().to_vec()))
                    })
                },
                || {
                    weight_node.map(|node| {
                        let mut dw = zeros(k * n);
                        let a = rows(&x, k).transposed();
                        multiply_in_parallel([k, n, m], &mut dw, a, rows(&dy, n), false);
                        (node, tensor(dw, vec![k, n]))
                    })
                },
            );
            for (node, gradient) in dx.into_iter().chain(dw) {
                grads.register::<Flex>(node, gradient);
            }
            if let Some(node) = bias_node {
                grads.register::<Flex>(node, tensor(column_sums(slice(&dy), n), vec![n]));
            }
        }
    }

    /// Rows of a task.
    const ROWS: usize = 64;

    fn rows(tensor: &FloatTensor<Flex>, columns: usize) -> Matrix<'_> {
        Matrix::rows_of(slice(tensor), columns)
    }

    /// Sums of the columns of rows of `n` numbers: of each run of rows, and of the runs in their order.
    fn column_sums(numbers: &[f32], n: usize) -> Vec<f32> {
        let runs: Vec<Vec<f32>> = numbers
            .par_chunks(n * ROWS)
            .map(|run| added(run.chunks_exact(n), n))
            .collect();
        added(runs.iter().map(Vec::as_slice), n)
    }

    fn added<'a>(rows: impl Iterator<Item = &'a [f32]>, n: usize) -> Vec<f32> {
        let mut sums = vec![0.0; n];
        for row in rows {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
        sums
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn as_burns() {
        let device = Device::flex().autodiff();
        device.seed(7);
        for [batch, rows, features_in, features_out] in
            [[1, 1, 1, 1], [3, 5, 7, 10], [2, 77, 19, 33]]
        {
            let random = |shape| Tensor::<3>::random(shape, Distribution::Default, &device);
            // A view: not in the order of memory.
            let x = random([features_in, rows, batch]).require_grad();
            let weight = random([1, features_in, features_out])
                .squeeze_dim::<2>(0)
                .detach()
                .require_grad();
            let bias = random([1, 1, features_out])
                .reshape([features_out])
                .detach()
                .require_grad();
            type Run = fn(Tensor<3>, Tensor<2>, Option<Tensor<1>>) -> Tensor<3>;
            let run = |linear: Run| {
                let y = linear(
                    x.clone().permute([2, 1, 0]),
                    weight.clone(),
                    Some(bias.clone()),
                );
                let n = y.shape().num_elements() as i64;
                let factors = Tensor::arange(0..n, &device).float().sin();
                let gradients = (y.clone() * factors.reshape(y.dims())).sum().backward();
                [
                    y.inner().into_data(),
                    x.grad(&gradients).unwrap().into_data(),
                    weight.grad(&gradients).unwrap().into_data(),
                    bias.grad(&gradients).unwrap().into_data(),
                ]
            };
            for (ours, burns) in run(linear).iter().zip(run(module::linear)) {
                ours.assert_approx_eq::<f32>(&burns, burn::tensor::Tolerance::absolute(2e-5));
            }
        }
    }
}
