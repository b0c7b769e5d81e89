//! Green and Ampt's infiltration against the solutions of its equation.

use ndarray::{Array2, array};
use pluvial_hydro::{Domain, Edge, Infiltration, Parameter, Solver, SolverConfig};

// Sandy loam of Chow et al. 1988, table 4.3.1, at 40 % effective saturation.
const K_MM_PER_H: f64 = 10.9;
const PSI_MM: f64 = 110.1;
const DEFICIT: f64 = 0.247;

fn flat(depth_m: f64) -> Solver {
    let domain = Domain {
        bed_m: Array2::zeros((2, 3)),
        cell_size_m: 10.0,
        manning: Parameter::Uniform(0.03),
        edge: Edge::Closed,
        boundaries: vec![],
        infiltration: Infiltration::GreenAmpt {
            conductivity_mm_per_h: Parameter::PerCell(Array2::from_elem((2, 3), K_MM_PER_H)),
            suction_head_mm: Parameter::Uniform(PSI_MM),
            moisture_deficit: Parameter::Uniform(DEFICIT),
        },
    };
    let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
    solver
        .set_depth_m(Array2::from_elem((2, 3), depth_m).view())
        .unwrap();
    solver
}

/// Cumulative infiltration in mm a time t in h after there was F₀ under water: the root of
/// F - F₀ - S ln((F + S) / (F₀ + S)) = K t, S = ψ Δθ (Chow et al. 1988, equation 5.4.6), by bisection.
fn ponded_mm(before_mm: f64, hours: f64) -> f64 {
    let s = PSI_MM * DEFICIT;
    let (mut low, mut high) = (before_mm, before_mm + 1000.0);
    for _ in 0..200 {
        let f = 0.5 * (low + high);
        if f - before_mm - s * ((f + s) / (before_mm + s)).ln() < K_MM_PER_H * hours {
            low = f;
        } else {
            high = f;
        }
    }
    low
}

#[test]
fn under_a_pond_it_follows_the_implicit_solution() {
    let mut solver = flat(0.3);
    for minutes in 1..=300 {
        solver.advance(60.0).unwrap();
        let exact = ponded_mm(0.0, f64::from(minutes) / 60.0);
        let taken = solver.infiltrated_m().unwrap()[(1, 2)] * 1e3;
        assert!(
            (taken / exact - 1.0).abs() < 2e-3,
            "{minutes} min: {taken} {exact}"
        );
        assert!((solver.depth_m()[(0, 1)] - 0.3 + taken * 1e-3).abs() < 1e-12);
    }
}

/// Mein & Larson 1973 (Water Resour. Res. 9): under rain i > K all sinks in until F = K S / (i - K), and then as under a pond.
#[test]
fn under_rain_it_ponds_when_it_should() {
    let rain = 50.0;
    let ponding_mm = K_MM_PER_H * PSI_MM * DEFICIT / (rain - K_MM_PER_H);
    let ponding_h = ponding_mm / rain;
    let mut solver = flat(0.0);
    solver
        .set_rain_mm_per_h(array![[rain as f32]].view())
        .unwrap();
    let mut ponded_h = None;
    for step in 1..=720 {
        solver.advance(10.0).unwrap();
        let hours = f64::from(step) / 360.0;
        let taken = solver.infiltrated_m().unwrap()[(0, 0)] * 1e3;
        if ponded_h.is_none() && solver.depth_m()[(0, 0)] > 1e-6 {
            ponded_h = Some(hours);
        }
        let exact = if hours <= ponding_h {
            rain * hours
        } else {
            ponded_mm(ponding_mm, hours - ponding_h)
        };
        assert!(
            (taken - exact).abs() < 2e-3 * exact,
            "{hours} h: {taken} {exact}"
        );
    }
    let ponded_h = ponded_h.expect("it ponds");
    assert!(
        (ponded_h - ponding_h).abs() < 20.0 / 3600.0,
        "{ponded_h} {ponding_h}"
    );
    assert!(solver.mass_balance().relative_error() < 1e-13);
}
