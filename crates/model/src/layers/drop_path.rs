//! Stochastic depth.

use burn::config::Config;
use burn::module::{Flag, Module, Param};
use burn::tensor::{Distribution, Tensor};

/// Configuration of [`DropPath`].
#[derive(Config, Debug)]
pub struct DropPathConfig {
    /// Probability that a sample skips the branch, in [0, 1).
    pub probability: f64,
}

/// Stochastic depth (Huang et al. 2016): while training, the residual branch of each sample is dropped with the given
/// probability and the kept ones are scaled by 1 / (1 − probability), so that the expectation stays.
///
/// Active on an autodiff device only, as burn's dropout.
#[derive(Module, Debug)]
pub struct DropPath {
    /// Probability that a sample skips the branch.
    pub probability: f64,
    /// Cleared when the layer is frozen.
    pub training: Param<Flag>,
}

impl DropPathConfig {
    /// The layer.
    ///
    /// # Panics
    /// If the probability is not in [0, 1).
    pub fn init(&self) -> DropPath {
        assert!(
            (0.0..1.0).contains(&self.probability),
            "drop path probability {} is not in [0, 1)",
            self.probability
        );
        DropPath {
            probability: self.probability,
            training: Param::from_bool(true),
        }
    }
}

impl DropPath {
    /// # Shapes
    /// `[batch, …]` → the same
    pub fn forward(&self, branch: Tensor<4>) -> Tensor<4> {
        let device = branch.device();
        if self.probability == 0.0 || !self.training.is_enabled() || !device.is_autodiff() {
            return branch;
        }
        let keep = 1.0 - self.probability;
        let [batch, ..] = branch.dims();
        let mask = Tensor::<4>::random([batch, 1, 1, 1], Distribution::Bernoulli(keep), &device);
        let mask = mask.div_scalar(keep).cast(branch.dtype());
        branch * mask
    }
}

/// Drop probabilities of `blocks` blocks that rise linearly from 0 at the first to `rate` at the last
/// (Huang et al. 2016, equation 4, as ConvNeXt uses it).
pub fn linear_schedule(rate: f64, blocks: usize) -> Vec<f64> {
    let last = blocks.saturating_sub(1).max(1) as f64;
    (0..blocks).map(|i| rate * i as f64 / last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn schedule_is_linear() {
        assert_eq!(
            linear_schedule(0.4, 5),
            [0.0, 0.1, 0.2, 0.30000000000000004, 0.4]
        );
        assert_eq!(linear_schedule(0.4, 1), [0.0]);
    }

    #[test]
    fn drops_whole_samples_and_keeps_the_expectation() {
        let device = Device::flex().autodiff();
        let layer = DropPathConfig::new(0.25).init();
        let x = Tensor::<4>::ones([4000, 2, 3, 1], &device);
        let y: Vec<f32> = layer.forward(x).into_data().try_to_vec().unwrap();
        let mut kept = 0;
        for sample in y.chunks(6) {
            assert!(sample.iter().all(|v| *v == sample[0]));
            assert!(sample[0] == 0.0 || (sample[0] - 1.0 / 0.75).abs() < 1e-6);
            kept += usize::from(sample[0] > 0.0);
        }
        // 4000 draws of probability 0.75: mean 3000, standard deviation 27.4.
        assert!((2860..3140).contains(&kept), "{kept} samples kept");
    }

    #[test]
    fn identity_without_autodiff() {
        let x = Tensor::<4>::ones([64, 1, 1, 1], &Device::flex());
        let y: Vec<f32> = DropPathConfig::new(0.9)
            .init()
            .forward(x)
            .into_data()
            .try_to_vec()
            .unwrap();
        assert!(y.iter().all(|v| *v == 1.0));
    }
}
