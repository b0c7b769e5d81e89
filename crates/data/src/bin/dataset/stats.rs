//! `dataset stats`: channels, rain, depth and class balance, by split and catchment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pluvial_data::loader::OnBadRecord;
use pluvial_data::scan;
use pluvial_data::stats::{DEPTH_EDGES_M, Moments, RAIN_EDGES_MM_PER_H, SplitStats, shard_stats};
use serde::Serialize;

use crate::flags::{SplitFlag, TransformFlags, open, print_json};
use crate::progress::Progress;

#[derive(Args)]
pub struct StatsArgs {
    /// The dataset's folder.
    dir: PathBuf,
    #[command(flatten)]
    transform: TransformFlags,
    #[command(flatten)]
    split: SplitFlag,
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
    files: usize,
    threshold_m: f32,
    channels: Vec<Channel>,
    /// Lower edges of the bins after the first, which holds what lies below them.
    rain_edges_mm_per_h: [f32; RAIN_EDGES_MM_PER_H.len()],
    rain_histogram: Vec<u64>,
    depth_edges_m: [f32; DEPTH_EDGES_M.len()],
    depth_histogram: Vec<u64>,
    all: Balance,
    splits: BTreeMap<String, Balance>,
    catchments: BTreeMap<String, Balance>,
}

#[derive(Serialize)]
struct Channel {
    name: String,
    #[serde(flatten)]
    moments: Moments,
}

/// Class balance after the removal of isolated wet cells.
#[derive(Serialize)]
struct Balance {
    samples: u64,
    dry: u64,
    wet: u64,
    no_data: u64,
    wet_share: f64,
}

impl Balance {
    fn of(stats: &SplitStats) -> Self {
        let (samples, dry, wet, no_data) = (stats.samples, stats.dry, stats.wet, stats.no_data);
        Self {
            samples,
            dry,
            wet,
            no_data,
            wet_share: stats.wet_share(),
        }
    }
}

pub fn run(args: StatsArgs) -> Result<()> {
    let dataset = open(&args.dir, args.heightmap.as_deref())?;
    let shards = args.split.shards(&dataset)?;
    let transform = args.transform.config(&dataset, Vec::new())?;
    let progress = Progress::bytes(scan::bytes(&dataset, &shards)?);
    let parts = shard_stats(&dataset, &shards, &transform, OnBadRecord::Stop, &|bytes| {
        progress.add(bytes)
    })?;
    drop(progress);

    let (mut splits, mut catchments) = (
        BTreeMap::<_, SplitStats>::new(),
        BTreeMap::<_, SplitStats>::new(),
    );
    for (&shard, stats) in shards.iter().zip(&parts) {
        let shard = &dataset.shards[shard];
        let catchment = dataset.terrains[shard.catchment].name.clone();
        let split = shard.split.clone().map(|name| splits.entry(name));
        for group in split.into_iter().chain([catchments.entry(catchment)]) {
            let all = group.or_default();
            *all = std::mem::take(all).and(stats.clone());
        }
    }
    let all = parts
        .into_iter()
        .fold(SplitStats::default(), SplitStats::and);
    let balances = |groups: BTreeMap<String, SplitStats>| {
        groups
            .into_iter()
            .map(|(name, stats)| (name, Balance::of(&stats)))
            .collect::<BTreeMap<_, _>>()
    };
    let report = Report {
        samples: all.samples,
        files: shards.len(),
        threshold_m: transform.threshold_m,
        all: Balance::of(&all),
        rain_edges_mm_per_h: RAIN_EDGES_MM_PER_H,
        rain_histogram: all.rain_histogram,
        depth_edges_m: DEPTH_EDGES_M,
        depth_histogram: all.depth_histogram,
        channels: all
            .channels
            .into_iter()
            .map(|(name, moments)| Channel { name, moments })
            .collect(),
        splits: balances(splits),
        catchments: balances(catchments),
    };
    if args.json {
        return print_json(&report);
    }
    print(&report);
    Ok(())
}

fn print(report: &Report) {
    println!("{} samples in {} files\n", report.samples, report.files);
    println!(
        "{:<22} {:>10} {:>10} {:>10} {:>10}",
        "channel", "mean", "std", "min", "max"
    );
    for Channel { name, moments } in &report.channels {
        println!(
            "{name:<22} {:>10.4} {:>10.4} {:>10.4} {:>10.4}",
            moments.mean, moments.std, moments.min, moments.max
        );
    }
    histogram(
        "rain, all channels",
        "mm/h",
        &report.rain_edges_mm_per_h,
        &report.rain_histogram,
    );
    histogram("depth", "m", &report.depth_edges_m, &report.depth_histogram);
    println!(
        "\n{:<22} {:>8} {:>14} {:>14} {:>8}",
        format!("wet at {} m", report.threshold_m),
        "samples",
        "dry",
        "wet",
        "wet %"
    );
    let groups = report
        .splits
        .iter()
        .chain(&report.catchments)
        .map(|(name, balance)| (name.as_str(), balance));
    for (name, balance) in groups.chain([("all", &report.all)]) {
        println!(
            "{name:<22} {:>8} {:>14} {:>14} {:>8.2}",
            balance.samples,
            balance.dry,
            balance.wet,
            100.0 * balance.wet_share
        );
    }
}

fn histogram(what: &str, unit: &str, edges: &[f32], counts: &[u64]) {
    let all = counts.iter().sum::<u64>().max(1) as f64;
    println!("\n{what}");
    for (bin, &count) in counts.iter().enumerate() {
        let range = match bin {
            0 => format!("below {} {unit}", edges[0]),
            bin => format!("from  {} {unit}", edges[bin - 1]),
        };
        let share = count as f64 / all;
        println!(
            "  {range:<18} {:>7.3} %  {}",
            100.0 * share,
            "#".repeat((50.0 * share).round() as usize)
        );
    }
}
