//! Recipes: TOML files that say how a dataset is made.
//!
//! A recipe names no place on a disk. Where it uses files of the user's, it writes `{name}` and the user gives
//! `name = path` when building.

mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::bng::{self, GridBox};
use crate::error::{DataError, Result};
use crate::file::{hexadecimal, sha256_of_file};
use crate::grid::Place;
use crate::radar::storms::StormConfig;
use crate::simulate::GroundConfig;
use crate::terrain::TerrainConfig;

pub use stream::{StreamArea, StreamRecipe};

/// Part of every recipe's hash: raise it when the same recipe comes to give other data.
const BUILDER_VERSION: u32 = 3;

/// How a dataset is made. See `datasets/*.toml` for commented examples.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of every random stream. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// The grids of depth and rain.
    pub grid: GridRecipe,
    /// The terrains.
    pub terrain: Vec<TerrainRecipe>,
    /// Where the rain comes from.
    pub rain: RainRecipe,
    /// The simulation of an event, which starts on dry ground.
    #[serde(default)]
    pub hydro: GroundConfig,
    /// What a sample holds.
    #[serde(default)]
    pub sample: SampleRecipe,
    /// Which events train and which test.
    pub split: SplitRecipe,
    /// How shards are written.
    #[serde(default)]
    pub output: OutputRecipe,
}

/// The grids: every rain cell covers exactly `rain_ratio` × `rain_ratio` depth cells.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridRecipe {
    /// Rows and columns of terrain and depth; multiples of `rain_ratio`.
    pub shape: [usize; 2],
    /// Edge length of a depth cell in metres.
    pub cell_size_m: f64,
    /// Depth cells per rain cell along each axis.
    pub rain_ratio: usize,
    /// Seconds between rain frames. Default 300.
    #[serde(default = "five_minutes")]
    pub frame_s: f64,
    /// Coordinate reference system of the boxes. Default `EPSG:27700`, the British National Grid.
    #[serde(default = "national_grid")]
    pub crs: String,
}

fn national_grid() -> String {
    bng::CRS.into()
}

fn five_minutes() -> f64 {
    300.0
}

impl GridRecipe {
    /// Rows and columns of the rain grid.
    pub fn rain_shape(&self) -> [usize; 2] {
        self.shape.map(|cells| cells / self.rain_ratio)
    }

    /// Edge length of a rain cell in metres.
    pub fn rain_cell_m(&self) -> f64 {
        self.cell_size_m * self.rain_ratio as f64
    }
}

/// One terrain: either `synthetic` or `file`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerrainRecipe {
    /// Name, unique in the recipe; letters, digits, `-` and `_`.
    pub name: String,
    /// Never seen in training: all of its events are the split `test_terrain`. Default false.
    #[serde(default)]
    pub unseen: bool,
    /// A synthetic terrain, drawn from the recipe's seed and the terrain's name.
    pub synthetic: Option<TerrainConfig>,
    /// A raster file.
    pub file: Option<TerrainFile>,
}

/// A window of a terrain raster, resampled to the depth grid's cells: by its place on the map, or counted in cells.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerrainFile {
    /// ESRI ASCII grid (`.asc`, `.asc.gz`) or GeoTIFF; usually a `{placeholder}`.
    pub path: PathBuf,
    /// Row and column of the window's north-western corner, in cells of the depth grid. Default 0, 0.
    #[serde(default)]
    pub offset: [usize; 2],
    /// The window on the map, in the place of `offset`. It is widened to whole rain cells, counted from 0, 0 of the map, and must
    /// have `grid.shape` cells then.
    pub r#box: Option<GridBox>,
}

