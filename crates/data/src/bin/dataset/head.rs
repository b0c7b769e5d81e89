//! `dataset head`: a picture of a sample.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use image::{Rgb, RgbImage, imageops};
use ndarray::{Array2, ArrayView2, Axis, Zip};
use pluvial_data::raster::png::{
    self, ColourMap, DEPTH, RAIN_RATE, RAIN_TOTAL, verification_colours,
};
use pluvial_data::transform::label::label;
use pluvial_data::transform::{NO_DATA, TransformConfig, Window};
use pluvial_data::{Dataset, Sample, ShardReader};
use serde::Serialize;

use crate::flags::{SplitFlag, TransformFlags, open, print_json};

/// Pixels between the panels, and panels beside each other.
const GAP: u32 = 8;
const COLUMNS: usize = 4;
/// Panels are enlarged to about so many pixels.
const PANEL: u32 = 256;

#[derive(Args)]
pub struct HeadArgs {
    /// The dataset's folder.
    dir: PathBuf,
    /// Number of the sample, from 0, in the order of the files.
    #[arg(default_value_t = 0)]
    sample: u64,
    /// The picture.
    #[arg(long, default_value = "sample.png")]
    out: PathBuf,
    #[command(flatten)]
    split: SplitFlag,
    #[command(flatten)]
    transform: TransformFlags,
    /// Heightmap of a dataset that has none of its own.
    #[arg(long, value_name = "FILE")]
    heightmap: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    file: PathBuf,
    record: u64,
    catchment: String,
    event: Option<String>,
    split: Option<String>,
    time_s: Option<f64>,
    /// Names of the panels, row by row.
    panels: Vec<String>,
    panels_a_row: usize,
}

pub fn run(args: HeadArgs) -> Result<()> {
    let dataset = open(&args.dir, args.heightmap.as_deref())?;
    let transform = args.transform.config(&dataset, Vec::new())?;
    let (shard, record, sample) = find(&dataset, &args.split.shards(&dataset)?, args.sample)
        .with_context(|| format!("sample {}", args.sample))?;
    let panels = panels(&dataset, shard, &sample, &transform)?;
    let (names, pictures): (Vec<String>, Vec<RgbImage>) = panels.into_iter().unzip();
    png::write(&args.out, &mosaic(&pictures))?;

    let info = &dataset.shards[shard];
    let times = dataset
        .manifest
        .as_ref()
        .map(|manifest| &manifest.shards[shard].times_s);
    let report = Report {
        file: info.path.clone(),
        record,
        catchment: dataset.terrains[info.catchment].name.clone(),
        event: info.event.clone(),
        split: info.split.clone(),
        time_s: times.and_then(|times| times.get(record as usize)).copied(),
        panels: names,
        panels_a_row: COLUMNS,
    };
    if args.json {
        return print_json(&report);
    }
    println!(
        "sample {} is record {record} of '{}', over {}",
        args.sample,
        report.file.display(),
        report.catchment
    );
    for row in report.panels.chunks(COLUMNS) {
        println!("  {}", row.join(" | "));
    }
    println!("'{}' written", args.out.display());
    Ok(())
}

/// Shard, record and content of sample number `wanted`.
fn find(dataset: &Dataset, shards: &[usize], wanted: u64) -> Result<(usize, u64, Sample)> {
    let mut left = wanted;
    for &shard in shards {
        let info = &dataset.shards[shard];
        if let Some(samples) = info
            .samples
            .map(|samples| samples as u64)
            .filter(|&samples| samples <= left)
        {
            left -= samples;
            continue;
        }
        let mut count = 0;
        for sample in ShardReader::open(&info.path, &dataset.metadata)? {
            if count == left {
                return Ok((shard, count, sample?));
            }
            sample?;
            count += 1;
        }
        left -= count;
    }
    bail!(
        "'{}' has only {} samples there",
        dataset.folder.display(),
        wanted - left
    )
}

