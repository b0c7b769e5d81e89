//! The faces between the domain and what is beyond it, over which water can pass.
//!
//! Their discharges are kept in the arrays of all faces, so that continuity and the neighbouring faces see them; what sets
//! them apart is how they are computed. They are few, so this is plain arithmetic after each row's.

use std::collections::HashMap;

use crate::boundary::Side;
use crate::domain::{Domain, Edge, Parameter};
use crate::grid::Discharge;
use crate::kernel::{self, Faces, Roughness, StepScalars};
use crate::{Boundary, HydroError};

/// A face on the edge of the domain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EdgeFace {
    /// The cell inside.
    pub(crate) row: usize,
    pub(crate) col: usize,
    pub(crate) side: Side,
    pub(crate) beyond: Outside,
    /// Which boundary set it; `None` for the domain's edge.
    pub(crate) boundary: Option<usize>,
}

/// What is beyond a face.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outside {
    /// Uniform flow out; √S / n.
    Free { conveyance: f64 },
    /// Water of the level of boundary `boundary`; Manning's n of the cell.
    Level { boundary: usize, manning: f64 },
    /// The given inflow of boundary `boundary`.
    Inflow { boundary: usize },
}

impl EdgeFace {
    /// The face within its row of x faces or y faces.
    pub(crate) fn index(&self) -> usize {
        self.col + usize::from(self.side == Side::East)
    }

    /// 1 if the discharge out of the domain is positive, else -1.
    pub(crate) fn outward(&self) -> f64 {
        match self.side {
            Side::East | Side::South => 1.0,
            Side::West | Side::North => -1.0,
        }
    }

    /// The discharge that leaves the domain here, m²/s.
    pub(crate) fn outflow(&self, discharge: &Discharge, width: usize) -> f64 {
        let q = match self.side {
            Side::West | Side::East => discharge.x[self.row * (width + 1) + self.index()],
            Side::North => discharge.y[self.row * width + self.col],
            Side::South => discharge.y[(self.row + 1) * width + self.col],
        };
        self.outward() * q
    }

    /// The tentative discharge, m²/s, positive to the east or south.
    ///
    /// `given` holds the level in m or the inflow in m²/s of each boundary that has one now.
    /// `own` and `inner` are the discharges of this face and of the one across the cell, `across` those of the other two
    /// faces of the cell, all before the step.
    #[inline(always)]
    pub(crate) fn discharge(
        &self,
        [own, inner]: [f64; 2],
        across: [f64; 2],
        [depth, bed]: [f64; 2],
        given: &[Option<f64>],
        scalars: &StepScalars,
    ) -> f64 {
        match self.beyond {
            Outside::Free { conveyance } => {
                self.outward() * kernel::free_outflow(depth, conveyance, scalars)
            }
            Outside::Inflow { boundary } => -self.outward() * given[boundary].unwrap_or(0.0),
            Outside::Level { boundary, manning } => {
                let Some(level) = given[boundary] else {
                    return 0.0;
                };
                let ghost = (level - bed).max(0.0);
                let (depth, ghost, bed, across) = ([depth], [ghost], [bed], across.map(|q| [q]));
                let depth = match self.side {
                    Side::East | Side::South => [&depth[..], &ghost[..]],
                    Side::West | Side::North => [&ghost[..], &depth[..]],
                };
                let faces = Faces {
                    own: &[own],
                    // Beyond the edge the flow goes on as it is.
                    along: [&[inner], &[own]],
                    across: [&across[0], &across[1], &across[0], &across[1]],
                    depth,
                    bed: [&bed, &bed],
                };
                let mut out = [0.0];
                kernel::discharges(&mut out, faces, Roughness::Uniform(manning), scalars);
                out[0]
            }
        }
    }

    /// The discharge that the cell can give, of which `share` is that of its demand.
    #[inline(always)]
    pub(crate) fn limit(&self, tentative: f64, share: f64) -> f64 {
        if tentative * self.outward() > 0.0 {
            tentative * share
        } else {
            tentative
        }
    }
}

