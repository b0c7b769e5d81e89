use super::LossConfig;

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
    /// A sum of nothing.
    #[error("loss sum: terms is empty: expected at least one")]
    NoTerms,
    /// No loss has this name.
    #[error("no loss is named {name:?}: expected one of {}", LossConfig::NAMES.join(", "))]
    Name {
        /// The name given.
        name: String,
    },
}

/// Checks the parameters of the loss of this name.
pub(super) struct Check {
    pub(super) loss: &'static str,
}

impl Check {
    pub(super) fn positive(&self, parameter: &'static str, value: f32) -> Result<(), LossError> {
        self.that(parameter, value, value > 0.0, "a positive number")
    }

    pub(super) fn not_negative(
        &self,
        parameter: &'static str,
        value: f32,
    ) -> Result<(), LossError> {
        self.that(parameter, value, value >= 0.0, "0 or more")
    }

    /// A share in [0, 1).
    pub(super) fn share(&self, parameter: &'static str, value: f32) -> Result<(), LossError> {
        let is_fine = (0.0..1.0).contains(&value);
        self.that(parameter, value, is_fine, "a number in [0, 1)")
    }

    pub(super) fn class_weights(&self, weights: [f32; 2]) -> Result<(), LossError> {
        let mut weights = weights.into_iter();
        weights.try_for_each(|weight| self.positive("class_weights", weight))
    }

    fn that(
        &self,
        parameter: &'static str,
        value: f32,
        is_fine: bool,
        expected: &'static str,
    ) -> Result<(), LossError> {
        if is_fine && value.is_finite() {
            return Ok(());
        }
        Err(LossError::Parameter {
            loss: self.loss,
            parameter,
            value: value.into(),
            expected,
        })
    }
}
