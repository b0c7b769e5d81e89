//! [`GeoGrid`]: a raster that knows where on Earth its cells lie.

use std::ops::Range;

use ndarray::{Array2, s};

use crate::error::{DataError, Result};

/// Metres per degree of latitude on the mean sphere (6 371 008.8 m, IUGG mean radius R1).
const METRES_PER_DEGREE: f64 = 6_371_008.8 * std::f64::consts::PI / 180.0;

/// The CRS of a file that counts in degrees and does not say of which system.
pub(crate) const UNNAMED_GEOGRAPHIC: &str = "geographic";

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
        let rows = axis_weights(self.height(), height);
        let columns = axis_weights(self.width(), width);
        let data = Array2::from_shape_fn((height, width), |(i, j)| {
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
        });
        Ok(Self {
            data,
            cell_x: self.cell_x * self.width() as f64 / width as f64,
            cell_y: self.cell_y * self.height() as f64 / height as f64,
            crs: self.crs.clone(),
            ..*self
        })
    }
}

/// For each of `to` new cells along an axis, the old cells it draws on and their weights, which add up to 1.
fn axis_weights(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    let ratio = from as f64 / to as f64;
    (0..to)
        .map(|k| {
            if ratio > 1.0 {
                let (start, end) = (k as f64 * ratio, (k + 1) as f64 * ratio);
                let last = (end.ceil() as usize).min(from);
                (start.floor() as usize..last)
                    .map(|i| {
                        let overlap = end.min((i + 1) as f64) - start.max(i as f64);
                        (i, overlap / ratio)
                    })
                    .filter(|&(_, weight)| weight > 0.0)
                    .collect()
            } else {
                let centre = ((k as f64 + 0.5) * ratio - 0.5).clamp(0.0, (from - 1) as f64);
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
