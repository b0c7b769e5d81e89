//! Nimrod files of the Met Office: fields of radar rain rate or accumulation, read and written.
//!
//! The format is that of *Nimrod System, Documentation Paper No. 2* (Met Office): big-endian Fortran records in pairs, a header
//! of 512 bytes and its data. Elements of the header are counted from 1 as there. Coordinates of the first row and column are
//! those of cell centres; the corners (elements 60–67), where they are given, are checked against them.

use std::io::{self, BufRead, Read};
use std::path::Path;

use ndarray::Array2;

use super::RadarFrame;
use super::time::{format_time, parts_of, time_of};
use crate::error::{DataError, Result};
use crate::file;
use crate::grid::{GeoGrid, UNNAMED_GEOGRAPHIC};

/// Bytes of a header without the lengths around it.
const HEADER: usize = 512;
/// Fields with more cells are taken for damaged: the composite of the whole United Kingdom has 3.75 million.
const MAX_CELLS: usize = 1 << 24;
/// What stands in elements that are not set.
const UNSET: i16 = -32_767;
const UNSET_REAL: f32 = -32_767.0;
/// The CRS of the British National Grid, grid type 0.
const NATIONAL_GRID: &str = "EPSG:27700";
/// Field codes (element 19) of rain rate: of models, of radar; and of accumulation.
const RAIN_RATE: [i16; 2] = [63, 213];
const ACCUMULATION: i16 = 214;
/// Bits of element 31: the least and the greatest value of the period, which are no rain rate of it.
const MINIMUM_OR_MAXIMUM: i16 = 4096 | 8192;

/// Names of the header's elements, as ranges of element numbers: each name stands for the first element and, where the range has
/// several, for those that follow too.
const ELEMENTS: [(usize, &str); 76] = [
    (1, "validity year"),
    (2, "validity month"),
    (3, "validity day"),
    (4, "validity hour"),
    (5, "validity minute"),
    (6, "validity second"),
    (7, "data year"),
    (8, "data month"),
    (9, "data day"),
    (10, "data hour"),
    (11, "data minute"),
    (12, "data type"),
    (13, "bytes per datum"),
    (14, "experiment number"),
    (15, "horizontal grid type"),
    (16, "rows"),
    (17, "columns"),
    (18, "header version"),
    (19, "field code"),
    (20, "vertical coordinate type"),
    (21, "reference level type"),
    (22, "number of data-specific reals"),
    (23, "number of data-specific integers"),
    (24, "origin of the data"),
    (25, "missing integer"),
    (26, "period, minutes"),
    (27, "model levels"),
    (28, "ellipsoid"),
    (29, "ensemble member"),
    (30, "origin model"),
    (31, "averaging or processing"),
    (32, "vertical coordinate"),
    (33, "reference level"),
    (34, "northing or latitude of the first row"),
    (35, "row spacing"),
    (36, "easting or longitude of the first column"),
    (37, "column spacing"),
    (38, "missing real"),
    (39, "scaling to SI units"),
    (40, "data offset"),
    (41, "x offset of the grid"),
    (42, "y offset of the grid"),
    (43, "latitude of the true origin"),
    (44, "longitude of the true origin"),
    (45, "easting of the true origin"),
    (46, "northing of the true origin"),
    (47, "scale on the central meridian"),
    (48, "threshold"),
    (49, "general real"),
    (60, "northing of the top left corner"),
    (61, "easting of the top left corner"),
    (62, "northing of the top right corner"),
    (63, "easting of the top right corner"),
    (64, "northing of the bottom right corner"),
    (65, "easting of the bottom right corner"),
    (66, "northing of the bottom left corner"),
    (67, "easting of the bottom left corner"),
    (68, "satellite calibration"),
    (69, "satellite space count"),
    (70, "ducting index"),
    (71, "elevation angle"),
    (72, "neighbourhood radius, km"),
    (73, "radius of interest, km"),
    (74, "recursive filter strength"),
    (75, "threshold fuzziness"),
    (76, "duration fuzziness"),
    (77, "data-specific real"),
    (105, "units"),
    (106, "source"),
    (107, "title"),
    (108, "radar number or threshold type"),
    (109, "radar sites or probability method"),
    (110, "further radar sites or filter iterations"),
    (111, "clutter map or members"),
    (112, "calibration type or probability period"),
    (113, "data-specific integer"),
];

