//! Speed of the networks, one row a model, after timm's `benchmark.py`: warm-up, then timed and synchronised steps; on
//! memory that does not suffice, a smaller batch.
//!
//!     cargo bench -p pluvial-benches --bench encoders -- --device cpu --mode train --batch 4 --size 64
//!
//! The PyTorch side is `benches/peers/torch_step.py`. Networks, loss (cross-entropy + dice) and optimizer (AdamW) are the
//! same as there: DeepLabV3+ of the published rainfall model (variant `keras`), 8 channels, input enlarged ×2.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Int, Tensor};
use clap::{Parser, ValueEnum};
use pluvial_benches::peak_memory_bytes;
use pluvial_model::encoders::{Encoder, EncoderName};
use pluvial_model::losses::{CrossEntropyDice, LossConfig};
use pluvial_model::models::ParamCount;
use pluvial_model::{Segmenter, SegmenterConfig};
use pluvial_train::config::OptimConfig;
use pluvial_train::device::{DeviceChoice, set_default_backend};
use pluvial_train::memory::keep_freed_memory;
use pluvial_train::optim::adamw;

/// Networks that are measured where none are named.
const DEFAULT_MODELS: [&str; 3] = [
    "deeplabv3plus_keras-resnet50",
    "deeplabv3plus_keras-convnext_atto",
    "deeplabv3plus_keras-convnext_tiny",
];

#[derive(Parser)]
struct Cli {
    /// auto, cuda[:i], vulkan[:i], wgpu[:i] or cpu.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// What one step is.
    #[arg(long, value_enum, default_value_t = Mode::Train)]
    mode: Mode,
    /// Numbers that the network computes with.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    precision: Precision,
    /// Maps a step; halved while memory does not suffice.
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Rows and columns of a map, before it is enlarged ×2.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Channels of a map.
    #[arg(long, default_value_t = 8)]
    channels: usize,
    /// Names separated by commas, a segmenter's or `ENCODER-encoder`, or `all`.
    #[arg(long, value_delimiter = ',', default_values = DEFAULT_MODELS)]
    models: Vec<String>,
    /// Steps before the timed ones; 1 on a CPU and 10 on a GPU by default.
    #[arg(long)]
    warmup: Option<usize>,
    /// Timed steps; 5 on a CPU and 40 on a GPU by default.
    #[arg(long)]
    steps: Option<usize>,
    /// Adds the rows to this file.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Shares of forward, backward and optimizer, each synchronised.
    #[arg(long)]
    detail: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    Train,
    Infer,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Precision {
    F32,
}

/// A network under test.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one exists
enum Network {
    Segmenter(Segmenter),
    Encoder(Encoder),
}

impl Network {
    fn named(name: &str, channels: usize, device: &Device) -> Result<Self> {
        if let Some(encoder) = name.strip_suffix("-encoder") {
            let encoder: EncoderName = encoder.parse()?;
            return Ok(Self::Encoder(encoder.config(channels).init(device)));
        }
        let config = SegmenterConfig::from_name(name)?;
        let config = SegmenterConfig {
            input_channels: channels,
            input_upsampling: 2,
            ..config
        };
        Ok(Self::Segmenter(config.init(device)?))
    }

    /// Logits of a segmenter, `[batch, 2, height, width]`; the mean of an encoder's last map, `[batch, channels, 1, 1]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Segmenter(model) => model.forward(x),
            Self::Encoder(model) => {
                let last = model.forward(x).pop();
                last.expect("an encoder has a map").mean_dim(2).mean_dim(3)
            }
        }
    }

    fn loss(&self, output: Tensor<4>, labels: &Tensor<3, Int>) -> Tensor<1> {
        match self {
            Self::Segmenter(_) => LossConfig::CrossEntropyDice(CrossEntropyDice::default())
                .forward(output, labels.clone()),
            Self::Encoder(_) => output.square().mean(),
        }
    }
}

/// Seconds of the parts of one step.
#[derive(Clone, Copy, Default)]
struct Step {
    forward_s: f64,
    backward_s: f64,
    optimizer_s: f64,
    total_s: f64,
}

