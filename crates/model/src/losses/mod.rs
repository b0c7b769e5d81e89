//! Training losses for wet/dry segmentation, chosen by name in the configuration.
//!
//! Every loss takes logits `[batch, 2 or 1, height, width]` and labels `[batch, height, width]` (0 dry, 1 wet, 255 ignored). Two-class logits
//! enter only through their difference, the wet log-odds (softmax over two classes is a sigmoid of it), so each loss serves both heads.
//! All sums run over the whole batch, in f32. Survey: Jadon 2020, arXiv 2006.14822.

mod binary_cross_entropy;
mod boundary_cross_entropy;
mod cross_entropy;
mod cross_entropy_dice;
mod dice;
mod error;
mod focal;
mod jaccard;
mod log_cosh_dice;
mod lovasz;
mod pixels;
mod tversky;
mod weighted_sum;

pub use binary_cross_entropy::BinaryCrossEntropy;
pub use boundary_cross_entropy::BoundaryCrossEntropy;
pub use cross_entropy::CrossEntropy;
pub use cross_entropy_dice::CrossEntropyDice;
pub use dice::Dice;
pub use error::LossError;
pub use focal::Focal;
pub use jaccard::Jaccard;
pub use log_cosh_dice::LogCoshDice;
pub use lovasz::Lovasz;
pub use pixels::{wet_log_odds, wet_probability};
pub use tversky::{FocalTversky, Tversky};
pub use weighted_sum::{Term, WeightedSum};

use burn::tensor::{Int, Tensor};
use error::Check;
use pixels::Pixels;
use serde::{Deserialize, Serialize};

/// The enum of all losses: one list of variants, with the name that each has in configurations.
macro_rules! losses {
    ($($(#[$doc:meta])+ $loss:ident = $name:literal,)+) => {
        /// Which loss is minimised: `kind = "dice"` and the like, with the fields of that loss beside it.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum LossConfig {
            $($(#[$doc])+ #[serde(rename = $name)] $loss($loss),)+
        }

        impl LossConfig {
            /// Names of the losses, as `kind` in a configuration.
            pub const NAMES: &[&str] = &[$($name),+];

            /// The loss of this name with its default parameters.
            ///
            /// # Errors
            /// If no loss has this name.
            pub fn from_name(name: &str) -> Result<Self, LossError> {
                match name {
                    $($name => Ok(Self::$loss($loss::default())),)+
                    _ => Err(LossError::Name { name: name.into() }),
                }
            }

            /// Name of this loss.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$loss(_) => $name,)+
                }
            }

            /// Checks the parameters.
            ///
            /// # Errors
            /// For the first parameter outside the range that its documentation gives.
            pub fn validate(&self) -> Result<(), LossError> {
                let check = Check { loss: self.name() };
                match self {
                    $(Self::$loss(loss) => loss.validate(&check),)+
                }
            }

            fn of(&self, pixels: &Pixels) -> Tensor<1> {
                match self {
                    $(Self::$loss(loss) => loss.forward(pixels),)+
                }
            }
        }
    };
}

losses! {
    /// Cross-entropy over dry and wet, with class weights.
    CrossEntropy = "cross-entropy",
    /// Binary cross-entropy with a weight for wet pixels.
    BinaryCrossEntropy = "binary-cross-entropy",
    /// Cross-entropy that counts pixels near the water's edge more.
    BoundaryCrossEntropy = "boundary-cross-entropy",
    /// Cross-entropy that counts pixels already right less.
    Focal = "focal",
    /// Soft dice of wet.
    Dice = "dice",
    /// Logarithm of the hyperbolic cosine of soft dice.
    LogCoshDice = "log-cosh-dice",
    /// Soft Jaccard index (IoU, CSI) of wet.
    Jaccard = "jaccard",
    /// Soft Tversky index of wet: false alarms and misses have weights of their own.
    Tversky = "tversky",
    /// A power of the Tversky loss.
    FocalTversky = "focal-tversky",
    /// Convex surrogate of the Jaccard index.
    Lovasz = "lovasz",
    /// Weighted sum of cross-entropy and soft dice.
    CrossEntropyDice = "cross-entropy-dice",
    /// Weighted sum of any losses, with weights of samples by how wet they are.
    WeightedSum = "sum",
}

impl Default for LossConfig {
    /// Unweighted cross-entropy.
    fn default() -> Self {
        Self::CrossEntropy(CrossEntropy::default())
    }
}

impl LossConfig {
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
        self.of(&Pixels::new(logits, labels))
    }
}

#[cfg(test)]
mod tests;