impl TerrainFile {
    /// Where the depth grid lies; `None` for a window that is counted in cells.
    ///
    /// # Errors
    /// [`DataError::Config`] where the box cannot be, or does not have the grid's shape.
    pub fn place(&self, grid: &GridRecipe) -> Result<Option<Place>> {
        let Some(window) = &self.r#box else {
            return Ok(None);
        };
        if self.offset != [0, 0] {
            return Err(DataError::Config(
                "a terrain has either an offset or a box".into(),
            ));
        }
        if matches!(window, GridBox::Degrees { .. }) && grid.crs != bng::CRS {
            return Err(DataError::Config(format!(
                "boxes in degrees are for the British National Grid, grid.crs is {}",
                grid.crs
            )));
        }
        let [west, south, east, north] = window.bounds()?;
        let cell_m = grid.rain_cell_m();
        // Cells, to rounding: a box that ends on a cell's edge does not reach into the next.
        let [west, south] = [west, south].map(|edge| (edge / cell_m + 1e-6).floor());
        let [east, north] = [east, north].map(|edge| (edge / cell_m - 1e-6).ceil());
        let cells = |from: f64, to: f64| (to - from) as usize * grid.rain_ratio;
        let (height, width) = (cells(south, north), cells(west, east));
        if [height, width] != grid.shape {
            return Err(DataError::Config(format!(
                "the box of the terrain covers {height} × {width} depth cells of {} m (whole rain cells, west to east {} … {}, south to north {} … {}), grid.shape is {:?}",
                grid.cell_size_m,
                west * cell_m,
                east * cell_m,
                south * cell_m,
                north * cell_m,
                grid.shape
            )));
        }
        Ok(Some(Place {
            west: west * cell_m,
            north: north * cell_m,
            cell_x: grid.cell_size_m,
            cell_y: grid.cell_size_m,
            height,
            width,
            crs: Some(grid.crs.clone()),
        }))
    }
}

/// Where rain comes from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RainRecipe {
    /// Synthetic storms; their grid and frame length are those of `[grid]`.
    Storms(StormConfig),
    /// Radar.
    Stream(StreamRecipe),
}

/// What a sample holds and how often one is taken.
///
/// Windows that reach back before the start of an event see no rain there. That is no guess: an event starts on dry ground,
/// so in its world none has fallen.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleRecipe {
    /// Lengths in frames of the groups that rain is max-pooled over, counted backwards from now. Default 1, 3, 3, 5, 12, 24, 48.
    pub pattern: Vec<usize>,
    /// Frames between now and the label, at least 1. Default 1.
    pub water_offset: usize,
    /// A sample is taken every so many frames. Default 6.
    pub every_frames: usize,
    /// Windows in hours, ending now, of the rain totals; empty for records of the published layout. Default 1, 2, 4, 8.
    pub total_hours: Vec<f64>,
}

impl Default for SampleRecipe {
    fn default() -> Self {
        Self {
            pattern: vec![1, 3, 3, 5, 12, 24, 48],
            water_offset: 1,
            every_frames: 6,
            total_hours: vec![1.0, 2.0, 4.0, 8.0],
        }
    }
}

impl SampleRecipe {
    /// What cannot be, for frames of `frame_s` seconds.
    pub(crate) fn check(&self, frame_s: f64) -> Result<(), String> {
        if self.pattern.is_empty() || self.pattern.contains(&0) {
            return Err(
                "sample.pattern must be a list of group lengths of at least 1 frame".into(),
            );
        }
        if self.water_offset == 0 {
            return Err("sample.water_offset must be at least 1: a label must not lie inside the rain it is predicted from".into());
        }
        if self.every_frames == 0 {
            return Err("sample.every_frames must be at least 1".into());
        }
        for &hours in &self.total_hours {
            let frames = hours * 3600.0 / frame_s;
            if !(frames.is_finite() && frames >= 1.0 && (frames - frames.round()).abs() < 1e-6) {
                return Err(format!(
                    "sample.total_hours: {hours} h is no whole number of frames of {} s",
                    frame_s
                ));
            }
        }
        Ok(())
    }
}

/// Events per terrain.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRecipe {
    /// Training events for every terrain that is not `unseen`.
    pub train: usize,
    /// Validation events for each of them.
    pub validation: usize,
    /// Test events for each of them (`test_storms`).
    pub test: usize,
    /// Events for every `unseen` terrain (`test_terrain`). Default 0.
    #[serde(default)]
    pub unseen: usize,
}

