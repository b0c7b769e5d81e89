//! ESRI ASCII grids: one in a file, or a stream of them one after the other (a grid a time step), plain or gzip.
//!
//! The header's keys (`ncols nrows xllcorner|xllcenter yllcorner|yllcenter cellsize [NODATA_value]`, and `dx dy` in place of
//! `cellsize` as GDAL writes for cells that are not square) may come in any order and case; values follow row by row from the
//! north, separated by any white space.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::MAX_CELLS;
use crate::error::{DataError, Result};
use crate::file;
use crate::grid::GeoGrid;

/// No number is written with more characters than this.
const MAX_TOKEN: usize = 400;
/// Values for which memory is reserved before the file has shown that it holds them.
const TRUSTED_CELLS: usize = 1 << 20;

/// Reads a file that holds one grid. No-data cells become NaN.
///
/// # Errors
/// [`DataError`] with the line, where a header key is missing, twice or unknown, a value is not a finite number, or there are
/// fewer or more values than `nrows × ncols`.
pub fn read(path: &Path) -> Result<GeoGrid> {
    let mut grids = Grids::open(path)?;
    let grid = match grids.next() {
        None => return Err(DataError::format(path, "the file is empty")),
        Some(grid) => grid?,
    };
    match grids.next() {
        None => Ok(grid),
        Some(Err(error)) => Err(error),
        Some(Ok(_)) => Err(DataError::format(
            path,
            "the file holds several grids where one is wanted",
        )),
    }
}

/// Writes a grid, compressed where the name ends in `.gz`. NaN is written as `NODATA_value`: −9999, or the lowest `f32` where a
/// cell holds −9999. Values read back exactly.
///
/// # Errors
/// [`DataError`] for an infinite value, or where the file cannot be written.
pub fn write(path: &Path, grid: &GeoGrid) -> Result<()> {
    file::write(path, |out| write_grid(out, grid))
}

