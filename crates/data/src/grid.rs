//! [`GeoGrid`]: a raster that knows where on Earth its cells lie.

use std::fmt;
use std::ops::Range;

use ndarray::{Array2, s};
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};

/// Metres per degree of latitude on the mean sphere (6 371 008.8 m, IUGG mean radius R1).
const METRES_PER_DEGREE: f64 = 6_371_008.8 * std::f64::consts::PI / 180.0;

/// The CRS of a file that counts in degrees and does not say of which system.
pub(crate) const UNNAMED_GEOGRAPHIC: &str = "geographic";

/// Edges and cell sizes that differ by less than this share of a cell are the same.
const SAME: f64 = 1e-6;

/// Where a raster lies: its corner, its cells and its CRS, without the data. Printed, it shows the extent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Easting (or longitude) of the western edge, in the units of the CRS.
    pub west: f64,
    /// Northing (or latitude) of the northern edge, in the units of the CRS.
    pub north: f64,
    /// Cell width, in the units of the CRS; positive.
    pub cell_x: f64,
    /// Cell height, in the units of the CRS; positive.
    pub cell_y: f64,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
    /// Coordinate reference system, such as `EPSG:27700`; `None` where it is not known.
    pub crs: Option<String>,
}

impl Place {
    /// Northing of the southern edge.
    pub fn south(&self) -> f64 {
        self.north - self.cell_y * self.height as f64
    }

    /// Easting of the eastern edge.
    pub fn east(&self) -> f64 {
        self.west + self.cell_x * self.width as f64
    }

    /// West, south, east and north.
    pub fn extent(&self) -> [f64; 4] {
        [self.west, self.south(), self.east(), self.north]
    }

    /// Whether it is a position: a file without one gets its south-western corner at (0, 0) and cells of size 1.
    fn is_placed(&self) -> bool {
        self.crs.is_some()
            || (self.west, self.south(), self.cell_x, self.cell_y) != (0.0, 0.0, 1.0, 1.0)
    }

    /// Whether both are the same cells of the same system; an unknown system may be any.
    pub fn is_same(&self, other: &Self) -> bool {
        let near = |a: f64, b: f64, cell: f64| (a - b).abs() <= SAME * cell;
        self.same_system(other)
            && (self.height, self.width) == (other.height, other.width)
            && near(self.west, other.west, self.cell_x)
            && near(self.north, other.north, self.cell_y)
            && near(self.east(), other.east(), self.cell_x)
            && near(self.south(), other.south(), self.cell_y)
    }

    fn same_system(&self, other: &Self) -> bool {
        match (&self.crs, &other.crs) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if !self.is_placed() {
            return write!(
                f,
                "{} × {} cells without a position",
                self.height, self.width
            );
        }
        write!(
            f,
            "{} × {} cells of {} × {}, west to east {} … {}, south to north {} … {}, {}",
            self.height,
            self.width,
            self.cell_x,
            self.cell_y,
            self.west,
            self.east(),
            self.south(),
            self.north,
            self.crs.as_deref().unwrap_or("system unknown")
        )
    }
}

/// A raster of equally sized cells, row 0 in the north and column 0 in the west.
#[derive(Debug, Clone, PartialEq)]
pub struct GeoGrid {
    /// `[height, width]`; NaN where the file says "no data".
    pub data: Array2<f32>,
    /// Easting (or longitude) of the western edge, in the units of the CRS.
    pub west: f64,
    /// Northing (or latitude) of the northern edge, in the units of the CRS.
    pub north: f64,
    /// Cell width, in the units of the CRS; positive.
    pub cell_x: f64,
    /// Cell height, in the units of the CRS; positive.
    pub cell_y: f64,
    /// Coordinate reference system, such as `EPSG:4326`; `None` where the file does not say.
    pub crs: Option<String>,
}

impl GeoGrid {
    /// A grid of square cells without a CRS.
    pub fn new(data: Array2<f32>, west: f64, north: f64, cell_size: f64) -> Self {
        Self {
            data,
            west,
            north,
            cell_x: cell_size,
            cell_y: cell_size,
            crs: None,
        }
    }

