//! AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2): burn's, in one pass on the CPU (flex).
//!
//! burn-flex 0.22.1 takes some fifteen passes over a parameter, each in one thread and with memory of its own.

use burn::optim::{AdamWConfig, AdamWState, LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::config::OptimConfig;

/// AdamW with the state of burn's, so that either continues the other's checkpoints.
#[derive(Clone)]
pub(super) struct AdamW {
    burns: burn::optim::AdamW,
    #[cfg_attr(not(feature = "flex"), allow(dead_code))]
    rates: Rates,
}

/// The numbers of an update that do not change from step to step.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "flex"), allow(dead_code))]
struct Rates {
    /// β₁ and β₂.
    betas: [f32; 2],
    /// ε
    epsilon: f32,
    /// λ; the learning rate's share of it is taken off the parameters.
    weight_decay: f32,
}

impl AdamW {
    pub(super) fn new(config: &OptimConfig, weight_decay: f32) -> Self {
        let burns = AdamWConfig::new()
            .with_beta_1(config.beta_1)
            .with_beta_2(config.beta_2)
            .with_epsilon(config.epsilon)
            .with_weight_decay(weight_decay);
        Self {
            burns: burns.build(),
            rates: Rates {
                betas: [config.beta_1, config.beta_2],
                epsilon: config.epsilon,
                weight_decay,
            },
        }
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        #[cfg(feature = "flex")]
        if super::on_flex::is_f32(&tensor) && super::on_flex::is_f32(&grad) {
            let (tensor, state) = fused::step(&self.rates, lr, tensor, grad, state);
            return (tensor, Some(state));
        }
        self.burns.step(lr, tensor, grad, state)
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        burn::optim::AdamW::to_device(state, device)
    }
}

#[cfg(feature = "flex")]
mod fused {
    use burn::optim::{AdamWState, AdaptiveMomentumState, LearningRate};
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use super::super::on_flex::{Numbers, RUN};
    use super::Rates;

    /// As burn's, number for number.
    pub(super) fn step<const D: usize>(
        rates: &Rates,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, AdamWState<D>) {
        let mut momentum = state.map_or_else(
            || AdaptiveMomentumState::new(0, grad.zeros_like(), grad.zeros_like()),
            |state| state.momentum,
        );
        momentum.time += 1;
        let correction = |beta: f32| 1.0 - beta.powi(momentum.time as i32);
        let update = Update {
            betas: rates.betas,
            corrections: rates.betas.map(correction),
            epsilon: rates.epsilon,
            kept: (1.0 - lr * f64::from(rates.weight_decay)) as f32,
            lr: lr as f32,
        };
        let mut parameters = Numbers::of(tensor);
        let mut moments = [momentum.moment_1, momentum.moment_2].map(Numbers::of);
        let gradients = Numbers::of(grad);
        let [first, second] = &mut moments;
        let (parameters_mut, first, second) =
            (parameters.as_mut(), first.as_mut(), second.as_mut());
        if parameters_mut.len() <= RUN {
            // Most parameters are short; waking the threads takes longer than these.
            update.apply(parameters_mut, first, second, gradients.as_ref());
        } else {
            parameters_mut
                .par_chunks_mut(RUN)
                .zip(first.par_chunks_mut(RUN))
                .zip(second.par_chunks_mut(RUN))
                .zip(gradients.as_ref().par_chunks(RUN))
                .for_each(|(((x, m), v), g)| update.apply(x, m, v, g));
        }
        [momentum.moment_1, momentum.moment_2] = moments.map(Numbers::into_tensor);
        (parameters.into_tensor(), AdamWState::new(momentum))
    }

    /// One step's update of a number.
    struct Update {
        betas: [f32; 2],
        /// 1 − βᵗ
        corrections: [f32; 2],
        epsilon: f32,
        /// 1 − lr · λ
        kept: f32,
        lr: f32,
    }

    impl Update {
        fn apply(&self, x: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
            let ([b1, b2], [c1, c2]) = (self.betas, self.corrections);
            let (a1, a2) = (1.0 - b1, 1.0 - b2);
            for (((x, m), v), g) in x.iter_mut().zip(m).zip(v).zip(g) {
                *m = *m * b1 + g * a1;
                *v = *v * b2 + g * g * a2;
                let delta = (*m / c1) / ((*v / c2).sqrt() + self.epsilon);
                *x = *x * self.kept - delta * self.lr;
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// Of step `step`, for a parameter of `n` numbers.
    fn gradient(step: usize, n: usize) -> Vec<f32> {
        let angle = |i: usize| (i * (step + 2)) as f32 * 0.37;
        (0..n)
            .map(|i| angle(i).sin() * 0.1f32.powi(i as i32 % 5))
            .collect()
    }

    fn config() -> OptimConfig {
        OptimConfig {
            beta_1: 0.8,
            beta_2: 0.95,
            epsilon: 1e-4,
            ..OptimConfig::default()
        }
    }

    const DECAY: f32 = 0.3;

    /// One small parameter, and one of several tasks of which the last is not full.
    const SHAPES: [[usize; 2]; 2] = [[3, 5], [5, 7001]];

    #[test]
    fn as_the_paper_s_algorithm() {
        for shape in SHAPES {
            let n = shape[0] * shape[1];
            let config = config();
            let optimizer = AdamW::new(&config, DECAY);
            let mut x: Vec<f64> = gradient(9, n).into_iter().map(f64::from).collect();
            let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
            let data = TensorData::new(gradient(9, n), shape);
            let mut ours = Tensor::<2>::from_data(data, &Device::flex());
            let mut state = None;
            for t in 0..4 {
                let lr = 0.1 / (t + 1) as f64;
                let g = gradient(t, n);
                let data = TensorData::new(g.clone(), shape);
                let grad = Tensor::from_data(data, &Device::flex());
                (ours, state) = optimizer.step(lr, ours, grad, state);
                let [b1, b2] = [config.beta_1, config.beta_2].map(f64::from);
                for i in 0..n {
                    let g = f64::from(g[i]);
                    m[i] = b1 * m[i] + (1.0 - b1) * g;
                    v[i] = b2 * v[i] + (1.0 - b2) * g * g;
                    let m = m[i] / (1.0 - b1.powi(t as i32 + 1));
                    let v = v[i] / (1.0 - b2.powi(t as i32 + 1));
                    let adam = m / (v.sqrt() + f64::from(config.epsilon));
                    x[i] -= lr * (adam + f64::from(DECAY) * x[i]);
                }
            }
            for (i, (ours, x)) in numbers(ours).into_iter().zip(x).enumerate() {
                assert!((f64::from(ours) - x).abs() < 1e-6, "{i}: {ours}, {x}");
            }
        }
    }

    #[test]
    fn continues_burns_and_is_continued_by_it() {
        for shape in SHAPES {
            let n = shape[0] * shape[1];
            let ours = AdamW::new(&config(), DECAY);
            let burns = ours.burns.clone();
            let tensor =
                |numbers| Tensor::<2>::from_data(TensorData::new(numbers, shape), &Device::flex());
            // `which` takes step t by ours.
            let run = |which: fn(usize) -> bool| {
                let (mut x, mut state) = (tensor(gradient(9, n)), None);
                for t in 0..4 {
                    let grad = tensor(gradient(t, n));
                    (x, state) = match which(t) {
                        true => ours.step(0.1, x, grad, state),
                        false => burns.step(0.1, x, grad, state),
                    };
                }
                numbers(x)
            };
            let expected = run(|_| false);
            for which in [|_| true, |t| t < 2, |t| t >= 2] {
                for (x, burns) in run(which).into_iter().zip(&expected) {
                    assert!((x - burns).abs() < 5e-7, "{x}, {burns}");
                }
            }
        }
    }

    #[test]
    fn what_shares_the_numbers_stays_as_it_is() {
        let optimizer = AdamW::new(&config(), DECAY);
        let x = Tensor::<2>::ones([3, 5], &Device::flex());
        let grad = Tensor::<2>::ones([5, 3], &Device::flex());
        let (first, state) = optimizer.step(0.1, x.clone(), grad.clone().transpose(), None);
        let (second, _) =
            optimizer.step(0.1, first.clone(), grad.clone().transpose(), state.clone());
        assert_eq!(numbers(x), [1.0; 15]);
        assert_eq!(numbers(grad), [1.0; 15]);
        assert!(numbers(first) != numbers(second));
        let moment = state.unwrap().momentum.moment_1;
        assert!(numbers(moment).iter().all(|m| (m - 0.2).abs() < 1e-6));
    }
}
