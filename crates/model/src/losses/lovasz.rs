use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossError;
use super::error::Check;
use super::pixels::Pixels;

/// Lovász hinge of wet: the convex extension of the Jaccard loss 1 − CSI to the hinge errors of the log-odds (Berman et al. 2018, arXiv
/// 1705.08790, equation 9 and algorithm 1).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lovasz {
    /// Mean over the maps instead of one sum over the batch; default false. A map without labels counts as one without loss.
    pub per_image: bool,
}

impl Lovasz {
    pub(super) fn validate(&self, _: &Check) -> Result<(), LossError> {
        Ok(())
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let [batch, height, width] = pixels.shape();
        let shape = match self.per_image {
            true => [batch, height * width],
            false => [1, batch * height * width],
        };
        // Ignored pixels come last and have no hinge.
        let errors = pixels.hinge_errors(-1e30).reshape(shape);
        let order = errors.clone().detach().argsort_descending(1);
        let errors = errors.gather(1, order.clone()).clamp_min(0.0);
        let wet = pixels.weights([0.0, 1.0]).reshape(shape);
        let dry = pixels.weights([1.0, 0.0]).reshape(shape);
        let all_wet = wet.clone().sum_dim(1);
        // The Jaccard loss when the first k pixels of the order are the wrong ones.
        let missed = wet.gather(1, order.clone()).cumsum(1);
        let false_alarms = dry.gather(1, order).cumsum(1);
        let jaccard = (all_wet.clone() - missed) / (all_wet + false_alarms).clamp_min(1e-12);
        let jaccard = jaccard.neg().add_scalar(1.0);
        let before = match shape[1] {
            1 => jaccard.zeros_like(),
            n => {
                let head = jaccard.clone().narrow(1, 0, n - 1);
                Tensor::cat(vec![jaccard.clone().narrow(1, 0, 1).zeros_like(), head], 1)
            }
        };
        (errors * (jaccard - before)).sum_dim(1).mean()
    }
}
