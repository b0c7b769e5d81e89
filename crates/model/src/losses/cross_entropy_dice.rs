use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::error::Check;
use super::pixels::Pixels;
use super::{CrossEntropy, Dice, LossError};

/// Weighted sum of [`CrossEntropy`] and soft [`Dice`] (Taghanaki et al. 2019, arXiv 1805.02798, with the cross-entropy of both classes).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrossEntropyDice {
    /// Weight of cross-entropy in the sum; default 1.
    pub cross_entropy_weight: f32,
    /// Weight of dice in the sum; default 1.
    pub dice_weight: f32,
    /// Class weights of cross-entropy: dry, wet; default 1, 1.
    pub class_weights: [f32; 2],
    /// Smoothing term of dice, in pixels; default 1.
    pub smooth: f32,
}

impl Default for CrossEntropyDice {
    fn default() -> Self {
        let CrossEntropy { class_weights, .. } = CrossEntropy::default();
        let Dice { smooth } = Dice::default();
        Self {
            cross_entropy_weight: 1.0,
            dice_weight: 1.0,
            class_weights,
            smooth,
        }
    }
}

impl CrossEntropyDice {
    fn parts(&self) -> (CrossEntropy, Dice) {
        let cross_entropy = CrossEntropy {
            class_weights: self.class_weights,
            ..CrossEntropy::default()
        };
        let smooth = self.smooth;
        (cross_entropy, Dice { smooth })
    }

    pub(super) fn validate(&self, check: &Check) -> Result<(), LossError> {
        let (cross_entropy, dice) = self.parts();
        cross_entropy.validate(check)?;
        dice.validate(check)?;
        check.positive("cross_entropy_weight", self.cross_entropy_weight)?;
        check.positive("dice_weight", self.dice_weight)
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let (cross_entropy, dice) = self.parts();
        let cross_entropy = cross_entropy.forward(pixels);
        let dice = dice.forward(pixels);
        cross_entropy.mul_scalar(self.cross_entropy_weight) + dice.mul_scalar(self.dice_weight)
    }
}
