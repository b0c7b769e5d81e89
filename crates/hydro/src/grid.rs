//! What a step reads and writes: the ground, and the discharges on its faces.

use crate::edges::Edges;
use crate::infiltration::Uptake;
use crate::kernel::Roughness;

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

    /// Of the faces between the cells from `a` on and those from `b` on.
    pub(crate) fn roughness(&self, a: usize, b: usize) -> Roughness<'_> {
        match &self.manning {
            RoughnessGrid::Uniform(n) => Roughness::Uniform(*n),
            RoughnessGrid::PerCell(n) => Roughness::PerCell([&n[a..], &n[b..]]),
        }
    }
}

/// Unit discharges of all faces, m²/s, positive to the east and south.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Discharge {
    /// `[height, width + 1]`: face k of a row is west of cell k.
    pub(crate) x: Vec<f64>,
    /// `[height + 1, width]`: face row j is north of cell row j.
    pub(crate) y: Vec<f64>,
}

/// What a step leaves of each row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct RowState {
    /// The deepest of the cells that take part in the next step; 0 if there are none.
    pub(crate) max_depth_m: f64,
    /// Sum of the last step over the row's cells, in m of depth.
    pub(crate) infiltration_m: f64,
}
