//! Weights for and from other libraries: `cargo run --release --bin weights -- export --run runs/run_0001 --format timm --out FILE`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use pluvial_model::weights::{Format, WeightsFile, export};
use pluvial_train::checkpoint;
use pluvial_train::config::Config;
use pluvial_train::device::set_default_backend;
use pluvial_train::run_dir::RunDir;

/// Lists the tensors of a file of weights, or writes those of a trained run for users of PyTorch.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists name, element type and shape of every tensor of a .pth or .safetensors file.
    Inspect {
        /// The file.
        file: PathBuf,
    },
    /// Writes the weights of a run as safetensors under the names of another library, and says how to load them there.
    Export {
        /// Folder of the run.
        #[arg(long, value_name = "RUN")]
        run: PathBuf,
        /// Which checkpoint of the run: best or last.
        #[arg(long, value_name = "NAME", default_value = "best", value_parser = ["best", "last"])]
        checkpoint: String,
        /// Whose names: timm's or torchvision's (the encoder), or segmentation_models_pytorch's (the whole network).
        #[arg(long)]
        format: Format,
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

fn run() -> Result<()> {
    match Args::parse().command {
        Command::Inspect { file } => {
            let file = WeightsFile::open(&file)?;
            let tensors = file.tensors();
            let width = tensors.keys().map(String::len).max().unwrap_or(0);
            for (name, tensor) in tensors {
                println!("{name:<width$}  {:<5}  {:?}", tensor.dtype, tensor.shape);
            }
            let values: usize = tensors
                .values()
                .map(|tensor| tensor.shape.iter().product::<usize>())
                .sum();
            println!("{} tensors, {values} values", tensors.len());
        }
        Command::Export {
            run,
            checkpoint,
            format,
            out,
        } => {
            let run = RunDir::open(&run)?;
            let config = Config::load(Some(&run.file("config.toml")), &[])?;
            let device = config.device.resolve()?;
            set_default_backend(device.choice);
            let model = config.model.init_lazily(&device.device)?;
            let model = checkpoint::load_model(&run.checkpoint(&checkpoint), model)?;
            let count = export(&model, format, &out)?;
            println!("{}: {count} tensors\n", out.display());
            println!("{}", format.loading_code(&config.model, &out));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
