//! Rainfall as a stream of timed frames, whatever it comes from.
//!
//! A [`RadarSource`] hands out what a file has: frames in time order with their position, missing cells, gaps and all; [`open`]
//! makes one of any file or folder that it knows. [`Events`] makes events of them, which a simulation can take: a constant
//! interval, no gaps, no missing cells, on one grid. Every source holds a few frames at a time, however long its series.

pub mod ascii_stream;
pub mod events;
pub mod files;
pub mod json_lines;
pub mod nimrod;
pub mod storms;
pub mod time;
pub mod write;
pub mod zones;

use std::path::{Path, PathBuf};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::file;
use crate::grid::GeoGrid;

pub use ascii_stream::AsciiStream;
pub use events::{EventConfig, Events, LongGap, MissingCells, Region, Window};
pub use files::Files;
pub use json_lines::{JsonLines, Orientation};
pub use write::{FrameFormat, FrameWriter};
pub use zones::ZoneTable;

/// One frame as the source has it.
#[derive(Debug, Clone, PartialEq)]
pub struct RadarFrame {
    /// End of the frame in seconds since 1970-01-01 00:00 UTC; `None` where the source has no clock: its frames follow each
    /// other without a gap.
    pub end_s: Option<i64>,
    /// Seconds that the rate is a mean over; `None` where the source does not say.
    pub duration_s: Option<f64>,
    /// Rain rate, mm/h, never negative; NaN where there is no measurement. A source without a position has one of 0, 0 and
    /// cells of size 1.
    pub rain_mm_per_h: GeoGrid,
}

/// A stream of radar frames in time order, with the gaps and the missing cells that it has.
pub trait RadarSource: Send {
    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// What the source meets while reading, with the name of the file.
    fn next_frame(&mut self) -> Result<Option<RadarFrame>>;

    /// The file or folder, for messages.
    fn path(&self) -> &Path;

    /// Damaged files that were passed over so far.
    fn skipped_files(&self) -> u64 {
        0
    }
}

/// How a source is opened. An option that does not belong to the source's format is an error.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpenOptions {
    /// Text file with the end of each frame as `YYYYMMDDhhmm` a line, for a stream of ESRI ASCII grids.
    pub timestamps: Option<PathBuf>,
    /// Raster with the number of every cell's rain zone, for a rain table. Without one the rain is uniform.
    pub hydroindex: Option<PathBuf>,
    /// Number from 1 of the zone of a rain table that falls everywhere, in the place of a hydroindex.
    pub zone: Option<usize>,
    /// How the rows lie, for JSON lines, which need it.
    pub orientation: Option<Orientation>,
    /// Start of the first frame in seconds since 1970 and seconds of a frame, for sources that have no clock.
    pub start: Option<(i64, f64)>,
    /// Only frames that end after this time, seconds since 1970: files that their names place before it are not read.
    pub after_s: Option<i64>,
    /// Only frames that end at this time or before it.
    pub until_s: Option<i64>,
    /// What to do about damaged files. Default: stop.
    pub on_bad_file: OnBadFile,
}

/// What to do about a file that is damaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadFile {
    /// It is an error.
    #[default]
    Stop,
    /// It is passed over; [`RadarSource::skipped_files`] tells how many there were.
    Skip,
}

