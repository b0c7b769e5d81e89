use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossError;
use super::error::Check;
use super::pixels::Pixels;

/// Focal loss: the mean over pixels of −w(y) (1 − p(y))^γ log p(y) (Lin et al. 2017, arXiv 1708.02002, equation 5; its α is the weight of wet,
/// 1 − α that of dry).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Focal {
    /// Exponent γ, 0 or more; default 2. 0 is cross-entropy.
    pub gamma: f32,
    /// Weights of dry and wet; default 1, 1. The mean is over pixels, not over their weight.
    pub class_weights: [f32; 2],
}

impl Default for Focal {
    fn default() -> Self {
        Self {
            gamma: 2.0,
            class_weights: [1.0, 1.0],
        }
    }
}

impl Focal {
    pub(super) fn validate(&self, check: &Check) -> Result<(), LossError> {
        check.not_negative("gamma", self.gamma)?;
        check.class_weights(self.class_weights)
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let (log_right, log_wrong) = pixels.log_probabilities();
        // (1 − p)^γ by its logarithm: its gradient stays finite where 1 − p underflows.
        let loss = log_wrong.mul_scalar(self.gamma).exp() * log_right.neg();
        let sum = (loss * pixels.weights(self.class_weights)).sum();
        sum / pixels.count([1.0, 1.0]).clamp_min(1e-12)
    }
}
