//! Forward and backward time of single operations: ours, burn's own on the same device, and PyTorch's.
//!
//!     cargo bench -p pluvial-benches --bench operations -- --device cpu --batch 4
//!     python3 benches/peers/torch_operations.py --batch 4 > torch.jsonl
//!     cargo bench -p pluvial-benches --bench operations -- --device cpu --batch 4 --beside torch.jsonl --markdown FILE
//!
//! The sizes are those of the networks at maps of 128 × 128 cells; the gradients are those by the input and the parameters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNormConfig, LayerNormConfig, PaddingConfig2d};
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Distribution, Tensor, activation};
use clap::Parser;
use pluvial_model::layers::{layer_norm, resize::resize_bilinear};
use pluvial_model::ops::{batch_norm, conv2d, gelu};
use pluvial_train::device::{DeviceChoice, set_default_backend};
use pluvial_train::memory::keep_freed_memory;

#[derive(Parser)]
struct Cli {
    /// auto, cuda[:i], vulkan[:i], wgpu[:i] or cpu.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Maps a batch.
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Untimed and timed repetitions of each; the median counts.
    #[arg(long, default_values_t = [2, 9], num_args = 2, value_names = ["WARMUP", "TIMED"])]
    repetitions: Vec<usize>,
    /// Only operations whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
    /// Output of benches/peers/torch_operations.py, for the column of PyTorch.
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Writes the table to this file, too.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

type Forward = Box<dyn Fn(Tensor<4>) -> Tensor<4>>;

/// One operation in two implementations. The names are those of `torch_operations.py`.
struct Case {
    name: String,
    /// `[channels, height, width]`
    input: [usize; 3],
    ours: Forward,
    burns: Forward,
}

impl Case {
    fn convolution(name: &str, conv: Conv2dConfig, size: usize, device: &Device) -> Self {
        let conv: Conv2d = conv.init(device);
        let channels = conv.weight.dims()[1] * conv.groups;
        let burns = conv.clone();
        Self {
            name: name.to_owned(),
            input: [channels, size, size],
            ours: Box::new(move |x| conv2d::forward(&conv, x)),
            burns: Box::new(move |x| burns.forward(x)),
        }
    }

    fn all(device: &Device) -> Vec<Self> {
        let same = |config: Conv2dConfig, padding: usize| {
            config
                .with_padding(PaddingConfig2d::Explicit(
                    padding, padding, padding, padding,
                ))
                .with_bias(false)
        };
        let conv = |channels, k: usize| same(Conv2dConfig::new(channels, [k, k]), k / 2);
        let dilated = |channels, rate: usize| {
            same(
                Conv2dConfig::new(channels, [3, 3]).with_dilation([rate; 2]),
                rate,
            )
        };
        let depthwise = |channels: usize| conv([channels, channels], 7).with_groups(channels);
        let mut cases: Vec<Case> = [
            ("3×3, 64 channels, 64²", conv([64, 64], 3), 64),
            (
                "3×3 of dilation 6, 256 channels, 16²",
                dilated([256, 256], 6),
                16,
            ),
            ("3×3, 256 channels, 8²", conv([256, 256], 3), 8),
            ("3×3, 304→256, 64²", conv([304, 256], 3), 64),
            ("1×1, 256→1024, 16²", conv([256, 1024], 1), 16),
            ("1×1, 1024→256, 8²", conv([1024, 256], 1), 8),
            ("depthwise 7×7, 96 channels, 32²", depthwise(96), 32),
            ("depthwise 7×7, 384 channels, 16²", depthwise(384), 16),
        ]
        .into_iter()
        .map(|(name, config, size)| Case::convolution(name, config, size, device))
        .collect();
        cases.push(Case {
            name: "bilinear 16²→64², 256 channels".to_owned(),
            input: [256, 16, 16],
            ours: Box::new(|x| resize_bilinear(x, [64, 64])),
            burns: Box::new(|x| {
                let options = InterpolateOptions::new(InterpolateMode::Bilinear);
                interpolate(
                    x,
                    options.with_align_corners(false).with_output_size([64, 64]),
                )
            }),
        });
        let norm = layer_norm::LayerNormConfig::new(96).init(device);
        let burns = LayerNormConfig::new(96).init(device);
        // Rows of channels, as within the blocks of ConvNeXt.
        let rows = |x: Tensor<4>| {
            let [batch, height, width, channels] = x.dims();
            x.reshape([batch * height * width, channels])
        };
        cases.push(Case {
            name: "LayerNorm, 96 channels, 32²".to_owned(),
            input: [32, 32, 96],
            ours: Box::new(move |x| norm.forward(rows(x)).unsqueeze()),
            burns: Box::new(move |x| burns.forward(rows(x)).unsqueeze()),
        });
        let norm = BatchNormConfig::new(256).init(device);
        let burns = norm.clone();
        cases.push(Case {
            name: "BatchNorm and ReLU, 256 channels, 32²".to_owned(),
            input: [256, 32, 32],
            ours: Box::new(move |x| batch_norm::forward(&norm, x, true)),
            burns: Box::new(move |x| activation::relu(burns.forward(x))),
        });
        cases.push(Case {
            name: "GELU, 384 channels, 32²".to_owned(),
            input: [384, 32, 32],
            ours: Box::new(gelu::gelu),
            burns: Box::new(activation::gelu),
        });
        cases
    }
}

/// Median time of a forward and a backward pass in ms, or why it failed.
fn time(
    forward: &Forward,
    shape: [usize; 4],
    device: &Device,
    repetitions: &[usize],
) -> Result<f64, String> {
    // Backends report what they lack by a panic.
    let timed = catch_unwind(AssertUnwindSafe(|| {
        let x = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), device);
        let x = x.require_grad();
        let like = forward(x.clone()).dims();
        let factor = Tensor::<4>::random(like, Distribution::Normal(0.0, 1.0), device);
        let mut times = Vec::new();
        for i in 0..repetitions[0] + repetitions[1] {
            let start = Instant::now();
            let loss = (forward(x.clone()) * factor.clone()).sum();
            drop(loss.backward());
            device.sync().map_err(|error| error.to_string())?;
            if i >= repetitions[0] {
                times.push(1e3 * start.elapsed().as_secs_f64());
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }));
    timed.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(text.unwrap_or_else(|| "panic".to_owned()))
    })
}

