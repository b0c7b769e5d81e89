//! Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) followed by an optional ReLU.
//!
//! burn 0.22.1 takes a dozen passes over the map, on the CPU in one thread. Here it is one or two passes for the moments and one for the
//! output, and two for the gradients. Parameters and running statistics are those of burn's [`BatchNorm`].

use burn::module::RunningState;
use burn::nn::BatchNorm;
use burn::tensor::Tensor;

use super::checkpoint;
#[cfg(feature = "cube")]
use super::cube;
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
    #[cfg(feature = "cube")]
    if cube::is_float(&x) && in_training(norm, &x) {
        return extension::train(norm, x, with_relu);
    }
    in_f32(x, |x| normalised(norm, x, with_relu))
}

/// Whether it normalises by the moments of the batch.
#[cfg(any(feature = "flex", feature = "cube"))]
fn in_training(norm: &BatchNorm, x: &Tensor<4>) -> bool {
    x.device().is_autodiff() && norm.training.is_enabled()
}

fn normalised(norm: &BatchNorm, x: Tensor<4>, with_relu: bool) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if flex::is_f32(&x) && in_training(norm, &x) {
        return extension::train(norm, x, with_relu);
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

#[cfg(any(feature = "flex", feature = "cube"))]
pub(super) use extension::TrainingNorm;

#[cfg(any(feature = "flex", feature = "cube"))]
mod extension {
    use burn::backend::autodiff::NodeId;
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
    use burn::nn::BatchNorm;
    #[cfg(feature = "cube")]
    use burn::tensor::DType;
    use burn::tensor::Tensor;

    use super::super::precision::widened;

    /// Normalises by the moments of the batch and takes them into the running ones, as burn does.
    pub(super) fn train(norm: &BatchNorm, x: Tensor<4>, with_relu: bool) -> Tensor<4> {
        let device = x.device();
        let (mean, variance) = Dispatch::channel_moments(x.clone().inner().into_dispatch());
        let moments = [mean, variance].map(Tensor::<1>::from_dispatch);
        for (running, batch) in [&norm.running_mean, &norm.running_var]
            .into_iter()
            .zip(&moments)
        {
            let old = running.value_sync().to_device(&device);
            let batch = Tensor::from_inner(batch.clone());
            let new = old * (1.0 - norm.momentum) + batch * norm.momentum;
            running.update(new.detach());
        }
        let parameters = [&norm.gamma, &norm.beta].map(|parameter| widened(parameter.val()));
        let [gamma, beta] = parameters.map(Tensor::into_dispatch);
        let [mean, variance] = moments.map(Tensor::into_dispatch);
        let x = x.into_dispatch();
        Tensor::from_dispatch(Dispatch::normalise(
            x,
            gamma,
            beta,
            mean,
            variance,
            norm.epsilon,
            with_relu,
        ))
    }

    /// Batch normalisation on the backends that have one of ours. Parameters and moments are f32 numbers `[channels]`.
    #[backend_extension(
        Cube: cfg(feature = "cube"),
        Flex: cfg(feature = "flex"),
        Autodiff,
        Fusion: cfg(feature = "cube")
    )]
    pub trait TrainingNorm: Backend {
        /// Mean and variance (divided by the number of cells) of every channel.
        #[fusion(meta = |x| (of_channels(x), of_channels(x)))]
        fn channel_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

        /// γ (x − mean) / √(variance + ε) + β, differentiated as if mean and variance were computed here from `x`.
        #[fusion(dtype = x, shape = x)]
        fn normalise(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            mean: FloatTensor<Self>,
            variance: FloatTensor<Self>,
            epsilon: f64,
            with_relu: bool,
        ) -> FloatTensor<Self>;

        /// The gradients by `x`, γ and β, given the one by the output.
        #[allow(clippy::too_many_arguments)]
        #[fusion(meta = |x, gamma, beta, _mean, _variance, _dy, _epsilon, _with_relu| {
            (x.clone(), gamma.clone(), beta.clone())
        })]
        fn normalise_gradients(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            mean: FloatTensor<Self>,
            variance: FloatTensor<Self>,
            dy: FloatTensor<Self>,
            epsilon: f64,
            with_relu: bool,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    }

    #[cfg(feature = "cube")]
    use burn::backend::fusion::custom::TensorSpec;

    /// What a moment of this tensor looks like.
    #[cfg(feature = "cube")]
    fn of_channels(x: &TensorSpec) -> TensorSpec {
        TensorSpec::new([x.shape[1]].into(), DType::F32)
    }

    impl<B: Backend + TrainingNorm, C: CheckpointStrategy> TrainingNorm for Autodiff<B, C> {
        fn channel_moments(_: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
            panic!("the moments of a batch are not differentiated on their own");
        }

        fn normalise(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            mean: FloatTensor<Self>,
            variance: FloatTensor<Self>,
            epsilon: f64,
            with_relu: bool,
        ) -> FloatTensor<Self> {
            let moments = [mean, variance].map(|moment| moment.into_primitive());
            let run = |[x, gamma, beta]: [FloatTensor<Self>; 3]| {
                let [mean, variance] = moments.clone();
                let (x, gamma, beta) = (
                    x.into_primitive(),
                    gamma.into_primitive(),
                    beta.into_primitive(),
                );
                B::normalise(x, gamma, beta, mean, variance, epsilon, with_relu)
            };
            let prep = NormaliseBackward
                .prepare::<C>([x.node(), gamma.node(), beta.node()])
                .compute_bound()
                .stateful();
            match prep {
                OpsKind::Tracked(mut prep) => {
                    let nodes = [&x, &gamma, &beta].map(|tensor| prep.checkpoint(tensor));
                    let y = run([x, gamma, beta]);
                    let state = State {
                        nodes,
                        moments,
                        epsilon,
                        with_relu,
                    };
                    prep.finish(state, y)
                }
                OpsKind::UnTracked(prep) => prep.finish(run([x, gamma, beta])),
            }
        }

        fn normalise_gradients(
            _: FloatTensor<Self>,
            _: FloatTensor<Self>,
            _: FloatTensor<Self>,
            _: FloatTensor<Self>,
            _: FloatTensor<Self>,
            _: FloatTensor<Self>,
            _: f64,
            _: bool,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
            panic!("the gradients of batch normalisation cannot be differentiated");
        }
    }

    #[derive(Debug)]
    struct NormaliseBackward;

    #[derive(Clone, Debug)]
    struct State<T> {
        /// `x`, γ and β.
        nodes: [NodeId; 3],
        /// Mean and variance.
        moments: [T; 2],
        epsilon: f64,
        with_relu: bool,
    }

    impl<B: Backend + TrainingNorm> Backward<B, 3> for NormaliseBackward {
        type State = State<FloatTensor<B>>;

        fn backward(
            self,
            ops: Ops<Self::State, 3>,
            grads: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let dy = grads.consume::<B>(&ops.node);
            let State {
                nodes,
                moments: [mean, variance],
                epsilon,
                with_relu,
            } = ops.state;
            let [x, gamma, beta] = nodes.map(|node| checkpointer.retrieve_node_output(node));
            let (dx, dgamma, dbeta) =
                B::normalise_gradients(x, gamma, beta, mean, variance, dy, epsilon, with_relu);
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
    use super::TrainingNorm;

    impl TrainingNorm for Flex {
        fn channel_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let x = contiguous(x);
            let planes = Planes::of(&x);
            let x = slice(&x);
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
            let of_channels = |moment| tensor(moment, vec![planes.channels]);
            (of_channels(mean), of_channels(variance))
        }

        fn normalise(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            mean: FloatTensor<Self>,
            variance: FloatTensor<Self>,
            epsilon: f64,
            with_relu: bool,
        ) -> FloatTensor<Self> {
            let [x, gamma, beta, mean] = [x, gamma, beta, mean].map(contiguous);
            let inverse_deviation = inverse_deviation(variance, epsilon);
            let planes = Planes::of(&x);
            let y = by_chunks(slice(&x).len(), planes.pixels, |plane, y| {
                let x = &slice(&x)[plane * planes.pixels..];
                let channel = plane % planes.channels;
                let mean = slice(&mean)[channel];
                let scale = slice(&gamma)[channel] * inverse_deviation[channel];
                let beta = slice(&beta)[channel];
                // NaN is kept, as by burn's ReLU.
                let least = if with_relu { 0.0 } else { f32::NEG_INFINITY };
                for (y, x) in y.iter_mut().zip(x) {
                    let value = (x - mean) * scale + beta;
                    *y = if value < least { least } else { value };
                }
            });
            tensor(y, x.shape().to_vec())
        }

        fn normalise_gradients(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            beta: FloatTensor<Self>,
            mean: FloatTensor<Self>,
            variance: FloatTensor<Self>,
            dy: FloatTensor<Self>,
            epsilon: f64,
            with_relu: bool,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
            let [x, gamma, beta, mean, dy] = [x, gamma, beta, mean, dy].map(contiguous);
            let inverse_deviation = inverse_deviation(variance, epsilon);
            let planes = Planes::of(&x);
            let (gammas, betas, means) = (slice(&gamma), slice(&beta), slice(&mean));
            let (xs, dys) = (slice(&x), slice(&dy));
            // The gradient before the ReLU: that of pixels whose output is above 0.
            let masked = |channel: usize| {
                let (mean, inverse) = (means[channel], inverse_deviation[channel]);
                let (scale, beta) = (gammas[channel] * inverse, betas[channel]);
                let least = if with_relu { 0.0 } else { f32::NEG_INFINITY };
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
                    let (mean, inverse) = (means[channel], inverse_deviation[channel]);
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
            let n = planes.pixels_of_channel();
            let dx = by_chunks(xs.len(), planes.pixels, |plane, dx| {
                let channel = plane % planes.channels;
                let (mean, inverse) = (means[channel], inverse_deviation[channel]);
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
            let of_channels = |sums: &[f64]| {
                let single = sums.iter().map(|sum| *sum as f32).collect();
                tensor(single, vec![planes.channels])
            };
            let dx = tensor(dx, x.shape().to_vec());
            (dx, of_channels(&dgamma), of_channels(&dbeta))
        }
    }

    /// 1 / √(variance + ε)
    fn inverse_deviation(variance: FloatTensor<Flex>, epsilon: f64) -> Vec<f32> {
        let invert = |v: &f32| (1.0 / (f64::from(*v) + epsilon).sqrt()) as f32;
        slice(&contiguous(variance)).iter().map(invert).collect()
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
}

#[cfg(all(test, any(feature = "flex", feature = "cube")))]
mod tests {
    use burn::module::Module;
    use burn::nn::BatchNormConfig;
    use burn::tensor::{Device, Distribution, TensorData};

    use super::*;

    #[cfg(feature = "flex")]
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

    #[cfg(feature = "flex")]
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

    #[cfg(feature = "flex")]
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

    /// Values, gradients and running moments against Ioffe & Szegedy's formulas in double precision.
    fn check(device: &Device) {
        let device = device.clone().autodiff();
        for shape in [
            [2, 3, 5, 7],
            [1, 1, 3, 4],
            [3, 8, 2, 5],
            [2, 12, 9, 4],
            [5, 40, 11, 23],
        ] {
            for with_relu in [false, true] {
                let [batch, channels, height, width] = shape;
                let cells = height * width;
                let number = |i: usize| ((i * 37 % 101) as f32 * 0.7).sin();
                let channel_of = |i: usize| i / cells % channels;
                // Another mean and deviation for each channel; the first cell far from the others.
                let x: Vec<f32> = (0..batch * channels * cells)
                    .map(|i| {
                        let c = channel_of(i) as f32;
                        let far = if i % (channels * cells) % cells == 0 {
                            9.0
                        } else {
                            0.0
                        };
                        number(i) * (1.0 + 0.2 * c) + 5.0 * (c % 7.0) + far
                    })
                    .collect();
                let dy: Vec<f32> = (0..x.len()).map(|i| number(i + 7)).collect();
                let gamma: Vec<f32> = (0..channels).map(|c| 0.3 + number(c + 3)).collect();
                let beta: Vec<f32> = (0..channels).map(|c| 0.5 * number(c + 5)).collect();
                let mut norm = BatchNormConfig::new(channels).init(&device);
                let vector = |numbers: &[f32]| {
                    Tensor::<1>::from_data(TensorData::new(numbers.to_vec(), [channels]), &device)
                };
                norm.gamma = norm.gamma.map(|_| vector(&gamma).require_grad());
                norm.beta = norm.beta.map(|_| vector(&beta).require_grad());
                let n = (batch * cells) as f64;
                let sum = |term: &dyn Fn(usize) -> f64| {
                    let mut sums = vec![0.0; channels];
                    for i in 0..x.len() {
                        sums[channel_of(i)] += term(i);
                    }
                    sums
                };
                let mean = sum(&|i| f64::from(x[i]) / n);
                let centred = |i: usize| f64::from(x[i]) - mean[channel_of(i)];
                let variance = sum(&|i| centred(i).powi(2) / n);
                let deviation = |i: usize| (variance[channel_of(i)] + norm.epsilon).sqrt();
                let scale = |i: usize| f64::from(gamma[channel_of(i)]) / deviation(i);
                let before = |i: usize| centred(i) * scale(i) + f64::from(beta[channel_of(i)]);
                let y = |i: usize| {
                    if with_relu {
                        before(i).max(0.0)
                    } else {
                        before(i)
                    }
                };
                let dy_before = |i: usize| match with_relu && before(i) <= 0.0 {
                    true => 0.0,
                    false => f64::from(dy[i]),
                };
                let dgamma = sum(&|i| dy_before(i) * centred(i) / deviation(i));
                let dbeta = sum(&dy_before);
                let dx = |i: usize| {
                    let c = channel_of(i);
                    let along = centred(i) / deviation(i) * dgamma[c] / n;
                    scale(i) * (dy_before(i) - dbeta[c] / n - along)
                };
                let all = |of: &dyn Fn(usize) -> f64| (0..x.len()).map(of).collect::<Vec<f64>>();

                let input = Tensor::<4>::from_data(TensorData::new(x.clone(), shape), &device);
                let input = input.require_grad();
                let output = forward(&norm, input.clone(), with_relu);
                let factors = Tensor::<4>::from_data(TensorData::new(dy.clone(), shape), &device);
                let gradients = (output.clone() * factors).sum().backward();
                let name = format!("{shape:?}, ReLU: {with_relu}");
                exact(&format!("{name}: output"), output, &all(&y));
                exact(
                    &format!("{name}: by x"),
                    input.grad(&gradients).unwrap(),
                    &all(&dx),
                );
                let by = |parameter: Tensor<1>| parameter.grad(&gradients).unwrap();
                exact(&format!("{name}: by γ"), by(norm.gamma.val()), &dgamma);
                exact(&format!("{name}: by β"), by(norm.beta.val()), &dbeta);
                let momentum = norm.momentum;
                let running = |old: f64, batch: &[f64]| -> Vec<f64> {
                    batch
                        .iter()
                        .map(|new| old * (1.0 - momentum) + new * momentum)
                        .collect()
                };
                let (means, variances) = (running(0.0, &mean), running(1.0, &variance));
                exact(
                    &format!("{name}: mean"),
                    norm.running_mean.value_sync(),
                    &means,
                );
                exact(
                    &format!("{name}: variance"),
                    norm.running_var.value_sync(),
                    &variances,
                );
            }
        }
    }

    fn exact<const D: usize>(name: &str, ours: Tensor<D>, exact: &[f64]) {
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
