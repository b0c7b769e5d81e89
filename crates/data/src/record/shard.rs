//! A shard: one `<int>.tfrecord.gz` file of samples.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use ndarray::{Array2, Array3};

use super::DecodeError;
use super::example::{Example, encode_example};
use super::metadata::Metadata;
use super::tensor::{Values, encode_tensor, tensor_values};
use super::tfrecord::{read_record, write_record};
use crate::atomic::AtomicFile;
use crate::error::{DataError, Result};
use crate::sample::{Cut, Sample};
use crate::transform::Window;

/// Highest rain value that a record may hold: 2000 mm/h ÷ 100, above the world record of one minute (1872 mm/h, WMO).
const MAX_RAIN: f32 = 20.0;
/// Highest rain total that a record may hold, in mm: above the world record of four days (4936 mm, WMO).
const MAX_TOTAL_MM: f32 = 10_000.0;
/// Highest water depth that a record may hold, in metres: above it stand no-data codes, not water.
const MAX_DEPTH_M: f32 = 1000.0;

/// Reads the samples of a shard in order.
///
/// The shard is inflated as it is read: memory is one record and a buffer, and the file's gzip checksum is checked at its end.
#[derive(Debug)]
pub struct ShardReader {
    path: PathBuf,
    stream: MultiGzDecoder<BufReader<File>>,
    metadata: Metadata,
    bound: u64,
    next: u64,
    ended: bool,
}

impl ShardReader {
    /// Opens the shard at `path`, whose records have the shapes of `metadata`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: impl AsRef<Path>, metadata: &Metadata) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let file = File::open(&path).map_err(|e| DataError::io("open", &path, e))?;
        Ok(Self {
            stream: MultiGzDecoder::new(BufReader::with_capacity(1 << 17, file)),
            bound: metadata.max_record_bytes(),
            metadata: metadata.clone(),
            path,
            next: 0,
            ended: false,
        })
    }

    /// Reads the next record's bytes into `data`, both checksums checked; `Ok(None)` at the end, else the record's index.
    ///
    /// # Errors
    /// When the record is damaged. If the records after it can still be found, the next call reads on; if not, it returns `Ok(None)`.
    pub fn next_record(&mut self, data: &mut Vec<u8>) -> Result<Option<u64>> {
        if self.ended {
            return Ok(None);
        }
        let index = self.next;
        match read_record(&mut self.stream, data, self.bound) {
            Ok(true) => self.next += 1,
            Ok(false) => {
                self.ended = true;
                return Ok(None);
            }
            Err(e) => {
                self.next += 1;
                self.ended = !e.is_local();
                return Err(DataError::record(&self.path, index, e.to_string()));
            }
        }
        Ok(Some(index))
    }
}

impl Iterator for ShardReader {
    type Item = Result<Sample>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut data = Vec::new();
        match self.next_record(&mut data) {
            Ok(None) => None,
            Ok(Some(index)) => {
                let sample = decode_sample(&data, &self.metadata);
                Some(sample.map_err(|e| DataError::record(&self.path, index, e.to_string())))
            }
            Err(e) => Some(Err(e)),
        }
    }
}

/// Reads a record as a sample of the shapes of `metadata`.
///
/// # Errors
/// When a tensor is missing or of another shape, or holds values that cannot be: NaN, negative, or beyond any rain or flood.
pub fn decode_sample(
    record: &[u8],
    metadata: &Metadata,
) -> std::result::Result<Sample, DecodeError> {
    let cut = Cut::whole(metadata);
    let mut sample = cut.empty_sample(metadata);
    decode_cut(record, metadata, &cut, &mut sample)?;
    Ok(sample)
}

