//! Trains a flood map network: `cargo run --release --bin train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use pluvial_data::signals::StopFlag;
use pluvial_train::config::Config;
use pluvial_train::log::Log;
use pluvial_train::memory::keep_freed_memory;
use pluvial_train::run_dir::RunDir;
use pluvial_train::session::{self, Start};

/// Trains a network that maps rainfall radar and terrain to flooded cells, scores it beside simple baselines, and leaves
/// a folder with checkpoints, scores, maps and a report.
///
/// Without options: builds the default dataset (once), trains on it and evaluates.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Configuration (TOML). Options below and --set change it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// auto, cuda, vulkan, wgpu (with :1 and so on for further devices) or cpu.
    #[arg(long)]
    device: Option<String>,
    /// A built dataset.
    #[arg(long, value_name = "DIR", conflicts_with = "recipe")]
    data: Option<PathBuf>,
    /// A dataset recipe, built under datasets/built/ unless it is there.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// The network by name, decoder and encoder, such as deeplabv3plus-convnext_atto or unet-resnet50.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Weights to start with: a .pth or .safetensors file of torchvision, timm, the official ConvNeXt or
    /// segmentation_models_pytorch.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pretrained: Option<PathBuf>,
    /// Passes over the training split.
    #[arg(long)]
    epochs: Option<usize>,
    /// Stop after so many optimizer steps.
    #[arg(long)]
    max_steps: Option<usize>,
    /// Samples in a batch.
    #[arg(long)]
    batch_size: Option<usize>,
    /// Learning rate after the warm-up.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Seed of every random stream.
    #[arg(long)]
    seed: Option<u64>,
    /// Any value of the configuration, such as --set optim.clip_norm=0.5. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// What a damaged record does: stop the run, or be skipped, counted and reported.
    #[arg(long, value_name = "stop|skip", value_parser = ["stop", "skip"])]
    on_bad_record: Option<String>,
    /// Where the folders of runs are made.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    runs: PathBuf,
    /// Continue the run in this folder from its last checkpoint; its own configuration applies.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "data", "recipe", "model"])]
    resume: Option<PathBuf>,
}

impl Args {
    /// The options that stand for configuration values, as `key=value` in TOML.
    fn settings(&self) -> Result<Vec<String>> {
        let mut settings = Vec::new();
        let path = |path: &Path| -> Result<String> {
            let text = path
                .to_str()
                .with_context(|| format!("{} is not UTF-8", path.display()))?;
            Ok(toml::Value::String(text.into()).to_string())
        };
        if let Some(device) = &self.device {
            settings.push(format!("device={device}"));
        }
        if let Some(folder) = &self.data {
            settings.push(format!("data.dir={}", path(folder)?));
        }
        if let Some(recipe) = &self.recipe {
            settings.push(format!("data.recipe={}", path(recipe)?));
        }
        if let Some(file) = &self.pretrained {
            settings.push(format!("train.pretrained={}", path(file)?));
        }
        if let Some(name) = &self.model {
            let named = pluvial_model::SegmenterConfig::from_name(name)?;
            // Refined is what is coarse: the refinement of the defaults goes.
            let refinement = match named.decoder.is_full_resolution() {
                true => ", refinement_channels = \"none\"",
                false => "",
            };
            settings.push(format!(
                "model={{ encoder = \"{}\", decoder = \"{}\"{refinement} }}",
                named.encoder, named.decoder
            ));
        }
        let numbers = [
            ("train.epochs", self.epochs.map(|v| v.to_string())),
            ("train.max_steps", self.max_steps.map(|v| v.to_string())),
            ("data.batch_size", self.batch_size.map(|v| v.to_string())),
            (
                "optim.learning_rate",
                self.learning_rate.map(|v| format!("{v:?}")),
            ),
            ("seed", self.seed.map(|v| v.to_string())),
        ];
        for (key, value) in numbers {
            settings.extend(value.map(|value| format!("{key}={value}")));
        }
        if let Some(action) = &self.on_bad_record {
            settings.push(format!("data.on_bad_record={action}"));
        }
        settings.extend(self.settings.iter().cloned());
        Ok(settings)
    }
}

fn run() -> Result<()> {
    let args = Args::parse();
    keep_freed_memory();
    let settings = args.settings()?;
    let (file, start) = match &args.resume {
        Some(run) => {
            let file = RunDir::open(run)?.file("config.toml");
            (Some(file), Start::Resume(run.clone()))
        }
        None => (args.config.clone(), Start::New(args.runs.clone())),
    };
    let config = Config::load(file.as_deref(), &settings)?;
    let device = config.device.resolve()?;
    pluvial_train::device::set_default_backend(device.choice);
    session::train(config, device, start, &Log::new(), &StopFlag::install()?)
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
