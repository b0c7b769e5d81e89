//! `scores.json`: what the model and every baseline reach on every split.

use std::collections::BTreeMap;

use pluvial_model::metrics::{Confusion, Scores};
use serde::{Deserialize, Serialize};

/// Scores of a run, by split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunScores {
    /// The model in a few words.
    pub model: String,
    /// Splits by name (`test_storms`, `test_terrain`, `validation`, …).
    pub splits: BTreeMap<String, SplitScores>,
}

/// The model and the baselines on one split, over the same pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitScores {
    /// Number of samples (maps).
    pub samples: u64,
    /// Share of scored pixels that are wet in truth, 0..1.
    pub wet_share: f64,
    /// The model.
    pub model: ScoreRow,
    /// Baselines by name (`all_dry`, `all_wet`, `climatology`, `logistic_regression`, `persistence`).
    pub baselines: BTreeMap<String, ScoreRow>,
}

/// One predictor: its confusion matrix and all scores that follow from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// Pixel counts `tp`, `fp`, `fn`, `tn`.
    #[serde(flatten)]
    pub counts: Confusion,
    /// Scores of these counts, written out for readers of the file.
    #[serde(flatten)]
    pub scores: Scores,
    /// Sees water that the model does not (persistence): context, not a rival.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub informed: bool,
}

impl From<Confusion> for ScoreRow {
    fn from(counts: Confusion) -> Self {
        Self {
            counts,
            scores: counts.scores(),
            informed: false,
        }
    }
}

impl ScoreRow {
    /// The row of a baseline that sees the water of now.
    pub fn informed(counts: Confusion) -> Self {
        Self {
            informed: true,
            ..counts.into()
        }
    }
}

impl SplitScores {
    /// See [`best_uninformed`].
    pub fn best_uninformed(&self) -> Option<(&str, &ScoreRow)> {
        best_uninformed(&self.baselines)
    }
}

/// The baseline with the highest CSI among those that see no water, with its name; the first by name where several are equal.
pub fn best_uninformed(baselines: &BTreeMap<String, ScoreRow>) -> Option<(&str, &ScoreRow)> {
    baselines
        .iter()
        .filter(|(_, row)| !row.informed)
        .rev()
        .max_by(|(_, a), (_, b)| a.scores.csi.total_cmp(&b.scores.csi))
        .map(|(name, row)| (name.as_str(), row))
}

/// A baseline's name in running text: `logistic_regression` → `logistic regression`.
pub fn plain_name(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(tp: u64, fp: u64, fn_: u64, tn: u64) -> Confusion {
        Confusion { tp, fp, fn_, tn }
    }

    fn example() -> RunScores {
        RunScores {
            model: "unet".into(),
            splits: BTreeMap::from([(
                "test_storms".into(),
                SplitScores {
                    samples: 3,
                    wet_share: 0.25,
                    model: counts(20, 5, 5, 70).into(),
                    baselines: BTreeMap::from([
                        ("all_dry".into(), counts(0, 0, 25, 75).into()),
                        ("all_wet".into(), counts(25, 75, 0, 0).into()),
                        (
                            "persistence".into(),
                            ScoreRow::informed(counts(25, 1, 0, 74)),
                        ),
                    ]),
                },
            )]),
        }
    }

    #[test]
    fn one_flat_object_a_predictor_and_back() {
        let text = serde_json::to_string(&example()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let split = &json["splits"]["test_storms"];
        assert_eq!(split["model"]["tp"], 20);
        assert_eq!(split["model"]["fn"], 5);
        assert_eq!(split["model"]["csi"], 20.0 / 30.0);
        assert_eq!(split["model"].get("informed"), None);
        assert_eq!(split["baselines"]["persistence"]["informed"], true);
        // Compared as counts: serde_json reads a float to within one unit in the last place.
        let back: RunScores = serde_json::from_str(&text).unwrap();
        let split = &back.splits["test_storms"];
        assert_eq!(split.model.counts, counts(20, 5, 5, 70));
        assert!((split.model.scores.accuracy - 0.9).abs() < 1e-15);
        assert_eq!(split.baselines["all_dry"].scores.csi, 0.0);
        assert!(split.baselines["persistence"].informed && !split.model.informed);
    }

    #[test]
    fn persistence_is_no_rival() {
        let scores = example();
        let (name, row) = scores.splits["test_storms"].best_uninformed().unwrap();
        assert_eq!((name, row.scores.csi), ("all_wet", 0.25));
    }
}
