//! What samples hold once they are cropped and labelled: said before training, so that no score is read without it.

use std::path::PathBuf;

use ndarray::ArrayView2;
use serde::Serialize;

use crate::dataset::Dataset;
use crate::error::Result;
use crate::loader::OnBadRecord;
use crate::pool::FULL_SCALE_MM_PER_H;
use crate::sample::Sample;
use crate::scan::{Tick, scan_shards};
use crate::transform::label::label;
use crate::transform::{NO_DATA, TransformConfig, Window};

/// Lower edges of the bins of rain rates in mm/h, after the bin of dry cells.
pub const RAIN_EDGES_MM_PER_H: [f32; 9] = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
/// Lower edges of the bins of depths in metres, after the bin of dry cells.
pub const DEPTH_EDGES_M: [f32; 8] = [0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2];

/// Number, mean, spread and range of values, without keeping them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moments {
    /// How many values.
    pub count: u64,
    /// Their mean; 0 without values.
    pub mean: f64,
    /// Their standard deviation (of the population); 0 without values.
    pub std: f64,
    /// The least; infinite without values.
    pub min: f32,
    /// The greatest; minus infinite without values.
    pub max: f32,
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            count: 0,
            mean: 0.0,
            std: 0.0,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
        }
    }
}

impl Moments {
    /// Of `values`, in two passes.
    pub fn of(values: impl Iterator<Item = f32> + Clone) -> Self {
        let (mut count, mut sum) = (0u64, 0.0);
        let (mut min, mut max) = (f32::INFINITY, f32::NEG_INFINITY);
        for value in values.clone() {
            count += 1;
            sum += f64::from(value);
            min = min.min(value);
            max = max.max(value);
        }
        let mean = sum / count.max(1) as f64;
        let squares: f64 = values.map(|value| (f64::from(value) - mean).powi(2)).sum();
        let std = (squares / count.max(1) as f64).sqrt();
        Self {
            count,
            mean,
            std,
            min,
            max,
        }
    }

