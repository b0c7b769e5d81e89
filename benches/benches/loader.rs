//! The loader on files of the published shape, beside the rate at which they can be inflated at all, and beside `tf.data`.
//!
//!     cargo bench -p pluvial-benches --no-default-features --bench loader
//!     cargo bench -p pluvial-benches --no-default-features --bench loader -- --python venv/bin/python --dir data
//!
//! Files: 256 samples each, rain 7 × 174 × 105, depth 348 × 210, gzip level 9; with `--python` (an interpreter that has TensorFlow)
//! TensorFlow itself writes them. Out come batches of 32 at 128 × 128 (rain repeated twice, both cropped, depth thresholded,
//! isolated wet cells dried), both checksums checked. Every round measures each contestant once, in a process of its own.
//!
//! The content is made here, so that it is the same everywhere. Rain: value noise of five octaves (one field for all
//! samples, drifting), of which the top tenth to third rains; a channel is the highest of several places along the drift, as a
//! max-pool over time is; rates are multiples of 1/32 mm/h, as the radar's are. Depth: a fractal terrain below a water
//! level that follows the sample, in whole millimetres, as text streams of simulators hold it. Wet cells and bytes a sample
//! come out near those of the published set (22 % wet; 70 GiB ÷ 1 481 792 samples = 51 kB).

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use flate2::bufread::MultiGzDecoder;
use ndarray::{Array2, Array3};
use pluvial_benches::peak_memory_bytes;
use pluvial_data::{
    Channel, Dataset, Loader, LoaderConfig, Metadata, Sample, ShardWriter, TransformConfig, rng,
};
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

const RAIN: [usize; 3] = [7, 174, 105];
const DEPTH: [usize; 2] = [348, 210];
const SAMPLES_A_FILE: usize = 256;
/// Times that a contestant goes through all files: a real set has hundreds, and what happens once shall not count as rate.
const PASSES: usize = 3;
/// The quickest of 16 KiB to 1 MiB, by a hair.
const INFLATE_BUFFER: usize = 1 << 20;

#[derive(Parser)]
struct Arguments {
    /// Files to make.
    #[arg(long, default_value_t = 8)]
    files: usize,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Threads of the loader and of the plain inflating; 0 for one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// A Python that has TensorFlow: it writes the files, and tf.data is measured too.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Where the files are kept for the next time; a temporary folder by default.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What the samples hold: see above.
    #[arg(long, value_enum, default_value_t = Kind::Rounded)]
    content: Kind,
    /// Measures one contestant, in this process.
    #[arg(long, hide = true)]
    contestant: Option<String>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the samples hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Rounded,
    Exact,
    Dense,
}

/// All files, [`PASSES`] times.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pass {
    samples: usize,
    seconds: f64,
    first_batch_s: f64,
    peak_bytes: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let threads = match arguments.threads {
        0 => std::thread::available_parallelism()?.get(),
        threads => threads,
    };
    if let (Some(contestant), Some(dir)) = (&arguments.contestant, &arguments.dir) {
        let pass = match contestant.as_str() {
            "inflate" => inflate(dir, threads)?,
            _ => load(dir, threads)?,
        };
        println!("{}", serde_json::to_string(&pass)?);
        return Ok(());
    }

    let temporary = tempfile::tempdir()?;
    let dir = arguments.dir.as_deref().unwrap_or(temporary.path());
    let kind = arguments.content;
    let files = make_files(&dir.join(format!("{kind:?}").to_lowercase()), &arguments)?;
    let inflated = inflated_bytes(&files)?;
    let samples = arguments.files * SAMPLES_A_FILE;
    let stored: u64 = Dataset::open(&files)?
        .shards
        .iter()
        .map(|shard| Ok(shard.path.metadata()?.len()))
        .sum::<Result<_>>()?;
    println!(
        "{kind:?}: {PASSES} × {samples} samples in {} files, {:.1} kB each inflated, {:.1} kB stored; {threads} threads; {} rounds",
        arguments.files,
        inflated as f64 / 1e3 / samples as f64,
        stored as f64 / 1e3 / samples as f64,
        arguments.rounds,
    );

    let mut passes: [Vec<Pass>; 3] = Default::default();
    for _ in 0..arguments.rounds {
        for (contestant, passes) in ["inflate", "loader"].iter().zip(&mut passes) {
            let mut command = Command::new(std::env::current_exe()?);
            command.args([
                "--contestant",
                contestant,
                "--threads",
                &threads.to_string(),
                "--dir",
            ]);
            passes.push(run(command.arg(&files))?);
        }
        if let Some(python) = &arguments.python {
            let mut command = Command::new(python);
            passes[2].push(run(command
                .arg(script())
                .arg("measure")
                .arg(&files)
                .arg(PASSES.to_string()))?);
        }
    }
    println!(
        "{:<10} {:>12} {:>12} {:>16} {:>12}",
        "", "samples/s", "MB/s", "first batch s", "peak MiB"
    );
    let mut rates = Vec::new();
    for (name, mut passes) in ["inflate", "loader", "tf.data"].into_iter().zip(passes) {
        passes.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let Some(median) = passes.get(passes.len() / 2) else {
            continue;
        };
        ensure!(
            median.samples == PASSES * samples,
            "{name} gave {} samples",
            median.samples
        );
        let rate = median.samples as f64 / median.seconds;
        rates.push(rate);
        println!(
            "{name:<10} {rate:>12.0} {:>12.0} {:>16.3} {:>12.0}",
            rate * inflated as f64 / 1e6 / samples as f64,
            median.first_batch_s,
            median.peak_bytes as f64 / f64::from(1 << 20)
        );
    }
    println!("loader / inflate: {:.2}", rates[1] / rates[0]);
    if let Some(peer) = rates.get(2) {
        println!("loader / tf.data: {:.2}", rates[1] / peer);
    }
    Ok(())
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/tf_data.py")
}

