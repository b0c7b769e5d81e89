//! A recipe → a dataset: rain → simulation → windows → samples → one shard per event, in parallel over the events.
//!
//! An event streams: memory holds the rain of the longest window and the state of the simulation, never the event.
//! A build that was stopped goes on where it was: finished shards of the same recipe are kept. Several machines can build a
//! part each ([`build_part`]); [`merge`] joins the parts to what one machine makes in one go, to the byte.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ndarray::{Array2, ArrayView2};
use pluvial_hydro::{HydroError, Solver};
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::file::{copy_or_link, read_json, sha256_of_file, write_json};
use crate::grid::{GeoGrid, Place};
use crate::manifest::{Catchment, Manifest, ShardInfo};
use crate::pool::{RainWindow, frames_in};
use crate::radar::storms::{StormConfig, SyntheticStorm};
use crate::radar::{self, EventConfig, Events, RainFrame, RainSource, Region, Window};
use crate::raster;
use crate::recipe::{
    BoundRecipe, Event, GridRecipe, RainRecipe, Recipe, StreamRecipe, TerrainFile, TerrainRecipe,
};
use crate::record::{Metadata, ShardWriter};
use crate::rng;
use crate::sample::Sample;
use crate::split::{self, Contents};

/// Folder inside a dataset's folder that tells which shards of an unfinished build, or of a part of one, are done.
pub(crate) const UNFINISHED: &str = ".parts";
/// The file in it that says which build this is.
const PLAN: &str = "plan.json";
/// Depth in metres from which a cell counts as wet in the report.
pub const WET_DEPTH_M: f64 = 0.1;
/// Depths are stored as multiples of this, 0.12 mm: a flood model's depth is not known better, and shards shrink by a third.
const DEPTH_STEP_M: f64 = 1.0 / 8192.0;

/// Told after every event, from any thread.
pub type Progress<'a> = dyn Fn(&EventDone) + Sync + 'a;

/// An event whose shard is finished.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDone {
    /// Name of the event, `TERRAIN/storm_NN`.
    pub event: String,
    /// Its split.
    pub split: String,
    /// Number of its samples.
    pub samples: usize,
    /// Share of wet cells over its labels.
    pub wet_share: f64,
    /// Number of events of the dataset.
    pub events: usize,
    /// Whether an earlier, stopped build had made the shard.
    pub kept: bool,
}

/// Counts of one split.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SplitReport {
    /// Number of events, each a shard.
    pub events: usize,
    /// Number of samples.
    pub samples: usize,
    /// Number of label cells at least [`WET_DEPTH_M`] deep.
    pub wet_cells: u64,
    /// Number of label cells.
    pub cells: u64,
}

impl SplitReport {
    /// Share of wet cells; NaN without cells.
    pub fn wet_share(&self) -> f64 {
        self.wet_cells as f64 / self.cells as f64
    }
}

/// Every `of`-th event of a recipe, beginning with number `number`, counted from 1: what one of several machines builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartOf {
    number: usize,
    of: usize,
}

impl PartOf {
    /// The whole recipe.
    pub const ALL: Self = Self { number: 1, of: 1 };

    fn holds(self, event: usize) -> bool {
        event % self.of + 1 == self.number
    }
}

impl FromStr for PartOf {
    type Err = String;

    /// Reads `K/N` with 1 ≤ K ≤ N.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (number, of) = text.split_once('/').ok_or("must be K/N, such as 3/8")?;
        let count = |text: &str| {
            text.trim()
                .parse()
                .map_err(|_| format!("'{text}' is no count"))
        };
        let (number, of): (usize, usize) = (count(number)?, count(of)?);
        if (1..=of).contains(&number) {
            Ok(Self { number, of })
        } else {
            Err(format!("part {number} of {of}: parts are numbered from 1"))
        }
    }
}

impl Display for PartOf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// What stands in `.parts/plan.json`: the build that the folder belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Plan {
    part: PartOf,
    /// Number of events of the whole recipe.
    events: usize,
    /// The dataset's manifest without its shards.
    manifest: Manifest,
}

/// What stands in `.parts/N.json`: a finished shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct DoneShard {
    info: ShardInfo,
    bytes: u64,
    sha256: String,
    wet_cells: u64,
    cells: u64,
    /// [`Sample::content_hash`] of every sample that is not dry.
    contents: Vec<u64>,
}

/// Builds the dataset of `recipe` in `folder`; `None` where it already stands there.
///
/// # Errors
/// What reading terrain and rain, simulating and writing meet; a folder that holds anything else; splits that would leak.
pub fn build(
    recipe: &BoundRecipe,
    folder: &Path,
    progress: &Progress,
) -> Result<Option<BTreeMap<String, SplitReport>>> {
    if stands(folder, &recipe.sha256)? {
        return Ok(None);
    }
    let (plan, done) = build_shards(recipe, folder, PartOf::ALL, progress)?;
    finish(folder, plan, done).map(Some)
}

/// Builds a part of the dataset of `recipe` in `folder`, for [`merge`].
///
/// # Errors
/// As [`build`].
pub fn build_part(
    recipe: &BoundRecipe,
    folder: &Path,
    part: PartOf,
    progress: &Progress,
) -> Result<BTreeMap<String, SplitReport>> {
    let (_, done) = build_shards(recipe, folder, part, progress)?;
    Ok(report(&done))
}

