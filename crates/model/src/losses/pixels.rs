//! What every loss needs of a batch: wet log-odds, truth, and which pixels count.

use burn::tensor::activation::{log_sigmoid, sigmoid};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
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
    /// Weight of the pixel where wet in truth (1 unless [`Self::weighted`]), else 0.
    wet: Tensor<3>,
    /// Weight of the pixel where dry in truth, else 0.
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

    /// The same batch with every pixel counted `weight` times: `[batch, height, width]`, or 1 instead of a size.
    pub(super) fn weighted(&self, weight: Tensor<3>) -> Self {
        Self {
            log_odds: self.log_odds.clone(),
            wet: self.wet.clone() * weight.clone(),
            dry: self.dry.clone() * weight,
        }
    }

    pub(super) fn shape(&self) -> [usize; 3] {
        self.log_odds.dims()
    }

    /// Sum over pixels of −a log p(dry) − b log p(wet): `[a, b]` of a truly dry pixel first, of a truly wet one second; `[1]`.
    pub(super) fn negative_log_likelihood(&self, [dry, wet]: [[f32; 2]; 2]) -> Tensor<1> {
        let of = |class: usize| self.weights([dry[class], wet[class]]);
        let (of_dry, of_wet) = (of(0), of(1));
        // log p(dry) = log σ(−z) = log σ(z) − z: one logarithm for both classes.
        let likelihood = (of_dry.clone() + of_wet) * log_sigmoid(self.log_odds.clone());
        (of_dry * self.log_odds.clone() - likelihood).sum()
    }

    /// log p(truth) and log (1 − p(truth)); log ½ where ignored.
    pub(super) fn log_probabilities(&self) -> (Tensor<3>, Tensor<3>) {
        let towards_truth = self.sign_of_truth() * self.log_odds.clone();
        (
            log_sigmoid(towards_truth.clone()),
            log_sigmoid(towards_truth.neg()),
        )
    }

    /// 1 − z where wet, 1 + z where dry, z being the log-odds of wet; `of_ignored` where ignored.
    pub(super) fn hinge_errors(&self, of_ignored: f32) -> Tensor<3> {
        let errors = (self.sign_of_truth() * self.log_odds.clone())
            .neg()
            .add_scalar(1.0);
        let ignored = self.weights([1.0, 1.0]).equal_elem(0.0);
        errors.mask_fill(ignored, of_ignored)
    }

    /// The weight of every pixel times that of its class: dry, wet; 0 where ignored.
    pub(super) fn weights(&self, [dry_weight, wet_weight]: [f32; 2]) -> Tensor<3> {
        self.wet.clone().mul_scalar(wet_weight) + self.dry.clone().mul_scalar(dry_weight)
    }

    /// Sum of [`Self::weights`], `[1]`.
    pub(super) fn count(&self, class_weights: [f32; 2]) -> Tensor<1> {
        self.weights(class_weights).sum()
    }

    /// Wet share of the labelled pixels of each map, `[batch, 1, 1]`; 0 for a map without labels.
    pub(super) fn wet_share(&self) -> Tensor<3> {
        let sum = |x: &Tensor<3>| x.clone().sum_dim(1).sum_dim(2);
        let wet = sum(&self.wet);
        wet.clone() / (wet + sum(&self.dry)).clamp_min(1e-12)
    }

    /// The sum of the first, second … value over all chessboard distances 1, 2 … within which a pixel has one of the other class.
    pub(super) fn near_other_class(&self, values: impl Iterator<Item = f32>) -> Tensor<3> {
        let present = |x: &Tensor<3>| x.clone().greater_elem(0.0).cast(FloatDType::F32);
        let (wet, dry) = (present(&self.wet), present(&self.dry));
        let window = MaxPoolOptions {
            stride: [1, 1],
            padding: [(1, 1); 2],
            ..MaxPoolOptions::new([3, 3])
        };
        let grown =
            |x: Tensor<3>| max_pool2d(x.unsqueeze_dim::<4>(1), window.clone()).squeeze_dim::<3>(1);
        let (mut wet_near, mut dry_near) = (wet.clone(), dry.clone());
        let mut sum = wet.zeros_like();
        for value in values {
            (wet_near, dry_near) = (grown(wet_near), grown(dry_near));
            let near = wet.clone() * dry_near.clone() + dry.clone() * wet_near.clone();
            sum = sum + near.mul_scalar(value);
        }
        sum
    }

    /// Sum over labelled pixels of p·y, of p and of y, for the probability p and the truth y of wet; each `[1]`.
    pub(super) fn overlap(&self) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
        let probability = sigmoid(self.log_odds.clone());
        let of_wet = (probability.clone() * self.wet.clone()).sum();
        let of_dry = (probability * self.dry.clone()).sum();
        (of_wet.clone(), of_wet + of_dry, self.wet.clone().sum())
    }

    /// 1 where wet, −1 where dry, 0 where ignored.
    fn sign_of_truth(&self) -> Tensor<3> {
        (self.wet.clone() - self.dry.clone()).sign()
    }
}