    /// Where it lies.
    pub fn place(&self) -> Place {
        Place {
            west: self.west,
            north: self.north,
            cell_x: self.cell_x,
            cell_y: self.cell_y,
            height: self.height(),
            width: self.width(),
            crs: self.crs.clone(),
        }
    }

    /// Whether it has a position: a file without one gets its south-western corner at (0, 0) and cells of size 1.
    pub fn is_placed(&self) -> bool {
        self.place().is_placed()
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.data.nrows()
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.data.ncols()
    }

    /// Northing of the southern edge.
    pub fn south(&self) -> f64 {
        self.north - self.cell_y * self.height() as f64
    }

    /// Easting of the eastern edge.
    pub fn east(&self) -> f64 {
        self.west + self.cell_x * self.width() as f64
    }

    /// Whether the CRS counts in degrees: EPSG codes 4000 to 4999 are geographic (GeoTIFF 1.1, section 7.4).
    pub fn is_geographic(&self) -> bool {
        self.crs.as_deref().is_some_and(|crs| {
            let code = crs.strip_prefix("EPSG:").and_then(|c| c.parse().ok());
            crs == UNNAMED_GEOGRAPHIC || code.is_some_and(|c: u32| (4000..5000).contains(&c))
        })
    }

    /// Width and height of the cell in the middle of the grid in metres: the cell size itself for a projected CRS, spherical
    /// lengths at the middle latitude for a geographic one.
    pub fn cell_size_m(&self) -> (f64, f64) {
        if self.is_geographic() {
            let latitude = 0.5 * (self.north + self.south());
            let y = self.cell_y * METRES_PER_DEGREE;
            (
                self.cell_x * METRES_PER_DEGREE * latitude.to_radians().cos(),
                y,
            )
        } else {
            (self.cell_x, self.cell_y)
        }
    }

    /// The cells of the given rows and columns, with the position that belongs to them.
    ///
    /// # Errors
    /// [`DataError::Config`] where the window is empty or reaches beyond the grid.
    pub fn crop(&self, rows: Range<usize>, columns: Range<usize>) -> Result<Self> {
        if rows.is_empty()
            || columns.is_empty()
            || rows.end > self.height()
            || columns.end > self.width()
        {
            return Err(DataError::Config(format!(
                "crop of rows {rows:?}, columns {columns:?} does not fit a grid of {} × {} cells",
                self.height(),
                self.width()
            )));
        }
        Ok(Self {
            west: self.west + self.cell_x * columns.start as f64,
            north: self.north - self.cell_y * rows.start as f64,
            data: self.data.slice(s![rows, columns]).to_owned(),
            crs: self.crs.clone(),
            ..*self
        })
    }

    /// The cells that a box touches; its edges `[west, south, east, north]` are in the units of the CRS.
    ///
    /// # Errors
    /// [`DataError::Config`] with both extents, where the box reaches beyond the grid, is empty, or the grid has no position.
    pub fn crop_to(&self, bounds: [f64; 4]) -> Result<Self> {
        let [west, south, east, north] = bounds;
        let (top, bottom) = (
            whole((self.north - north) / self.cell_y),
            whole((self.north - south) / self.cell_y),
        );
        let (left, right) = (
            whole((west - self.west) / self.cell_x),
            whole((east - self.west) / self.cell_x),
        );
        let inside =
            |from: f64, to: f64, size: usize| from >= 0.0 && from < to && to <= size as f64;
        if !self.is_placed()
            || !inside(top, bottom, self.height())
            || !inside(left, right, self.width())
        {
            return Err(DataError::Config(format!(
                "the box west to east {west} … {east}, south to north {south} … {north} is not within the raster: {}",
                self.place()
            )));
        }
        self.crop(
            top.floor() as usize..bottom.ceil() as usize,
            left.floor() as usize..right.ceil() as usize,
        )
    }

