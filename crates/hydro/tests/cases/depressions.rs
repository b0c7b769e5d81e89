//! Test 2 of the UK Environment Agency's benchmarks of 2-D packages (Néelz & Pender 2013, report SC120002): filling of
//! floodplain depressions.
//!
//! The report's raster is not in this repository. Its text gives a square of 2000 m with 4 x 4 depressions, about 0.5 m deep, of
//! one shape, made "by multiplying sinusoids", a mean slope of 1:1500 to the south and 1:3000 to the east, the inflow along 100 m
//! south of the north-western corner, n = 0.03, cells of 20 m, walls all around, 48 h. The bed here is the simplest that has
//! all of this: the plane less 0.5 m sin²(π x / 500 m) sin²(π y / 500 m). The inflow rises to 20 m³/s in 5 minutes, stays for 76
//! and falls in 5: 97 200 m³.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::f64::consts::PI;

use ndarray::Array2;
use pluvial_hydro::{
    Beyond, Boundary, Domain, Edge, Hydrograph, Infiltration, Parameter, Place, Side, Solver,
    SolverConfig,
};

pub const CELL_SIZE_M: f64 = 20.0;
const CELLS: usize = 100;
pub const INFLOW_M3: f64 = 97_200.0;

pub struct Filling {
    pub mass_error: f64,
    /// Depth at the middle of each depression after 48 h, `[row, column]` from the north-west.
    pub depth_m: [[f64; 4]; 4],
    /// The depth at which the depression would spill.
    pub spill_m: [[f64; 4]; 4],
    /// How far the level of a pond stands above that at which it spills, at most: what is still on its way.
    pub above_spill_m: f64,
    /// Difference of a level from that in the middle of its pond, at most.
    pub unevenness_m: f64,
    pub stored_m3: f64,
    /// Depths after 48 h.
    pub depth: Array2<f64>,
    /// Time in h, and the levels above the lowest bed in the four depressions of the western column, from the north.
    pub levels: Vec<[f64; 5]>,
}

fn bed() -> Array2<f64> {
    Array2::from_shape_fn((CELLS, CELLS), |(row, col)| {
        let [y, x] = [row, col].map(|k| (k as f64 + 0.5) * CELL_SIZE_M);
        let wave = |s: f64| (PI * s / 500.0).sin().powi(2);
        (2000.0 - y) / 1500.0 + (2000.0 - x) / 3000.0 - 0.5 * wave(x) * wave(y)
    })
}

/// The level above which water on each cell would run off to the lowest cell of the domain: the lowest pass on any way there
/// (priority flood: Barnes, Lehman & Mulla 2014, Comput. Geosci. 62).
fn spill_levels(bed_m: &Array2<f64>) -> Array2<f64> {
    let (height, width) = bed_m.dim();
    // Heights that are not negative have the order of their bits.
    let lowest = bed_m.iter().copied().fold(f64::INFINITY, f64::min);
    let key = |level: f64| (level - lowest).to_bits();
    let mut levels = Array2::from_elem(bed_m.dim(), f64::INFINITY);
    let mut open = BinaryHeap::new();
    for (cell, z) in bed_m.indexed_iter().filter(|(_, z)| **z == lowest) {
        levels[cell] = *z;
        open.push((Reverse(key(*z)), cell));
    }
    while let Some((_, (row, col))) = open.pop() {
        let neighbours = [
            (row.wrapping_sub(1), col),
            (row + 1, col),
            (row, col.wrapping_sub(1)),
            (row, col + 1),
        ];
        for cell in neighbours {
            if cell.0 < height && cell.1 < width && levels[cell].is_infinite() {
                levels[cell] = bed_m[cell].max(levels[(row, col)]);
                open.push((Reverse(key(levels[cell])), cell));
            }
        }
    }
    levels
}

pub fn run() -> Filling {
    let bed_m = bed();
    let spill_m = spill_levels(&bed_m);
    let minute = 60.0;
    let inflow = Boundary::Inflow {
        place: Place::PartOfSide {
            side: Side::West,
            cells: 0..5,
        },
        discharge_m3_per_s: Hydrograph {
            points: vec![
                (0.0, 0.0),
                (5.0 * minute, 20.0),
                (81.0 * minute, 20.0),
                (86.0 * minute, 0.0),
            ],
            beyond: Beyond::Stop,
        },
    };
    let domain = Domain {
        bed_m: bed_m.clone(),
        cell_size_m: CELL_SIZE_M,
        manning: Parameter::Uniform(0.03),
        edge: Edge::Closed,
        boundaries: vec![inflow],
        infiltration: Infiltration::None,
    };
    let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
    let middle = |k: usize| 12 + 25 * k;
    let mut levels = vec![];
    for quarter in 0..=4 * 48 {
        let level = |k: usize| {
            let cell = (middle(k), middle(0));
            bed_m[cell] + solver.depth_m()[cell]
        };
        levels.push([
            f64::from(quarter) / 4.0,
            level(0),
            level(1),
            level(2),
            level(3),
        ]);
        if quarter < 4 * 48 {
            solver.advance(900.0).unwrap();
        }
    }
    let depth = solver.depth_m().clone();
    let level = &depth + &bed_m;
    let mut above_spill_m: f64 = 0.0;
    let mut unevenness_m: f64 = 0.0;
    for i in 0..16 {
        let (row, col) = (i / 4 * 25, i % 4 * 25);
        let deepest = level[(row + 12, col + 12)];
        for cell in (0..625)
            .map(|k| (row + k / 25, col + k % 25))
            .filter(|cell| depth[*cell] >= 0.01)
        {
            // Water below the pond's own level is in it.
            if bed_m[cell] < deepest && spill_m[cell] == spill_m[(row + 12, col + 12)] {
                unevenness_m = unevenness_m.max((level[cell] - deepest).abs());
                above_spill_m = above_spill_m.max(level[cell] - spill_m[cell]);
            }
        }
    }
    let at_middles = |map: &Array2<f64>| {
        let mut values = [[0.0; 4]; 4];
        for (row, values) in values.iter_mut().enumerate() {
            for (col, value) in values.iter_mut().enumerate() {
                *value = map[(middle(row), middle(col))];
            }
        }
        values
    };
    let balance = solver.mass_balance();
    Filling {
        mass_error: balance.relative_error(),
        depth_m: at_middles(&depth),
        spill_m: at_middles(&(&spill_m - &bed_m)),
        above_spill_m,
        unevenness_m,
        stored_m3: balance.stored_m3,
        depth,
        levels,
    }
}
