//! Real radar as a stream of ESRI ASCII grids, one a frame, plain or gzip, with an optional file of timestamps.

use std::path::{Path, PathBuf};

use ndarray::{Array2, Zip, s};
use serde::{Deserialize, Serialize};

use super::{RainFrame, RainSource};
use crate::error::{DataError, Result};
use crate::file;
use crate::raster::esri_ascii::Grids;

/// How a stream is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AsciiStreamConfig {
    /// The stream of grids.
    pub path: PathBuf,
    /// Text file with a line for each grid: the end of its frame as `YYYYMMDDhhmm`, with or without seconds and separators.
    /// Default: none, the grids follow each other without a gap.
    #[serde(default)]
    pub timestamps: Option<PathBuf>,
    /// Length of a frame in seconds. Default 300.
    #[serde(default = "default_frame_s")]
    pub frame_s: f64,
    /// What turns the file's values into mm/h. Default 1.
    #[serde(default = "default_factor")]
    pub factor: f64,
    /// Part of the grid to read. Default: all of it.
    #[serde(default)]
    pub window: Option<Window>,
    /// What to do about missing cells (no-data and negative values). Default: stop.
    #[serde(default)]
    pub missing: MissingCells,
    /// Time without frames, in minutes, that is filled by linear interpolation between the frames around it. Default 15.
    #[serde(default = "default_max_gap_min")]
    pub max_gap_min: f64,
    /// What to do about a longer one. Default: stop.
    #[serde(default)]
    pub long_gap: LongGap,
}

fn default_frame_s() -> f64 {
    300.0
}

fn default_factor() -> f64 {
    1.0
}

fn default_max_gap_min() -> f64 {
    15.0
}

/// A part of a grid, in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// First row.
    pub row: usize,
    /// First column.
    pub column: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

/// What to do about cells without a measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingCells {
    /// A missing cell is an error.
    #[default]
    Stop,
    /// A missing cell is dry; [`AsciiStream::missing_cells`] counts them.
    Dry,
    /// A frame with a missing cell counts as a frame that is not there.
    Gap,
}

/// What to do about a gap that is too long to fill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongGap {
    /// It is an error.
    #[default]
    Stop,
    /// It ends the event.
    End,
}

/// A stream of grids as a [`RainSource`]. It holds two frames at a time. The event starts with the first frame that is there.
pub struct AsciiStream {
    config: AsciiStreamConfig,
    grids: Grids,
    shape: (usize, usize),
    /// Cell width and height in the units of the file.
    cell_size: (f64, f64),
    /// Seconds since 1970 of every grid's end.
    times_s: Option<Vec<i64>>,
    /// Grids read.
    count: usize,
    missing: u64,
    /// Start of the event on the clock of the stream.
    start_s: f64,
    /// End of the newest frame handed out, and the newest one that came from the file.
    clock_s: f64,
    before: Option<(f64, Array2<f32>)>,
    ahead: Option<(f64, Array2<f32>)>,
}

impl AsciiStream {
    /// Opens a stream and reads its first frame.
    ///
    /// # Errors
    /// [`DataError`] where a file cannot be read, the settings cannot be, or the stream holds no frame.
    pub fn open(config: AsciiStreamConfig) -> Result<Self> {
        for (name, value, valid) in [
            ("frame_s", config.frame_s, config.frame_s > 0.0),
            ("factor", config.factor, config.factor > 0.0),
            ("max_gap_min", config.max_gap_min, config.max_gap_min >= 0.0),
        ] {
            if !(valid && value.is_finite()) {
                return Err(DataError::Config(format!(
                    "radar stream: {name} is {value}"
                )));
            }
        }
        let times_s = match &config.timestamps {
            Some(path) => Some(read_timestamps(path)?),
            None => None,
        };
        let mut stream = Self {
            grids: Grids::open(&config.path)?,
            config,
            shape: (0, 0),
            cell_size: (0.0, 0.0),
            times_s,
            count: 0,
            missing: 0,
            start_s: 0.0,
            clock_s: 0.0,
            before: None,
            ahead: None,
        };
        stream.ahead = stream.read_frame()?;
        match &stream.ahead {
            Some((end_s, _)) => stream.start_s = end_s - stream.config.frame_s,
            None => return Err(stream.error("the stream holds no frame".into())),
        }
        stream.clock_s = stream.start_s;
        Ok(stream)
    }