/// How shards are written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputRecipe {
    /// Gzip level, 0 (store) to 9. Default 4.
    pub gzip_level: u32,
}

impl Default for OutputRecipe {
    fn default() -> Self {
        Self { gzip_level: 4 }
    }
}

/// A recipe that has been read, checked and bound to the files it uses.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundRecipe {
    /// The recipe, placeholders replaced.
    pub recipe: Recipe,
    /// The recipe as it was written.
    pub text: String,
    /// SHA-256 over the text, the builder's version and the content of the files, hexadecimal.
    pub sha256: String,
    /// The recipe file's name without `.toml`.
    pub name: String,
}

impl BoundRecipe {
    /// Reads the recipe at `path` and puts `files` (name → path) in the place of its `{name}` placeholders.
    ///
    /// # Errors
    /// [`DataError::Io`] for files that cannot be read, [`DataError::Format`] for text that is no recipe (an unknown key with
    /// the nearest known one), settings that cannot be, placeholders without a file and files without a placeholder.
    pub fn read(path: &Path, files: &BTreeMap<String, PathBuf>) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| DataError::io("read", path, e))?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Self::parse(&text, name, files).map_err(|error| match error {
            DataError::Config(reason) => DataError::format(path, reason),
            other => other,
        })
    }

    /// As [`read`](Self::read), from text.
    ///
    /// # Errors
    /// As there, with [`DataError::Config`] in the place of [`DataError::Format`].
    pub fn parse(text: &str, name: String, files: &BTreeMap<String, PathBuf>) -> Result<Self> {
        let mut recipe: Recipe =
            toml::from_str(text).map_err(|e| DataError::Config(one_line(text, &e)))?;
        recipe.check_storm_grid(text)?;
        let inputs = recipe.bind(files)?;
        recipe.check().map_err(DataError::Config)?;
        let mut hash = Sha256::new();
        hash.update(BUILDER_VERSION.to_le_bytes());
        hash.update(text.as_bytes());
        for input in inputs {
            hash_file(&mut hash, &input)?;
        }
        let sha256 = hexadecimal(&hash.finalize());
        Ok(Self {
            recipe,
            text: text.to_owned(),
            sha256,
            name,
        })
    }
}

impl Recipe {
    /// Replaces placeholders; returns the files that the recipe uses, once each.
    fn bind(&mut self, files: &BTreeMap<String, PathBuf>) -> Result<Vec<PathBuf>> {
        let mut used = BTreeSet::new();
        let mut paths: Vec<&mut PathBuf> = self
            .terrain
            .iter_mut()
            .filter_map(|t| t.file.as_mut())
            .map(|f| &mut f.path)
            .collect();
        if let RainRecipe::Stream(stream) = &mut self.rain {
            paths.push(&mut stream.path);
            paths.extend(&mut stream.timestamps);
            paths.extend(&mut stream.hydroindex);
        }
        let mut inputs = Vec::new();
        for path in paths {
            let written = path.to_string_lossy().into_owned();
            if let Some(name) = written
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'))
            {
                *path = files.get(name).cloned().ok_or_else(|| {
                    DataError::Config(format!(
                        "the recipe needs a file for {written}: give --set {name}=FILE"
                    ))
                })?;
                used.insert(name.to_owned());
            }
            if !inputs.contains(path) {
                inputs.push(path.clone());
            }
        }
        match files.keys().find(|name| !used.contains(*name)) {
            Some(name) => Err(DataError::Config(format!(
                "a file is given for {{{name}}}, which the recipe does not use"
            ))),
            None => Ok(inputs),
        }
    }