struct Row {
    batch: usize,
    params: usize,
    steps: Vec<Step>,
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

fn run(cli: Cli) -> Result<()> {
    ensure!(
        cli.batch > 0 && cli.size > 0,
        "--batch and --size must be at least 1"
    );
    keep_freed_memory();
    let chosen = cli.device.resolve()?;
    set_default_backend(chosen.choice);
    let on_cpu = chosen.choice == DeviceChoice::Cpu;
    let warmup = cli.warmup.unwrap_or(if on_cpu { 1 } else { 10 });
    let steps = cli.steps.unwrap_or(if on_cpu { 5 } else { 40 }).max(1);
    let models = match cli.models.as_slice() {
        [all] if all == "all" => SegmenterConfig::names(),
        names => names.to_vec(),
    };
    let (mode, precision) = (name_of(cli.mode), name_of(cli.precision));
    println!(
        "{} ({} threads), {mode}, {precision}, {}×{} cells before ×2, {warmup} + {steps} steps",
        chosen.choice,
        rayon::current_num_threads(),
        cli.size,
        cli.size
    );
    println!(
        "{:36} {:>5} {:>11} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "model", "batch", "parameters", "median ms", "min ms", "max ms", "samples/s", "peak MiB"
    );
    for name in &models {
        let row = measure(name, &cli, &chosen.device, warmup, steps)?;
        let mut totals: Vec<f64> = row.steps.iter().map(|step| 1e3 * step.total_s).collect();
        totals.sort_by(f64::total_cmp);
        let (min, max) = (totals[0], totals[totals.len() - 1]);
        let median = median(&totals);
        let samples_per_s = 1e3 * row.batch as f64 / median;
        let peak_mib = peak_mib(chosen.choice);
        let peak = peak_mib.map_or("".into(), |mib| mib.to_string());
        println!(
            "{name:36} {:5} {:11} {median:9.1} {min:9.1} {max:9.1} {samples_per_s:9.2} {peak:>9}",
            row.batch, row.params
        );
        if cli.detail {
            let part = |of: fn(&Step) -> f64| {
                let mut parts: Vec<f64> = row.steps.iter().map(|step| 1e3 * of(step)).collect();
                parts.sort_by(f64::total_cmp);
                self::median(&parts)
            };
            println!(
                "{:36} forward {:.1} ms, backward {:.1} ms, optimizer {:.1} ms",
                "",
                part(|step| step.forward_s),
                part(|step| step.backward_s),
                part(|step| step.optimizer_s)
            );
        }
        if let Some(path) = &cli.csv {
            let version = env!("CARGO_PKG_VERSION");
            let line = format!(
                "{name},{mode},{},{precision},{},{},{},{},{median:.3},{min:.3},{max:.3},{samples_per_s:.3},{peak},pluvial {version} burn 0.22.1",
                chosen.choice,
                rayon::current_num_threads(),
                row.batch,
                cli.size,
                row.params
            );
            append(path, &line)?;
        }
    }
    Ok(())
}

fn name_of(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or(String::new(), |value| value.get_name().to_owned())
}

/// Of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle],
        _ => 0.5 * (sorted[middle - 1] + sorted[middle]),
    }
}

/// Measures one network; halves the batch while a step fails for want of memory.
fn measure(name: &str, cli: &Cli, device: &Device, warmup: usize, steps: usize) -> Result<Row> {
    let mut batch = cli.batch;
    loop {
        // Backends report a lack of memory by a panic.
        let tried = catch_unwind(AssertUnwindSafe(|| {
            time_steps(name, cli, device, batch, warmup, steps)
        }));
        match tried {
            Ok(row) => return row,
            Err(panic) => {
                let text = panic_text(&*panic);
                let lack = ["out of memory", "OutOfMemory", "memory allocation"];
                if batch == 1 || !lack.iter().any(|word| text.contains(word)) {
                    bail!("{name}, batch {batch}: {text}");
                }
                batch /= 2;
                eprintln!("{name}: {text}; trying batch {batch}");
            }
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
        .unwrap_or_else(|| "panic".to_owned())
}

fn time_steps(
    name: &str,
    cli: &Cli,
    device: &Device,
    batch: usize,
    warmup: usize,
    steps: usize,
) -> Result<Row> {
    device.seed(0);
    let device = match cli.mode {
        Mode::Train => device.clone().autodiff(),
        Mode::Infer => device.clone(),
    };
    let shape = [batch, cli.channels, cli.size, cli.size];
    let x = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let labels = Tensor::<3>::random([batch, cli.size, cli.size], Distribution::Default, &device);
    let labels = labels.greater_elem(0.5).int();
    let mut network = Network::named(name, cli.channels, &device)?;
    let params = ParamCount::of(&network).trainable;
    let mut optimizer: ModuleOptimizer = adamw(&OptimConfig::default(), &network);
    let mut timed = Vec::with_capacity(steps);
    for i in 0..warmup + steps {
        let start = Instant::now();
        let mut step = Step::default();
        let sync = |device: &Device| device.sync().context("the device failed");
        let output = network.forward(x.clone());
        match cli.mode {
            Mode::Infer => drop(output),
            Mode::Train => {
                let loss = network.loss(output, &labels);
                if cli.detail {
                    sync(&device)?;
                }
                step.forward_s = start.elapsed().as_secs_f64();
                let gradients = GradientsParams::from_grads(loss.backward(), &network);
                if cli.detail {
                    sync(&device)?;
                }
                step.backward_s = start.elapsed().as_secs_f64() - step.forward_s;
                network = optimizer.step(1e-3, network, gradients);
            }
        }
        sync(&device)?;
        step.total_s = start.elapsed().as_secs_f64();
        step.optimizer_s = step.total_s - step.forward_s - step.backward_s;
        if i >= warmup {
            timed.push(step);
        }
    }
    Ok(Row {
        batch,
        params,
        steps: timed,
    })
}

/// Memory that this process has held at most on the CPU, or holds now on a CUDA device.
fn peak_mib(choice: DeviceChoice) -> Option<u64> {
    match choice {
        DeviceChoice::Cpu => peak_memory_bytes().map(|bytes| bytes >> 20),
        DeviceChoice::Cuda(_) => {
            let query = [
                "--query-compute-apps=pid,used_memory",
                "--format=csv,noheader,nounits",
            ];
            let output = std::process::Command::new("nvidia-smi")
                .args(query)
                .output()
                .ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            let pid = std::process::id().to_string();
            let line = text.lines().find_map(|line| line.strip_prefix(&pid))?;
            line.trim_start_matches(',').trim().parse().ok()
        }
        _ => None,
    }
}

/// Adds a line to a CSV file, with the header where the file is new.
fn append(path: &PathBuf, line: &str) -> Result<()> {
    let is_new = !path.exists();
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.with_context(|| format!("cannot write '{}'", path.display()))?;
    let header = "model,mode,device,precision,threads,batch,size,params,median_ms,min_ms,max_ms,samples_per_s,peak_mib,versions\n";
    let text = format!("{}{line}\n", if is_new { header } else { "" });
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write '{}'", path.display()))
}