fn panels(
    dataset: &Dataset,
    shard: usize,
    sample: &Sample,
    transform: &TransformConfig,
) -> Result<Vec<(String, RgbImage)>> {
    let scale = dataset.scale()?;
    let window = Window::centred(dataset.metadata.waterdepth, transform.output_size)?;
    let factor = (PANEL / window.height.max(window.width) as u32).max(1);
    let on_depth_grid = |plane: ArrayView2<f32>, unit: f32| {
        Array2::from_shape_fn((window.height, window.width), |(y, x)| {
            plane[[(window.top + y) / scale, (window.left + x) / scale]] * unit
        })
    };
    let field = |values: &Array2<f32>, map: &ColourMap| {
        png::enlarge(&png::field(values.view(), map), factor)
    };
    let manifest = dataset.manifest.as_ref();

    let mut panels = Vec::new();
    let minutes = manifest.and_then(|m| Some((m.pattern.as_ref()?, m.frame_s? / 60.0)));
    let channels = sample.rain.len_of(Axis(0));
    for (channel, plane) in sample.rain.outer_iter().enumerate() {
        // Channels are oldest first, the pattern newest first.
        let name = match minutes {
            Some((pattern, frame_min)) => {
                let newest_first = channels - 1 - channel;
                let until: usize = pattern[..newest_first].iter().sum();
                let from = until + pattern[newest_first];
                format!(
                    "rain {:.0} to {:.0} min ago",
                    from as f64 * frame_min,
                    until as f64 * frame_min
                )
            }
            None => format!("rain channel {channel}"),
        };
        panels.push((name, field(&on_depth_grid(plane, 100.0), &RAIN_RATE)));
    }
    if let Some(totals) = &sample.rain_totals_mm {
        let hours = manifest
            .map(|m| m.total_hours.as_slice())
            .unwrap_or_default();
        for (plane, hours) in totals.outer_iter().zip(hours) {
            panels.push((
                format!("rain of {hours} h"),
                field(&on_depth_grid(plane, 1.0), &RAIN_TOTAL),
            ));
        }
    }
    let terrain = &dataset.terrains[dataset.shards[shard].catchment];
    let elevation = terrain
        .elevation_m
        .as_ref()
        .map(|elevation_m| window.of(&elevation_m.view()).to_owned());
    let background = match &elevation {
        Some(elevation) => {
            let shaded = png::terrain(elevation.view(), terrain.cell_size_m.unwrap_or(1000.0));
            panels.push(("terrain".into(), png::enlarge(&shaded, factor)));
            shaded
        }
        None => RgbImage::from_pixel(window.width as u32, window.height as u32, Rgb([255; 3])),
    };
    let depth = sample.depth_m.view();
    let depth = window.of(&depth);
    panels.push((
        "depth".into(),
        png::enlarge(&png::overlay(&background, depth, &DEPTH), factor),
    ));
    let valid = elevation
        .as_ref()
        .map(|elevation| elevation.mapv(|z| !z.is_nan()));
    let label = label(
        depth,
        transform.threshold_m,
        transform.remove_isolated,
        valid.as_ref().map(|valid| valid.view()),
    );
    let mut picture = background;
    Zip::indexed(&label).for_each(|(y, x), &label| {
        let colour = match label {
            1 => verification_colours::HIT,
            NO_DATA => [200; 3],
            _ => return,
        };
        picture.put_pixel(x as u32, y as u32, Rgb(colour));
    });
    panels.push((
        format!("wet at {} m", transform.threshold_m),
        png::enlarge(&picture, factor),
    ));
    Ok(panels)
}

/// Panels of one size, row by row on white.
fn mosaic(panels: &[RgbImage]) -> RgbImage {
    let (width, height) = panels.first().map_or((1, 1), |panel| panel.dimensions());
    let columns = panels.len().min(COLUMNS) as u32;
    let rows = panels.len().div_ceil(COLUMNS) as u32;
    let size = |count: u32, each: u32| count * (each + GAP) + GAP;
    let mut all = RgbImage::from_pixel(size(columns, width), size(rows, height), Rgb([255; 3]));
    for (i, panel) in panels.iter().enumerate() {
        let (row, column) = ((i / COLUMNS) as u32, (i % COLUMNS) as u32);
        imageops::replace(
            &mut all,
            panel,
            size(column, width).into(),
            size(row, height).into(),
        );
    }
    all
}
