//! One time step: two passes over blocks of rows, the same in one thread and in many.
//!
//! Pass 1 reads the state (depth, discharge) and writes tentative discharges and the share that each cell can give of its
//! outflow. Pass 2 reads those and writes the state. A block writes only its own rows and recomputes the face row that it
//! shares with its neighbour, so the blocks of a pass are independent and the result does not depend on their number.

use rayon::prelude::*;

use crate::kernel::{self, Faces, Roughness, StepScalars};
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
    fn cells(&self, row: usize) -> std::ops::Range<usize> {
        row * self.width..(row + 1) * self.width
    }

    fn roughness(&self, a: usize, b: usize) -> Roughness<'_> {
        match &self.manning {
            RoughnessGrid::Uniform(n) => Roughness::Uniform(*n),
            RoughnessGrid::PerCell(n) => Roughness::PerCell([&n[a..], &n[b..]]),
        }
    }

    fn edge(&self, row: usize) -> &[EdgeCell] {
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
    wet_x: Span,
    wet_y: Span,
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

/// Buffers of a step; all are allocated once.
pub(crate) struct Work {
    /// Discharges not yet limited to the water there is; 0 outside the spans of `faces`.
    tentative: Discharge,
    shares: Vec<f64>,
    faces: Vec<RowFaces>,
    /// One row for each block: the faces south of its last row.
    south: Vec<f64>,
    rows_per_block: usize,
}

impl Work {
    pub(crate) fn new(height: usize, width: usize, rows_per_block: usize) -> Self {
        Self {
            tentative: Discharge {
                x: vec![0.0; height * (width + 1)],
                y: vec![0.0; (height + 1) * width],
            },
            shares: vec![1.0; height * width],
            faces: vec![RowFaces::NONE; height],
            south: vec![0.0; height.div_ceil(rows_per_block) * width],
            rows_per_block,
        }
    }
}

/// The state that a step moves forward.
pub(crate) struct State<'a> {
    /// Row-major, m.
    pub(crate) depth_m: &'a mut [f64],
    pub(crate) discharge: &'a mut Discharge,
    pub(crate) rows: &'a mut [RowState],
}

/// What falls and sinks in during a step.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) rain_m_per_s: &'a [f64],
    pub(crate) rain_spans: &'a [Span],
    pub(crate) infiltration_m_per_s: f64,
}

/// Moves the state forward by `scalars.timestep_s`.
pub(crate) fn step(
    ground: &Ground,
    sources: Sources,
    scalars: &StepScalars,
    state: &mut State,
    work: &mut Work,
) {
    let (height, width) = (ground.height, ground.width);
    let rows_per_block = work.rows_per_block;
    let inner = height * width;
    {
        let pass = Pass1 {
            ground,
            scalars,
            depth_m: state.depth_m,
            discharge: state.discharge,
            rows: state.rows,
        };
        let y = &mut work.tentative.y[..inner];
        if rows_per_block >= height {
            pass.block(
                0,
                &mut work.tentative.x,
                y,
                &mut work.shares,
                &mut work.faces,
                &mut work.south,
            );
        } else {
            let cells = rows_per_block * width;
            work.tentative
                .x
                .par_chunks_mut(rows_per_block * (width + 1))
                .zip(y.par_chunks_mut(cells))
                .zip(work.shares.par_chunks_mut(cells))
                .zip(work.faces.par_chunks_mut(rows_per_block))
                .zip(work.south.par_chunks_mut(width))
                .enumerate()
                .for_each(|(i, ((((x, y), shares), faces), south))| {
                    pass.block(i * rows_per_block, x, y, shares, faces, south);
                });
        }
    }
    let pass = Pass2 {
        ground,
        scalars,
        sources,
        tentative: &work.tentative,
        shares: &work.shares,
        faces: &work.faces,
    };
    let y = &mut state.discharge.y[..inner];
    if rows_per_block >= height {
        pass.block(
            0,
            state.depth_m,
            &mut state.discharge.x,
            y,
            state.rows,
            &mut work.south,
        );
    } else {
        let cells = rows_per_block * width;
        state
            .depth_m
            .par_chunks_mut(cells)
            .zip(
                state
                    .discharge
                    .x
                    .par_chunks_mut(rows_per_block * (width + 1)),
            )
            .zip(y.par_chunks_mut(cells))
            .zip(state.rows.par_chunks_mut(rows_per_block))
            .zip(work.south.par_chunks_mut(width))
            .enumerate()
            .for_each(|(i, ((((depth, x), y), rows), south))| {
                pass.block(i * rows_per_block, depth, x, y, rows, south);
            });
    }
}

