//! Radar as `nimrod-data-downloader` writes it: JSON lines, plain or gzip, an object a frame, `{"data": [[mm/h, …], …],
//! "timestamp": "2006-01-01T00:00:00.000Z", …}`.
//!
//! How the rows of `data` lie is not in the file, and what is known of it differs, so [`Orientation`] must be given:
//!
//! * its README says that `data` is turned by 90° clockwise and must be turned back (`rotated`);
//! * its source (versions 1.0 to 1.3, function `ExtractArea`) writes a part of the map column by column, the western one first and
//!   each from north to south, which is a transposition (`transposed`): undone by turning, the map would stand upside down;
//! * from version 1.3 on, without an area to extract, the rows are those of the Nimrod file (`north_up`).
//!
//! Compare a frame with a map of the coast or with the Nimrod file of the same time before choosing.
//!
//! Two more things that its data cannot tell: it writes missing cells as 0, and it takes the times of the Nimrod headers for local
//! times of the machine that it ran on, so that where that was in Britain, times in summer are an hour early.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::time::parse_time;
use super::{RadarFrame, RadarSource};
use crate::error::{DataError, Result};
use crate::grid::GeoGrid;
use crate::{bng, file};

/// Longer lines are taken for damaged: the composite of the whole United Kingdom has 3.75 million cells.
const MAX_LINE: u64 = 1 << 28;

/// How the rows of `data` lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orientation {
    /// As on a map.
    NorthUp,
    /// Turned by 90° clockwise; turned back when read.
    Rotated,
    /// `data[column][row]`.
    Transposed,
}

/// JSON lines as a [`RadarSource`].
pub struct JsonLines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    orientation: Orientation,
    line: usize,
}

/// What is read of a line; the names are those of its writer.
#[derive(Deserialize)]
struct Line {
    data: Vec<Vec<Option<f32>>>,
    timestamp: Option<String>,
    /// Data time and validity time; `timestamp` is the latter.
    timestamps: Option<Vec<Option<String>>>,
    size_full: Option<Size>,
    bounds_full: Option<Bounds>,
    bounds_extract_array: Option<Part>,
}

/// The writer calls the number of rows of the Nimrod file its width.
#[derive(Deserialize)]
struct Size {
    width: usize,
    height: usize,
}

#[derive(Deserialize)]
struct Bounds {
    top: f64,
    bottom: f64,
    left: f64,
    right: f64,
}

/// Rows (`x`) and columns (`y`) of the Nimrod file that were extracted.
#[derive(Deserialize)]
struct Part {
    start: Corner,
    end: Corner,
}

#[derive(Deserialize)]
struct Corner {
    x: usize,
    y: usize,
}

impl JsonLines {
    /// Opens a file.
    ///
    /// # Errors
    /// [`DataError::Io`] where it cannot be opened.
    pub fn open(path: &Path, orientation: Orientation) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            reader: file::open(path)?,
            orientation,
            line: 0,
        })
    }

    fn frame(&self, line: Line) -> Result<RadarFrame, String> {
        let times = line.timestamps.unwrap_or_default();
        let end_s = [line.timestamp, times.into_iter().nth(1).flatten()]
            .into_iter()
            .flatten()
            .find_map(|text| parse_time(&text))
            .ok_or("neither timestamp nor timestamps[1] is a time")?;
        let (height, width) = (line.data.len(), line.data.first().map_or(0, Vec::len));
        if let Some(row) = line.data.iter().position(|row| row.len() != width) {
            return Err(format!(
                "row {row} of data has {} values, the first has {width}",
                line.data[row].len()
            ));
        }
        if height == 0 || width == 0 {
            return Err("data is empty".into());
        }
        let values: Vec<f32> = line
            .data
            .into_iter()
            .flatten()
            .map(|rate| rate.unwrap_or(f32::NAN))
            .collect();
        if values.iter().any(|rate| rate.is_infinite()) {
            return Err("a rain rate is infinite".into());
        }
        let mut data =
            Array2::from_shape_vec((height, width), values).map_err(|e| e.to_string())?;
        match self.orientation {
            Orientation::NorthUp => {}
            Orientation::Rotated => {
                data.swap_axes(0, 1);
                data.invert_axis(Axis(0));
            }
            Orientation::Transposed => data.swap_axes(0, 1),
        }
        data.mapv_inplace(|rate| if rate >= 0.0 { rate } else { f32::NAN });
        let data = data.as_standard_layout().into_owned();
        Ok(RadarFrame {
            end_s: Some(end_s),
            duration_s: None,
            rain_mm_per_h: place(
                data,
                line.size_full,
                line.bounds_full,
                line.bounds_extract_array,
            ),
        })
    }
}

impl RadarSource for JsonLines {
    fn next_frame(&mut self) -> Result<Option<RadarFrame>> {
        loop {
            self.line += 1;
            let error = |reason: String| {
                DataError::format(&self.path, format!("line {}: {reason}", self.line))
            };
            let mut text = Vec::new();
            self.reader
                .by_ref()
                .take(MAX_LINE)
                .read_until(b'\n', &mut text)
                .map_err(|e| DataError::io("read", &self.path, e))?;
            if text.is_empty() {
                return Ok(None);
            }
            if text.len() as u64 == MAX_LINE {
                return Err(error("it is too long for a frame".into()));
            }
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let line = serde_json::from_slice(&text).map_err(|e| error(e.to_string()))?;
            return self.frame(line).map(Some).map_err(error);
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// The data where the file says enough to place them: which cells of the full map they are. Its `bounds_extract` do not say it:
/// easting and northing were swapped when the cells were looked up.
fn place(
    data: Array2<f32>,
    size: Option<Size>,
    bounds: Option<Bounds>,
    part: Option<Part>,
) -> GeoGrid {
    let (height, width) = data.dim();
    let nowhere = |data| GeoGrid::new(data, 0.0, height as f64, 1.0);
    let (Some(size), Some(bounds)) = (size, bounds) else {
        return nowhere(data);
    };
    let (rows, columns) = (size.width, size.height);
    let (row, column) = match part {
        Some(part)
            if part.start.x.checked_add(height) == Some(part.end.x)
                && part.start.y.checked_add(width) == Some(part.end.y)
                && part.end.x <= rows
                && part.end.y <= columns =>
        {
            (part.start.x, part.start.y)
        }
        None if (height, width) == (rows, columns) => (0, 0),
        _ => return nowhere(data),
    };
    let cell_y = (bounds.top - bounds.bottom) / rows as f64;
    let cell_x = (bounds.right - bounds.left) / columns as f64;
    if !(cell_x > 0.0 && (cell_x / cell_y - 1.0).abs() < 1e-3) {
        return nowhere(data);
    }
    GeoGrid {
        data,
        west: bounds.left + cell_x * column as f64,
        north: bounds.top - cell_y * row as f64,
        cell_x,
        cell_y,
        crs: Some(bng::CRS.into()),
    }
}