/// Joins parts that [`build_part`] made to the dataset in `folder`, the same to the byte as [`build`] makes in one go; `None`
/// where it already stands there. The parts stay; shards are linked where the file system can, copied where it cannot.
///
/// # Errors
/// When the parts belong to different recipes or versions, events are missing, or a shard is not as its part left it.
pub fn merge(parts: &[PathBuf], folder: &Path) -> Result<Option<BTreeMap<String, SplitReport>>> {
    let mut plans = Vec::with_capacity(parts.len());
    for part in parts {
        let path = part.join(UNFINISHED).join(PLAN);
        if !path.exists() {
            return Err(DataError::format(
                part,
                "is no part of a build (`dataset build --part K/N`)",
            ));
        }
        plans.push(read_json::<Plan>(&path)?);
    }
    let Some(first) = plans.first() else {
        return Err(DataError::Config("there are no parts to merge".into()));
    };
    let plan = Plan {
        part: PartOf::ALL,
        ..first.clone()
    };
    for (part, other) in parts.iter().zip(&plans) {
        if (other.events, &other.manifest) != (plan.events, &plan.manifest) {
            let first = parts[0].display();
            return Err(DataError::format(
                part,
                format!("belongs to another recipe or version than '{first}'"),
            ));
        }
    }
    if stands(folder, &plan.manifest.recipe_sha256)? {
        return Ok(None);
    }

    let mut found: Vec<Option<(&PathBuf, DoneShard)>> = (0..plan.events).map(|_| None).collect();
    for (part, other) in parts.iter().zip(&plans) {
        for (index, found) in found.iter_mut().enumerate() {
            if other.part.holds(index)
                && let Some(done) = read_done(&done_path(part, index), part)
            {
                *found = Some((part, done));
            }
        }
    }
    let missing: Vec<usize> = (0..plan.events)
        .filter(|&index| found[index].is_none())
        .collect();
    if let Some(index) = missing.first() {
        return Err(DataError::Config(format!(
            "the parts hold {} of {} events; the first missing one is number {index}, which is in part {}",
            plan.events - missing.len(),
            plan.events,
            PartOf {
                number: index % first.part.of + 1,
                ..first.part
            }
        )));
    }

    prepare(folder, &plan)?;
    let heightmaps = plan
        .manifest
        .catchments
        .iter()
        .filter_map(|c| c.heightmap.as_deref());
    for file in heightmaps.chain([Metadata::FILE]) {
        copy_or_link(&parts[0].join(file), &folder.join(file))?;
    }
    let mut done = Vec::with_capacity(plan.events);
    for (index, (part, shard)) in found.into_iter().flatten().enumerate() {
        let path = part.join(&shard.info.file);
        if sha256_of_file(&path)? != shard.sha256 {
            return Err(DataError::format(&path, "is not as its part left it"));
        }
        copy_or_link(&path, &folder.join(&shard.info.file))?;
        write_json(&done_path(folder, index), &shard)?;
        done.push(shard);
    }
    finish(folder, plan, done).map(Some)
}

/// Whether the dataset of the recipe with this hash stands in `folder`.
fn stands(folder: &Path, recipe_sha256: &str) -> Result<bool> {
    let path = folder.join(Manifest::FILE);
    if !path.exists() {
        return Ok(false);
    }
    if Manifest::read(folder)?.recipe_sha256 != recipe_sha256 {
        return Err(DataError::format(
            &path,
            "the folder holds a dataset of another recipe",
        ));
    }
    // What a build leaves that was stopped at its very end.
    let unfinished = folder.join(UNFINISHED);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|e| DataError::io("remove", &unfinished, e))?;
    }
    Ok(true)
}