    /// The storms' grid is that of `[grid]`; a second, different one would be silently lost.
    fn check_storm_grid(&self, text: &str) -> Result<()> {
        let table: toml::Table = text
            .parse()
            .map_err(|e| DataError::Config(one_line(text, &e)))?;
        let storms = table
            .get("rain")
            .and_then(|rain| rain.get("storms"))
            .and_then(|storms| storms.as_table());
        match storms.and_then(|s| {
            ["height", "width", "cell_km", "frame_s"]
                .into_iter()
                .find(|key| s.contains_key(*key))
        }) {
            Some(key) => Err(DataError::Config(format!(
                "rain.storms.{key} follows from [grid] and cannot be set"
            ))),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        let grid = &self.grid;
        let fail = |reason: String| Err(reason);
        if grid.rain_ratio == 0
            || grid
                .shape
                .iter()
                .any(|&cells| cells == 0 || cells % grid.rain_ratio != 0)
        {
            return fail(format!(
                "grid.shape {:?} must be multiples of grid.rain_ratio {}",
                grid.shape, grid.rain_ratio
            ));
        }
        for (name, value) in [
            ("grid.cell_size_m", grid.cell_size_m),
            ("grid.frame_s", grid.frame_s),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return fail(format!("{name} is {value}, it must be positive"));
            }
        }
        self.sample.check(grid.frame_s)?;
        if self.output.gzip_level > 9 {
            return fail(format!(
                "output.gzip_level is {}, it must be 0 to 9",
                self.output.gzip_level
            ));
        }
        let mut names = BTreeSet::new();
        for terrain in &self.terrain {
            let name = &terrain.name;
            if name.is_empty()
                || !name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            {
                return fail(format!(
                    "terrain name '{name}' must be made of letters, digits, '-' and '_'"
                ));
            }
            if !names.insert(name) {
                return fail(format!("two terrains are named '{name}'"));
            }
            if terrain.synthetic.is_some() == terrain.file.is_some() {
                return fail(format!(
                    "terrain '{name}' must have either synthetic = {{…}} or file = {{…}}"
                ));
            }
        }
        if let RainRecipe::Stream(stream) = &self.rain {
            stream.check()?;
            if let (true, Some(terrain)) = (
                stream.is_placed(),
                self.terrain
                    .iter()
                    .find(|t| t.file.as_ref().is_none_or(|file| file.r#box.is_none())),
            ) {
                return fail(format!(
                    "rain.stream: without rows and columns rain falls where the terrain lies, so terrain '{}' needs file = {{ …, box = … }}",
                    terrain.name
                ));
            }
        }
        for file in self.terrain.iter().filter_map(|t| t.file.as_ref()) {
            file.place(grid).map_err(|e| e.to_string())?;
        }
        let (seen, unseen) = self.terrains_by_kind();
        let split = &self.split;
        if seen * (split.train + split.validation + split.test) + unseen * split.unseen == 0 {
            return fail("the recipe asks for no events: see [split] and [[terrain]]".into());
        }
        if unseen > 0 && split.unseen == 0 {
            return fail("a terrain is unseen but split.unseen asks for no events over it".into());
        }
        Ok(())
    }

    /// Number of terrains seen in training, and never seen.
    fn terrains_by_kind(&self) -> (usize, usize) {
        let unseen = self.terrain.iter().filter(|t| t.unseen).count();
        (self.terrain.len() - unseen, unseen)
    }

    /// The events in shard order: terrain by terrain; training, validation and test events in turn.
    pub fn events(&self) -> Result<Vec<Event>> {
        let split = &self.split;
        let mut events = Vec::new();
        for (terrain, recipe) in self.terrain.iter().enumerate() {
            let counts: &[(Split, usize)] = if recipe.unseen {
                &[(Split::TestTerrain, split.unseen)]
            } else {
                &[
                    (Split::Train, split.train),
                    (Split::Validation, split.validation),
                    (Split::TestStorms, split.test),
                ]
            };
            let mut storm = 0;
            for &(split, count) in counts {
                for _ in 0..count {
                    events.push(Event {
                        terrain,
                        storm,
                        split,
                        window: None,
                        after_s: None,
                        until_s: None,
                    });
                    storm += 1;
                }
            }
        }
        if let RainRecipe::Stream(stream) = &self.rain {
            stream.deal(self.grid.rain_shape(), &mut events)?;
        }
        Ok(events)
    }
}

/// Which part of a dataset an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// Training.
    Train,
    /// Validation: unseen storms over known terrain, for choices during training.
    Validation,
    /// Test: unseen storms over known terrain.
    TestStorms,
    /// Test: terrain never seen in training.
    TestTerrain,
}

impl Split {
    /// The name that stands in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::TestStorms => "test_storms",
            Self::TestTerrain => "test_terrain",
        }
    }
}

