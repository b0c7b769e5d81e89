//! `dataset rain`: what a source of radar frames holds; the frames cut, regridded and written in another format.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use pluvial_data::bng::{self, GridBox};
use pluvial_data::radar::nimrod::Field;
use pluvial_data::radar::time::format_time;
use pluvial_data::radar::{FrameFormat, FrameWriter, RadarFrame};
use pluvial_data::raster::open_raster;
use pluvial_data::{GeoGrid, Place, file};
use serde_json::json;

use crate::source::SourceFlags;

#[derive(Args)]
pub struct RainArgs {
    /// Nimrod files, folders and archives of them, folders of GeoTIFFs or ESRI ASCII grids, a stream of ESRI ASCII grids, a rain
    /// table of CAESAR-Lisflood, or JSON lines.
    source: PathBuf,
    #[command(flatten)]
    open: SourceFlags,
    /// Where to write the frames; without it the source is only read.
    #[arg(long)]
    out: Option<PathBuf>,
    /// What to write: a folder of files, or one stream of ESRI ASCII grids with its times beside it.
    #[arg(long, value_enum, requires = "out")]
    format: Option<Format>,
    /// Only the cells that a box touches, in the units of the source (metres on the British National Grid).
    #[arg(long, value_name = "WEST,SOUTH,EAST,NORTH", value_parser = four, allow_hyphen_values = true)]
    crop: Option<[f64; 4]>,
    /// As --crop, in degrees (WGS84), for sources on the British National Grid.
    #[arg(long, value_name = "WEST,SOUTH,EAST,NORTH", value_parser = four, allow_hyphen_values = true, conflicts_with = "crop")]
    crop_degrees: Option<[f64; 4]>,
    /// Onto the cells of this raster: means over area where they are coarser, linear interpolation where they are finer.
    #[arg(long, value_name = "RASTER", conflicts_with_all = ["crop", "crop_degrees"])]
    like: Option<PathBuf>,
    /// Edge length of the cells to write, in the units of the source; the cropped area must hold a whole number of them.
    #[arg(long, value_name = "SIZE", conflicts_with = "like")]
    cell_size: Option<f64>,
    /// Higher rates become this one, mm/h.
    #[arg(long, value_name = "MM_PER_H")]
    max_rate: Option<f32>,
    /// Prints all elements of the headers of a Nimrod file.
    #[arg(long, conflicts_with = "out")]
    header: bool,
    /// Prints the summary as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A folder of Nimrod files; rates are rounded to 1/32 mm/h.
    Nimrod,
    /// A folder of GeoTIFFs.
    Geotiff,
    /// A folder of ESRI ASCII grids.
    AsciiFiles,
    /// One stream of ESRI ASCII grids; the default for names that end in .asc or .asc.gz.
    Ascii,
}

fn four(text: &str) -> Result<[f64; 4], String> {
    let numbers: Result<Vec<f64>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    numbers
        .ok()
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| format!("'{text}' is not four numbers: WEST,SOUTH,EAST,NORTH"))
}