/// Edge faces in the order of the rows of faces that they are in.
pub(crate) struct FaceRows {
    faces: Vec<EdgeFace>,
    starts: Vec<usize>,
}

impl FaceRows {
    fn new(mut faces: Vec<EdgeFace>, rows: usize, row: impl Fn(&EdgeFace) -> usize) -> Self {
        faces.sort_by_key(|face| (row(face), face.index()));
        let starts = (0..=rows)
            .map(|r| faces.partition_point(|face| row(face) < r))
            .collect();
        Self { faces, starts }
    }

    pub(crate) fn row(&self, row: usize) -> &[EdgeFace] {
        &self.faces[self.starts[row]..self.starts[row + 1]]
    }

    pub(crate) fn all(&self) -> &[EdgeFace] {
        &self.faces
    }
}

/// All edge faces that are no walls, and cells with water of their own.
pub(crate) struct Edges {
    /// By row of cells.
    pub(crate) x: FaceRows,
    /// By row of faces, `height + 1` of them.
    pub(crate) y: FaceRows,
    /// Cells outside the domain beyond these faces, by row; they stay dry.
    pub(crate) outside: Vec<[usize; 2]>,
    pub(crate) outside_starts: Vec<usize>,
    /// Cells of boundaries: held at a level, or with an inflow.
    pub(crate) cells: Vec<BoundaryCells>,
    /// The lowest bed that a boundary's level can wet; infinite for other boundaries.
    pub(crate) lowest_bed_m: Vec<f64>,
}

