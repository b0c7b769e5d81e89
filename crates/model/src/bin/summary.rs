//! Describes a network: `cargo run --release --bin summary -- --model deeplabv3plus-convnext_atto`.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::{Parser, ValueEnum};
use pluvial_model::ModelConfig;

/// Prints the layers of a network with output shapes, parameters, multiply-adds and connections.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The network by name, such as deeplabv3plus-convnext_atto.
    #[arg(long, value_name = "NAME", required_unless_present = "list")]
    model: Option<String>,
    /// Lists the names of all networks.
    #[arg(long)]
    list: bool,
    /// A table in the layout of Keras, JSON, a flow chart for Mermaid or Graphviz, or one as an SVG file for a browser.
    #[arg(long, default_value = "table")]
    format: Format,
    /// Channels of the input.
    #[arg(long, default_value_t = 8)]
    channels: usize,
    /// Height and width of the input in cells.
    #[arg(long, value_names = ["HEIGHT", "WIDTH"], num_args = 2, default_values_t = [128, 128])]
    size: Vec<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
    Mermaid,
    Dot,
    Svg,
}

fn run() -> Result<()> {
    let args = Args::parse();
    if args.list {
        return print(&(ModelConfig::names().join("\n") + "\n"));
    }
    let name = args.model.context("a network's name")?;
    let mut config = ModelConfig::from_name(&name)?;
    let size = [args.size[0], args.size[1]];
    match &mut config {
        ModelConfig::Segmenter(config) => config.input_channels = args.channels,
        ModelConfig::Autoencoder(config) => {
            (config.input_channels, config.size) = (args.channels, size);
        }
        ModelConfig::PixelClassifier(config) => config.input_channels = args.channels,
        ModelConfig::Contrastive(config) => config.rain_channels = args.channels,
    }
    let summary = config.summary(size, &Device::default())?;
    let text = match args.format {
        Format::Table => summary.to_table(),
        Format::Json => summary.to_json() + "\n",
        Format::Mermaid => summary.to_mermaid(),
        Format::Dot => summary.to_dot(),
        Format::Svg => summary.to_svg(),
    };
    print(&text)
}

/// A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write"),
        _ => Ok(()),
    }
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