    /// The same area as `height` × `width` cells.
    ///
    /// Along an axis that gets coarser, a new cell is the mean of what it covers, weighted by area; along one that gets
    /// finer, values are interpolated linearly between cell centres and held constant beyond the outermost ones. No-data
    /// cells carry no weight; a new cell is no-data where they hold more than half of the weight.
    ///
    /// # Errors
    /// [`DataError::Config`] where either size is 0.
    pub fn resample(&self, height: usize, width: usize) -> Result<Self> {
        if height == 0 || width == 0 {
            return Err(DataError::Config(format!(
                "cannot resample a grid to {height} × {width} cells"
            )));
        }
        Ok(Self {
            data: self.weighted(
                &axis_weights(
                    self.height(),
                    0.0,
                    self.height() as f64 / height as f64,
                    height,
                ),
                &axis_weights(self.width(), 0.0, self.width() as f64 / width as f64, width),
            ),
            cell_x: self.cell_x * self.width() as f64 / width as f64,
            cell_y: self.cell_y * self.height() as f64 / height as f64,
            crs: self.crs.clone(),
            ..*self
        })
    }

    /// The cells of `place`, which must lie within this grid and in the same system, computed as by
    /// [`resample`](Self::resample); cells that are cells of this grid are taken as they are.
    ///
    /// # Errors
    /// [`DataError::Config`] with both extents, where `place` reaches beyond this grid or has another CRS, or this grid has no
    /// position.
    pub fn resample_to(&self, place: &Place) -> Result<Self> {
        let own = self.place();
        let refuse = |reason: &str| {
            Err(DataError::Config(format!(
                "{reason}: wanted are {place}; there are {own}"
            )))
        };
        if !self.is_placed() {
            return refuse("a raster without a position cannot be put on a grid");
        }
        if !own.same_system(place) {
            return refuse("rasters in different coordinate systems");
        }
        // In cells of this grid: where the first new cell begins, and the size of a new cell.
        let row = whole((self.north - place.north) / self.cell_y);
        let column = whole((place.west - self.west) / self.cell_x);
        let (step_y, step_x) = (
            whole(place.cell_y / self.cell_y),
            whole(place.cell_x / self.cell_x),
        );
        let inside = |start: f64, step: f64, count: usize, size: usize| {
            let slack = SAME * step.max(1.0);
            step > 0.0 && start >= -slack && start + step * count as f64 <= size as f64 + slack
        };
        if !inside(row, step_y, place.height, self.height())
            || !inside(column, step_x, place.width, self.width())
            || place.height == 0
            || place.width == 0
        {
            return refuse("a raster does not cover the grid it is wanted on");
        }
        Ok(Self {
            data: self.weighted(
                &axis_weights(self.height(), row, step_y, place.height),
                &axis_weights(self.width(), column, step_x, place.width),
            ),
            west: place.west,
            north: place.north,
            cell_x: place.cell_x,
            cell_y: place.cell_y,
            crs: self.crs.clone().or_else(|| place.crs.clone()),
        })
    }

    /// The weighted means that `rows` and `columns` ask for; NaN where no-data cells hold more than half of the weight.
    fn weighted(&self, rows: &[AxisWeights], columns: &[AxisWeights]) -> Array2<f32> {
        Array2::from_shape_fn((rows.len(), columns.len()), |(i, j)| {
            let (mut sum, mut weight) = (0.0, 0.0);
            for &(row, row_weight) in &rows[i] {
                for &(column, column_weight) in &columns[j] {
                    let value = self.data[[row, column]];
                    if !value.is_nan() {
                        let w = row_weight * column_weight;
                        sum += w * f64::from(value);
                        weight += w;
                    }
                }
            }
            // The weights of one cell add up to 1, to rounding.
            if weight > 0.5 - 1e-9 {
                (sum / weight) as f32
            } else {
                f32::NAN
            }
        })
    }
}

/// A number of cells that is whole but for rounding, as a whole one.
fn whole(x: f64) -> f64 {
    if (x - x.round()).abs() < SAME {
        x.round()
    } else {
        x
    }
}

/// The old cells that a new cell along an axis draws on, and their weights, which add up to 1.
type AxisWeights = Vec<(usize, f64)>;

