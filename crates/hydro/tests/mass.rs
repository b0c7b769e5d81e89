//! Conservation: still water stays still, and no water is made or lost.

use ndarray::{Array2, array};
use pluvial_hydro::{
    Beyond, Boundary, Domain, Edge, Hydrograph, Infiltration, Parameter, Place, Side, Solver,
    SolverConfig,
};

/// Rough terrain with pits: a few waves that do not fit the grid.
fn rough_bed(height: usize, width: usize, relief_m: f64) -> Array2<f64> {
    Array2::from_shape_fn((height, width), |(row, col)| {
        let (y, x) = (row as f64, col as f64);
        relief_m
            * (0.6 * (0.31 * x).sin() * (0.23 * y).cos()
                + 0.3 * (1.7 * x + 2.9 * y).sin()
                + 0.1 * (5.1 * x * y).cos())
    })
}

#[test]
fn a_lake_over_rough_terrain_stays_at_rest() {
    // 1000 m above the sea, with islands and cells outside: any unbalanced term would set the water in motion.
    let mut bed_m = rough_bed(23, 41, 8.0) + 1000.0;
    bed_m.slice_mut(ndarray::s![5..9, 12..20]).fill(f64::NAN);
    let level_m = 1001.0;
    let depth_m = bed_m.mapv(|z| {
        if z.is_nan() {
            0.0
        } else {
            (level_m - z).max(0.0)
        }
    });
    assert!(depth_m.iter().any(|h| *h == 0.0) && depth_m.iter().any(|h| *h > 5.0));
    let domain = Domain {
        bed_m,
        cell_size_m: 20.0,
        manning: Parameter::Uniform(0.03),
        edge: Edge::Closed,
        boundaries: vec![],
        infiltration: Infiltration::None,
    };
    let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
    solver.set_depth_m(depth_m.view()).unwrap();
    solver.advance(3600.0).unwrap();
    for (h, start) in solver.depth_m().iter().zip(&depth_m) {
        assert!((h - start).abs() < 1e-10, "{h} {start}");
    }
    // η is rounded to 1e-13 m at this height.
    let fastest = solver
        .discharge_east_m2_per_s()
        .iter()
        .fold(0.0, |m: f64, q| m.max(q.abs()));
    assert!(fastest < 1e-9, "{fastest}");
}

/// 24 h of two showers, drying and infiltration over a bed with slopes up to 100 %.
fn storm(edge: Edge, boundaries: Vec<Boundary>, infiltration: Infiltration) -> Solver {
    let mut bed_m = rough_bed(31, 47, 160.0) + 800.0;
    bed_m.slice_mut(ndarray::s![26.., ..6]).fill(f64::NAN);
    let cell_size_m = 100.0;
    let steepest = bed_m
        .windows((1, 2))
        .into_iter()
        .map(|pair| (pair[(0, 1)] - pair[(0, 0)]).abs() / cell_size_m)
        .fold(0.0, f64::max);
    assert!(steepest > 1.0, "{steepest}");
    let domain = Domain {
        bed_m,
        cell_size_m,
        manning: Parameter::Uniform(0.035),
        edge,
        boundaries,
        infiltration,
    };
    let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
    for hour in 0..24 {
        let rain = match hour {
            1..4 => array![[0.0_f32, 40.0, 80.0], [5.0, 0.0, 12.5]],
            12 => array![[60.0, 0.0, 0.0], [0.0, 0.0, 33.0]],
            _ => Array2::zeros((2, 3)),
        };
        solver.set_rain_mm_per_h(rain.view()).unwrap();
        for _ in 0..12 {
            solver.advance(300.0).unwrap();
        }
        assert!(solver.depth_m().iter().all(|h| *h >= 0.0 && h.is_finite()));
    }
    assert_eq!(solver.time_s(), 86_400.0);
    solver
}

fn green_ampt() -> Infiltration {
    let moisture_deficit = rough_bed(31, 47, 1.0).mapv(|v| 0.3 + 0.2 * v);
    Infiltration::GreenAmpt {
        conductivity_mm_per_h: Parameter::Uniform(2.0),
        suction_head_mm: Parameter::Uniform(150.0),
        moisture_deficit: Parameter::PerCell(moisture_deficit),
    }
}

#[test]
fn water_is_neither_made_nor_lost() {
    let free = Edge::FreeOutflow { slope: 0.02 };
    for (edge, infiltration) in [
        (Edge::Closed, Infiltration::None),
        (free, Infiltration::Constant { mm_per_h: 1.5 }),
        (free, green_ampt()),
    ] {
        let solver = storm(edge, vec![], infiltration.clone());
        let balance = solver.mass_balance();
        assert!(
            balance.relative_error() < 1e-12,
            "{edge:?} {infiltration:?}: {balance:?}"
        );
        assert!(balance.rain_m3 > 1e4 && balance.stored_m3 > 0.0);
        assert_eq!(
            balance.outflow_m3 > 1e3,
            edge != Edge::Closed,
            "{balance:?}"
        );
        assert_eq!(
            balance.infiltration_m3 > 1e3,
            infiltration != Infiltration::None,
            "{balance:?}"
        );
        let outside = ndarray::s![26.., ..6];
        assert!(solver.depth_m().slice(outside).iter().all(|h| *h == 0.0));
    }
}