/// Cells with water of their own.
pub(crate) struct BoundaryCells {
    pub(crate) boundary: usize,
    pub(crate) cells: Vec<[usize; 2]>,
    pub(crate) kind: CellWater,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellWater {
    Held,
    Inflow,
    /// Behind the faces over which an inflow comes.
    Behind,
}

impl Edges {
    pub(crate) fn new(domain: &Domain) -> Result<Self, HydroError> {
        let (height, width) = domain.bed_m.dim();
        let inside = |row: usize, col: usize| !domain.bed_m[(row, col)].is_nan();
        let outer = |row: usize, col: usize, side: Side| match side {
            Side::North => row == 0 || !inside(row - 1, col),
            Side::South => row + 1 == height || !inside(row + 1, col),
            Side::West => col == 0 || !inside(row, col - 1),
            Side::East => col + 1 == width || !inside(row, col + 1),
        };
        const SIDES: [Side; 4] = [Side::North, Side::East, Side::South, Side::West];

        // Which boundary has the last word on a face or a cell.
        let mut faces: HashMap<([usize; 2], Side), usize> = HashMap::new();
        let mut held: HashMap<[usize; 2], usize> = HashMap::new();
        let mut cells = Vec::new();
        for (boundary, set) in domain.boundaries.iter().enumerate() {
            let refuse = |reason| HydroError::Boundary { boundary, reason };
            if let Some(fault) = set.fault() {
                return Err(refuse(fault));
            }
            let (place, side) = set.place().cells(height, width, inside).map_err(refuse)?;
            match set {
                Boundary::Inflow { .. } if side.is_none() => cells.push(BoundaryCells {
                    boundary,
                    cells: place,
                    kind: CellWater::Inflow,
                }),
                Boundary::Level { .. } if side.is_none() => {
                    held.extend(place.into_iter().map(|cell| (cell, boundary)));
                }
                Boundary::Edge { .. } | Boundary::Level { .. } | Boundary::Inflow { .. } => {
                    for cell in place {
                        let mut found = false;
                        for at in SIDES {
                            if side.is_none_or(|side| side == at) && outer(cell[0], cell[1], at) {
                                faces.insert((cell, at), boundary);
                                found = true;
                            }
                        }
                        if !found {
                            return Err(refuse(format!(
                                "row {}, column {} is not on the edge",
                                cell[0], cell[1]
                            )));
                        }
                    }
                }
            }
        }
        let own = |owned: Vec<(&[usize; 2], &usize)>, boundary, kind| {
            let own = owned.into_iter().filter(|(_, owner)| **owner == boundary);
            let mut cells: Vec<_> = own.map(|(cell, _)| *cell).collect();
            cells.sort_unstable();
            (!cells.is_empty()).then_some(BoundaryCells {
                boundary,
                cells,
                kind,
            })
        };
        for (boundary, set) in domain.boundaries.iter().enumerate() {
            cells.extend(own(held.iter().collect(), boundary, CellWater::Held));
            if matches!(set, Boundary::Inflow { .. }) {
                let behind = faces.iter().map(|((cell, _), owner)| (cell, owner));
                cells.extend(own(behind.collect(), boundary, CellWater::Behind));
            }
        }

        let manning = |row, col| match &domain.manning {
            Parameter::Uniform(n) => *n,
            Parameter::PerCell(n) => n[(row, col)],
        };
        let (mut x, mut y, mut outside) = (Vec::new(), Vec::new(), Vec::new());
        let mut lowest_bed_m = vec![f64::INFINITY; domain.boundaries.len()];
        for (cell, boundary) in &held {
            lowest_bed_m[*boundary] = lowest_bed_m[*boundary].min(domain.bed_m[*cell]);
        }
        for row in 0..height {
            for col in (0..width).filter(|col| inside(row, *col)) {
                if held.contains_key(&[row, col]) {
                    continue;
                }
                for side in SIDES.into_iter().filter(|side| outer(row, col, *side)) {
                    let boundary = faces.get(&([row, col], side)).copied();
                    let edge = match boundary.map(|index| (index, &domain.boundaries[index])) {
                        None => Some(domain.edge),
                        Some((_, Boundary::Edge { edge, .. })) => Some(*edge),
                        Some((_, Boundary::Level { .. } | Boundary::Inflow { .. })) => None,
                    };
                    let beyond = match (edge, boundary) {
                        (Some(Edge::Closed), _) => continue,
                        (Some(Edge::FreeOutflow { slope }), _) => Outside::Free {
                            conveyance: slope.sqrt() / manning(row, col),
                        },
                        (None, Some(boundary))
                            if matches!(domain.boundaries[boundary], Boundary::Inflow { .. }) =>
                        {
                            Outside::Inflow { boundary }
                        }
                        (None, Some(boundary)) => {
                            let lowest = &mut lowest_bed_m[boundary];
                            *lowest = lowest.min(domain.bed_m[(row, col)]);
                            Outside::Level {
                                boundary,
                                manning: manning(row, col),
                            }
                        }
                        (None, None) => {
                            unreachable!("a face without a boundary has the domain's edge")
                        }
                    };
                    let face = EdgeFace {
                        row,
                        col,
                        side,
                        beyond,
                        boundary,
                    };
                    match side {
                        Side::West | Side::East => x.push(face),
                        Side::North | Side::South => y.push(face),
                    }
                    match side {
                        Side::North if row > 0 => outside.push([row - 1, col]),
                        Side::South if row + 1 < height => outside.push([row + 1, col]),
                        Side::West if col > 0 => outside.push([row, col - 1]),
                        Side::East if col + 1 < width => outside.push([row, col + 1]),
                        _ => {}
                    }
                }
            }
        }
        outside.sort_unstable();
        outside.dedup();
        let outside_starts = (0..=height)
            .map(|row| outside.partition_point(|cell| cell[0] < row))
            .collect();
        Ok(Self {
            x: FaceRows::new(x, height, |face| face.row),
            y: FaceRows::new(y, height + 1, |face| {
                face.row + usize::from(face.side == Side::South)
            }),
            outside,
            outside_starts,
            cells,
            lowest_bed_m,
        })
    }

    /// Cells of a row, outside the domain, that edge faces border on.
    pub(crate) fn outside(&self, row: usize) -> &[[usize; 2]] {
        &self.outside[self.outside_starts[row]..self.outside_starts[row + 1]]
    }
}
