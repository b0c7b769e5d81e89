//! `dataset split`: deals the shards to training, validation and test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Args;
use pluvial_data::dataset::published_heightmap;
use pluvial_data::file::sha256_of_file;
use pluvial_data::manifest::{Catchment, ShardInfo};
use pluvial_data::split::{Contents, Leak, SplitBy, SplitRule, leaks};
use pluvial_data::{Dataset, Manifest, Metadata, scan};
use serde::Serialize;

use crate::flags::{open, print_json};
use crate::progress::Progress;

#[derive(Args)]
pub struct SplitArgs {
    /// The dataset's folder. Its manifest is written anew; a published dataset gets one.
    dir: PathBuf,
    /// What stays together: event, catchment, time (cut, not dealt), or file (the published way; it leaks).
    #[arg(long)]
    by: SplitBy,
    /// The splits and their shares, in the order of time for --by time.
    #[arg(long, value_name = "NAME=SHARE,…", value_delimiter = ',', value_parser = share,
          default_values = ["train=0.8", "validation=0.1", "test=0.1"])]
    shares: Vec<(String, f64)>,
    /// Seed of the dealing.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Accept, with --by file, that neighbours in time fall into different splits: scores will look better than they are.
    #[arg(long)]
    leaky: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<(String, f64), String> {
    let parts = text
        .split_once('=')
        .map(|(name, share)| (name.trim(), share.trim().parse()));
    match parts {
        Some((name, Ok(share))) if !name.is_empty() => Ok((name.into(), share)),
        _ => Err("must be NAME=SHARE, such as train=0.8".into()),
    }
}

#[derive(Serialize)]
struct Report {
    splits: BTreeMap<String, Counts>,
    /// Shards that reach over a cut in time.
    left_out: usize,
    /// What was accepted with `--leaky`.
    leaks: Vec<Leak>,
}

#[derive(Default, Serialize)]
struct Counts {
    files: usize,
    samples: usize,
}

pub fn run(args: SplitArgs) -> Result<()> {
    let dataset = open(&args.dir, None)?;
    let mut manifest = match &dataset.manifest {
        Some(manifest) => manifest.clone(),
        None => published(&dataset)?,
    };
    for (i, (name, _)) in args.shares.iter().enumerate() {
        ensure!(
            args.shares[..i].iter().all(|(other, _)| other != name),
            "--shares names '{name}' twice"
        );
    }
    ensure!(
        !args.leaky || args.by == SplitBy::File,
        "--leaky goes with --by file: other splits that leak are refused"
    );
    let rule = SplitRule {
        by: args.by,
        shares: args.shares,
        seed: args.seed,
        leaky: args.leaky,
    };
    let assigned = rule.assign(&manifest)?;
    for (shard, split) in manifest.shards.iter_mut().zip(assigned) {
        shard.split = split;
    }
    let progress = Progress::bytes(scan::bytes(
        &dataset,
        &(0..dataset.shards.len()).collect::<Vec<_>>(),
    )?);
    let contents = Contents::read(&dataset, &manifest, &|bytes| progress.add(bytes))?;
    drop(progress);
    let leaks: Vec<Leak> = leaks(&manifest)
        .into_iter()
        .chain(contents.leaks(&manifest))
        .collect();
    if !args.leaky {
        refuse(&args.dir, &manifest, rule.by, &leaks)?;
    }
    manifest.split_rule = Some(rule);
    manifest.format = Manifest::FORMAT;
    manifest.write(&args.dir)?;

    let mut splits = BTreeMap::<String, Counts>::new();
    for shard in &manifest.shards {
        if let Some(name) = &shard.split {
            let counts = splits.entry(name.clone()).or_default();
            counts.files += 1;
            counts.samples += shard.times_s.len();
        }
    }
    let left_out = manifest
        .shards
        .iter()
        .filter(|shard| shard.split.is_none())
        .count();
    let report = Report {
        splits,
        left_out,
        leaks,
    };
    if args.json {
        return print_json(&report);
    }
    for (name, counts) in &report.splits {
        println!(
            "{name:13} {:4} files {:7} samples",
            counts.files, counts.samples
        );
    }
    if left_out > 0 {
        println!("{left_out} files reach over a cut in time and are in no split");
    }
    if args.leaky {
        println!(
            "These splits leak: neighbouring steps of one event lie in several of them ({} pairs of files are known). Scores \
             will look better than they are.",
            report.leaks.len()
        );
    }
    Ok(())
}

/// Stops where held-back samples tell of training samples.
fn refuse(dir: &Path, manifest: &Manifest, by: SplitBy, leaks: &[Leak]) -> Result<()> {
    let dir = dir.display();
    let hint = match by {
        SplitBy::File => "; --leaky takes it nevertheless",
        _ => "",
    };
    if let Some(leak) = leaks.first() {
        let others = leaks.len() - 1;
        bail!("'{dir}': the splits would leak: {leak}, and {others} more pairs{hint}");
    }
    if by == SplitBy::File
        && let Some(shard) = manifest.shards.iter().find(|shard| shard.event.is_none())
    {
        bail!(
            "'{dir}': nothing says which event '{}' belongs to, so neighbours in time may fall into different splits and \
             scores would look better than they are{hint}",
            shard.file
        );
    }
    Ok(())
}

/// What can be said of a published dataset: its files.
fn published(dataset: &Dataset) -> Result<Manifest> {
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let catchment = &dataset.terrains[0].name;
    let heightmap = published_heightmap(&dataset.folder).map(String::from);
    let mut manifest = Manifest {
        pluvial_version: env!("CARGO_PKG_VERSION").into(),
        total_hours: Vec::new(),
        catchments: vec![Catchment {
            name: catchment.clone(),
            heightmap: heightmap.clone(),
            place: None,
        }],
        ..Manifest::default()
    };
    for shard in &dataset.shards {
        manifest.shards.push(ShardInfo {
            file: name(&shard.path),
            catchment: catchment.clone(),
            ..ShardInfo::default()
        });
    }
    let files = manifest.shards.iter().map(|shard| shard.file.clone());
    for file in files
        .chain(heightmap)
        .chain([Metadata::FILE.into()])
        .collect::<Vec<_>>()
    {
        let sum = sha256_of_file(&dataset.folder.join(&file))?;
        manifest.sha256.insert(file, sum);
    }
    Ok(manifest)
}
