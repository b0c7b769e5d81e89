use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossError;
use super::error::Check;
use super::pixels::Pixels;

/// Binary cross-entropy: the mean over pixels of −w y log p − (1 − y) log (1 − p) (as PyTorch's `binary_cross_entropy_with_logits` with
/// `pos_weight`). Unlike weighted [`CrossEntropy`](super::CrossEntropy) it divides by the number of pixels, not by their weight.
///
/// With label smoothing ε, y is 1 − ε/2 where wet and ε/2 where dry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BinaryCrossEntropy {
    /// Weight w of wet pixels; default 1.
    pub pos_weight: f32,
    /// Label smoothing ε in [0, 1); default 0.
    pub label_smoothing: f32,
}

impl Default for BinaryCrossEntropy {
    fn default() -> Self {
        Self {
            pos_weight: 1.0,
            label_smoothing: 0.0,
        }
    }
}

impl BinaryCrossEntropy {
    pub(super) fn validate(&self, check: &Check) -> Result<(), LossError> {
        check.positive("pos_weight", self.pos_weight)?;
        check.share("label_smoothing", self.label_smoothing)
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let right = 1.0 - 0.5 * self.label_smoothing;
        let wrong = 0.5 * self.label_smoothing;
        let w = self.pos_weight;
        let sum = pixels.negative_log_likelihood([[right, wrong * w], [wrong, right * w]]);
        sum / pixels.count([1.0, 1.0]).clamp_min(1e-12)
    }
}