/// Name of the operation → ms, and the version, as `torch_operations.py` printed them.
fn peer(path: &PathBuf) -> Result<(BTreeMap<String, f64>, String)> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read '{}'", path.display()))?;
    let mut times = BTreeMap::new();
    let mut version = String::new();
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line)
            .with_context(|| format!("'{}' is not of torch_operations.py", path.display()))?;
        let field = |key: &str| row.get(key).and_then(|value| value.as_str());
        let (Some(name), Some(ms)) = (field("operation"), row["ms"].as_f64()) else {
            anyhow::bail!("'{}' is not of torch_operations.py: {line}", path.display());
        };
        version = format!(
            "PyTorch {} ({})",
            field("version").unwrap_or("?"),
            field("device").unwrap_or("?")
        );
        times.insert(name.to_owned(), ms);
    }
    Ok((times, version))
}

fn run(cli: Cli) -> Result<()> {
    keep_freed_memory();
    let chosen = cli.device.resolve()?;
    set_default_backend(chosen.choice);
    let device = chosen.device.autodiff();
    let (peers, version) = cli
        .beside
        .as_ref()
        .map(peer)
        .transpose()?
        .unwrap_or_default();
    let beside = if version.is_empty() {
        String::new()
    } else {
        format!(", beside {version}")
    };
    let mut table = format!(
        "# {}, f32: forward and backward of single operations, batch {}\n\n\
         pluvial {} with burn 0.22.1, {} threads{beside}; medians of {}, ms. \
         Made by `cargo bench -p pluvial-benches --bench operations`.\n\n\
         | operation | ours | burn's own | burn's / ours | PyTorch | ours / PyTorch |\n|---|---|---|---|---|---|\n",
        chosen.choice,
        cli.batch,
        env!("CARGO_PKG_VERSION"),
        rayon::current_num_threads(),
        cli.repetitions[1],
    );
    print!("{table}");
    for case in Case::all(&device) {
        if !case.name.contains(&cli.only) {
            continue;
        }
        let [a, b, c] = case.input;
        let shape = [cli.batch, a, b, c];
        let ours = time(&case.ours, shape, &device, &cli.repetitions);
        let burns = time(&case.burns, shape, &device, &cli.repetitions);
        let torch = peers.get(&case.name);
        for (whose, time) in [("ours", &ours), ("burn's", &burns)] {
            if let Err(why) = time {
                eprintln!("{}, {whose}: {why}", case.name);
            }
        }
        let ms = |time: Option<f64>| time.map_or("–".to_owned(), |ms| format!("{ms:.2}"));
        let ratio = |a: Option<f64>, b: Option<f64>| ms(a.zip(b).map(|(a, b)| a / b));
        let (ours, burns, torch) = (ours.ok(), burns.ok(), torch.copied());
        let line = format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            case.name,
            ms(ours),
            ms(burns),
            ratio(burns, ours),
            ms(torch),
            ratio(ours, torch)
        );
        print!("{line}");
        table.write_str(&line)?;
    }
    if let Some(path) = &cli.markdown {
        std::fs::write(path, table)
            .with_context(|| format!("cannot write '{}'", path.display()))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
