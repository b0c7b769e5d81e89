//! Bad input is refused with the reason, and changes nothing.

use ndarray::{Array2, array};
use pluvial_hydro::{Domain, Edge, HydroError, Manning, Solver, SolverConfig};

fn domain() -> Domain {
    Domain {
        bed_m: array![[3.0, 2.0, f64::NAN], [1.0, 0.5, 0.0]],
        cell_size_m: 10.0,
        manning: Manning::Uniform(0.03),
        edge: Edge::Closed,
    }
}

fn refusal(change: impl FnOnce(&mut Domain)) -> HydroError {
    let mut domain = domain();
    change(&mut domain);
    Solver::new(domain, SolverConfig::default())
        .err()
        .expect("the domain is wrong")
}

#[test]
fn domains() {
    assert_eq!(
        refusal(|d| d.bed_m = Array2::zeros((0, 3))),
        HydroError::Empty { rows: 0, cols: 3 }
    );
    assert_eq!(
        refusal(|d| d.bed_m.fill(f64::NAN)),
        HydroError::NoCells { rows: 2, cols: 3 }
    );
    let infinite = refusal(|d| d.bed_m[(1, 2)] = f64::INFINITY);
    assert!(
        infinite.to_string().contains("row 1, column 2 is inf"),
        "{infinite}"
    );
    for size in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            refusal(|d| d.cell_size_m = size),
            HydroError::Value {
                name: "cell_size_m",
                ..
            }
        ));
    }
    for n in [-0.01, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            refusal(|d| d.manning = Manning::Uniform(n)),
            HydroError::Value {
                name: "Manning's n",
                ..
            }
        ));
        // Outside the domain the value does not matter, inside it does.
        let mut map = Array2::from_elem((2, 3), 0.03);
        map[(0, 2)] = n;
        let allowed = Domain {
            manning: Manning::PerCell(map.clone()),
            ..domain()
        };
        assert!(Solver::new(allowed, SolverConfig::default()).is_ok());
        map[(1, 1)] = n;
        assert!(matches!(
            refusal(|d| d.manning = Manning::PerCell(map)),
            HydroError::CellValue {
                name: "Manning's n",
                row: 1,
                col: 1,
                ..
            }
        ));
    }
    let turned = refusal(|d| d.manning = Manning::PerCell(Array2::from_elem((3, 2), 0.03)));
    assert!(matches!(
        turned,
        HydroError::Shape {
            got_rows: 3,
            got_cols: 2,
            ..
        }
    ));
    for slope in [0.0, -0.1, f64::NAN] {
        assert!(matches!(
            refusal(|d| d.edge = Edge::FreeOutflow { slope }),
            HydroError::Value { .. }
        ));
    }
}

#[test]
fn configurations() {
    let wrong = [
        SolverConfig {
            courant: 0.0,
            ..SolverConfig::default()
        },
        SolverConfig {
            courant: 1.1,
            ..SolverConfig::default()
        },
        SolverConfig {
            froude_limit: 0.0,
            ..SolverConfig::default()
        },
        SolverConfig {
            dry_depth_m: 0.0,
            ..SolverConfig::default()
        },
        SolverConfig {
            max_timestep_s: f64::INFINITY,
            ..SolverConfig::default()
        },
        SolverConfig {
            infiltration_mm_per_h: -1.0,
            ..SolverConfig::default()
        },
        SolverConfig {
            infiltration_mm_per_h: f64::NAN,
            ..SolverConfig::default()
        },
    ];
    for config in wrong {
        assert!(
            matches!(
                Solver::new(domain(), config.clone()),
                Err(HydroError::Value { .. })
            ),
            "{config:?}"
        );
    }
}

#[test]
fn states_and_durations() {
    let mut solver = Solver::new(domain(), SolverConfig::default()).unwrap();
    let start = array![[0.0, 0.5, f64::NAN], [0.25, 0.0, 1.0]];
    solver.set_depth_m(start.view()).unwrap();
    let depth = solver.depth_m().clone();
    assert_eq!(depth, array![[0.0, 0.5, 0.0], [0.25, 0.0, 1.0]]);
    for bad in [-0.1, f64::NAN, f64::INFINITY] {
        let mut wrong = start.clone();
        wrong[(1, 0)] = bad;
        let error = solver.set_depth_m(wrong.view()).unwrap_err();
        assert!(matches!(
            error,
            HydroError::CellValue { row: 1, col: 0, .. }
        ));
        assert!(matches!(solver.advance(bad), Err(HydroError::Value { .. })));
    }
    assert!(matches!(
        solver.set_depth_m(start.t()),
        Err(HydroError::Shape { .. })
    ));
    assert!(solver.set_rain_mm_per_h(array![[f32::NAN]].view()).is_err());
    assert_eq!((solver.depth_m(), solver.time_s()), (&depth, 0.0));
    assert_eq!(solver.advance(0.0).unwrap(), 0);
}
