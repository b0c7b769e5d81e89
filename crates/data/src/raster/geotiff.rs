//! GeoTIFF (OGC 19-008r4): single-band rasters of any integer or floating-point type, in strips or tiles, uncompressed,
//! deflate, LZW or PackBits, with or without a predictor; TIFF and BigTIFF in either byte order.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use ndarray::{Array2, s};
use tiff::ColorType;
use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};
use tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype::Gray32Float};
use tiff::tags::{ByteOrder, CompressionMethod, Tag, Type};

use super::{MAX_CELLS, lzw};
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
    let mut reader = BufReader::new(file);
    check_directory(&mut reader, file_size)
        .map_err(|e| DataError::io("read", path, e))?
        .map_err(wrong)?;
    reader
        .rewind()
        .map_err(|e| DataError::io("read", path, e))?;
    let mut decoder = Decoder::new(reader).map_err(broken)?.with_limits(limits);

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
    let (chunk_columns, chunk_rows) = decoder.chunk_dimensions();
    // Strips and tiles may reach below the image, where nothing is read; columns of padding are.
    let chunk_rows = chunk_rows.min(rows);
    for (rows, columns) in [(rows, columns), (chunk_rows, chunk_columns)] {
        let cells = u64::from(columns) * u64::from(rows);
        // Cells of less than a byte are counted as one: here they take four.
        if cells > MAX_CELLS || (cells / 8).saturating_mul(bits.max(8)) > room as u64 {
            return Err(wrong(format!(
                "{rows} × {columns} cells cannot come from {file_size} bytes"
            )));
        }
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
    let (chunk_columns, chunk_rows) = (chunk_columns as usize, chunk_rows as usize);
    let mut data = Array2::<f32>::zeros((rows, columns));
    let lzw = LzwBlocks::find(&mut decoder).map_err(broken)?;
    let mut index = 0;
    for row in (0..rows).step_by(chunk_rows) {
        for column in (0..columns).step_by(chunk_columns) {
            let height = chunk_rows.min(rows - row);
            let width = chunk_columns.min(columns - column);
            // The decoder cuts the padding of tiles off; what is unpacked here still has its columns.
            let (chunk, stored_width) = match &lzw {
                None => (decoder.read_chunk(index).map_err(broken)?, width),
                Some(lzw) => {
                    let chunk = lzw.read(&mut decoder, index as usize, height, chunk_columns);
                    (chunk.map_err(wrong)?, chunk_columns)
                }
            };
            let values = to_f32(chunk, no_data)
                .ok_or_else(|| wrong("samples of a type that is no number".into()))?;
            let values = Array2::from_shape_vec((height, stored_width), values)
                .map_err(|_| wrong(format!("block {index} is not {height} × {width} cells")))?;
            data.slice_mut(s![row..row + height, column..column + width])
                .assign(&values.slice(s![.., ..width]));
            index += 1;
        }
    }
    if let Some(((i, j), value)) = data.indexed_iter().find(|(_, v)| v.is_infinite()) {
        return Err(wrong(format!("row {i}, column {j} is {value}")));
    }
    position.place(data).map_err(wrong)
}