    /// Missing cells that were taken as dry so far.
    pub fn missing_cells(&self) -> u64 {
        self.missing
    }

    /// Width and height of a cell in the units of the file.
    pub fn cell_size(&self) -> (f64, f64) {
        self.cell_size
    }

    fn error(&self, reason: String) -> DataError {
        DataError::format(&self.config.path, reason)
    }

    /// The next frame that is there and may be used: its end on the clock of the stream, and mm/h.
    fn read_frame(&mut self) -> Result<Option<(f64, Array2<f32>)>> {
        loop {
            let Some(grid) = self.grids.next().transpose()? else {
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
                Some(times) => *times.get(index).ok_or_else(|| {
                    self.error(format!(
                        "grid {index} has no timestamp: there are {}",
                        times.len()
                    ))
                })? as f64,
                None => (index + 1) as f64 * self.config.frame_s,
            };
            let (rows, columns) = grid.data.dim();
            let window = self.config.window.unwrap_or(Window {
                row: 0,
                column: 0,
                height: rows,
                width: columns,
            });
            let inside = |start: usize, length: usize, size: usize| {
                length > 0 && start.checked_add(length).is_some_and(|end| end <= size)
            };
            if !inside(window.row, window.height, rows)
                || !inside(window.column, window.width, columns)
            {
                return Err(self.error(format!(
                    "grid {index} has {rows} × {columns} cells, the window is {window:?}"
                )));
            }
            let cell_size = (grid.cell_x, grid.cell_y);
            let shape = (window.height, window.width);
            if index == 0 {
                self.shape = shape;
                self.cell_size = cell_size;
            } else if self.shape != shape || self.cell_size != cell_size {
                return Err(self.error(format!(
                    "grid {index} has {rows} × {columns} cells of {} × {}, unlike those before",
                    cell_size.0, cell_size.1
                )));
            }
            let mut rain = grid
                .data
                .slice(s![
                    window.row..window.row + window.height,
                    window.column..window.column + window.width
                ])
                .to_owned();
            let present = |value: f32| value >= 0.0;
            let missing = rain.iter().filter(|&&value| !present(value)).count();
            if missing > 0 {
                match self.config.missing {
                    MissingCells::Stop => {
                        return Err(self.error(format!(
                            "grid {index} has {missing} missing cells (no-data or negative); `missing = \"dry\"` or \"gap\" says what to make of them"
                        )));
                    }
                    MissingCells::Dry => self.missing += missing as u64,
                    MissingCells::Gap => continue,
                }
            }
            let factor = self.config.factor as f32;
            rain.mapv_inplace(|value| if present(value) { value * factor } else { 0.0 });
            if rain.iter().any(|value| !value.is_finite()) {
                return Err(self.error(format!("grid {index} times {factor} is not finite")));
            }
            return Ok(Some((end_s, rain)));
        }
    }

    /// Whether the frame ahead belongs to the event; checks the time between it and the one before.
    fn reaches(&self, end_s: f64) -> Result<bool> {
        let frame_s = self.config.frame_s;
        let steps = (end_s - self.clock_s) / frame_s;
        if steps < 0.5 || (steps - steps.round()).abs() * frame_s > 1.0 {
            return Err(self.error(format!(
                "grid {} ends {} s after the frame before it, which is no multiple of {frame_s} s",
                self.count - 1,
                end_s - self.clock_s
            )));
        }
        let gap_min = (steps.round() - 1.0) * frame_s / 60.0;
        if gap_min <= self.config.max_gap_min {
            return Ok(true);
        }
        match self.config.long_gap {
            LongGap::End => Ok(false),
            LongGap::Stop => Err(self.error(format!(
                "{gap_min} minutes are missing before grid {}, more than max_gap_min = {}",
                self.count - 1,
                self.config.max_gap_min
            ))),
        }
    }
}

