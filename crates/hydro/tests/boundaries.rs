//! Inflows, levels and edges do what they say.

use ndarray::{Array2, array};
use pluvial_hydro::{
    Beyond, Boundary, Domain, Edge, Hydrograph, Infiltration, Parameter, Place, Side, Solver,
    SolverConfig,
};

fn domain(bed_m: Array2<f64>, boundaries: Vec<Boundary>) -> Domain {
    Domain {
        bed_m,
        cell_size_m: 10.0,
        manning: Parameter::Uniform(0.03),
        edge: Edge::Closed,
        boundaries,
        infiltration: Infiltration::None,
    }
}

fn solver(bed_m: Array2<f64>, boundaries: Vec<Boundary>) -> Solver {
    Solver::new(domain(bed_m, boundaries), SolverConfig::default()).unwrap()
}

fn inflow(place: Place, points: &[(f64, f64)], beyond: Beyond) -> Boundary {
    Boundary::Inflow {
        place,
        discharge_m3_per_s: Hydrograph {
            points: points.to_vec(),
            beyond,
        },
    }
}

/// Uniform flow between an inflow and a free edge, by Manning's formula, also in the cells at both ends.
#[test]
fn a_channel_runs_at_its_normal_depth() {
    let (n, slope, width, discharge) = (0.03_f64, 0.002_f64, 3, 24.0);
    for sides in [[Side::West, Side::East], [Side::South, Side::North]] {
        let along = |k: usize| 50.0 - slope * 10.0 * k as f64;
        let bed_m = if sides[0] == Side::West {
            Array2::from_shape_fn((width, 60), |(_, col)| along(col))
        } else {
            Array2::from_shape_fn((60, width), |(row, _)| along(59 - row))
        };
        let boundaries = vec![
            inflow(Place::Side(sides[0]), &[(0.0, discharge)], Beyond::Hold),
            Boundary::Edge {
                place: Place::Side(sides[1]),
                edge: Edge::FreeOutflow { slope },
            },
        ];
        let mut solver = solver(bed_m, boundaries);
        solver.advance(4.0 * 3600.0).unwrap();
        let unit = discharge / (10.0 * width as f64);
        let normal_m = (n * unit / slope.sqrt()).powf(0.6);
        for (cell, h) in solver.depth_m().indexed_iter() {
            assert!(
                (h / normal_m - 1.0).abs() < 0.01,
                "{sides:?} {cell:?}: {h} {normal_m}"
            );
        }
        assert!((solver.edge_outflow_m3_per_s() - discharge).abs() < 1e-6);
        let flows = solver.boundary_inflow_m3_per_s();
        assert!((flows[0] - discharge).abs() < 1e-9 && (flows[1] + discharge).abs() < 1e-6);
        let [east, south] = solver.velocity_m_per_s(0.01);
        let speed = if sides[0] == Side::West {
            east[(1, 30)]
        } else {
            -south[(30, 1)]
        };
        assert!((speed - unit / normal_m).abs() < 0.01 * speed, "{speed}");
    }
}

#[test]
fn an_inflow_brings_the_volume_of_its_hydrograph() {
    // 600 m³ up to the end; nothing or 2 m³/s after it.
    let points = [(100.0, 0.0), (200.0, 4.0), (400.0, 2.0), (400.0, 0.0)];
    for (beyond, last, volume_m3) in [(Beyond::Stop, 2.0, 800.0), (Beyond::Hold, 1.0, 1400.0)] {
        let points = [points[0], points[1], points[2], (400.0, last)];
        let place = Place::line([1, 1], [3, 5]);
        let mut solver = solver(Array2::zeros((6, 8)), vec![inflow(place, &points, beyond)]);
        // In uneven parts, so that steps end within the hydrograph's.
        for part in [33.0, 150.0, 17.5, 499.5, 300.0] {
            solver.advance(part).unwrap();
        }
        let balance = solver.mass_balance();
        assert!(
            (balance.inflow_m3 / volume_m3 - 1.0).abs() < 1e-12,
            "{beyond:?}: {balance:?}"
        );
        assert!(balance.relative_error() < 1e-13);
    }
}

