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
    /// What the ground has taken up of each cell, m.
    pub(crate) infiltrated: &'a mut [f64],
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
            infiltrated,
            x,
            y,
            rows,
            south,
        } = self;
        let width = pass.ground.width;
        let last = first + rows.len();
        pass.limit_y(first, &mut y[..width]);
        for (row, state) in (first..).zip(rows) {
            let local = row - first;
            let x = &mut x[local * (width + 1)..][..width + 1];
            let depth = &mut depth[local * width..][..width];
            let infiltrated = &mut infiltrated[local * width..][..width];
            pass.limit_x(row, x);
            let (north, south) = if row + 1 < last {
                let (north, south) = y[local * width..].split_at_mut(width);
                pass.limit_y(row + 1, &mut south[..width]);
                (&*north, &south[..width])
            } else {
                south.fill(0.0);
                pass.limit_y(last, south);
                (&y[local * width..][..width], &*south)
            };
            pass.fill(row, depth, infiltrated, [x, north, south], state);
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
        for edge in self.ground.edges.x.row(row) {
            let face = row * (self.ground.width + 1) + edge.index();
            let share = self.shares[row * self.ground.width + edge.col];
            out[edge.index()] = edge.limit(self.tentative.x[face], share);
        }
    }

    #[inline(always)]
    fn limit_y(&self, row: usize, out: &mut [f64]) {
        let width = self.ground.width;
        let Span { start, end } = self.y_span(row);
        if start < end {
            let tentative = &self.tentative.y[row * width..][start..end];
            let shares = &self.shares[(row - 1) * width + start..];
            kernel::limit(&mut out[start..end], tentative, shares, &shares[width..]);
        }
        for edge in self.ground.edges.y.row(row) {
            let share = self.shares[edge.row * width + edge.col];
            out[edge.col] = edge.limit(self.tentative.y[row * width + edge.col], share);
        }
    }

    /// Faces of a row of y faces that were computed; none on the borders of the grid.
    fn y_span(&self, row: usize) -> Span {
        self.faces.get(row).map_or(Span::EMPTY, |faces| faces.y)
    }

    #[inline(always)]
    fn fill(
        &self,
        row: usize,
        depth: &mut [f64],
        infiltrated: &mut [f64],
        [x, north, south]: [&[f64]; 3],
        state: &mut RowState,
    ) {
        let width = self.ground.width;
        let scalars = self.scalars;
        let faces = &self.faces[row];
        // Face k and k + 1 belong to cell k; y faces to the cell of their own column.
        let mut span = faces.y.hull(self.sources.rain_spans[row]);
        if !faces.x.is_empty() {
            span = span.hull(Span {
                start: faces.x.start - 1,
                end: faces.x.end,
            });
        }
        span = span.hull(self.y_span(row + 1));
        let edges = &self.ground.edges;
        for (edges, q) in [
            (edges.x.row(row), x),
            (edges.y.row(row), north),
            (edges.y.row(row + 1), south),
        ] {
            for edge in edges
                .iter()
                .filter(|edge| edge.row == row && q[edge.index()] != 0.0)
            {
                span = span.hull(Span {
                    start: edge.col,
                    end: edge.col + 1,
                });
            }
        }
        let infiltration = self.ground.uptake.is_active();
        if infiltration {
            span = span.hull(state.wet);
        }
        state.infiltration_m = 0.0;
        if span.is_empty() {
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
        for [_, col] in edges.outside(row) {
            depth[*col] = 0.0;
        }
        let mut active_depth = scalars.dry_depth_m;
        if infiltration {
            // Also water too shallow to flow sinks in.
            active_depth = 0.0;
            state.infiltration_m = self.ground.uptake.take(
                &mut depth[cells.clone()],
                &mut infiltrated[cells.clone()],
                row * width + cells.start,
                scalars.timestep_s,
            );
        }
        state.wet = Span::above(depth, active_depth);
        state.max_depth_m = kernel::largest(&depth[..width]);
    }
}
