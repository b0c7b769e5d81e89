//! Memory of `dataset convert` over 14 years of radar: 1.5 million frames and depths of five minutes, made on the fly.
//!
//!     cargo bench -p pluvial-benches --no-default-features --bench convert
//!     cargo bench -p pluvial-benches --no-default-features --bench convert -- --frames 20000 --rain 174x105
//!
//! Every tenth frame carries a moving band of rain; the depth follows the rain of the newest frame. Each million frames a line
//! tells the most memory held so far: what grows with the length of the series is the time and the content hash of each sample.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ndarray::Array2;
use pluvial_benches::peak_memory_bytes;
use pluvial_data::GeoGrid;
use pluvial_data::convert::{OutputConfig, SeriesConfig, convert_series};
use pluvial_data::depth::{DepthFrame, DepthSource, DepthTime};
use pluvial_data::radar::{RadarFrame, RadarSource};

/// 2006-01-01 00:00 UTC.
const START_S: i64 = 1_136_073_600;
const FRAME_S: i64 = 300;
/// Depth cells per rain cell along each axis.
const RATIO: usize = 2;
const RAIN_CELL_M: f64 = 1000.0;

#[derive(Parser)]
struct Arguments {
    /// Radar frames: 14 years by default.
    #[arg(long, default_value_t = 1_500_000)]
    frames: u64,
    /// Rows and columns of the rain grid; depth has twice as many. 174x105 is the published size.
    #[arg(long, default_value = "8x6", value_parser = size)]
    rain: [usize; 2],
    /// Gzip level.
    #[arg(long, default_value_t = 1)]
    gzip_level: u32,
    /// Also drop duplicates.
    #[arg(long)]
    uniq: bool,
    /// Where the dataset is written (and left); a temporary folder by default.
    #[arg(long)]
    out: Option<PathBuf>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn size(text: &str) -> Result<[usize; 2], String> {
    let parts = text
        .split_once('x')
        .and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
    parts.ok_or_else(|| "must be ROWSxCOLUMNS".into())
}

/// Rain rate of a cell in mm/h: a band that moves east.
fn rate(frame: u64, row: usize, column: usize, width: usize) -> f32 {
    let front = (frame as usize / 10) % (2 * width);
    let distance = front.abs_diff(column);
    if frame.is_multiple_of(10) && distance < 3 {
        (3 - distance) as f32 * (1.0 + (row % 5) as f32) + (frame % 97) as f32 / 32.0
    } else {
        0.0
    }
}

struct Rain {
    size: [usize; 2],
    frames: u64,
    next: u64,
}

impl RadarSource for Rain {
    fn next_frame(&mut self) -> pluvial_data::Result<Option<RadarFrame>> {
        if self.next == self.frames {
            return Ok(None);
        }
        let [height, width] = self.size;
        let data = Array2::from_shape_fn((height, width), |(row, column)| {
            rate(self.next, row, column, width)
        });
        self.next += 1;
        Ok(Some(RadarFrame {
            end_s: Some(START_S + FRAME_S * self.next as i64),
            duration_s: Some(FRAME_S as f64),
            rain_mm_per_h: GeoGrid::new(data, 0.0, RAIN_CELL_M * height as f64, RAIN_CELL_M),
        }))
    }

    fn path(&self) -> &Path {
        Path::new("generated rain")
    }
}

struct Depth {
    size: [usize; 2],
    next: u64,
}

impl DepthSource for Depth {
    fn next_depth(&mut self) -> pluvial_data::Result<Option<DepthFrame>> {
        let [height, width] = self.size.map(|cells| cells * RATIO);
        let data = Array2::from_shape_fn((height, width), |(row, column)| {
            0.01 * rate(self.next, row / RATIO, column / RATIO, width / RATIO)
                + if row == column { 0.2 } else { 0.0 }
        });
        let time = DepthTime::Index(self.next);
        self.next += 1;
        let depth_m = GeoGrid::new(
            data,
            0.0,
            RAIN_CELL_M * self.size[0] as f64,
            RAIN_CELL_M / RATIO as f64,
        );
        Ok(Some(DepthFrame { time, depth_m }))
    }

    fn path(&self) -> &Path {
        Path::new("generated depth")
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
    let out = arguments
        .out
        .unwrap_or_else(|| temporary.path().join("converted"));
    let rain = Rain {
        size: arguments.rain,
        frames: arguments.frames,
        next: 0,
    };
    let depth = Depth {
        size: arguments.rain,
        next: 0,
    };
    let output = OutputConfig {
        gzip_level: arguments.gzip_level,
        unique: arguments.uniq,
        ..OutputConfig::default()
    };
    let (start, samples) = (Instant::now(), Cell::new(0u64));
    let mib = || peak_memory_bytes().map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20));
    let line = |samples: u64| {
        println!(
            "{samples:>9} samples, {:7.1} s, peak memory {:6.1} MiB",
            start.elapsed().as_secs_f64(),
            mib()
        );
    };
    let tick = || {
        samples.set(samples.get() + 1);
        if samples.get().is_multiple_of(250_000) {
            line(samples.get());
        }
    };
    let config = SeriesConfig::default();
    let report = convert_series(
        Box::new(rain),
        Box::new(depth),
        None,
        &config,
        &output,
        &out,
        &tick,
    )?;
    line(report.samples);
    ensure!(
        report.samples + report.duplicates + 95 == arguments.frames,
        "{} samples of {} frames",
        report.samples,
        arguments.frames
    );
    println!("{} files, {} event(s)", report.files, report.events);
    Ok(())
}