/// Reads the parts of a record that `cut` names into `sample`, which has their shapes ([`Cut::empty_sample`]). All of the
/// record is checked as [`decode_sample`] does, so whether a record is good does not depend on the cut.
///
/// # Errors
/// Those of [`decode_sample`]; what `sample` holds is of no use then.
///
/// # Panics
/// When `sample` has other shapes, or `cut` does not lie within those of `metadata`.
pub(crate) fn decode_cut(
    record: &[u8],
    metadata: &Metadata,
    cut: &Cut,
    sample: &mut Sample,
) -> std::result::Result<(), DecodeError> {
    let example = Example::parse(record)?;
    let read = |name: &str, shape: &[usize], max: f32, window: Window, out: &mut [f32]| {
        let wrong = |e: String| DecodeError(format!("feature '{name}': {e}"));
        match tensor_values(example.bytes(name)?, shape).map_err(|e| wrong(e.0))? {
            Values::Stored(values) => {
                check_values(
                    values.iter().map(|&bytes| f32::from_le_bytes(bytes)),
                    shape,
                    max,
                )
                .map_err(wrong)?;
                copy_window(values, shape, window, out, |row, out| {
                    for (out, &bytes) in out.iter_mut().zip(row) {
                        *out = f32::from_le_bytes(bytes);
                    }
                });
            }
            Values::Decoded(values) => {
                check_values(values.iter().copied(), shape, max).map_err(wrong)?;
                copy_window(&values, shape, window, out, |row, out| {
                    out.copy_from_slice(row)
                });
            }
        }
        Ok::<_, DecodeError>(())
    };
    const CONTIGUOUS: &str = "an owned array in row-major order";
    let rain = sample.rain.as_slice_mut().expect(CONTIGUOUS);
    read(
        "rainfallradar",
        &metadata.rainfallradar,
        MAX_RAIN,
        cut.rain,
        rain,
    )?;
    let depth = sample.depth_m.as_slice_mut().expect(CONTIGUOUS);
    read(
        "waterdepth",
        &metadata.waterdepth,
        MAX_DEPTH_M,
        cut.depth,
        depth,
    )?;
    if let (Some(shape), Some(totals)) = (metadata.rainfalltotals, &mut sample.rain_totals_mm) {
        let totals = totals.as_slice_mut().expect(CONTIGUOUS);
        read("rainfalltotals", &shape, MAX_TOTAL_MM, cut.totals, totals)?;
    }
    if let (Some(shape), Some(now)) = (metadata.waterdepth_now, &mut sample.depth_now_m) {
        let now = now.as_slice_mut().expect(CONTIGUOUS);
        read("waterdepth_now", &shape, MAX_DEPTH_M, cut.depth, now)?;
    }
    Ok(())
}

/// Copies the `window` of every plane of `values` `[…, height, width]` to `out`, row by row.
fn copy_window<T>(
    values: &[T],
    shape: &[usize],
    window: Window,
    out: &mut [f32],
    copy: impl Fn(&[T], &mut [f32]),
) {
    let [.., height, width] = *shape else {
        unreachable!("maps have two axes at least")
    };
    let planes = values.chunks_exact(height * width);
    let outs = out.chunks_exact_mut(window.height * window.width);
    assert_eq!(planes.len(), outs.len(), "the sample has other shapes");
    for (plane, out) in planes.zip(outs) {
        let rows = plane.chunks_exact(width).skip(window.top);
        for (row, out) in rows.zip(out.chunks_exact_mut(window.width)) {
            copy(&row[window.left..window.left + window.width], out);
        }
    }
}

/// The record of a sample, as `tf.train.Example` bytes.
///
/// # Errors
/// When the sample does not have the shapes of `metadata` or holds values that [`decode_sample`] would refuse.
pub fn encode_sample(
    sample: &Sample,
    metadata: &Metadata,
) -> std::result::Result<Vec<u8>, DecodeError> {
    let encode =
        |name: &str, found: &[usize], values: Vec<f32>, shape: Option<&[usize]>, max: f32| {
            let Some(shape) = shape else {
                return Err(DecodeError(format!(
                    "feature '{name}' is not in the metadata"
                )));
            };
            if found != shape {
                return Err(DecodeError(format!(
                    "feature '{name}' has shape {found:?} instead of {shape:?}"
                )));
            }
            check_values(values.iter().copied(), shape, max)
                .map_err(|reason| DecodeError(format!("feature '{name}': {reason}")))?;
            Ok(encode_tensor(shape, &values))
        };
    let stack = |name: &'static str, array: &Array3<f32>, shape: Option<[usize; 3]>, max| {
        let shape = shape.as_ref().map(|shape| &shape[..]);
        encode(
            name,
            array.shape(),
            array.iter().copied().collect(),
            shape,
            max,
        )
        .map(|bytes| (name, bytes))
    };
    let plane = |name: &'static str, array: &Array2<f32>, shape: Option<[usize; 2]>, max| {
        let shape = shape.as_ref().map(|shape| &shape[..]);
        encode(
            name,
            array.shape(),
            array.iter().copied().collect(),
            shape,
            max,
        )
        .map(|bytes| (name, bytes))
    };
    let mut tensors = vec![stack(
        "rainfallradar",
        &sample.rain,
        Some(metadata.rainfallradar),
        MAX_RAIN,
    )?];
    match (&sample.rain_totals_mm, metadata.rainfalltotals) {
        (None, Some(_)) => return Err("feature 'rainfalltotals' is missing".into()),
        (None, None) => {}
        (Some(totals), shape) => {
            tensors.push(stack("rainfalltotals", totals, shape, MAX_TOTAL_MM)?)
        }
    }
    tensors.push(plane(
        "waterdepth",
        &sample.depth_m,
        Some(metadata.waterdepth),
        MAX_DEPTH_M,
    )?);
    match (&sample.depth_now_m, metadata.waterdepth_now) {
        (None, Some(_)) => return Err("feature 'waterdepth_now' is missing".into()),
        (None, None) => {}
        (Some(depth), shape) => tensors.push(plane("waterdepth_now", depth, shape, MAX_DEPTH_M)?),
    }
    let features: Vec<(&str, &[u8])> = tensors
        .iter()
        .map(|(name, bytes)| (*name, bytes.as_slice()))
        .collect();
    Ok(encode_example(&features))
}

