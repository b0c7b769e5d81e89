use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::pixels::Pixels;

/// Cross-entropy over dry and wet: −Σ w(y) log p(y) / Σ w(y), the mean weighted by class (as PyTorch's `cross_entropy` with `weight`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrossEntropy {
    /// Weights of dry and wet; default 1, 1.
    pub class_weights: [f32; 2],
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self {
            class_weights: [1.0, 1.0],
        }
    }
}

impl CrossEntropy {
    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let (sum, weight) = pixels.negative_log_likelihood(self.class_weights);
        // Without a labelled pixel both are 0.
        sum / weight.clamp_min(1e-12)
    }
}
