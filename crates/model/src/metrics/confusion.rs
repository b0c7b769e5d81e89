//! One confusion matrix over a whole split, and every score as a function of its four counts.

use serde::{Deserialize, Serialize};

use super::MetricsError;

/// Label of a pixel that has no truth; it is neither scored nor learned from.
pub const IGNORE_LABEL: u8 = 255;

/// Counts of pixels; *positive* means wet. Scores are taken once over the summed counts of a split, never averaged over batches.
///
/// A ratio with nothing in it (0/0) takes its perfect value, as in `segmentation_models_pytorch` (`zero_division = 1`): where nothing
/// was to be found and nothing was falsely found, CSI, IoU, POD, F1, specificity and accuracy are 1 and FAR is 0.
/// So a map that is all dry has FAR 0: read FAR beside POD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    /// Wet in truth and prediction (hits).
    pub tp: u64,
    /// Dry in truth, wet in prediction (false alarms).
    pub fp: u64,
    /// Wet in truth, dry in prediction (misses).
    #[serde(rename = "fn")]
    pub fn_: u64,
    /// Dry in truth and prediction (correct negatives).
    pub tn: u64,
}

/// Every score of a [`Confusion`]; definitions at its methods.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Critical success index, the IoU of wet.
    pub csi: f64,
    /// Intersection over union of the wet class.
    pub iou_wet: f64,
    /// Intersection over union of the dry class.
    pub iou_dry: f64,
    /// Mean of the two IoUs.
    pub mean_iou: f64,
    /// Probability of detection (recall, sensitivity).
    pub pod: f64,
    /// False alarm ratio (1 − precision).
    pub far: f64,
    /// F1, the dice coefficient of wet.
    pub f1: f64,
    /// True negative rate.
    pub specificity: f64,
    /// Share of pixels that are right.
    pub accuracy: f64,
    /// Predicted over true wet pixels; none (JSON `null`) where the truth has no wet pixel.
    pub frequency_bias: Option<f64>,
}

impl Confusion {
    /// Counts pixels of class maps: `predicted` 0 or 1, `truth` 0, 1 or 255 (ignored).
    ///
    /// # Errors
    /// Other values, or slices of different length; the counts are then left as they were.
    pub fn add_labels(&mut self, predicted: &[u8], truth: &[u8]) -> Result<(), MetricsError> {
        let counted = count(predicted, truth, |index, &value| match value {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(MetricsError::PredictedLabel { index, value }),
        })?;
        self.merge(&counted);
        Ok(())
    }

    /// Counts pixels of a map of wet probabilities; a pixel is predicted wet where `probability ≥ threshold`.
    ///
    /// # Errors
    /// A probability outside [0, 1] (or NaN) at a pixel that is not ignored, a label other than 0, 1, 255, or slices of different
    /// length; the counts are then left as they were.
    pub fn add_probabilities(
        &mut self,
        probability: &[f32],
        truth: &[u8],
        threshold: f32,
    ) -> Result<(), MetricsError> {
        let counted = count(probability, truth, |index, &value| {
            checked_probability(index, value).map(|p| p >= threshold)
        })?;
        self.merge(&counted);
        Ok(())
    }

    /// Adds the counts of another part of the split.
    pub fn merge(&mut self, other: &Self) {
        self.tp += other.tp;
        self.fp += other.fp;
        self.fn_ += other.fn_;
        self.tn += other.tn;
    }

    /// Number of scored pixels.
    pub fn pixels(&self) -> u64 {
        self.tp + self.fp + self.fn_ + self.tn
    }

    /// Critical success index (threat score): tp / (tp + fp + fn).
    pub fn csi(&self) -> f64 {
        self.iou_wet()
    }

    /// Intersection over union of wet: tp / (tp + fp + fn).
    pub fn iou_wet(&self) -> f64 {
        ratio(self.tp, self.tp + self.fp + self.fn_, 1.0)
    }

    /// Intersection over union of dry: tn / (tn + fp + fn).
    pub fn iou_dry(&self) -> f64 {
        ratio(self.tn, self.tn + self.fp + self.fn_, 1.0)
    }

    /// Mean of the IoUs of dry and wet.
    pub fn mean_iou(&self) -> f64 {
        (self.iou_dry() + self.iou_wet()) / 2.0
    }

    /// Probability of detection (recall, sensitivity): tp / (tp + fn).
    pub fn pod(&self) -> f64 {
        ratio(self.tp, self.tp + self.fn_, 1.0)
    }