    /// Those of both sets of values together (Chan, Golub & LeVeque 1983, The American Statistician 37).
    pub fn and(&self, other: &Self) -> Self {
        let count = self.count + other.count;
        let (a, b) = (self.count as f64, other.count as f64);
        let all = count.max(1) as f64;
        let apart = other.mean - self.mean;
        let variance =
            (a * self.std.powi(2) + b * other.std.powi(2) + apart.powi(2) * a * b / all) / all;
        Self {
            count,
            mean: self.mean + apart * b / all,
            std: variance.sqrt(),
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// Class balance, depths, rain and input channels of samples.
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
    /// Cells at least as deep as the threshold, with those that are alone.
    pub wet_with_isolated: u64,
    /// Cells without terrain.
    pub no_data: u64,
    /// Deepest water, in metres, of the whole map.
    pub max_depth_m: f32,
    /// Shards whose depths are all 0 or 1: binarised already, so that a threshold between has no effect.
    pub binary_shards: Vec<PathBuf>,
    /// Sum of the stored rain values (shares of 100 mm/h) over the crop, each as often as it covers depth cells.
    pub rain_sum: f64,
    /// Cells by depth: dry and below the first of [`DEPTH_EDGES_M`], then from each edge on.
    pub depth_histogram: Vec<u64>,
    /// Cropped rain values of all rain channels by rate: below the first of [`RAIN_EDGES_MM_PER_H`], then from each edge on.
    pub rain_histogram: Vec<u64>,
    /// Rain channels, rain totals, depth and terrain as they are stored, over the crop; terrain once a sample.
    pub channels: Vec<(String, Moments)>,
}

impl SplitStats {
    /// Cells with data.
    pub fn cells(&self) -> u64 {
        self.wet + self.dry
    }

    /// Share of wet cells among those with data; 0 when there are none.
    pub fn wet_share(&self) -> f64 {
        self.wet as f64 / self.cells().max(1) as f64
    }

    /// Those of both together.
    pub fn and(mut self, other: Self) -> Self {
        self.samples += other.samples;
        self.bad_records += other.bad_records;
        self.dry += other.dry;
        self.wet += other.wet;
        self.wet_with_isolated += other.wet_with_isolated;
        self.no_data += other.no_data;
        self.max_depth_m = self.max_depth_m.max(other.max_depth_m);
        self.binary_shards.extend(other.binary_shards);
        self.rain_sum += other.rain_sum;
        add_counts(&mut self.depth_histogram, &other.depth_histogram);
        add_counts(&mut self.rain_histogram, &other.rain_histogram);
        if self.channels.is_empty() {
            self.channels = other.channels;
        } else {
            for ((_, moments), (_, other)) in self.channels.iter_mut().zip(&other.channels) {
                *moments = moments.and(other);
            }
        }
        self
    }
}

fn add_counts(counts: &mut Vec<u64>, other: &[u64]) {
    counts.resize(counts.len().max(other.len()), 0);
    counts
        .iter_mut()
        .zip(other)
        .for_each(|(count, other)| *count += other);
}

/// Counts `values` by the bin between `edges` they fall into.
fn histogram(values: impl Iterator<Item = f32>, edges: &[f32]) -> Vec<u64> {
    let mut counts = vec![0; edges.len() + 1];
    values.for_each(|value| counts[edges.partition_point(|&edge| edge <= value)] += 1);
    counts
}

/// Reads `shards` as training sees them (crop, threshold, isolated cells), in parallel over shards: one result a shard, in
/// their order. Of `transform`, the input channels do not matter.
///
/// # Errors
/// When a shard cannot be opened or the transforms do not fit the dataset; with [`OnBadRecord::Stop`] also at the first bad
/// record.
pub fn shard_stats(
    dataset: &Dataset,
    shards: &[usize],
    transform: &TransformConfig,
    on_bad_record: OnBadRecord,
    tick: &Tick,
) -> Result<Vec<SplitStats>> {
    let window = Window::centred(dataset.metadata.waterdepth, transform.output_size)?;
    let scale = dataset.scale()?;
    scan_shards(dataset, shards, tick, |shard, reader| {
        let shard = &dataset.shards[shard];
        let elevation_m = dataset.terrains[shard.catchment].elevation_m.as_ref();
        let elevation_m = elevation_m.map(|elevation_m| window.of(&elevation_m.view()).to_owned());
        let terrain = elevation_m
            .as_ref()
            .map(|z| Moments::of(z.iter().copied().filter(|z| !z.is_nan())));
        let valid = elevation_m.map(|elevation_m| elevation_m.mapv(|z| !z.is_nan()));
        let mut stats = SplitStats::default();
        let mut binary = true;
        for sample in reader {
            let sample = match (sample, on_bad_record) {
                (Ok(sample), _) => sample,
                (Err(e), OnBadRecord::Stop) => return Err(e),
                (Err(_), OnBadRecord::Skip) => {
                    stats.bad_records += 1;
                    continue;
                }
            };
            binary &= sample
                .depth_m
                .iter()
                .all(|&depth| depth == 0.0 || depth == 1.0);
            let valid = valid.as_ref().map(|valid| valid.view());
            let mut one = sample_stats(&sample, window, scale, transform, valid);
            one.channels.extend(
                terrain
                    .clone()
                    .map(|moments| ("terrain_m".to_owned(), moments)),
            );
            stats = stats.and(one);
        }
        if binary && stats.max_depth_m > 0.0 {
            stats.binary_shards.push(shard.path.clone());
        }
        Ok(stats)
    })
}

/// As [`shard_stats`], all shards together.
///
/// # Errors
/// As there.
pub fn split_stats(
    dataset: &Dataset,
    shards: &[usize],
    transform: &TransformConfig,
    on_bad_record: OnBadRecord,
) -> Result<SplitStats> {
    let parts = shard_stats(dataset, shards, transform, on_bad_record, &|_| ())?;
    Ok(parts
        .into_iter()
        .fold(SplitStats::default(), SplitStats::and))
}

fn sample_stats(
    sample: &Sample,
    window: Window,
    scale: usize,
    transform: &TransformConfig,
    valid: Option<ArrayView2<bool>>,
) -> SplitStats {
    let mut stats = SplitStats {
        samples: 1,
        max_depth_m: sample.depth_m.iter().copied().fold(0.0, f32::max),
        ..SplitStats::default()
    };
    // A rain cell counts as often as it covers depth cells of the crop.
    let rows = window.top..window.top + window.height;
    let columns = window.left..window.left + window.width;
    let cells = |plane: ArrayView2<f32>| -> Vec<f32> {
        rows.clone()
            .flat_map(|y| columns.clone().map(move |x| (y, x)))
            .map(|(y, x)| plane[[y / scale, x / scale]])
            .collect()
    };
    for (channel, plane) in sample.rain.outer_iter().enumerate() {
        let cells = cells(plane);
        stats.rain_sum += cells.iter().map(|&value| f64::from(value)).sum::<f64>();
        let rates = cells.iter().map(|&value| value * FULL_SCALE_MM_PER_H);
        add_counts(
            &mut stats.rain_histogram,
            &histogram(rates, &RAIN_EDGES_MM_PER_H),
        );
        stats
            .channels
            .push((format!("rain_{channel}"), Moments::of(cells.into_iter())));
    }
    for (total, plane) in sample
        .rain_totals_mm
        .iter()
        .flat_map(|totals| totals.outer_iter())
        .enumerate()
    {
        stats.channels.push((
            format!("rain_total_{total}_mm"),
            Moments::of(cells(plane).into_iter()),
        ));
    }
    let depth_m = sample.depth_m.view();
    let depth_m = window.of(&depth_m);
    let has_data = |place: (usize, usize)| valid.is_none_or(|valid| valid[place]);
    let depths: Vec<f32> = depth_m
        .indexed_iter()
        .filter(|&(place, _)| has_data(place))
        .map(|(_, &depth)| depth)
        .collect();
    stats.wet_with_isolated = depths
        .iter()
        .filter(|&&depth| depth >= transform.threshold_m)
        .count() as u64;
    stats.depth_histogram = histogram(depths.iter().copied(), &DEPTH_EDGES_M);
    stats
        .channels
        .push(("depth_m".into(), Moments::of(depths.into_iter())));
    for label in label(
        depth_m,
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
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_parts_are_those_of_the_whole() {
        let values: Vec<f32> = (0..100).map(|i| ((i * 37) % 100) as f32 * 0.125).collect();
        let whole = Moments::of(values.iter().copied());
        // 0 to 99 eighths: mean 99/16, variance (100² − 1) / 12 / 64.
        assert!((whole.mean - 99.0 / 16.0).abs() < 1e-12);
        assert!((whole.std - (9999.0f64 / 768.0).sqrt()).abs() < 1e-12);
        assert_eq!((whole.count, whole.min, whole.max), (100, 0.0, 12.375));
        let parts = values
            .chunks(7)
            .map(|part| Moments::of(part.iter().copied()));
        let joined = parts.fold(Moments::default(), |all, part| all.and(&part));
        assert!((joined.mean - whole.mean).abs() < 1e-12 && (joined.std - whole.std).abs() < 1e-12);
        assert_eq!((joined.count, joined.min, joined.max), (100, 0.0, 12.375));
        assert_eq!(Moments::of(std::iter::empty()), Moments::default());
    }

    #[test]
    fn an_edge_belongs_to_the_bin_above_it() {
        let counts = histogram([0.0, 0.0999, 0.1, 0.3, 9.0].into_iter(), &[0.1, 0.3]);
        assert_eq!(counts, [2, 1, 2]);
    }
}
