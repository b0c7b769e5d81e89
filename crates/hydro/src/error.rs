//! What can be wrong with the input of the solver.

use thiserror::Error;

/// An input that the solver refuses; nothing has changed when one is returned.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum HydroError {
    /// The bed has no rows or no columns.
    #[error("the bed is empty: {rows} rows x {cols} columns")]
    Empty {
        /// Rows of the bed.
        rows: usize,
        /// Columns of the bed.
        cols: usize,
    },
    /// Every cell of the bed is NaN, that is outside the domain.
    #[error("no cell of the {rows} x {cols} bed is inside the domain: all are NaN")]
    NoCells {
        /// Rows of the bed.
        rows: usize,
        /// Columns of the bed.
        cols: usize,
    },
    /// An array does not have the shape it must have.
    #[error("{what} has {got_rows} x {got_cols} cells, but {expected} was expected")]
    Shape {
        /// Which array.
        what: &'static str,
        /// Rows found.
        got_rows: usize,
        /// Columns found.
        got_cols: usize,
        /// The shapes that would do.
        expected: String,
    },
    /// A single number is out of its range.
    #[error("{name} is {value}, but must be {expected}")]
    Value {
        /// Name of the quantity, with its unit.
        name: &'static str,
        /// The value found.
        value: f64,
        /// The range that would do.
        expected: &'static str,
    },
    /// A number in an array is out of its range.
    #[error("{name} in row {row}, column {col} is {value}, but must be {expected}")]
    CellValue {
        /// Name of the quantity, with its unit.
        name: &'static str,
        /// Row, 0 = north.
        row: usize,
        /// Column, 0 = west.
        col: usize,
        /// The value found.
        value: f64,
        /// The range that would do.
        expected: &'static str,
    },
    /// A boundary cannot be where or what it is.
    #[error("boundary {boundary} (counted from 0): {reason}")]
    Boundary {
        /// Its place in `Domain::boundaries`.
        boundary: usize,
        /// What is wrong.
        reason: String,
    },
    /// A state cannot be continued.
    #[error("the solver state cannot be continued: {reason}")]
    State {
        /// What is wrong.
        reason: String,
    },
}