/// Checks that every value of the first directory lies within the file (TIFF 6.0, section 2; BigTIFF): [`Decoder::new`] takes
/// no limits and would reserve memory for whatever a damaged count claims.
fn check_directory(
    reader: &mut BufReader<File>,
    file_size: u64,
) -> std::io::Result<Result<(), String>> {
    let mut head = [0; 16];
    let length = reader.read(&mut head)?;
    if length < 8 || !is_tiff(&head[..length]) {
        return Ok(Err("the file does not begin as a TIFF".into()));
    }
    let little = head[0] == b'I';
    let number = |bytes: &[u8]| {
        let next = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        if little {
            bytes.iter().rev().fold(0, next)
        } else {
            bytes.iter().fold(0, next)
        }
    };
    let big = number(&head[2..4]) == 43;
    // Sizes of: an offset or count, the number of entries, an entry.
    let (word, count_size, entry_size) = if big { (8, 8, 20) } else { (4, 2, 12) };
    let start = number(if big { &head[8..16] } else { &head[4..8] });
    let outside = || Ok(Err("its directory lies beyond the end of the file".into()));
    let fits = |offset: u64, bytes: u64| {
        offset
            .checked_add(bytes)
            .is_some_and(|end| end <= file_size)
    };
    if !fits(start, count_size) {
        return outside();
    }
    reader.seek(SeekFrom::Start(start))?;
    let mut field = [0; 20];
    reader.read_exact(&mut field[..count_size as usize])?;
    let entries = number(&field[..count_size as usize]);
    if !fits(start + count_size, entries.saturating_mul(entry_size)) {
        return outside();
    }
    for _ in 0..entries {
        let entry = &mut field[..entry_size as usize];
        reader.read_exact(entry)?;
        let tag = number(&entry[..2]);
        let size = match number(&entry[2..4]) {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        };
        let bytes = number(&entry[4..4 + word]).saturating_mul(size);
        let offset = number(&entry[4 + word..]);
        if bytes > word as u64 && !fits(offset, bytes) {
            return Ok(Err(format!(
                "the values of tag {tag} lie beyond the end of the file"
            )));
        }
    }
    Ok(Ok(()))
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

/// The strips or tiles of a file with LZW compression.
///
/// The decoder refuses some sound files ("no lzw end code found", image-tiff issue 395, in all releases of 0.11), so these
/// blocks are unpacked here; byte order and predictor stay its work, on a file of its own for each block.
struct LzwBlocks {
    offsets: Vec<u64>,
    sizes: Vec<u64>,
    bits: u16,
    sample_format: u16,
    predictor: u16,
}

impl LzwBlocks {
    /// `None` where the file has another compression.
    fn find(decoder: &mut Decoder<BufReader<File>>) -> tiff::TiffResult<Option<Self>> {
        let mut number = |tag, default| {
            let values = decoder.find_tag_unsigned_vec::<u16>(tag)?;
            let first = values.and_then(|v| v.first().copied());
            Ok::<u16, tiff::TiffError>(first.unwrap_or(default))
        };
        if number(Tag::Compression, 1)? != CompressionMethod::LZW.to_u16() {
            return Ok(None);
        }
        let bits = number(Tag::BitsPerSample, 1)?;
        let sample_format = number(Tag::SampleFormat, 1)?;
        let predictor = number(Tag::Predictor, 1)?;
        let (offsets, sizes) = match decoder.get_chunk_type() {
            ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
            ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        };
        Ok(Some(Self {
            offsets: decoder.find_tag_unsigned_vec(offsets)?.unwrap_or_default(),
            sizes: decoder.find_tag_unsigned_vec(sizes)?.unwrap_or_default(),
            bits,
            sample_format,
            predictor,
        }))
    }

    /// The first `rows` rows of a block that is `columns` wide.
    fn read(
        &self,
        decoder: &mut Decoder<BufReader<File>>,
        index: usize,
        rows: usize,
        columns: usize,
    ) -> Result<DecodingResult, String> {
        let (Some(&offset), Some(&size)) = (self.offsets.get(index), self.sizes.get(index)) else {
            return Err(format!("block {index} has no place in the file"));
        };
        let named = |e: &dyn std::fmt::Display| format!("block {index}: {e}");
        let order = decoder.byte_order();
        let reader = decoder.inner();
        let mut packed = Vec::new();
        reader
            .seek(SeekFrom::Start(offset))
            .and_then(|_| reader.take(size).read_to_end(&mut packed))
            .map_err(|e| named(&e))?;
        let row_bytes = (columns * usize::from(self.bits)).div_ceil(8);
        let unpacked = lzw::decode(&packed, rows * row_bytes).map_err(|e| named(&e))?;

        let two = |value: u16| match order {
            ByteOrder::LittleEndian => value.to_le_bytes(),
            ByteOrder::BigEndian => value.to_be_bytes(),
        };
        let four = |value: u32| match order {
            ByteOrder::LittleEndian => value.to_le_bytes(),
            ByteOrder::BigEndian => value.to_be_bytes(),
        };
        let (rows, columns) = (rows as u32, columns as u32);
        let length = u32::try_from(unpacked.len()).map_err(|e| named(&e))?;
        let entries = [
            (Tag::ImageWidth, columns),
            (Tag::ImageLength, rows),
            (Tag::BitsPerSample, u32::from(self.bits)),
            (Tag::Compression, 1),
            (Tag::PhotometricInterpretation, 1),
            // Behind the 8 bytes of the header.
            (Tag::StripOffsets, 8),
            (Tag::RowsPerStrip, rows),
            (Tag::StripByteCounts, length),
            (Tag::Predictor, u32::from(self.predictor)),
            (Tag::SampleFormat, u32::from(self.sample_format)),
        ];
        let mut file = match order {
            ByteOrder::LittleEndian => b"II*\0".to_vec(),
            ByteOrder::BigEndian => b"MM\0*".to_vec(),
        };
        file.extend(four(length.saturating_add(8)));
        file.extend(unpacked);
        file.extend(two(entries.len() as u16));
        for (tag, value) in entries {
            file.extend(two(tag.to_u16()));
            file.extend(two(Type::LONG.to_u16()));
            file.extend(four(1));
            file.extend(four(value));
        }
        file.extend(four(0));
        Decoder::new(Cursor::new(file))
            .and_then(|mut decoder| decoder.read_image())
            .map_err(|e| named(&e))
    }
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
