//! Where water enters and leaves otherwise than by rain, infiltration and the domain's common edge.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::Hydrograph;
use crate::domain::Edge;

/// A part of the domain with water of its own. Where several set the same edge or level, the last one counts; inflows into
/// cells add up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Boundary {
    /// The edge here is another than the domain's.
    Edge {
        /// Which edge: that of the side, or of cells all of whose outer faces are meant.
        place: Place,
        /// What happens there.
        edge: Edge,
    },
    /// A given water level, in m on the bed's datum. On a side, water of this level stands beyond the edge, over the bed of
    /// the cell that it borders on, and is exchanged both ways by the momentum equation. Cells are held at the level itself
    /// (dry where their bed is higher), and the edge they may have is a wall.
    Level {
        /// Where.
        place: Place,
        /// Level in m.
        level_m: Hydrograph,
    },
    /// Water that is let in, in equal parts: into cells, or over a side, which is a wall otherwise.
    Inflow {
        /// Where.
        place: Place,
        /// Discharge in all, m³/s, not negative.
        discharge_m3_per_s: Hydrograph,
    },
}

/// A side of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Row 0.
    North,
    /// The last column.
    East,
    /// The last row.
    South,
    /// Column 0.
    West,
}

/// Where a [`Boundary`] is. Cells outside the domain are passed over; one inside is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    /// One side of the grid.
    Side(Side),
    /// A part of a side.
    PartOfSide {
        /// The side.
        side: Side,
        /// Columns of the northern or southern side, rows of the eastern or western one.
        cells: Range<usize>,
    },
    /// Single cells, `[row, column]`, each once.
    Cells(Vec<[usize; 2]>),
}

impl Place {
    /// The cells of a straight line between two cells, both included, one a row or one a column (Bresenham's).
    pub fn line(from: [usize; 2], to: [usize; 2]) -> Self {
        let along = |k: usize, steps: usize, axis: usize| {
            let (a, b) = (from[axis], to[axis]);
            // Rounded to the nearest, halves away from `from`.
            let moved = (2 * k * a.abs_diff(b) + steps) / (2 * steps);
            if b < a { a - moved } else { a + moved }
        };
        let steps = from[0].abs_diff(to[0]).max(from[1].abs_diff(to[1]));
        if steps == 0 {
            return Self::Cells(vec![from]);
        }
        Self::Cells(
            (0..=steps)
                .map(|k| [along(k, steps, 0), along(k, steps, 1)])
                .collect(),
        )
    }

    /// The cells of the place, inside the domain, with the side that is meant if only one is; or what is wrong with it.
    pub(crate) fn cells(
        &self,
        height: usize,
        width: usize,
        inside: impl Fn(usize, usize) -> bool,
    ) -> Result<(Vec<[usize; 2]>, Option<Side>), String> {
        let on_side = |side: Side, cells: Range<usize>| {
            let length = match side {
                Side::North | Side::South => width,
                Side::East | Side::West => height,
            };
            if cells.start >= cells.end || cells.end > length {
                return Err(format!(
                    "cells {} to {} are no part of a side of {length} cells",
                    cells.start, cells.end
                ));
            }
            let cell = |k| match side {
                Side::North => [0, k],
                Side::South => [height - 1, k],
                Side::West => [k, 0],
                Side::East => [k, width - 1],
            };
            Ok(cells.map(cell).collect::<Vec<_>>())
        };
        let (mut cells, side) = match self {
            Self::Side(side @ (Side::North | Side::South)) => {
                (on_side(*side, 0..width)?, Some(*side))
            }
            Self::Side(side) => (on_side(*side, 0..height)?, Some(*side)),
            Self::PartOfSide { side, cells } => (on_side(*side, cells.clone())?, Some(*side)),
            Self::Cells(cells) => (cells.clone(), None),
        };
        if let Some([row, col]) = cells.iter().find(|c| c[0] >= height || c[1] >= width) {
            return Err(format!(
                "row {row}, column {col} is not on the grid of {height} x {width}"
            ));
        }
        cells.retain(|[row, col]| inside(*row, *col));
        if cells.is_empty() {
            return Err("none of its cells is inside the domain".to_owned());
        }
        let mut sorted = cells.clone();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!(
                "row {}, column {} is named twice",
                pair[0][0], pair[0][1]
            ));
        }
        Ok((cells, side))
    }
}

impl Boundary {
    pub(crate) fn place(&self) -> &Place {
        match self {
            Self::Edge { place, .. } | Self::Level { place, .. } | Self::Inflow { place, .. } => {
                place
            }
        }
    }

    /// What is wrong with the values, if anything is.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Self::Edge { edge, .. } => edge.validate().err().map(|e| e.to_string()),
            Self::Level { level_m, .. } => level_m.fault(),
            Self::Inflow {
                discharge_m3_per_s: discharge,
                ..
            } => discharge.fault().or_else(|| {
                let negative = discharge.values().find(|q| *q < 0.0)?;
                Some(format!("its discharge of {negative} m³/s is negative"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_one_cell_a_step() {
        let cells = |from, to| match Place::line(from, to) {
            Place::Cells(cells) => cells,
            other => panic!("{other:?}"),
        };
        assert_eq!(cells([2, 3], [2, 3]), [[2, 3]]);
        assert_eq!(cells([0, 1], [0, 3]), [[0, 1], [0, 2], [0, 3]]);
        assert_eq!(cells([4, 0], [2, 2]), [[4, 0], [3, 1], [2, 2]]);
        assert_eq!(
            cells([0, 0], [4, 2]),
            [[0, 0], [1, 1], [2, 1], [3, 2], [4, 2]]
        );
    }
}
