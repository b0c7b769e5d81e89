//! What a split holds: said before training, so that no score is read without it.

use std::path::PathBuf;

use ndarray::ArrayView2;
use rayon::prelude::*;
use serde::Serialize;

use crate::dataset::Dataset;
use crate::error::Result;
use crate::loader::OnBadRecord;
use crate::record::ShardReader;
use crate::transform::label::label;
use crate::transform::{NO_DATA, TransformConfig, Window};

/// Class balance and depths of a split.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SplitStats {
    /// Samples read.
    pub samples: u64,
    /// Bad records left out (with [`OnBadRecord::Skip`]).
    pub bad_records: u64,
    /// Cells labelled dry.
    pub dry: u64,
    /// Cells labelled wet.
    pub wet: u64,
    /// Cells without terrain.
    pub no_data: u64,
    /// Deepest water, in metres.
    pub max_depth_m: f32,
    /// Shards whose depths are all 0 or 1: binarised already, so that a threshold between has no effect.
    pub binary_shards: Vec<PathBuf>,
}

impl SplitStats {
    /// Share of wet cells among those with data; 0 when there are none.
    pub fn wet_share(&self) -> f64 {
        self.wet as f64 / (self.wet + self.dry).max(1) as f64
    }

    fn add(mut self, other: Self) -> Self {
        self.samples += other.samples;
        self.bad_records += other.bad_records;
        self.dry += other.dry;
        self.wet += other.wet;
        self.no_data += other.no_data;
        self.max_depth_m = self.max_depth_m.max(other.max_depth_m);
        self.binary_shards.extend(other.binary_shards);
        self
    }
}

/// Counts the labels of `shards` as training sees them (crop, threshold, isolated cells), in parallel over shards.
///
/// # Errors
/// When a shard cannot be opened; with [`OnBadRecord::Stop`] also at the first bad record.
pub fn split_stats(
    dataset: &Dataset,
    shards: &[usize],
    transform: &TransformConfig,
    on_bad_record: OnBadRecord,
) -> Result<SplitStats> {
    let window = Window::centred(dataset.metadata.waterdepth, transform.output_size)?;
    let parts: Result<Vec<SplitStats>> = shards
        .par_iter()
        .map(|&shard| shard_stats(dataset, shard, transform, window, on_bad_record))
        .collect();
    Ok(parts?
        .into_iter()
        .fold(SplitStats::default(), SplitStats::add))
}

fn shard_stats(
    dataset: &Dataset,
    shard: usize,
    transform: &TransformConfig,
    window: Window,
    on_bad_record: OnBadRecord,
) -> Result<SplitStats> {
    let shard = &dataset.shards[shard];
    let elevation = dataset.terrains[shard.catchment].elevation_m.as_ref();
    let valid = elevation.map(|elevation| window.of(&elevation.view()).mapv(|z| !z.is_nan()));
    let mut stats = SplitStats::default();
    let mut binary = true;
    for sample in ShardReader::open(&shard.path, &dataset.metadata)? {
        let sample = match (sample, on_bad_record) {
            (Ok(sample), _) => sample,
            (Err(e), OnBadRecord::Stop) => return Err(e),
            (Err(_), OnBadRecord::Skip) => {
                stats.bad_records += 1;
                continue;
            }
        };
        let depth_m: ArrayView2<f32> = sample.depth_m.view();
        binary &= depth_m.iter().all(|&depth| depth == 0.0 || depth == 1.0);
        stats.max_depth_m = depth_m
            .iter()
            .fold(stats.max_depth_m, |max, &depth| max.max(depth));
        let valid = valid.as_ref().map(|valid| valid.view());
        for label in label(
            window.of(&depth_m),
            transform.threshold_m,
            transform.remove_isolated,
            valid,
        ) {
            match label {
                NO_DATA => stats.no_data += 1,
                0 => stats.dry += 1,
                _ => stats.wet += 1,
            }
        }
        stats.samples += 1;
    }
    if binary && stats.max_depth_m > 0.0 {
        stats.binary_shards.push(shard.path.clone());
    }
    Ok(stats)
}
