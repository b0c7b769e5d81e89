//! The part of a recipe that takes rain from radar.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::{Event, Split};
use crate::error::{DataError, Result};
use crate::radar::time::{format_time, parse_time};
use crate::radar::{MissingCells, OnBadFile, OpenOptions, Orientation};

/// Radar of any format that [`radar::open`](crate::radar::open) knows, cut into events that share no rain: by place into windows
/// of the rain grid's size, by time into periods, or both.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamRecipe {
    /// File or folder of radar data; usually a `{placeholder}`.
    pub path: PathBuf,
    /// Times of the frames of a stream of ESRI ASCII grids, `YYYYMMDDhhmm` a line; usually a `{placeholder}`. Default: none, the
    /// frames follow each other without a gap.
    pub timestamps: Option<PathBuf>,
    /// Raster of the rain zones of a rain table; usually a `{placeholder}`.
    pub hydroindex: Option<PathBuf>,
    /// Number from 1 of the zone of a rain table that falls everywhere.
    pub zone: Option<usize>,
    /// How the rows of JSON lines lie.
    pub orientation: Option<Orientation>,
    /// What to do about damaged files: `stop` (the default) or `skip`.
    #[serde(default)]
    pub on_bad_file: OnBadFile,
    /// Factor on the rain rate. Default 1.
    #[serde(default = "one")]
    pub scale: f64,
    /// Higher rates of the radar, in mm/h, become this rate. Default 400.
    #[serde(default = "highest")]
    pub max_mm_per_h: f32,
    /// What to do about missing cells in the windows: `stop` (the default), `dry` or `gap`.
    #[serde(default)]
    pub missing: MissingCells,
    /// Minutes without frames that are filled by interpolation. Default 15; a longer gap is an error.
    #[serde(default = "fifteen")]
    pub max_gap_min: f64,
    /// Hours without rain that are simulated after the event's end. Default 0.
    #[serde(default)]
    pub dry_after_h: f64,
    /// Areas of the radar that training events are cut from.
    #[serde(default)]
    pub train: Vec<StreamArea>,
    /// Areas for the validation events.
    #[serde(default)]
    pub validation: Vec<StreamArea>,
    /// Areas for the test events, unseen terrains included.
    #[serde(default)]
    pub test: Vec<StreamArea>,
}

fn one() -> f64 {
    1.0
}

fn highest() -> f32 {
    400.0
}

fn fifteen() -> f64 {
    15.0
}

/// A part of the radar's map, of its time, or of both. Without rows and columns the rain falls where the terrain lies: every
/// event over a terrain takes an area of its own then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamArea {
    /// Rows, counted from the north, the first and one past the last.
    pub rows: Option<[usize; 2]>,
    /// Columns, counted from the west, the first and one past the last.
    pub columns: Option<[usize; 2]>,
    /// Start of the rain, `YYYY-MM-DDThh:mm` UTC, as seconds since 1970. Default: the radar's first frame.
    #[serde(default, deserialize_with = "time")]
    pub from: Option<i64>,
    /// End of the rain. Default: the radar's last frame.
    #[serde(default, deserialize_with = "time")]
    pub until: Option<i64>,
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_time(&text).map(Some).ok_or_else(|| {
        serde::de::Error::custom(format!("'{text}' is no time of the form YYYY-MM-DDThh:mm"))
    })
}

impl StreamArea {
    /// North-western corners of the windows of `shape` that tile the area, row by row; `None` for an area without rows and columns.
    pub fn windows(&self, [height, width]: [usize; 2]) -> Option<Vec<[usize; 2]>> {
        let (rows, columns) = (self.rows?, self.columns?);
        let starts = |[first, end]: [usize; 2], step: usize| {
            (0..end.saturating_sub(first) / step).map(move |i| first + i * step)
        };
        let windows =
            starts(rows, height).flat_map(|r| starts(columns, width).map(move |c| [r, c]));
        Some(windows.collect())
    }

    /// Whether both may hold the same rain.
    fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: Option<[usize; 2]>, b: Option<[usize; 2]>| match (a, b) {
            (Some(a), Some(b)) => a[0] < b[1] && b[0] < a[1],
            _ => true,
        };
        let begins_before =
            |a: &Self, b: &Self| a.from.unwrap_or(i64::MIN) < b.until.unwrap_or(i64::MAX);
        meet(self.rows, other.rows)
            && meet(self.columns, other.columns)
            && begins_before(self, other)
            && begins_before(other, self)
    }
}

