//! GeoTIFF (OGC 19-008r4): single-band rasters of any integer or floating-point type, in strips or tiles, uncompressed,
//! deflate, LZW or PackBits, with or without a predictor; TIFF and BigTIFF in either byte order.

use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::Path;

use ndarray::{Array2, s};
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype::Gray32Float};
use tiff::tags::Tag;

use super::MAX_CELLS;
use crate::atomic;
use crate::error::{DataError, Result};
use crate::grid::GeoGrid;

/// No supported compression packs denser: an LZW code of 12 bits stands for up to 4096 bytes (TIFF 6.0, section 13).
const MAX_COMPRESSION: u64 = 4096 * 8 / 12 + 1;
/// What a small file may ask for in any case.
const SMALL: u64 = 1 << 20;

// Keys of the GeoKeyDirectory and values of theirs (OGC 19-008r4, section 7).
const MODEL_TYPE: u16 = 1024;
const RASTER_TYPE: u16 = 1025;
const GEOGRAPHIC_CRS: u16 = 2048;
const PROJECTED_CRS: u16 = 3072;
const PROJECTED: u16 = 1;
const GEOGRAPHIC: u16 = 2;
const PIXEL_IS_AREA: u16 = 1;
const PIXEL_IS_POINT: u16 = 2;
const USER_DEFINED: u16 = 32_767;

/// Whether a file begins as TIFF or BigTIFF do.
pub(crate) fn is_tiff(start: &[u8]) -> bool {
    [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]
        .iter()
        .any(|magic| start.starts_with(*magic))
}

/// Reads the first image of a file. Values of `GDAL_NODATA`, and NaN, become NaN; integers beyond 2²⁴ and doubles are rounded
/// to `f32`. A file without a position gets its south-western corner at (0, 0) and cells of size 1.
///
/// # Errors
/// [`DataError`] where the file is damaged, has several bands, is rotated or runs from south to north, or holds an infinite
/// value. Memory is reserved only for what the file's size can hold.
pub fn read(path: &Path) -> Result<GeoGrid> {
    let wrong = |reason: String| DataError::format(path, format!("GeoTIFF: {reason}"));
    let broken = |e: tiff::TiffError| wrong(e.to_string().replace('\n', " "));
    let file = File::open(path).map_err(|e| DataError::io("open", path, e))?;
    let file_size = file
        .metadata()
        .map_err(|e| DataError::io("read", path, e))?
        .len();
    let room = file_size.saturating_mul(MAX_COMPRESSION).max(SMALL);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.ifd_value_size = usize::try_from(file_size).unwrap_or(usize::MAX);
    limits.decoding_buffer_size = limits.decoding_buffer_size.min(room);
    limits.intermediate_buffer_size = limits.intermediate_buffer_size.min(room);
    let mut decoder = Decoder::new(BufReader::new(file))
        .map_err(broken)?
        .with_limits(limits);

    let (columns, rows) = decoder.dimensions().map_err(broken)?;
    let bits = match decoder.colortype().map_err(broken)? {
        ColorType::Gray(bits) => u64::from(bits),
        other => {
            return Err(wrong(format!(
                "{other:?} where one band of numbers is wanted"
            )));
        }
    };
    let photometric = decoder
        .find_tag_unsigned::<u16>(Tag::PhotometricInterpretation)
        .map_err(broken)?;
    if photometric == Some(0) {
        return Err(wrong(
            "brightness 0 is white: this is a picture, not a raster".into(),
        ));
    }
    let cells = u64::from(columns) * u64::from(rows);
    if cells > MAX_CELLS || (cells / 8).saturating_mul(bits) > room as u64 {
        return Err(wrong(format!(
            "{rows} × {columns} cells cannot come from {file_size} bytes"
        )));
    }

    let position = Position::read(&mut decoder).map_err(broken)?;
    let no_data = match decoder.find_tag(Tag::GdalNodata).map_err(broken)? {
        None => None,
        Some(value) => {
            let text = value.into_string().map_err(broken)?;
            let number = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
            let number: f64 = number
                .parse()
                .map_err(|_| wrong(format!("GDAL_NODATA is '{}'", number.escape_debug())))?;
            Some(number)
        }
    };

    let (rows, columns) = (rows as usize, columns as usize);
    let (chunk_columns, chunk_rows) = decoder.chunk_dimensions();
    let (chunk_columns, chunk_rows) = (chunk_columns as usize, chunk_rows as usize);
    let mut data = Array2::<f32>::zeros((rows, columns));
    let mut index = 0;
    for row in (0..rows).step_by(chunk_rows) {
        for column in (0..columns).step_by(chunk_columns) {
            let chunk = decoder.read_chunk(index).map_err(broken)?;
            index += 1;
            let height = chunk_rows.min(rows - row);
            let width = chunk_columns.min(columns - column);
            let values = to_f32(chunk, no_data)
                .ok_or_else(|| wrong("samples of a type that is no number".into()))?;
            let values = Array2::from_shape_vec((height, width), values).map_err(|_| {
                wrong(format!(
                    "chunk {} is not {height} × {width} cells",
                    index - 1
                ))
            })?;
            data.slice_mut(s![row..row + height, column..column + width])
                .assign(&values);
        }
    }
    if let Some(((i, j), value)) = data.indexed_iter().find(|(_, v)| v.is_infinite()) {
        return Err(wrong(format!("row {i}, column {j} is {value}")));
    }
    position.place(data).map_err(wrong)
}

