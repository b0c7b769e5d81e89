//! Scores of a wet/dry map against the truth. No tensors here: counts are plain Rust, so that a whole split is one confusion matrix.

mod confusion;
mod threshold_sweep;

pub use confusion::{Confusion, IGNORE_LABEL, Scores};
pub use threshold_sweep::{BestThreshold, ThresholdSweep};

/// What can be wrong with values that are to be scored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MetricsError {
    /// Prediction and truth have different numbers of pixels.
    #[error("{predicted} predicted pixels against {truth} true ones")]
    Length {
        /// Number of predicted pixels.
        predicted: usize,
        /// Number of true pixels.
        truth: usize,
    },
    /// A true pixel is neither 0, 1 nor 255.
    #[error("true pixel {index} has label {value}: expected 0 (dry), 1 (wet) or 255 (ignored)")]
    TrueLabel {
        /// Position in the slice.
        index: usize,
        /// The label found.
        value: u8,
    },
    /// A predicted pixel is neither 0 nor 1.
    #[error("predicted pixel {index} has label {value}: expected 0 (dry) or 1 (wet)")]
    PredictedLabel {
        /// Position in the slice.
        index: usize,
        /// The label found.
        value: u8,
    },
    /// A predicted probability is outside [0, 1] or NaN.
    #[error("predicted pixel {index} has probability {value}: expected 0 to 1")]
    Probability {
        /// Position in the slice.
        index: usize,
        /// The value found.
        value: f32,
    },
}
