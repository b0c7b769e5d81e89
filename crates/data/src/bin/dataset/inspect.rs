//! `dataset inspect`: what a dataset holds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use pluvial_data::build::{SplitReport, WET_DEPTH_M};
use pluvial_data::{Manifest, Metadata, ShardReader};

use crate::splits::print_splits;

#[derive(Args)]
pub struct InspectArgs {
    /// The dataset's folder.
    dir: PathBuf,
}

pub fn run(InspectArgs { dir }: InspectArgs) -> Result<()> {
    let metadata = Metadata::read(&dir)?;
    let manifest = Manifest::read(&dir)?;
    println!(
        "rain {:?}, depth {:?}, rain totals {:?} over {:?} h",
        metadata.rainfallradar, metadata.waterdepth, metadata.rainfalltotals, manifest.total_hours
    );
    println!(
        "depth cells {} m, frames {} s, label {} frame(s) after now",
        manifest.cell_size_m, manifest.frame_s, manifest.water_offset
    );
    println!(
        "recipe {}, seed {}, pluvial {}",
        &manifest.recipe_sha256[..8.min(manifest.recipe_sha256.len())],
        manifest.seed,
        manifest.pluvial_version
    );
    let mut splits = BTreeMap::<String, SplitReport>::new();
    for shard in &manifest.shards {
        let path = dir.join(&shard.file);
        let mut event = SplitReport {
            events: 1,
            ..SplitReport::default()
        };
        for sample in ShardReader::open(&path, &metadata)? {
            let depth_m = sample?.depth_m;
            event.samples += 1;
            event.wet_cells += depth_m
                .iter()
                .filter(|&&depth| f64::from(depth) >= WET_DEPTH_M)
                .count() as u64;
            event.cells += depth_m.len() as u64;
        }
        ensure!(
            event.samples == shard.times_s.len(),
            "'{}' holds {} samples, the manifest says {}",
            path.display(),
            event.samples,
            shard.times_s.len()
        );
        println!(
            "{:>22} {:28} {:12} {:4} samples, {:5.1} % wet",
            shard.file,
            shard.event,
            shard.split,
            event.samples,
            100.0 * event.wet_share()
        );
        let split = splits.entry(shard.split.clone()).or_default();
        split.events += 1;
        split.samples += event.samples;
        split.wet_cells += event.wet_cells;
        split.cells += event.cells;
    }
    print_splits(&splits);
    Ok(())
}