/// A header, all of its elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Elements 1–31.
    pub general_integers: [i16; 31],
    /// Elements 32–59.
    pub general_reals: [f32; 28],
    /// Elements 60–104.
    pub specific_reals: [f32; 45],
    /// Element 105, 8 characters.
    pub units: String,
    /// Element 106, 24 characters.
    pub source: String,
    /// Element 107, 24 characters.
    pub title: String,
    /// Elements 108–158.
    pub specific_integers: [i16; 51],
}

impl Header {
    /// Decodes the 512 bytes of a header.
    pub fn decode(bytes: &[u8; HEADER]) -> Self {
        let integer = |at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let real = |at: usize| {
            f32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let text = |from: usize, to: usize| {
            let text: String = bytes[from..to].iter().map(|&b| char::from(b)).collect();
            text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
                .to_owned()
        };
        Self {
            general_integers: std::array::from_fn(|i| integer(2 * i)),
            general_reals: std::array::from_fn(|i| real(62 + 4 * i)),
            specific_reals: std::array::from_fn(|i| real(174 + 4 * i)),
            units: text(354, 362),
            source: text(362, 386),
            title: text(386, 410),
            specific_integers: std::array::from_fn(|i| integer(410 + 2 * i)),
        }
    }

    /// The 512 bytes; text that is too long is cut.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        for (i, value) in self.general_integers.iter().enumerate() {
            bytes[2 * i..][..2].copy_from_slice(&value.to_be_bytes());
        }
        for (i, value) in self.general_reals.iter().enumerate() {
            bytes[62 + 4 * i..][..4].copy_from_slice(&value.to_be_bytes());
        }
        for (i, value) in self.specific_reals.iter().enumerate() {
            bytes[174 + 4 * i..][..4].copy_from_slice(&value.to_be_bytes());
        }
        for (from, to, text) in [
            (354, 362, &self.units),
            (362, 386, &self.source),
            (386, 410, &self.title),
        ] {
            bytes[from..to].fill(b' ');
            for (byte, c) in bytes[from..to].iter_mut().zip(text.chars()) {
                *byte = u8::try_from(c).unwrap_or(b'?');
            }
        }
        for (i, value) in self.specific_integers.iter().enumerate() {
            bytes[410 + 2 * i..][..2].copy_from_slice(&value.to_be_bytes());
        }
        bytes
    }

    /// An element of the general integers, counted as in the specification: 1 to 31.
    fn integer(&self, element: usize) -> i16 {
        self.general_integers[element - 1]
    }

    /// An element of the general reals: 32 to 59.
    fn real(&self, element: usize) -> f32 {
        self.general_reals[element - 32]
    }

    /// Validity time: seconds since 1970-01-01 00:00 UTC; `None` where the elements are no time. For accumulations it is the end
    /// of the period.
    pub fn validity_time(&self) -> Option<i64> {
        self.time(1, true)
    }

    pub(super) fn expect_validity_time(&self) -> Result<i64, String> {
        self.validity_time().ok_or_else(|| {
            let time = &self.general_integers[..6];
            format!("validity time {time:?} is no time")
        })
    }

    /// Data time: of a forecast, when it was made.
    pub fn data_time(&self) -> Option<i64> {
        self.time(7, false)
    }

    fn time(&self, first: usize, has_seconds: bool) -> Option<i64> {
        let element = |i: usize| i64::from(self.integer(first + i));
        // Seconds are often not set.
        let second = if has_seconds && element(5) > 0 {
            element(5)
        } else {
            0
        };
        time_of([
            element(0),
            element(1),
            element(2),
            element(3),
            element(4),
            second,
        ])
    }

    /// Rows and columns.
    pub fn shape(&self) -> (i16, i16) {
        (self.integer(16), self.integer(17))
    }

    /// Seconds of the period that an accumulation or mean belongs to; `None` where it is not set or 0.
    pub fn period_s(&self) -> Option<f64> {
        match self.integer(26) {
            // The minutes do not tell: the last element has seconds.
            i16::MAX => Some(f64::from(self.specific_integers[50])),
            minutes => Some(60.0 * f64::from(minutes)),
        }
        .filter(|&period| period > 0.0)
    }

    /// All elements that are set: number, name and value.
    pub fn elements(&self) -> Vec<(usize, &'static str, String)> {
        let name = |element: usize| {
            let at = ELEMENTS.partition_point(|&(first, _)| first <= element);
            if element == 158 {
                "period, seconds"
            } else {
                ELEMENTS[at - 1].1
            }
        };
        let integers = |first: usize, values: &[i16]| -> Vec<(usize, String)> {
            let set = values.iter().enumerate().filter(|&(_, &v)| v != UNSET);
            set.map(|(i, v)| (first + i, v.to_string())).collect()
        };
        let reals = |first: usize, values: &[f32]| -> Vec<(usize, String)> {
            let set = values.iter().enumerate().filter(|&(_, &v)| v != UNSET_REAL);
            set.map(|(i, v)| (first + i, v.to_string())).collect()
        };
        let texts = [&self.units, &self.source, &self.title];
        let texts = texts
            .into_iter()
            .enumerate()
            .map(|(i, text)| (105 + i, text.clone()));
        integers(1, &self.general_integers)
            .into_iter()
            .chain(reals(32, &self.general_reals))
            .chain(reals(60, &self.specific_reals))
            .chain(texts)
            .chain(integers(108, &self.specific_integers))
            .map(|(element, value)| (element, name(element), value))
            .collect()
    }

    /// What makes a stored value a rain rate: the divisor of the units string, and for an accumulation the hours of its period.
    fn quantity(&self) -> Result<Quantity, String> {
        let units = self.units.replace(' ', "").to_ascii_lowercase();
        let (unit, factor) = units.split_once('*').unwrap_or((&units, "1"));
        let known = || format!("units '{}' are none of rain", self.units.escape_debug());
        let divisor: f32 = factor.parse().map_err(|_| known())?;
        if !(divisor > 0.0 && divisor.is_finite()) {
            return Err(known());
        }
        let code = self.integer(19);
        let hours = match unit {
            "mm/h" | "mm/hr" | "mm/hour" | "mmh-1" if RAIN_RATE.contains(&code) => None,
            "mm" if code == ACCUMULATION => {
                let period_s = self
                    .period_s()
                    .ok_or("an accumulation without a period in its header")?;
                Some(period_s / 3600.0)
            }
            "mm/h" | "mm/hr" | "mm/hour" | "mmh-1" | "mm" => {
                return Err(format!(
                    "field code {code} with units '{}' is neither a rain rate nor an accumulation",
                    self.units
                ));
            }
            _ => return Err(known()),
        };
        Ok(Quantity { divisor, hours })
    }

    /// Whether the field is rain as it fell, and not the least or greatest rate of a period.
    fn is_rain(&self) -> bool {
        let processing = self.integer(31);
        let extreme = processing != UNSET && processing & MINIMUM_OR_MAXIMUM != 0;
        let code = self.integer(19);
        (RAIN_RATE.contains(&code) || code == ACCUMULATION) && !extreme
    }

    /// Name of the coordinate system.
    fn crs(&self) -> Result<String, String> {
        Ok(match self.integer(15) {
            0 => NATIONAL_GRID.into(),
            1 => UNNAMED_GEOGRAPHIC.into(),
            2 => "space view".into(),
            3 => "polar stereographic".into(),
            4 => "UTM zone 32 (Nimrod's own)".into(),
            5 => "rotated latitude and longitude".into(),
            other => return Err(format!("horizontal grid type {other} is not known")),
        })
    }

    /// Western and northern edge and the cell's width and height.
    fn place(&self, rows: usize, columns: usize) -> Result<[f64; 4], String> {
        let [y, cell_y, x, cell_x] = [34, 35, 36, 37].map(|element| f64::from(self.real(element)));
        if !(cell_x > 0.0 && cell_x.is_finite() && cell_y > 0.0 && cell_y.is_finite()) {
            return Err(format!("cells of {cell_x} × {cell_y}"));
        }
        if !(x.is_finite() && y.is_finite()) || [x, y].contains(&UNSET_REAL.into()) {
            return Err(format!("its first cell lies at {x}, {y}"));
        }
        // The coordinates are of the origin's cell: 0 top left, 1 bottom left, 2 top right, 3 bottom right.
        let origin = self.integer(24);
        let (bottom, right) = (origin & 1 != 0, origin & 2 != 0);
        let mut west = x - 0.5 * cell_x;
        let mut north = y + 0.5 * cell_y;
        if right {
            west -= cell_x * (columns - 1) as f64;
        }
        if bottom {
            north += cell_y * (rows - 1) as f64;
        }
        let corners = &self.specific_reals[..8];
        if corners.iter().all(|&c| c.is_finite() && c != UNSET_REAL) {
            let [top, left, bottom, right] = [0, 1, 4, 5].map(|i| f64::from(corners[i]));
            let half = [0.5 * cell_x, 0.5 * cell_y];
            let edges = [
                west,
                north,
                west + cell_x * columns as f64,
                north - cell_y * rows as f64,
            ];
            let near = |inset: f64| {
                let wanted = [
                    edges[0] + inset * half[0],
                    edges[1] - inset * half[1],
                    edges[2] - inset * half[0],
                    edges[3] + inset * half[1],
                ];
                let found = [left, top, right, bottom];
                wanted
                    .iter()
                    .zip(found)
                    .all(|(w, f)| (w - f).abs() < 0.02 * (cell_x + cell_y))
            };
            // Corners of the outer cells' edges, or their centres.
            if !(near(0.0) || near(1.0)) {
                return Err(format!(
                    "its corners, west to east {left} … {right}, south to north {bottom} … {top}, are not those of {rows} × {columns} cells with edges at {} … {}, {} … {}",
                    edges[0], edges[2], edges[3], edges[1]
                ));
            }
        }
        Ok([west, north, cell_x, cell_y])
    }
}