/// Writes a grid as `f32`, deflate-compressed strips, with its position, its EPSG code where the CRS has one, and NaN as no
/// data. Values read back exactly.
///
/// # Errors
/// [`DataError`] where the file cannot be written.
pub fn write(path: &Path, grid: &GeoGrid) -> Result<()> {
    let bytes = encode(grid).map_err(|e| DataError::format(path, format!("GeoTIFF: {e}")))?;
    atomic::write_file(path, &bytes)
}

fn encode(grid: &GeoGrid) -> tiff::TiffResult<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bytes)?
        .with_compression(Compression::Deflate(DeflateLevel::Balanced));
    let (height, width) = (u32::try_from(grid.height())?, u32::try_from(grid.width())?);
    let mut image = encoder.new_image::<Gray32Float>(width, height)?;
    let tags = image.encoder();
    let scale = [grid.cell_x, grid.cell_y, 0.0];
    let tiepoint = [0.0, 0.0, 0.0, grid.west, grid.north, 0.0];
    tags.write_tag(Tag::ModelPixelScaleTag, &scale[..])?;
    tags.write_tag(Tag::ModelTiepointTag, &tiepoint[..])?;
    let mut keys = vec![(RASTER_TYPE, PIXEL_IS_AREA)];
    let epsg = grid
        .crs
        .as_deref()
        .and_then(|crs| crs.strip_prefix("EPSG:"))
        .and_then(|code| code.parse::<u16>().ok());
    if let Some(code) = epsg {
        let (model, key) = if grid.is_geographic() {
            (GEOGRAPHIC, GEOGRAPHIC_CRS)
        } else {
            (PROJECTED, PROJECTED_CRS)
        };
        keys.insert(0, (MODEL_TYPE, model));
        keys.push((key, code));
    }
    // Version 1.1.0 and the number of keys, then key, location (0: here), count and value of each.
    let mut directory = vec![1, 1, 0, keys.len() as u16];
    for (key, value) in keys {
        directory.extend([key, 0, 1, value]);
    }
    tags.write_tag(Tag::GeoKeyDirectoryTag, &directory[..])?;
    tags.write_tag(Tag::GdalNodata, "nan")?;
    let values = grid.data.as_standard_layout();
    image.write_data(values.as_slice().unwrap_or_default())?;
    Ok(bytes.into_inner())
}

/// Where the raster lies, as the tags say.
#[derive(Default)]
struct Position {
    scale: Option<Vec<f64>>,
    tiepoint: Option<Vec<f64>>,
    transformation: Option<Vec<f64>>,
    pixel_is_point: bool,
    crs: Option<String>,
}

