//! Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) followed by an optional ReLU.
//!
//! burn-flex 0.22.1 takes a dozen passes over the map in one thread. Here it is two passes for the moments and one for the output, in
//! all threads, and two for the gradients. Parameters and running statistics are those of burn's [`BatchNorm`].

use burn::module::RunningState;
use burn::nn::BatchNorm;
use burn::tensor::Tensor;

use super::checkpoint;
#[cfg(feature = "flex")]
use super::flex;
use super::precision::in_f32;
use super::recorded::relu;
use crate::summary::trace::{Kind, unary};

/// `norm.forward(x)`, and a ReLU of it if `with_relu`.
///
/// # Shapes
/// `[batch, channels, height, width]` → the same
pub fn forward(norm: &BatchNorm, x: Tensor<4>, with_relu: bool) -> Tensor<4> {
    let apart;
    let norm = match checkpoint::runs_again() {
        true => {
            apart = with_statistics_apart(norm);
            &apart
        }
        false => norm,
    };
    in_f32(x, |x| normalised(norm, x, with_relu))
}

fn normalised(norm: &BatchNorm, x: Tensor<4>, with_relu: bool) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if flex::is_f32(&x) && x.device().is_autodiff() && norm.training.is_enabled() {
        return on_flex::train(norm, x, with_relu);
    }
    let kind = || Kind::plain("BatchNormalization").of(norm);
    let y = unary(kind, x, |x| norm.forward(x));
    if with_relu { relu(y) } else { y }
}

