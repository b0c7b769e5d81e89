//! `dataset build`: a recipe → a dataset.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pluvial_data::build::{EventDone, PartOf, SplitReport, build, build_part};
use pluvial_data::recipe::BoundRecipe;
use serde::Serialize;

use crate::flags::print_json;
use crate::progress::Progress;
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
    /// Build only every N-th event, beginning with the K-th, for `dataset merge`: on as many machines as there are parts.
    #[arg(long, value_name = "K/N")]
    part: Option<PartOf>,
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
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A split, for scripts.
#[derive(Serialize)]
pub struct SplitJson {
    events: usize,
    samples: usize,
    wet_cells: u64,
    cells: u64,
}

/// The report of a build for scripts; null where there was nothing to do.
pub fn report_json(
    report: Option<BTreeMap<String, SplitReport>>,
) -> Option<BTreeMap<String, SplitJson>> {
    let split = |(name, split): (String, SplitReport)| {
        let SplitReport {
            events,
            samples,
            wet_cells,
            cells,
        } = split;
        (
            name,
            SplitJson {
                events,
                samples,
                wet_cells,
                cells,
            },
        )
    };
    report.map(|report| report.into_iter().map(split).collect())
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
    let progress = OnceLock::new();
    let say = |event: &EventDone| {
        progress
            .get_or_init(|| Progress::count(event.events as u64, "events"))
            .add_with(1, || {
                format!(
                    "{}, {} samples, {:.1} % wet",
                    event.event,
                    event.samples,
                    100.0 * event.wet_share
                )
            })
    };
    let report = match args.part {
        Some(part) => Some(build_part(&recipe, &args.out, part, &say)?),
        None => build(&recipe, &args.out, &say)?,
    };
    drop(progress);
    if args.json {
        return print_json(&report_json(report));
    }
    match report {
        Some(report) => {
            print_splits(&report);
            let part = args
                .part
                .map_or(String::new(), |part| format!(", part {part},"));
            println!(
                "'{}'{part} built in {:.1} s",
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
