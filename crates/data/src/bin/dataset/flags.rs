//! Flags that several commands share.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pluvial_data::transform::{Channel, TransformConfig};
use pluvial_data::{Dataset, split};
use serde::Serialize;

/// How the loader makes labels and inputs of samples.
#[derive(Args)]
pub struct TransformFlags {
    /// Centre crop in depth cells, N or HEIGHTxWIDTH; the whole map by default.
    #[arg(long, value_name = "N|HxW", value_parser = size)]
    size: Option<[usize; 2]>,
    /// Depth cells per rain cell along each axis. It follows from the data; giving it makes sure.
    #[arg(long, value_name = "N")]
    scale_up: Option<usize>,
    /// Depth in metres from which a cell is wet.
    #[arg(long, value_name = "M", default_value_t = TransformConfig::default().threshold_m)]
    threshold: f32,
}

fn size(text: &str) -> Result<[usize; 2], String> {
    let number = |text: &str| match text.parse() {
        Ok(0) | Err(_) => Err(format!("'{text}' is no number of cells")),
        Ok(number) => Ok(number),
    };
    match text.split_once('x') {
        Some((height, width)) => Ok([number(height)?, number(width)?]),
        None => Ok([number(text)?; 2]),
    }
}

impl TransformFlags {
    /// The transforms of `channels`.
    pub fn config(&self, dataset: &Dataset, channels: Vec<Channel>) -> Result<TransformConfig> {
        let scale = dataset.scale()?;
        if let Some(asked) = self.scale_up {
            ensure!(
                asked == scale,
                "'{}': a rain cell covers {scale} × {scale} depth cells, --scale-up {asked} does not fit",
                dataset.folder.display()
            );
        }
        ensure!(
            self.threshold > 0.0 && self.threshold.is_finite(),
            "--threshold must be a positive depth in metres"
        );
        Ok(TransformConfig {
            channels,
            output_size: self.size,
            threshold_m: self.threshold,
            ..TransformConfig::default()
        })
    }
}

/// Which part of a dataset.
#[derive(Args)]
pub struct SplitFlag {
    /// Only this split of the manifest.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
}

impl SplitFlag {
    /// The shards, as indices into the dataset's.
    pub fn shards(&self, dataset: &Dataset) -> Result<Vec<usize>> {
        Ok(match &self.split {
            Some(name) => split::by_manifest(dataset, name)?,
            None => (0..dataset.shards.len()).collect(),
        })
    }
}

/// Opens a dataset; its heightmap may stand elsewhere.
pub fn open(folder: &Path, heightmap: Option<&Path>) -> Result<Dataset> {
    let dataset = Dataset::open(folder)?;
    Ok(match heightmap {
        Some(path) => dataset.with_heightmap(path)?,
        None => dataset,
    })
}

/// Prints a report as JSON, for scripts.
pub fn print_json(report: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, report).context("cannot print")?;
    writeln!(out).context("cannot print")
}
