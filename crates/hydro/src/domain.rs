//! The ground that the water flows over.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::{Boundary, HydroError, Infiltration};

/// Terrain, roughness, edge and ground of a simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// Bed elevation z in m, `[height, width]`, row 0 = north. NaN marks cells outside the domain: they hold no water,
    /// receive no rain, and the faces towards them are part of the domain's edge.
    pub bed_m: Array2<f64>,
    /// Side of the square cells in m.
    pub cell_size_m: f64,
    /// Manning's roughness coefficient n of the bed in s m^(-1/3); 0 is without friction. A face takes the mean of its cells.
    pub manning: Parameter,
    /// What happens where the domain ends: at the border of the grid and at cells outside it.
    pub edge: Edge,
    /// Where it is otherwise: other edges, given levels, inflows.
    pub boundaries: Vec<Boundary>,
    /// What the ground takes up.
    pub infiltration: Infiltration,
}

/// A property of the ground.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Parameter {
    /// One value for all cells.
    Uniform(f64),
    /// A value for each cell, of the bed's shape. Ignored where the bed is NaN.
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
    /// positive, a roughness or a property of the ground out of its range, and arrays of different shapes. Boundaries are
    /// checked when the solver is made.
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
        self.manning.validate(
            "Manning's n",
            &self.bed_m,
            |n| n >= 0.0,
            "finite and not negative",
        )?;
        self.edge.validate()?;
        self.infiltration.validate(&self.bed_m)
    }
}

impl Edge {
    pub(crate) fn validate(&self) -> Result<(), HydroError> {
        match *self {
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

impl Parameter {
    /// Checks shape and values, of which all must also be finite.
    pub(crate) fn validate(
        &self,
        name: &'static str,
        bed_m: &Array2<f64>,
        in_range: impl Fn(f64) -> bool,
        expected: &'static str,
    ) -> Result<(), HydroError> {
        let valid = |value: f64| value.is_finite() && in_range(value);
        match self {
            Self::Uniform(value) if !valid(*value) => Err(HydroError::Value {
                name,
                value: *value,
                expected,
            }),
            Self::Uniform(_) => Ok(()),
            Self::PerCell(values) => {
                let (rows, cols) = bed_m.dim();
                if values.dim() != (rows, cols) {
                    return Err(HydroError::Shape {
                        what: name,
                        got_rows: values.nrows(),
                        got_cols: values.ncols(),
                        expected: format!("{rows} x {cols}, as the bed has,"),
                    });
                }
                let wrong = values
                    .indexed_iter()
                    .find(|(cell, value)| !bed_m[*cell].is_nan() && !valid(**value));
                match wrong {
                    None => Ok(()),
                    Some(((row, col), &value)) => Err(HydroError::CellValue {
                        name,
                        row,
                        col,
                        value,
                        expected,
                    }),
                }
            }
        }
    }

    /// The value of each cell, row by row; `outside` where the bed is NaN.
    pub(crate) fn cells(&self, bed_m: &Array2<f64>, outside: f64) -> Vec<f64> {
        let value = |(cell, z): ((usize, usize), &f64)| match self {
            _ if z.is_nan() => outside,
            Self::Uniform(value) => *value,
            Self::PerCell(values) => values[cell],
        };
        bed_m.indexed_iter().map(value).collect()
    }
}
