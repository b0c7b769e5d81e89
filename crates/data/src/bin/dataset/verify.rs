//! `dataset verify`: is everything whole?

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use pluvial_data::dataset::numbered_shards;
use pluvial_data::verify::verify;

use crate::flags::print_json;
use crate::progress::Progress;

#[derive(Args)]
pub struct VerifyArgs {
    /// The dataset's folder.
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: VerifyArgs) -> Result<()> {
    let mut total = 0;
    for path in numbered_shards(&args.dir)? {
        total += std::fs::metadata(&path)
            .with_context(|| format!("cannot read '{}'", path.display()))?
            .len();
    }
    let progress = Progress::bytes(total);
    let report = verify(&args.dir, &|bytes| progress.add(bytes))?;
    drop(progress);
    if args.json {
        print_json(&report)?;
    } else {
        for problem in &report.problems {
            let record = problem
                .record
                .map_or(String::new(), |record| format!(", record {record}"));
            println!("{}{record}: {}", problem.file, problem.reason);
        }
    }
    let dir = args.dir.display();
    match report.problems.len() {
        0 if args.json => Ok(()),
        0 => {
            println!(
                "'{dir}' is whole: {} samples in {} files, {} sums of the manifest",
                report.samples, report.files, report.sums
            );
            Ok(())
        }
        count => bail!(
            "'{dir}': {count} problem(s) in {} files of {} good samples",
            report.files,
            report.samples
        ),
    }
}
