//! What the passes of a step read and write: the ground, the discharges on its faces, and which parts of it are wet.

use crate::edges::Edges;
use crate::infiltration::Uptake;
use crate::kernel::Roughness;
use crate::span::Span;

/// What does not change from step to step.
pub(crate) struct Ground {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Row-major; infinite outside the domain.
    pub(crate) bed_m: Vec<f64>,
    pub(crate) manning: RoughnessGrid,
    pub(crate) edges: Edges,
    pub(crate) uptake: Uptake,
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
}

/// Unit discharges of all faces, m²/s, positive to the east and south.
#[derive(Debug, Clone)]
pub(crate) struct Discharge {
    /// `[height, width + 1]`: face k of a row is west of cell k.
    pub(crate) x: Vec<f64>,
    /// `[height + 1, width]`: face row j is north of cell row j.
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
    /// Sum of the last step over the row's cells, in m of depth.
    pub(crate) infiltration_m: f64,
}
