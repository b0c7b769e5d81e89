use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::pixels::Pixels;

/// Binary cross-entropy: the mean over pixels of −w y log p − (1 − y) log (1 − p) (as PyTorch's `binary_cross_entropy_with_logits` with
/// `pos_weight`). Unlike weighted [`CrossEntropy`](super::CrossEntropy) it divides by the number of pixels, not by their weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BinaryCrossEntropy {
    /// Weight w of wet pixels; default 1.
    pub pos_weight: f32,
}

impl Default for BinaryCrossEntropy {
    fn default() -> Self {
        Self { pos_weight: 1.0 }
    }
}

impl BinaryCrossEntropy {
    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let (sum, _) = pixels.negative_log_likelihood([1.0, self.pos_weight]);
        sum / pixels.count().clamp_min(1.0)
    }
}