/// Builds the shards of a part that are not there yet; all of them in the order of their events.
fn build_shards(
    recipe: &BoundRecipe,
    folder: &Path,
    part: PartOf,
    progress: &Progress,
) -> Result<(Plan, Vec<DoneShard>)> {
    let settings = &recipe.recipe;
    let events = settings.events()?;
    let catchments = settings.terrain.iter().map(|terrain| {
        let file = terrain.file.as_ref();
        Ok(Catchment {
            name: terrain.name.clone(),
            heightmap: Some(format!("heightmaps/{}.json.gz", terrain.name)),
            place: file.map(|f| f.place(&settings.grid)).transpose()?.flatten(),
        })
    });
    let catchments = catchments.collect::<Result<_>>()?;
    let plan = Plan {
        part,
        events: events.len(),
        manifest: Manifest {
            format: Manifest::FORMAT,
            recipe: recipe.text.clone(),
            recipe_sha256: recipe.sha256.clone(),
            seed: settings.seed,
            pluvial_version: env!("CARGO_PKG_VERSION").into(),
            cell_size_m: Some(settings.grid.cell_size_m),
            frame_s: Some(settings.grid.frame_s),
            pattern: Some(settings.sample.pattern.clone()),
            water_offset: Some(settings.sample.water_offset),
            total_hours: settings.sample.total_hours.clone(),
            catchments,
            ..Manifest::default()
        },
    };
    let own: Vec<(usize, &Event)> = events
        .iter()
        .enumerate()
        .filter(|&(index, _)| part.holds(index))
        .collect();
    if own.is_empty() {
        return Err(DataError::Config(format!(
            "part {part} is empty: the recipe has {} events",
            events.len()
        )));
    }
    prepare(folder, &plan)?;
    let metadata = metadata(settings);
    metadata.write(folder)?;
    let heightmaps = folder.join("heightmaps");
    fs::create_dir_all(&heightmaps).map_err(|e| DataError::io("create", &heightmaps, e))?;
    let mut beds = Vec::new();
    for (terrain, catchment) in settings.terrain.iter().zip(&plan.manifest.catchments) {
        let bed = make_terrain(settings, terrain)?;
        if let Some(file) = &catchment.heightmap {
            raster::heightmap_json::write(&folder.join(file), bed.mapv(|z| z as f32).view())?;
        }
        beds.push(bed);
    }

    let done = own
        .par_iter()
        .map(|&(index, event)| {
            let path = done_path(folder, index);
            let kept = read_done(&path, folder);
            let done = match &kept {
                Some(done) => done.clone(),
                None => {
                    let bed = &beds[event.terrain];
                    let done = build_event(settings, event, bed, &metadata, folder, index)?;
                    write_json(&path, &done)?;
                    done
                }
            };
            progress(&EventDone {
                event: event_name(settings, event),
                split: event.split.name().into(),
                samples: done.info.times_s.len(),
                wet_share: done.wet_cells as f64 / done.cells as f64,
                events: own.len(),
                kept: kept.is_some(),
            });
            Ok(done)
        })
        .collect::<Result<_>>()?;
    Ok((plan, done))
}

/// Writes the manifest: it comes last, so that a folder with a manifest is a whole dataset.
fn finish(
    folder: &Path,
    plan: Plan,
    done: Vec<DoneShard>,
) -> Result<BTreeMap<String, SplitReport>> {
    let report = report(&done);
    let mut manifest = plan.manifest;
    let heightmaps = manifest
        .catchments
        .iter()
        .filter_map(|c| c.heightmap.clone());
    for file in heightmaps
        .chain([Metadata::FILE.into()])
        .collect::<Vec<_>>()
    {
        let sum = sha256_of_file(&folder.join(&file))?;
        manifest.sha256.insert(file, sum);
    }
    let mut contents = Contents::default();
    for (shard, done) in done.into_iter().enumerate() {
        for content in done.contents {
            contents.add(content, shard);
        }
        manifest.sha256.insert(done.info.file.clone(), done.sha256);
        manifest.shards.push(done.info);
    }
    if let Some(leak) = split::leaks(&manifest)
        .into_iter()
        .chain(contents.leaks(&manifest))
        .next()
    {
        return Err(DataError::format(folder, format!("splits leak: {leak}")));
    }
    manifest.write(folder)?;
    let unfinished = folder.join(UNFINISHED);
    fs::remove_dir_all(&unfinished).map_err(|e| DataError::io("remove", &unfinished, e))?;
    Ok(report)
}

fn report(done: &[DoneShard]) -> BTreeMap<String, SplitReport> {
    let mut report = BTreeMap::<String, SplitReport>::new();
    for shard in done {
        let split = shard.info.split.clone().unwrap_or_default();
        let split = report.entry(split).or_default();
        split.events += 1;
        split.samples += shard.info.times_s.len();
        split.wet_cells += shard.wet_cells;
        split.cells += shard.cells;
    }
    report
}

/// The folder of the recipe's dataset under `root`, built there if it does not stand there yet.
///
/// # Errors
/// As [`build`].
pub fn build_cached(recipe: &BoundRecipe, root: &Path, progress: &Progress) -> Result<PathBuf> {
    let folder = root.join(format!("{}-{}", recipe.name, &recipe.sha256[..8]));
    build(recipe, &folder, progress)?;
    Ok(folder)
}

/// Makes `folder` ready for `plan`; refuses one that holds anything but an unfinished build of it.
fn prepare(folder: &Path, plan: &Plan) -> Result<()> {
    let unfinished = folder.join(UNFINISHED);
    let marker = unfinished.join(PLAN);
    if marker.exists() {
        return match read_json::<Plan>(&marker)? == *plan {
            true => Ok(()),
            false => Err(DataError::format(
                folder,
                "holds a build of another recipe, part or version",
            )),
        };
    }
    fs::create_dir_all(folder).map_err(|e| DataError::io("create", folder, e))?;
    let mut entries = fs::read_dir(folder).map_err(|e| DataError::io("read", folder, e))?;
    if entries.next().is_some() {
        return Err(DataError::format(
            folder,
            "the folder is not empty and holds no unfinished build",
        ));
    }
    fs::create_dir_all(&unfinished).map_err(|e| DataError::io("create", &unfinished, e))?;
    write_json(&marker, plan)
}

fn done_path(folder: &Path, index: usize) -> PathBuf {
    folder.join(UNFINISHED).join(format!("{index}.json"))
}

/// The finished shard that the file at `path` tells of, if it is still there as it was written.
fn read_done(path: &Path, folder: &Path) -> Option<DoneShard> {
    let done: DoneShard = read_json(path).ok()?;
    let shard = fs::metadata(folder.join(&done.info.file)).ok()?;
    (shard.len() == done.bytes).then_some(done)
}

