//! A mass-conserving local inertial flood solver: rain and terrain to water depth.
//!
//! The two-dimensional shallow water equations without their advection term, on square cells with the unit discharge
//! stored on the faces between them (Bates, Horritt & Fewtrell 2010, J. Hydrol. 387; de Almeida et al. 2012, WRR 48).
//! A solver is a [`Domain`] (terrain, roughness, edge), a [`SolverConfig`] and the water that has fallen on it:
//!
//! ```
//! use ndarray::{Array2, array};
//! use pluvial_hydro::{Domain, Edge, Infiltration, Parameter, Solver, SolverConfig};
//!
//! let domain = Domain {
//!     bed_m: Array2::from_shape_fn((4, 6), |(row, col)| (row + col) as f64), // row 0 = north; NaN = outside
//!     cell_size_m: 500.0,
//!     manning: Parameter::Uniform(0.05),
//!     edge: Edge::FreeOutflow { slope: 0.002 },
//!     boundaries: vec![],
//!     infiltration: Infiltration::None,
//! };
//! let mut solver = Solver::new(domain, SolverConfig::default())?;
//! solver.set_rain_mm_per_h(array![[0.0, 10.0, 20.0], [5.0, 5.0, 5.0]].view())?; // a coarser grid over the same ground
//! solver.advance(3600.0)?;
//! assert_eq!(solver.depth_m().dim(), (4, 6));
//! assert!(solver.mass_balance().relative_error() < 1e-12);
//! # Ok::<(), pluvial_hydro::HydroError>(())
//! ```
//!
//! # Layout of a step, and a GPU
//!
//! All that a step reads and writes lies in flat row-major arrays of f64 (bed, depth, discharges to the east and south, rain,
//! roughness, infiltrated depth) and a bitmap of active chunks of 16 cells; a step is a function from these and a few scalars to
//! the same arrays, with one reduction, the greatest depth, which sets the next time step. A backend on a GPU would keep the
//! arrays on the device and implement what `step::step` does, in four kernels one after the other: tentative discharges of all
//! faces, the share that each cell can give, limited discharges, depths with rain, infiltration and the maximum; edge faces and
//! boundary cells are short lists of their own. Only the scalars, the lists' levels and the frames asked for would cross the bus.

mod boundary;
mod chunks;
pub mod compat;
mod config;
mod domain;
mod edges;
mod error;
mod grid;
mod hydrograph;
mod infiltration;
mod kernel;
mod mass;
mod maxima;
mod rain;
mod simd;
mod solver;
mod state;
mod step;
mod sweep;

pub use boundary::{Boundary, Place, Side};
pub use config::{RainResampling, SolverConfig};
pub use domain::{Domain, Edge, Parameter};
pub use error::HydroError;
pub use hydrograph::{Beyond, Hydrograph};
pub use infiltration::Infiltration;
pub use mass::MassBalance;
pub use maxima::Maxima;
pub use solver::Solver;
pub use state::SolverState;
