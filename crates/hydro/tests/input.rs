//! Bad input is refused with the reason, and changes nothing.

use ndarray::{Array2, array};
use pluvial_hydro::{
    Beyond, Boundary, Domain, Edge, HydroError, Hydrograph, Infiltration, Parameter, Place, Side,
    Solver, SolverConfig,
};

fn domain() -> Domain {
    Domain {
        bed_m: array![[3.0, 2.0, f64::NAN], [1.0, 0.5, 0.0]],
        cell_size_m: 10.0,
        manning: Parameter::Uniform(0.03),
        edge: Edge::Closed,
        boundaries: vec![],
        infiltration: Infiltration::None,
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
            refusal(|d| d.manning = Parameter::Uniform(n)),
            HydroError::Value {
                name: "Manning's n",
                ..
            }
        ));
        // Outside the domain the value does not matter, inside it does.
        let mut map = Array2::from_elem((2, 3), 0.03);
        map[(0, 2)] = n;
        let allowed = Domain {
            manning: Parameter::PerCell(map.clone()),
            ..domain()
        };
        assert!(Solver::new(allowed, SolverConfig::default()).is_ok());
        map[(1, 1)] = n;
        assert!(matches!(
            refusal(|d| d.manning = Parameter::PerCell(map)),
            HydroError::CellValue {
                name: "Manning's n",
                row: 1,
                col: 1,
                ..
            }
        ));
    }
    let turned = refusal(|d| d.manning = Parameter::PerCell(Array2::from_elem((3, 2), 0.03)));
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
fn grounds() {
    let green_ampt = |k: f64, psi: f64, deficit: f64| Infiltration::GreenAmpt {
        conductivity_mm_per_h: Parameter::Uniform(k),
        suction_head_mm: Parameter::Uniform(psi),
        moisture_deficit: Parameter::PerCell(array![[0.1, 0.2, f64::NAN], [deficit, 0.3, 0.4]]),
    };
    let wrong = [
        Infiltration::Constant { mm_per_h: -1.0 },
        Infiltration::Constant { mm_per_h: f64::NAN },
        green_ampt(-1.0, 100.0, 0.3),
        green_ampt(1.0, f64::INFINITY, 0.3),
        green_ampt(1.0, 100.0, 1.1),
    ];
    for infiltration in wrong {
        let error = refusal(|d| d.infiltration = infiltration.clone());
        assert!(
            matches!(
                error,
                HydroError::Value { .. } | HydroError::CellValue { row: 1, col: 0, .. }
            ),
            "{infiltration:?}: {error}"
        );
    }
    let allowed = Domain {
        infiltration: green_ampt(1.0, 100.0, 0.3),
        ..domain()
    };
    assert!(Solver::new(allowed, SolverConfig::default()).is_ok());
}

#[test]
fn boundaries() {
    let inflow = |place, points: &[(f64, f64)]| Boundary::Inflow {
        place,
        discharge_m3_per_s: Hydrograph {
            points: points.to_vec(),
            beyond: Beyond::Stop,
        },
    };
    let flow = [(0.0, 1.0), (60.0, 0.0)];
    let wrong = [
        (inflow(Place::Side(Side::West), &[]), "no points"),
        (
            inflow(Place::Side(Side::West), &[(0.0, 1.0), (-1.0, 2.0)]),
            "goes back in time",
        ),
        (
            inflow(Place::Side(Side::West), &[(0.0, f64::NAN)]),
            "not finite",
        ),
        (
            inflow(Place::Side(Side::West), &[(0.0, -2.0)]),
            "-2 m³/s is negative",
        ),
        (
            inflow(Place::Cells(vec![[2, 0]]), &flow),
            "row 2, column 0 is not on the grid",
        ),
        (
            inflow(Place::Cells(vec![[0, 2]]), &flow),
            "none of its cells is inside",
        ),
        (
            inflow(Place::Cells(vec![[1, 1], [1, 1]]), &flow),
            "named twice",
        ),
        (
            inflow(
                Place::PartOfSide {
                    side: Side::South,
                    cells: 1..4,
                },
                &flow,
            ),
            "no part of a side of 3 cells",
        ),
        (
            Boundary::Edge {
                place: Place::Side(Side::West),
                edge: Edge::FreeOutflow { slope: -1.0 },
            },
            "slope",
        ),
    ];
    for (boundary, reason) in wrong {
        let error = refusal(|d| {
            d.boundaries = vec![inflow(Place::Side(Side::West), &flow), boundary];
        });
        assert!(
            matches!(error, HydroError::Boundary { boundary: 1, .. }),
            "{error}"
        );
        assert!(error.to_string().contains(reason), "{error}");
    }
    // A cell amid others has no edge.
    let inland = Domain {
        bed_m: Array2::zeros((3, 3)),
        boundaries: vec![Boundary::Edge {
            place: Place::Cells(vec![[1, 1]]),
            edge: Edge::Closed,
        }],
        ..domain()
    };
    let error = Solver::new(inland, SolverConfig::default())
        .err()
        .expect("it is wrong");
    assert!(
        error
            .to_string()
            .contains("row 1, column 1 is not on the edge"),
        "{error}"
    );
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