impl StreamRecipe {
    /// The areas of every split, with its name.
    fn areas(&self) -> impl Iterator<Item = (&'static str, &StreamArea)> {
        [
            ("train", &self.train),
            ("validation", &self.validation),
            ("test", &self.test),
        ]
        .into_iter()
        .flat_map(|(name, areas)| areas.iter().map(move |area| (name, area)))
    }

    /// Whether rain falls where the terrain lies.
    pub fn is_placed(&self) -> bool {
        self.areas().any(|(_, area)| area.rows.is_none())
    }

    /// How the radar is opened for the frames of an event.
    pub fn open_options(&self, event: &Event) -> OpenOptions {
        OpenOptions {
            timestamps: self.timestamps.clone(),
            hydroindex: self.hydroindex.clone(),
            zone: self.zone,
            orientation: self.orientation,
            start: None,
            after_s: event.after_s,
            until_s: event.until_s,
            on_bad_file: self.on_bad_file,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (name, value, valid) in [
            ("scale", self.scale, self.scale > 0.0),
            (
                "max_mm_per_h",
                self.max_mm_per_h.into(),
                self.max_mm_per_h > 0.0,
            ),
        ] {
            if !(value.is_finite() && valid) {
                return Err(format!(
                    "rain.stream.{name} is {value}, it must be positive"
                ));
            }
        }
        if !(self.dry_after_h.is_finite() && self.dry_after_h >= 0.0) {
            return Err(format!(
                "rain.stream.dry_after_h is {}, it must not be negative",
                self.dry_after_h
            ));
        }
        let areas: Vec<_> = self.areas().collect();
        for (i, (name, area)) in areas.iter().enumerate() {
            if area.rows.is_some() != area.columns.is_some()
                || area.rows.is_some() != areas[0].1.rows.is_some()
            {
                return Err(format!(
                    "rain.stream.{name}: either every area has rows and columns, or none has"
                ));
            }
            if let (Some(from), Some(until)) = (area.from, area.until)
                && from >= until
            {
                return Err(format!(
                    "rain.stream.{name}: from {} until {} is no time",
                    format_time(from),
                    format_time(until)
                ));
            }
            if let Some((other, _)) = areas[..i].iter().find(|(_, other)| area.overlaps(other)) {
                return Err(format!(
                    "rain.stream: areas of {other} and {name} overlap, so events would share rain"
                ));
            }
        }
        Ok(())
    }

    /// Gives every event rain of its own. Windows, `shape` rain cells each, are spread evenly over the areas of the event's
    /// split; where rain falls where the terrain lies, the events over a terrain take the areas of their split in turn.
    pub(super) fn deal(&self, shape: [usize; 2], events: &mut [Event]) -> Result<()> {
        for (name, areas, splits) in [
            ("train", &self.train, &[Split::Train][..]),
            ("validation", &self.validation, &[Split::Validation]),
            ("test", &self.test, &[Split::TestStorms, Split::TestTerrain]),
        ] {
            let slots: Vec<_> = areas
                .iter()
                .flat_map(|area| match area.windows(shape) {
                    Some(windows) => windows.into_iter().map(|w| (Some(w), area)).collect(),
                    None => vec![(None, area)],
                })
                .collect();
            let mut takers: Vec<_> = events
                .iter_mut()
                .filter(|e| splits.contains(&e.split))
                .collect();
            // Storm by storm, so that the terrains get windows from all over the areas.
            takers.sort_by_key(|event| (event.storm, event.terrain));
            let count = takers.len();
            // Where the terrains decide on the place, they share the times.
            let mut taken = vec![0; takers.iter().map(|e| e.terrain + 1).max().unwrap_or(0)];
            for (i, event) in takers.into_iter().enumerate() {
                let (needed, slot) = if self.is_placed() {
                    let ordinal = taken[event.terrain];
                    taken[event.terrain] += 1;
                    (ordinal + 1, ordinal)
                } else {
                    (count, i * slots.len() / count)
                };
                let enough = needed <= slots.len();
                let Some((window, area)) = slots.get(slot).filter(|_| enough) else {
                    return Err(DataError::Config(if self.is_placed() {
                        format!(
                            "rain.stream.{name}: {} areas are too few for the events over a terrain, which need one each",
                            slots.len()
                        )
                    } else {
                        format!(
                            "rain.stream.{name}: the areas hold {} windows of {shape:?} cells, {count} events need one each",
                            slots.len()
                        )
                    }));
                };
                event.window = *window;
                event.after_s = area.from;
                event.until_s = area.until;
            }
        }
        Ok(())
    }
}
