//! A mirrored or turned problem has the mirrored or turned solution, to the bit.

use ndarray::{Array2, Axis};
use pluvial_hydro::{Domain, Edge, Infiltration, Parameter, Solver, SolverConfig};

fn run(bed_m: Array2<f64>, manning: Array2<f64>, rain: Array2<f32>) -> Array2<f64> {
    let domain = Domain {
        bed_m,
        cell_size_m: 30.0,
        manning: Parameter::PerCell(manning),
        edge: Edge::FreeOutflow { slope: 0.005 },
        boundaries: vec![],
        infiltration: Infiltration::None,
    };
    let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
    solver.set_rain_mm_per_h(rain.view()).unwrap();
    solver.advance(5400.0).unwrap();
    solver.depth_m().clone()
}

fn mirror<T: Clone>(a: &Array2<T>) -> Array2<T> {
    let mut view = a.view();
    view.invert_axis(Axis(1));
    view.to_owned()
}

/// A quarter turn: the north becomes the west.
fn turn<T: Clone>(a: &Array2<T>) -> Array2<T> {
    let mut view = a.t();
    view.invert_axis(Axis(0));
    view.as_standard_layout().into_owned()
}

#[test]
fn mirrors_and_turns() {
    let bed = Array2::from_shape_fn((18, 30), |(row, col)| {
        let (y, x) = (row as f64, col as f64);
        if row < 3 && col > 25 {
            f64::NAN
        } else {
            6.0 * (0.5 * x).sin() * (0.4 * y).cos() + 0.2 * x - 0.1 * y
        }
    });
    let manning = Array2::from_shape_fn((18, 30), |(row, col)| {
        0.02 + 0.002 * ((row * 5 + col * 3) % 17) as f64
    });
    let rain = Array2::from_shape_fn((6, 10), |(row, col)| {
        20.0 * ((row * 7 + col * 4) % 5) as f32
    });
    let depth = run(bed.clone(), manning.clone(), rain.clone());
    assert!(depth.iter().any(|h| *h > 0.2));
    assert_eq!(
        run(mirror(&bed), mirror(&manning), mirror(&rain)),
        mirror(&depth)
    );
    assert_eq!(run(turn(&bed), turn(&manning), turn(&rain)), turn(&depth));
    let upside_down = |a: &Array2<f64>| turn(&turn(a));
    assert_eq!(
        run(upside_down(&bed), upside_down(&manning), turn(&turn(&rain))),
        upside_down(&depth)
    );
}
