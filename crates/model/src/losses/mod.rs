//! Training losses for wet/dry segmentation, chosen by name in the configuration.
//!
//! Every loss takes logits `[batch, 2 or 1, height, width]` and labels `[batch, height, width]` (0 dry, 1 wet, 255 ignored). Two-class logits
//! enter only through their difference, the wet log-odds (softmax over two classes is a sigmoid of it), so each loss serves both heads.
//! All sums run over the whole batch, in f32. Survey: Jadon 2020, arXiv 2006.14822.

mod binary_cross_entropy;
mod cross_entropy;
mod cross_entropy_dice;
mod dice;
mod log_cosh_dice;
mod pixels;

pub use binary_cross_entropy::BinaryCrossEntropy;
pub use cross_entropy::CrossEntropy;
pub use cross_entropy_dice::CrossEntropyDice;
pub use dice::Dice;
pub use log_cosh_dice::LogCoshDice;
pub use pixels::{wet_log_odds, wet_probability};

use burn::tensor::{Int, Tensor};
use pixels::Pixels;
use serde::{Deserialize, Serialize};

/// Which loss is minimised: `kind = "dice"` and the like, with the fields of that loss beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LossConfig {
    /// Cross-entropy over dry and wet, with class weights.
    CrossEntropy(CrossEntropy),
    /// Binary cross-entropy with a weight for wet pixels.
    BinaryCrossEntropy(BinaryCrossEntropy),
    /// Soft dice of wet.
    Dice(Dice),
    /// Weighted sum of cross-entropy and soft dice.
    CrossEntropyDice(CrossEntropyDice),
    /// Logarithm of the hyperbolic cosine of soft dice.
    LogCoshDice(LogCoshDice),
}

impl Default for LossConfig {
    /// Unweighted cross-entropy.
    fn default() -> Self {
        Self::CrossEntropy(CrossEntropy::default())
    }
}

/// A loss whose parameters make no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LossError {
    /// A parameter is outside its range.
    #[error("loss {loss}: {parameter} is {value}: expected {expected}")]
    Parameter {
        /// Name of the loss.
        loss: &'static str,
        /// Name of the parameter.
        parameter: &'static str,
        /// The value given.
        value: f64,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// No loss has this name.
    #[error("no loss is named {name:?}: expected one of {}", LossConfig::NAMES.join(", "))]
    Name {
        /// The name given.
        name: String,
    },
}

impl LossConfig {
    /// Names of the losses, as `kind` in a configuration.
    pub const NAMES: [&str; 5] = [
        "cross-entropy",
        "binary-cross-entropy",
        "dice",
        "cross-entropy-dice",
        "log-cosh-dice",
    ];

    /// The loss of this name with its default parameters.
    ///
    /// # Errors
    /// If no loss has this name.
    pub fn from_name(name: &str) -> Result<Self, LossError> {
        Ok(match name {
            "cross-entropy" => Self::CrossEntropy(CrossEntropy::default()),
            "binary-cross-entropy" => Self::BinaryCrossEntropy(BinaryCrossEntropy::default()),
            "dice" => Self::Dice(Dice::default()),
            "cross-entropy-dice" => Self::CrossEntropyDice(CrossEntropyDice::default()),
            "log-cosh-dice" => Self::LogCoshDice(LogCoshDice::default()),
            _ => return Err(LossError::Name { name: name.into() }),
        })
    }

    /// Name of this loss.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CrossEntropy(_) => "cross-entropy",
            Self::BinaryCrossEntropy(_) => "binary-cross-entropy",
            Self::Dice(_) => "dice",
            Self::CrossEntropyDice(_) => "cross-entropy-dice",
            Self::LogCoshDice(_) => "log-cosh-dice",
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// If a weight is not positive or the smoothing term is negative.
    pub fn validate(&self) -> Result<(), LossError> {
        let positive = |parameter, value: f32| {
            self.check(
                parameter,
                value,
                value > 0.0 && value.is_finite(),
                "a positive number",
            )
        };
        let not_negative = |parameter, value: f32| {
            self.check(
                parameter,
                value,
                value >= 0.0 && value.is_finite(),
                "0 or more",
            )
        };
        let weights = |weights: [f32; 2]| {
            weights
                .into_iter()
                .try_for_each(|w| positive("class_weights", w))
        };
        match self {
            Self::CrossEntropy(loss) => weights(loss.class_weights),
            Self::BinaryCrossEntropy(loss) => positive("pos_weight", loss.pos_weight),
            Self::Dice(loss) => not_negative("smooth", loss.smooth),
            Self::LogCoshDice(loss) => not_negative("smooth", loss.smooth),
            Self::CrossEntropyDice(loss) => {
                weights(loss.class_weights)?;
                not_negative("smooth", loss.smooth)?;
                positive("cross_entropy_weight", loss.cross_entropy_weight)?;
                positive("dice_weight", loss.dice_weight)
            }
        }
    }

    /// The loss of a batch, one number.
    ///
    /// A batch without a labelled pixel has cross-entropy 0, and any batch a finite loss and gradient.
    ///
    /// # Shapes
    /// * logits: `[batch, 2 or 1, height, width]`
    /// * labels: `[batch, height, width]`; 1 wet, 255 ignored, anything else dry
    /// * output: `[1]`
    ///
    /// # Panics
    /// If the shapes differ from these.
    pub fn forward(&self, logits: Tensor<4>, labels: Tensor<3, Int>) -> Tensor<1> {
        let pixels = Pixels::new(logits, labels);
        match self {
            Self::CrossEntropy(loss) => loss.forward(&pixels),
            Self::BinaryCrossEntropy(loss) => loss.forward(&pixels),
            Self::Dice(loss) => loss.forward(&pixels),
            Self::CrossEntropyDice(loss) => loss.forward(&pixels),
            Self::LogCoshDice(loss) => loss.forward(&pixels),
        }
    }

    fn check(
        &self,
        parameter: &'static str,
        value: f32,
        is_fine: bool,
        expected: &'static str,
    ) -> Result<(), LossError> {
        if is_fine {
            return Ok(());
        }
        Err(LossError::Parameter {
            loss: self.name(),
            parameter,
            value: value.into(),
            expected,
        })
    }
}

#[cfg(test)]
mod tests;
