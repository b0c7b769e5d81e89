//! Builds and inspects datasets.

mod build;
mod inspect;
mod rain;
mod simulate;
mod source;
mod splits;

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
    /// Builds the dataset of a recipe; goes on where a stopped build ended.
    Build(build::BuildArgs),
    /// Reads every record of a dataset; prints shapes, counts and the share of wet cells of every split.
    Inspect(inspect::InspectArgs),
    /// Tells what a source of radar frames holds, cuts or regrids it, and writes it in another format.
    Rain(rain::RainArgs),
    /// Simulates the flood that rain makes on a terrain: depth frames, maxima, hydrographs and pictures.
    Simulate(simulate::SimulateArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Build(args) => build::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Rain(args) => rain::run(args),
        Command::Simulate(args) => simulate::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