/// Writes a grid as the next of a stream, as [`write()`] does.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for an infinite value, else what `out` meets.
pub fn write_grid(out: &mut (impl Write + ?Sized), grid: &GeoGrid) -> io::Result<()> {
    if let Some(((row, column), value)) = grid.data.indexed_iter().find(|(_, v)| v.is_infinite()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("row {row}, column {column} is {value}, which the format cannot hold"),
        ));
    }
    let no_data = if grid.data.iter().any(|&v| v == -9999.0) {
        f32::MIN
    } else {
        -9999.0
    };
    writeln!(out, "ncols {}", grid.width())?;
    writeln!(out, "nrows {}", grid.height())?;
    writeln!(out, "xllcorner {}", grid.west)?;
    writeln!(out, "yllcorner {}", grid.south())?;
    if (grid.cell_x / grid.cell_y - 1.0).abs() < 1e-12 {
        writeln!(out, "cellsize {}", grid.cell_x)?;
    } else {
        writeln!(out, "dx {}\ndy {}", grid.cell_x, grid.cell_y)?;
    }
    writeln!(out, "NODATA_value {no_data}")?;
    let mut line = String::new();
    for row in grid.data.rows() {
        line.clear();
        for (j, &value) in row.iter().enumerate() {
            let value = if value.is_nan() { no_data } else { value };
            let gap = if j == 0 { "" } else { " " };
            let _ = write!(line, "{gap}{value}");
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The grids of a stream, one at a time: memory holds one grid, whatever the length of the stream. After an error it ends.
pub struct Grids {
    path: PathBuf,
    tokens: Tokens,
    /// Grids read so far.
    count: usize,
    done: bool,
}

impl Grids {
    /// Opens a file or stream, plain or gzip.
    ///
    /// # Errors
    /// [`DataError::Io`] where the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            tokens: Tokens::new(file::open(path)?),
            count: 0,
            done: false,
        })
    }

    fn error(&self, line: u64, reason: impl std::fmt::Display) -> DataError {
        let grid = match self.count {
            0 => String::new(),
            count => format!("grid {count}, "),
        };
        DataError::format(&self.path, format!("{grid}line {line}: {reason}"))
    }

    /// The next word; `false` at the end of the file.
    fn advance(&mut self) -> Result<bool> {
        match self.tokens.advance() {
            Ok(Some(true)) => Ok(true),
            Ok(Some(false)) => Err(self.error(
                self.tokens.token_line,
                format!(
                    "a word of more than {MAX_TOKEN} characters: this is not an ESRI ASCII grid"
                ),
            )),
            Ok(None) => Ok(false),
            Err(e) => Err(DataError::io("read", &self.path, e)),
        }
    }

    fn read_grid(&mut self) -> Result<Option<GeoGrid>> {
        let Some(header) = self.read_header()? else {
            return Ok(None);
        };
        let (rows, columns) = (header.rows, header.columns);
        let cells = rows * columns;
        let mut values = Vec::with_capacity(cells.min(TRUSTED_CELLS));
        // The header ended at the first value, which is still the current word.
        let mut present = header.has_values;
        while present {
            values.push(self.value(&header, values.len())?);
            if values.len() == cells {
                break;
            }
            present = self.advance()?;
        }
        if values.len() < cells {
            let n = values.len();
            let line = self.tokens.line;
            return Err(self.error(
                line,
                format!(
                    "the file ends after {n} of {rows} × {columns} values (row {}, column {})",
                    n / columns,
                    n % columns
                ),
            ));
        }
        let data = Array2::from_shape_vec((rows, columns), values)
            .map_err(|e| DataError::format(&self.path, e.to_string()))?;
        self.count += 1;
        Ok(Some(GeoGrid {
            data,
            west: header.west,
            north: header.south + header.cell_y * rows as f64,
            cell_x: header.cell_x,
            cell_y: header.cell_y,
            crs: None,
        }))
    }

    /// The current word as a cell's value.
    fn value(&self, header: &Header, index: usize) -> Result<f32> {
        let place = || {
            format!(
                "row {}, column {}",
                index / header.columns,
                index % header.columns
            )
        };
        let line = self.tokens.token_line;
        let Some(number) = self.tokens.number() else {
            let text = self.tokens.text();
            return Err(self.error(line, format!("'{text}' is not a number ({})", place())));
        };
        let value = number as f32;
        if let Some(no_data) = header.no_data
            && (value == no_data || (value.is_nan() && no_data.is_nan()))
        {
            return Ok(f32::NAN);
        }
        if !value.is_finite() {
            let text = self.tokens.text();
            return Err(self.error(line, format!("'{text}' is not finite ({})", place())));
        }
        Ok(value)
    }

    /// Reads keys and values up to the first word that is a number; `None` at a clean end of the stream.
    fn read_header(&mut self) -> Result<Option<Header>> {
        const KEYS: [&str; 10] = [
            "ncols",
            "nrows",
            "xllcorner",
            "yllcorner",
            "xllcenter",
            "yllcenter",
            "cellsize",
            "dx",
            "dy",
            "nodata_value",
        ];
        let mut found = [None::<f64>; KEYS.len()];
        let mut started = false;
        let mut has_values = false;
        while self.advance()? {
            let line = self.tokens.token_line;
            let word = self.tokens.text().to_ascii_lowercase();
            let Some(key) = KEYS.iter().position(|key| *key == word) else {
                if self.tokens.number().is_none() {
                    return Err(self.error(
                        line,
                        format!("'{word}' is neither a key of an ESRI ASCII header nor a number"),
                    ));
                }
                if !started {
                    return Err(self.error(
                        line,
                        match self.count {
                            0 => format!("'{word}' where a header should begin"),
                            _ => {
                                format!("'{word}' goes beyond the nrows × ncols values of the grid")
                            }
                        },
                    ));
                }
                has_values = true;
                break;
            };
            started = true;
            if !self.advance()? {
                return Err(self.error(line, format!("the file ends after '{word}'")));
            }
            let Some(value) = self.tokens.number() else {
                let text = self.tokens.text();
                return Err(self.error(line, format!("{word} is '{text}', not a number")));
            };
            if found[key].replace(value).is_some() {
                return Err(self.error(line, format!("{word} stands twice in the header")));
            }
        }
        if !started {
            return Ok(None);
        }
        let line = self.tokens.token_line;
        let missing = |key: &str| self.error(line, format!("the header has no {key}"));
        let size = |index: usize| {
            let value = found[index].ok_or_else(|| missing(KEYS[index]))?;
            if value >= 1.0 && value.fract() == 0.0 && value <= MAX_CELLS as f64 {
                Ok(value as usize)
            } else {
                Err(self.error(line, format!("{} is {value}", KEYS[index])))
            }
        };
        let (columns, rows) = (size(0)?, size(1)?);
        if columns as u64 * rows as u64 > MAX_CELLS {
            return Err(self.error(line, format!("{rows} × {columns} cells are too many")));
        }
        let cell = |index: usize| {
            let (key, value) = match (found[6], found[index]) {
                (Some(value), _) => (KEYS[6], value),
                (None, Some(value)) => (KEYS[index], value),
                (None, None) => return Err(missing(KEYS[6])),
            };
            if value > 0.0 && value.is_finite() {
                Ok(value)
            } else {
                Err(self.error(line, format!("{key} is {value}")))
            }
        };
        let (cell_x, cell_y) = (cell(7)?, cell(8)?);
        let corner = |index: usize, cell: f64| {
            let value = match (found[index], found[index + 2]) {
                (Some(corner), None) => corner,
                (None, Some(center)) => center - 0.5 * cell,
                (None, None) => return Err(missing(KEYS[index])),
                (Some(_), Some(_)) => {
                    return Err(self.error(
                        line,
                        format!("both {} and {} are given", KEYS[index], KEYS[index + 2]),
                    ));
                }
            };
            if value.is_finite() {
                Ok(value)
            } else {
                Err(self.error(line, format!("{} is {value}", KEYS[index])))
            }
        };
        Ok(Some(Header {
            rows,
            columns,
            west: corner(2, cell_x)?,
            south: corner(3, cell_y)?,
            cell_x,
            cell_y,
            no_data: found[9].map(|value| value as f32),
            has_values,
        }))
    }
}

