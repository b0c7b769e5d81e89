//! `dataset build`: a recipe → a dataset.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use pluvial_data::build::{EventDone, build};
use pluvial_data::recipe::BoundRecipe;

use crate::splits::print_splits;

#[derive(Args)]
pub struct BuildArgs {
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
}

fn name_and_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.into(), file.into()))
        }
        _ => Err("must be NAME=FILE".into()),
    }
}

pub fn run(args: BuildArgs) -> Result<()> {
    let mut files = BTreeMap::new();
    let short = [
        ("terrain", args.terrain),
        ("rain", args.rain),
        ("timestamps", args.timestamps),
    ];
    let short = short
        .into_iter()
        .filter_map(|(name, file)| Some((name.to_owned(), file?)));
    for (name, file) in args.set.into_iter().chain(short) {
        ensure!(
            !files.contains_key(&name),
            "two files are given for {{{name}}}"
        );
        files.insert(name, file);
    }
    let recipe = BoundRecipe::read(&args.recipe, &files)?;
    if let Some(jobs) = args.jobs {
        ensure!(jobs > 0, "--jobs must be at least 1");
        rayon::ThreadPoolBuilder::new()
            .num_threads(jobs)
            .build_global()
            .context("cannot start threads")?;
    }
    let start = Instant::now();
    let progress = Progress::new();
    let report = build(&recipe, &args.out, &|event| progress.event(event))?;
    progress.bar.finish_and_clear();
    match report {
        Some(report) => {
            print_splits(&report);
            println!(
                "'{}' built in {:.1} s",
                args.out.display(),
                start.elapsed().as_secs_f64()
            );
        }
        None => println!(
            "'{}' already holds the dataset of this recipe",
            args.out.display()
        ),
    }
    Ok(())
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