/// Runs a contestant, which prints its pass as the last line.
fn run(command: &mut Command) -> Result<Pass> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_str(
        text.lines().last().unwrap_or_default(),
    )?)
}

/// Inflates all files and does nothing with what comes out.
fn inflate(dir: &Path, threads: usize) -> Result<Pass> {
    let dataset = Dataset::open(dir)?;
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let worker = || -> Result<()> {
        let mut buffer = vec![0; INFLATE_BUFFER];
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= PASSES * dataset.shards.len() {
                return Ok(());
            }
            let shard = &dataset.shards[turn % dataset.shards.len()];
            let file =
                std::io::BufReader::with_capacity(1 << 17, std::fs::File::open(&shard.path)?);
            let mut stream = MultiGzDecoder::new(file);
            while stream.read(&mut buffer)? > 0 {}
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("a worker panicked"))
    })?;
    Ok(Pass {
        samples: PASSES * dataset.shards.len() * SAMPLES_A_FILE,
        seconds: start.elapsed().as_secs_f64(),
        first_batch_s: 0.0,
        peak_bytes: peak_memory_bytes().unwrap_or(0),
    })
}

/// Shuffled epochs, from opening the dataset on.
fn load(dir: &Path, threads: usize) -> Result<Pass> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    let start = Instant::now();
    let dataset = Arc::new(Dataset::open(dir)?);
    let shards = (0..dataset.shards.len()).collect();
    let config = LoaderConfig {
        batch_size: 32,
        threads,
        // Each sample is read once: the measure is of files, not of memory.
        cache_bytes: 0,
        transform: TransformConfig {
            channels: vec![Channel::Rain],
            output_size: Some([128, 128]),
            ..TransformConfig::default()
        },
        ..LoaderConfig::default()
    };
    let loader = Loader::new(dataset, shards, config)?;
    let (mut samples, mut first_batch_s) = (0, None);
    for batch in (0..PASSES as u64).flat_map(|epoch| loader.epoch(epoch)) {
        let batch = batch?;
        first_batch_s.get_or_insert_with(|| start.elapsed().as_secs_f64());
        samples += batch.ids.len();
        loader.recycle(std::hint::black_box(batch));
    }
    Ok(Pass {
        samples,
        seconds: start.elapsed().as_secs_f64(),
        first_batch_s: first_batch_s.unwrap_or_default(),
        peak_bytes: peak_memory_bytes().unwrap_or(0),
    })
}

fn inflated_bytes(dir: &Path) -> Result<u64> {
    let sizes: Result<Vec<u64>> = Dataset::open(dir)?
        .shards
        .par_iter()
        .map(|shard| {
            let file = std::io::BufReader::new(std::fs::File::open(&shard.path)?);
            Ok(std::io::copy(
                &mut MultiGzDecoder::new(file),
                &mut std::io::sink(),
            )?)
        })
        .collect();
    Ok(sizes?.into_iter().sum())
}

