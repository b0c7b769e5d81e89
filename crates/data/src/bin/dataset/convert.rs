//! `dataset convert`: radar, depth and heightmap, another dataset, or JSON lines → a dataset.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use pluvial_data::convert::{
    ConvertReport, JsonSamples, OutputConfig, SeriesConfig, convert_dataset, convert_json_lines,
    convert_series,
};
use pluvial_data::radar::MissingCells;
use pluvial_data::recipe::SampleRecipe;
use pluvial_data::{Metadata, depth};

use crate::flags::{open, print_json};
use crate::progress::Progress;
use crate::source::SourceFlags;

#[derive(Args)]
pub struct ConvertArgs {
    /// New folder for the dataset.
    #[arg(long)]
    out: PathBuf,
    /// Radar of any known format: a file, an archive or a folder. Goes with --depth.
    #[arg(
        long,
        value_name = "PATH",
        requires = "depth",
        required_unless_present = "from"
    )]
    rain: Option<PathBuf>,
    /// Simulated depth: a stream of ESRI ASCII grids, or a folder of one .asc or .tif a time step.
    #[arg(long, value_name = "PATH", requires = "rain")]
    depth: Option<PathBuf>,
    /// Instead of rain and depth: a dataset to cut anew, or samples as JSON lines (.jsonl, .jsonl.gz or a folder of them).
    #[arg(long, value_name = "PATH", conflicts_with_all = ["rain", "depth"])]
    from: Option<PathBuf>,
    /// Terrain: ESRI ASCII, GeoTIFF or heightmap JSON.
    #[arg(long, value_name = "FILE")]
    heightmap: Option<PathBuf>,
    /// Samples a file at most.
    #[arg(long, value_name = "N", default_value_t = OutputConfig::default().samples_per_file)]
    samples_per_file: usize,
    /// Gzip level, 0 to 9.
    #[arg(long, value_name = "N", default_value_t = OutputConfig::default().gzip_level, value_parser = clap::value_parser!(u32).range(0..=9))]
    gzip_level: u32,
    /// Leave out samples that were there before.
    #[arg(long)]
    uniq: bool,
    /// Name of the catchment.
    #[arg(long, default_value_t = SeriesConfig::default().catchment)]
    catchment: String,
    /// Factor on the rain: on the radar's rate, or on JSON samples to make shares of 100 mm/h of them.
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    rain_factor: f64,
    #[command(flatten)]
    series: SeriesFlags,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How samples are made of two series.
#[derive(Args)]
#[command(next_help_heading = "Rain and depth series")]
struct SeriesFlags {
    #[command(flatten)]
    source: SourceFlags,
    /// Seconds between radar frames; as --frame-s by default.
    #[arg(long, value_name = "S", conflicts_with = "from")]
    interval_s: Option<f64>,
    /// Lengths in frames of the groups that rain is max-pooled over, counted backwards from now.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = SampleRecipe::default().pattern, conflicts_with = "from")]
    pattern: Vec<usize>,
    /// Frames between now and the label, at least 1.
    #[arg(long, value_name = "N", default_value_t = SampleRecipe::default().water_offset, conflicts_with = "from")]
    water_offset: usize,
    /// A sample is taken every so many frames.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "from")]
    every_frames: usize,
    /// Windows in hours of rain totals, which are no part of the published layout.
    #[arg(
        long,
        value_name = "H,…",
        value_delimiter = ',',
        conflicts_with = "from"
    )]
    total_hours: Vec<f64>,
    /// What to do about missing radar cells: stop, dry, or gap (the frame counts as missing).
    #[arg(long, value_name = "stop|dry|gap", default_value = "stop", value_parser = missing, conflicts_with = "from")]
    missing: MissingCells,
    /// Minutes without frames that are filled by interpolation; a longer gap ends the event.
    #[arg(long, value_name = "MIN", default_value_t = SeriesConfig::default().max_gap_min, conflicts_with = "from")]
    max_gap_min: f64,
    /// Depth cells per rain cell along each axis; by default what the cell sizes say.
    #[arg(long, value_name = "N", conflicts_with = "from")]
    rain_ratio: Option<usize>,
    /// At the end of which rain frame the first grid of a depth stream stood: 1 the first, 0 its start.
    #[arg(long, value_name = "N", default_value_t = SeriesConfig::default().first_depth_frame, conflicts_with = "from")]
    first_depth_frame: u64,
    /// Rain frames between two grids of a depth stream.
    #[arg(long, value_name = "N", default_value_t = SeriesConfig::default().depth_every_frames, conflicts_with = "from")]
    depth_every_frames: u64,
}

