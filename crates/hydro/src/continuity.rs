//! Pass 2: the continuity equation. Tentative discharges are limited to the water there is, and move it; rain and losses.

use crate::grid::{Discharge, Ground, RowFaces, RowState};
use crate::kernel::{self, StepScalars};
use crate::simd::Vectorised;
use crate::span::Span;

/// What falls and sinks in during a step.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) rain_m_per_s: &'a [f64],
    pub(crate) rain_spans: &'a [Span],
    pub(crate) infiltration_m_per_s: f64,
}

/// What all blocks read.
pub(crate) struct ContinuityPass<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) scalars: &'a StepScalars,
    pub(crate) sources: Sources<'a>,
    pub(crate) tentative: &'a Discharge,
    pub(crate) shares: &'a [f64],
    pub(crate) faces: &'a [RowFaces],
}

/// A block of rows, from `first` on, as many as the buffers hold.
pub(crate) struct ContinuityBlock<'a> {
    pub(crate) pass: &'a ContinuityPass<'a>,
    pub(crate) first: usize,
    pub(crate) depth: &'a mut [f64],
    /// Discharges of the rows' own faces: all in the rows and those north of them.
    pub(crate) x: &'a mut [f64],
    pub(crate) y: &'a mut [f64],
    pub(crate) rows: &'a mut [RowState],
    /// Scratch for the faces south of the last row, which belong to the next block.
    pub(crate) south: &'a mut [f64],
}

impl Vectorised for ContinuityBlock<'_> {
    #[inline(always)]
    fn run(self) {
        let Self {
            pass,
            first,
            depth,
            x,
            y,
            rows,
            south,
        } = self;
        let (height, width) = (pass.ground.height, pass.ground.width);
        let last = first + rows.len();
        pass.limit_y(first, &mut y[..width]);
        for (row, state) in (first..).zip(rows) {
            let local = row - first;
            let x = &mut x[local * (width + 1)..][..width + 1];
            let depth = &mut depth[local * width..][..width];
            pass.limit_x(row, x);
            let (north, south) = if row + 1 < last {
                let (north, south) = y[local * width..].split_at_mut(width);
                pass.limit_y(row + 1, &mut south[..width]);
                (&*north, &south[..width])
            } else {
                south.fill(0.0);
                if last < height {
                    pass.limit_y(last, south);
                }
                (&y[local * width..][..width], &*south)
            };
            pass.fill(row, depth, x, north, south, state);
        }
    }
}

impl ContinuityPass<'_> {
    #[inline(always)]
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

    #[inline(always)]
    fn limit_y(&self, row: usize, out: &mut [f64]) {
        let Span { start, end } = self.faces[row].y;
        if start < end {
            let width = self.ground.width;
            let tentative = &self.tentative.y[row * width..][start..end];
            let shares = &self.shares[(row - 1) * width + start..];
            kernel::limit(&mut out[start..end], tentative, shares, &shares[width..]);
        }
    }

    #[inline(always)]
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
