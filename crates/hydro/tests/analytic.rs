//! Flows with a known solution.

use ndarray::{Array2, array};
use pluvial_hydro::{Domain, Edge, Infiltration, Parameter, Solver, SolverConfig};

/// The moving wetting front on a flat bed of Hunter et al. 2005 (Adv. Water Resour. 28), with which Bates et al. 2010
/// validate the scheme: constant speed u, h(x, t) = (7/3 n² u² (u t - x))^(3/7).
#[test]
fn a_wetting_front_moves_over_a_flat_bed() {
    let (n, u, cell_size_m, duration_s) = (0.01_f64, 0.4_f64, 25.0, 500);
    let exact = |x: f64, t: f64| (7.0 / 3.0 * n * n * u * u * (u * t - x).max(0.0)).powf(3.0 / 7.0);
    // The first cells have prescribed levels; the centre of the last of them is x = 0.
    const PRESCRIBED: usize = 3;
    let x_m = |k: usize| cell_size_m * (k as f64 + 1.0 - PRESCRIBED as f64);
    for eastward in [true, false] {
        let shape = if eastward { (2, 20) } else { (20, 2) };
        let domain = Domain {
            bed_m: Array2::zeros(shape),
            cell_size_m,
            manning: Parameter::Uniform(n),
            edge: Edge::Closed,
            boundaries: vec![],
            infiltration: Infiltration::None,
        };
        let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
        for second in 0..duration_s {
            let mut depth = solver.depth_m().clone();
            for ((row, col), h) in depth.indexed_iter_mut() {
                let k = if eastward { col } else { row };
                if k < PRESCRIBED {
                    *h = exact(x_m(k), f64::from(second) + 0.5);
                }
            }
            solver.set_depth_m(depth.view()).unwrap();
            solver.advance(1.0).unwrap();
        }
        let mut squares = 0.0;
        for k in PRESCRIBED..20 {
            let h = if eastward {
                solver.depth_m()[(1, k)]
            } else {
                solver.depth_m()[(k, 1)]
            };
            squares += (h - exact(x_m(k), f64::from(duration_s))).powi(2);
        }
        let rmse_m = f64::sqrt(squares / (20 - PRESCRIBED) as f64);
        println!("RMSE {rmse_m} m");
        assert!(rmse_m < 0.02, "{rmse_m}");
    }
}

/// Steady rain on a plane: the kinematic depth h(x) = (n R x / √S)^(3/5) at the distance x from the divide, reached after
/// (n L / (√S R^(2/3)))^(3/5).
#[test]
fn rain_on_a_plane_reaches_the_kinematic_depth() {
    // Thin sheets: at 500 m the friction number g Δt n² q / h^(7/3) of a 60 s step is up to 80.
    for (cell_size_m, slope, n, rain_mm_per_h) in [
        (10.0, 0.01_f64, 0.05_f64, 50.0_f32),
        (500.0, 0.002, 0.05, 20.0),
        (500.0, 0.004, 0.1, 2.0),
    ] {
        let cells = 60;
        // The plane drops into a pit at its end, deep enough for all the rain.
        let bed_m = Array2::from_shape_fn((2, cells + 1), |(_, col)| {
            if col < cells {
                slope * cell_size_m * (cells - col) as f64
            } else {
                -50.0
            }
        });
        let domain = Domain {
            bed_m,
            cell_size_m,
            manning: Parameter::Uniform(n),
            edge: Edge::Closed,
            boundaries: vec![],
            infiltration: Infiltration::None,
        };
        let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
        solver
            .set_rain_mm_per_h(array![[rain_mm_per_h]].view())
            .unwrap();
        let rain = f64::from(rain_mm_per_h) / 3.6e6;
        let length = cell_size_m * cells as f64;
        let equilibrium_s = (n * length / (slope.sqrt() * rain.powf(2.0 / 3.0))).powf(0.6);
        solver.advance(3.0 * equilibrium_s).unwrap();
        // The fall draws down the last three cells.
        for col in 0..cells - 3 {
            // What crosses the eastern face of a cell has fallen on the cells up to it.
            let x = cell_size_m * (col + 1) as f64;
            let exact = (n * rain * x / slope.sqrt()).powf(0.6);
            let h = solver.depth_m()[(1, col)];
            assert!(
                (h / exact - 1.0).abs() < 0.02,
                "{cell_size_m} m, column {col}: {h} {exact}"
            );
        }
    }
}

/// Free outflow carries on the plane: with the bed's own slope over the edge, the depth there is still the kinematic one.
#[test]
fn a_free_edge_passes_uniform_flow() {
    // Walls of cells that are higher than the water keep it from leaving to the north and south.
    let (n, slope, cell_size_m, cells) = (0.05_f64, 0.01_f64, 10.0, 40);
    let bed_m = Array2::from_shape_fn((3, cells), |(row, col)| {
        let wall = if row == 1 { 0.0 } else { 10.0 };
        wall + slope * cell_size_m * (cells - col) as f64
    });
    let domain = Domain {
        bed_m,
        cell_size_m,
        manning: Parameter::Uniform(n),
        edge: Edge::FreeOutflow { slope },
        boundaries: vec![],
        infiltration: Infiltration::None,
    };
    let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
    // Rain on the middle row only.
    solver
        .set_rain_mm_per_h(array![[0.0_f32], [50.0], [0.0]].view())
        .unwrap();
    solver.advance(2.0 * 3600.0).unwrap();
    let h = solver.depth_m()[(1, cells - 1)];
    let exact = (n * 50.0 / 3.6e6 * cell_size_m * cells as f64 / slope.sqrt()).powf(0.6);
    assert!((h / exact - 1.0).abs() < 0.02, "{h} {exact}");
    let balance = solver.mass_balance();
    assert!(
        balance.relative_error() < 1e-12 && balance.outflow_m3 > 0.5 * balance.rain_m3,
        "{balance:?}"
    );
}
