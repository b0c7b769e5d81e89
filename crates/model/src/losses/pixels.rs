//! What every loss needs of a batch: wet log-odds, truth, and which pixels count.

use burn::tensor::activation::{log_sigmoid, sigmoid};
use burn::tensor::{FloatDType, Int, Tensor};

use crate::metrics::IGNORE_LABEL;

/// Log-odds of wet: the second logit minus the first, or the only logit.
///
/// # Shapes
/// * logits: `[batch, 2 or 1, height, width]`
/// * output: `[batch, height, width]`
///
/// # Panics
/// If there are neither two channels nor one.
pub fn wet_log_odds(logits: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = logits.dims();
    match channels {
        1 => logits.reshape([batch, height, width]),
        2 => {
            let dry = logits.clone().narrow(1, 0, 1);
            let wet = logits.narrow(1, 1, 1);
            (wet - dry).reshape([batch, height, width])
        }
        _ => panic!("logits have {channels} channels: expected 2 (dry, wet) or 1"),
    }
}

/// Probability of wet: softmax of two logits, or sigmoid of one.
///
/// # Shapes
/// As [`wet_log_odds`].
pub fn wet_probability(logits: Tensor<4>) -> Tensor<3> {
    sigmoid(wet_log_odds(logits))
}

/// A batch as the losses see it; all tensors `[batch, height, width]`, f32.
pub(super) struct Pixels {
    /// Log-odds of wet, 0 (without gradient) where ignored.
    log_odds: Tensor<3>,
    /// 1 where wet in truth, else 0.
    wet: Tensor<3>,
    /// 1 where dry in truth, else 0.
    dry: Tensor<3>,
}

impl Pixels {
    pub(super) fn new(logits: Tensor<4>, labels: Tensor<3, Int>) -> Self {
        let log_odds = wet_log_odds(logits.cast(FloatDType::F32));
        assert_eq!(
            log_odds.dims(),
            labels.dims(),
            "logits and labels are of different shape"
        );
        let ignored = labels.clone().equal_elem(i32::from(IGNORE_LABEL));
        let wet = labels.equal_elem(1);
        let dry = ignored.clone().bool_or(wet.clone()).bool_not();
        Self {
            log_odds: log_odds.mask_fill(ignored, 0.0),
            wet: wet.cast(FloatDType::F32),
            dry: dry.cast(FloatDType::F32),
        }
    }

    /// Sum over pixels of −w log p(truth), w being the weight of the pixel's class, and the sum of the weights `w`; each `[1]`.
    pub(super) fn negative_log_likelihood(
        &self,
        [dry_weight, wet_weight]: [f32; 2],
    ) -> (Tensor<1>, Tensor<1>) {
        let dry = self.dry.clone().mul_scalar(dry_weight);
        let weight = self.wet.clone().mul_scalar(wet_weight) + dry.clone();
        // log p(dry) = log σ(−z) = log σ(z) − z: one logarithm for both classes.
        let sum = dry * self.log_odds.clone() - weight.clone() * log_sigmoid(self.log_odds.clone());
        (sum.sum(), weight.sum())
    }

    /// Number of labelled pixels, `[1]`.
    pub(super) fn count(&self) -> Tensor<1> {
        self.wet.clone().sum() + self.dry.clone().sum()
    }

    /// Sum over labelled pixels of p·y, of p and of y, for the probability p and the truth y of wet; each `[1]`.
    pub(super) fn overlap(&self) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
        let probability = sigmoid(self.log_odds.clone());
        let of_wet = (probability.clone() * self.wet.clone()).sum();
        let of_dry = (probability * self.dry.clone()).sum();
        (of_wet.clone(), of_wet + of_dry, self.wet.clone().sum())
    }
}