/// One event: a storm over a terrain.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Index of the terrain in the recipe.
    pub terrain: usize,
    /// Number of the storm over this terrain, from 0.
    pub storm: usize,
    /// The split.
    pub split: Split,
    /// North-western corner of the event's window in a radar stream, in cells; `None` where the rain falls where the terrain
    /// lies, and for synthetic storms.
    pub window: Option<[usize; 2]>,
    /// Only radar frames that end after this time, seconds since 1970.
    pub after_s: Option<i64>,
    /// Only radar frames that end at this time or before it.
    pub until_s: Option<i64>,
}

/// The parser's complaint in one line, with the nearest known key where one is unknown.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    let line = error.span().map_or(String::new(), |span| {
        format!("line {}: ", text[..span.start].matches('\n').count() + 1)
    });
    let mut quoted = message.split('`').skip(1).step_by(2);
    let hint = message
        .starts_with("unknown")
        .then(|| {
            let unknown = quoted.next()?;
            let near = quoted.max_by(|a, b| {
                strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b))
            })?;
            Some(format!(
                "{line}unknown key `{unknown}`; the nearest known one is `{near}`"
            ))
        })
        .flatten();
    hint.unwrap_or(format!("{line}{message}"))
}

/// A file by its content; of a folder, which may hold years of radar, the names and sizes of its files.
fn hash_file(hash: &mut Sha256, path: &Path) -> Result<()> {
    if path.is_dir() {
        let failed = |e| DataError::io("read", path, e);
        let mut entries = fs::read_dir(path)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            hash.update(entry.file_name().as_encoded_bytes());
            hash.update([0]);
            let metadata = fs::metadata(entry.path()).map_err(failed)?;
            if metadata.is_dir() {
                hash_file(hash, &entry.path())?;
            } else {
                hash.update(metadata.len().to_le_bytes());
            }
        }
        return Ok(());
    }
    hash.update(sha256_of_file(path)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pluvial_hydro::{Infiltration, Parameter};

    const SMALL: &str = r#"
        [grid]
        shape = [12, 20]
        cell_size_m = 500.0
        rain_ratio = 2

        [[terrain]]
        name = "a"
        synthetic = {}

        [[terrain]]
        name = "b"
        unseen = true
        synthetic = { relief_m = 50.0 }

        [rain.storms]
        duration_h = 6.0

        [split]
        train = 2
        validation = 1
        test = 1
        unseen = 3
    "#;

    fn parse(text: &str) -> Result<BoundRecipe> {
        BoundRecipe::parse(text, "test".into(), &BTreeMap::new())
    }

    fn complaint(from: &str, to: &str) -> String {
        assert!(SMALL.contains(from));
        parse(&SMALL.replacen(from, to, 1)).unwrap_err().to_string()
    }

    #[test]
    fn events_follow_terrains_and_splits() {
        let recipe = parse(SMALL).unwrap().recipe;
        let events: Vec<_> = recipe
            .events()
            .unwrap()
            .iter()
            .map(|e| (e.terrain, e.storm, e.split.name()))
            .collect();
        let expected = [
            (0, 0, "train"),
            (0, 1, "train"),
            (0, 2, "validation"),
            (0, 3, "test_storms"),
            (1, 0, "test_terrain"),
            (1, 1, "test_terrain"),
            (1, 2, "test_terrain"),
        ];
        assert_eq!(events, expected);
        assert_eq!(recipe.grid.rain_shape(), [6, 10]);
    }

    #[test]
    fn the_hash_follows_the_text() {
        assert_eq!(parse(SMALL).unwrap().sha256, parse(SMALL).unwrap().sha256);
        assert_ne!(
            parse(SMALL).unwrap().sha256,
            parse(&SMALL.replace("50.0", "51.0")).unwrap().sha256
        );
    }

    #[test]
    fn mistakes_are_named_in_one_line() {
        assert_eq!(
            complaint("rain_ratio", "rain_ration"),
            "line 5: unknown key `rain_ration`; the nearest known one is `rain_ratio`"
        );
        assert_eq!(
            complaint("relief_m", "relief"),
            "line 14: unknown key `relief`; the nearest known one is `relief_m`"
        );
        assert_eq!(
            complaint("duration_h = 6.0", "height = 7"),
            "rain.storms.height follows from [grid] and cannot be set"
        );
        assert!(
            complaint("[12, 20]", "[12, 21]").contains("must be multiples of grid.rain_ratio 2")
        );
        assert!(complaint("\"b\"", "\"a\"").contains("two terrains are named 'a'"));
        assert!(complaint("synthetic = {}", "").contains("either synthetic"));
        let leak = complaint("[rain.storms]", "[sample]\nwater_offset = 0\n[rain.storms]");
        assert!(leak.contains("water_offset must be at least 1"), "{leak}");
    }

    #[test]
    fn windows_of_a_stream_are_disjoint_and_stay_in_their_area() {
        let area = |rows, columns| StreamArea {
            rows: Some(rows),
            columns: Some(columns),
            ..StreamArea::default()
        };
        assert_eq!(
            area([0, 13], [4, 25]).windows([6, 10]),
            Some(vec![[0, 4], [0, 14], [6, 4], [6, 14]])
        );
        let stream = r#"[rain.stream]
            path = "{rain}"
            timestamps = "{times}"
            train = [{ rows = [0, 6], columns = [0, 20] }, { rows = [60, 74], columns = [0, 20] }]
            validation = [{ rows = [20, 30], columns = [0, 20] }]
            test = [{ rows = [30, 60], columns = [0, 30] }]
        "#;
        let text = SMALL.replacen("[rain.storms]\n        duration_h = 6.0", stream, 1);
        let mut recipe: Recipe = toml::from_str(&text).unwrap();
        recipe.check().unwrap();
        let events = recipe.events().unwrap();
        for (i, event) in events.iter().enumerate() {
            assert!(events[..i].iter().all(|other| other.window != event.window));
        }
        let windows: Vec<_> = events.iter().map(|e| e.window.unwrap()).collect();
        assert_eq!(windows[..3], [[0, 0], [60, 10], [20, 0]]);
        assert!(windows[3..].iter().all(|[row, _]| (30..60).contains(row)));
        assert!(
            parse(&text)
                .unwrap_err()
                .to_string()
                .contains("give --set rain=FILE")
        );
        recipe.split.train = 9;
        assert!(
            recipe
                .events()
                .unwrap_err()
                .to_string()
                .contains("6 windows")
        );
        let overlap: Recipe = toml::from_str(&text.replace("[20, 30]", "[19, 31]")).unwrap();
        assert!(
            overlap
                .check()
                .unwrap_err()
                .contains("areas of validation and test overlap")
        );
    }

    #[test]
    fn infiltration_of_every_kind_is_read() {
        let read =
            |text: &str| toml::from_str::<GroundConfig>(text).map(|hydro| hydro.infiltration);
        assert_eq!(read("").unwrap(), Infiltration::None);
        assert_eq!(
            read("infiltration.constant.mm_per_h = 2").unwrap(),
            Infiltration::Constant { mm_per_h: 2.0 }
        );
        let loam = "[infiltration.green_ampt]\nconductivity_mm_per_h = 10.9\nsuction_head_mm = 110\nmoisture_deficit = 0.25";
        assert_eq!(
            read(loam).unwrap(),
            Infiltration::GreenAmpt {
                conductivity_mm_per_h: Parameter::Uniform(10.9),
                suction_head_mm: Parameter::Uniform(110.0),
                moisture_deficit: Parameter::Uniform(0.25),
            }
        );
        assert!(read("infiltration.constant.m_per_h = 2").is_err());
    }
}