struct Quantity {
    divisor: f32,
    hours: Option<f64>,
}

/// A field: its header and its stored values.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The header.
    pub header: Header,
    /// `[rows, columns]` in the order of the file; missing values as NaN, others as they are stored.
    pub values: Array2<f32>,
}

impl Field {
    /// Reads the next field of a file; `None` at its end.
    ///
    /// # Errors
    /// Why the bytes are no field, without the name of the file. Memory is reserved only for what has been read.
    pub fn read(reader: &mut impl Read) -> Result<Option<Self>, String> {
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => "the file ends within a field".to_owned(),
            _ => e.to_string(),
        };
        let mut length = [0; 4];
        // Nothing more is the end, part of a length is not.
        let mut start = Vec::with_capacity(4);
        reader
            .by_ref()
            .take(4)
            .read_to_end(&mut start)
            .map_err(failed)?;
        if start.is_empty() {
            return Ok(None);
        }
        if start != (HEADER as u32).to_be_bytes() {
            return Err("no Nimrod header where one should begin".into());
        }
        let mut bytes = [0; HEADER];
        reader.read_exact(&mut bytes).map_err(failed)?;
        reader.read_exact(&mut length).map_err(failed)?;
        if u32::from_be_bytes(length) != HEADER as u32 {
            return Err("the header does not end after 512 bytes".into());
        }
        let header = Header::decode(&bytes);