pub fn run(args: RainArgs) -> Result<()> {
    if args.header {
        return print_headers(&args.source);
    }
    let mut writer = match &args.out {
        Some(out) => Some(FrameWriter::create(out, format(out, args.format)?)?),
        None => None,
    };
    let grid = match &args.like {
        Some(path) => {
            let raster = open_raster(path)?;
            ensure!(raster.is_placed(), "'{}' has no position", path.display());
            Some(raster.place())
        }
        None => None,
    };
    let crop = match (args.crop, args.crop_degrees) {
        (Some(bounds), _) => Some(bounds),
        (None, Some([west, south, east, north])) => Some(
            GridBox::Degrees {
                latitude: [south, north],
                longitude: [west, east],
            }
            .bounds()?,
        ),
        (None, None) => None,
    };
    let mut source = args.open.open(&args.source)?;
    let mut summary = Summary::default();
    let mut progress = Progress::new();
    while let Some(mut frame) = source.next_frame()? {
        if args.crop_degrees.is_some()
            && frame
                .rain_mm_per_h
                .crs
                .as_deref()
                .is_some_and(|crs| crs != bng::CRS)
        {
            bail!(
                "'{}': --crop-degrees is for sources on the British National Grid; this one: {}",
                args.source.display(),
                frame.rain_mm_per_h.place()
            );
        }
        let named = |e| anyhow!("'{}': {e}", args.source.display());
        frame.rain_mm_per_h =
            regrid(frame.rain_mm_per_h, grid.as_ref(), crop, args.cell_size).map_err(named)?;
        if let Some(highest) = args.max_rate {
            frame.rain_mm_per_h.data.mapv_inplace(|rate| {
                summary.clipped += u64::from(rate > highest);
                // A missing cell stays missing.
                if rate > highest { highest } else { rate }
            });
        }
        summary.add(&frame);
        if let Some(writer) = &mut writer {
            writer.write(&frame)?;
        }
        progress.frame(&summary);
    }
    drop(progress);
    ensure!(
        summary.frames > 0,
        "'{}' holds no frame in the time that is wanted",
        args.source.display()
    );
    if let Some(writer) = writer {
        writer.finish()?;
    }
    summary.print(source.skipped_files(), args.json);
    Ok(())
}

fn format(out: &Path, asked: Option<Format>) -> Result<FrameFormat> {
    let name = out.to_string_lossy().to_ascii_lowercase();
    let stream = name.ends_with(".asc") || name.ends_with(".asc.gz");
    Ok(match asked {
        Some(Format::Nimrod) => FrameFormat::Nimrod,
        Some(Format::Geotiff) => FrameFormat::GeoTiff,
        Some(Format::AsciiFiles) => FrameFormat::AsciiFiles,
        Some(Format::Ascii) => FrameFormat::AsciiStream,
        None if stream => FrameFormat::AsciiStream,
        None => bail!(
            "'{}': --format says what to write (nimrod, geotiff, ascii-files or ascii)",
            out.display()
        ),
    })
}

fn regrid(
    rain: GeoGrid,
    grid: Option<&Place>,
    crop: Option<[f64; 4]>,
    cell_size: Option<f64>,
) -> Result<GeoGrid> {
    if let Some(place) = grid {
        return Ok(rain.resample_to(place)?);
    }
    let rain = match crop {
        Some(bounds) => rain.crop_to(bounds)?,
        None => rain,
    };
    let Some(size) = cell_size else {
        return Ok(rain);
    };
    let cells = |length: f64| {
        let cells = length / size;
        (cells >= 1.0 && (cells - cells.round()).abs() < 1e-6)
            .then_some(cells.round() as usize)
            .with_context(|| format!("cells of {size} do not fill {}", rain.place()))
    };
    let height = cells(rain.north - rain.south())?;
    let width = cells(rain.east() - rain.west)?;
    Ok(rain.resample(height, width)?)
}

/// What has been read.
#[derive(Default)]
struct Summary {
    frames: u64,
    first_s: Option<i64>,
    last_s: Option<i64>,
    /// Seconds between frames → how often.
    intervals: BTreeMap<i64, u64>,
    /// Where the frames lie → how many do.
    places: Vec<(Place, u64)>,
    cells: u64,
    missing: u64,
    sum: f64,
    highest: f32,
    highest_s: Option<i64>,
    clipped: u64,
}