    /// False alarm ratio: fp / (tp + fp).
    pub fn far(&self) -> f64 {
        ratio(self.fp, self.tp + self.fp, 0.0)
    }

    /// F1 (dice coefficient): 2 tp / (2 tp + fp + fn).
    pub fn f1(&self) -> f64 {
        ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn_, 1.0)
    }

    /// Specificity (true negative rate): tn / (tn + fp).
    pub fn specificity(&self) -> f64 {
        ratio(self.tn, self.tn + self.fp, 1.0)
    }

    /// Accuracy: (tp + tn) / all.
    pub fn accuracy(&self) -> f64 {
        ratio(self.tp + self.tn, self.pixels(), 1.0)
    }

    /// Frequency bias: (tp + fp) / (tp + fn); none where the truth has no wet pixel.
    pub fn frequency_bias(&self) -> Option<f64> {
        let wet = self.tp + self.fn_;
        (wet > 0).then(|| (self.tp + self.fp) as f64 / wet as f64)
    }

    /// Share of scored pixels that are wet in truth; 0 where there are none.
    pub fn wet_share(&self) -> f64 {
        ratio(self.tp + self.fn_, self.pixels(), 0.0)
    }

    /// All scores at once.
    pub fn scores(&self) -> Scores {
        Scores {
            csi: self.csi(),
            iou_wet: self.iou_wet(),
            iou_dry: self.iou_dry(),
            mean_iou: self.mean_iou(),
            pod: self.pod(),
            far: self.far(),
            f1: self.f1(),
            specificity: self.specificity(),
            accuracy: self.accuracy(),
            frequency_bias: self.frequency_bias(),
        }
    }
}

/// `value` if it is a probability.
pub(super) fn checked_probability(index: usize, value: f32) -> Result<f32, MetricsError> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(MetricsError::Probability { index, value })
    }
}

fn ratio(part: u64, whole: u64, if_empty: f64) -> f64 {
    if whole == 0 {
        if_empty
    } else {
        part as f64 / whole as f64
    }
}

