//! One time step: blocks of rows swept in parallel, each in place.

use crate::chunks::{self, CHUNK, ChunkMap};
use crate::grid::Ground;
use crate::kernel::StepScalars;
use crate::rain::Rain;
use crate::simd::run_widest;
use crate::sweep::{Block, HaloRows, Scratch, StateRows, Sweep};

/// A block has at least this many rows, so that it covers the halos of its neighbours.
const MIN_ROWS: usize = 4;

/// Cells in active chunks below which a block is too short to be worth a thread.
pub(crate) const MIN_BLOCK_CELLS: usize = 2048;

/// Old rows on both sides of a border between blocks, before row b: b - 2 to b + 1, and to b + 2 of y faces.
struct Halo {
    depth_m: Vec<f64>,
    x: Vec<f64>,
    y: Vec<f64>,
}

/// Buffers of a step; all are allocated once.
pub(crate) struct Work {
    pub(crate) active: ChunkMap,
    scratch: Vec<Scratch>,
    halos: Vec<Halo>,
    /// First rows of the blocks of this step, and the number of rows.
    bounds: Vec<usize>,
    min_block_cells: usize,
}

impl Work {
    pub(crate) fn new(
        height: usize,
        width: usize,
        max_blocks: usize,
        min_block_cells: usize,
    ) -> Self {
        let blocks = max_blocks.min(height / MIN_ROWS).max(1);
        let halo = |_| Halo {
            depth_m: vec![0.0; 4 * width],
            x: vec![0.0; 4 * (width + 1)],
            y: vec![0.0; 5 * width],
        };
        Self {
            active: ChunkMap::new(height, width),
            scratch: (0..blocks).map(|_| Scratch::new(width)).collect(),
            halos: (1..blocks).map(halo).collect(),
            bounds: Vec::with_capacity(blocks + 1),
            min_block_cells,
        }
    }

    /// Whether a step can be shared between threads.
    pub(crate) fn is_parallel(&self) -> bool {
        self.scratch.len() > 1
    }

    /// Cuts the rows into blocks of about the same work.
    fn plan(&mut self, height: usize, rain: &ChunkMap) {
        // Momentum costs several times as much as rain alone.
        let work = |row| 8 * chunks::count(self.active.row(row)) + chunks::count(rain.row(row)) + 1;
        self.bounds.clear();
        self.bounds.push(0);
        if self.is_parallel() {
            let total: u64 = (0..height).map(|row| u64::from(work(row))).sum();
            let cells = total as usize / 8 * CHUNK;
            let blocks = (cells / self.min_block_cells.max(1)).clamp(1, self.scratch.len());
            let mut done = 0;
            for row in 0..height {
                let (last, next) = (self.bounds[self.bounds.len() - 1], self.bounds.len() as u64);
                if next < blocks as u64
                    && done * blocks as u64 >= next * total
                    && row >= last + MIN_ROWS
                    && row + MIN_ROWS <= height
                {
                    self.bounds.push(row);
                }
                done += u64::from(work(row));
            }
        }
        self.bounds.push(height);
    }
}

impl Halo {
    /// Takes the rows from `first` on.
    fn copy(&mut self, first: usize, state: &StateRows, width: usize) {
        let faces = width + 1;
        self.depth_m
            .copy_from_slice(&state.depth_m[first * width..][..4 * width]);
        self.x
            .copy_from_slice(&state.x[first * faces..][..4 * faces]);
        self.y
            .copy_from_slice(&state.y[first * width..][..5 * width]);
    }

    /// What the block south of the border sees above it.
    fn above(&self, width: usize) -> HaloRows<'_> {
        HaloRows {
            depth_m: &self.depth_m[..2 * width],
            x: &self.x[..2 * (width + 1)],
            y: &self.y[..2 * width],
        }
    }

    /// What the block north of the border sees below it.
    fn below(&self, width: usize) -> HaloRows<'_> {
        HaloRows {
            depth_m: &self.depth_m[2 * width..],
            x: &self.x[2 * (width + 1)..],
            y: &self.y[2 * width..],
        }
    }
}

/// What a step reads besides the state and the chunks to compute.
pub(crate) struct Inputs<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) scalars: &'a StepScalars,
    pub(crate) rain: &'a Rain,
    pub(crate) given: &'a [Option<f64>],
    pub(crate) active_depth_m: f64,
    pub(crate) end_s: f64,
}

/// Moves the state, of all rows, forward by a step. `work.active` holds the chunks to compute.
pub(crate) fn step(inputs: Inputs, state: StateRows, work: &mut Work) {
    let ground = inputs.ground;
    work.plan(ground.height, &inputs.rain.chunks);
    let sweep = Sweep {
        ground,
        scalars: inputs.scalars,
        rain: inputs.rain,
        given: inputs.given,
        active: &work.active,
        active_depth_m: inputs.active_depth_m,
        end_s: inputs.end_s,
    };
    work.halos
        .iter_mut()
        .zip(&work.bounds[1..])
        .for_each(|(halo, bound)| {
            if *bound < ground.height {
                halo.copy(bound - 2, &state, ground.width);
            }
        });
    let sides = [HaloRows::NONE; 2];
    run(
        &sweep,
        state,
        &work.bounds,
        &work.halos,
        sides,
        &mut work.scratch,
    );
}

/// Sweeps the blocks between `bounds`; `halos` are those between them, `sides` those above and below them all.
fn run(
    sweep: &Sweep,
    state: StateRows,
    bounds: &[usize],
    halos: &[Halo],
    [above, below]: [HaloRows; 2],
    scratch: &mut [Scratch],
) {
    let blocks = bounds.len() - 1;
    let (first, last) = (bounds[0], bounds[blocks]);
    if blocks == 1 {
        run_widest(Block {
            sweep,
            first,
            last,
            state,
            above,
            below,
            scratch: &mut scratch[0],
        });
        return;
    }
    let half = blocks / 2;
    let (width, words) = (sweep.ground.width, sweep.active.words_per_row());
    let (north, south) = state.split(bounds[half] - first, width, words);
    let (north_scratch, south_scratch) = scratch.split_at_mut(half);
    let halo = &halos[half - 1];
    rayon::join(
        || {
            let sides = [above, halo.below(width)];
            run(sweep, north, &bounds[..=half], halos, sides, north_scratch);
        },
        || {
            let sides = [halo.above(width), below];
            run(
                sweep,
                south,
                &bounds[half..],
                &halos[half..],
                sides,
                south_scratch,
            );
        },
    );
}