struct Pass1<'a> {
    ground: &'a Ground,
    scalars: &'a StepScalars,
    depth_m: &'a [f64],
    discharge: &'a Discharge,
    rows: &'a [RowState],
}

impl Pass1<'_> {
    fn wet(&self, row: usize) -> Span {
        self.rows[row].wet
    }

    /// Tentative discharges and shares of the rows from `first` on, as many as the buffers hold.
    fn block(
        &self,
        first: usize,
        x: &mut [f64],
        y: &mut [f64],
        shares: &mut [f64],
        faces: &mut [RowFaces],
        south: &mut [f64],
    ) {
        let (height, width) = (self.ground.height, self.ground.width);
        let last = first + faces.len();
        for (row, faces) in (first..).zip(faces.iter_mut()) {
            let wet_x = self.wet(row).faces(width);
            let wet_y = self.wet_y(row);
            *faces = RowFaces {
                x: wet_x.hull(faces.wet_x),
                y: wet_y.hull(faces.wet_y),
                wet_x,
                wet_y,
            };
            let local = row - first;
            self.faces_x(row, faces.x, &mut x[local * (width + 1)..][..width + 1]);
            self.faces_y(row, faces.y, &mut y[local * width..][..width]);
        }
        south.fill(0.0);
        if last < height {
            self.faces_y(last, self.wet_y(last), south);
        }
        for row in first..last {
            let local = row - first;
            let cells = self.reached(row).range();
            let depth = &self.depth_m[self.ground.cells(row)];
            let x = &x[local * (width + 1)..][..width + 1];
            let north = &y[local * width..][..width];
            let south = if row + 1 < last {
                &y[(local + 1) * width..][..width]
            } else {
                &*south
            };
            let shares = &mut shares[local * width..][..width];
            let around = [
                &x[cells.clone()],
                &x[1..][cells.clone()],
                &north[cells.clone()],
                &south[cells.clone()],
            ];
            kernel::shares(
                &mut shares[cells.clone()],
                &depth[cells],
                around,
                self.scalars,
            );
            for edge in self.ground.edge(row) {
                let (col, h) = (edge.col, depth[edge.col]);
                let over = edge.faces * kernel::free_outflow(h, edge.conveyance, self.scalars);
                if over > 0.0 {
                    let outflow = (x[col + 1].max(0.0) + (-x[col]).max(0.0))
                        + (south[col].max(0.0) + (-north[col]).max(0.0))
                        + over;
                    shares[col] = kernel::share(
                        h,
                        self.scalars.timestep_s / self.scalars.cell_size_m * outflow,
                    );
                }
            }
        }
    }

    /// Faces of face row `row` that touch a wet cell; none on the northern border.
    fn wet_y(&self, row: usize) -> Span {
        if row == 0 {
            Span::EMPTY
        } else {
            self.wet(row - 1).hull(self.wet(row))
        }
    }

    /// Cells of a row that touch a face which may carry water.
    fn reached(&self, row: usize) -> Span {
        let mut cells = self.wet(row).grow(self.ground.width);
        if row > 0 {
            cells = cells.hull(self.wet(row - 1));
        }
        if row + 1 < self.ground.height {
            cells = cells.hull(self.wet(row + 1));
        }
        cells
    }

    /// Faces between the cells of one row.
    fn faces_x(&self, row: usize, span: Span, out: &mut [f64]) {
        if span.is_empty() {
            return;
        }
        let Span { start, end } = span;
        let width = self.ground.width;
        let (a, b) = (row * width + start - 1, row * width + start);
        let own = row * (width + 1) + start;
        let (x, y) = (&self.discharge.x, &self.discharge.y);
        let (z, h) = (&self.ground.bed_m, self.depth_m);
        let faces = Faces {
            own: &x[own..],
            along: [&x[own - 1..], &x[own + 1..]],
            across: [&y[a..], &y[a + width..], &y[b..], &y[b + width..]],
            depth: [&h[a..], &h[b..]],
            bed: [&z[a..], &z[b..]],
        };
        kernel::discharges(
            &mut out[start..end],
            faces,
            self.ground.roughness(a, b),
            self.scalars,
        );
    }

    /// Faces between the cells of a row and the row north of it.
    fn faces_y(&self, row: usize, span: Span, out: &mut [f64]) {
        if span.is_empty() {
            return;
        }
        let Span { start, end } = span;
        let width = self.ground.width;
        let (a, b) = ((row - 1) * width + start, row * width + start);
        let (west_a, west_b) = (a + row - 1, b + row);
        let (x, y) = (&self.discharge.x, &self.discharge.y);
        let (z, h) = (&self.ground.bed_m, self.depth_m);
        let faces = Faces {
            own: &y[b..],
            along: [&y[a..], &y[b + width..]],
            across: [
                &x[west_a..],
                &x[west_a + 1..],
                &x[west_b..],
                &x[west_b + 1..],
            ],
            depth: [&h[a..], &h[b..]],
            bed: [&z[a..], &z[b..]],
        };
        kernel::discharges(
            &mut out[start..end],
            faces,
            self.ground.roughness(a, b),
            self.scalars,
        );
    }
}

