//! Events out of a radar source: a constant interval, gaps filled or ending the event, every cell a number, on one grid.

use ndarray::{Array2, Zip};
use serde::{Deserialize, Serialize};

use super::time::format_time;
use super::{RadarFrame, RadarSource, RainFrame, RainSource};
use crate::error::{DataError, Result};
use crate::grid::Place;

/// How events are made of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct EventConfig {
    /// Length of a frame in seconds. Default 300.
    pub frame_s: f64,
    /// Factor on the rain rate. Default 1.
    pub factor: f64,
    /// The cells that are wanted. Default: the source's.
    pub region: Region,
    /// What to do about missing cells. Default: stop.
    pub missing: MissingCells,
    /// Time without frames, in minutes, that is filled by linear interpolation between the frames around it. Default 15.
    pub max_gap_min: f64,
    /// What to do about a longer one. Default: stop.
    pub long_gap: LongGap,
    /// Higher rates of the source, in mm/h, are taken for spurious: they become this rate, and [`Counts`] tells how many there
    /// were. Default 400: what has been measured over five minutes in Britain is 384 mm/h (32 mm, Preston 1893).
    pub max_mm_per_h: f32,
}

impl Default for EventConfig {
    fn default() -> Self {
        Self {
            frame_s: 300.0,
            factor: 1.0,
            region: Region::Whole,
            missing: MissingCells::Stop,
            max_gap_min: 15.0,
            long_gap: LongGap::Stop,
            max_mm_per_h: 400.0,
        }
    }
}

/// Which cells of a source are wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Region {
    /// All.
    #[default]
    Whole,
    /// A part, in cells of the source.
    Window(Window),
    /// The cells of another grid, filled as by [`GeoGrid::resample_to`](crate::GeoGrid::resample_to). A source of one cell
    /// without a position (uniform rain) fills any grid.
    Place(Place),
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
    /// A missing cell is dry; [`Counts`] tells how many there were.
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

/// What was done to the frames so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Frames handed out.
    pub frames: u64,
    /// Frames among them that were interpolated.
    pub filled_frames: u64,
    /// Missing cells that were taken as dry.
    pub missing_cells: u64,
    /// Frames left out for their missing cells.
    pub missing_frames: u64,
    /// Cells whose rate was too high to be true.
    pub clipped_cells: u64,
}

/// The events of a source, one after the other: as a [`RainSource`] it gives the frames of the current one. It holds three frames
/// at a time. An event starts with the first frame that is there.
pub struct Events {
    source: Box<dyn RadarSource>,
    config: EventConfig,
    shape: (usize, usize),
    /// Cells of the first frame, which all others must have.
    place: Option<Place>,
    /// Frames read.
    read: usize,
    counts: Counts,
    /// Start of the event on the clock of the source.
    start_s: f64,
    has_clock: bool,
    /// End of the newest frame handed out, and the newest one that came from the source.
    clock_s: f64,
    before: Option<(f64, Array2<f32>)>,
    ahead: Option<(f64, Array2<f32>)>,
    /// The first frame of the next event.
    next: Option<(f64, Array2<f32>)>,
}

impl Events {
    /// Reads the first frame; the first event has begun then.
    ///
    /// # Errors
    /// What the source meets, settings that cannot be, and a source without a frame.
    pub fn new(source: Box<dyn RadarSource>, config: EventConfig) -> Result<Self> {
        for (name, value, valid) in [
            ("frame_s", config.frame_s, config.frame_s > 0.0),
            ("factor", config.factor, config.factor > 0.0),
            ("max_gap_min", config.max_gap_min, config.max_gap_min >= 0.0),
            (
                "max_mm_per_h",
                config.max_mm_per_h.into(),
                config.max_mm_per_h > 0.0,
            ),
        ] {
            if !(valid && value.is_finite()) {
                return Err(DataError::Config(format!(
                    "radar events: {name} is {value}"
                )));
            }
        }
        let mut events = Self {
            source,
            config,
            shape: (0, 0),
            place: None,
            read: 0,
            counts: Counts::default(),
            start_s: 0.0,
            has_clock: false,
            clock_s: 0.0,
            before: None,
            ahead: None,
            next: None,
        };
        match events.read_frame()? {
            Some(first) => events.begin(first),
            None => return Err(events.error("the source holds no frame that can be used".into())),
        }
        Ok(events)
    }