/// Opens a source of radar frames. The format is recognised by the content:
///
/// * a folder, a Nimrod file, a tar archive or a GeoTIFF: [`Files`];
/// * text that begins with a letter: a stream of ESRI ASCII grids ([`AsciiStream`]);
/// * with a number: a rain table ([`ZoneTable`]);
/// * with a brace: JSON lines ([`JsonLines`]).
///
/// Single files may be gzip.
///
/// # Errors
/// [`DataError`] where the source cannot be read or is none of the known formats, or an option does not belong to it.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn RadarSource>> {
    let between = (
        options.after_s.unwrap_or(i64::MIN),
        options.until_s.unwrap_or(i64::MAX),
    );
    let head = if path.is_dir() {
        None
    } else {
        let peeked = file::peek(file::open(path)?, 512);
        Some(peeked.map_err(|e| DataError::io("read", path, e))?.0)
    };
    let first = head
        .iter()
        .flatten()
        .find(|byte| !byte.is_ascii_whitespace());
    let is_files = head.as_deref().is_none_or(files::is_known);
    let is_ascii = !is_files && first.is_some_and(u8::is_ascii_alphabetic);
    let is_table = !is_files && first.is_some_and(|b| b.is_ascii_digit() || b"+-.".contains(b));
    let is_json = !is_files && first == Some(&b'{');
    for (name, given, belongs) in [
        ("timestamps", options.timestamps.is_some(), is_ascii),
        ("hydroindex", options.hydroindex.is_some(), is_table),
        ("zone", options.zone.is_some(), is_table),
        ("orientation", options.orientation.is_some(), is_json),
        (
            "start",
            options.start.is_some(),
            is_table || (is_ascii && options.timestamps.is_none()),
        ),
    ] {
        if given && !belongs {
            return Err(DataError::format(
                path,
                format!("{name} is given, which this kind of radar data does not take"),
            ));
        }
    }
    if is_files {
        return Ok(Box::new(Files::open(path, between, options.on_bad_file)?));
    }
    let source: Box<dyn RadarSource> = if is_ascii {
        Box::new(AsciiStream::open(path, options.timestamps.as_deref())?)
    } else if is_table {
        Box::new(ZoneTable::open(
            path,
            options.hydroindex.as_deref(),
            options.zone,
        )?)
    } else if is_json {
        let orientation = options.orientation.ok_or_else(|| {
            DataError::format(
                path,
                "JSON lines do not say how their rows lie: give an orientation, rotated (by 90° clockwise, as the README of \
                 nimrod-data-downloader says), transposed (as its source does where it cuts out an area) or north_up",
            )
        })?;
        Box::new(JsonLines::open(path, orientation)?)
    } else {
        return Err(DataError::format(
            path,
            "not radar data: neither Nimrod, a tar archive of it, GeoTIFF, ESRI ASCII grids, a rain table nor JSON lines",
        ));
    };
    let whole = options.start.is_none() && between == (i64::MIN, i64::MAX);
    Ok(if whole {
        source
    } else {
        Box::new(Clocked {
            source,
            start: options.start,
            frames: 0,
            between,
        })
    })
}

/// A source with the times that it lacks, and without the frames that are not wanted.
struct Clocked {
    source: Box<dyn RadarSource>,
    start: Option<(i64, f64)>,
    frames: u64,
    between: (i64, i64),
}

impl RadarSource for Clocked {
    fn next_frame(&mut self) -> Result<Option<RadarFrame>> {
        while let Some(mut frame) = self.source.next_frame()? {
            self.frames += 1;
            if let Some((start_s, frame_s)) = self.start {
                frame.end_s = Some(start_s + (self.frames as f64 * frame_s).round() as i64);
            }
            let Some(end_s) = frame.end_s else {
                return Err(DataError::format(
                    self.path(),
                    "frames of certain times are wanted, and its frames have none: give a start",
                ));
            };
            // Frames come in time order.
            if end_s > self.between.1 {
                break;
            }
            if end_s > self.between.0 {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn path(&self) -> &Path {
        self.source.path()
    }

    fn skipped_files(&self) -> u64 {
        self.source.skipped_files()
    }
}

/// Rain over one frame of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct RainFrame {
    /// End of the frame in seconds since the start of the event; the rate holds for the frame before it.
    pub end_s: f64,
    /// `[height, width]`: mean rain rate over the frame, mm/h; finite and not negative.
    pub rain_mm_per_h: Array2<f32>,
}

/// A stream of rain frames of one event, in time order, at a constant interval and without gaps.
pub trait RainSource {
    /// The next frame; `None` when the event is over.
    ///
    /// # Errors
    /// What the source meets while reading, and gaps it may not fill.
    fn next_frame(&mut self) -> Result<Option<RainFrame>>;

    /// Seconds that a frame lasts.
    fn frame_s(&self) -> f64;

    /// Rows and columns of every frame.
    fn shape(&self) -> (usize, usize);
}
