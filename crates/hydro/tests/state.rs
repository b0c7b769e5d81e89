//! A run that is stopped, written, read and continued ends in the same bits as one that is not.

use ndarray::{Array2, array};
use pluvial_hydro::{
    Beyond, Boundary, Domain, Edge, HydroError, Hydrograph, Infiltration, Parameter, Place, Side,
    Solver, SolverConfig, SolverState,
};

fn domain(infiltration: Infiltration) -> Domain {
    Domain {
        bed_m: Array2::from_shape_fn((23, 70), |(row, col)| {
            let (y, x) = (row as f64, col as f64);
            if row < 3 && col > 64 {
                f64::NAN
            } else {
                4.0 * (0.3 * x).sin() * (0.5 * y).cos() + 0.05 * x
            }
        }),
        cell_size_m: 20.0,
        manning: Parameter::Uniform(0.04),
        edge: Edge::FreeOutflow { slope: 0.01 },
        boundaries: vec![
            Boundary::Level {
                place: Place::Side(Side::West),
                level_m: Hydrograph {
                    points: vec![(0.0, -5.0), (3000.0, 1.5), (5000.0, -1.0)],
                    beyond: Beyond::Hold,
                },
            },
            Boundary::Level {
                place: Place::Cells(vec![[12, 40]]),
                level_m: Hydrograph {
                    points: vec![(0.0, 1.0), (2000.0, 2.5), (4000.0, 0.0)],
                    beyond: Beyond::Hold,
                },
            },
            Boundary::Inflow {
                place: Place::line([4, 20], [9, 30]),
                discharge_m3_per_s: Hydrograph::constant(3.0),
            },
        ],
        infiltration,
    }
}

fn green_ampt() -> Infiltration {
    Infiltration::GreenAmpt {
        conductivity_mm_per_h: Parameter::Uniform(4.0),
        suction_head_mm: Parameter::Uniform(80.0),
        moisture_deficit: Parameter::Uniform(0.3),
    }
}

fn run(solver: &mut Solver, frames: std::ops::Range<usize>) {
    for frame in frames {
        let rain = if frame % 5 < 2 { 30.0_f32 } else { 0.0 };
        solver
            .set_rain_mm_per_h(array![[rain, 0.0], [0.5 * rain, rain]].view())
            .unwrap();
        solver.advance(300.0).unwrap();
    }
}

fn bytes(state: &SolverState) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.write_to(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_continued_run_has_the_same_bits() {
    for infiltration in [Infiltration::None, green_ampt()] {
        let new = || {
            let mut solver =
                Solver::new(domain(infiltration.clone()), SolverConfig::default()).unwrap();
            solver.track_maxima(0.1).unwrap();
            solver
        };
        let mut whole = new();
        run(&mut whole, 0..14);
        let mut first = new();
        run(&mut first, 0..9);
        // Within a frame, where rain falls.
        first.set_rain_mm_per_h(array![[20.0_f32]].view()).unwrap();
        let mut other = Solver::resume(
            domain(infiltration.clone()),
            SolverConfig::default(),
            first.state(),
        )
        .unwrap();
        first.advance(77.0).unwrap();
        other.advance(77.0).unwrap();
        assert_eq!(bytes(&first.state()), bytes(&other.state()));

        let mut first = new();
        run(&mut first, 0..9);
        let stored = bytes(&first.state());
        drop(first);
        let state = SolverState::read_from(&stored[..]).unwrap();
        assert_eq!(state.time_s(), 2700.0);
        let mut rest =
            Solver::resume(domain(infiltration.clone()), SolverConfig::default(), state).unwrap();
        run(&mut rest, 9..14);
        assert_eq!(bytes(&whole.state()), bytes(&rest.state()));
        assert_eq!(whole.mass_balance(), rest.mass_balance());
        assert_eq!(whole.maxima(), rest.maxima());
        assert_eq!(whole.edge_outflow_m3_per_s(), rest.edge_outflow_m3_per_s());
        assert!(
            whole
                .maxima()
                .unwrap()
                .speed_m_per_s
                .iter()
                .any(|v| *v > 0.5)
        );
    }
}

#[test]
fn damaged_and_foreign_states_are_refused() {
    let mut solver = Solver::new(domain(green_ampt()), SolverConfig::default()).unwrap();
    solver.track_maxima(0.1).unwrap();
    run(&mut solver, 0..2);
    let state = solver.state();
    let stored = bytes(&state);
    assert_eq!(SolverState::read_from(&stored[..]).unwrap(), state);
    for length in [0, 7, 20, 40, 1000, stored.len() - 1] {
        let error = SolverState::read_from(&stored[..length]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    }
    let mut longer = stored.clone();
    longer.push(0);
    let mut foreign = stored.clone();
    foreign[7] = 2;
    // A header that claims more cells than there is memory for.
    let mut huge = stored.clone();
    huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    for wrong in [longer, foreign, huge] {
        let error = SolverState::read_from(&wrong[..]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    }
    let refused = |domain, state| match Solver::resume(domain, SolverConfig::default(), state) {
        Err(HydroError::State { reason }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it is accepted"),
    };
    assert!(refused(domain(Infiltration::None), state.clone()).contains("Green-Ampt"));
    let mut turned = domain(green_ampt());
    turned.bed_m = Array2::zeros((70, 23));
    turned.boundaries.clear();
    assert!(refused(turned, state).contains("23 x 70"));
    // The first depth becomes -1.
    let mut negative = stored;
    negative[80..88].copy_from_slice(&(-1.0_f64).to_le_bytes());
    let state = SolverState::read_from(&negative[..]).unwrap();
    assert!(refused(domain(green_ampt()), state).contains("a depth"));
}
