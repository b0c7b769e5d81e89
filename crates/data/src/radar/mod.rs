//! Rainfall as a stream of timed frames, whatever it comes from.
//!
//! A [`RadarSource`] hands out what a file has: frames in time order with their position, missing cells, gaps and all; [`open`]
//! makes one of any file or folder that it knows. [`Events`] makes events of them, which a simulation can take: a constant
//! interval, no gaps, no missing cells, on one grid. Every source holds a few frames at a time, however long its series.

pub mod ascii_stream;
pub mod events;
pub mod storms;
pub mod time;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use ndarray::Array2;

use crate::error::{DataError, Result};
use crate::file;
use crate::grid::GeoGrid;

pub use ascii_stream::AsciiStream;
pub use events::{EventConfig, Events, LongGap, MissingCells, Region, Window};

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

/// How a source is opened; what a format does not need is an error where it is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpenOptions {
    /// Text file with the end of each frame as `YYYYMMDDhhmm` a line, for a stream of ESRI ASCII grids.
    pub timestamps: Option<PathBuf>,
}

/// Opens a source of radar frames; the format is recognised by its content.
///
/// # Errors
/// [`DataError`] where the source cannot be read or is none of the known formats, or an option does not belong to it.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn RadarSource>> {
    let mut reader = file::open(path)?;
    let start = reader
        .fill_buf()
        .map_err(|e| DataError::io("read", path, e))?;
    match start.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(byte) if byte.is_ascii_alphabetic() => Ok(Box::new(AsciiStream::open(
            path,
            options.timestamps.as_deref(),
        )?)),
        _ => Err(DataError::format(path, "no known format of radar data")),
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
