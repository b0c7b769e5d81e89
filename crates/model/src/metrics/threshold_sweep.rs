//! Confusion matrices at many probability thresholds from one pass over the pixels.

use super::confusion::checked_probability;
use super::{Confusion, IGNORE_LABEL, MetricsError};

/// Histograms of wet probability over dry and over wet pixels, from which the confusion matrix at any of `bins` thresholds follows.
///
/// The thresholds are t_k = k / (bins − 1) for k = 0 … bins − 1, and bin k holds the pixels with t_k ≤ p < t_(k+1); a pixel is predicted
/// wet where p ≥ t_k, so the counts at a threshold are exactly those of [`Confusion::add_probabilities`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdSweep {
    dry: Vec<u64>,
    wet: Vec<u64>,
}

/// The threshold of a sweep with the highest CSI.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestThreshold {
    /// Wet where probability ≥ this.
    pub threshold: f32,
    /// Counts at this threshold.
    pub confusion: Confusion,
}

impl Default for ThresholdSweep {
    /// 1001 thresholds: steps of 0.001.
    fn default() -> Self {
        Self::new(1001)
    }
}

impl ThresholdSweep {
    /// An empty sweep over `bins` thresholds from 0 to 1; fewer than 2 are taken as 2.
    pub fn new(bins: usize) -> Self {
        let bins = bins.max(2);
        Self {
            dry: vec![0; bins],
            wet: vec![0; bins],
        }
    }

    /// Number of thresholds.
    pub fn bins(&self) -> usize {
        self.dry.len()
    }

    /// The `k`-th threshold, `k / (bins − 1)`.
    pub fn threshold(&self, k: usize) -> f32 {
        k as f32 / (self.bins() - 1) as f32
    }

    /// Counts pixels: wet probability in [0, 1] and `truth` 0, 1 or 255 (ignored).
    ///
    /// # Errors
    /// As [`Confusion::add_probabilities`]; the histograms are then left as they were.
    pub fn add(&mut self, probability: &[f32], truth: &[u8]) -> Result<(), MetricsError> {
        // Checks every pixel before the first is counted.
        Confusion::default().add_probabilities(probability, truth, 0.5)?;
        for (index, (&value, &label)) in probability.iter().zip(truth).enumerate() {
            if label == IGNORE_LABEL {
                continue;
            }
            let bin = self.bin(checked_probability(index, value)?);
            match label {
                0 => self.dry[bin] += 1,
                _ => self.wet[bin] += 1,
            }
        }
        Ok(())
    }

    /// Counts many pixels of the same wet probability at once: `dry` and `wet` of them in truth.
    ///
    /// # Errors
    /// A probability outside [0, 1] or NaN.
    pub fn add_counts(&mut self, probability: f32, dry: u64, wet: u64) -> Result<(), MetricsError> {
        let bin = self.bin(checked_probability(0, probability)?);
        self.dry[bin] += dry;
        self.wet[bin] += wet;
        Ok(())
    }

    /// Adds the counts of another part of the split.
    ///
    /// # Panics
    /// If the two have different numbers of bins.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.bins(), other.bins(), "sweeps of different resolution");
        for (mine, theirs) in self.dry.iter_mut().zip(&other.dry) {
            *mine += theirs;
        }
        for (mine, theirs) in self.wet.iter_mut().zip(&other.wet) {
            *mine += theirs;
        }
    }

    /// Counts at the `k`-th threshold.
    ///
    /// # Panics
    /// If `k` is not less than the number of bins.
    pub fn confusion(&self, k: usize) -> Confusion {
        let sum = |counts: &[u64]| counts.iter().sum();
        Confusion {
            tp: sum(&self.wet[k..]),
            fp: sum(&self.dry[k..]),
            fn_: sum(&self.wet[..k]),
            tn: sum(&self.dry[..k]),
        }
    }

    /// The threshold with the highest CSI; of equal ones the lowest.
    pub fn best_csi(&self) -> BestThreshold {
        let mut current = self.confusion(0);
        let mut best = (0, current);
        for k in 1..self.bins() {
            // Raising the threshold past bin k − 1 turns its pixels from wet to dry.
            current.tp -= self.wet[k - 1];
            current.fn_ += self.wet[k - 1];
            current.fp -= self.dry[k - 1];
            current.tn += self.dry[k - 1];
            if current.csi() > best.1.csi() {
                best = (k, current);
            }
        }
        BestThreshold {
            threshold: self.threshold(best.0),
            confusion: best.1,
        }
    }

    /// The largest `k` with `threshold(k) ≤ p`.
    fn bin(&self, p: f32) -> usize {
        let last = self.bins() - 1;
        let k = ((p * last as f32) as usize).min(last);
        // The product may round across a threshold in either direction.
        if self.threshold(k) > p {
            k - 1
        } else if k < last && self.threshold(k + 1) <= p {
            k + 1
        } else {
            k
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed, uneven set of probabilities on and off the thresholds.
    fn pixels() -> (Vec<f32>, Vec<u8>) {
        let mut state = 7u32;
        (0..4000)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let u = (state >> 8) as f32 / (1 << 24) as f32;
                let p = match i % 4 {
                    0 => (u * 1000.0).round() / 1000.0,
                    1 => u * u,
                    _ => u,
                };
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let v = (state >> 8) as f32 / (1 << 24) as f32;
                let label = if i % 17 == 0 {
                    255
                } else {
                    u8::from(v < p * 0.6)
                };
                (p, label)
            })
            .unzip()
    }

    #[test]
    fn every_threshold_equals_a_direct_count() {
        let (p, truth) = pixels();
        for bins in [2, 8, 101, 1001] {
            let mut sweep = ThresholdSweep::new(bins);
            sweep.add(&p, &truth).unwrap();
            let mut best = Confusion {
                fn_: 1, // CSI 0
                ..Confusion::default()
            };
            for k in 0..bins {
                let mut direct = Confusion::default();
                direct
                    .add_probabilities(&p, &truth, sweep.threshold(k))
                    .unwrap();
                assert_eq!(sweep.confusion(k), direct, "threshold {k} of {bins}");
                if direct.csi() > best.csi() {
                    best = direct;
                }
            }
            let found = sweep.best_csi();
            assert_eq!(found.confusion.csi(), best.csi());
            let mut direct = Confusion::default();
            direct
                .add_probabilities(&p, &truth, found.threshold)
                .unwrap();
            assert_eq!(found.confusion, direct);
        }
    }

    #[test]
    fn separable_probabilities_are_separated() {
        let mut sweep = ThresholdSweep::default();
        sweep
            .add(&[0.2, 0.25, 0.7, 1.0, 0.0], &[0, 0, 1, 1, 0])
            .unwrap();
        let best = sweep.best_csi();
        assert_eq!(best.confusion.csi(), 1.0);
        assert!(best.threshold > 0.25 && best.threshold <= 0.7);
    }

    #[test]
    fn parts_add_up_and_bad_values_are_refused() {
        let (p, truth) = pixels();
        let mut whole = ThresholdSweep::new(11);
        whole.add(&p, &truth).unwrap();
        let mut first = ThresholdSweep::new(11);
        first.add(&p[..1500], &truth[..1500]).unwrap();
        let mut second = ThresholdSweep::new(11);
        second.add(&p[1500..], &truth[1500..]).unwrap();
        first.merge(&second);
        assert_eq!(first, whole);
        assert!(first.add(&[0.5, -0.1], &[1, 1]).is_err());
        assert!(first.add(&[0.5, 0.1], &[1, 9]).is_err());
        assert_eq!(first, whole);
    }
}
