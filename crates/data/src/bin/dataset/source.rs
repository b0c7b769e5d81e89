//! Flags that say how a source of radar frames is opened.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use pluvial_data::radar::time::parse_time;
use pluvial_data::radar::{self, OnBadFile, OpenOptions, Orientation, RadarSource};

#[derive(Args, Debug)]
pub struct SourceFlags {
    /// Ends of the frames of a stream of ESRI ASCII grids, YYYYMMDDhhmm a line.
    #[arg(long, value_name = "FILE")]
    timestamps: Option<PathBuf>,
    /// Raster of the rain zones of a CAESAR-Lisflood rain table.
    #[arg(long, value_name = "FILE")]
    hydroindex: Option<PathBuf>,
    /// Number from 1 of the zone of a rain table that falls everywhere, in the place of --hydroindex.
    #[arg(long, value_name = "N")]
    zone: Option<usize>,
    /// How the rows of JSON lines lie; they need it, see the documentation of `radar::json_lines`.
    #[arg(long, value_enum)]
    orientation: Option<RowOrder>,
    /// Start of the first frame (UTC, YYYYMMDDhhmm) of a source without times.
    #[arg(long, value_name = "TIME", value_parser = time)]
    start: Option<i64>,
    /// Seconds between the frames of a source without times.
    #[arg(long, value_name = "S", default_value_t = 300.0, requires = "start")]
    frame_s: f64,
    /// Only frames that end after this time (UTC).
    #[arg(long, value_name = "TIME", value_parser = time)]
    after: Option<i64>,
    /// Only frames that end at this time (UTC) or before it.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<i64>,
    /// What to do about damaged files.
    #[arg(long, value_enum, default_value = "stop")]
    on_bad_file: BadFile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RowOrder {
    /// As on a map.
    NorthUp,
    /// Turned by 90° clockwise, as the downloader's README says.
    Rotated,
    /// Columns of rows, as the downloader's source does where it cuts out an area.
    Transposed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BadFile {
    Stop,
    Skip,
}

fn time(text: &str) -> Result<i64, String> {
    parse_time(text).ok_or_else(|| format!("'{text}' is no time of the form YYYYMMDDhhmm"))
}

impl SourceFlags {
    /// Seconds between the frames of a source without times.
    pub fn frame_s(&self) -> f64 {
        self.frame_s
    }

    /// Opens the source at `path`.
    pub fn open(&self, path: &Path) -> Result<Box<dyn RadarSource>> {
        ensure!(
            self.frame_s > 0.0 && self.frame_s.is_finite(),
            "--frame-s must be positive"
        );
        Ok(radar::open(
            path,
            &OpenOptions {
                timestamps: self.timestamps.clone(),
                hydroindex: self.hydroindex.clone(),
                zone: self.zone,
                orientation: self.orientation.map(|order| match order {
                    RowOrder::NorthUp => Orientation::NorthUp,
                    RowOrder::Rotated => Orientation::Rotated,
                    RowOrder::Transposed => Orientation::Transposed,
                }),
                start: self.start.map(|start_s| (start_s, self.frame_s)),
                after_s: self.after,
                until_s: self.until,
                on_bad_file: match self.on_bad_file {
                    BadFile::Stop => OnBadFile::Stop,
                    BadFile::Skip => OnBadFile::Skip,
                },
            },
        )?)
    }
}
