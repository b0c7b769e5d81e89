use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossError;
use super::error::Check;
use super::pixels::Pixels;

/// Soft Jaccard loss of wet: 1 − (Σpy + s) / (Σp + Σy − Σpy + s), with sums over all labelled pixels of the batch; without s the CSI of a map of
/// probabilities (Rahman & Wang 2016, doi 10.1007/978-3-319-50835-1_22).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jaccard {
    /// Smoothing term s in pixels; default 1. It makes the loss 0 where nothing is wet in truth and prediction.
    pub smooth: f32,
}

impl Default for Jaccard {
    fn default() -> Self {
        Self { smooth: 1.0 }
    }
}

impl Jaccard {
    pub(super) fn validate(&self, check: &Check) -> Result<(), LossError> {
        check.not_negative("smooth", self.smooth)
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let (both, predicted, truth) = pixels.overlap();
        let union = predicted + truth - both.clone();
        // The floor keeps s = 0 finite where nothing is wet.
        let denominator = union.add_scalar(self.smooth).clamp_min(1e-7);
        let index = both.add_scalar(self.smooth) / denominator;
        index.neg().add_scalar(1.0)
    }
}