impl Iterator for Grids {
    type Item = Result<GeoGrid>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let grid = self.read_grid().transpose();
        self.done = !matches!(grid, Some(Ok(_)));
        grid
    }
}

struct Header {
    rows: usize,
    columns: usize,
    west: f64,
    south: f64,
    cell_x: f64,
    cell_y: f64,
    no_data: Option<f32>,
    has_values: bool,
}

/// Words between white space, and the lines they stand on.
struct Tokens {
    reader: Box<dyn BufRead + Send>,
    token: Vec<u8>,
    /// Line that reading has come to, from 1.
    line: u64,
    /// Line of the current word.
    token_line: u64,
    at_start: bool,
}

impl Tokens {
    fn new(reader: Box<dyn BufRead + Send>) -> Self {
        Self {
            reader,
            token: Vec::new(),
            line: 1,
            token_line: 1,
            at_start: true,
        }
    }

    /// Moves to the next word; `None` at the end of the file, `Some(false)` for a word that is too long to be a number.
    fn advance(&mut self) -> std::io::Result<Option<bool>> {
        self.token.clear();
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let mut used = 0;
            if self.token.is_empty() {
                if std::mem::take(&mut self.at_start) && buffer.starts_with(b"\xef\xbb\xbf") {
                    used = 3;
                }
                while let Some(byte) = buffer.get(used)
                    && byte.is_ascii_whitespace()
                {
                    self.line += u64::from(*byte == b'\n');
                    used += 1;
                }
                self.token_line = self.line;
            }
            let rest = &buffer[used..];
            let length = rest
                .iter()
                .position(u8::is_ascii_whitespace)
                .unwrap_or(rest.len());
            let room = MAX_TOKEN + 1 - self.token.len();
            self.token.extend_from_slice(&rest[..length.min(room)]);
            let ended = length < rest.len();
            used += length.min(room);
            self.reader.consume(used);
            if self.token.len() > MAX_TOKEN {
                return Ok(Some(false));
            }
            if ended && !self.token.is_empty() {
                break;
            }
        }
        Ok((!self.token.is_empty()).then_some(true))
    }

    /// The current word, its beginning where it is long, with anything unprintable escaped.
    fn text(&self) -> String {
        let shown = &self.token[..self.token.len().min(40)];
        shown.escape_ascii().to_string()
    }

    fn number(&self) -> Option<f64> {
        std::str::from_utf8(&self.token).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    const PLAIN: &str = "ncols 3\nnrows 2\nxllcorner 10\nyllcorner 20\ncellsize 5\nNODATA_value -1\n1 2 -1\n4 5.5 6e0\n";

    #[test]
    fn reads_any_order_case_and_white_space() {
        let nan = f32::NAN;
        let expected = array![[1.0, 2.0, nan], [4.0, 5.5, 6.0]];
        let same = |grid: &GeoGrid| {
            assert_eq!(grid.data.dim(), (2, 3));
            for (a, b) in grid.data.iter().zip(&expected) {
                assert!(a == b || (a.is_nan() && b.is_nan()), "{a} {b}");
            }
            assert_eq!((grid.west, grid.north), (10.0, 30.0));
            assert_eq!((grid.cell_x, grid.cell_y), (5.0, 5.0));
        };
        same(&read(file(PLAIN).path()).unwrap());
        let odd = "\u{feff}CELLSIZE\t5.000\r\nNoData_Value -1.0  YLLCENTER 22.5\r\nNROWS 2 xllCenter 12.5 nCols\n3\r\n 1\n2\t-1.00 4 5.5\r\n\r\n6";
        same(&read(file(odd).path()).unwrap());
    }

    #[test]
    fn without_a_no_data_value_every_number_counts() {
        let text = PLAIN.replace("NODATA_value -1\n", "");
        assert_eq!(read(file(&text).path()).unwrap().data[[0, 2]], -1.0);
    }

    #[test]
    fn no_data_may_be_nan_or_single_precision() {
        let text = PLAIN.replace("-1", "nan");
        assert!(read(file(&text).path()).unwrap().data[[0, 2]].is_nan());
        let text = PLAIN
            .replace("value -1", "value -3.4028234663852886e+38")
            .replace("2 -1", "2 -3.40282347e38");
        assert!(read(file(&text).path()).unwrap().data[[0, 2]].is_nan());
    }

    #[test]
    fn errors_name_file_line_and_place() {
        let cases = [
            (
                PLAIN.replace("5.5", "five"),
                "line 8: 'five' is not a number (row 1, column 1)",
            ),
            (
                PLAIN.replace("5.5", "NaN"),
                "line 8: 'NaN' is not finite (row 1, column 1)",
            ),
            (
                PLAIN.replace("5.5", "1e39"),
                "line 8: '1e39' is not finite (row 1, column 1)",
            ),
            (
                PLAIN.replace("4 5.5 6e0\n", ""),
                "the file ends after 3 of 2 × 3 values (row 1, column 0)",
            ),
            (
                PLAIN.replace("6e0", "6 7"),
                "line 8: '7' goes beyond the nrows × ncols values of the grid",
            ),
            (
                PLAIN.replace("cellsize 5\n", ""),
                "the header has no cellsize",
            ),
            (PLAIN.replace("cellsize 5", "cellsize -5"), "cellsize is -5"),
            (PLAIN.replace("nrows 2", "nrows 2.5"), "nrows is 2.5"),
            (PLAIN.replace("nrows 2", "nrows 0"), "nrows is 0"),
            (
                PLAIN.replace("nrows 2", "nrows two"),
                "line 2: nrows is 'two', not a number",
            ),
            (
                PLAIN.replace("nrows 2", "nrows 2 nrows 2"),
                "nrows stands twice",
            ),
            (
                PLAIN.replace("nrows 2", "rows 2"),
                "line 2: 'rows' is neither a key",
            ),
            (
                PLAIN.replace("nrows 2", "nrows 2000000000"),
                "cells are too many",
            ),
            (
                PLAIN.replace("yllcorner 20", "xllcenter 20"),
                "both xllcorner and xllcenter are given",
            ),
            ("1 2 3".into(), "line 1: '1' where a header should begin"),
            ("ncols".into(), "the file ends after 'ncols'"),
            ("".into(), "the file is empty"),
            ("x".repeat(5000), "this is not an ESRI ASCII grid"),
            (PLAIN.repeat(2), "the file holds several grids"),
        ];
        for (text, expected) in cases {
            let file = file(&text);
            let error = read(file.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains(&file.path().display().to_string()) && !error.contains('\n'));
        }
    }

    #[test]
    fn a_claimed_size_reserves_no_memory() {
        // 2^31 cells of 4 bytes would be 8 GiB: memory follows what the file holds.
        let text = PLAIN.replace("nrows 2", "nrows 700000000");
        let error = read(file(&text).path()).unwrap_err().to_string();
        assert!(error.contains("ends after 6 of 700000000 × 3"), "{error}");
    }

    #[test]
    fn writes_what_it_reads() {
        let folder = tempfile::tempdir().unwrap();
        let mut grid = GeoGrid::new(
            array![[0.1, f32::NAN, 1e-20], [-3.25, 1e30, f32::MIN_POSITIVE]],
            -1234.5,
            77.25,
            0.25,
        );
        for (name, value, cell_y) in [("a.asc", 7.0, 0.25), ("b.asc.gz", -9999.0, 0.5)] {
            grid.data[[1, 0]] = value;
            grid.cell_y = cell_y;
            let path = folder.path().join(name);
            write(&path, &grid).unwrap();
            let back = read(&path).unwrap();
            let bits = |g: &GeoGrid| g.data.mapv(f32::to_bits);
            assert_eq!(bits(&back), bits(&grid));
            assert_eq!((back.west, back.north), (grid.west, grid.north));
            assert_eq!((back.cell_x, back.cell_y), (0.25, cell_y));
        }
        grid.data[[0, 0]] = f32::INFINITY;
        assert!(write(&folder.path().join("c.asc"), &grid).is_err());
    }

    #[test]
    fn streams_end_cleanly_or_name_the_grid() {
        let text = format!("{PLAIN}{}", PLAIN.replace("5.5", "7"));
        let grids: Vec<_> = Grids::open(file(&text).path()).unwrap().collect();
        assert_eq!(grids.len(), 2);
        assert_eq!(grids[1].as_ref().unwrap().data[[1, 1]], 7.0);

        let text = format!("{PLAIN}{}", PLAIN.replace("5.5", "?"));
        let grids: Vec<_> = Grids::open(file(&text).path()).unwrap().collect();
        assert_eq!(grids.len(), 2);
        let error = grids[1].as_ref().unwrap_err().to_string();
        assert!(
            error.contains("grid 1, line 16: '?' is not a number"),
            "{error}"
        );

        let text = format!("{PLAIN}{}", &PLAIN[..40]);
        let last = Grids::open(file(&text).path()).unwrap().last().unwrap();
        assert!(last.is_err());
    }
}