/// A strong inflow on dry ground must not be gathered in one long step.
#[test]
fn an_inflow_shortens_the_first_steps() {
    let place = Place::Cells(vec![[10, 10]]);
    let mut solver = solver(
        Array2::zeros((21, 21)),
        vec![inflow(place, &[(0.0, 50.0)], Beyond::Hold)],
    );
    let mut deepest = 0.0_f64;
    for _ in 0..120 {
        solver.advance(1.0).unwrap();
        deepest = deepest.max(solver.depth_m()[(10, 10)]);
    }
    // 1 s brings 0.5 m, which spreads at once; 60 s would have brought 30 m.
    assert!(deepest < 2.5, "{deepest}");
    assert!(solver.mass_balance().relative_error() < 1e-13);
}

#[test]
fn a_level_is_reached_and_left_again() {
    // A basin whose western side is open to the sea, with a dry hill.
    let bed_m = Array2::from_shape_fn(
        (7, 12),
        |(row, col)| if row < 2 && col > 8 { 3.0 } else { 0.2 },
    );
    let tide = Boundary::Level {
        place: Place::PartOfSide {
            side: Side::West,
            cells: 2..5,
        },
        level_m: Hydrograph {
            points: vec![(0.0, 0.0), (1800.0, 2.0), (7200.0, 2.0), (9000.0, 1.0)],
            beyond: Beyond::Hold,
        },
    };
    let mut solver = solver(bed_m.clone(), vec![tide]);
    for (end_s, level_m) in [(7200.0, 2.0), (16_200.0, 1.0)] {
        solver.advance(end_s - solver.time_s()).unwrap();
        // Friction falls with the square of the speed: a seiche of some millimetres is left for hours.
        for (h, z) in solver.depth_m().iter().zip(&bed_m) {
            assert!(
                (h - (level_m - z).max(0.0)).abs() < 0.01,
                "{end_s} s: {h} {z}"
            );
        }
    }
    let balance = solver.mass_balance();
    assert!(balance.relative_error() < 1e-13);
    assert!(
        balance.inflow_m3 > balance.outflow_m3 && balance.outflow_m3 > 6000.0,
        "{balance:?}"
    );
}

#[test]
fn held_cells_keep_their_level() {
    let held = Boundary::Level {
        place: Place::Cells(vec![[0, 0], [1, 0]]),
        level_m: Hydrograph {
            points: vec![(0.0, 1.0), (600.0, 1.5)],
            beyond: Beyond::Stop,
        },
    };
    let mut solver = solver(Array2::from_elem((2, 20), 0.5), vec![held]);
    assert_eq!(solver.depth_m()[(1, 0)], 0.5);
    solver.advance(300.0).unwrap();
    assert!((solver.depth_m()[(1, 0)] - 0.75).abs() < 1e-12);
    solver.advance(300.0).unwrap();
    let balance = solver.mass_balance();
    assert!(
        balance.relative_error() < 1e-13 && balance.inflow_m3 > 500.0,
        "{balance:?}"
    );
    // Stopped, the water stays and levels out.
    solver.advance(3600.0).unwrap();
    assert_eq!(solver.mass_balance().inflow_m3, balance.inflow_m3);
    let mean_m = solver.depth_m().mean().unwrap();
    assert!(
        solver.depth_m().iter().all(|h| (h - mean_m).abs() < 5e-3),
        "{mean_m}"
    );
}

#[test]
fn time_without_water_takes_no_steps() {
    let day = 86_400.0;
    let flood = inflow(
        Place::Cells(vec![[5, 5]]),
        &[(20.0 * day, 0.0), (20.5 * day, 1.0), (21.0 * day, 0.0)],
        Beyond::Stop,
    );
    let mut open = domain(
        Array2::from_shape_fn((10, 10), |(row, _)| row as f64),
        vec![flood],
    );
    open.edge = Edge::FreeOutflow { slope: 0.1 };
    let mut solver = Solver::new(open, SolverConfig::default()).unwrap();
    assert_eq!(solver.advance(19.0 * day).unwrap(), 0);
    // The dry day before the flood takes none either, and the days after it only until the ground has run dry.
    let steps = solver.advance(20.0 * day).unwrap();
    assert!((1440..30_000).contains(&steps), "{steps}");
    assert_eq!(solver.advance(365.0 * day).unwrap(), 0);
    assert_eq!(solver.time_s(), 404.0 * day);
    let balance = solver.mass_balance();
    assert!((balance.inflow_m3 - 0.5 * day).abs() < 1e-6 && balance.relative_error() < 1e-12);
    // Rain ends it.
    solver.set_rain_mm_per_h(array![[1.0_f32]].view()).unwrap();
    assert!(solver.advance(60.0).unwrap() > 0);
}