impl RainSource for AsciiStream {
    fn next_frame(&mut self) -> Result<Option<RainFrame>> {
        let Some((ahead_s, ahead)) = self.ahead.take() else {
            return Ok(None);
        };
        self.clock_s += self.config.frame_s;
        let end_s = self.clock_s - self.start_s;
        if let Some((before_s, before)) = &self.before
            && ahead_s - self.clock_s > 0.5 * self.config.frame_s
        {
            let weight = ((self.clock_s - before_s) / (ahead_s - before_s)) as f32;
            let rain_mm_per_h = Zip::from(before)
                .and(&ahead)
                .map_collect(|&b, &a| b + weight * (a - b));
            self.ahead = Some((ahead_s, ahead));
            return Ok(Some(RainFrame {
                end_s,
                rain_mm_per_h,
            }));
        }
        // Timestamps rounded to minutes must not add up to a drift.
        self.clock_s = ahead_s;
        if let Some((next_s, next)) = self.read_frame()?
            && self.reaches(next_s)?
        {
            self.before = Some((ahead_s, ahead.clone()));
            self.ahead = Some((next_s, next));
        }
        Ok(Some(RainFrame {
            end_s,
            rain_mm_per_h: ahead,
        }))
    }

    fn frame_s(&self) -> f64 {
        self.config.frame_s
    }

