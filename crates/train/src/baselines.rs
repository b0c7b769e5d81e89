//! What a prediction without a network reaches. Every score of the model is shown beside these.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2, ArrayView3, Axis, Zip};
use pluvial_data::loader::Batch;
use pluvial_model::metrics::{Confusion, IGNORE_LABEL, ThresholdSweep};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::logistic::Logistic;
use crate::scores::ScoreRow;

/// Cells that the logistic regression is fitted on: more change its scores in the fourth digit only.
const LOGISTIC_CELLS: usize = 300_000;

/// Collects what the baselines need in one pass over the training split.
pub struct BaselineFit {
    wet: BTreeMap<usize, Frequency>,
    rows: Vec<f32>,
    labels: Vec<u8>,
    keep_share: f64,
    rng: ChaCha8Rng,
    wet_cells: u64,
    dry_cells: u64,
    /// A depth between 0 and 1 or above 1 was seen.
    graded_depths: bool,
}

/// How often each cell of a catchment was wet.
struct Frequency {
    wet: Array2<u32>,
    seen: Array2<u32>,
}

/// The fitted baselines.
pub struct Baselines {
    /// Wet frequency by catchment; empty for terrain that was never seen.
    climatology: BTreeMap<usize, Array2<f32>>,
    climatology_threshold: f32,
    logistic: Option<(Logistic, f32)>,
    wet_threshold_m: f32,
}

impl BaselineFit {
    /// `cells`: about how many cells the pass will show, from which the share kept for the regression follows.
    pub fn new(cells: usize, seed: u64) -> Self {
        Self {
            wet: BTreeMap::new(),
            rows: Vec::new(),
            labels: Vec::new(),
            keep_share: (LOGISTIC_CELLS as f64 / cells.max(1) as f64).min(1.0),
            rng: ChaCha8Rng::seed_from_u64(seed),
            wet_cells: 0,
            dry_cells: 0,
            graded_depths: false,
        }
    }

    /// Takes in a batch of the training split, not flipped and not cropped at random: climatology is per cell.
    pub fn add(&mut self, batch: &Batch) {
        for (index, &catchment) in batch.catchment.iter().enumerate() {
            let label = batch.label.index_axis(Axis(0), index);
            let frequency = self.wet.entry(catchment).or_insert_with(|| Frequency {
                wet: Array2::zeros(label.dim()),
                seen: Array2::zeros(label.dim()),
            });
            Zip::from(&mut frequency.wet)
                .and(&mut frequency.seen)
                .and(&label)
                .for_each(|wet, seen, &label| {
                    *wet += u32::from(label == 1);
                    *seen += u32::from(label != IGNORE_LABEL);
                });
            self.wet_cells += label.iter().filter(|&&l| l == 1).count() as u64;
            self.dry_cells += label.iter().filter(|&&l| l == 0).count() as u64;
            let depth_m = batch.depth_m.index_axis(Axis(0), index);
            self.graded_depths |= depth_m.iter().any(|&d| d != 0.0 && d != 1.0);
            self.sample_cells(batch.input.index_axis(Axis(0), index), label);
        }
    }

    /// Wet and dry cells of the split.
    pub fn class_balance(&self) -> (u64, u64) {
        (self.wet_cells, self.dry_cells)
    }

    /// True where every depth was 0 or 1: the records were thresholded when they were made.
    pub fn depths_are_binary(&self) -> bool {
        !self.graded_depths
    }

    fn sample_cells(&mut self, input: ArrayView3<f32>, label: ArrayView2<u8>) {
        for ((row, column), &label) in label.indexed_iter() {
            if label != IGNORE_LABEL && self.rng.random::<f64>() < self.keep_share {
                self.rows.extend(input.slice(ndarray::s![.., row, column]));
                self.labels.push(label);
            }
        }
    }

