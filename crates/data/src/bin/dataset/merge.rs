//! `dataset merge`: parts of a build → the dataset.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pluvial_data::build::merge;

use crate::build::report_json;
use crate::flags::print_json;
use crate::splits::print_splits;

#[derive(Args)]
pub struct MergeArgs {
    /// Folders that `dataset build --part K/N` made, all N of them.
    #[arg(required = true)]
    parts: Vec<PathBuf>,
    /// Folder for the dataset, new or empty.
    #[arg(long)]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: MergeArgs) -> Result<()> {
    let report = merge(&args.parts, &args.out)?;
    if args.json {
        return print_json(&report_json(report));
    }
    let out = args.out.display();
    match report {
        Some(report) => {
            print_splits(&report);
            println!("'{out}' merged from {} parts", args.parts.len());
        }
        None => println!("'{out}' already holds the dataset of these parts"),
    }
    Ok(())
}