/// Shapes of the recipe's records.
fn metadata(recipe: &Recipe) -> Metadata {
    let [height, width] = recipe.grid.rain_shape();
    let totals = recipe.sample.total_hours.len();
    Metadata {
        rainfalltotals: (totals > 0).then_some([totals, height, width]),
        waterdepth_now: Some(recipe.grid.shape),
        ..Metadata::new(
            [recipe.sample.pattern.len(), height, width],
            recipe.grid.shape,
        )
    }
}

/// The terrain on the depth grid, metres; NaN outside.
fn make_terrain(recipe: &Recipe, terrain: &TerrainRecipe) -> Result<Array2<f64>> {
    match (&terrain.synthetic, &terrain.file) {
        (Some(config), _) => {
            let mut random = rng::stream(recipe.seed, &format!("terrain {}", terrain.name));
            Ok(config.generate(recipe.grid.shape, &mut random))
        }
        (None, Some(file)) => read_terrain(file, &recipe.grid),
        (None, None) => Err(DataError::Config(format!(
            "terrain '{}' has no source",
            terrain.name
        ))),
    }
}

/// The window of a raster.
///
/// One that is counted in cells is cut from the raster resampled as a whole to the nearest whole number of cells, which stretches
/// it by less than half a cell.
fn read_terrain(file: &TerrainFile, recipe: &GridRecipe) -> Result<Array2<f64>> {
    let (shape, cell_size_m) = (recipe.shape, recipe.cell_size_m);
    let grid: GeoGrid = raster::open_raster(&file.path)?;
    let dry = |window: GeoGrid, at: &dyn std::fmt::Display| {
        if window.data.iter().all(|z| z.is_nan()) {
            return Err(DataError::format(
                &file.path,
                format!("the window at {at} holds no data"),
            ));
        }
        Ok(window.data.mapv(f64::from))
    };
    if let Some(place) = file.place(recipe)? {
        let window = grid
            .resample_to(&place)
            .map_err(|e| DataError::format(&file.path, e.to_string()))?;
        return dry(window, &place);
    }
    let (cell_x, cell_y) = grid.cell_size_m();
    let cells = |count: usize, size_m: f64| (count as f64 * size_m / cell_size_m).round() as usize;
    let (height, width) = (cells(grid.height(), cell_y), cells(grid.width(), cell_x));
    let [row, column] = file.offset;
    if row + shape[0] > height || column + shape[1] > width {
        return Err(DataError::format(
            &file.path,
            format!(
                "a window of {shape:?} cells at {:?} does not fit its {height} × {width} cells of {cell_size_m} m",
                file.offset
            ),
        ));
    }
    let window = grid
        .resample(height, width)?
        .crop(row..row + shape[0], column..column + shape[1])?;
    dry(window, &format!("{:?}", file.offset))
}

/// The rain of an event, and when and where it fell, where that is known.
struct EventRain {
    source: Box<dyn RainSource>,
    start_s: Option<i64>,
    extent: Option<[f64; 4]>,
    /// Made-up dry time after the rain, in seconds.
    dry_s: f64,
}

fn open_rain(recipe: &Recipe, event: &Event) -> Result<EventRain> {
    let grid = &recipe.grid;
    match &recipe.rain {
        RainRecipe::Storms(config) => {
            let [height, width] = grid.rain_shape();
            let config = StormConfig {
                height,
                width,
                cell_km: grid.rain_cell_m() / 1000.0,
                frame_s: grid.frame_s,
                ..config.clone()
            };
            let seed = rng::stream(recipe.seed, &format!("storm {}", event_name(recipe, event)))
                .next_u64();
            Ok(EventRain {
                source: Box::new(SyntheticStorm::new(&config, seed)?),
                start_s: None,
                extent: None,
                dry_s: 0.0,
            })
        }
        RainRecipe::Stream(stream) => {
            let window = StreamWindow::open(recipe, stream, event)?;
            Ok(EventRain {
                start_s: window.stream.start_s().map(|start_s| start_s as i64),
                extent: window.stream.place().map(Place::extent),
                dry_s: window.dry_frames as f64 * grid.frame_s,
                source: Box::new(window),
            })
        }
    }
}

/// A window of a radar stream with dry frames after its end.
struct StreamWindow {
    stream: Events,
    dry_frames: usize,
    end_s: f64,
}

impl StreamWindow {
    fn open(recipe: &Recipe, stream: &StreamRecipe, event: &Event) -> Result<Self> {
        let grid = &recipe.grid;
        let [height, width] = grid.rain_shape();
        let region = match event.window {
            Some([row, column]) => Region::Window(Window {
                row,
                column,
                height,
                width,
            }),
            None => Region::Place(rain_place(recipe, event)?),
        };
        let options = stream.open_options(event);
        let events = Events::new(
            radar::open(&stream.path, &options)?,
            EventConfig {
                frame_s: grid.frame_s,
                factor: stream.scale,
                region,
                missing: stream.missing,
                max_gap_min: stream.max_gap_min,
                max_mm_per_h: stream.max_mm_per_h,
                ..EventConfig::default()
            },
        )?;
        let (cell_x, cell_y) = events
            .place()
            .map_or((0.0, 0.0), |place| (place.cell_x, place.cell_y));
        let expected = grid.rain_cell_m();
        if [cell_x, cell_y]
            .iter()
            .any(|cell| (cell - expected).abs() > 0.01 * expected)
        {
            return Err(DataError::format(
                &stream.path,
                format!("cells are {cell_x} × {cell_y} m, the recipe's rain cells {expected} m"),
            ));
        }
        let dry_frames = frames_in(stream.dry_after_h, grid.frame_s);
        Ok(Self {
            stream: events,
            dry_frames,
            end_s: 0.0,
        })
    }
}

