//! What a split's inputs are like: measured once over the training split and kept beside what was trained with it.

use ndarray::Array3;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::lanes::{Lanes, Record};
use super::{Balance, Loader, Shared, WET_SHARES};
use crate::error::Result;
use crate::transform::Moments;

/// Samples whose sums are made at the same time.
const CHUNK: usize = 64;

/// Moments of every input plane, and how wet the samples are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputStats {
    /// Samples read.
    pub samples: u64,
    /// Mean and deviation of each plane, for [`TransformConfig::moments`](crate::TransformConfig::moments).
    pub moments: Vec<Moments>,
    /// Samples in each class of wet share ([`WET_SHARES`]), for [`Balance::even`].
    pub wet_shares: [u64; WET_SHARES.len() + 1],
}

/// Of one sample.
struct Sums {
    /// Sum and sum of squares of each plane.
    planes: Vec<(f64, f64)>,
    cells: u64,
    class: usize,
}

impl Loader {
    /// Reads every sample once, as the transforms make it (moments, random crops and balancing left aside).
    ///
    /// # Errors
    /// Those of reading; bad records stop or are counted as the loader is set.
    pub fn input_stats(&self) -> Result<InputStats> {
        let shared = &self.shared;
        let order: Vec<usize> = (0..shared.shards.len()).collect();
        let mut lanes = Lanes::start(shared, &order, shared.config.interleave);
        let plain = shared.inputs.clone().without_moments();
        let [planes, ..] = plain.shape();
        let mut totals = vec![(0.0, 0.0); planes];
        let (mut cells, mut samples, mut wet_shares) = (0, 0, [0; WET_SHARES.len() + 1]);
        loop {
            let mut records: Vec<Record> = Vec::with_capacity(CHUNK);
            while records.len() < CHUNK {
                match lanes.next() {
                    Some(Ok(record)) => records.push(record),
                    Some(Err(e)) => shared.bad_record(e)?,
                    None => break,
                }
            }
            if records.is_empty() {
                break;
            }
            let sums: Vec<Sums> = records
                .par_iter()
                .map_init(
                    || Array3::zeros(plain.shape()),
                    |input, record| shared.sums(&plain, record, input),
                )
                .collect();
            // In order, so that the result is the same on any number of threads.
            for sample in sums {
                for (total, plane) in totals.iter_mut().zip(sample.planes) {
                    *total = (total.0 + plane.0, total.1 + plane.1);
                }
                cells += sample.cells;
                wet_shares[sample.class] += 1;
                samples += 1;
            }
            records
                .into_iter()
                .for_each(|record| shared.give_back(record));
        }
        let count = cells.max(1) as f64;
        let moments = totals.into_iter().map(|(sum, squares)| {
            let mean = sum / count;
            let variance = (squares / count - mean * mean).max(0.0);
            Moments {
                mean: mean as f32,
                deviation: variance.sqrt() as f32,
            }
        });
        Ok(InputStats {
            samples,
            moments: moments.collect(),
            wet_shares,
        })
    }
}

impl Shared {
    fn sums(
        &self,
        inputs: &crate::transform::InputBuilder,
        record: &Record,
        input: &mut Array3<f32>,
    ) -> Sums {
        let catchment = self.catchment(record);
        let mut sums = Sums {
            planes: vec![(0.0, 0.0); input.shape()[0]],
            cells: 0,
            class: Balance::class(self.wet_share(record)),
        };
        for &window in &self.windows {
            inputs.build(&record.sample, catchment, window, input.view_mut());
            // Cells without terrain are 0 in every plane: they change no sum.
            for (sum, plane) in sums.planes.iter_mut().zip(input.outer_iter()) {
                for &value in plane {
                    let value = f64::from(value);
                    *sum = (sum.0 + value, sum.1 + value * value);
                }
            }
            sums.cells += match self.inputs.valid(catchment) {
                Some(valid) => window.of(&valid).iter().filter(|&&valid| valid).count() as u64,
                None => (window.height * window.width) as u64,
            };
        }
        sums
    }
}