fn missing(text: &str) -> Result<MissingCells, String> {
    match text {
        "stop" => Ok(MissingCells::Stop),
        "dry" => Ok(MissingCells::Dry),
        "gap" => Ok(MissingCells::Gap),
        _ => Err("must be stop, dry or gap".into()),
    }
}

pub fn run(args: ConvertArgs) -> Result<()> {
    ensure!(
        args.samples_per_file > 0,
        "--samples-per-file must be at least 1"
    );
    let output = OutputConfig {
        samples_per_file: args.samples_per_file,
        gzip_level: args.gzip_level,
        unique: args.uniq,
    };
    let progress = Progress::endless("samples");
    let tick = || progress.add(1);
    let heightmap = args.heightmap.as_deref();
    let report = match (args.rain, args.depth, args.from) {
        (_, _, Some(from)) if from.join(Metadata::FILE).exists() => {
            let dataset = open(&from, heightmap)?;
            ensure!(
                args.rain_factor == 1.0,
                "--rain-factor does not go with a dataset"
            );
            convert_dataset(&dataset, &output, &args.out, &tick)?
        }
        (_, _, Some(from)) => {
            let samples = JsonSamples::open(&from, args.rain_factor as f32)?;
            convert_json_lines(
                samples,
                heightmap,
                &args.catchment,
                &output,
                &args.out,
                &tick,
            )?
        }
        (Some(rain), Some(depth), None) => {
            let series = args.series;
            let config = SeriesConfig {
                catchment: args.catchment,
                frame_s: series.interval_s.unwrap_or(series.source.frame_s()),
                rain_factor: args.rain_factor,
                rain_ratio: series.rain_ratio,
                missing: series.missing,
                max_gap_min: series.max_gap_min,
                sample: SampleRecipe {
                    pattern: series.pattern,
                    water_offset: series.water_offset,
                    every_frames: series.every_frames,
                    total_hours: series.total_hours,
                },
                first_depth_frame: series.first_depth_frame,
                depth_every_frames: series.depth_every_frames,
            };
            let rain = series.source.open(&rain)?;
            convert_series(
                rain,
                depth::open(&depth)?,
                heightmap,
                &config,
                &output,
                &args.out,
                &tick,
            )?
        }
        // clap asks for one or the other.
        _ => unreachable!("either --from or --rain and --depth"),
    };
    drop(progress);
    if args.json {
        return print_json(&report);
    }
    print(&report);
    println!(
        "'{}' written: {} samples in {} files",
        args.out.display(),
        report.samples,
        report.files
    );
    Ok(())
}

fn print(report: &ConvertReport) {
    let say = |count: u64, what: &str| {
        if count > 0 {
            println!("{count} {what}");
        }
    };
    if let Some(radar) = &report.radar {
        println!(
            "{} radar frames in {} events with samples",
            radar.frames, report.events
        );
        say(radar.filled_frames, "frames were missing and interpolated");
        say(
            radar.missing_frames,
            "frames were left out for their missing cells",
        );
        say(radar.missing_cells, "missing cells were taken as dry");
        say(
            radar.clipped_cells,
            "cells had a rate too high to be true and were clipped",
        );
    }
    say(
        report.without_depth,
        "samples were left out: no depth stood at the time of their label",
    );
    say(report.duplicates, "samples were there before and left out");
}
