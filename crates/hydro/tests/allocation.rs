//! A step takes no memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::{Array2, array};
use pluvial_hydro::{
    Boundary, Domain, Edge, Hydrograph, Infiltration, Parameter, Place, Side, Solver, SolverConfig,
};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: all is passed on to the system's allocator as it comes.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn steps_do_not_allocate() {
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let (steps, allocations) = pool.install(|| {
            let domain = Domain {
                bed_m: Array2::from_shape_fn((150, 200), |(row, col)| {
                    (0.2 * row as f64).sin() + (0.1 * col as f64).cos()
                }),
                cell_size_m: 10.0,
                manning: Parameter::Uniform(0.03),
                edge: Edge::FreeOutflow { slope: 0.01 },
                boundaries: vec![
                    Boundary::Level {
                        place: Place::Side(Side::North),
                        level_m: Hydrograph::constant(1.5),
                    },
                    Boundary::Inflow {
                        place: Place::Cells(vec![[70, 70]]),
                        discharge_m3_per_s: Hydrograph::constant(10.0),
                    },
                ],
                infiltration: Infiltration::GreenAmpt {
                    conductivity_mm_per_h: Parameter::Uniform(5.0),
                    suction_head_mm: Parameter::Uniform(100.0),
                    moisture_deficit: Parameter::Uniform(0.2),
                },
            };
            let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
            solver.track_maxima(0.1).unwrap();
            solver.set_rain_mm_per_h(array![[20.0_f32]].view()).unwrap();
            solver.advance(120.0).unwrap();
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            let steps = solver.advance(300.0).unwrap();
            (steps, ALLOCATIONS.load(Ordering::Relaxed) - before)
        });
        assert!(steps > 50, "{steps}");
        assert_eq!(allocations, 0, "{threads} threads");
    }
}
