//! Still water, turned terrain, and the water balance of a day.

use ndarray::{Array2, Axis, array};
use pluvial_hydro::{Domain, Edge, Infiltration, Parameter, Solver, SolverConfig};

/// Waves that do not fit the grid, between -1 and 1.
fn rough(height: usize, width: usize) -> Array2<f64> {
    Array2::from_shape_fn((height, width), |(row, col)| {
        let (y, x) = (row as f64, col as f64);
        0.6 * (0.31 * x).sin() * (0.23 * y).cos()
            + 0.3 * (1.7 * x + 2.9 * y).sin()
            + 0.1 * (5.1 * x * y).cos()
    })
}

fn solver(bed_m: Array2<f64>, cell_size_m: f64, edge: Edge) -> Solver {
    let domain = Domain {
        bed_m,
        cell_size_m,
        manning: Parameter::Uniform(0.03),
        edge,
        boundaries: vec![],
        infiltration: Infiltration::None,
    };
    Solver::new(domain, SolverConfig::default()).unwrap()
}

/// What moved in a lake at rest.
pub struct Lake {
    pub deepest_m: f64,
    /// Largest change of a depth.
    pub change_m: f64,
    /// Largest discharge.
    pub discharge_m2_per_s: f64,
}

/// An hour of a lake with islands, 1000 m above the sea.
pub fn lake_at_rest() -> Lake {
    let bed_m = 8.0 * rough(23, 41) + 1000.0;
    let depth_m = bed_m.mapv(|z| f64::max(1001.0 - z, 0.0));
    let mut solver = solver(bed_m, 20.0, Edge::Closed);
    solver.set_depth_m(depth_m.view()).unwrap();
    solver.advance(3600.0).unwrap();
    let largest =
        |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |m, v| f64::max(m, v.abs()));
    let (east, south) = (
        solver.discharge_east_m2_per_s(),
        solver.discharge_south_m2_per_s(),
    );
    Lake {
        deepest_m: largest(&mut depth_m.iter().copied()),
        change_m: largest(&mut (solver.depth_m() - &depth_m).into_iter()),
        discharge_m2_per_s: largest(&mut east.iter().chain(south).copied()),
    }
}

/// Largest difference of a depth, in m, between a flood on rough terrain and the same on the terrain in each of its seven
/// other orientations, turned back.
pub fn asymmetry_m() -> f64 {
    let bed_m = 4.0 * rough(18, 30)
        + Array2::from_shape_fn((18, 30), |(row, col)| 0.2 * col as f64 - 0.1 * row as f64);
    let flood = |bed_m: Array2<f64>| {
        let mut solver = solver(bed_m, 30.0, Edge::FreeOutflow { slope: 0.005 });
        solver.set_rain_mm_per_h(array![[30.0_f32]].view()).unwrap();
        solver.advance(3.0 * 3600.0).unwrap();
        solver.depth_m().clone()
    };
    let orient = |map: &Array2<f64>, [mirror, upside_down, swap]: [bool; 3]| {
        let mut view = map.view();
        if mirror {
            view.invert_axis(Axis(1));
        }
        if upside_down {
            view.invert_axis(Axis(0));
        }
        if swap {
            view.swap_axes(0, 1);
        }
        view.as_standard_layout().into_owned()
    };
    let depth_m = flood(bed_m.clone());
    assert!(depth_m.iter().any(|h| *h > 0.5));
    let mut largest: f64 = 0.0;
    for orientation in 1..8 {
        let how = [1, 2, 4].map(|bit| orientation & bit != 0);
        let difference = flood(orient(&bed_m, how)) - orient(&depth_m, how);
        largest = difference.iter().fold(largest, |m, d| m.max(d.abs()));
    }
    largest
}

/// The water of a day.
pub struct Day {
    /// Mean slope in m/m.
    pub slope: f64,
    pub mass_error: f64,
    /// Shares of the rain: what left over the edge, and what still stands in pits.
    pub outflow: f64,
    pub stored: f64,
    /// Cells under 1 mm or more at the wettest, and after 24 h.
    pub wet_cells: [usize; 2],
}

pub const SLOPES: [f64; 5] = [0.0, 0.01, 0.1, 0.5, 1.0];

/// Three hours of heavy rain and 21 dry ones on a rough plane that slopes to a corner, with free outflow.
pub fn day_on_slope(slope: f64) -> Day {
    let cell_size_m = 20.0;
    let along = slope * cell_size_m * f64::sqrt(0.5);
    let plane = Array2::from_shape_fn((31, 47), |(row, col)| 900.0 + along * (row + col) as f64);
    let mut solver = solver(
        plane + 0.3 * rough(31, 47),
        cell_size_m,
        Edge::FreeOutflow {
            slope: slope.max(0.001),
        },
    );
    let wet = |solver: &Solver| solver.depth_m().iter().filter(|h| **h >= 1e-3).count();
    let mut wettest = 0;
    for hour in 0..24 {
        let rain = if hour < 3 {
            array![[60.0_f32, 20.0, 90.0], [0.0, 45.0, 60.0]]
        } else {
            Array2::zeros((1, 1))
        };
        solver.set_rain_mm_per_h(rain.view()).unwrap();
        solver.advance(3600.0).unwrap();
        wettest = wettest.max(wet(&solver));
    }
    let balance = solver.mass_balance();
    Day {
        slope,
        mass_error: balance.relative_error(),
        outflow: balance.outflow_m3 / balance.rain_m3,
        stored: balance.stored_m3 / balance.rain_m3,
        wet_cells: [wettest, wet(&solver)],
    }
}