fn count<T>(
    predicted: &[T],
    truth: &[u8],
    is_wet: impl Fn(usize, &T) -> Result<bool, MetricsError>,
) -> Result<Confusion, MetricsError> {
    if predicted.len() != truth.len() {
        return Err(MetricsError::Length {
            predicted: predicted.len(),
            truth: truth.len(),
        });
    }
    let mut counted = Confusion::default();
    for (index, (value, &label)) in predicted.iter().zip(truth).enumerate() {
        if label == IGNORE_LABEL {
            continue;
        }
        match (label, is_wet(index, value)?) {
            (1, true) => counted.tp += 1,
            (0, true) => counted.fp += 1,
            (1, false) => counted.fn_ += 1,
            (0, false) => counted.tn += 1,
            (value, _) => return Err(MetricsError::TrueLabel { index, value }),
        }
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Finley's tornado forecasts (1884), the standard worked example of forecast verification: Wilks, *Statistical Methods in the
    /// Atmospheric Sciences*, section "2 × 2 contingency tables" gives CSI 0.228, POD 0.549, FAR 0.720, bias 1.96, accuracy 0.966.
    const FINLEY: Confusion = Confusion {
        tp: 28,
        fp: 72,
        fn_: 23,
        tn: 2680,
    };

    #[test]
    fn finley_tornado_forecasts() {
        let scores = FINLEY.scores();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 6e-4, "{a} is not {b}");
        close(scores.csi, 0.228);
        close(scores.iou_wet, 0.228);
        close(scores.pod, 0.549);
        close(scores.far, 0.720);
        close(scores.accuracy, 0.966);
        close(scores.f1, 2.0 * 0.228 / 1.228);
        close(scores.specificity, 1.0 - 72.0 / 2752.0);
        close(scores.iou_dry, 2680.0 / 2775.0);
        close(scores.mean_iou, (28.0 / 123.0 + 2680.0 / 2775.0) / 2.0);
        assert!((scores.frequency_bias.unwrap() - 1.96).abs() < 1e-2);
        assert_eq!(FINLEY.pixels(), 2803);
        close(FINLEY.wet_share(), 51.0 / 2803.0);
    }

    /// Script: goldens/make.py.
    #[test]
    fn counts_and_scores_of_segmentation_models_pytorch() {
        #[derive(Deserialize)]
        struct Golden {
            name: String,
            probability: Vec<f32>,
            labels: Vec<u8>,
            threshold: f32,
            counts: Confusion,
            scores: BTreeMap<String, f64>,
        }
        let goldens: Vec<Golden> =
            serde_json::from_str(include_str!("goldens/scores.json")).unwrap();
        assert_eq!(goldens.len(), 3);
        for golden in goldens {
            let mut confusion = Confusion::default();
            confusion
                .add_probabilities(&golden.probability, &golden.labels, golden.threshold)
                .unwrap();
            assert_eq!(confusion, golden.counts, "{}", golden.name);
            let ours = serde_json::to_value(confusion.scores()).unwrap();
            assert_eq!(golden.scores.len(), 7);
            for (name, theirs) in golden.scores {
                let ours = ours[&name].as_f64().unwrap();
                // Theirs are in single precision.
                assert!(
                    (ours - theirs).abs() < 1e-6,
                    "{name}: {ours} is not {theirs}"
                );
            }
        }
    }

    #[test]
    fn labels_and_probabilities_count_alike_and_ignore_255() {
        let truth = [0, 1, 1, 0, 255, 255, 1, 0];
        let mut labels = Confusion::default();
        labels
            .add_labels(&[0, 1, 0, 1, 1, 0, 1, 0], &truth)
            .unwrap();
        let expected = Confusion {
            tp: 2,
            fp: 1,
            fn_: 1,
            tn: 2,
        };
        assert_eq!(labels, expected);
        let mut probabilities = Confusion::default();
        // A NaN where there is no truth is not looked at; a probability equal to the threshold is wet.
        probabilities
            .add_probabilities(&[0.1, 0.9, 0.3, 0.4, f32::NAN, 0.0, 0.4, 0.2], &truth, 0.4)
            .unwrap();
        assert_eq!(probabilities, expected);
        probabilities.merge(&labels);
        assert_eq!(probabilities.pixels(), 12);
        assert_eq!(probabilities.scores(), labels.scores());
    }

    #[test]
    fn empty_classes_have_their_documented_values() {
        let nothing = Confusion::default().scores();
        assert_eq!((nothing.csi, nothing.pod, nothing.far), (1.0, 1.0, 0.0));
        assert_eq!(nothing.frequency_bias, None);
        // All dry in truth, one false alarm.
        let alarm = Confusion {
            fp: 1,
            tn: 3,
            ..Confusion::default()
        };
        let scores = alarm.scores();
        assert_eq!(
            (scores.csi, scores.f1, scores.pod, scores.far),
            (0.0, 0.0, 1.0, 1.0)
        );
        assert_eq!((scores.iou_dry, scores.mean_iou), (0.75, 0.375));
        // Wet in truth, nothing forecast.
        let misses = Confusion {
            fn_: 2,
            tn: 2,
            ..Confusion::default()
        };
        let scores = misses.scores();
        assert_eq!((scores.csi, scores.pod, scores.far), (0.0, 0.0, 0.0));
        assert_eq!(scores.frequency_bias, Some(0.0));
    }

    #[test]
    fn wrong_input_is_named_and_not_counted() {
        let mut counts = FINLEY;
        assert_eq!(
            counts.add_labels(&[0], &[0, 1]),
            Err(MetricsError::Length {
                predicted: 1,
                truth: 2
            })
        );
        assert_eq!(
            counts.add_labels(&[0, 1], &[0, 7]),
            Err(MetricsError::TrueLabel { index: 1, value: 7 })
        );
        assert_eq!(
            counts.add_labels(&[0, 255], &[0, 1]),
            Err(MetricsError::PredictedLabel {
                index: 1,
                value: 255
            })
        );
        assert_eq!(
            counts.add_probabilities(&[0.5, 1.5], &[0, 1], 0.5),
            Err(MetricsError::Probability {
                index: 1,
                value: 1.5
            })
        );
        assert!(
            counts
                .add_probabilities(&[0.5, f32::NAN], &[0, 1], 0.5)
                .is_err()
        );
        assert_eq!(counts, FINLEY);
    }

    #[test]
    fn json_uses_the_short_names() {
        let json = serde_json::to_string(&FINLEY).unwrap();
        assert_eq!(json, r#"{"tp":28,"fp":72,"fn":23,"tn":2680}"#);
        assert_eq!(serde_json::from_str::<Confusion>(&json).unwrap(), FINLEY);
        let dry = Confusion {
            tn: 5,
            ..Confusion::default()
        }
        .scores();
        let json = serde_json::to_string(&dry).unwrap();
        assert_eq!(serde_json::from_str::<Scores>(&json).unwrap(), dry);
    }
}
