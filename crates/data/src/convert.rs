//! What the field's own files hold → records: a radar series with a depth series and a heightmap, a dataset that is to be cut
//! anew, or samples as JSON lines.
//!
//! Everything streams: memory holds the rain of the longest window, one depth grid and one sample, and 8 bytes of every sample
//! (its time, and as much again to know duplicates), however long the series.

mod json_lines;
mod sharder;

use std::path::Path;

use ndarray::{Array2, Zip};
use serde::Serialize;

use crate::build::UNFINISHED;
use crate::dataset::Dataset;
use crate::depth::{DepthFrame, DepthSource, DepthTime};
use crate::error::{DataError, Result};
use crate::grid::{GeoGrid, Place};
use crate::manifest::{Catchment, Manifest, ShardInfo};
use crate::pool::RainWindow;
use crate::radar::events::Counts;
use crate::radar::{
    EventConfig, Events, LongGap, MissingCells, RadarFrame, RadarSource, RainSource, Region,
};
use crate::raster::{heightmap_json, open_raster};
use crate::recipe::SampleRecipe;
use crate::record::{Metadata, ShardReader};
use crate::sample::Sample;
pub use json_lines::JsonSamples;
use sharder::Sharder;

/// How shards are written.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputConfig {
    /// Samples a shard at most. Default 4096, as published.
    pub samples_per_file: usize,
    /// Gzip level, 0 (store) to 9. Default 6.
    pub gzip_level: u32,
    /// Whether a sample that was there before is left out. Default false.
    pub unique: bool,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self {
            samples_per_file: 4096,
            gzip_level: 6,
            unique: false,
        }
    }
}

/// How samples are made of a radar and a depth series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesConfig {
    /// Name of the catchment. Default `catchment`.
    pub catchment: String,
    /// Seconds between radar frames. Default 300.
    pub frame_s: f64,
    /// Factor on the rain rate. Default 1.
    pub rain_factor: f64,
    /// Depth cells per rain cell along each axis. Default: what the cell sizes say.
    pub rain_ratio: Option<usize>,
    /// What to do about missing cells. Default: stop.
    pub missing: MissingCells,
    /// Minutes without frames that are filled by interpolation; a longer gap ends the event. Default 15.
    pub max_gap_min: f64,
    /// Windows, label and distance of the samples. Default: those of the published data, a sample every frame.
    pub sample: SampleRecipe,
    /// At the end of which rain frame the first grid of a depth series without times stood: 1 the first, 0 its start. Default 1.
    pub first_depth_frame: u64,
    /// Rain frames between two grids of a depth series without times. Default 1.
    pub depth_every_frames: u64,
}

