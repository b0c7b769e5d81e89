//! Speed and memory of the networks, one row a model, after timm's `benchmark.py`: warm-up, then timed and synchronised steps;
//! where memory does not suffice, a smaller batch.
//!
//!     cargo bench -p pluvial-benches --bench encoders -- --device cpu --mode train --batch 4 --size 64
//!     cargo bench -p pluvial-benches --bench encoders -- --device cpu --largest-batch --memory-gib 8
//!
//! The PyTorch side is `benches/peers/torch_step.py`. Networks, loss (cross-entropy + dice) and optimizer (AdamW) are the
//! same as there: DeepLabV3+ of the published rainfall model (variant `keras`), 8 channels, input enlarged ×2.
//!
//! Every measurement runs in a process of its own, so that a model inherits neither the memory of the one before nor a device
//! that ran out of it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, FloatDType, Int, Tensor};
use clap::{Parser, ValueEnum};
use pluvial_benches::{peak_memory_bytes, processor_name, versions};
use pluvial_model::encoders::{Encoder, EncoderName};
use pluvial_model::losses::{CrossEntropyDice, LossConfig};
use pluvial_model::models::ParamCount;
use pluvial_model::ops::{checkpoint, precision};
use pluvial_model::summary::Summary;
use pluvial_model::{Segmenter, SegmenterConfig};
use pluvial_train::config::OptimConfig;
use pluvial_train::device::{Chosen, DeviceChoice, set_default_backend};
use pluvial_train::memory::keep_freed_memory;
use pluvial_train::optim::adamw;
use serde::{Deserialize, Serialize};

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
    /// Names separated by commas, a segmenter's or `ENCODER-encoder`, or `all` of both.
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
    /// Compute what the backward pass needs of a block again, rather than keep it.
    #[arg(long)]
    checkpointing: bool,
    /// Instead of times: the largest batch, from --batch on, whose step fits into the memory.
    #[arg(long)]
    largest_batch: bool,
    /// Memory that --largest-batch may use; that of the device by default, and required on a CPU.
    #[arg(long, value_name = "N")]
    memory_gib: Option<f64>,
    /// Measure this one in this process, and print the result as JSON.
    #[arg(long, hide = true, value_name = "MODEL")]
    only: Option<String>,
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
    /// On CUDA the same as tf32: burn has no other product of matrices on tensor cores, and none that leaves them out.
    F32,
    /// f32 whose factors are rounded to 10 bits of fraction in products of matrices; CUDA only.
    Tf32,
    /// Maps between layers, f32 elsewhere.
    Bf16,
}

impl Precision {
    fn of_network(self) -> precision::Precision {
        match self {
            Self::F32 | Self::Tf32 => precision::Precision::F32,
            Self::Bf16 => precision::Precision::Bf16,
        }
    }

    /// An error where the device does not have it.
    fn check(self, chosen: &Chosen) -> Result<()> {
        let on_cuda = matches!(chosen.choice, DeviceChoice::Cuda(_));
        ensure!(
            self != Self::Tf32 || on_cuda,
            "--precision tf32: {} has no TF32, only CUDA does; take f32",
            chosen.choice
        );
        if self == Self::F32 && on_cuda {
            println!(
                "f32 on {}: products of matrices round their factors to TF32, as with --precision tf32",
                chosen.choice
            );
        }
        let precision = self.of_network().check(&chosen.device);
        precision.with_context(|| format!("device {}", chosen.choice))
    }
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
                let last = last.expect("an encoder has a map");
                last.cast(FloatDType::F32).mean_dim(2).mean_dim(3)
            }
        }
    }

    fn loss(&self, output: Tensor<4>, labels: Tensor<3, Int>) -> Tensor<1> {
        match self {
            Self::Segmenter(_) => {
                LossConfig::CrossEntropyDice(CrossEntropyDice::default()).forward(output, labels)
            }
            Self::Encoder(_) => output.square().mean(),
        }
    }
}

/// Seconds of the parts of one step.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Step {
    forward_s: f64,
    backward_s: f64,
    optimizer_s: f64,
    total_s: f64,
}

