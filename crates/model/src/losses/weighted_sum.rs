use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::error::Check;
use super::pixels::Pixels;
use super::{CrossEntropy, Dice, LossConfig, LossError};

/// Weighted sum of losses. In a configuration:
///
/// ```toml
/// [loss]
/// kind = "sum"
/// wet_share_weight = 3.0
/// terms = [
///     { weight = 1.0, loss = { kind = "focal", gamma = 1.5 } },
///     { weight = 0.5, loss = { kind = "lovasz" } },
/// ]
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightedSum {
    /// The losses; default cross-entropy and dice, each with weight 1.
    pub terms: Vec<Term>,
    /// A map of which the share s is wet counts 1 + `wet_share_weight` · s times in every sum over pixels; default 0.
    pub wet_share_weight: f32,
}

/// One loss of a [`WeightedSum`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Its weight in the sum.
    pub weight: f32,
    /// The loss.
    pub loss: LossConfig,
}

impl Default for WeightedSum {
    fn default() -> Self {
        let losses = [
            LossConfig::CrossEntropy(CrossEntropy::default()),
            LossConfig::Dice(Dice::default()),
        ];
        let terms = losses.map(|loss| Term { weight: 1.0, loss });
        Self {
            terms: terms.into(),
            wet_share_weight: 0.0,
        }
    }
}

impl WeightedSum {
    pub(super) fn validate(&self, check: &Check) -> Result<(), LossError> {
        if self.terms.is_empty() {
            return Err(LossError::NoTerms);
        }
        for term in &self.terms {
            check.positive("weight", term.weight)?;
            term.loss.validate()?;
        }
        check.not_negative("wet_share_weight", self.wet_share_weight)
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let weighted;
        let pixels = match self.wet_share_weight {
            0.0 => pixels,
            weight => {
                let sample_weights = pixels.wet_share().mul_scalar(weight).add_scalar(1.0);
                weighted = pixels.weighted(sample_weights);
                &weighted
            }
        };
        let terms = self.terms.iter();
        let terms = terms.map(|term| term.loss.of(pixels).mul_scalar(term.weight));
        // Checked not to be empty; an unchecked empty sum is 0.
        let zero = || pixels.count([0.0, 0.0]);
        terms.reduce(|sum, term| sum + term).unwrap_or_else(zero)
    }
}
