//! A block of rows moved through one time step in a single sweep, in place.
//!
//! Four stages follow each other down the block while their rows are in the cache: the momentum equation gives tentative
//! discharges (A); from those around a cell comes the share of its outflow that it can give (B), which limits them (C); and they
//! move the water (D). Stage A of row r needs the old state of rows r - 1 to r + 1, so C follows one row behind and writes
//! the discharges in their place, and D two rows behind the depths. What a block needs of its neighbours' old rows is
//! copied before the step, and their tentative discharges and shares next to it are computed twice: blocks are independent, and
//! the result does not depend on their number.
//!
//! Only chunks of cells that hold water, or did before the last step, and the faces that touch them are computed. All other
//! discharges are 0.

use std::ops::Range;

use crate::chunks::{self, CHUNK, ChunkMap, Runs};
use crate::edges::EdgeFace;
use crate::grid::{Ground, RowState};
use crate::kernel::{self, Faces, LANES, StepScalars};
use crate::maxima::MaximaRows;
use crate::rain::Rain;
use crate::simd::Vectorised;

/// What all blocks read.
pub(crate) struct Sweep<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) scalars: &'a StepScalars,
    pub(crate) rain: &'a Rain,
    /// Level in m or inflow in m²/s of each boundary that has one now.
    pub(crate) given: &'a [Option<f64>],
    /// Chunks that hold water, or did before the last step.
    pub(crate) active: &'a ChunkMap,
    /// Water no deeper takes no part in the next step.
    pub(crate) active_depth_m: f64,
    /// The clock after the step.
    pub(crate) end_s: f64,
}

/// Rows of the state, those of a block or more.
pub(crate) struct StateRows<'a> {
    pub(crate) depth_m: &'a mut [f64],
    pub(crate) x: &'a mut [f64],
    /// With the southern border's faces where the rows reach it.
    pub(crate) y: &'a mut [f64],
    /// Empty without Green-Ampt infiltration.
    pub(crate) infiltrated_m: &'a mut [f64],
    pub(crate) maxima: Option<MaximaRows<'a>>,
    pub(crate) rows: &'a mut [RowState],
    /// Written: the chunks that hold water after the step.
    pub(crate) wet: &'a mut [u64],
}

impl<'a> StateRows<'a> {
    /// The first `rows` rows, and the others.
    pub(crate) fn split(self, rows: usize, width: usize, words: usize) -> (Self, Self) {
        let (depth, depth_rest) = self.depth_m.split_at_mut(rows * width);
        let (x, x_rest) = self.x.split_at_mut(rows * (width + 1));
        let (y, y_rest) = self.y.split_at_mut(rows * width);
        let taken = (rows * width).min(self.infiltrated_m.len());
        let (infiltrated, infiltrated_rest) = self.infiltrated_m.split_at_mut(taken);
        let (maxima, maxima_rest) = match self.maxima {
            None => (None, None),
            Some(maxima) => {
                let (first, rest) = maxima.split(rows * width);
                (Some(first), Some(rest))
            }
        };
        let (states, states_rest) = self.rows.split_at_mut(rows);
        let (wet, wet_rest) = self.wet.split_at_mut(rows * words);
        let first = StateRows {
            depth_m: depth,
            x,
            y,
            infiltrated_m: infiltrated,
            maxima,
            rows: states,
            wet,
        };
        let rest = StateRows {
            depth_m: depth_rest,
            x: x_rest,
            y: y_rest,
            infiltrated_m: infiltrated_rest,
            maxima: maxima_rest,
            rows: states_rest,
            wet: wet_rest,
        };
        (first, rest)
    }
}

/// Old rows on one side of a block: two above it; or two below it, and three of y faces. Empty at the border of the grid.
#[derive(Clone, Copy)]
pub(crate) struct HaloRows<'a> {
    pub(crate) depth_m: &'a [f64],
    pub(crate) x: &'a [f64],
    pub(crate) y: &'a [f64],
}

impl HaloRows<'_> {
    pub(crate) const NONE: Self = HaloRows {
        depth_m: &[],
        x: &[],
        y: &[],
    };
}

/// Rows at work in a block; row r is at r mod 2.
pub(crate) struct Scratch {
    x: Vec<f64>,
    y: Vec<f64>,
    shares: Vec<f64>,
    /// Discharges of the faces south of the last row, which belong to the next block.
    south: Vec<f64>,
}

