//! `dataset export`: samples as NumPy arrays.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pluvial_data::npy::NpyWriter;
use pluvial_data::{ShardReader, scan};
use serde::Serialize;

use crate::flags::{SplitFlag, open, print_json};
use crate::progress::Progress;

#[derive(Args)]
pub struct ExportArgs {
    /// The dataset's folder.
    dir: PathBuf,
    /// New folder for rain.npy, depth.npy, heightmap.npy and catchment.npy.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    split: SplitFlag,
    /// First sample.
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// At most so many samples; all by default.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Heightmap of a dataset that has none of its own.
    #[arg(long, value_name = "FILE")]
    heightmap: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    samples: u64,
    files: Vec<&'static str>,
}

pub fn run(args: ExportArgs) -> Result<()> {
    let dataset = open(&args.dir, args.heightmap.as_deref())?;
    let shards = args.split.shards(&dataset)?;
    let (out, metadata) = (&args.out, &dataset.metadata);
    if out.exists() {
        let mut entries =
            std::fs::read_dir(out).with_context(|| format!("cannot read '{}'", out.display()))?;
        ensure!(
            entries.next().is_none(),
            "'{}': the folder is not empty",
            out.display()
        );
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot create '{}'", out.display()))?;
    let mut rain = NpyWriter::<f32>::create(&out.join("rain.npy"), &metadata.rainfallradar)?;
    let mut depth = NpyWriter::<f32>::create(&out.join("depth.npy"), &metadata.waterdepth)?;
    let mut catchment = NpyWriter::<i64>::create(&out.join("catchment.npy"), &[])?;
    let mut totals = match &metadata.rainfalltotals {
        Some(shape) => Some(NpyWriter::<f32>::create(
            &out.join("rain_totals.npy"),
            shape,
        )?),
        None => None,
    };

    let progress = Progress::bytes(scan::bytes(&dataset, &shards)?);
    let last = args
        .count
        .map_or(u64::MAX, |count| args.first.saturating_add(count));
    let (mut index, mut written) = (0, 0);
    'shards: for &shard in &shards {
        let shard = &dataset.shards[shard];
        for sample in ShardReader::open(&shard.path, metadata)? {
            if index >= last {
                break 'shards;
            }
            let sample = sample?;
            if index >= args.first {
                rain.push(sample.rain)?;
                depth.push(sample.depth_m)?;
                catchment.push([shard.catchment as i64])?;
                if let (Some(file), Some(values)) = (&mut totals, sample.rain_totals_mm) {
                    file.push(values)?;
                }
                written += 1;
            }
            index += 1;
        }
        progress.add(std::fs::metadata(&shard.path).map_or(0, |metadata| metadata.len()));
    }
    drop(progress);
    if written == 0 {
        bail!(
            "'{}' has {index} samples there, none from number {} on",
            args.dir.display(),
            args.first
        );
    }
    let mut files = vec!["rain.npy", "depth.npy", "catchment.npy"];
    rain.finish()?;
    depth.finish()?;
    catchment.finish()?;
    if let Some(totals) = totals {
        totals.finish()?;
        files.push("rain_totals.npy");
    }
    // One heightmap a catchment, in the order that catchment.npy counts in.
    let elevations: Option<Vec<_>> = dataset
        .terrains
        .iter()
        .map(|terrain| terrain.elevation_m.as_ref())
        .collect();
    if let Some(elevations) = elevations {
        let mut heightmap =
            NpyWriter::<f32>::create(&out.join("heightmap.npy"), &metadata.waterdepth)?;
        for elevation in elevations {
            heightmap.push(elevation.iter().copied())?;
        }
        heightmap.finish()?;
        files.push("heightmap.npy");
    }
    if args.json {
        return print_json(&Report {
            samples: written,
            files,
        });
    }
    println!(
        "'{}': {written} samples in {}",
        out.display(),
        files.join(", ")
    );
    Ok(())
}
