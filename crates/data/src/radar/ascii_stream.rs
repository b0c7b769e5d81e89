//! Real radar as a stream of ESRI ASCII grids, one a frame, plain or gzip, with an optional file of timestamps.

use std::path::{Path, PathBuf};

use super::time::parse_time;
use super::{RadarFrame, RadarSource};
use crate::error::{DataError, Result};
use crate::file;
use crate::raster::esri_ascii::Grids;

/// A stream of grids in mm/h. No-data and negative values are missing.
pub struct AsciiStream {
    path: PathBuf,
    grids: Grids,
    /// Seconds since 1970 of every grid's end.
    times_s: Option<Vec<i64>>,
    /// Grids read.
    count: usize,
}

impl AsciiStream {
    /// Opens a stream. The file of timestamps has a line for each grid: the end of its frame as `YYYYMMDDhhmm`, with or without
    /// seconds and separators. Without one the frames have no time: they follow each other without a gap.
    ///
    /// # Errors
    /// [`DataError`] where a file cannot be read or a line of the timestamps is no time.
    pub fn open(path: &Path, timestamps: Option<&Path>) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            grids: Grids::open(path)?,
            times_s: timestamps.map(read_timestamps).transpose()?,
            count: 0,
        })
    }

    fn error(&self, reason: String) -> DataError {
        DataError::format(&self.path, reason)
    }
}

impl RadarSource for AsciiStream {
    fn next_frame(&mut self) -> Result<Option<RadarFrame>> {
        let Some(mut rain_mm_per_h) = self.grids.next().transpose()? else {
            if let Some(times) = &self.times_s
                && times.len() != self.count
            {
                return Err(self.error(format!(
                    "the stream has {} grids and the timestamps {} lines",
                    self.count,
                    times.len()
                )));
            }
            return Ok(None);
        };
        let index = self.count;
        self.count += 1;
        let end_s = match &self.times_s {
            Some(times) => Some(*times.get(index).ok_or_else(|| {
                self.error(format!(
                    "grid {index} has no timestamp: there are {}",
                    times.len()
                ))
            })?),
            None => None,
        };
        rain_mm_per_h
            .data
            .mapv_inplace(|rate| if rate >= 0.0 { rate } else { f32::NAN });
        Ok(Some(RadarFrame {
            end_s,
            duration_s: None,
            rain_mm_per_h,
        }))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Seconds since 1970-01-01 of every line.
fn read_timestamps(path: &Path) -> Result<Vec<i64>> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut file::open(path)?, &mut text)
        .map_err(|e| DataError::io("read", path, e))?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(i, line)| {
            parse_time(line.trim()).ok_or_else(|| {
                let shown: String = line.trim().chars().take(40).collect();
                DataError::format(
                    path,
                    format!(
                        "line {}: '{}' is no time of the form YYYYMMDDhhmm",
                        i + 1,
                        shown.escape_debug()
                    ),
                )
            })
        })
        .collect()
}
