//! Thin sheets on steep ground.

use ndarray::{Array2, array};
use pluvial_hydro::{Domain, Edge, Infiltration, Parameter, Solver, SolverConfig};

const SLOPE: f64 = 0.5;
const N: f64 = 0.03;
const CELLS: usize = 60;
const CELL_SIZE_M: f64 = 5.0;

/// A steep plane above a lake that has always set the time step.
fn hillside(sheet_depth_m: f64) -> (Solver, u64) {
    let bed_m = Array2::from_shape_fn((2, CELLS + 8), |(_, col)| {
        if col < CELLS {
            SLOPE * CELL_SIZE_M * (CELLS - col) as f64
        } else {
            -10.0
        }
    });
    let lake_m = bed_m.mapv(|z| if z < 0.0 { 6.0 } else { 0.0 });
    let domain = Domain {
        bed_m,
        cell_size_m: CELL_SIZE_M,
        manning: Parameter::Uniform(N),
        edge: Edge::Closed,
        boundaries: vec![],
        infiltration: Infiltration::None,
    };
    let config = SolverConfig {
        sheet_depth_m,
        ..SolverConfig::default()
    };
    let mut solver = Solver::new(domain, config).unwrap();
    solver.set_depth_m(lake_m.view()).unwrap();
    solver
        .set_rain_mm_per_h(array![[100.0_f32]].view())
        .unwrap();
    let steps = solver.advance(1800.0).unwrap();
    assert!(solver.mass_balance().relative_error() < 1e-13);
    (solver, steps)
}

#[test]
fn sheets_run_off_at_mannings_velocity() {
    let (limited, steps_limited) = hillside(0.0);
    let (sheets, steps_sheets) = hillside(0.02);
    let (mut deeper, rain) = (0, 100.0 / 3.6e6);
    for col in 5..CELLS - 3 {
        let x = CELL_SIZE_M * (col + 1) as f64;
        let kinematic_m = (N * rain * x / SLOPE.sqrt()).powf(0.6);
        let h = sheets.depth_m()[(0, col)];
        assert!(
            (h / kinematic_m - 1.0).abs() < 0.02,
            "column {col}: {h} {kinematic_m}"
        );
        deeper += usize::from(limited.depth_m()[(0, col)] > 1.5 * kinematic_m);
    }
    // At a Froude number of 1 the same discharge stands much deeper.
    assert!(deeper > 40, "{deeper}");
    // Neither asks for shorter steps than the lake, which fills a little sooner from sheets.
    assert!(
        steps_limited.abs_diff(steps_sheets) * 100 < steps_limited,
        "{steps_limited} {steps_sheets}"
    );
}

#[test]
fn thin_water_on_any_slope_asks_for_no_short_steps() {
    for slope in [0.0, 1.0] {
        let domain = Domain {
            bed_m: Array2::from_shape_fn((4, 50), |(_, col)| 10.0 * slope * (50 - col) as f64),
            cell_size_m: 10.0,
            manning: Parameter::Uniform(0.02),
            edge: Edge::FreeOutflow { slope: 1.0 },
            boundaries: vec![],
            infiltration: Infiltration::None,
        };
        let config = SolverConfig {
            sheet_depth_m: 0.01,
            ..SolverConfig::default()
        };
        let mut solver = Solver::new(domain, config).unwrap();
        solver.set_rain_mm_per_h(array![[20.0_f32]].view()).unwrap();
        let mut steps = 0;
        let mut deepest = 0.0_f64;
        for _ in 0..60 {
            steps += solver.advance(60.0).unwrap();
            deepest = solver.depth_m().iter().fold(deepest, |m, h| m.max(*h));
        }
        // No more than waves of the deepest water ask for.
        let fewest = 3600.0 * (9.806_65 * deepest).sqrt() / (0.7 * 10.0);
        assert!((steps as f64) < fewest + 60.0, "{slope}: {steps} {fewest}");
        assert!(steps < 400, "{slope}: {steps}");
        assert!(solver.mass_balance().relative_error() < 1e-13);
    }
}
