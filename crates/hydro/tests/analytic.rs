//! A free edge has a known solution too; the other flows that have one are in `cases`.

use ndarray::{Array2, array};
use pluvial_hydro::{Domain, Edge, Infiltration, Parameter, Solver, SolverConfig};

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