    fn shape(&self) -> (usize, usize) {
        self.shape
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

/// `YYYYMMDDhhmm` or `YYYYMMDDhhmmss`, with or without `-`, `:`, `/`, `T`, `Z` and spaces, as seconds since 1970-01-01 00:00.
fn parse_time(text: &str) -> Option<i64> {
    let mut digits = Vec::with_capacity(14);
    for c in text.chars() {
        match c.to_digit(10) {
            Some(digit) => digits.push(i64::from(digit)),
            None if "-:/TZ ".contains(c) => {}
            None => return None,
        }
    }
    if digits.len() != 12 && digits.len() != 14 {
        return None;
    }
    let number = |from: usize, to: usize| digits[from..to].iter().fold(0, |n, d| 10 * n + d);
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let (hour, minute) = (number(8, 10), number(10, 12));
    let second = if digits.len() == 14 {
        number(12, 14)
    } else {
        0
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_in_month).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days of the proleptic Gregorian calendar, the year counted from March so that the leap day comes last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
            - 1
            - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use std::fmt::Write;

    struct Files {
        _folder: tempfile::TempDir,
        config: AsciiStreamConfig,
    }

    /// Grids of 2 × 3 cells whose first cell holds the given values; a time for each where given.
    fn files(first_cells: &[f32], times: Option<&str>) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::new();
        for value in first_cells {
            let _ = write!(
                text,
                "ncols 3\nnrows 2\nxllcorner 0\nyllcorner 0\ncellsize 1000\nNODATA_value -1\n{value} 2 3\n4 5 6\n"
            );
        }
        let path = folder.path().join("a stream.asc");
        std::fs::write(&path, text).unwrap();
        let timestamps = times.map(|text| {
            let path = folder.path().join("times.txt");
            std::fs::write(&path, text).unwrap();
            path
        });
        let config = AsciiStreamConfig {
            path,
            timestamps,
            frame_s: 300.0,
            factor: 1.0,
            window: None,
            missing: MissingCells::Stop,
            max_gap_min: 10.0,
            long_gap: LongGap::Stop,
        };
        Files {
            _folder: folder,
            config,
        }
    }

    /// End and first cell of every frame.
    fn frames(config: &AsciiStreamConfig) -> Result<Vec<(f64, f32)>> {
        let mut stream = AsciiStream::open(config.clone())?;
        let mut frames = Vec::new();
        while let Some(frame) = stream.next_frame()? {
            assert_eq!(frame.rain_mm_per_h.dim(), stream.shape());
            frames.push((frame.end_s, frame.rain_mm_per_h[[0, 0]]));
        }
        Ok(frames)
    }

    #[test]
    fn frames_follow_each_other_without_timestamps() {
        let mut files = files(&[1.0, 7.0, 0.5], None);
        files.config.factor = 12.0;
        let expected = [(300.0, 12.0), (600.0, 84.0), (900.0, 6.0)];
        assert_eq!(frames(&files.config).unwrap(), expected);
    }

    #[test]
    fn gaps_up_to_the_limit_are_interpolated() {
        let times = "201008262350\n2010-08-27T00:05\n\n201008270010\n";
        let files = files(&[1.0, 7.0, 0.5], Some(times));
        let expected = [
            (300.0, 1.0),
            (600.0, 3.0),
            (900.0, 5.0),
            (1200.0, 7.0),
            (1500.0, 0.5),
        ];
        let frames = frames(&files.config).unwrap();
        assert_eq!(frames.len(), expected.len());
        for (frame, expected) in frames.iter().zip(expected) {
            assert_eq!(frame.0, expected.0);
            assert!((frame.1 - expected.1).abs() < 1e-6);
        }
    }

    #[test]
    fn longer_gaps_stop_or_end_the_event() {
        let times = "201008262350\n201008262355\n201008270015";
        let mut files = files(&[1.0, 7.0, 0.5], Some(times));
        let error = frames(&files.config).unwrap_err().to_string();
        assert!(
            error.contains("15 minutes are missing before grid 2"),
            "{error}"
        );
        files.config.long_gap = LongGap::End;
        let expected = [(300.0, 1.0), (600.0, 7.0)];
        assert_eq!(frames(&files.config).unwrap(), expected);
    }

    #[test]
    fn missing_cells_are_never_silently_dry() {
        for missing in [-1.0, -32.0] {
            let mut files = files(&[1.0, missing, 3.0], None);
            let error = frames(&files.config).unwrap_err().to_string();
            assert!(error.contains("grid 1 has 1 missing cells"), "{error}");
            assert!(error.contains("a stream.asc"), "{error}");
            files.config.missing = MissingCells::Gap;
            let expected = [(300.0, 1.0), (600.0, 2.0), (900.0, 3.0)];
            assert_eq!(frames(&files.config).unwrap(), expected);
            files.config.missing = MissingCells::Dry;
            let expected = [(300.0, 1.0), (600.0, 0.0), (900.0, 3.0)];
            assert_eq!(frames(&files.config).unwrap(), expected);
            let mut stream = AsciiStream::open(files.config.clone()).unwrap();
            while stream.next_frame().unwrap().is_some() {}
            assert_eq!(stream.missing_cells(), 1);
        }
        // At the start and the end there is nothing to interpolate between.
        let mut files = files(&[-1.0, 5.0, 3.0, -1.0], None);
        files.config.missing = MissingCells::Gap;
        assert_eq!(frames(&files.config).unwrap(), [(300.0, 5.0), (600.0, 3.0)]);
    }

    #[test]
    fn a_window_is_cut_out() {
        let mut files = files(&[1.0], None);
        files.config.window = Some(Window {
            row: 0,
            column: 1,
            height: 2,
            width: 2,
        });
        let mut stream = AsciiStream::open(files.config.clone()).unwrap();
        assert_eq!(
            (stream.shape(), stream.cell_size()),
            ((2, 2), (1000.0, 1000.0))
        );
        let frame = stream.next_frame().unwrap().unwrap();
        assert_eq!(frame.rain_mm_per_h, array![[2.0, 3.0], [5.0, 6.0]]);
        assert!(stream.next_frame().unwrap().is_none());
        files.config.window = Some(Window {
            row: 1,
            column: 0,
            height: usize::MAX,
            width: 1,
        });
        assert!(AsciiStream::open(files.config.clone()).is_err());
    }

    #[test]
    fn wrong_times_are_named() {
        let cases = [
            ("201008262350\n201008262350", "grid 1 ends 0 s after"),
            ("201008262350\n201008262352", "grid 1 ends 120 s after"),
            (
                "201008262350\n20100826235x",
                "line 2: '20100826235x' is no time",
            ),
            (
                "201008262350\n201002290000",
                "line 2: '201002290000' is no time",
            ),
            ("201008262350", "grid 1 has no timestamp"),
            (
                "201008262350\n201008262355\n201008270000",
                "2 grids and the timestamps 3 lines",
            ),
        ];
        for (times, expected) in cases {
            let files = files(&[1.0, 7.0], Some(times));
            let error = frames(&files.config).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
        let empty = files(&[], None);
        assert!(
            frames(&empty.config)
                .unwrap_err()
                .to_string()
                .contains("no frame")
        );
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        // `date -u -d … +%s`
        assert_eq!(parse_time("197001010000"), Some(0));
        assert_eq!(parse_time("2010-08-26 07:35:00Z"), Some(1_282_808_100));
        assert_eq!(parse_time("200002291200"), Some(951_825_600));
        assert_eq!(parse_time("190002290000"), None);
    }
}