/// The folder with the files, made where they are missing.
fn make_files(dir: &Path, arguments: &Arguments) -> Result<PathBuf> {
    let ours = dir.join("pluvial");
    std::fs::create_dir_all(&ours)?;
    let metadata = Metadata::new(RAIN, DEPTH);
    metadata.write(&ours)?;
    let content = Content::new(arguments.content);
    let wet: Result<Vec<f64>> = (0..arguments.files)
        .into_par_iter()
        .map(|file| {
            let path = ours.join(format!("{file}.tfrecord.gz"));
            if path.exists() {
                return Ok(f64::NAN);
            }
            let mut writer = ShardWriter::create(
                path,
                &metadata,
                if arguments.python.is_some() { 1 } else { 9 },
            )?;
            let mut wet = 0;
            for sample in 0..SAMPLES_A_FILE {
                let sample = content.sample(file * SAMPLES_A_FILE + sample);
                wet += sample.depth_m.iter().filter(|&&depth| depth >= 0.1).count();
                writer.write(&sample)?;
            }
            writer.finish()?;
            Ok(wet as f64 / (SAMPLES_A_FILE * DEPTH[0] * DEPTH[1]) as f64)
        })
        .collect();
    let wet = wet?;
    if wet.iter().all(|share| !share.is_nan()) {
        println!(
            "wet cells: {:.1} %",
            100.0 * wet.iter().sum::<f64>() / wet.len() as f64
        );
    }
    let Some(python) = &arguments.python else {
        return Ok(ours);
    };
    let theirs = dir.join("tensorflow");
    let status = Command::new(python)
        .arg(script())
        .arg("rewrite")
        .args([&ours, &theirs])
        .status()?;
    ensure!(status.success(), "TensorFlow could not write the files");
    Ok(theirs)
}

/// Noise fields from which samples are cut.
struct Content {
    rain: Array2<f32>,
    terrain: Array2<f32>,
    kind: Kind,
}

const FIELD: usize = 1024;

impl Content {
    fn new(kind: Kind) -> Self {
        Self {
            rain: value_noise(1, 96),
            terrain: value_noise(2, 64),
            kind,
        }
    }

    fn sample(&self, number: usize) -> Sample {
        let mut rng = rng::stream(number as u64, "sample");
        let [channels, height, width] = RAIN;
        let (top, left) = (rng.random_range(0..FIELD), rng.random_range(0..FIELD));
        // Most times are nearly dry: the threshold above which the field rains varies by sample.
        let dry = 0.58 + 0.25 * rng.random::<f32>();
        let rain = Array3::from_shape_fn((channels, height, width), |(channel, y, x)| {
            let steps = [8, 6, 4, 3, 2, 2, 1][channel];
            let begin: usize = [0, 8, 14, 18, 21, 23, 25][channel];
            let highest = (begin..begin + steps)
                .map(|step| {
                    self.rain[[(top + y + 2 * step) % FIELD, (left + x + 3 * step) % FIELD]]
                })
                .fold(0.0f32, f32::max);
            if self.kind == Kind::Dense {
                return highest;
            }
            let rate_mm_per_h = 60.0 * (highest - dry).max(0.0).powf(1.5);
            ((rate_mm_per_h * 32.0).floor() / 32.0 / 100.0).min(1.0)
        });
        let level = 0.36 + 0.06 * rng.random::<f32>();
        let depth_m = Array2::from_shape_fn(DEPTH, |(y, x)| {
            let ground = self.terrain[[y, x]];
            match self.kind {
                Kind::Rounded => (8000.0 * (level - ground).max(0.0)).floor() / 1000.0,
                Kind::Exact => 8.0 * (level - ground).max(0.0),
                Kind::Dense => 8.0 * level * ground,
            }
        });
        Sample {
            rain,
            depth_m,
            rain_totals_mm: None,
            depth_now_m: None,
        }
    }
}

/// Periodic value noise in 0..1: five octaves of random lattices, the coarsest with `cells` cells between nodes.
fn value_noise(seed: u64, cells: usize) -> Array2<f32> {
    let mut field = Array2::zeros((FIELD, FIELD));
    for octave in 0..5 {
        let spacing = (cells >> octave) as f32;
        let nodes = (FIELD as f32 / spacing).round() as usize;
        let mut rng = rng::stream(seed, &format!("octave {octave}"));
        let lattice = Array2::from_shape_fn((nodes, nodes), |_| rng.random::<f32>());
        let place = |cell: usize| {
            let at = cell as f32 * nodes as f32 / FIELD as f32;
            let (node, part) = (at as usize, at.fract());
            (
                node % nodes,
                (node + 1) % nodes,
                part * part * (3.0 - 2.0 * part),
            )
        };
        for ((y, x), value) in field.indexed_iter_mut() {
            let (y0, y1, v) = place(y);
            let (x0, x1, u) = place(x);
            let mix = |a: f32, b: f32, t: f32| a + t * (b - a);
            let north = mix(lattice[[y0, x0]], lattice[[y0, x1]], u);
            let south = mix(lattice[[y1, x0]], lattice[[y1, x1]], u);
            *value += mix(north, south, v) * 0.5f32.powi(octave + 1) * 32.0 / 31.0;
        }
    }
    field
}
