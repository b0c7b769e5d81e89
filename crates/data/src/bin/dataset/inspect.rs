//! `dataset inspect`: what a dataset holds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use pluvial_data::loader::OnBadRecord;
use pluvial_data::scan;
use pluvial_data::stats::{SplitStats, shard_stats};
use serde::Serialize;

use crate::flags::{SplitFlag, TransformFlags, open, print_json};
use crate::progress::Progress;

#[derive(Args)]
pub struct InspectArgs {
    /// The dataset's folder: N.tfrecord.gz and metadata.json; a manifest if there is one.
    dir: PathBuf,
    #[command(flatten)]
    transform: TransformFlags,
    #[command(flatten)]
    split: SplitFlag,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is printed. All numbers are those after crop and scaling, as the loader hands them to a network.
#[derive(Serialize)]
struct Report {
    samples: u64,
    files: usize,
    /// `[channels, height, width]` and `[height, width]`.
    rain_shape: [usize; 3],
    depth_shape: [usize; 2],
    stored_rain_shape: [usize; 3],
    stored_depth_shape: [usize; 2],
    threshold_m: f32,
    /// Cells with terrain.
    cells: u64,
    no_data_cells: u64,
    wet_cells: u64,
    /// Without wet cells that have no wet neighbour.
    wet_cells_clean: u64,
    /// Of `wet_cells`.
    wet_fraction: f64,
    /// Of `wet_cells_clean`: what a network learns.
    wet_fraction_clean: f64,
    max_depth_m: f32,
    /// Depths are 0 and 1 only: a threshold has no effect any more.
    binary_files: usize,
    rain_sum: f64,
    splits: BTreeMap<String, Split>,
}

#[derive(Serialize, Default)]
struct Split {
    files: usize,
    samples: u64,
    wet_fraction_clean: f64,
}

pub fn run(args: InspectArgs) -> Result<()> {
    let dataset = open(&args.dir, None)?;
    let shards = args.split.shards(&dataset)?;
    let transform = args.transform.config(&dataset, Vec::new())?;
    let progress = Progress::bytes(scan::bytes(&dataset, &shards)?);
    let parts = shard_stats(&dataset, &shards, &transform, OnBadRecord::Stop, &|bytes| {
        progress.add(bytes)
    })?;
    drop(progress);

    let mut by_split = BTreeMap::<String, (usize, SplitStats)>::new();
    for (&shard, stats) in shards.iter().zip(&parts) {
        let shard = &dataset.shards[shard];
        if let Some(promised) = shard.samples {
            ensure!(
                promised as u64 == stats.samples,
                "'{}' holds {} samples, the manifest says {promised}",
                shard.path.display(),
                stats.samples
            );
        }
        if let Some(name) = &shard.split {
            let split = by_split.entry(name.clone()).or_default();
            split.0 += 1;
            split.1 = std::mem::take(&mut split.1).and(stats.clone());
        }
    }
    let all = parts
        .into_iter()
        .fold(SplitStats::default(), SplitStats::and);
    let stored = &dataset.metadata;
    let depth_shape = transform.output_size.unwrap_or(stored.waterdepth);
    let share = |wet: u64| wet as f64 / all.cells().max(1) as f64;
    let report = Report {
        samples: all.samples,
        files: shards.len(),
        rain_shape: [stored.rainfallradar[0], depth_shape[0], depth_shape[1]],
        depth_shape,
        stored_rain_shape: stored.rainfallradar,
        stored_depth_shape: stored.waterdepth,
        threshold_m: transform.threshold_m,
        cells: all.cells(),
        no_data_cells: all.no_data,
        wet_cells: all.wet_with_isolated,
        wet_cells_clean: all.wet,
        wet_fraction: share(all.wet_with_isolated),
        wet_fraction_clean: share(all.wet),
        max_depth_m: all.max_depth_m,
        binary_files: all.binary_shards.len(),
        rain_sum: all.rain_sum,
        splits: by_split
            .into_iter()
            .map(|(name, (files, stats))| {
                let wet_fraction_clean = stats.wet_share();
                (
                    name,
                    Split {
                        files,
                        samples: stats.samples,
                        wet_fraction_clean,
                    },
                )
            })
            .collect(),
    };
    if args.json {
        return print_json(&report);
    }
    print(&report, &dataset);
    Ok(())
}

fn print(report: &Report, dataset: &pluvial_data::Dataset) {
    let [channels, height, width] = report.rain_shape;
    println!(
        "{} samples in {} files: rain {:?} and depth {:?} as stored, {channels} × {height} × {width} as loaded",
        report.samples, report.files, report.stored_rain_shape, report.stored_depth_shape
    );
    match &dataset.manifest {
        Some(manifest) => {
            let known = |value: Option<String>| value.unwrap_or("unknown".into());
            println!(
                "depth cells {}, frames {}, label {} after now, rain totals over {:?} h",
                known(manifest.cell_size_m.map(|m| format!("{m} m"))),
                known(manifest.frame_s.map(|s| format!("{s} s"))),
                known(
                    manifest
                        .water_offset
                        .map(|frames| format!("{frames} frame(s)"))
                ),
                manifest.total_hours
            );
            if !manifest.recipe_sha256.is_empty() {
                println!(
                    "recipe {:.8}, seed {}, pluvial {}",
                    manifest.recipe_sha256, manifest.seed, manifest.pluvial_version
                );
            }
        }
        None => println!("no manifest: neither events nor splits are known"),
    }
    println!(
        "wet at {} m: {:.2} % of the cells, {:.2} % without isolated ones; deepest {:.2} m",
        report.threshold_m,
        100.0 * report.wet_fraction,
        100.0 * report.wet_fraction_clean,
        report.max_depth_m
    );
    if report.no_data_cells > 0 {
        println!("{} cells have no terrain", report.no_data_cells);
    }
    if report.binary_files > 0 {
        println!(
            "depths of {} files are only 0 and 1: binarised already, so that a threshold between has no effect",
            report.binary_files
        );
    }
    for (name, split) in &report.splits {
        println!(
            "{name:13} {:4} files {:7} samples {:6.2} % wet",
            split.files,
            split.samples,
            100.0 * split.wet_fraction_clean
        );
    }
}