    /// Goes on to the next event, past what is left of this one; `false` where there is none.
    ///
    /// # Errors
    /// What the source meets.
    pub fn next_event(&mut self) -> Result<bool> {
        while self.next_frame()?.is_some() {}
        match self.next.take() {
            Some(first) => {
                self.begin(first);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Start of the event in seconds since 1970-01-01 00:00 UTC, where the source has a clock.
    pub fn start_s(&self) -> Option<f64> {
        self.has_clock.then_some(self.start_s)
    }

    /// Where the cells of every frame lie. A source without a position has its corner at 0, 0 and cells of size 1.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// What was done to the frames of all events so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Damaged files that the source has passed over so far.
    pub fn skipped_files(&self) -> u64 {
        self.source.skipped_files()
    }

    fn error(&self, reason: String) -> DataError {
        DataError::format(self.source.path(), reason)
    }

    fn begin(&mut self, (end_s, rain): (f64, Array2<f32>)) {
        self.start_s = end_s - self.config.frame_s;
        self.clock_s = self.start_s;
        self.before = None;
        self.ahead = Some((end_s, rain));
    }

    /// The next frame that is there and may be used: its end on the clock of the source, and mm/h.
    fn read_frame(&mut self) -> Result<Option<(f64, Array2<f32>)>> {
        loop {
            let Some(frame) = self.source.next_frame()? else {
                return Ok(None);
            };
            let index = self.read;
            self.read += 1;
            let name = match frame.end_s {
                Some(end_s) => format!("frame {index} ({})", format_time(end_s)),
                None => format!("frame {index}"),
            };
            if let Some(duration_s) = frame.duration_s
                && (duration_s - self.config.frame_s).abs() > 1.0
            {
                return Err(self.error(format!(
                    "{name} lasts {duration_s} s, frames of {} s are wanted",
                    self.config.frame_s
                )));
            }
            if index == 0 {
                self.has_clock = frame.end_s.is_some();
            }
            let end_s = match (self.has_clock, frame.end_s) {
                (true, Some(end_s)) => end_s as f64,
                (false, None) => (index + 1) as f64 * self.config.frame_s,
                _ => return Err(self.error(format!("{name}: only some frames have a time"))),
            };
            let mut rain = self.cut(&name, frame)?;
            let missing = rain.iter().filter(|rate| rate.is_nan()).count() as u64;
            if missing > 0 {
                match self.config.missing {
                    MissingCells::Stop => {
                        return Err(self.error(format!(
                            "{name} has {missing} missing cells (no-data or negative); `missing = \"dry\"` or \"gap\" says what to make of them"
                        )));
                    }
                    MissingCells::Dry => self.counts.missing_cells += missing,
                    MissingCells::Gap => {
                        self.counts.missing_frames += 1;
                        continue;
                    }
                }
            }
            let (factor, highest) = (self.config.factor as f32, self.config.max_mm_per_h);
            let mut clipped = 0;
            rain.mapv_inplace(|rate| {
                if rate.is_nan() {
                    return 0.0;
                }
                clipped += u64::from(rate > highest);
                rate.min(highest) * factor
            });
            self.counts.clipped_cells += clipped;
            if rain.iter().any(|value| !value.is_finite()) {
                return Err(self.error(format!("{name} times {factor} is not finite")));
            }
            return Ok(Some((end_s, rain)));
        }
    }

    /// The cells that are wanted. The first frame says where they lie; the others must lie there too.
    fn cut(&mut self, name: &str, frame: RadarFrame) -> Result<Array2<f32>> {
        let grid = frame.rain_mm_per_h;
        let (rows, columns) = grid.data.dim();
        let cut = match &self.config.region {
            Region::Whole => grid,
            Region::Window(window) => {
                let end = |start: usize, length: usize| start.saturating_add(length);
                grid.crop(
                    window.row..end(window.row, window.height),
                    window.column..end(window.column, window.width),
                )
                .map_err(|_| {
                    self.error(format!(
                        "{name} has {rows} × {columns} cells, the window is {window:?}"
                    ))
                })?
            }
            Region::Place(place) if grid.data.len() == 1 && !grid.is_placed() => {
                let rate = grid.data[[0, 0]];
                crate::GeoGrid {
                    data: Array2::from_elem((place.height, place.width), rate),
                    west: place.west,
                    north: place.north,
                    cell_x: place.cell_x,
                    cell_y: place.cell_y,
                    crs: place.crs.clone(),
                }
            }
            Region::Place(place) => grid
                .resample_to(place)
                .map_err(|e| self.error(format!("{name}: {e}")))?,
        };
        let place = cut.place();
        match &self.place {
            None => {
                self.shape = cut.data.dim();
                self.place = Some(place);
            }
            Some(first) if first.is_same(&place) => {}
            Some(first) => {
                return Err(self.error(format!(
                    "{name} lies elsewhere than those before: {place}; before: {first}"
                )));
            }
        }
        Ok(cut.data)
    }

    /// Whether the frame ahead belongs to the event; checks the time between it and the one before.
    fn reaches(&self, end_s: f64) -> Result<bool> {
        let frame_s = self.config.frame_s;
        let steps = (end_s - self.clock_s) / frame_s;
        if steps < 0.5 || (steps - steps.round()).abs() * frame_s > 1.0 {
            return Err(self.error(format!(
                "frame {} ends {} s after the frame before it, which is no multiple of {frame_s} s",
                self.read - 1,
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
                "{gap_min} minutes are missing before frame {}, more than max_gap_min = {}",
                self.read - 1,
                self.config.max_gap_min
            ))),
        }
    }
}

impl RainSource for Events {
    fn next_frame(&mut self) -> Result<Option<RainFrame>> {
        let Some((ahead_s, ahead)) = self.ahead.take() else {
            return Ok(None);
        };
        self.counts.frames += 1;
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
            self.counts.filled_frames += 1;
            return Ok(Some(RainFrame {
                end_s,
                rain_mm_per_h,
            }));
        }
        // Timestamps rounded to minutes must not add up to a drift.
        self.clock_s = ahead_s;
        if let Some((next_s, next)) = self.read_frame()? {
            if self.reaches(next_s)? {
                self.before = Some((ahead_s, ahead.clone()));
                self.ahead = Some((next_s, next));
            } else {
                self.next = Some((next_s, next));
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GeoGrid;
    use crate::radar::AsciiStream;
    use ndarray::array;
    use std::fmt::Write;
    use std::path::PathBuf;

    struct Files {
        _folder: tempfile::TempDir,
        path: PathBuf,
        timestamps: Option<PathBuf>,
        config: EventConfig,
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
        Files {
            _folder: folder,
            path,
            timestamps,
            config: EventConfig {
                max_gap_min: 10.0,
                ..EventConfig::default()
            },
        }
    }

    impl Files {
        fn open(&self) -> Result<Events> {
            let stream = AsciiStream::open(&self.path, self.timestamps.as_deref())?;
            Events::new(Box::new(stream), self.config.clone())
        }
    }

    /// End and first cell of every frame of the event.
    fn frames_of(events: &mut Events) -> Result<Vec<(f64, f32)>> {
        let mut frames = Vec::new();
        while let Some(frame) = events.next_frame()? {
            assert_eq!(frame.rain_mm_per_h.dim(), events.shape());
            frames.push((frame.end_s, frame.rain_mm_per_h[[0, 0]]));
        }
        Ok(frames)
    }

    fn frames(files: &Files) -> Result<Vec<(f64, f32)>> {
        frames_of(&mut files.open()?)
    }

    #[test]
    fn frames_follow_each_other_without_timestamps() {
        let mut files = files(&[1.0, 7.0, 0.5], None);
        files.config.factor = 12.0;
        let expected = [(300.0, 12.0), (600.0, 84.0), (900.0, 6.0)];
        assert_eq!(frames(&files).unwrap(), expected);
        assert_eq!(files.open().unwrap().start_s(), None);
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
        let mut events = files.open().unwrap();
        // 2010-08-26 23:45, five minutes before the end of the first frame.
        assert_eq!(events.start_s(), Some(1_282_866_300.0));
        let frames = frames_of(&mut events).unwrap();
        assert_eq!(frames.len(), expected.len());
        for (frame, expected) in frames.iter().zip(expected) {
            assert_eq!(frame.0, expected.0);
            assert!((frame.1 - expected.1).abs() < 1e-6);
        }
        let counts = events.counts();
        assert_eq!((counts.frames, counts.filled_frames), (5, 2));
    }

    #[test]
    fn longer_gaps_stop_or_end_the_event() {
        let times = "201008262350\n201008262355\n201008270015\n201008270020";
        let mut files = files(&[1.0, 7.0, 0.5, 2.0], Some(times));
        let error = frames(&files).unwrap_err().to_string();
        assert!(
            error.contains("15 minutes are missing before frame 2"),
            "{error}"
        );
        files.config.long_gap = LongGap::End;
        let mut events = files.open().unwrap();
        let expected = [(300.0, 1.0), (600.0, 7.0)];
        assert_eq!(frames_of(&mut events).unwrap(), expected);
        assert!(events.next_event().unwrap());
        // 2010-08-27 00:10
        assert_eq!(events.start_s(), Some(1_282_867_800.0));
        let expected = [(300.0, 0.5), (600.0, 2.0)];
        assert_eq!(frames_of(&mut events).unwrap(), expected);
        assert!(!events.next_event().unwrap());
        // What is left of an event can be passed over.
        let mut events = files.open().unwrap();
        assert!(events.next_event().unwrap());
        assert_eq!(frames_of(&mut events).unwrap(), expected);
    }

    #[test]
    fn missing_cells_are_never_silently_dry() {
        for missing in [-1.0, -32.0] {
            let mut files = files(&[1.0, missing, 3.0], None);
            let error = frames(&files).unwrap_err().to_string();
            assert!(error.contains("frame 1 has 1 missing cells"), "{error}");
            assert!(error.contains("a stream.asc"), "{error}");
            files.config.missing = MissingCells::Gap;
            let expected = [(300.0, 1.0), (600.0, 2.0), (900.0, 3.0)];
            assert_eq!(frames(&files).unwrap(), expected);
            files.config.missing = MissingCells::Dry;
            let expected = [(300.0, 1.0), (600.0, 0.0), (900.0, 3.0)];
            let mut events = files.open().unwrap();
            assert_eq!(frames_of(&mut events).unwrap(), expected);
            assert_eq!(events.counts().missing_cells, 1);
        }
        // At the start and the end there is nothing to interpolate between.
        let mut files = files(&[-1.0, 5.0, 3.0, -1.0], None);
        files.config.missing = MissingCells::Gap;
        let mut events = files.open().unwrap();
        let expected = [(300.0, 5.0), (600.0, 3.0)];
        assert_eq!(frames_of(&mut events).unwrap(), expected);
        assert_eq!(events.counts().missing_frames, 2);
    }

    #[test]
    fn extremes_are_clipped_and_counted() {
        let mut files = files(&[1.0, 1000.0, 401.0, 400.0], None);
        files.config.factor = 2.0;
        let mut events = files.open().unwrap();
        let expected = [
            (300.0, 2.0),
            (600.0, 800.0),
            (900.0, 800.0),
            (1200.0, 800.0),
        ];
        assert_eq!(frames_of(&mut events).unwrap(), expected);
        assert_eq!(events.counts().clipped_cells, 2);
    }

    #[test]
    fn regions_are_cut_out() {
        let mut files = files(&[1.0], None);
        files.config.region = Region::Window(Window {
            row: 0,
            column: 1,
            height: 2,
            width: 2,
        });
        let mut events = files.open().unwrap();
        assert_eq!(events.shape(), (2, 2));
        let place = events.place().unwrap();
        assert_eq!(
            (place.west, place.north, place.cell_x),
            (1000.0, 2000.0, 1000.0)
        );
        let frame = events.next_frame().unwrap().unwrap();
        assert_eq!(frame.rain_mm_per_h, array![[2.0, 3.0], [5.0, 6.0]]);
        assert!(events.next_frame().unwrap().is_none());
        files.config.region = Region::Window(Window {
            row: 1,
            column: 0,
            height: usize::MAX,
            width: 1,
        });
        assert!(files.open().is_err());
        // The middle of the four western cells, and a place that is not all there.
        let mut place = GeoGrid::new(Array2::zeros((1, 1)), 500.0, 1500.0, 1000.0).place();
        files.config.region = Region::Place(place.clone());
        let mut events = files.open().unwrap();
        let frame = events.next_frame().unwrap().unwrap();
        assert_eq!(frame.rain_mm_per_h, array![[3.0]]);
        place.width = 3;
        files.config.region = Region::Place(place);
        let error = files.open().err().unwrap().to_string();
        assert!(
            error.contains("west to east 500 … 3500") && error.contains("west to east 0 … 3000"),
            "{error}"
        );
    }

    #[test]
    fn wrong_times_are_named() {
        let cases = [
            ("201008262350\n201008262350", "frame 1 ends 0 s after"),
            ("201008262350\n201008262352", "frame 1 ends 120 s after"),
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
            let error = frames(&files).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
        let empty = files(&[], None);
        assert!(frames(&empty).unwrap_err().to_string().contains("no frame"));
    }
}