impl Default for SeriesConfig {
    fn default() -> Self {
        Self {
            catchment: "catchment".into(),
            frame_s: 300.0,
            rain_factor: 1.0,
            rain_ratio: None,
            missing: MissingCells::Stop,
            max_gap_min: 15.0,
            sample: SampleRecipe {
                every_frames: 1,
                total_hours: Vec::new(),
                ..SampleRecipe::default()
            },
            first_depth_frame: 1,
            depth_every_frames: 1,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConvertReport {
    /// Samples written.
    pub samples: u64,
    /// Shards written.
    pub files: usize,
    /// Events that the samples belong to, where they are known.
    pub events: usize,
    /// Samples left out because they were there before.
    pub duplicates: u64,
    /// Samples left out because no depth stood at the time of their label.
    pub without_depth: u64,
    /// What was done to the radar frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub radar: Option<Counts>,
}

/// Told of every sample that is written.
pub type Progress<'a> = dyn Fn() + 'a;

/// Makes a dataset in `folder` of a radar series, the depths that a simulator made of it, and a heightmap.
///
/// Samples are taken of events without a gap, from where the longest window fits into the event. Depths of series without
/// times count from the first radar frame. Rain is cut and resampled to the depth grid's place, where both have one.
///
/// # Errors
/// What reading and writing meet; series that do not fit in place, size or time, with both extents; a folder that holds
/// anything.
pub fn convert_series(
    rain: Box<dyn RadarSource>,
    depth: Box<dyn DepthSource>,
    heightmap: Option<&Path>,
    config: &SeriesConfig,
    output: &OutputConfig,
    folder: &Path,
    progress: &Progress,
) -> Result<ConvertReport> {
    check(config)?;
    let mut depths = Depths::new(depth, config)?;
    let place = depths.place.clone();
    let rain_path = rain.path().to_owned();
    let (rain, first) = Peeked::new(rain)?;
    let region = rain_region(&first, &depths, config)
        .map_err(|reason| DataError::format(&rain_path, reason))?;
    let mut events = Events::new(
        Box::new(rain),
        EventConfig {
            frame_s: config.frame_s,
            factor: config.rain_factor,
            region,
            missing: config.missing,
            max_gap_min: config.max_gap_min,
            long_gap: LongGap::End,
            ..EventConfig::default()
        },
    )?;
    let (height, width) = events.shape();
    let totals = config.sample.total_hours.len();
    let metadata = Metadata {
        rainfalltotals: (totals > 0).then_some([totals, height, width]),
        ..Metadata::new(
            [config.sample.pattern.len(), height, width],
            [place.height, place.width],
        )
    };

    let heightmap = heightmap
        .map(|path| read_heightmap(path, &depths, &metadata))
        .transpose()?;
    prepare(folder)?;
    metadata.write(folder)?;
    let file = heightmap
        .is_some()
        .then(|| format!("heightmaps/{}.json.gz", config.catchment));
    if let (Some(heightmap), Some(file)) = (&heightmap, &file) {
        write_heightmap(folder, file, heightmap)?;
    }
    let manifest = Manifest {
        format: Manifest::FORMAT,
        pluvial_version: env!("CARGO_PKG_VERSION").into(),
        cell_size_m: depths.cell_size_m,
        frame_s: Some(config.frame_s),
        pattern: Some(config.sample.pattern.clone()),
        water_offset: Some(config.sample.water_offset),
        total_hours: config.sample.total_hours.clone(),
        catchments: vec![Catchment {
            name: config.catchment.clone(),
            heightmap: file,
            place: depths.is_placed.then(|| place.clone()),
        }],
        ..Manifest::default()
    };
    let mut sharder = Sharder::new(folder, metadata, manifest, output);
    let extent = events
        .place()
        .filter(|_| depths.is_placed)
        .map(Place::extent);

    let mut report = ConvertReport::default();
    let series_start_s = events.start_s().unwrap_or(0.0);
    let has_clock = events.start_s().is_some();
    let mut window = RainWindow::new(&config.sample, [height, width], config.frame_s);
    loop {
        let start_s = events.start_s().unwrap_or(0.0);
        let mut info = ShardInfo {
            event: Some(format!("{}/event_{:04}", config.catchment, report.events)),
            catchment: config.catchment.clone(),
            start_s: has_clock.then_some(start_s as i64),
            rain_extent: extent,
            ..ShardInfo::default()
        };
        window.clear();
        let (mut frames, mut sampled) = (0usize, false);
        while let Some(frame) = events.next_frame()? {
            window.push(frame.rain_mm_per_h);
            frames += 1;
            if !window.is_full() || !frames.is_multiple_of(config.sample.every_frames) {
                continue;
            }
            let due_s = start_s - series_start_s
                + frame.end_s
                + config.sample.water_offset as f64 * config.frame_s;
            let depth_m = match depths.at(due_s, has_clock.then_some(series_start_s))? {
                At::Depth(depth_m) => depth_m,
                At::Missing => {
                    report.without_depth += 1;
                    continue;
                }
                At::End => break,
            };
            let sample = Sample {
                rain: window.pooled(),
                depth_m,
                rain_totals_mm: window.totals_mm(),
                depth_now_m: None,
            };
            if !sampled {
                sampled = true;
                report.events += 1;
                sharder.begin(std::mem::take(&mut info));
            }
            if sharder.push(&sample, frame.end_s)? {
                progress();
            }
        }
        if depths.ended || !events.next_event()? {
            break;
        }
    }
    report.radar = Some(events.counts());
    if sharder.samples() == 0 {
        let need = config.sample.pattern.iter().sum::<usize>();
        let reason = format!(
            "no sample: none of the events of {} radar frames has {need} frames and a depth {} frame(s) later",
            events.counts().frames,
            config.sample.water_offset
        );
        return Err(DataError::format(&rain_path, reason));
    }
    finish(folder, sharder, report)
}

/// Writes the samples of `dataset` anew, cut into shards of another size. Events, splits and times stay; a shard holds samples
/// of one event and one split at most.
///
/// # Errors
/// What reading and writing meet; a folder that holds anything.
pub fn convert_dataset(
    dataset: &Dataset,
    output: &OutputConfig,
    folder: &Path,
    progress: &Progress,
) -> Result<ConvertReport> {
    prepare(folder)?;
    dataset.metadata.write(folder)?;
    let mut manifest = match &dataset.manifest {
        Some(manifest) => manifest.clone(),
        None => Manifest {
            pluvial_version: env!("CARGO_PKG_VERSION").into(),
            ..Manifest::default()
        },
    };
    manifest.format = Manifest::FORMAT;
    let infos = std::mem::take(&mut manifest.shards);
    manifest.sha256.clear();
    let catchments = std::mem::take(&mut manifest.catchments);
    for terrain in &dataset.terrains {
        let heightmap = terrain
            .elevation_m
            .as_ref()
            .map(|_| format!("heightmaps/{}.json.gz", terrain.name));
        if let (Some(file), Some(elevation_m)) = (&heightmap, &terrain.elevation_m) {
            write_heightmap(folder, file, elevation_m)?;
        }
        manifest.catchments.push(Catchment {
            name: terrain.name.clone(),
            heightmap,
            place: catchments
                .iter()
                .find(|catchment| catchment.name == terrain.name)
                .and_then(|catchment| catchment.place.clone()),
        });
    }
    let mut sharder = Sharder::new(folder, dataset.metadata.clone(), manifest, output);
    for (index, shard) in dataset.shards.iter().enumerate() {
        let (info, times_s) = match infos.get(index) {
            Some(info) => (
                ShardInfo {
                    times_s: Vec::new(),
                    ..info.clone()
                },
                info.times_s.as_slice(),
            ),
            None => {
                let catchment = dataset.terrains[shard.catchment].name.clone();
                (
                    ShardInfo {
                        catchment,
                        ..ShardInfo::default()
                    },
                    &[][..],
                )
            }
        };
        sharder.begin(info);
        for (record, sample) in ShardReader::open(&shard.path, &dataset.metadata)?.enumerate() {
            let written = match times_s.get(record) {
                Some(&time_s) => sharder.push(&sample?, time_s)?,
                None => sharder.push_untimed(&sample?)?,
            };
            if written {
                progress();
            }
        }
    }
    let events: std::collections::BTreeSet<_> = infos
        .iter()
        .filter_map(|info| info.event.as_ref())
        .collect();
    let report = ConvertReport {
        events: events.len(),
        ..ConvertReport::default()
    };
    finish(folder, sharder, report)
}

/// Makes a dataset of samples as JSON lines.
///
/// # Errors
/// What reading and writing meet; a folder that holds anything.
pub fn convert_json_lines(
    mut samples: JsonSamples,
    heightmap: Option<&Path>,
    catchment: &str,
    output: &OutputConfig,
    folder: &Path,
    progress: &Progress,
) -> Result<ConvertReport> {
    let metadata = samples.metadata().clone();
    let heightmap = heightmap
        .map(|path| fitting_heightmap(path, &metadata))
        .transpose()?;
    prepare(folder)?;
    metadata.write(folder)?;
    let file = heightmap
        .is_some()
        .then(|| format!("heightmaps/{catchment}.json.gz"));
    if let (Some(heightmap), Some(file)) = (&heightmap, &file) {
        write_heightmap(folder, file, heightmap)?;
    }
    let manifest = Manifest {
        format: Manifest::FORMAT,
        pluvial_version: env!("CARGO_PKG_VERSION").into(),
        catchments: vec![Catchment {
            name: catchment.into(),
            heightmap: file,
            place: None,
        }],
        ..Manifest::default()
    };
    let mut sharder = Sharder::new(folder, metadata, manifest, output);
    sharder.begin(ShardInfo {
        catchment: catchment.into(),
        ..ShardInfo::default()
    });
    while let Some(sample) = samples.next_sample()? {
        if sharder.push_untimed(&sample)? {
            progress();
        }
    }
    finish(folder, sharder, ConvertReport::default())
}

fn check(config: &SeriesConfig) -> Result<()> {
    config
        .sample
        .check(config.frame_s)
        .map_err(DataError::Config)?;
    let name = &config.catchment;
    if name.is_empty()
        || !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    {
        return Err(DataError::Config(format!(
            "catchment name '{name}' must be made of letters, digits, '-' and '_'"
        )));
    }
    if config.depth_every_frames == 0 || config.rain_ratio == Some(0) {
        return Err(DataError::Config(
            "rain ratio and frames between depths must be at least 1".into(),
        ));
    }
    Ok(())
}

/// Makes `folder`, which must be new or empty, and marks it as unfinished.
fn prepare(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| DataError::io("create", folder, e))?;
    if std::fs::read_dir(folder)
        .map_err(|e| DataError::io("read", folder, e))?
        .next()
        .is_some()
    {
        return Err(DataError::format(folder, "the folder is not empty"));
    }
    let unfinished = folder.join(UNFINISHED);
    std::fs::create_dir(&unfinished).map_err(|e| DataError::io("create", &unfinished, e))
}

fn finish(folder: &Path, sharder: Sharder, mut report: ConvertReport) -> Result<ConvertReport> {
    (report.samples, report.duplicates) = (sharder.samples(), sharder.duplicates());
    report.files = sharder.finish()?;
    let unfinished = folder.join(UNFINISHED);
    std::fs::remove_dir_all(&unfinished).map_err(|e| DataError::io("remove", &unfinished, e))?;
    Ok(report)
}

fn write_heightmap(folder: &Path, file: &str, elevation_m: &Array2<f32>) -> Result<()> {
    let heightmaps = folder.join("heightmaps");
    std::fs::create_dir_all(&heightmaps).map_err(|e| DataError::io("create", &heightmaps, e))?;
    heightmap_json::write(&folder.join(file), elevation_m.view())
}

/// A heightmap without a position, on the depth or rain grid.
fn fitting_heightmap(path: &Path, metadata: &Metadata) -> Result<Array2<f32>> {
    let elevation_m = open_raster(path)?.data;
    let found = [elevation_m.nrows(), elevation_m.ncols()];
    if found != metadata.waterdepth && found != metadata.rain_size() {
        return Err(DataError::format(
            path,
            format!(
                "is {found:?}, neither the depth grid {:?} nor the rain grid {:?}",
                metadata.waterdepth,
                metadata.rain_size()
            ),
        ));
    }
    Ok(elevation_m)
}

/// The heightmap at the place of the depths, or one without a position on their grid or the rain's.
fn read_heightmap(path: &Path, depths: &Depths, metadata: &Metadata) -> Result<Array2<f32>> {
    let heightmap = open_raster(path)?;
    if !(heightmap.is_placed() && depths.is_placed) {
        return fitting_heightmap(path, metadata);
    }
    let placed = heightmap.resample_to(&depths.place);
    Ok(placed
        .map_err(|e| DataError::format(path, e.to_string()))?
        .data)
}

/// The cells of the radar that lie over the depth grid.
fn rain_region(
    first: &RadarFrame,
    depths: &Depths,
    config: &SeriesConfig,
) -> Result<Region, String> {
    let (rain, depth) = (&first.rain_mm_per_h, &depths.place);
    let uniform = rain.data.len() == 1 && !rain.is_placed();
    if !(uniform || rain.is_placed() && depths.is_placed) {
        // Nothing tells where one of them lies: the shapes must fit.
        let (rows, columns) = rain.data.dim();
        let ratio = depth.height / rows;
        return if ratio > 0 && (rows * ratio, columns * ratio) == (depth.height, depth.width) {
            Ok(Region::Whole)
        } else {
            Err(format!(
                "rain and depth do not both say where they lie, and the depth grid of {} × {} cells is no multiple of {rows} × {columns} rain cells",
                depth.height, depth.width
            ))
        };
    }
    let ratio = match config.rain_ratio {
        Some(ratio) => ratio,
        None if uniform => 1,
        None => {
            let (x, y) = (rain.cell_x / depth.cell_x, rain.cell_y / depth.cell_y);
            let ratio = x.round().max(1.0);
            if x > 1.0 + 1e-6 && ((x - ratio).abs() > 1e-3 || (y - ratio).abs() > 1e-3) {
                return Err(format!(
                    "rain cells of {} × {} are no multiple of depth cells of {} × {}: say by a ratio how many depth cells a rain cell shall have",
                    rain.cell_x, rain.cell_y, depth.cell_x, depth.cell_y
                ));
            }
            ratio as usize
        }
    };
    if depth.height % ratio != 0 || depth.width % ratio != 0 {
        return Err(format!(
            "the depth grid of {} × {} cells is no multiple of {ratio}, the depth cells of a rain cell along each axis",
            depth.height, depth.width
        ));
    }
    Ok(Region::Place(Place {
        cell_x: depth.cell_x * ratio as f64,
        cell_y: depth.cell_y * ratio as f64,
        height: depth.height / ratio,
        width: depth.width / ratio,
        ..depth.clone()
    }))
}

/// A radar source whose first frame has been looked at.
struct Peeked {
    first: Option<RadarFrame>,
    source: Box<dyn RadarSource>,
}

impl Peeked {
    fn new(mut source: Box<dyn RadarSource>) -> Result<(Self, RadarFrame)> {
        let Some(frame) = source.next_frame()? else {
            return Err(DataError::format(
                source.path(),
                "the source holds no frame",
            ));
        };
        let first = Some(frame.clone());
        Ok((Self { first, source }, frame))
    }
}

impl RadarSource for Peeked {
    fn next_frame(&mut self) -> Result<Option<RadarFrame>> {
        match self.first.take() {
            Some(frame) => Ok(Some(frame)),
            None => self.source.next_frame(),
        }
    }

    fn path(&self) -> &Path {
        self.source.path()
    }

    fn skipped_files(&self) -> u64 {
        self.source.skipped_files()
    }
}

/// The depths, read forward to the times of the labels.
struct Depths {
    source: Box<dyn DepthSource>,
    frame_s: f64,
    first_frame: u64,
    every_frames: u64,
    place: Place,
    is_placed: bool,
    cell_size_m: Option<f64>,
    /// The newest depth read, which is the one of the label or one after it.
    ahead: Option<DepthFrame>,
    ended: bool,
}

/// What stands at a time.
enum At {
    Depth(Array2<f32>),
    Missing,
    /// Nothing, from here on.
    End,
}

impl Depths {
    fn new(mut source: Box<dyn DepthSource>, config: &SeriesConfig) -> Result<Self> {
        let Some(first) = source.next_depth()? else {
            return Err(DataError::format(
                source.path(),
                "the source holds no depth",
            ));
        };
        let is_placed = first.depth_m.is_placed();
        Ok(Self {
            source,
            frame_s: config.frame_s,
            first_frame: config.first_depth_frame,
            every_frames: config.depth_every_frames,
            place: first.depth_m.place(),
            is_placed,
            cell_size_m: is_placed.then(|| {
                let (x, y) = first.depth_m.cell_size_m();
                0.5 * (x + y)
            }),
            ahead: Some(first),
            ended: false,
        })
    }

    /// The depth `due_s` seconds after the start of the radar series, which was at `series_start_s` (UTC) if it has a clock.
    fn at(&mut self, due_s: f64, series_start_s: Option<f64>) -> Result<At> {
        loop {
            let Some(frame) = &self.ahead else {
                self.ended = true;
                return Ok(At::End);
            };
            let time_s = match (frame.time, series_start_s) {
                (DepthTime::Index(index), _) => {
                    (self.first_frame + index * self.every_frames) as f64 * self.frame_s
                }
                (DepthTime::Minutes(minutes), _) => minutes * 60.0,
                (DepthTime::Utc(time_s), Some(start_s)) => time_s as f64 - start_s,
                (DepthTime::Utc(_), None) => {
                    return Err(DataError::format(
                        self.source.path(),
                        "the depths have times and the rain has none: give its timestamps",
                    ));
                }
            };
            // Times are whole seconds and minutes.
            if time_s > due_s + 1.0 {
                return Ok(At::Missing);
            }
            if time_s >= due_s - 1.0 {
                return Ok(At::Depth(stored(&frame.depth_m)));
            }
            self.ahead = self.source.next_depth()?;
            if let Some(next) = &self.ahead
                && !self.place.is_same(&next.depth_m.place())
            {
                return Err(DataError::format(
                    self.source.path(),
                    format!(
                        "{:?} lies elsewhere than the first depth: {}; first: {}",
                        next.time,
                        next.depth_m.place(),
                        self.place
                    ),
                ));
            }
        }
    }
}

/// Depth as records hold it: cells outside the terrain are dry.
fn stored(depth_m: &GeoGrid) -> Array2<f32> {
    Zip::from(&depth_m.data).map_collect(|&depth| if depth.is_nan() { 0.0 } else { depth })
}
