//! The ground that the water flows over.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::HydroError;

/// Terrain, roughness and edge of a simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// Bed elevation z in m, `[height, width]`, row 0 = north. NaN marks cells outside the domain: they hold no water,
    /// receive no rain, and the faces towards them are part of the domain's edge.
    pub bed_m: Array2<f64>,
    /// Side of the square cells in m.
    pub cell_size_m: f64,
    /// Roughness of the bed.
    pub manning: Manning,
    /// What happens where the domain ends: at the border of the grid and at cells outside it.
    pub edge: Edge,
}

/// Manning's roughness coefficient n in s m^(-1/3); 0 is without friction.
#[derive(Debug, Clone, PartialEq)]
pub enum Manning {
    /// One value for all cells.
    Uniform(f64),
    /// A value for each cell, of the bed's shape; a face takes the mean of its two cells. Ignored where the bed is NaN.
    PerCell(Array2<f64>),
}

/// What happens where the domain ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Edge {
    /// A wall.
    Closed,
    /// Water leaves in uniform flow, q = h^(5/3) √S / n, as if the bed went on downwards at the slope S; none comes back.
    FreeOutflow {
        /// Slope S in m/m.
        slope: f64,
    },
}

impl Domain {
    /// Checks shapes and values.
    ///
    /// # Errors
    /// [`HydroError`] for an empty bed, a bed without cells inside, an infinite elevation, a cell size or slope that is not
    /// positive, a roughness that is negative or not finite, and arrays of different shapes.
    pub fn validate(&self) -> Result<(), HydroError> {
        let (rows, cols) = self.bed_m.dim();
        if rows == 0 || cols == 0 {
            return Err(HydroError::Empty { rows, cols });
        }
        if !(self.cell_size_m.is_finite() && self.cell_size_m > 0.0) {
            return Err(HydroError::Value {
                name: "cell_size_m",
                value: self.cell_size_m,
                expected: "finite and positive",
            });
        }
        if let Some(((row, col), &value)) = self.bed_m.indexed_iter().find(|(_, z)| z.is_infinite())
        {
            return Err(HydroError::CellValue {
                name: "bed_m",
                row,
                col,
                value,
                expected: "finite, or NaN outside",
            });
        }
        if self.bed_m.iter().all(|z| z.is_nan()) {
            return Err(HydroError::NoCells { rows, cols });
        }
        let valid = |n: f64| n.is_finite() && n >= 0.0;
        match &self.manning {
            Manning::Uniform(value) if !valid(*value) => {
                return Err(HydroError::Value {
                    name: "Manning's n",
                    value: *value,
                    expected: "finite and not negative",
                });
            }
            Manning::Uniform(_) => {}
            Manning::PerCell(n) => {
                if n.dim() != self.bed_m.dim() {
                    return Err(HydroError::Shape {
                        what: "Manning's n",
                        got_rows: n.nrows(),
                        got_cols: n.ncols(),
                        expected: format!("{rows} x {cols}, as the bed has,"),
                    });
                }
                let wrong = n
                    .indexed_iter()
                    .find(|(cell, n)| !self.bed_m[*cell].is_nan() && !valid(**n));
                if let Some(((row, col), &value)) = wrong {
                    return Err(HydroError::CellValue {
                        name: "Manning's n",
                        row,
                        col,
                        value,
                        expected: "finite and not negative",
                    });
                }
            }
        }
        match self.edge {
            Edge::FreeOutflow { slope } if !(slope.is_finite() && slope > 0.0) => {
                Err(HydroError::Value {
                    name: "the slope of the free outflow",
                    value: slope,
                    expected: "finite and positive",
                })
            }
            _ => Ok(()),
        }
    }
}