impl Scratch {
    pub(crate) fn new(width: usize) -> Self {
        Self {
            x: vec![0.0; 2 * (width + 1)],
            y: vec![0.0; 2 * width],
            shares: vec![1.0; 2 * width],
            south: vec![0.0; width],
        }
    }
}

/// A block of rows from `first` on, before `last`.
pub(crate) struct Block<'a> {
    pub(crate) sweep: &'a Sweep<'a>,
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) state: StateRows<'a>,
    pub(crate) above: HaloRows<'a>,
    pub(crate) below: HaloRows<'a>,
    pub(crate) scratch: &'a mut Scratch,
}

/// The rows of one array: a block's own and the halos'.
struct Rows<'a> {
    own: &'a [f64],
    above: &'a [f64],
    below: &'a [f64],
    first: usize,
    end: usize,
    width: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn get(&self, row: usize) -> &'a [f64] {
        let (rows, at) = if row < self.first {
            (self.above, row + 2 - self.first)
        } else if row < self.end {
            (self.own, row - self.first)
        } else {
            (self.below, row - self.end)
        };
        &rows[at * self.width..][..self.width]
    }
}

/// The state before the step, as stage A reads it.
struct Old<'a> {
    depth: Rows<'a>,
    x: Rows<'a>,
    y: Rows<'a>,
}

impl Vectorised for Block<'_> {
    #[inline(always)]
    fn run(self) {
        let Self {
            sweep,
            first,
            last,
            state,
            above,
            below,
            scratch,
        } = self;
        let StateRows {
            depth_m: depth,
            x,
            y,
            infiltrated_m: infiltrated,
            mut maxima,
            rows,
            wet,
        } = state;
        let (height, width) = (sweep.ground.height, sweep.ground.width);
        let words = sweep.active.words_per_row();
        let y_end = if last == height { height + 1 } else { last };
        scratch.x.fill(0.0);
        scratch.y.fill(0.0);
        scratch.south.fill(0.0);
        let mut limited = [false; 2];
        let start = first.saturating_sub(1);
        for row in start..=last + 1 {
            // A
            let old = Old {
                depth: Rows {
                    own: depth,
                    above: above.depth_m,
                    below: below.depth_m,
                    first,
                    end: last,
                    width,
                },
                x: Rows {
                    own: x,
                    above: above.x,
                    below: below.x,
                    first,
                    end: last,
                    width: width + 1,
                },
                y: Rows {
                    own: y,
                    above: above.y,
                    below: below.y,
                    first,
                    end: y_end,
                    width,
                },
            };
            if row <= last && row < height {
                let x = &mut scratch.x[row % 2 * (width + 1)..][..width + 1];
                if row >= start + 2 {
                    sweep.clear_x(row - 2, row, x);
                }
                sweep.faces_x(row, &old, x);
                sweep.edges_x(row, &old, x);
            }
            if row <= height {
                let y = &mut scratch.y[row % 2 * width..][..width];
                if row >= start + 2 {
                    sweep.clear_y(row - 2, row, y);
                }
                sweep.faces_y(row, &old, y);
                sweep.edges_y(row, &old, y);
            }
            // B
            if row > start && row <= height {
                let above = row - 1;
                let x = &scratch.x[above % 2 * (width + 1)..][..width + 1];
                let north = &scratch.y[above % 2 * width..][..width];
                let south = &scratch.y[row % 2 * width..][..width];
                let shares = &mut scratch.shares[above % 2 * width..][..width];
                limited[above % 2] =
                    sweep.shares(above, old.depth.get(above), [x, north, south], shares);
            }
            // C
            if row > first {
                let above = row - 1;
                let (even, odd) = scratch.shares.split_at(width);
                let limits = Limits {
                    rows: [even, odd],
                    limited,
                };
                let y = if above < y_end {
                    &mut y[(above - first) * width..][..width]
                } else {
                    &mut scratch.south[..]
                };
                let tentative = &scratch.y[above % 2 * width..][..width];
                sweep.limit_y(above, tentative, &limits, y);
                if above < last {
                    let tentative = &scratch.x[above % 2 * (width + 1)..][..width + 1];
                    let x = &mut x[(above - first) * (width + 1)..][..width + 1];
                    sweep.limit_x(above, tentative, &limits, x);
                }
            }
            // D
            if row > first + 1 {
                let (done, local) = (row - 2, row - 2 - first);
                let south = if done + 1 < y_end {
                    &y[(local + 1) * width..][..width]
                } else {
                    &scratch.south[..]
                };
                let cells = local * width..(local + 1) * width;
                sweep.fill(
                    done,
                    Fill {
                        depth: &mut depth[cells.clone()],
                        infiltrated: infiltrated.get_mut(cells.clone()).unwrap_or(&mut []),
                        x: &x[local * (width + 1)..][..width + 1],
                        north: &y[cells.clone()],
                        south,
                        maxima: maxima.as_mut().map(|maxima| maxima.rows(cells.clone())),
                        wet: &mut wet[local * words..][..words],
                        state: &mut rows[local],
                    },
                );
            }
        }
    }
}