        let (rows, columns) = header.shape();
        let cells = match (usize::try_from(rows), usize::try_from(columns)) {
            (Ok(rows @ 1..), Ok(columns @ 1..)) if rows * columns <= MAX_CELLS => rows * columns,
            _ => return Err(format!("a header with {rows} rows and {columns} columns")),
        };
        let (kind, width) = (header.integer(12), header.integer(13));
        let width = match (kind, width) {
            (0, 4) | (1, 1 | 2 | 4) | (2, 1) => width as usize,
            _ => return Err(format!("data type {kind} with {width} bytes per value")),
        };
        let mut bounded = |what: &str| -> Result<(), String> {
            reader.read_exact(&mut length).map_err(failed)?;
            let found = u32::from_be_bytes(length) as usize;
            if found != cells * width {
                return Err(format!(
                    "{what} of {found} bytes, {rows} × {columns} values of {width} bytes need {}",
                    cells * width
                ));
            }
            Ok(())
        };
        bounded("data")?;
        let mut data = Vec::new();
        reader
            .by_ref()
            .take((cells * width) as u64)
            .read_to_end(&mut data)
            .map_err(failed)?;
        if data.len() < cells * width {
            return Err("the file ends within a field".into());
        }
        reader.read_exact(&mut length).map_err(failed)?;
        if u32::from_be_bytes(length) as usize != cells * width {
            return Err("the data do not end where they should".into());
        }
        let missing = header.integer(25);
        let missing_real = header.real(38);
        let integer = |value: i32| {
            if value == i32::from(missing) {
                f32::NAN
            } else {
                value as f32
            }
        };
        let values: Vec<f32> = match (kind, width) {
            (0, _) => data
                .chunks_exact(4)
                .map(|b| f32::from_be_bytes([b[0], b[1], b[2], b[3]]))
                .map(|value| {
                    if value == missing_real {
                        f32::NAN
                    } else {
                        value
                    }
                })
                .collect(),
            (1, 1) => data.iter().map(|&b| integer(i32::from(b as i8))).collect(),
            (1, 2) => data
                .chunks_exact(2)
                .map(|b| integer(i16::from_be_bytes([b[0], b[1]]).into()))
                .collect(),
            (1, _) => data
                .chunks_exact(4)
                .map(|b| integer(i32::from_be_bytes([b[0], b[1], b[2], b[3]])))
                .collect(),
            _ => data.iter().map(|&b| integer(b.into())).collect(),
        };
        let values = Array2::from_shape_vec((rows as usize, columns as usize), values)
            .map_err(|e| e.to_string())?;
        Ok(Some(Self { header, values }))
    }

    /// The field as a radar frame: mm/h, row 0 in the north.
    ///
    /// # Errors
    /// Why it is none, without the name of the file.
    pub fn into_frame(self) -> Result<RadarFrame, String> {
        let header = &self.header;
        let quantity = header.quantity()?;
        let offset = header.real(40);
        if offset != 0.0 && offset != UNSET_REAL {
            return Err(format!(
                "a data offset of {offset}, which rain does not have"
            ));
        }
        let end_s = header.expect_validity_time()?;
        let origin = header.integer(24);
        if !(0..4).contains(&origin) {
            return Err(format!("origin of the data is {origin}"));
        }
        let (rows, columns) = self.values.dim();
        let [west, north, cell_x, cell_y] = header.place(rows, columns)?;
        let crs = Some(header.crs()?);
        let duration_s = quantity.hours.map(|hours| hours * 3600.0);
        let hours = quantity.hours.unwrap_or(1.0) as f32;
        let mut data = self.values;
        if origin & 1 != 0 {
            data.invert_axis(ndarray::Axis(0));
        }
        if origin & 2 != 0 {
            data.invert_axis(ndarray::Axis(1));
        }
        // Negative values mark what the radar does not see, whatever the header's code for it.
        data.mapv_inplace(|value| {
            let rate = value / quantity.divisor / hours;
            if rate >= 0.0 { rate } else { f32::NAN }
        });
        if data.iter().any(|rate| rate.is_infinite()) {
            return Err("an infinite rain rate".into());
        }
        if !data.is_standard_layout() {
            data = data.as_standard_layout().into_owned();
        }
        Ok(RadarFrame {
            end_s: Some(end_s),
            duration_s,
            rain_mm_per_h: GeoGrid {
                data,
                west,
                north,
                cell_x,
                cell_y,
                crs,
            },
        })
    }
}