impl Summary {
    fn add(&mut self, frame: &RadarFrame) {
        self.frames += 1;
        if let (Some(last_s), Some(end_s)) = (self.last_s, frame.end_s) {
            *self.intervals.entry(end_s - last_s).or_default() += 1;
        }
        self.first_s = self.first_s.or(frame.end_s);
        self.last_s = frame.end_s;
        let grid = &frame.rain_mm_per_h;
        let place = grid.place();
        match self
            .places
            .iter_mut()
            .find(|(known, _)| known.is_same(&place))
        {
            Some((_, count)) => *count += 1,
            None => self.places.push((place, 1)),
        }
        self.cells += grid.data.len() as u64;
        for &rate in &grid.data {
            if rate.is_nan() {
                self.missing += 1;
            } else {
                self.sum += f64::from(rate);
                if rate > self.highest {
                    self.highest = rate;
                    self.highest_s = frame.end_s;
                }
            }
        }
    }

    fn print(&self, skipped_files: u64, as_json: bool) {
        let time = |time: Option<i64>| time.map(format_time);
        let measured = self.cells - self.missing;
        let mean = self.sum / measured as f64;
        let missing = self.missing as f64 / self.cells as f64;
        if as_json {
            let places: Vec<_> = self
                .places
                .iter()
                .map(|(place, frames)| json!({ "place": place, "frames": frames }))
                .collect();
            let summary = json!({
                "frames": self.frames,
                "first": time(self.first_s),
                "last": time(self.last_s),
                "intervals_s": self.intervals,
                "grids": places,
                "missing_share": missing,
                "mean_mm_per_h": (measured > 0).then_some(mean),
                "highest_mm_per_h": self.highest,
                "highest_at": time(self.highest_s),
                "clipped_cells": self.clipped,
                "skipped_files": skipped_files,
            });
            println!("{summary}");
            return;
        }
        match (time(self.first_s), time(self.last_s)) {
            (Some(first), Some(last)) => println!("{} frames, {first} to {last}", self.frames),
            _ => println!("{} frames without times", self.frames),
        }
        let mut intervals: Vec<_> = self.intervals.iter().collect();
        intervals.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        for (i, (seconds, count)) in intervals.into_iter().enumerate() {
            let minutes = *seconds as f64 / 60.0;
            match i {
                0 => println!("every {minutes} minutes"),
                1..=5 => println!("  but {count} times {minutes} minutes"),
                6 => println!("  and other gaps"),
                _ => {}
            }
        }
        for (place, frames) in &self.places {
            println!("{frames} on {place}");
        }
        println!(
            "mean {mean:.4} mm/h, highest {} mm/h{}, {:.2} % of the cells missing",
            self.highest,
            time(self.highest_s).map_or(String::new(), |at| format!(" ({at})")),
            100.0 * missing
        );
        for (count, what) in [
            (self.clipped, "cells clipped"),
            (skipped_files, "damaged files passed over"),
        ] {
            if count > 0 {
                println!("{count} {what}");
            }
        }
    }
}

fn print_headers(path: &Path) -> Result<()> {
    let mut reader = file::open(path)?;
    let mut count = 0;
    while let Some(field) =
        Field::read(&mut reader).map_err(|e| anyhow!("'{}': {e}", path.display()))?
    {
        count += 1;
        println!("field {count}");
        for (element, name, value) in field.header.elements() {
            println!("{element:5}  {name}: {value}");
        }
    }
    Ok(())
}

/// A count of frames on a terminal, a line every ten seconds elsewhere.
struct Progress {
    bar: ProgressBar,
    said: Instant,
}

impl Progress {
    fn new() -> Self {
        Self {
            bar: if stderr().is_terminal() {
                ProgressBar::new_spinner()
            } else {
                ProgressBar::hidden()
            },
            said: Instant::now(),
        }
    }

    fn frame(&mut self, summary: &Summary) {
        let shown = if self.bar.is_hidden() {
            Duration::from_secs(10)
        } else {
            Duration::from_millis(100)
        };
        if self.said.elapsed() < shown {
            return;
        }
        self.said = Instant::now();
        let time = summary.last_s.map_or(String::new(), format_time);
        let message = format!("{} frames {time}", summary.frames);
        if self.bar.is_hidden() {
            eprintln!("{message}");
        } else {
            self.bar.set_message(message);
            self.bar.tick();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