struct Pass2<'a> {
    ground: &'a Ground,
    scalars: &'a StepScalars,
    sources: Sources<'a>,
    tentative: &'a Discharge,
    shares: &'a [f64],
    faces: &'a [RowFaces],
}

impl Pass2<'_> {
    /// Limited discharges and new depths of the rows from `first` on, as many as the buffers hold.
    fn block(
        &self,
        first: usize,
        depth: &mut [f64],
        x: &mut [f64],
        y: &mut [f64],
        rows: &mut [RowState],
        south: &mut [f64],
    ) {
        let (height, width) = (self.ground.height, self.ground.width);
        let last = first + rows.len();
        self.limit_y(first, &mut y[..width]);
        for (row, state) in (first..).zip(rows) {
            let local = row - first;
            let x = &mut x[local * (width + 1)..][..width + 1];
            let depth = &mut depth[local * width..][..width];
            self.limit_x(row, x);
            let (north, south) = if row + 1 < last {
                let (north, south) = y[local * width..].split_at_mut(width);
                self.limit_y(row + 1, &mut south[..width]);
                (&*north, &south[..width])
            } else {
                south.fill(0.0);
                if last < height {
                    self.limit_y(last, south);
                }
                (&y[local * width..][..width], &*south)
            };
            self.fill(row, depth, x, north, south, state);
        }
    }

    fn limit_x(&self, row: usize, out: &mut [f64]) {
        let Span { start, end } = self.faces[row].x;
        if start < end {
            let tentative = &self.tentative.x[row * (self.ground.width + 1)..][start..end];
            let shares = &self.shares[self.ground.cells(row)];
            kernel::limit(
                &mut out[start..end],
                tentative,
                &shares[start - 1..],
                &shares[start..],
            );
        }
    }

    fn limit_y(&self, row: usize, out: &mut [f64]) {
        let Span { start, end } = self.faces[row].y;
        if start < end {
            let width = self.ground.width;
            let tentative = &self.tentative.y[row * width..][start..end];
            let shares = &self.shares[(row - 1) * width + start..];
            kernel::limit(&mut out[start..end], tentative, shares, &shares[width..]);
        }
    }

    fn fill(
        &self,
        row: usize,
        depth: &mut [f64],
        x: &[f64],
        north: &[f64],
        south: &[f64],
        state: &mut RowState,
    ) {
        let width = self.ground.width;
        let scalars = self.scalars;
        state.outflow_m = 0.0;
        let shares = &self.shares[self.ground.cells(row)];
        for edge in self.ground.edge(row) {
            let h = &mut depth[edge.col];
            let over = edge.faces * kernel::free_outflow(*h, edge.conveyance, scalars);
            let gone = scalars.timestep_s / scalars.cell_size_m * over * shares[edge.col];
            *h -= gone;
            state.outflow_m += gone;
        }
        let faces = &self.faces[row];
        // Face k and k + 1 belong to cell k; y faces to the cell of their own column.
        let mut span = faces.y.hull(self.sources.rain_spans[row]);
        if !faces.x.is_empty() {
            span = span.hull(Span {
                start: faces.x.start - 1,
                end: faces.x.end,
            });
        }
        if row + 1 < self.ground.height {
            span = span.hull(self.faces[row + 1].y);
        }
        if self.sources.infiltration_m_per_s > 0.0 {
            span = span.hull(state.wet);
        }
        state.infiltration_m = 0.0;
        if span.is_empty() && state.outflow_m == 0.0 {
            return;
        }
        let cells = span.range();
        let around = [
            &x[cells.clone()],
            &x[1..][cells.clone()],
            &north[cells.clone()],
            &south[cells.clone()],
        ];
        let rain = &self.sources.rain_m_per_s[self.ground.cells(row)][cells.clone()];
        kernel::fill(&mut depth[cells.clone()], around, rain, scalars);
        let mut active_depth = scalars.dry_depth_m;
        if self.sources.infiltration_m_per_s > 0.0 {
            // Also water too shallow to flow sinks in.
            active_depth = 0.0;
            let loss = self.sources.infiltration_m_per_s * scalars.timestep_s;
            state.infiltration_m = kernel::infiltrate(&mut depth[cells], loss);
        }
        state.wet = Span::above(depth, active_depth);
        state.max_depth_m = kernel::largest(&depth[..width]);
    }
}
