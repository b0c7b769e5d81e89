//! Rain tables of CAESAR-Lisflood and HAIL-CAESAR: a line a time step, mm/h for each rain zone; `hydroindex.asc` gives every cell
//! the number of its zone, from 1.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use ndarray::{Array2, array};

use super::{RadarFrame, RadarSource};
use crate::error::{DataError, Result};
use crate::file;
use crate::grid::GeoGrid;
use crate::raster;

/// Longer lines are taken for damaged.
const MAX_LINE: u64 = 1 << 24;

/// A rain table as a [`RadarSource`]; its frames have no time.
///
/// Cells of no zone (0, negative or no data) are missing. Without a hydroindex the rain is uniform, a grid of one cell without a
/// position: that of one zone (HAIL-CAESAR takes the first where `spatial_var_rain` is off), or of all, which must be the same.
pub struct ZoneTable {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    /// Zone of every cell, from 0; `None` outside.
    zones: Option<(GeoGrid, Array2<Option<usize>>)>,
    /// The zone that falls everywhere, from 0.
    everywhere: Option<usize>,
    /// Number of columns, once a line has been read.
    columns: Option<usize>,
    line: usize,
}

impl ZoneTable {
    /// Opens a table, plain or gzip, with the hydroindex or with the number (from 1) of the zone that falls everywhere.
    ///
    /// # Errors
    /// [`DataError`] where a file cannot be read, the hydroindex holds a number that is no zone, or both are given.
    pub fn open(path: &Path, hydroindex: Option<&Path>, zone: Option<usize>) -> Result<Self> {
        if zone == Some(0) || (zone.is_some() && hydroindex.is_some()) {
            return Err(DataError::format(
                path,
                "one rain zone for all cells is numbered from 1, and takes no hydroindex",
            ));
        }
        let zones = match hydroindex {
            Some(path) => Some(read_zones(path)?),
            None => None,
        };
        Ok(Self {
            path: path.to_owned(),
            reader: file::open(path)?,
            zones,
            everywhere: zone.map(|zone| zone - 1),
            columns: None,
            line: 0,
        })
    }

    fn error(&self, reason: String) -> DataError {
        DataError::format(&self.path, format!("line {}: {reason}", self.line))
    }

    /// The rates of the next line that is not empty.
    fn next_line(&mut self) -> Result<Option<Vec<f32>>> {
        loop {
            let mut text = Vec::new();
            self.line += 1;
            self.reader
                .by_ref()
                .take(MAX_LINE)
                .read_until(b'\n', &mut text)
                .map_err(|e| DataError::io("read", &self.path, e))?;
            if text.is_empty() {
                return Ok(None);
            }
            if text.len() as u64 == MAX_LINE {
                return Err(self.error("it is too long for a line of rain rates".into()));
            }
            let text = String::from_utf8_lossy(&text);
            let rates: Vec<f32> = text
                .split_whitespace()
                .map(|word| match word.parse::<f32>() {
                    Ok(rate) if rate.is_finite() => Ok(if rate >= 0.0 { rate } else { f32::NAN }),
                    _ => {
                        let shown: String = word.chars().take(40).collect();
                        Err(self.error(format!("'{}' is no rain rate", shown.escape_debug())))
                    }
                })
                .collect::<Result<_>>()?;
            if rates.is_empty() {
                continue;
            }
            let columns = *self.columns.get_or_insert(rates.len());
            if rates.len() != columns {
                return Err(self.error(format!(
                    "{} zones where the lines before have {columns}",
                    rates.len()
                )));
            }
            return Ok(Some(rates));
        }
    }
}

impl RadarSource for ZoneTable {
    fn next_frame(&mut self) -> Result<Option<RadarFrame>> {
        let Some(rates) = self.next_line()? else {
            return Ok(None);
        };
        let rain_mm_per_h = match &self.zones {
            Some((grid, zones)) => {
                let mut data = Array2::from_elem(zones.dim(), f32::NAN);
                for (cell, zone) in data.iter_mut().zip(zones) {
                    if let Some(zone) = zone {
                        *cell = *rates.get(*zone).ok_or_else(|| {
                            self.error(format!(
                                "{} zones, the hydroindex names zone {}",
                                rates.len(),
                                zone + 1
                            ))
                        })?;
                    }
                }
                GeoGrid {
                    data,
                    ..grid.clone()
                }
            }
            None => {
                let first = match self.everywhere {
                    Some(zone) => *rates.get(zone).ok_or_else(|| {
                        self.error(format!(
                            "{} zones, wanted is zone {}",
                            rates.len(),
                            zone + 1
                        ))
                    })?,
                    None => rates[0],
                };
                let differ = rates.iter().any(|rate| rate.to_bits() != first.to_bits());
                if differ && self.everywhere.is_none() {
                    return Err(self.error(
                        "the zones differ: give a hydroindex that says where they are, or the number of one zone for all cells"
                            .into(),
                    ));
                }
                GeoGrid::new(array![[first]], 0.0, 1.0, 1.0)
            }
        };
        Ok(Some(RadarFrame {
            end_s: None,
            duration_s: None,
            rain_mm_per_h,
        }))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// The hydroindex without its data, and the zone of every cell from 0.
fn read_zones(path: &Path) -> Result<(GeoGrid, Array2<Option<usize>>)> {
    let mut grid = raster::open_raster(path)?;
    let mut zones = Array2::from_elem(grid.data.dim(), None);
    for ((at, &number), zone) in grid.data.indexed_iter().zip(&mut zones) {
        if number > 0.0 {
            if number.fract() != 0.0 || number > (1 << 24) as f32 {
                return Err(DataError::format(
                    path,
                    format!("row {}, column {}: {number} is no zone", at.0, at.1),
                ));
            }
            *zone = Some(number as usize - 1);
        }
    }
    if zones.iter().all(Option::is_none) {
        return Err(DataError::format(path, "no cell belongs to a rain zone"));
    }
    grid.data = Array2::zeros((0, 0));
    Ok((grid, zones))
}