/// The rain of one file, a frame at a time.
///
/// Where several fields share a validity time, one of them is the rain of it: a rain rate before an accumulation, and of those
/// the one of the shortest period. Other fields, and extremes of a period, are passed over.
pub struct Fields<R> {
    reader: R,
    ahead: Option<Field>,
    /// Whether any field has been rain.
    found: bool,
    others: usize,
}

impl<R: BufRead> Fields<R> {
    /// The fields of `reader`.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            ahead: None,
            found: false,
            others: 0,
        }
    }

    /// The next frame of rain; `None` at the end.
    ///
    /// # Errors
    /// Why the file is damaged, or holds no rain at all, without its name.
    pub fn next_frame(&mut self) -> Result<Option<RadarFrame>, String> {
        let mut best = match self.ahead.take() {
            Some(field) => field,
            None => match self.next_rain()? {
                Some(field) => field,
                None if self.found => return Ok(None),
                None if self.others == 0 => return Err("the file is empty".into()),
                None => {
                    return Err(format!(
                        "none of its {} fields is rain rate or accumulation",
                        self.others
                    ));
                }
            },
        };
        self.found = true;
        while let Some(field) = self.next_rain()? {
            if field.header.validity_time() != best.header.validity_time() {
                self.ahead = Some(field);
                break;
            }
            let rank = |header: &Header| {
                let accumulation = header.integer(19) == ACCUMULATION;
                let period = if accumulation {
                    header.period_s()
                } else {
                    None
                };
                (accumulation, period.map_or(0, |s| s as i64))
            };
            match rank(&field.header).cmp(&rank(&best.header)) {
                std::cmp::Ordering::Less => best = field,
                std::cmp::Ordering::Greater => {}
                std::cmp::Ordering::Equal => {
                    return Err(format!(
                        "two fields of rain at {}",
                        best.header
                            .validity_time()
                            .map_or_else(String::new, format_time)
                    ));
                }
            }
        }
        best.into_frame().map(Some)
    }

    fn next_rain(&mut self) -> Result<Option<Field>, String> {
        while let Some(field) = Field::read(&mut self.reader)? {
            if field.header.is_rain() {
                return Ok(Some(field));
            }
            self.others += 1;
        }
        Ok(None)
    }
}