/// What a process measured.
#[derive(Serialize, Deserialize)]
struct Measured {
    device_name: String,
    threads: usize,
    params: usize,
    /// Multiply-adds of a forward pass of one map.
    macs: usize,
    /// Most memory that the process had on the CPU, or that its pools had on another device.
    peak_bytes: Option<u64>,
    steps: Vec<Step>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    ensure!(
        cli.batch > 0 && cli.size > 0,
        "--batch and --size must be at least 1"
    );
    if let Some(name) = &cli.only {
        keep_freed_memory();
        let chosen = cli.device.resolve()?;
        set_default_backend(chosen.choice);
        let measured = time_steps(name, cli, &chosen)?;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    let chosen = cli.device.resolve()?;
    cli.precision.check(&chosen)?;
    let models = match cli.models.as_slice() {
        [all] if all == "all" => {
            let encoders = EncoderName::ALL.iter();
            let encoders = encoders.map(|(_, name)| format!("{name}-encoder"));
            SegmenterConfig::names()
                .into_iter()
                .chain(encoders)
                .collect()
        }
        names => names.to_vec(),
    };
    let bench = Bench {
        cli,
        choice: chosen.choice,
        mode: name_of(cli.mode),
        precision: name_of(cli.precision),
    };
    println!(
        "{} ({} threads), {}, {}{}, {}×{} cells before ×2",
        chosen.choice,
        rayon::current_num_threads(),
        bench.mode,
        bench.precision,
        if cli.checkpointing {
            ", checkpointing"
        } else {
            ""
        },
        cli.size,
        cli.size
    );
    let measure = match cli.largest_batch {
        true => Bench::largest_batch,
        false => Bench::speed,
    };
    bench.print_header();
    let failed = models.iter().filter(|name| {
        let result = measure(&bench, name);
        if let Err(error) = &result {
            println!("{name:36} error: {error:#}");
        }
        result.is_err()
    });
    match failed.count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} models could not be measured", models.len()),
    }
}

/// What all models have in common.
struct Bench<'a> {
    cli: &'a Cli,
    choice: DeviceChoice,
    mode: String,
    precision: String,
}

/// How a process that measured ended.
enum Trial {
    Measured(Measured),
    /// The last line that it said.
    OutOfMemory(String),
}