/// The rain cells over the event's terrain.
fn rain_place(recipe: &Recipe, event: &Event) -> Result<Place> {
    let terrain = &recipe.terrain[event.terrain];
    let depth = match &terrain.file {
        Some(file) => file.place(&recipe.grid)?,
        None => None,
    };
    let depth = depth.ok_or_else(|| {
        DataError::Config(format!(
            "terrain '{}' has no place on the map",
            terrain.name
        ))
    })?;
    let [height, width] = recipe.grid.rain_shape();
    Ok(Place {
        cell_x: recipe.grid.rain_cell_m(),
        cell_y: recipe.grid.rain_cell_m(),
        height,
        width,
        ..depth
    })
}

impl RainSource for StreamWindow {
    fn next_frame(&mut self) -> Result<Option<RainFrame>> {
        if let Some(frame) = self.stream.next_frame()? {
            self.end_s = frame.end_s;
            return Ok(Some(frame));
        }
        if self.dry_frames == 0 {
            return Ok(None);
        }
        self.dry_frames -= 1;
        self.end_s += self.frame_s();
        Ok(Some(RainFrame {
            end_s: self.end_s,
            rain_mm_per_h: Array2::zeros(self.shape()),
        }))
    }

    fn frame_s(&self) -> f64 {
        self.stream.frame_s()
    }

    fn shape(&self) -> (usize, usize) {
        self.stream.shape()
    }
}

fn event_name(recipe: &Recipe, event: &Event) -> String {
    format!(
        "{}/storm_{:02}",
        recipe.terrain[event.terrain].name, event.storm
    )
}

/// Simulates one event and writes its shard.
fn build_event(
    recipe: &Recipe,
    event: &Event,
    bed_m: &Array2<f64>,
    metadata: &Metadata,
    folder: &Path,
    index: usize,
) -> Result<DoneShard> {
    let name = event_name(recipe, event);
    let simulation = |e: HydroError| DataError::Config(format!("simulation of {name}: {e}"));
    let domain = recipe
        .hydro
        .domain_of(bed_m.clone(), recipe.grid.cell_size_m);
    let mut solver = Solver::new(domain, recipe.hydro.solver.clone()).map_err(simulation)?;
    let mut rain = open_rain(recipe, event)?;
    let frame_s = recipe.grid.frame_s;
    let mut window = RainWindow::new(&recipe.sample, recipe.grid.rain_shape(), frame_s);
    let file = format!("{index}.tfrecord.gz");
    // Written among the parts, so that a build that is killed leaves no stray temporary file in the dataset.
    let path = folder.join(UNFINISHED).join(&file);
    let mut shard = ShardWriter::create(&path, metadata, recipe.output.gzip_level)?;

    let catchment = &recipe.terrain[event.terrain].name;
    let (mut times_s, mut contents) = (Vec::new(), Vec::new());
    let (mut wet_cells, mut cells) = (0, 0);
    // Samples that wait for their label, with the frame whose depth it is.
    let mut waiting: VecDeque<(usize, f64, Sample)> = VecDeque::new();
    let mut frames = 0;
    while let Some(frame) = rain.source.next_frame()? {
        solver
            .set_rain_mm_per_h(frame.rain_mm_per_h.view())
            .map_err(simulation)?;
        solver.advance(recipe.grid.frame_s).map_err(simulation)?;
        frames += 1;
        window.push(frame.rain_mm_per_h);
        if waiting.front().is_some_and(|&(due, ..)| due == frames)
            && let Some((_, time_s, mut sample)) = waiting.pop_front()
        {
            sample.depth_m = stored_depth(solver.depth_m().view());
            shard.write(&sample)?;
            times_s.push(time_s);
            if !sample.is_dry() {
                contents.push(sample.content_hash(catchment));
            }
            wet_cells += sample
                .depth_m
                .iter()
                .filter(|&&depth| f64::from(depth) >= WET_DEPTH_M)
                .count() as u64;
            cells += sample.depth_m.len() as u64;
        }
        if frames % recipe.sample.every_frames == 0 {
            let sample = Sample {
                rain: window.pooled(),
                depth_m: Array2::zeros((0, 0)),
                rain_totals_mm: window.totals_mm(),
                depth_now_m: Some(stored_depth(solver.depth_m().view())),
            };
            waiting.push_back((frames + recipe.sample.water_offset, frame.end_s, sample));
        }
    }
    if times_s.is_empty() {
        return Err(DataError::Config(format!(
            "{name}: {frames} frames of rain are too few for a sample"
        )));
    }
    shard.finish()?;
    let sha256 = sha256_of_file(&path)?;
    let bytes = fs::metadata(&path)
        .map_err(|e| DataError::io("read", &path, e))?
        .len();
    fs::rename(&path, folder.join(&file)).map_err(|e| DataError::io("rename", &path, e))?;
    let info = ShardInfo {
        file,
        event: Some(name),
        catchment: catchment.clone(),
        split: Some(event.split.name().into()),
        start_s: rain.start_s,
        rain_s: rain.start_s.map(|_| frames as f64 * frame_s - rain.dry_s),
        rain_extent: rain.extent,
        times_s,
    };
    Ok(DoneShard {
        info,
        bytes,
        sha256,
        wet_cells,
        cells,
        contents,
    })
}

