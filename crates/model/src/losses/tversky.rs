use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::LossError;
use super::error::Check;
use super::pixels::Pixels;

/// Soft Tversky loss of wet: 1 − (TP + s) / (TP + α FP + β FN + s) with TP = Σpy, FP = Σp(1 − y), FN = Σ(1 − p)y over all labelled pixels of the
/// batch (Salehi et al. 2017, arXiv 1706.05721). α = β = ½ is dice with half the smoothing, α = β = 1 is Jaccard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tversky {
    /// Weight α of false alarms; default 0.3.
    pub alpha: f32,
    /// Weight β of misses; default 0.7.
    pub beta: f32,
    /// Smoothing term s in pixels; default 1.
    pub smooth: f32,
}

impl Default for Tversky {
    fn default() -> Self {
        Self {
            alpha: 0.3,
            beta: 0.7,
            smooth: 1.0,
        }
    }
}

impl Tversky {
    pub(super) fn validate(&self, check: &Check) -> Result<(), LossError> {
        check.positive("alpha", self.alpha)?;
        check.positive("beta", self.beta)?;
        check.not_negative("smooth", self.smooth)
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let (both, predicted, truth) = pixels.overlap();
        let false_alarms = (predicted - both.clone()).mul_scalar(self.alpha);
        let misses = (truth - both.clone()).mul_scalar(self.beta);
        let hits = both.add_scalar(self.smooth);
        // The floor keeps s = 0 finite where nothing is wet.
        let index = hits.clone() / (hits + false_alarms + misses).clamp_min(1e-7);
        index.neg().add_scalar(1.0)
    }
}

/// Focal Tversky loss: the [`Tversky`] loss to the power γ (Abraham & Khan 2018, arXiv 1810.07842, equation 4, whose γ is the inverse of
/// this).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FocalTversky {
    /// Weight α of false alarms; default 0.3.
    pub alpha: f32,
    /// Weight β of misses; default 0.7.
    pub beta: f32,
    /// Smoothing term s in pixels; default 1.
    pub smooth: f32,
    /// Exponent γ; default 0.75, the paper's 4/3.
    pub gamma: f32,
}

impl Default for FocalTversky {
    fn default() -> Self {
        let Tversky {
            alpha,
            beta,
            smooth,
        } = Tversky::default();
        Self {
            alpha,
            beta,
            smooth,
            gamma: 0.75,
        }
    }
}

impl FocalTversky {
    fn tversky(&self) -> Tversky {
        Tversky {
            alpha: self.alpha,
            beta: self.beta,
            smooth: self.smooth,
        }
    }

    pub(super) fn validate(&self, check: &Check) -> Result<(), LossError> {
        self.tversky().validate(check)?;
        check.positive("gamma", self.gamma)
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let loss = self.tversky().forward(pixels);
        // x·(x + ε)^(γ − 1) instead of x^γ, whose gradient at a perfect map is infinite for γ < 1. Rounding can make x negative.
        let floored = loss.clone().clamp_min(0.0).add_scalar(1e-6);
        loss * floored.powf_scalar(self.gamma - 1.0)
    }
}
