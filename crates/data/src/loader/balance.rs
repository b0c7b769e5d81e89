//! Samples weighed by how much of their map is wet: most hours are dry, and a network that sees few floods learns few.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};

/// Lower bounds of the classes of wet share above the first, which begins at 0.
pub const WET_SHARES: [f64; 6] = [0.01, 0.03, 0.1, 0.2, 0.35, 0.5];

/// How often a sample comes in an epoch on average, by the class of its wet share ([`WET_SHARES`]): the whole part for certain,
/// one more with the probability of the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Balance {
    copies: [f64; WET_SHARES.len() + 1],
}

impl Balance {
    /// Draws the classes that occur alike: of `counts` samples in each, as [`InputStats::wet_shares`] has them. No sample comes more
    /// than `most` times, and an epoch keeps its number of samples on average as long as that bound is not met.
    ///
    /// # Errors
    /// When there is no sample, or `most` is less than 1.
    ///
    /// [`InputStats::wet_shares`]: super::InputStats::wet_shares
    pub fn even(counts: [u64; WET_SHARES.len() + 1], most: f64) -> Result<Self> {
        let samples: u64 = counts.iter().sum();
        if samples == 0 || !(most >= 1.0 && most.is_finite()) {
            return Err(DataError::Config(format!(
                "cannot balance {samples} samples with at most {most} copies of each"
            )));
        }
        let classes = counts.iter().filter(|&&count| count > 0).count() as f64;
        let share = samples as f64 / classes;
        let copies = |count: u64| match count {
            0 => 1.0,
            _ => (share / count as f64).min(most),
        };
        Ok(Self {
            copies: counts.map(copies),
        })
    }

    /// The class of a wet share.
    pub(super) fn class(share: f64) -> usize {
        WET_SHARES.partition_point(|&bound| bound <= share)
    }

    /// How often a sample of this wet share comes this time.
    pub(super) fn copies(&self, share: f64, rng: &mut impl Rng) -> usize {
        let mean = self.copies[Self::class(share)];
        mean as usize + usize::from(rng.random::<f64>() < mean.fract())
    }

    pub(super) fn check(&self) -> Result<()> {
        let possible = |copies: &f64| (0.0..=1e6).contains(copies);
        if self.copies.iter().all(possible) && self.copies.iter().any(|&copies| copies > 0.0) {
            return Ok(());
        }
        Err(DataError::Config(format!(
            "impossible numbers of copies: {:?}",
            self.copies
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_occur_come_alike_up_to_the_bound() {
        let balance = Balance::even([800, 0, 150, 50, 0, 0, 0], 10.0).unwrap();
        // 1000 samples in three classes: 333⅓ each.
        let expected = [1.0 / 2.4, 1.0, 1.0 / 0.45, 1.0 / 0.15, 1.0, 1.0, 1.0];
        for (copies, expected) in balance.copies.iter().zip(expected) {
            assert!((copies - expected).abs() < 1e-12, "{balance:?}");
        }
        let bounded = Balance::even([998, 2, 0, 0, 0, 0, 0], 8.0).unwrap();
        assert_eq!(bounded.copies[1], 8.0);
        assert!(Balance::even([0; 7], 8.0).is_err() && Balance::even([1; 7], 0.5).is_err());

        let mut rng = crate::rng::stream(1, "test");
        let mean = (0..20_000)
            .map(|_| balance.copies(0.05, &mut rng))
            .sum::<usize>() as f64
            / 20_000.0;
        // Standard error of the fraction 0.222: 0.003.
        assert!((mean - 1.0 / 0.45).abs() < 0.012, "{mean}");
        assert_eq!([0.0, 0.01, 0.3, 0.9].map(Balance::class), [0, 1, 4, 6]);
    }
}