impl Bench<'_> {
    fn print_header(&self) {
        print!(
            "{:36} {:>5} {:>11} {:>7}",
            "model", "batch", "parameters", "GMACs"
        );
        if !self.cli.largest_batch {
            print!(
                " {:>9} {:>9} {:>9} {:>9}",
                "median ms", "min ms", "max ms", "samples/s"
            );
        }
        println!(" {:>9}", "peak MiB");
    }

    /// Times a model; halves the batch while a step fails for want of memory.
    fn speed(&self, name: &str) -> Result<()> {
        let cli = self.cli;
        let mut batch = cli.batch;
        let measured = loop {
            match self.try_batch(name, batch, None)? {
                Trial::Measured(measured) => break measured,
                Trial::OutOfMemory(text) if batch == 1 => bail!("batch 1: {text}"),
                Trial::OutOfMemory(text) => {
                    batch /= 2;
                    eprintln!("{name}: {text}; trying batch {batch}");
                }
            }
        };
        let sorted = |of: fn(&Step) -> f64| {
            let mut ms: Vec<f64> = measured.steps.iter().map(|step| 1e3 * of(step)).collect();
            ms.sort_by(f64::total_cmp);
            ms
        };
        let totals = sorted(|step| step.total_s);
        let (min, max, median) = (totals[0], totals[totals.len() - 1], median(&totals));
        let samples_per_s = 1e3 * batch as f64 / median;
        let gmacs = measured.macs as f64 / 1e9;
        let peak = measured.peak_mib();
        println!(
            "{name:36} {batch:5} {:11} {gmacs:7.3} {median:9.1} {min:9.1} {max:9.1} {samples_per_s:9.2} {peak:>9}",
            measured.params
        );
        if cli.detail {
            let part = |of| self::median(&sorted(of));
            println!(
                "{:36} forward {:.1} ms, backward {:.1} ms, optimizer {:.1} ms",
                "",
                part(|step| step.forward_s),
                part(|step| step.backward_s),
                part(|step| step.optimizer_s)
            );
        }
        let times = format!("{median:.3},{min:.3},{max:.3},{samples_per_s:.3}");
        self.append(name, batch, &measured, &times)
    }

    /// Finds the largest batch to a sixteenth: on the line through the memory of the last two where there is a limit, otherwise by
    /// doubling; and then between what fits and what does not.
    fn largest_batch(&self, name: &str) -> Result<()> {
        let most_bytes = self.cli.memory_gib.map(|gib| (gib * GIB) as u64);
        ensure!(
            most_bytes.is_some() || self.choice != DeviceChoice::Cpu,
            "--largest-batch needs --memory-gib on a CPU"
        );
        let fits = |batch| -> Result<Option<Measured>> {
            let measured = match self.try_batch(name, batch, most_bytes)? {
                Trial::Measured(measured) => measured,
                Trial::OutOfMemory(_) => return Ok(None),
            };
            let over = match (measured.peak_bytes, most_bytes) {
                (Some(peak), Some(most)) => peak > most,
                (None, Some(_)) => bail!("{} does not report its memory", self.choice),
                _ => false,
            };
            Ok((!over).then_some(measured))
        };
        let (mut batch, mut too_large) = (self.cli.batch, None);
        let mut fitting: Vec<(usize, Measured)> = Vec::new();
        let (largest, best) = loop {
            match fits(batch)? {
                Some(measured) => fitting.push((batch, measured)),
                None => too_large = Some(batch),
            }
            let Some(&(largest, _)) = fitting.last() else {
                bail!("batch {batch} does not fit");
            };
            batch = match too_large {
                Some(too_large) => largest.midpoint(too_large),
                None => on_the_line(&fitting, most_bytes).unwrap_or(2 * largest),
            };
            if batch <= largest + largest / 16 {
                break fitting.swap_remove(fitting.len() - 1);
            }
        };
        let gmacs = best.macs as f64 / 1e9;
        let (params, peak) = (best.params, best.peak_mib());
        println!("{name:36} {largest:5} {params:11} {gmacs:7.3} {peak:>9}");
        self.append(name, largest, &best, ",,,")
    }

    /// Measures in a process of its own, which `most_bytes` stops on a CPU.
    fn try_batch(&self, name: &str, batch: usize, most_bytes: Option<u64>) -> Result<Trial> {
        let cli = self.cli;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = match most_bytes {
            // Somewhat above, for addresses that stand for no memory: what is held decides.
            Some(bytes) if self.choice == DeviceChoice::Cpu => {
                let mut shell = Command::new("sh");
                let limit = format!(
                    "ulimit -v {}; exec \"$0\" \"$@\"",
                    (bytes >> 10) + (1 << 20)
                );
                shell.args(["-c", &limit]).arg(program);
                shell
            }
            _ => Command::new(program),
        };
        let (warmup, steps) = match (cli.largest_batch, self.choice) {
            // The optimizer's moments are made by a step of one map.
            (true, _) => (1, 1),
            (false, DeviceChoice::Cpu) => (cli.warmup.unwrap_or(1), cli.steps.unwrap_or(5)),
            (false, _) => (cli.warmup.unwrap_or(10), cli.steps.unwrap_or(40)),
        };
        command.args(["--only", name, "--device", &self.choice.to_string()]);
        command.args(["--mode", &self.mode, "--precision", &self.precision]);
        for (flag, number) in [
            ("--batch", batch),
            ("--size", cli.size),
            ("--channels", cli.channels),
            ("--warmup", warmup),
            ("--steps", steps.max(1)),
        ] {
            command.args([flag, &number.to_string()]);
        }
        for (flag, given) in [
            ("--detail", cli.detail),
            ("--largest-batch", cli.largest_batch),
            ("--checkpointing", cli.checkpointing),
        ] {
            command.args(given.then_some(flag));
        }
        let output = command.output().context("cannot start a process")?;
        if output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout);
            let line = text.lines().next_back().unwrap_or_default();
            let measured = serde_json::from_str(line).context("the process printed no result")?;
            return Ok(Trial::Measured(measured));
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let lack = [
            "out of memory",
            "OutOfMemory",
            "OUT_OF_MEMORY",
            "memory allocation",
        ];
        let lines = || errors.lines().filter(|line| !line.trim().is_empty());
        match lines().find(|line| lack.iter().any(|word| line.contains(word))) {
            Some(line) => Ok(Trial::OutOfMemory(line.to_owned())),
            None => {
                let said = lines()
                    .find(|line| line.starts_with("error: "))
                    .or(lines().next_back());
                let said = said.map_or("", |line| line.trim_start_matches("error: "));
                Err(anyhow!("batch {batch}: {said} ({})", output.status))
            }
        }
    }

    /// Adds a line to the CSV file, with the header where the file is new.
    fn append(&self, name: &str, batch: usize, measured: &Measured, times: &str) -> Result<()> {
        let cli = self.cli;
        let Some(path) = &cli.csv else { return Ok(()) };
        let header = "model,mode,device,device_name,precision,checkpointing,threads,batch,size,params,gmacs,median_ms,min_ms,max_ms,samples_per_s,peak_mib,versions\n";
        let line = format!(
            "{name},{},{},{},{},{},{},{batch},{},{},{:.4},{times},{},{}\n",
            self.mode,
            self.choice,
            measured.device_name.replace(',', " "),
            self.precision,
            cli.checkpointing,
            measured.threads,
            cli.size,
            measured.params,
            measured.macs as f64 / 1e9,
            measured.peak_mib(),
            versions()
        );
        let attempt = || -> std::io::Result<()> {
            let is_new = !path.exists();
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(format!("{}{line}", if is_new { header } else { "" }).as_bytes())
        };
        attempt().with_context(|| format!("cannot write '{}'", path.display()))
    }
}

