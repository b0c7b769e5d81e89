//! Samples as JSON lines: `{"rainfallradar": [[[…]]], "waterdepth": [[…]]}` a line, plain or gzip.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use ndarray::{Array2, Array3};
use serde::Deserialize;

use crate::error::{DataError, Result};
use crate::file;
use crate::record::Metadata;
use crate::sample::Sample;

/// Longest line that is read, in bytes: a sample of the published shape takes 4 MB.
const MAX_LINE: u64 = 1 << 30;

#[derive(Deserialize)]
struct Line {
    rainfallradar: Vec<Vec<Vec<f32>>>,
    waterdepth: Vec<Vec<f32>>,
}

/// The samples of files of JSON lines, one at a time. The first one gives the shapes.
pub struct JsonSamples {
    rain_factor: f32,
    /// Files to come, the next one last.
    files: Vec<PathBuf>,
    current: Option<(PathBuf, Box<dyn BufRead + Send>)>,
    line: u64,
    metadata: Metadata,
    first: Option<Sample>,
}

impl JsonSamples {
    /// Opens a file, or all `.jsonl` and `.jsonl.gz` files of a folder in the order of their numbers and names. Rain is
    /// multiplied by `rain_factor`, to get shares of 100 mm/h.
    ///
    /// # Errors
    /// When there is nothing, or the first line is no sample.
    pub fn open(path: &Path, rain_factor: f32) -> Result<Self> {
        let mut files = if path.is_dir() {
            list(path)?
        } else {
            vec![path.to_owned()]
        };
        files.reverse();
        let mut samples = Self {
            rain_factor,
            files,
            current: None,
            line: 0,
            metadata: Metadata::new([0; 3], [0; 2]),
            first: None,
        };
        let Some(first) = samples.read()? else {
            return Err(DataError::format(
                path,
                "holds no sample (a JSON object a line)",
            ));
        };
        let (channels, height, width) = first.rain.dim();
        samples.metadata = Metadata::new([channels, height, width], first.depth_m.dim().into());
        samples.first = Some(first);
        Ok(samples)
    }

    /// The shapes of the samples.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The next sample; `None` at the end.
    ///
    /// # Errors
    /// At a line that is no sample of the first one's shapes.
    pub fn next_sample(&mut self) -> Result<Option<Sample>> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.read(),
        }
    }

    fn read(&mut self) -> Result<Option<Sample>> {
        loop {
            let Some((path, reader)) = &mut self.current else {
                let Some(path) = self.files.pop() else {
                    return Ok(None);
                };
                let reader = file::open(&path)?;
                self.current = Some((path, reader));
                self.line = 0;
                continue;
            };
            let path: &Path = path;
            let mut text = Vec::new();
            let read = reader.take(MAX_LINE).read_until(b'\n', &mut text);
            if read.map_err(|e| DataError::io("read", path, e))? == 0 {
                self.current = None;
                continue;
            }
            self.line += 1;
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let wrong =
                |reason: String| DataError::format(path, format!("line {}: {reason}", self.line));
            let line: Line =
                serde_json::from_slice(&text).map_err(|e| wrong(format!("no sample: {e}")))?;
            let sample = sample(line, self.rain_factor).map_err(wrong)?;
            let (channels, height, width) = sample.rain.dim();
            let (rain, depth) = (
                [channels, height, width],
                <[usize; 2]>::from(sample.depth_m.dim()),
            );
            let (first_rain, first_depth) = (self.metadata.rainfallradar, self.metadata.waterdepth);
            if first_rain[0] > 0 && (rain, depth) != (first_rain, first_depth) {
                return Err(wrong(format!(
                    "rain {rain:?} and depth {depth:?}, unlike the first sample's {first_rain:?} and {first_depth:?}"
                )));
            }
            return Ok(Some(sample));
        }
    }
}

fn sample(line: Line, rain_factor: f32) -> std::result::Result<Sample, String> {
    let shape = |name: &str, rows: &[Vec<f32>]| {
        let (height, width) = (rows.len(), rows.first().map_or(0, Vec::len));
        if width == 0 || rows.iter().any(|row| row.len() != width) {
            return Err(format!("'{name}' is no map of rows of the same length"));
        }
        Ok((height, width))
    };
    let (height, width) = shape("waterdepth", &line.waterdepth)?;
    let depth_m = Array2::from_shape_vec((height, width), line.waterdepth.concat())
        .map_err(|e| e.to_string())?;
    let channels = line.rainfallradar.len();
    let mut shapes = line
        .rainfallradar
        .iter()
        .map(|channel| shape("rainfallradar", channel));
    let (height, width) = shapes
        .next()
        .unwrap_or_else(|| Err("'rainfallradar' has no channels".into()))?;
    for other in shapes {
        if other? != (height, width) {
            return Err("the channels of 'rainfallradar' differ in shape".into());
        }
    }
    let values: Vec<f32> = line
        .rainfallradar
        .into_iter()
        .flatten()
        .flatten()
        .map(|value| value * rain_factor)
        .collect();
    let rain =
        Array3::from_shape_vec((channels, height, width), values).map_err(|e| e.to_string())?;
    Ok(Sample {
        rain,
        depth_m,
        rain_totals_mm: None,
        depth_now_m: None,
    })
}

/// Files of JSON lines, by the number that their name begins with, then by name.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| DataError::io("read", folder, e))? {
        let path = entry.map_err(|e| DataError::io("read", folder, e))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".jsonl") || name.ends_with(".jsonl.gz") {
            let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
            files.push((digits.parse().unwrap_or(u64::MAX), name, path));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(.., path)| path).collect())
}
