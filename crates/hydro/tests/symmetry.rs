//! A mirrored or turned problem has the mirrored or turned solution, to the bit.

use ndarray::{Array2, Axis};
use pluvial_hydro::{
    Beyond, Boundary, Domain, Edge, Hydrograph, Infiltration, Parameter, Place, RainResampling,
    Side, Solver, SolverConfig,
};

/// A pond with an inflow, a level on one side and another edge on the next, over soil: `sides` are those of the level and of
/// the other edge, `cell` that of the inflow.
fn run(
    bed_m: Array2<f64>,
    manning: Array2<f64>,
    rain: Array2<f32>,
    [level, other]: [Side; 2],
    cell: [usize; 2],
) -> Array2<f64> {
    let storage = manning.mapv(|n| 5.0 * n);
    let domain = Domain {
        bed_m,
        cell_size_m: 30.0,
        manning: Parameter::PerCell(manning),
        edge: Edge::FreeOutflow { slope: 0.005 },
        boundaries: vec![
            Boundary::Level {
                place: Place::Side(level),
                level_m: Hydrograph {
                    points: vec![(0.0, 0.0), (3000.0, 4.0), (5400.0, 0.0)],
                    beyond: Beyond::Hold,
                },
            },
            Boundary::Edge {
                place: Place::Side(other),
                edge: Edge::Closed,
            },
            Boundary::Inflow {
                place: Place::Cells(vec![cell]),
                discharge_m3_per_s: Hydrograph::constant(5.0),
            },
        ],
        infiltration: Infiltration::GreenAmpt {
            conductivity_mm_per_h: Parameter::Uniform(3.0),
            suction_head_mm: Parameter::Uniform(100.0),
            moisture_deficit: Parameter::PerCell(storage),
        },
    };
    let config = SolverConfig {
        rain: RainResampling::Conservative,
        sheet_depth_m: 0.003,
        ..SolverConfig::default()
    };
    let mut solver = Solver::new(domain, config).unwrap();
    solver.set_rain_mm_per_h(rain.view()).unwrap();
    solver.advance(5400.0).unwrap();
    let inflow = solver.boundary_inflow_m3_per_s();
    assert!(
        inflow[0] != 0.0 && inflow[1] == 0.0 && (inflow[2] - 5.0).abs() < 1e-12,
        "{inflow:?}"
    );
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
    let rain = Array2::from_shape_fn((5, 7), |(row, col)| 20.0 * ((row * 7 + col * 4) % 5) as f32);
    let (west, north, south, east) = (Side::West, Side::North, Side::South, Side::East);
    let depth = run(
        bed.clone(),
        manning.clone(),
        rain.clone(),
        [west, north],
        [7, 11],
    );
    assert!(depth.iter().any(|h| *h > 0.2));
    assert_eq!(
        run(
            mirror(&bed),
            mirror(&manning),
            mirror(&rain),
            [east, north],
            [7, 18]
        ),
        mirror(&depth)
    );
    // The west becomes the south, the north the west.
    assert_eq!(
        run(
            turn(&bed),
            turn(&manning),
            turn(&rain),
            [south, west],
            [18, 7]
        ),
        turn(&depth)
    );
    let upside_down = |a: &Array2<f64>| turn(&turn(a));
    assert_eq!(
        run(
            upside_down(&bed),
            upside_down(&manning),
            turn(&turn(&rain)),
            [east, south],
            [10, 18]
        ),
        upside_down(&depth)
    );
}