/// The same, whose running statistics are its own: they have taken this batch in already.
fn with_statistics_apart(norm: &BatchNorm) -> BatchNorm {
    BatchNorm {
        running_mean: RunningState::new(norm.running_mean.value()),
        running_var: RunningState::new(norm.running_var.value()),
        ..norm.clone()
    }
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
    use burn::nn::BatchNorm;
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use super::super::flex::{contiguous, slice, tensor};
    use super::super::parallel::by_chunks;

    /// Normalises by the moments of the batch and takes them into the running ones, as burn does.
    pub(super) fn train(norm: &BatchNorm, x: Tensor<4>, with_relu: bool) -> Tensor<4> {
        let device = x.device();
        let inner: FloatTensor<Flex> = x
            .clone()
            .inner()
            .try_into_primitive::<Flex>()
            .expect("on flex, as checked before");
        let moments = Moments::of(&contiguous(inner));
        let running = [
            (&norm.running_mean, &moments.mean),
            (&norm.running_var, &moments.variance),
        ];
        for (running, batch) in running {
            let batch = Tensor::<1>::from_floats(batch.as_slice(), &device);
            let old = running.value_sync().to_device(&device);
            let new = old * (1.0 - norm.momentum) + batch * norm.momentum;
            running.update(new.detach());
        }
        let scaled = Normalisation {
            inverse_deviation: moments.inverse_deviation(norm.epsilon),
            mean: moments.mean,
            with_relu,
        };
        Tensor::from_dispatch(Dispatch::normalise(
            x.into_dispatch(),
            norm.gamma.val().into_dispatch(),
            norm.beta.val().into_dispatch(),
            scaled,
        ))
    }

    /// Mean and variance (divided by the number of pixels) of every channel.
    struct Moments {
        mean: Vec<f32>,
        variance: Vec<f32>,
    }

    impl Moments {
        fn of(x: &FloatTensor<Flex>) -> Self {
            let planes = Planes::of(x);
            let x = slice(x);
            let n = planes.pixels_of_channel();
            let (mean, variance) = (0..planes.channels)
                .into_par_iter()
                .map(|channel| {
                    let sum = |term: &dyn Fn(&[f32]) -> f64| {
                        let places = planes.of_channel(channel);
                        places.map(|place| term(&x[place])).sum::<f64>()
                    };
                    let mean = (sum(&|x| sum_of(x, x, |x, _| x)) / n) as f32;
                    let square = |x: f32, _| (x - mean) * (x - mean);
                    let variance = sum(&|x| sum_of(x, x, square)) / n;
                    (mean, variance as f32)
                })
                .unzip();
            Self { mean, variance }
        }

        fn inverse_deviation(&self, epsilon: f64) -> Vec<f32> {
            let invert = |v: &f32| (1.0 / (f64::from(*v) + epsilon).sqrt()) as f32;
            self.variance.iter().map(invert).collect()
        }
    }

    /// `[batch, channels, pixels]` in memory.
    #[derive(Clone, Copy)]
    struct Planes {
        batch: usize,
        channels: usize,
        pixels: usize,
    }

    impl Planes {
        fn of(x: &FloatTensor<Flex>) -> Self {
            let [batch, channels, height, width] = x.shape().dims();
            let pixels = height * width;
            Self {
                batch,
                channels,
                pixels,
            }
        }

        fn pixels_of_channel(&self) -> f64 {
            (self.batch * self.pixels) as f64
        }

        fn of_channel(self, channel: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
            (0..self.batch).map(move |map| {
                let start = (map * self.channels + channel) * self.pixels;
                start..start + self.pixels
            })
        }
    }

    /// Sum over pixels of `term` of both slices: in sixteen strands, so that it is one of vectors, and exact enough for a plane.
    #[inline]
    fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
        let mut strands = [0.0f32; 16];
        for (a, b) in a.iter().zip(b) {
            for i in 0..16 {
                strands[i] += term(a[i], b[i]);
            }
        }
        let rest = a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b));
        strands.into_iter().chain(rest).map(f64::from).sum()
    }

    /// How every channel is normalised before `gamma` and `beta`.
    #[derive(Clone, Debug)]
    pub struct Normalisation {
        mean: Vec<f32>,
        /// 1 / √(variance + ε)
        inverse_deviation: Vec<f32>,
        with_relu: bool,
    }

    /// Normalisation that runs on the flex backend only.
    #[backend_extension(Flex, Autodiff)]
    pub trait Normalise: Backend {
        /// γ (x − mean) / deviation + β, differentiated as if mean and deviation were computed here from `x`.
        fn normalise(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            by: Normalisation,
        ) -> FloatTensor<Self>;
    }

    impl Normalise for Flex {
        fn normalise(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            by: Normalisation,
        ) -> FloatTensor<Self> {
            let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
            let planes = Planes::of(&x);
            let y = by_chunks(slice(&x).len(), planes.pixels, |plane, y| {
                let x = &slice(&x)[plane * planes.pixels..];
                let channel = plane % planes.channels;
                let mean = by.mean[channel];
                let scale = slice(&gamma)[channel] * by.inverse_deviation[channel];
                let beta = slice(&beta)[channel];
                // NaN is kept, as by burn's ReLU.
                let least = if by.with_relu { 0.0 } else { f32::NEG_INFINITY };
                for (y, x) in y.iter_mut().zip(x) {
                    let value = (x - mean) * scale + beta;
                    *y = if value < least { least } else { value };
                }
            });
            tensor(y, x.shape().to_vec())
        }
    }

    impl<C: CheckpointStrategy> Normalise for Autodiff<Flex, C> {
        fn normalise(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            by: Normalisation,
        ) -> FloatTensor<Self> {
            let prep = NormaliseBackward
                .prepare::<C>([x.node(), gamma.node(), beta.node()])
                .compute_bound()
                .stateful();
            match prep {
                OpsKind::Tracked(mut prep) => {
                    let nodes = [&x, &gamma, &beta].map(|tensor| prep.checkpoint(tensor));
                    let [x, gamma, beta] = [x, gamma, beta].map(|tensor| tensor.into_primitive());
                    let y = Flex::normalise(x, gamma, beta, by.clone());
                    prep.finish((nodes, by), y)
                }
                OpsKind::UnTracked(prep) => {
                    let [x, gamma, beta] = [x, gamma, beta].map(|tensor| tensor.into_primitive());
                    prep.finish(Flex::normalise(x, gamma, beta, by))
                }
            }
        }
    }

    #[derive(Debug)]
    struct NormaliseBackward;

    impl Backward<Flex, 3> for NormaliseBackward {
        type State = ([NodeId; 3], Normalisation);

        fn backward(
            self,
            ops: Ops<Self::State, 3>,
            grads: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let dy = contiguous(grads.consume::<Flex>(&ops.node));
            let (nodes, by) = ops.state;
            let mut retrieve =
                |node| -> FloatTensor<Flex> { contiguous(checkpointer.retrieve_node_output(node)) };
            let [x, gamma, beta] = nodes.map(&mut retrieve);
            let planes = Planes::of(&x);
            let (gammas, betas) = (slice(&gamma), slice(&beta));
            let (xs, dys) = (slice(&x), slice(&dy));
            // The gradient before the ReLU: that of pixels whose output is above 0.
            let masked = |channel: usize| {
                let (mean, inverse) = (by.mean[channel], by.inverse_deviation[channel]);
                let (scale, beta) = (gammas[channel] * inverse, betas[channel]);
                let least = if by.with_relu { 0.0 } else { f32::NEG_INFINITY };
                move |x: f32, dy: f32| {
                    if (x - mean) * scale + beta > least {
                        dy
                    } else {
                        0.0
                    }
                }
            };
            let (dgamma, dbeta): (Vec<f64>, Vec<f64>) = (0..planes.channels)
                .into_par_iter()
                .map(|channel| {
                    let (mean, inverse) = (by.mean[channel], by.inverse_deviation[channel]);
                    let masked = masked(channel);
                    let normalised = |x, dy| masked(x, dy) * ((x - mean) * inverse);
                    let places = planes.of_channel(channel);
                    let sums = places.map(|place| {
                        let (x, dy) = (&xs[place.clone()], &dys[place]);
                        (sum_of(x, dy, normalised), sum_of(x, dy, masked))
                    });
                    sums.fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y))
                })
                .unzip();
            let single = |sums: &[f64]| sums.iter().map(|sum| *sum as f32).collect();
            let [x_node, gamma_node, beta_node] = ops.parents.map(|node| node.map(|node| node.id));
            if let Some(node) = x_node {
                let n = planes.pixels_of_channel();
                let dx = by_chunks(xs.len(), planes.pixels, |plane, dx| {
                    let channel = plane % planes.channels;
                    let (mean, inverse) = (by.mean[channel], by.inverse_deviation[channel]);
                    let scale = gammas[channel] * inverse;
                    // dx = γ / deviation · (dy − mean dy − x̂ · mean (x̂ dy))
                    let mean_dy = (dbeta[channel] / n) as f32;
                    let slope = inverse * (dgamma[channel] / n) as f32;
                    let masked = masked(channel);
                    let start = plane * planes.pixels;
                    let (x, dy) = (&xs[start..][..dx.len()], &dys[start..][..dx.len()]);
                    for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
                        *dx = scale * (masked(*x, *dy) - mean_dy - (x - mean) * slope);
                    }
                });
                grads.register::<Flex>(node, tensor(dx, x.shape().to_vec()));
            }
            if let Some(node) = gamma_node {
                grads.register::<Flex>(node, tensor(single(&dgamma), vec![planes.channels]));
            }
            if let Some(node) = beta_node {
                grads.register::<Flex>(node, tensor(single(&dbeta), vec![planes.channels]));
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::Module;
    use burn::nn::BatchNormConfig;
    use burn::tensor::{Device, Distribution};

    use super::*;

    fn close<const D: usize>(what: &str, ours: Tensor<D>, burns: Tensor<D>) {
        assert_eq!(ours.dims(), burns.dims(), "{what}");
        let vec = |t: Tensor<D>| t.into_data().try_to_vec::<f32>().unwrap();
        let (ours, burns) = (vec(ours), vec(burns));
        let scale = burns.iter().fold(1.0f32, |scale, x| scale.max(x.abs()));
        for (ours, burns) in ours.iter().zip(&burns) {
            assert!(
                (ours - burns).abs() < 3e-6 * scale,
                "{what}: {ours}, {burns}"
            );
        }
    }

    #[test]
    fn as_burns_in_training() {
        let device = Device::flex().autodiff();
        device.seed(5);
        for with_relu in [false, true] {
            // Another mean and deviation for each channel; 3·5·7 pixels are not whole vectors.
            let x = Tensor::<4>::random([3, 4, 5, 7], Distribution::Normal(0.0, 1.0), &device);
            let channel = Tensor::<1>::from_floats([-2.0, 0.1, 1.0, 30.0], &device);
            let channel = channel.reshape([1, 4, 1, 1]);
            let x = (x * (channel.clone() * 0.3 + 1.0) + channel)
                .detach()
                .require_grad();
            let new = || {
                let mut norm = BatchNormConfig::new(4).init(&device);
                let set = |values: [f32; 4]| Tensor::<1>::from_floats(values, &device);
                norm.gamma = norm
                    .gamma
                    .map(|_| set([0.5, -1.5, 2.0, 1.0]).require_grad());
                norm.beta = norm.beta.map(|_| set([0.1, 0.7, -0.4, 0.0]).require_grad());
                norm
            };
            let run = |ours: bool| {
                let norm = new();
                let y = match (ours, with_relu) {
                    (true, _) => forward(&norm, x.clone(), with_relu),
                    (false, true) => relu(norm.forward(x.clone())),
                    (false, false) => norm.forward(x.clone()),
                };
                let n = y.shape().num_elements() as i64;
                let factors = Tensor::arange(0..n, &device).float().sin();
                let gradients = (y.clone() * factors.reshape(y.dims())).sum().backward();
                let of = |parameter: Tensor<1>| parameter.grad(&gradients).unwrap();
                let moments = [&norm.running_mean, &norm.running_var];
                (
                    [y.inner(), x.grad(&gradients).unwrap()],
                    [of(norm.gamma.val()), of(norm.beta.val())],
                    moments.map(|moment| moment.value_sync().inner()),
                )
            };
            let (ours, burns) = (run(true), run(false));
            let [y, dx] = ours.0;
            let [burns_y, burns_dx] = burns.0;
            close("output", y, burns_y);
            close("input gradient", dx, burns_dx);
            let pairs = ours.1.into_iter().chain(ours.2);
            for (ours, burns) in pairs.zip(burns.1.into_iter().chain(burns.2)) {
                close("parameter gradients and running moments", ours, burns);
            }
        }
    }

    #[test]
    fn running_moments_serve_outside_training() {
        let device = Device::flex().autodiff();
        let norm = BatchNormConfig::new(2).init(&device);
        let x = Tensor::<4>::random([2, 2, 3, 5], Distribution::Normal(3.0, 2.0), &device);
        forward(&norm, x.clone(), false);
        let norm = norm.valid();
        let x = x.inner();
        close(
            "output",
            forward(&norm, x.clone(), true),
            relu(norm.forward(x)),
        );
    }
}