    /// Fits the baselines. Both thresholds are the best ones for CSI on the training split.
    pub fn finish(self, wet_threshold_m: f32) -> Baselines {
        let mut sweep = ThresholdSweep::default();
        let mut climatology = BTreeMap::new();
        for (catchment, Frequency { wet, seen }) in self.wet {
            let share = Zip::from(&wet)
                .and(&seen)
                .map_collect(|&wet, &seen| wet as f32 / seen.max(1) as f32);
            Zip::from(&share)
                .and(&wet)
                .and(&seen)
                .for_each(|&share, &wet, &seen| {
                    sweep
                        .add_counts(share, u64::from(seen - wet), u64::from(wet))
                        .expect("a share lies between 0 and 1");
                });
            climatology.insert(catchment, share);
        }
        let logistic = Logistic::fit(&self.rows, &self.labels).map(|logistic| {
            let mut sweep = ThresholdSweep::default();
            let channels = self.rows.len() / self.labels.len();
            for (row, &label) in self.rows.chunks_exact(channels).zip(&self.labels) {
                let probability = logistic.probability(row.iter().copied());
                sweep
                    .add(&[probability], &[label])
                    .expect("a sigmoid lies between 0 and 1");
            }
            let threshold = sweep.best_csi().threshold;
            (logistic, threshold)
        });
        Baselines {
            climatology_threshold: sweep.best_csi().threshold,
            climatology,
            logistic,
            wet_threshold_m,
        }
    }
}

/// Confusion matrices of all baselines over a split.
#[derive(Debug, Clone, Default)]
pub struct BaselineCounts {
    all_dry: Confusion,
    all_wet: Confusion,
    /// `None` once a sample came whose terrain was not seen in training.
    climatology: Option<Confusion>,
    logistic: Option<Confusion>,
    persistence: Option<Confusion>,
}

impl Baselines {
    /// An empty count for a split.
    pub fn start(&self) -> BaselineCounts {
        BaselineCounts {
            climatology: Some(Confusion::default()),
            logistic: self.logistic.as_ref().map(|_| Confusion::default()),
            persistence: Some(Confusion::default()),
            ..BaselineCounts::default()
        }
    }

    /// Scores the baselines on a batch.
    pub fn count(&self, batch: &Batch, counts: &mut BaselineCounts) {
        for (index, catchment) in batch.catchment.iter().enumerate() {
            let label = batch.label.index_axis(Axis(0), index);
            let wet = label.iter().filter(|&&l| l == 1).count() as u64;
            let dry = label.iter().filter(|&&l| l == 0).count() as u64;
            counts.all_dry.merge(&Confusion {
                tp: 0,
                fp: 0,
                fn_: wet,
                tn: dry,
            });
            counts.all_wet.merge(&Confusion {
                tp: wet,
                fp: dry,
                fn_: 0,
                tn: 0,
            });
            match self.climatology.get(catchment) {
                Some(share) => add_all(
                    &mut counts.climatology,
                    share.iter().map(|&p| p >= self.climatology_threshold),
                    label,
                ),
                None => counts.climatology = None,
            }
            if let Some((logistic, threshold)) = &self.logistic {
                let input = batch.input.index_axis(Axis(0), index);
                let wet = input
                    .lanes(Axis(0))
                    .into_iter()
                    .map(|cell| logistic.probability(cell.iter().copied()) >= *threshold);
                add_all(&mut counts.logistic, wet, label);
            }
            match &batch.depth_now_m {
                Some(now) => {
                    let now = now.index_axis(Axis(0), index);
                    let wet = now.iter().map(|&depth| depth >= self.wet_threshold_m);
                    add_all(&mut counts.persistence, wet, label);
                }
                None => counts.persistence = None,
            }
        }
    }
}

impl BaselineCounts {
    /// The rows of `scores.json`.
    pub fn rows(&self) -> BTreeMap<String, ScoreRow> {
        let mut rows = BTreeMap::from([
            ("all_dry".to_string(), self.all_dry.into()),
            ("all_wet".to_string(), self.all_wet.into()),
        ]);
        if let Some(counts) = self.climatology {
            rows.insert("climatology".into(), counts.into());
        }
        if let Some(counts) = self.logistic {
            rows.insert("logistic_regression".into(), counts.into());
        }
        if let Some(counts) = self.persistence {
            rows.insert("persistence".into(), ScoreRow::informed(counts));
        }
        rows
    }
}

fn add_all(
    counts: &mut Option<Confusion>,
    predicted: impl Iterator<Item = bool>,
    truth: ArrayView2<u8>,
) {
    let Some(counts) = counts else { return };
    for (predicted, &truth) in predicted.zip(truth.iter()) {
        match (predicted, truth) {
            (_, IGNORE_LABEL) => {}
            (true, 1) => counts.tp += 1,
            (true, _) => counts.fp += 1,
            (false, 1) => counts.fn_ += 1,
            (false, _) => counts.tn += 1,
        }
    }
}
