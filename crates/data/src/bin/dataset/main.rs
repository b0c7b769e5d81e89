//! Makes, changes and looks into datasets.

mod build;
mod convert;
mod export;
mod flags;
mod head;
mod inspect;
mod merge;
mod progress;
mod rain;
mod simulate;
mod source;
mod split;
mod splits;
mod stats;
mod uniq;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Makes training data for flood maps: rain and terrain → simulated water depth → samples.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the dataset of a recipe, or a part of it; goes on where a stopped build ended.
    Build(build::BuildArgs),
    /// Joins parts of a build to the dataset that one build makes.
    Merge(merge::MergeArgs),
    /// Makes records of rain and simulated depth, of another dataset (files of another size), or of JSON lines.
    Convert(convert::ConvertArgs),
    /// Counts samples, cells, wet cells and rain as the loader hands them to a network.
    Inspect(inspect::InspectArgs),
    /// Tells what a source of radar frames holds, cuts or regrids it, and writes it in another format.
    Rain(rain::RainArgs),
    /// Simulates the flood that rain makes on a terrain: depth frames, maxima, hydrographs and pictures.
    Simulate(simulate::SimulateArgs),
    /// Moments of every channel, histograms of rain and depth, and the class balance of every split and catchment.
    Stats(stats::StatsArgs),
    /// Draws a sample as PNG: rain channels, totals, terrain, depth and label.
    Head(head::HeadArgs),
    /// Writes samples as NumPy arrays.
    Export(export::ExportArgs),
    /// Counts samples that are there twice, or writes the dataset without them.
    Uniq(uniq::UniqArgs),
    /// Checks every checksum, record and sum of a dataset, and that its splits do not leak.
    Verify(verify::VerifyArgs),
    /// Deals the files of a dataset to training, validation and test, and refuses splits that leak.
    Split(split::SplitArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Build(args) => build::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Rain(args) => rain::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Head(args) => head::run(args),
        Command::Export(args) => export::run(args),
        Command::Uniq(args) => uniq::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Split(args) => split::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
