//! Pass 1: the momentum equation. Depths and discharges to tentative discharges, and to the share that each cell can give.

use crate::grid::{Discharge, Ground, RowFaces, RowState};
use crate::kernel::{self, Faces, StepScalars};
use crate::simd::Vectorised;
use crate::span::Span;

/// What all blocks read.
pub(crate) struct MomentumPass<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) scalars: &'a StepScalars,
    pub(crate) depth_m: &'a [f64],
    pub(crate) discharge: &'a Discharge,
    pub(crate) rows: &'a [RowState],
    /// Level of each boundary that has one now.
    pub(crate) levels: &'a [Option<f64>],
}

/// A block of rows, from `first` on, as many as the buffers hold.
pub(crate) struct MomentumBlock<'a> {
    pub(crate) pass: &'a MomentumPass<'a>,
    pub(crate) first: usize,
    /// Tentative discharges of the rows' own faces: all in the rows and those north of them.
    pub(crate) x: &'a mut [f64],
    pub(crate) y: &'a mut [f64],
    pub(crate) shares: &'a mut [f64],
    pub(crate) faces: &'a mut [RowFaces],
    /// Scratch for the faces south of the last row, which belong to the next block.
    pub(crate) south: &'a mut [f64],
}

impl Vectorised for MomentumBlock<'_> {
    #[inline(always)]
    fn run(self) {
        let Self {
            pass,
            first,
            x,
            y,
            shares,
            faces,
            south,
        } = self;
        let (height, width) = (pass.ground.height, pass.ground.width);
        let last = first + faces.len();
        // The shares follow the faces by one row, while those are still in the cache.
        for row in first..=last {
            let local = row - first;
            if row < last {
                let faces = &mut faces[local];
                let (wet_x, wet_y) = (pass.wet(row).faces(width), pass.wet_y(row));
                let (x_span, y_span) = (wet_x.hull(faces.wet_x), wet_y.hull(faces.wet_y));
                *faces = RowFaces {
                    x: x_span,
                    y: y_span,
                    wet_x,
                    wet_y,
                };
                let x = &mut x[local * (width + 1)..][..width + 1];
                pass.faces_x(row, x_span, x);
                pass.edges_x(row, x);
                let y = &mut y[local * width..][..width];
                pass.faces_y(row, y_span, y);
                pass.edges_y(row, y);
            } else {
                south.fill(0.0);
                if row < height {
                    pass.faces_y(row, pass.wet_y(row), south);
                }
                pass.edges_y(row, south);
            }
            if row > first {
                let above = local - 1;
                let x = &x[above * (width + 1)..][..width + 1];
                let north = &y[above * width..][..width];
                let south = if row < last {
                    &y[local * width..][..width]
                } else {
                    &*south
                };
                pass.shares(
                    row - 1,
                    x,
                    north,
                    south,
                    &mut shares[above * width..][..width],
                );
            }
        }
    }
}

impl MomentumPass<'_> {
    fn wet(&self, row: usize) -> Span {
        self.rows[row].wet
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

    /// What the cells of a row can give of the outflow over the faces around them and over the edge.
    #[inline(always)]
    fn shares(&self, row: usize, x: &[f64], north: &[f64], south: &[f64], out: &mut [f64]) {
        let depth = &self.depth_m[self.ground.cells(row)];
        let cells = self.reached(row).range();
        let around = [
            &x[cells.clone()],
            &x[1..][cells.clone()],
            &north[cells.clone()],
            &south[cells.clone()],
        ];
        kernel::shares(&mut out[cells.clone()], &depth[cells], around, self.scalars);
    }

    /// Faces of a row of cells on the edge of the domain.
    #[inline(always)]
    fn edges_x(&self, row: usize, out: &mut [f64]) {
        let width = self.ground.width;
        let (x, y) = (&self.discharge.x[row * (width + 1)..], &self.discharge.y);
        for edge in self.ground.edges.x.row(row) {
            let face = edge.index();
            let cell = row * width + edge.col;
            out[face] = edge.discharge(
                [x[face], x[2 * edge.col + 1 - face]],
                [y[cell], y[cell + width]],
                self.depth_m[cell],
                self.ground.bed_m[cell],
                self.levels,
                self.scalars,
            );
        }
    }

    /// Faces of a row of faces on the edge of the domain.
    #[inline(always)]
    fn edges_y(&self, row: usize, out: &mut [f64]) {
        let width = self.ground.width;
        let (x, y) = (&self.discharge.x, &self.discharge.y);
        for edge in self.ground.edges.y.row(row) {
            let col = edge.col;
            let cell = edge.row * width + col;
            let west = cell + edge.row;
            let inner = 2 * edge.row + 1 - row;
            out[col] = edge.discharge(
                [y[row * width + col], y[inner * width + col]],
                [x[west], x[west + 1]],
                self.depth_m[cell],
                self.ground.bed_m[cell],
                self.levels,
                self.scalars,
            );
        }
    }

    /// Faces between the cells of one row.
    #[inline(always)]
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
    #[inline(always)]
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
