use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossError;
use super::error::Check;
use super::pixels::Pixels;

/// Cross-entropy that counts pixels near the water's edge more: the mean over pixels of −log p(y), weighted by w(y) · (1 + a·exp(−d² / 2σ²)).
///
/// d is the number of cells between the pixel and the nearest one of the other class (chessboard distance less 1: 0 on both sides of the
/// edge). After the weight map of U-Net (Ronneberger et al. 2015, arXiv 1505.04597, equation 2), for one edge instead of two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoundaryCrossEntropy {
    /// Weights of dry and wet; default 1, 1.
    pub class_weights: [f32; 2],
    /// Additional weight a of a pixel at the edge; default 4.
    pub edge_weight: f32,
    /// Width σ of the edge, cells; default 1. Beyond 3σ nothing is added.
    pub edge_width: f32,
}

impl Default for BoundaryCrossEntropy {
    fn default() -> Self {
        Self {
            class_weights: [1.0, 1.0],
            edge_weight: 4.0,
            edge_width: 1.0,
        }
    }
}

impl BoundaryCrossEntropy {
    pub(super) fn validate(&self, check: &Check) -> Result<(), LossError> {
        check.class_weights(self.class_weights)?;
        check.not_negative("edge_weight", self.edge_weight)?;
        check.positive("edge_width", self.edge_width)
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let reach = (3.0 * self.edge_width).floor() as usize;
        // The pixels first met at distance d + 1 get the weight of d, summed up from the outermost: w(d) − w(d + 1) for all within.
        let gauss = |d: usize| (-0.5 * (d as f32 / self.edge_width).powi(2)).exp();
        let steps = (0..=reach).map(|d| {
            let beyond = if d == reach { 0.0 } else { gauss(d + 1) };
            self.edge_weight * (gauss(d) - beyond)
        });
        let pixels = pixels.weighted(pixels.near_other_class(steps).add_scalar(1.0));
        let [dry, wet] = self.class_weights;
        let sum = pixels.negative_log_likelihood([[dry, 0.0], [0.0, wet]]);
        sum / pixels.count(self.class_weights).clamp_min(1e-12)
    }
}