/// Whether all values lie in `0..=max`; the first that does not is named with its place.
fn check_values(
    values: impl ExactSizeIterator<Item = f32> + Clone,
    shape: &[usize],
    max: f32,
) -> std::result::Result<(), String> {
    // Bits of floats from 0 up are integers in the same order, those of negative ones are negative, and NaN lies above
    // infinity: one sign bit over all differences finds any that is out of bounds, without a branch.
    let highest = max.to_bits() as i32;
    let signs = values.clone().fold(0, |signs, value| {
        let bits = value.to_bits() as i32;
        signs | bits | highest.wrapping_sub(bits)
    });
    if signs >= 0 {
        return Ok(());
    }
    // The sign may be that of a −0, which is no error.
    let Some((bad, value)) = values
        .enumerate()
        .find(|(_, value)| !(0.0..=max).contains(value))
    else {
        return Ok(());
    };
    let mut rest = bad;
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| (rest % size, rest /= size).0)
        .collect();
    place.reverse();
    Err(format!("{value} at {place:?} is not within 0..={max}"))
}

/// Writes a shard. It appears at its place when [`ShardWriter::finish`] is called, and not at all before.
#[derive(Debug)]
pub struct ShardWriter {
    stream: GzEncoder<BufWriter<AtomicFile>>,
    path: PathBuf,
    metadata: Metadata,
    count: u64,
}

impl ShardWriter {
    /// Starts the shard at `path` for samples of the shapes of `metadata`, with a gzip level of 0 (stored) to 9 (smallest).
    ///
    /// # Errors
    /// When the folder is missing or read-only.
    pub fn create(path: impl AsRef<Path>, metadata: &Metadata, gzip_level: u32) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let file = BufWriter::with_capacity(1 << 17, AtomicFile::create(&path)?);
        let stream = GzEncoder::new(file, Compression::new(gzip_level.min(9)));
        Ok(Self {
            stream,
            path,
            metadata: metadata.clone(),
            count: 0,
        })
    }

    /// Appends a sample.
    ///
    /// # Errors
    /// When the sample has other shapes than the metadata, holds values that a reader would refuse, or cannot be written.
    pub fn write(&mut self, sample: &Sample) -> Result<()> {
        let record = encode_sample(sample, &self.metadata);
        let record =
            record.map_err(|e| DataError::record(&self.path, self.count, e.to_string()))?;
        self.write_record(&record)
    }

    /// Appends a sample's record as another shard of the same shapes held it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_record(&mut self, record: &[u8]) -> Result<()> {
        write_record(&mut self.stream, record)
            .map_err(|e| DataError::io("write", &self.path, e))?;
        self.count += 1;
        Ok(())
    }

    /// Ends the file, puts it in its place and returns its number of samples.
    ///
    /// # Errors
    /// When it cannot be written or renamed; nothing is left then.
    pub fn finish(self) -> Result<u64> {
        let wrong = |e: io::Error| DataError::io("write", &self.path, e);
        let mut file = self.stream.finish().map_err(wrong)?;
        file.flush().map_err(wrong)?;
        file.into_inner()
            .map_err(|e| wrong(e.into_error()))?
            .commit()?;
        Ok(self.count)
    }
}