/// The shares of two rows, and whether any of each is below 1.
struct Limits<'a> {
    rows: [&'a [f64]; 2],
    limited: [bool; 2],
}

/// A row of stage D.
struct Fill<'a> {
    depth: &'a mut [f64],
    infiltrated: &'a mut [f64],
    x: &'a [f64],
    north: &'a [f64],
    south: &'a [f64],
    maxima: Option<MaximaRows<'a>>,
    wet: &'a mut [u64],
    state: &'a mut RowState,
}

const NO_BITS: &[u64] = &[];

impl Sweep<'_> {
    fn above(&self, row: usize) -> &[u64] {
        if row == 0 {
            NO_BITS
        } else {
            self.active.row(row - 1)
        }
    }

    /// Chunks of a row whose x faces are computed.
    #[inline(always)]
    fn runs_x(&self, row: usize) -> Runs<'_> {
        let bits = self.active.row(row);
        Runs::new([bits, NO_BITS, NO_BITS, NO_BITS], self.ground.width)
    }

    /// Chunks of a row of y faces that are computed; none on the northern and southern border.
    #[inline(always)]
    fn runs_y(&self, row: usize) -> Runs<'_> {
        let inner = row > 0 && row < self.ground.height;
        let bits = if inner {
            [self.above(row), self.active.row(row)]
        } else {
            [NO_BITS; 2]
        };
        Runs::new([bits[0], bits[1], NO_BITS, NO_BITS], self.ground.width)
    }

    /// Chunks of cells that touch computed faces, but for one cell more on both sides; and those of `also`.
    #[inline(always)]
    fn runs_reached<'a>(&'a self, row: usize, also: &'a [u64]) -> Runs<'a> {
        let active = self.active;
        let bits = [self.above(row), active.row(row), active.row(row + 1), also];
        Runs::new(bits, self.ground.width)
    }

    /// Sets the x faces of row `old` in the buffer to 0 where those of row `new` will not overwrite them.
    #[inline(always)]
    fn clear_x(&self, old: usize, new: usize, out: &mut [f64]) {
        let covered = |(old, new): (&u64, &u64)| old & !new == 0;
        let (before, after) = (self.active.row(old), self.active.row(new));
        if !before.iter().zip(after).all(covered) {
            for run in self.runs_x(old) {
                out[chunks::faces(run, self.ground.width)].fill(0.0);
            }
        }
        for edge in self.ground.edges.x.row(old) {
            out[edge.index()] = 0.0;
        }
    }

    /// The same for y faces.
    #[inline(always)]
    fn clear_y(&self, old: usize, new: usize, out: &mut [f64]) {
        // The rows of cells between are common to both where they are next to each other.
        let covered = (0..self.active.words_per_row()).all(|i| {
            let word = |row: &[u64]| row.get(i).copied().unwrap_or(0);
            let before = word(self.above(old)) | word(self.active.row(old));
            let after = word(self.above(new)) | word(self.active.row(new));
            before & !after == 0
        });
        if !covered || new == self.ground.height {
            for run in self.runs_y(old) {
                out[run].fill(0.0);
            }
        }
        for edge in self.ground.edges.y.row(old) {
            out[edge.index()] = 0.0;
        }
    }

    /// Stage A for the faces between the cells of one row.
    #[inline(always)]
    fn faces_x(&self, row: usize, old: &Old, out: &mut [f64]) {
        let width = self.ground.width;
        let (x, h) = (old.x.get(row), old.depth.get(row));
        let (north, south) = (old.y.get(row), old.y.get(row + 1));
        let z = &self.ground.bed_m[self.ground.cells(row)];
        let faces = self.runs_x(row).map(|run| chunks::faces(run, width));
        for Range { start, end } in faces.flat_map(chunks::vectors) {
            let (a, b) = (start - 1, start);
            let faces = Faces {
                own: &x[start..],
                along: [&x[start - 1..], &x[start + 1..]],
                across: [&north[a..], &south[a..], &north[b..], &south[b..]],
                depth: [&h[a..], &h[b..]],
                bed: [&z[a..], &z[b..]],
            };
            let roughness = self.ground.roughness(row * width + a, row * width + b);
            kernel::discharges(&mut out[start..end], faces, roughness, self.scalars);
        }
    }

    /// Stage A for the faces between the cells of a row and the row north of it.
    #[inline(always)]
    fn faces_y(&self, row: usize, old: &Old, out: &mut [f64]) {
        if row == 0 || row == self.ground.height {
            return;
        }
        let width = self.ground.width;
        let y = [row - 1, row, row + 1].map(|row| old.y.get(row));
        let [x_a, x_b] = [row - 1, row].map(|row| old.x.get(row));
        let [h_a, h_b] = [row - 1, row].map(|row| old.depth.get(row));
        let [z_a, z_b] = [row - 1, row].map(|row| &self.ground.bed_m[self.ground.cells(row)]);
        for Range { start, end } in self.runs_y(row).flat_map(chunks::vectors) {
            let faces = Faces {
                own: &y[1][start..],
                along: [&y[0][start..], &y[2][start..]],
                across: [
                    &x_a[start..],
                    &x_a[start + 1..],
                    &x_b[start..],
                    &x_b[start + 1..],
                ],
                depth: [&h_a[start..], &h_b[start..]],
                bed: [&z_a[start..], &z_b[start..]],
            };
            let (a, b) = ((row - 1) * width + start, row * width + start);
            let roughness = self.ground.roughness(a, b);
            kernel::discharges(&mut out[start..end], faces, roughness, self.scalars);
        }
    }

    /// Stage A for the faces of a row of cells that are on the edge of the domain.
    #[inline(always)]
    fn edges_x(&self, row: usize, old: &Old, out: &mut [f64]) {
        for edge in self.ground.edges.x.row(row) {
            let x = old.x.get(row);
            let face = edge.index();
            let discharges = [x[face], x[2 * edge.col + 1 - face]];
            let across = [row, row + 1].map(|row| old.y.get(row)[edge.col]);
            out[face] = self.edge(edge, old, discharges, across);
        }
    }

    /// Stage A for the faces of a row of y faces that are on the edge of the domain.
    #[inline(always)]
    fn edges_y(&self, row: usize, old: &Old, out: &mut [f64]) {
        for edge in self.ground.edges.y.row(row) {
            let inner = 2 * edge.row + 1 - row;
            let discharges = [row, inner].map(|row| old.y.get(row)[edge.col]);
            let x = old.x.get(edge.row);
            out[edge.col] = self.edge(edge, old, discharges, [x[edge.col], x[edge.col + 1]]);
        }
    }

    #[inline(always)]
    fn edge(&self, edge: &EdgeFace, old: &Old, discharges: [f64; 2], across: [f64; 2]) -> f64 {
        let bed_m = self.ground.bed_m[edge.row * self.ground.width + edge.col];
        let depth_m = old.depth.get(edge.row)[edge.col];
        edge.discharge(
            discharges,
            across,
            [depth_m, bed_m],
            self.given,
            self.scalars,
        )
    }

    /// Stage B. Returns whether any cell cannot give all.
    #[inline(always)]
    fn shares(
        &self,
        row: usize,
        depth: &[f64],
        [x, north, south]: [&[f64]; 3],
        out: &mut [f64],
    ) -> bool {
        let mut limited = false;
        let runs = self.runs_reached(row, NO_BITS);
        for cells in runs.flat_map(|run| chunks::vectors(chunks::grow(run, self.ground.width))) {
            let around = [
                &x[cells.clone()],
                &x[1..][cells.clone()],
                &north[cells.clone()],
                &south[cells.clone()],
            ];
            limited |= kernel::shares(&mut out[cells.clone()], &depth[cells], around, self.scalars);
        }
        limited
    }

    /// Stage C for x faces.
    #[inline(always)]
    fn limit_x(&self, row: usize, tentative: &[f64], limits: &Limits, out: &mut [f64]) {
        let shares = limits.rows[row % 2];
        for run in self.runs_x(row) {
            let Range { start, end } = chunks::faces(run, self.ground.width);
            if limits.limited[row % 2] && start < end {
                let (a, b) = (&shares[start - 1..], &shares[start..]);
                kernel::limit(&mut out[start..end], &tentative[start..end], a, b);
            } else {
                out[start..end].copy_from_slice(&tentative[start..end]);
            }
        }
        for edge in self.ground.edges.x.row(row) {
            out[edge.index()] = edge.limit(tentative[edge.index()], shares[edge.col]);
        }
    }

    /// Stage C for y faces.
    #[inline(always)]
    fn limit_y(&self, row: usize, tentative: &[f64], limits: &Limits, out: &mut [f64]) {
        let (a, b) = (limits.rows[(row + 1) % 2], limits.rows[row % 2]);
        for run in self.runs_y(row) {
            let (out, tentative) = (&mut out[run.clone()], &tentative[run.clone()]);
            if limits.limited[0] || limits.limited[1] {
                kernel::limit(out, tentative, &a[run.start..], &b[run.start..]);
            } else {
                out.copy_from_slice(tentative);
            }
        }
        for edge in self.ground.edges.y.row(row) {
            let share = limits.rows[edge.row % 2][edge.col];
            out[edge.col] = edge.limit(tentative[edge.col], share);
        }
    }

    /// Stage D: continuity, rain, losses, and what is wet afterwards.
    #[inline(always)]
    fn fill(&self, row: usize, fill: Fill) {
        let Fill {
            depth,
            infiltrated,
            x,
            north,
            south,
            mut maxima,
            wet,
            state,
        } = fill;
        let width = self.ground.width;
        let rain_bits = self.rain.chunks.row(row);
        let rains = rain_bits.iter().any(|word| *word != 0);
        let rain = &self.rain.rate_m_per_s[self.ground.cells(row)];
        wet.fill(0);
        for run in self.runs_reached(row, rain_bits) {
            let cells = chunks::grow(run, width);
            let around = [
                &x[cells.clone()],
                &x[1..][cells.clone()],
                &north[cells.clone()],
                &south[cells.clone()],
            ];
            let depth = &mut depth[cells.clone()];
            if rains {
                kernel::fill_with_rain(depth, around, &rain[cells], self.scalars);
            } else {
                kernel::fill(depth, around, self.scalars);
            }
        }
        for [_, col] in self.ground.edges.outside(row) {
            depth[*col] = 0.0;
        }
        let mut lanes = [0.0; LANES];
        let mut deepest = 0.0;
        for run in self.runs_reached(row, rain_bits) {
            let cells = chunks::grow(run, width);
            if self.ground.uptake.is_active() {
                self.ground.uptake.take(
                    &mut depth[cells.clone()],
                    infiltrated.get_mut(cells.clone()).unwrap_or(&mut []),
                    [row * width + cells.start, cells.start],
                    self.scalars.timestep_s,
                    &mut lanes,
                );
            }
            if let Some(maxima) = &mut maxima {
                let around = [
                    &x[cells.clone()],
                    &x[1..][cells.clone()],
                    &north[cells.clone()],
                    &south[cells.clone()],
                ];
                maxima.track(cells.clone(), &depth[cells.clone()], around, self.end_s);
            }
            for chunk in cells.start / CHUNK..cells.end.div_ceil(CHUNK) {
                let end = ((chunk + 1) * CHUNK).min(width);
                let chunk_depth = kernel::largest(&depth[chunk * CHUNK..end]);
                if chunk_depth > self.active_depth_m {
                    chunks::mark(wet, chunk);
                    deepest = f64::max(deepest, chunk_depth);
                }
            }
        }
        state.max_depth_m = deepest;
        state.infiltration_m = lanes.iter().sum();
    }
}
