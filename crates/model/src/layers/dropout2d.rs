//! Dropout of whole channels.

use burn::config::Config;
use burn::module::{Flag, Module, Param};
use burn::tensor::{Distribution, Tensor};

/// Configuration of [`Dropout2d`].
#[derive(Config, Debug)]
pub struct Dropout2dConfig {
    /// Probability that a channel of a sample is dropped, in [0, 1).
    pub probability: f64,
}

/// Spatial dropout (Tompson et al. 2015, arXiv 1411.4280, section 3.2; PyTorch's `Dropout2d`): while training, each channel of
/// each sample is zero with the given probability and the kept ones are scaled by 1 / (1 − probability).
///
/// Active on an autodiff device only, as burn's dropout.
#[derive(Module, Debug)]
pub struct Dropout2d {
    /// Probability that a channel of a sample is dropped.
    pub probability: f64,
    /// Cleared when the layer is frozen.
    pub training: Param<Flag>,
}

impl Dropout2dConfig {
    /// The layer.
    ///
    /// # Panics
    /// If the probability is not in [0, 1).
    pub fn init(&self) -> Dropout2d {
        assert!(
            (0.0..1.0).contains(&self.probability),
            "dropout probability {} is not in [0, 1)",
            self.probability
        );
        Dropout2d {
            probability: self.probability,
            training: Param::from_bool(true),
        }
    }
}

impl Dropout2d {
    /// # Shapes
    /// `[batch, channels, height, width]` → the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let device = x.device();
        if self.probability == 0.0 || !self.training.is_enabled() || !device.is_autodiff() {
            return x;
        }
        let keep = 1.0 - self.probability;
        let [batch, channels, _, _] = x.dims();
        let kept = Distribution::Bernoulli(keep);
        let mask = Tensor::<4>::random([batch, channels, 1, 1], kept, &device);
        let mask = mask.div_scalar(keep).cast(x.dtype());
        x * mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn drops_whole_channels_and_keeps_the_expectation() {
        let device = Device::flex().autodiff();
        let layer = Dropout2dConfig::new(0.2).init();
        let x = Tensor::<4>::ones([40, 100, 3, 2], &device);
        let y: Vec<f32> = layer.forward(x.clone()).into_data().try_to_vec().unwrap();
        let mut kept = 0;
        for channel in y.chunks(6) {
            assert!(channel.iter().all(|v| *v == channel[0]));
            assert!(channel[0] == 0.0 || (channel[0] - 1.25).abs() < 1e-6);
            kept += usize::from(channel[0] > 0.0);
        }
        // 4000 draws of probability 0.8: mean 3200, standard deviation 25.3.
        assert!((3070..3330).contains(&kept), "{kept} channels kept");
        let same = layer.forward(x.inner());
        assert_eq!(same.min().into_scalar::<f32>(), 1.0);
    }
}
