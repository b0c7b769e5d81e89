use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossError;
use super::error::Check;
use super::pixels::Pixels;

/// Soft dice loss of wet: 1 − (2 Σpy + s) / (Σp + Σy + s), with sums over all labelled pixels of the batch (Milletari et al. 2016, arXiv
/// 1606.04797; smoothing as in Jadon 2020, section II.H).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dice {
    /// Smoothing term s in pixels; default 1. It makes the loss 0 where nothing is wet in truth and prediction.
    pub smooth: f32,
}

impl Default for Dice {
    fn default() -> Self {
        Self { smooth: 1.0 }
    }
}

impl Dice {
    pub(super) fn validate(&self, check: &Check) -> Result<(), LossError> {
        check.not_negative("smooth", self.smooth)
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let (both, predicted, truth) = pixels.overlap();
        let numerator = both.mul_scalar(2.0).add_scalar(self.smooth);
        // The floor keeps s = 0 finite where nothing is wet.
        let denominator = (predicted + truth).add_scalar(self.smooth).clamp_min(1e-7);
        (numerator / denominator).neg().add_scalar(1.0)
    }
}
