use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossError;
use super::error::Check;
use super::pixels::Pixels;

/// Cross-entropy over dry and wet: −Σ w(y) log p(y) / Σ w(y), the mean weighted by class.
///
/// With label smoothing ε the truth is (1 − ε/2) of the pixel's class and ε/2 of the other (Szegedy et al. 2016, arXiv 1512.00567, section
/// 7). Both as in PyTorch's `cross_entropy` with `weight` and `label_smoothing`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrossEntropy {
    /// Weights of dry and wet; default 1, 1.
    pub class_weights: [f32; 2],
    /// Label smoothing ε in [0, 1); default 0.
    pub label_smoothing: f32,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self {
            class_weights: [1.0, 1.0],
            label_smoothing: 0.0,
        }
    }
}

impl CrossEntropy {
    pub(super) fn validate(&self, check: &Check) -> Result<(), LossError> {
        check.class_weights(self.class_weights)?;
        check.share("label_smoothing", self.label_smoothing)
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let [dry, wet] = self.class_weights;
        let right = 1.0 - 0.5 * self.label_smoothing;
        let wrong = 0.5 * self.label_smoothing;
        let sum = pixels
            .negative_log_likelihood([[right * dry, wrong * wet], [wrong * dry, right * wet]]);
        // Without a labelled pixel both are 0.
        sum / pixels.count(self.class_weights).clamp_min(1e-12)
    }
}
