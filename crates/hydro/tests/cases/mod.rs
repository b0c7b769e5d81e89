//! Flows with a known answer. Each is computed here, asserted in `tests/validation.rs` and shown in `docs/validation.md` by
//! `examples/validation`.

pub mod conservation;
pub mod dam_break;
pub mod depressions;
pub mod front;
pub mod macdonald;
pub mod plane;
pub mod thacker;

use ndarray::Array2;
use pluvial_hydro::{Boundary, Domain, Edge, Infiltration, Parameter, Solver, SolverConfig};

pub const GRAVITY: f64 = 9.80665;

/// A channel of one row of cells between walls, with the depths of its cells at time 0.
pub fn channel(
    bed_m: Vec<f64>,
    depth_m: Vec<f64>,
    cell_size_m: f64,
    manning: f64,
    boundaries: Vec<Boundary>,
) -> Solver {
    let row = |values: Vec<f64>| Array2::from_shape_vec((1, values.len()), values).unwrap();
    let domain = Domain {
        bed_m: row(bed_m),
        cell_size_m,
        manning: Parameter::Uniform(manning),
        edge: Edge::Closed,
        boundaries,
        infiltration: Infiltration::None,
    };
    let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
    solver.set_depth_m(row(depth_m).view()).unwrap();
    solver
}

/// The root of a function that changes sign once between `a` and `b`.
pub fn root(mut a: f64, mut b: f64, f: impl Fn(f64) -> f64) -> f64 {
    let rising = f(b) > 0.0;
    for _ in 0..200 {
        let middle = 0.5 * (a + b);
        if (f(middle) > 0.0) == rising {
            b = middle;
        } else {
            a = middle;
        }
    }
    0.5 * (a + b)
}