/// Writes a frame as the composites are: 16-bit integers of mm/h × 32, so rounded to 1/32 mm/h, missing −1; compressed where the
/// name ends in `.gz`.
///
/// # Errors
/// [`DataError`] where the frame has no time, is not on the British National Grid (a grid without a CRS is taken to be), holds
/// more than 1023 mm/h or more cells along an axis than 32 767, or the file cannot be written.
pub fn write(path: &Path, frame: &RadarFrame) -> Result<()> {
    let bytes = encode(frame).map_err(|reason| {
        DataError::format(
            path,
            format!("this frame cannot be a Nimrod file: {reason}"),
        )
    })?;
    file::write(path, |out| out.write_all(&bytes))
}

/// A frame as the bytes of a file.
fn encode(frame: &RadarFrame) -> Result<Vec<u8>, String> {
    let grid = &frame.rain_mm_per_h;
    let end_s = frame.end_s.ok_or("it has no time")?;
    if !grid.is_placed() {
        return Err("it has no position".into());
    }
    if let Some(crs) = grid.crs.as_deref().filter(|&crs| crs != NATIONAL_GRID) {
        return Err(format!(
            "it is in {crs}, not on the British National Grid (EPSG:27700)"
        ));
    }
    let count = |count: usize| i16::try_from(count).map_err(|_| format!("{count} cells in a line"));
    let (rows, columns) = (count(grid.height())?, count(grid.width())?);
    let mut header = Header {
        general_integers: [UNSET; 31],
        general_reals: [UNSET_REAL; 28],
        specific_reals: [UNSET_REAL; 45],
        units: "mm/h*32".into(),
        source: "pluvial".into(),
        title: "Rain rate".into(),
        specific_integers: [UNSET; 51],
    };
    let time = parts_of(end_s).map(|part| part as i16);
    let integers = &mut header.general_integers;
    integers[..6].copy_from_slice(&time);
    integers[6..11].copy_from_slice(&time[..5]);
    // 16-bit integers, no experiment, the National Grid.
    integers[11..15].copy_from_slice(&[1, 2, 0, 0]);
    // Header version 2; precipitation rate; height above orography; corners are given; top left; missing.
    integers[15..25].copy_from_slice(&[rows, columns, 2, 213, 0, UNSET, 8, 0, 0, -1]);
    let corner = [grid.west, grid.north, grid.east(), grid.south()].map(|x| x as f32);
    let reals = &mut header.general_reals;
    reals[2] = (grid.north - 0.5 * grid.cell_y) as f32;
    reals[3] = grid.cell_y as f32;
    reals[4] = (grid.west + 0.5 * grid.cell_x) as f32;
    reals[5] = grid.cell_x as f32;
    reals[6] = -1.0;
    reals[8] = 0.0;
    let [west, north, east, south] = corner;
    header.specific_reals[..8]
        .copy_from_slice(&[north, west, north, east, south, east, south, west]);

    let bytes = 2 * grid.data.len() as u32;
    let mut file = Vec::with_capacity(HEADER + 16 + bytes as usize);
    file.extend((HEADER as u32).to_be_bytes());
    file.extend(header.encode());
    file.extend((HEADER as u32).to_be_bytes());
    file.extend(bytes.to_be_bytes());
    for &rate in &grid.data {
        let stored = (f64::from(rate) * 32.0).round();
        let stored = match stored {
            _ if rate.is_nan() => -1,
            0.0..=32_767.0 => stored as i16,
            _ => return Err(format!("{rate} mm/h is beyond what it can hold")),
        };
        file.extend(stored.to_be_bytes());
    }
    file.extend(bytes.to_be_bytes());
    Ok(file)
}
