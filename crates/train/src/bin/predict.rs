//! Applies a trained run to a dataset: `cargo run --release --bin predict -- --run runs/run_0001 --data DIR --out maps`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use pluvial_train::config::Config;
use pluvial_train::log::Log;
use pluvial_train::memory::keep_freed_memory;
use pluvial_train::predict::{Request, predict};

/// Writes flood maps (GeoTIFF and PNG) for the samples of a dataset with the network of a run, and their scores where the truth
/// is known.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Folder of the run.
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// Which checkpoint of the run: best or last.
    #[arg(long, value_name = "NAME", default_value = "best", value_parser = ["best", "last"])]
    checkpoint: String,
    /// Folder of the dataset.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Only the samples of this split, such as test_storms. Default: all.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Folder for the maps.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// At most so many samples.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// auto, cuda, vulkan, wgpu (with :1 and so on for further devices) or cpu. Default: as in the run's configuration.
    #[arg(long)]
    device: Option<String>,
}

fn run() -> Result<()> {
    let args = Args::parse();
    keep_freed_memory();
    let settings: Vec<String> = args
        .device
        .iter()
        .map(|device| format!("device={device}"))
        .collect();
    let config = Config::load(Some(&args.run.join("config.toml")), &settings)?;
    let device = config.device.resolve()?;
    pluvial_train::device::set_default_backend(device.choice);
    let log = Log::new();
    let request = Request {
        run: args.run,
        checkpoint: args.checkpoint,
        data: args.data,
        split: args.split,
        out: args.out,
        limit: args.limit,
    };
    let counts = predict(&request, &config, &device, &log)?;
    log.line(format_args!("maps       {}", request.out.display()));
    if counts.pixels() > 0 {
        let scores = counts.scores();
        log.line(format_args!(
            "scores     CSI {:.4}  F1 {:.4}  POD {:.4}  FAR {:.4}  (tp {}, fp {}, fn {}, tn {})",
            scores.csi,
            scores.f1,
            scores.pod,
            scores.far,
            counts.tp,
            counts.fp,
            counts.fn_,
            counts.tn
        ));
    } else {
        log.line("scores     none: no sample says where it was wet");
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
