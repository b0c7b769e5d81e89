//! `dataset uniq`: drops samples that are there twice.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use pluvial_data::{Dataset, scan, uniq};

use crate::flags::print_json;
use crate::progress::Progress;

#[derive(Args)]
pub struct UniqArgs {
    /// The dataset's folder.
    dir: PathBuf,
    /// New folder for the dataset without duplicates; without it they are only counted.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Gzip level of the files that change, 0 to 9.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(0..=9))]
    gzip_level: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: UniqArgs) -> Result<()> {
    let dataset = Dataset::open(&args.dir)?;
    ensure!(
        args.out.as_ref() != Some(&args.dir),
        "--out must be another folder than the dataset's"
    );
    let bytes = scan::bytes(&dataset, &(0..dataset.shards.len()).collect::<Vec<_>>())?;
    let progress = Progress::bytes(bytes * (1 + u64::from(args.out.is_some())));
    let unique = uniq::find(&dataset, &|bytes| progress.add(bytes))?;
    if let Some(out) = &args.out {
        uniq::write(&dataset, &unique, out, args.gzip_level, &|bytes| {
            progress.add(bytes)
        })?;
    }
    drop(progress);
    if args.json {
        return print_json(&unique.report);
    }
    let report = &unique.report;
    println!(
        "{} of {} samples are there already",
        report.duplicates, report.samples
    );
    match &args.out {
        Some(out) => println!(
            "'{}' holds the other {}",
            out.display(),
            report.samples - report.duplicates
        ),
        None if report.duplicates > 0 => println!("--out DIR writes a dataset without them"),
        None => {}
    }
    Ok(())
}