#[test]
fn boundaries_are_in_the_balance() {
    let hydrograph = |points: &[(f64, f64)]| Hydrograph {
        points: points.to_vec(),
        beyond: Beyond::Stop,
    };
    // The bed runs from 640 m to 960 m.
    let boundaries = vec![
        Boundary::Edge {
            place: Place::Side(Side::West),
            edge: Edge::FreeOutflow { slope: 0.05 },
        },
        Boundary::Inflow {
            place: Place::line([3, 30], [9, 40]),
            discharge_m3_per_s: hydrograph(&[(3600.0, 0.0), (7200.0, 25.0), (9000.0, 0.0)]),
        },
        // Rises above parts of the eastern side, and leaves it dry again.
        Boundary::Level {
            place: Place::Side(Side::East),
            level_m: hydrograph(&[(0.0, 700.0), (20_000.0, 790.0), (50_000.0, 700.0)]),
        },
        Boundary::Level {
            place: Place::Cells(vec![[15, 20], [15, 21]]),
            level_m: hydrograph(&[(30_000.0, 790.0), (40_000.0, 800.0)]),
        },
        // Over the cells outside, in the south-west.
        Boundary::Edge {
            place: Place::Cells(vec![[25, 2], [26, 6]]),
            edge: Edge::FreeOutflow { slope: 0.3 },
        },
    ];
    let solver = storm(Edge::Closed, boundaries, green_ampt());
    let balance = solver.mass_balance();
    assert!(balance.relative_error() < 1e-12, "{balance:?}");
    // The hydrograph's own volume and more from the levels.
    assert!(
        balance.inflow_m3 > 67_500.0 && balance.outflow_m3 > 1e3,
        "{balance:?}"
    );
    let outside = ndarray::s![26.., ..6];
    assert!(solver.depth_m().slice(outside).iter().all(|h| *h == 0.0));
}

#[test]
fn rain_and_infiltration_have_their_volumes() {
    // 6 of 8 cells inside, 100 m²: 10 mm/h for 2 h is 12 m³; 4 mm/h sinks in from the start, so 4.8 m³.
    let bed_m = array![[1.0, f64::NAN, 1.0, 1.0], [1.0, 1.0, f64::NAN, 1.0]];
    let domain = Domain {
        bed_m,
        cell_size_m: 10.0,
        manning: Parameter::Uniform(0.03),
        edge: Edge::Closed,
        boundaries: vec![],
        infiltration: Infiltration::Constant { mm_per_h: 4.0 },
    };
    let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
    solver.set_rain_mm_per_h(array![[10.0_f32]].view()).unwrap();
    solver.advance(7200.0).unwrap();
    let balance = solver.mass_balance();
    assert!((balance.rain_m3 - 12.0).abs() < 1e-9);
    assert!((balance.infiltration_m3 - 4.8).abs() < 1e-9);
    assert!((balance.stored_m3 - 7.2).abs() < 1e-9);
    // Without rain the rest sinks in too, and no more than there is.
    solver.set_rain_mm_per_h(array![[0.0_f32]].view()).unwrap();
    solver.advance(4.0 * 3600.0).unwrap();
    assert!((solver.mass_balance().infiltration_m3 - 12.0).abs() < 1e-9);
    assert!(solver.depth_m().iter().all(|h| *h == 0.0));
}

#[test]
fn sloshing_decays_even_without_friction() {
    // A rough level over a rough bed, at the largest steps: an unstable scheme would feed the shortest waves.
    for n in [0.0, 0.03] {
        let bed_m = rough_bed(24, 37, 2.0);
        let level_m = 3.0 + rough_bed(37, 24, 0.5).t().to_owned();
        let depth_m = &level_m - &bed_m;
        let domain = Domain {
            bed_m: bed_m.clone(),
            cell_size_m: 100.0,
            manning: Parameter::Uniform(n),
            edge: Edge::Closed,
            boundaries: vec![],
            infiltration: Infiltration::None,
        };
        let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
        solver.set_depth_m(depth_m.view()).unwrap();
        let roughness = |depth: &Array2<f64>| (depth + &bed_m).std(0.0);
        let mut before = roughness(&depth_m);
        for hours in [0.5, 2.0, 8.0] {
            solver.advance(3600.0 * hours).unwrap();
            let after = roughness(solver.depth_m());
            assert!(after < before, "n {n}, {hours} h: {before} {after}");
            before = after;
        }
        assert!(solver.mass_balance().relative_error() < 1e-12);
    }
}
