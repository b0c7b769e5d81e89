//! One time step: two passes over blocks of rows, the same in one thread and in many.
//!
//! The momentum pass reads the state (depth, discharge) and writes tentative discharges and the share that each cell can give
//! of its outflow. The continuity pass reads those and writes the state. A block writes only its own rows and recomputes the
//! face row that it shares with its neighbour, so the blocks of a pass are independent and the result does not depend on
//! their number.

use rayon::prelude::*;

use crate::continuity::{ContinuityBlock, ContinuityPass, Sources};
use crate::grid::{Discharge, Ground, RowFaces, RowState};
use crate::kernel::StepScalars;
use crate::momentum::{MomentumBlock, MomentumPass};
use crate::simd::run_widest;

/// Buffers of a step; all are allocated once.
pub(crate) struct Work {
    /// Discharges not yet limited to the water there is; 0 outside the spans of `faces`.
    pub(crate) tentative: Discharge,
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
    pub(crate) infiltrated_m: &'a mut [f64],
    pub(crate) discharge: &'a mut Discharge,
    pub(crate) rows: &'a mut [RowState],
}

/// Moves the state forward by `scalars.timestep_s`.
pub(crate) fn step(
    ground: &Ground,
    sources: Sources,
    levels: &[Option<f64>],
    scalars: &StepScalars,
    state: &mut State,
    work: &mut Work,
) {
    let (height, width) = (ground.height, ground.width);
    let rows_per_block = work.rows_per_block;
    let parallel = rows_per_block < height;
    let cells = rows_per_block * width;
    let faces = rows_per_block * (width + 1);
    let inner = height * width;

    let pass = &MomentumPass {
        ground,
        scalars,
        depth_m: state.depth_m,
        discharge: state.discharge,
        rows: state.rows,
        levels,
    };
    let (x, y) = (&mut work.tentative.x, &mut work.tentative.y[..inner]);
    if parallel {
        x.par_chunks_mut(faces)
            .zip(y.par_chunks_mut(cells))
            .zip(work.shares.par_chunks_mut(cells))
            .zip(work.faces.par_chunks_mut(rows_per_block))
            .zip(work.south.par_chunks_mut(width))
            .enumerate()
            .for_each(|(i, ((((x, y), shares), faces), south))| {
                run_widest(MomentumBlock {
                    pass,
                    first: i * rows_per_block,
                    x,
                    y,
                    shares,
                    faces,
                    south,
                });
            });
    } else {
        let (shares, faces, south) = (&mut work.shares, &mut work.faces, &mut work.south);
        run_widest(MomentumBlock {
            pass,
            first: 0,
            x,
            y,
            shares,
            faces,
            south,
        });
    }

    let last = work.south.len() - width;
    work.tentative.y[inner..].copy_from_slice(&work.south[last..]);
    let pass = &ContinuityPass {
        ground,
        scalars,
        sources,
        tentative: &work.tentative,
        shares: &work.shares,
        faces: &work.faces,
    };
    let (x, y) = (&mut state.discharge.x, &mut state.discharge.y[..inner]);
    if parallel {
        x.par_chunks_mut(faces)
            .zip(y.par_chunks_mut(cells))
            .zip(state.depth_m.par_chunks_mut(cells))
            .zip(state.infiltrated_m.par_chunks_mut(cells))
            .zip(state.rows.par_chunks_mut(rows_per_block))
            .zip(work.south.par_chunks_mut(width))
            .enumerate()
            .for_each(|(i, (((((x, y), depth), infiltrated), rows), south))| {
                run_widest(ContinuityBlock {
                    pass,
                    first: i * rows_per_block,
                    depth,
                    infiltrated,
                    x,
                    y,
                    rows,
                    south,
                });
            });
    } else {
        let State {
            depth_m: depth,
            infiltrated_m: infiltrated,
            rows,
            ..
        } = state;
        run_widest(ContinuityBlock {
            pass,
            first: 0,
            depth,
            infiltrated,
            x,
            y,
            rows,
            south: &mut work.south,
        });
    }
    state.discharge.y[inner..].copy_from_slice(&work.south[last..]);
}