/// Depth as it is stored: rounded, f32; cells outside the terrain are dry.
fn stored_depth(depth_m: ArrayView2<f64>) -> Array2<f32> {
    depth_m.mapv(|depth| {
        if depth.is_nan() {
            0.0
        } else {
            ((depth / DEPTH_STEP_M).round() * DEPTH_STEP_M) as f32
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ShardReader;
    use ndarray::{Array3, Axis};
    use std::sync::Mutex;

    const TINY: &str = r#"
        seed = 5
        [grid]
        shape = [12, 20]
        cell_size_m = 500.0
        rain_ratio = 2
        [[terrain]]
        name = "a"
        synthetic = { relief_m = 40.0 }
        [[terrain]]
        name = "b"
        unseen = true
        synthetic = { relief_m = 30.0 }
        [rain.storms]
        duration_h = 10.0
        [sample]
        total_hours = [1.0, 8.0]
        [split]
        train = 1
        validation = 1
        test = 1
        unseen = 1
    "#;

    fn bind(text: &str, files: &[(&str, &Path)]) -> BoundRecipe {
        let files = files
            .iter()
            .map(|&(name, path)| (name.into(), path.into()))
            .collect();
        BoundRecipe::parse(text, "tiny".into(), &files).unwrap()
    }

    fn samples(folder: &Path, shard: usize) -> Vec<Sample> {
        let metadata = Metadata::read(folder).unwrap();
        ShardReader::open(folder.join(format!("{shard}.tfrecord.gz")), &metadata)
            .unwrap()
            .map(|sample| sample.unwrap())
            .collect()
    }

    #[test]
    fn a_dataset_is_whole_and_the_same_each_time() {
        let root = tempfile::tempdir().unwrap();
        let recipe = bind(TINY, &[]);
        let first = build_cached(&recipe, root.path(), &|_| ()).unwrap();
        assert!(first.ends_with(format!("tiny-{}", &recipe.sha256[..8])));
        let manifest = Manifest::read(&first).unwrap();
        let splits: Vec<_> = manifest
            .shards
            .iter()
            .map(|s| (s.event.as_deref().unwrap(), s.split.as_deref().unwrap()))
            .collect();
        let expected = [
            ("a/storm_00", "train"),
            ("a/storm_01", "validation"),
            ("a/storm_02", "test_storms"),
            ("b/storm_00", "test_terrain"),
        ];
        assert_eq!(splits, expected);
        assert!(!first.join(UNFINISHED).exists());
        // 120 frames, a sample every 6 that has a label one frame later: frames 6 to 114.
        assert_eq!(manifest.shards[0].times_s.len(), 19);
        assert_eq!(manifest.shards[0].times_s[0], 1800.0);
        assert_eq!(samples(&first, 3).len(), 19);
        for catchment in &manifest.catchments {
            assert_eq!(
                raster::heightmap_json::read(&first.join(catchment.heightmap.as_ref().unwrap()))
                    .unwrap()
                    .dim(),
                (12, 20)
            );
        }
        // A second build of the same folder does nothing; one elsewhere gives the same bytes.
        assert_eq!(
            build(&recipe, &first, &|_| panic!("nothing to build")).unwrap(),
            None
        );
        let second = root.path().join("second");
        build(&recipe, &second, &|_| ()).unwrap();
        for shard in &manifest.shards {
            assert_eq!(
                fs::read(first.join(&shard.file)).unwrap(),
                fs::read(second.join(&shard.file)).unwrap()
            );
        }
        let other = bind(&TINY.replace("seed = 5", "seed = 6"), &[]);
        assert!(
            build(&other, &first, &|_| ())
                .unwrap_err()
                .to_string()
                .contains("dataset of another recipe")
        );
    }

    #[test]
    fn a_stopped_build_keeps_its_finished_shards() {
        let root = tempfile::tempdir().unwrap();
        let recipe = bind(TINY, &[]);
        let [whole, stopped, unfinished] =
            ["whole", "stopped", "unfinished"].map(|name| root.path().join(name));
        build(&recipe, &whole, &|_| ()).unwrap();
        build(&recipe, &stopped, &|_| ()).unwrap();
        // What a build leaves that was stopped after shards 0 and 2, with shard 2 damaged since.
        build_part(&recipe, &unfinished, PartOf::ALL, &|_| ()).unwrap();
        for index in [1, 3] {
            fs::remove_file(done_path(&unfinished, index)).unwrap();
        }
        fs::rename(unfinished.join(UNFINISHED), stopped.join(UNFINISHED)).unwrap();
        fs::remove_file(stopped.join(Manifest::FILE)).unwrap();
        assert!(
            crate::Dataset::open(&stopped)
                .unwrap_err()
                .to_string()
                .contains("unfinished build")
        );
        let manifest = Manifest::read(&whole).unwrap();
        for index in [1, 3] {
            fs::remove_file(stopped.join(format!("{index}.tfrecord.gz"))).unwrap();
        }
        fs::write(stopped.join("2.tfrecord.gz"), b"short").unwrap();
        let kept = Mutex::new(Vec::new());
        build(&recipe, &stopped, &|event| {
            kept.lock().unwrap().push((event.event.clone(), event.kept))
        })
        .unwrap();
        let mut kept = kept.into_inner().unwrap();
        kept.sort();
        let names = ["a/storm_00", "a/storm_01", "a/storm_02", "b/storm_00"].map(String::from);
        assert_eq!(
            kept,
            names
                .into_iter()
                .zip([true, false, false, false])
                .collect::<Vec<_>>()
        );
        assert_eq!(Manifest::read(&stopped).unwrap(), manifest);
        for shard in &manifest.shards {
            assert_eq!(
                fs::read(whole.join(&shard.file)).unwrap(),
                fs::read(stopped.join(&shard.file)).unwrap()
            );
        }
    }

    /// Path → content of every file under `folder`.
    fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = PathBuf::from(path.file_name().unwrap());
            if path.is_dir() {
                found.extend(
                    files(&path)
                        .into_iter()
                        .map(|(rest, content)| (name.join(rest), content)),
                );
            } else {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
        found
    }

    #[test]
    fn merged_parts_are_what_one_build_makes() {
        let root = tempfile::tempdir().unwrap();
        let recipe = bind(TINY, &[]);
        let [whole, merged] = ["whole", "merged set"].map(|name| root.path().join(name));
        build(&recipe, &whole, &|_| ()).unwrap();
        let mut parts: Vec<PathBuf> = (1..=3)
            .map(|k| root.path().join(format!("part {k}")))
            .collect();
        let part = |k: usize| format!("{k}/3").parse::<PartOf>().unwrap();
        let own: Vec<usize> = (1..=3)
            .map(|k| {
                build_part(&recipe, &parts[k - 1], part(k), &|_| ())
                    .unwrap()
                    .values()
                    .map(|s| s.events)
                    .sum()
            })
            .collect();
        assert_eq!(own, [2, 1, 1]);
        assert!(crate::Dataset::open(&parts[0]).is_err());

        let missing = merge(&parts[..2], &merged).unwrap_err().to_string();
        assert_eq!(
            missing,
            "the parts hold 3 of 4 events; the first missing one is number 2, which is in part 3/3"
        );
        assert!(!merged.exists());
        parts.reverse();
        assert!(merge(&parts, &merged).unwrap().is_some());
        assert_eq!(files(&merged), files(&whole));
        assert_eq!(merge(&parts, &merged).unwrap(), None);
        // A part that is built again does nothing; a folder keeps to its part.
        build_part(&recipe, &parts[0], part(3), &|event| assert!(event.kept)).unwrap();
        let error = build_part(&recipe, &parts[0], part(1), &|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains("another recipe, part or version"), "{error}");

        let other = root.path().join("other");
        build_part(
            &bind(&TINY.replace("seed = 5", "seed = 6"), &[]),
            &other,
            part(2),
            &|_| (),
        )
        .unwrap();
        let error = merge(&[parts[0].clone(), other], &root.path().join("x"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("other': belongs to another recipe"),
            "{error}"
        );
        assert!(
            merge(&[whole], &root.path().join("x"))
                .unwrap_err()
                .to_string()
                .contains("is no part")
        );
        let shard = parts[0].join("2.tfrecord.gz");
        let mut bytes = fs::read(&shard).unwrap();
        bytes[100] ^= 1;
        fs::remove_file(&shard).unwrap(); // it is one file with the merged one's
        fs::write(&shard, bytes).unwrap();
        let error = merge(&parts, &root.path().join("y"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("2.tfrecord.gz': is not as its part left it"),
            "{error}"
        );
    }

    #[test]
    fn parts_are_named_from_one() {
        for bad in ["0/3", "4/3", "3", "a/b", "1/0", "-1/2"] {
            assert!(bad.parse::<PartOf>().is_err(), "{bad}");
        }
        assert_eq!("2/3".parse::<PartOf>().unwrap().to_string(), "2/3");
    }

    #[test]
    fn a_foreign_folder_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("letter.txt"), "dear").unwrap();
        let error = build(&bind(TINY, &[]), root.path(), &|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains("not empty"), "{error}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    /// A stream of `frames` on a 5 × 9 radar grid of 2 km cells, with its timestamps, five minutes apart.
    fn write_stream(folder: &Path, frames: &[Array2<f32>]) -> (PathBuf, PathBuf) {
        let (mut grids, mut times) = (String::new(), String::new());
        for (i, frame) in frames.iter().enumerate() {
            grids += "ncols 9\nnrows 5\nxllcorner 0\nyllcorner 0\ncellsize 2000\n";
            for row in frame.rows() {
                grids += &row
                    .iter()
                    .map(|rate| format!("{rate} "))
                    .collect::<String>();
                grids.push('\n');
            }
            times += &format!("2010082600{:02}\n", 5 * i);
        }
        let (rain, timestamps) = (folder.join("rain stream.asc"), folder.join("times.txt"));
        fs::write(&rain, grids).unwrap();
        fs::write(&timestamps, times).unwrap();
        (rain, timestamps)
    }

    /// Terrain, rain and depth all have row 0 in the north, and a rain cell covers its k × k depth cells.
    #[test]
    fn terrain_rain_and_depth_line_up() {
        let root = tempfile::tempdir().unwrap();
        // 9 × 11 cells of 1 km; the window of 6 × 8 at (2, 3) is flat but for a bowl of 5 m at rows 0–1, columns 6–7.
        let mut raster = Array2::from_elem((9, 11), 50.0f32);
        raster.slice_mut(ndarray::s![2..4, 9..11]).fill(45.0);
        let terrain = root.path().join("terrain.asc");
        raster::esri_ascii::write(&terrain, &GeoGrid::new(raster, 0.0, 9000.0, 1000.0)).unwrap();
        // The training window is radar rows 1–3, columns 1–4. Frame 0: its cell (1, 2). Frame 1: its cell (0, 3), over the bowl.
        let mut frames = vec![Array2::zeros((5, 9)); 3];
        frames[0][[2, 3]] = 12.0;
        frames[1][[1, 4]] = 24.0;
        let (rain, timestamps) = write_stream(root.path(), &frames);
        let text = r#"
            [grid]
            shape = [6, 8]
            cell_size_m = 1000.0
            rain_ratio = 2
            [[terrain]]
            name = "plain"
            file = { path = "{terrain}", offset = [2, 3] }
            [rain.stream]
            path = "{rain}"
            timestamps = "{timestamps}"
            scale = 2.0
            dry_after_h = 0.25
            train = [{ rows = [1, 4], columns = [1, 5] }]
            [hydro]
            edge = "closed"
            [hydro.solver]
            dry_depth_m = 1.0 # water stays where it falls
            [sample]
            pattern = [1, 2]
            every_frames = 1
            total_hours = [0.25]
            [split]
            train = 1
            validation = 0
            test = 0
        "#;
        let recipe = bind(
            text,
            &[
                ("terrain", &terrain),
                ("rain", &rain),
                ("timestamps", &timestamps),
            ],
        );
        let folder = root.path().join("built");
        build(&recipe, &folder, &|_| ()).unwrap();

        let bed = raster::heightmap_json::read(&folder.join("heightmaps/plain.json.gz")).unwrap();
        for ((row, column), &z) in bed.indexed_iter() {
            assert_eq!(z, if row < 2 && column >= 6 { 45.0 } else { 50.0 });
        }
        let samples = samples(&folder, 0);
        // 3 frames of radar and 3 dry ones; the last has no label.
        assert_eq!(samples.len(), 5);
        // 24 mm/h for 5 minutes = 2 mm in rain cell (1, 2), then 48 mm/h = 4 mm in (0, 3).
        let step = DEPTH_STEP_M as f32;
        let fallen = |row: usize, column: usize| match (row / 2, column / 2) {
            (1, 2) => 0.002,
            (0, 3) => 0.004,
            _ => 0.0f32,
        };
        for ((row, column), &depth) in samples[0].depth_m.indexed_iter() {
            assert!(
                (depth - fallen(row, column)).abs() <= step / 2.0,
                "{row}, {column}: {depth}"
            );
        }
        let now = samples[0].depth_now_m.as_ref().unwrap();
        assert!((now[[2, 5]] - 0.002).abs() <= step / 2.0 && now[[0, 6]] == 0.0);
        // Channels oldest first: [frames 2–3 back, newest]; totals in mm over three frames.
        let place = |array: &Array3<f32>, channel: usize| {
            let highest = array.index_axis(Axis(0), channel);
            let (at, &value) = highest
                .indexed_iter()
                .max_by(|a, b| a.1.total_cmp(b.1))
                .unwrap();
            (value > 0.0).then_some((at, value))
        };
        assert_eq!(place(&samples[0].rain, 1), Some(((1, 2), 0.24)));
        assert_eq!(place(&samples[0].rain, 0), None);
        assert_eq!(place(&samples[1].rain, 1), Some(((0, 3), 0.48)));
        assert_eq!(place(&samples[1].rain, 0), Some(((1, 2), 0.24)));
        assert_eq!(place(&samples[2].rain, 1), None);
        assert_eq!(samples[2].rain[[0, 1, 2]], 0.24);
        assert_eq!(samples[2].rain[[0, 0, 3]], 0.48);
        assert_eq!(samples[3].rain[[0, 1, 2]], 0.0);
        let totals = samples[2].rain_totals_mm.as_ref().unwrap();
        assert!((totals[[0, 1, 2]] - 2.0).abs() < 1e-6 && (totals[[0, 0, 3]] - 4.0).abs() < 1e-6);
        let totals = samples[3].rain_totals_mm.as_ref().unwrap();
        assert!(totals[[0, 1, 2]] == 0.0 && (totals[[0, 0, 3]] - 4.0).abs() < 1e-6);
    }
}
