//! Builds and inspects datasets.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use pluvial_data::build::{EventDone, SplitReport, WET_DEPTH_M, build};
use pluvial_data::recipe::BoundRecipe;
use pluvial_data::{Manifest, Metadata, ShardReader};

/// Makes training data for flood maps: rain and terrain → simulated water depth → samples.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the dataset of a recipe; goes on where a stopped build ended.
    Build {
        /// The recipe, see datasets/*.toml.
        recipe: PathBuf,
        /// Folder for the dataset: new, empty, or with an unfinished build of the same recipe.
        #[arg(long)]
        out: PathBuf,
        /// Events to build at a time; as many as there are CPU cores by default.
        #[arg(long)]
        jobs: Option<usize>,
        /// A file for a placeholder of the recipe; may be repeated.
        #[arg(long, value_name = "NAME=FILE", value_parser = name_and_file)]
        set: Vec<(String, PathBuf)>,
        /// Short for --set terrain=FILE.
        #[arg(long, value_name = "FILE")]
        terrain: Option<PathBuf>,
        /// Short for --set rain=FILE.
        #[arg(long, value_name = "FILE")]
        rain: Option<PathBuf>,
        /// Short for --set timestamps=FILE.
        #[arg(long, value_name = "FILE")]
        timestamps: Option<PathBuf>,
    },
    /// Reads every record of a dataset; prints shapes, counts and the share of wet cells of every split.
    Inspect {
        /// The dataset's folder.
        dir: PathBuf,
    },
}

fn name_and_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.into(), file.into()))
        }
        _ => Err("must be NAME=FILE".into()),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Build {
            recipe,
            out,
            jobs,
            set,
            terrain,
            rain,
            timestamps,
        } => {
            let mut files = BTreeMap::new();
            let short = [
                ("terrain", terrain),
                ("rain", rain),
                ("timestamps", timestamps),
            ];
            let short = short
                .into_iter()
                .filter_map(|(name, file)| Some((name.to_owned(), file?)));
            for (name, file) in set.into_iter().chain(short) {
                ensure!(
                    !files.contains_key(&name),
                    "two files are given for {{{name}}}"
                );
                files.insert(name, file);
            }
            let recipe = BoundRecipe::read(&recipe, &files)?;
            if let Some(jobs) = jobs {
                ensure!(jobs > 0, "--jobs must be at least 1");
                rayon::ThreadPoolBuilder::new()
                    .num_threads(jobs)
                    .build_global()
                    .context("cannot start threads")?;
            }
            let start = Instant::now();
            let progress = Progress::new();
            let report = build(&recipe, &out, &|event| progress.event(event))?;
            progress.bar.finish_and_clear();
            match report {
                Some(report) => {
                    print_splits(&report);
                    println!(
                        "'{}' built in {:.1} s",
                        out.display(),
                        start.elapsed().as_secs_f64()
                    );
                }
                None => println!(
                    "'{}' already holds the dataset of this recipe",
                    out.display()
                ),
            }
            Ok(())
        }
        Command::Inspect { dir } => inspect(&dir),
    }
}

/// A bar on a terminal, a line every ten seconds elsewhere.
struct Progress {
    bar: ProgressBar,
    done: AtomicUsize,
    said: std::sync::Mutex<Instant>,
}

impl Progress {
    fn new() -> Self {
        let bar = if stdout().is_terminal() {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) =
            ProgressStyle::with_template("{bar:40} {pos}/{len} events, {eta} left, {msg}")
        {
            bar.set_style(style);
        }
        Self {
            bar,
            done: AtomicUsize::new(0),
            said: std::sync::Mutex::new(Instant::now()),
        }
    }

    fn event(&self, event: &EventDone) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.bar.set_length(event.events as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(event.event.clone());
        if self.bar.is_hidden()
            && let Ok(mut said) = self.said.lock()
            && (said.elapsed() > Duration::from_secs(10) || done == event.events)
        {
            *said = Instant::now();
            println!(
                "{done}/{} events, last {}: {} samples, {:.1} % wet",
                event.events,
                event.event,
                event.samples,
                100.0 * event.wet_share
            );
        }
    }
}

fn inspect(dir: &std::path::Path) -> Result<()> {
    let metadata = Metadata::read(dir)?;
    let manifest = Manifest::read(dir)?;
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

fn print_splits(splits: &BTreeMap<String, SplitReport>) {
    for (name, split) in splits {
        println!(
            "{name:13} {:4} events {:6} samples {:6.2} % wet at {WET_DEPTH_M} m",
            split.events,
            split.samples,
            100.0 * split.wet_share()
        );
    }
}