/// Weights of `to` new cells of `step` old ones each, the first of which begins at `start`, along an axis of `from` old cells.
fn axis_weights(from: usize, start: f64, step: f64, to: usize) -> Vec<AxisWeights> {
    (0..to)
        .map(|k| {
            if step > 1.0 {
                let (begin, end) = (start + k as f64 * step, start + (k + 1) as f64 * step);
                let (begin, end) = (begin.max(0.0), end.min(from as f64));
                let last = (end.ceil() as usize).min(from);
                (begin.floor() as usize..last)
                    .map(|i| {
                        let overlap = end.min((i + 1) as f64) - begin.max(i as f64);
                        (i, overlap / step)
                    })
                    .filter(|&(_, weight)| weight > 0.0)
                    .collect()
            } else {
                let centre = (start + (k as f64 + 0.5) * step - 0.5).clamp(0.0, (from - 1) as f64);
                let i = centre.floor() as usize;
                let t = centre - i as f64;
                if t > 0.0 {
                    vec![(i, 1.0 - t), (i + 1, t)]
                } else {
                    vec![(i, 1.0)]
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn ramp(height: usize, width: usize) -> GeoGrid {
        let data = Array2::from_shape_fn((height, width), |(i, j)| (10 * i + j) as f32);
        GeoGrid::new(data, 100.0, 900.0, 50.0)
    }

    #[test]
    fn crop_keeps_cells_in_place() {
        let crop = ramp(4, 6).crop(1..3, 2..5).unwrap();
        assert_eq!(crop.data, array![[12.0, 13.0, 14.0], [22.0, 23.0, 24.0]]);
        assert_eq!((crop.west, crop.north), (200.0, 850.0));
        assert_eq!((crop.east(), crop.south()), (350.0, 750.0));
        assert!(ramp(4, 6).crop(1..5, 0..1).is_err());
        assert!(ramp(4, 6).crop(1..1, 0..1).is_err());
    }

    #[test]
    fn a_box_takes_the_cells_that_it_touches() {
        let grid = ramp(4, 6);
        let all = [100.0, 700.0, 400.0, 900.0];
        assert_eq!(grid.crop_to(all).unwrap(), grid);
        let part = grid.crop_to([199.0, 799.0, 201.0, 850.0]).unwrap();
        assert_eq!(part, grid.crop(1..3, 1..3).unwrap());
        let exact = grid.crop_to([200.0, 800.0, 250.0, 850.0]).unwrap();
        assert_eq!(exact, grid.crop(1..2, 2..3).unwrap());
        for outside in [
            [99.0, 700.0, 400.0, 900.0],
            [100.0, 700.0, 400.0, 901.0],
            [200.0, 800.0, 200.0, 850.0],
        ] {
            let error = grid.crop_to(outside).unwrap_err().to_string();
            assert!(error.contains("south to north 700 … 900"), "{error}");
        }
    }

    #[test]
    fn coarsening_averages_by_area() {
        // Three columns into two: the middle one is shared half and half.
        let grid = GeoGrid::new(array![[1.0, 2.0, 6.0], [3.0, 4.0, 8.0]], 0.0, 2.0, 1.0);
        let coarse = grid.resample(1, 2).unwrap();
        let left = (1.0 + 3.0 + 0.5 * (2.0 + 4.0)) / 3.0;
        let right = (6.0 + 8.0 + 0.5 * (2.0 + 4.0)) / 3.0;
        assert!((coarse.data[[0, 0]] - left).abs() < 1e-6);
        assert!((coarse.data[[0, 1]] - right).abs() < 1e-6);
        assert_eq!((coarse.cell_x, coarse.cell_y), (1.5, 2.0));
    }

    #[test]
    fn coarsening_keeps_the_mean() {
        let grid = ramp(7, 12);
        let coarse = grid.resample(3, 5).unwrap();
        let mean =
            |g: &GeoGrid| g.data.iter().map(|&v| f64::from(v)).sum::<f64>() / g.data.len() as f64;
        assert!((mean(&grid) - mean(&coarse)).abs() < 1e-5);
    }

    #[test]
    fn refining_reproduces_a_plane() {
        let fine = ramp(4, 6).resample(8, 24).unwrap();
        for ((i, j), &value) in fine.data.indexed_iter() {
            let y = ((i as f64 + 0.5) * 0.5 - 0.5).clamp(0.0, 3.0);
            let x = ((j as f64 + 0.5) * 0.25 - 0.5).clamp(0.0, 5.0);
            assert!((f64::from(value) - (10.0 * y + x)).abs() < 1e-5);
        }
        assert_eq!((fine.cell_x, fine.cell_y), (12.5, 25.0));
    }

    #[test]
    fn another_grid_is_filled_by_area_or_refused_with_both_extents() {
        // 4 × 6 cells of 50 m; the west edge at 100, the north edge at 900.
        let mut grid = ramp(4, 6);
        grid.crs = Some("EPSG:27700".into());
        let at = |west, north, cell, height, width| Place {
            west,
            north,
            cell_x: cell,
            cell_y: cell,
            height,
            width,
            crs: Some("EPSG:27700".into()),
        };
        let part = grid.resample_to(&at(200.0, 850.0, 50.0, 2, 3)).unwrap();
        assert_eq!(part, grid.crop(1..3, 2..5).unwrap());
        // Cells of 100 m that begin half a cell further: weights ½, 1, ½ along both axes.
        let coarse = grid.resample_to(&at(125.0, 875.0, 100.0, 1, 2)).unwrap();
        assert_eq!(coarse.data, array![[11.0, 13.0]]);
        assert_eq!(coarse.place(), at(125.0, 875.0, 100.0, 1, 2));
        // Cells of 25 m in the middle: linear between the centres of the old ones.
        let fine = grid.resample_to(&at(150.0, 850.0, 25.0, 2, 2)).unwrap();
        assert_eq!(fine.data, array![[8.25, 8.75], [13.25, 13.75]]);
        for (place, reason) in [
            (at(50.0, 900.0, 50.0, 2, 2), "does not cover"),
            (at(100.0, 900.0, 50.0, 5, 2), "does not cover"),
            (
                Place {
                    crs: Some("EPSG:4326".into()),
                    ..at(100.0, 900.0, 50.0, 2, 2)
                },
                "different coordinate systems",
            ),
        ] {
            let error = grid.resample_to(&place).unwrap_err().to_string();
            let both = format!("wanted are {place}; there are {}", grid.place());
            assert!(error.contains(reason) && error.contains(&both), "{error}");
            assert!(error.contains("west to east 100 … 400, south to north 700 … 900"));
        }
        let nowhere = GeoGrid::new(Array2::zeros((4, 6)), 0.0, 4.0, 1.0);
        let error = nowhere.resample_to(&nowhere.place()).unwrap_err();
        assert!(error.to_string().contains("without a position"));
    }

    #[test]
    fn no_data_has_no_weight() {
        let nan = f32::NAN;
        let grid = GeoGrid::new(
            array![[1.0, nan, nan, nan], [3.0, 5.0, nan, 7.0]],
            0.0,
            2.0,
            1.0,
        );
        let coarse = grid.resample(1, 2).unwrap();
        assert_eq!(coarse.data[[0, 0]], 3.0);
        assert!(coarse.data[[0, 1]].is_nan());
    }

    #[test]
    fn degrees_become_metres() {
        let mut grid = GeoGrid::new(Array2::zeros((2, 3)), -100.0, 61.0, 1.0);
        assert_eq!(grid.cell_size_m(), (1.0, 1.0));
        grid.crs = Some("EPSG:4326".into());
        let (x, y) = grid.cell_size_m();
        // One degree on the mean sphere, at 60° north half as wide as high.
        assert!((y - 111_195.08).abs() < 0.01);
        assert!((x / y - 0.5).abs() < 1e-12);
        grid.crs = Some("EPSG:27700".into());
        assert!(!grid.is_geographic());
    }
}
