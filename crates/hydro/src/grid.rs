//! What the passes of a step read and write: the ground, the discharges on its faces, and which parts of it are wet.

use crate::kernel::Roughness;
use crate::span::Span;

/// A cell on the edge of the domain over which water can leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EdgeCell {
    pub(crate) col: usize,
    /// How many of its faces are on the edge.
    pub(crate) faces: f64,
    /// √S / n of the outflow.
    pub(crate) conveyance: f64,
}

/// What does not change from step to step.
pub(crate) struct Ground {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Row-major; infinite outside the domain.
    pub(crate) bed_m: Vec<f64>,
    pub(crate) manning: RoughnessGrid,
    /// Cells with free outflow, row by row; row j has `edge_cells[edge_starts[j]..edge_starts[j + 1]]`.
    pub(crate) edge_cells: Vec<EdgeCell>,
    pub(crate) edge_starts: Vec<usize>,
}

pub(crate) enum RoughnessGrid {
    Uniform(f64),
    PerCell(Vec<f64>),
}

impl Ground {
    pub(crate) fn cells(&self, row: usize) -> std::ops::Range<usize> {
        row * self.width..(row + 1) * self.width
    }

    pub(crate) fn roughness(&self, a: usize, b: usize) -> Roughness<'_> {
        match &self.manning {
            RoughnessGrid::Uniform(n) => Roughness::Uniform(*n),
            RoughnessGrid::PerCell(n) => Roughness::PerCell([&n[a..], &n[b..]]),
        }
    }

    pub(crate) fn edge(&self, row: usize) -> &[EdgeCell] {
        &self.edge_cells[self.edge_starts[row]..self.edge_starts[row + 1]]
    }
}

/// Unit discharges of all faces, m²/s, positive to the east and south.
#[derive(Debug, Clone)]
pub(crate) struct Discharge {
    /// `[height, width + 1]`: face k of a row is west of cell k. The first and last stay 0.
    pub(crate) x: Vec<f64>,
    /// `[height + 1, width]`: face row j is north of cell row j. The first and last stay 0.
    pub(crate) y: Vec<f64>,
}

/// Which faces of a row may carry water.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowFaces {
    /// Faces computed in this step; the discharge is 0 in all others.
    pub(crate) x: Span,
    pub(crate) y: Span,
    /// Of these, the ones that touch wet cells. The others hold 0 after the step.
    pub(crate) wet_x: Span,
    pub(crate) wet_y: Span,
}

impl RowFaces {
    pub(crate) const NONE: RowFaces = RowFaces {
        x: Span::EMPTY,
        y: Span::EMPTY,
        wet_x: Span::EMPTY,
        wet_y: Span::EMPTY,
    };
}

/// What a step leaves of each row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowState {
    /// Cells deep enough to take part in the next step.
    pub(crate) wet: Span,
    pub(crate) max_depth_m: f64,
    /// Sums of the last step over the row's cells, in m of depth.
    pub(crate) outflow_m: f64,
    pub(crate) infiltration_m: f64,
}