impl Position {
    fn read(decoder: &mut Decoder<BufReader<File>>) -> tiff::TiffResult<Self> {
        let mut numbers = |tag| {
            decoder
                .find_tag(tag)?
                .map(|value| value.into_f64_vec())
                .transpose()
        };
        let mut position = Self {
            scale: numbers(Tag::ModelPixelScaleTag)?,
            tiepoint: numbers(Tag::ModelTiepointTag)?,
            transformation: numbers(Tag::ModelTransformationTag)?,
            ..Self::default()
        };
        let keys = decoder
            .find_tag_unsigned_vec::<u16>(Tag::GeoKeyDirectoryTag)?
            .unwrap_or_default();
        let (mut geographic, mut model) = (None, None);
        for entry in keys.chunks_exact(4).skip(1) {
            // Location 0: the value itself stands in the directory.
            let &[key, 0, _, value] = entry else { continue };
            match key {
                MODEL_TYPE => model = Some(value),
                RASTER_TYPE => position.pixel_is_point = value == PIXEL_IS_POINT,
                GEOGRAPHIC_CRS if value != USER_DEFINED => geographic = Some(value),
                PROJECTED_CRS if value != USER_DEFINED => {
                    position.crs = Some(format!("EPSG:{value}"));
                }
                _ => {}
            }
        }
        // The geographic system below a projection is not what the coordinates count in.
        if model == Some(GEOGRAPHIC) {
            position.crs = Some(match geographic {
                Some(code) => format!("EPSG:{code}"),
                None => crate::grid::UNNAMED_GEOGRAPHIC.into(),
            });
        }
        Ok(position)
    }

    fn place(self, data: Array2<f32>) -> Result<GeoGrid, String> {
        let (column, row, x, y, cell_x, cell_y) =
            match (&self.scale, &self.tiepoint, &self.transformation) {
                (Some(scale), Some(tie), _) if scale.len() >= 2 && tie.len() >= 6 => {
                    (tie[0], tie[1], tie[3], tie[4], scale[0], scale[1])
                }
                (_, _, Some(m)) if m.len() >= 8 => {
                    if m[1] != 0.0 || m[4] != 0.0 {
                        return Err("the raster is rotated".into());
                    }
                    (0.0, 0.0, m[3], m[7], m[0], -m[5])
                }
                (None, None, None) => (0.0, 0.0, 0.0, data.nrows() as f64, 1.0, 1.0),
                _ => return Err("the tags of its position are incomplete".into()),
            };
        let half = if self.pixel_is_point { 0.5 } else { 0.0 };
        let west = x - (column + half) * cell_x;
        let north = y + (row + half) * cell_y;
        if !(cell_x > 0.0 && cell_x.is_finite() && cell_y > 0.0 && cell_y.is_finite()) {
            return Err(format!(
                "cells of {cell_x} × {cell_y} (only north-up rasters can be read)"
            ));
        }
        if !(west.is_finite() && north.is_finite()) {
            return Err(format!("its corner lies at {west}, {north}"));
        }
        Ok(GeoGrid {
            data,
            west,
            north,
            cell_x,
            cell_y,
            crs: self.crs,
        })
    }
}

/// The samples as `f32`, no-data as NaN.
fn to_f32(samples: DecodingResult, no_data: Option<f64>) -> Option<Vec<f32>> {
    fn convert<T: Copy>(
        values: Vec<T>,
        no_data: Option<f64>,
        to_f64: impl Fn(T) -> f64,
    ) -> Vec<f32> {
        values
            .into_iter()
            .map(|value| {
                let value = to_f64(value);
                if no_data == Some(value) {
                    f32::NAN
                } else {
                    value as f32
                }
            })
            .collect()
    }
    use DecodingResult as D;
    Some(match samples {
        // A no-data value is written in decimal, which names a float only after rounding to its type.
        D::F32(v) => convert(v, no_data.map(|n| f64::from(n as f32)), f64::from),
        D::F64(v) => convert(v, no_data, |x| x),
        D::U8(v) => convert(v, no_data, f64::from),
        D::U16(v) => convert(v, no_data, f64::from),
        D::U32(v) => convert(v, no_data, f64::from),
        D::I8(v) => convert(v, no_data, f64::from),
        D::I16(v) => convert(v, no_data, f64::from),
        D::I32(v) => convert(v, no_data, f64::from),
        D::U64(v) => convert(v, no_data, |x| x as f64),
        D::I64(v) => convert(v, no_data, |x| x as f64),
        D::F16(_) => return None,
    })
}