impl Measured {
    /// Empty where it is not known.
    fn peak_mib(&self) -> String {
        let mib = self.peak_bytes.map(|bytes| bytes >> 20);
        mib.map_or(String::new(), |mib| mib.to_string())
    }
}

/// The batch that just fits, if memory goes on as from the last but one to the last.
fn on_the_line(fitting: &[(usize, Measured)], most_bytes: Option<u64>) -> Option<usize> {
    let [.., (batch_0, measured_0), (batch_1, measured_1)] = fitting else {
        return None;
    };
    let (bytes_0, bytes_1) = (measured_0.peak_bytes? as f64, measured_1.peak_bytes? as f64);
    let bytes_a_map = (bytes_1 - bytes_0) / (batch_1 - batch_0) as f64;
    let more = (most_bytes? as f64 - bytes_1) / bytes_a_map;
    // A little less: a batch that does not fit costs the most time of all.
    (bytes_a_map > 0.0).then(|| batch_1 + (0.97 * more) as usize)
}

const GIB: f64 = (1u64 << 30) as f64;

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

fn time_steps(name: &str, cli: &Cli, chosen: &Chosen) -> Result<Measured> {
    let device = &chosen.device;
    device.seed(0);
    let on = match cli.mode {
        Mode::Train => device.clone().autodiff(),
        Mode::Infer => device.clone(),
    };
    let shape = [cli.batch, cli.channels, cli.size, cli.size];
    let x = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &on);
    let labels = Tensor::<3>::random([cli.batch, cli.size, cli.size], Distribution::Default, &on);
    let labels = labels.greater_elem(0.5).int();
    let mut network = Network::named(name, cli.channels, &on)?;
    let params = ParamCount::of(&network).trainable;
    let mut optimizer: ModuleOptimizer = adamw(&OptimConfig::default(), &network);
    let (warmup, steps) = (cli.warmup.unwrap_or(1), cli.steps.unwrap_or(5));
    let mut timed = Vec::with_capacity(steps);
    for i in 0..warmup + steps {
        let start = Instant::now();
        let mut step = Step::default();
        let sync = || device.sync().context("the device failed");
        let (x, labels) = match cli.largest_batch && i < warmup {
            true => (x.clone().narrow(0, 0, 1), labels.clone().narrow(0, 0, 1)),
            false => (x.clone(), labels.clone()),
        };
        let output = checkpoint::with(cli.checkpointing, || {
            precision::with(cli.precision.of_network(), || network.forward(x))
        });
        match cli.mode {
            Mode::Infer => drop(output),
            Mode::Train => {
                let loss = network.loss(output, labels);
                if cli.detail {
                    sync()?;
                }
                step.forward_s = start.elapsed().as_secs_f64();
                let gradients = GradientsParams::from_grads(loss.backward(), &network);
                if cli.detail {
                    sync()?;
                }
                step.backward_s = start.elapsed().as_secs_f64() - step.forward_s;
                network = optimizer.step(1e-3, network, gradients);
            }
        }
        sync()?;
        step.total_s = start.elapsed().as_secs_f64();
        step.optimizer_s = step.total_s - step.forward_s - step.backward_s;
        if i >= warmup {
            timed.push(step);
        }
    }
    let peak_bytes = match chosen.choice {
        DeviceChoice::Cpu => peak_memory_bytes(),
        // Pools keep what they once had.
        _ => device.memory_pool_usage().map(|usage| usage.bytes_reserved),
    };
    Ok(Measured {
        device_name: device_name(chosen),
        threads: rayon::current_num_threads(),
        params,
        macs: macs(name, cli, chosen)?,
        peak_bytes,
        steps: timed,
    })
}

/// Multiply-adds of a forward pass of one map. On the CPU where there is one: a GPU would compile kernels for it.
fn macs(name: &str, cli: &Cli, chosen: &Chosen) -> Result<usize> {
    let device = DeviceChoice::Cpu.resolve();
    let device = device.map_or(chosen.device.clone(), |cpu| cpu.device);
    let network = Network::named(name, cli.channels, &device)?;
    let input = [1, cli.channels, cli.size, cli.size];
    let summary = Summary::of(name, &network, &[input], |mut x| {
        drop(network.forward(x.remove(0)));
    })?;
    Ok(summary.macs)
}

fn device_name(chosen: &Chosen) -> String {
    #[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
    if let Some(identity) = chosen.device.identity() {
        return identity.name.to_string();
    }
    match chosen.choice {
        DeviceChoice::Cpu => processor_name(),
        choice => choice.to_string(),
    }
}
