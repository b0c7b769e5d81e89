use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::error::Check;
use super::pixels::Pixels;
use super::{Dice, LossError};

/// Log-cosh dice loss: log cosh of the soft dice loss, flat near its minimum (Jadon 2020, section II.M).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogCoshDice {
    /// Smoothing term of dice, in pixels; default 1.
    pub smooth: f32,
}

impl Default for LogCoshDice {
    fn default() -> Self {
        let Dice { smooth } = Dice::default();
        Self { smooth }
    }
}

impl LogCoshDice {
    pub(super) fn validate(&self, check: &Check) -> Result<(), LossError> {
        check.not_negative("smooth", self.smooth)
    }

    pub(super) fn forward(&self, pixels: &Pixels) -> Tensor<1> {
        let smooth = self.smooth;
        // Dice loss is at most 1, so cosh does not overflow.
        Dice { smooth }.forward(pixels).cosh().log()
    }
}
