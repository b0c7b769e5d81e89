//! The scheme of HAIL-CAESAR, the simulator that made the published labels, with the peculiarities its answers depend on.
//!
//! For comparison only: [`Solver`](crate::Solver) is the one to simulate with. HAIL-CAESAR is the hydrology of CAESAR-Lisflood
//! (Coulthard et al. 2013, Earth Surf. Process. Landforms 38) in C++: runoff by TOPMODEL's exponential store (Beven & Kirkby 1979),
//! routed by the local inertial scheme of Bates, Horritt & Fewtrell 2010. This is a new implementation of its published equations
//! and of the behaviour of its public source; where it differs from the equations and from [`Solver`](crate::Solver):
//!
//! * **Friction.** The exponent of `h^(10/3)` is an integer division there, hence `h^3`: friction is too weak by `h^(1/3)`
//!   below a depth of 1 m (by half at 0.125 m). [`HailCaesarConfig::integer_exponent`] corrects this alone. Friction counts the
//!   discharge along the axis only, not the two-dimensional norm, and the old one: it is semi-implicit.
//! * **Limiter.** After the Froude limit, a discharge that would take more than a quarter of its donor's water in a step is set
//!   to a fifth of it. Thin water on steep cells thus flows at a speed that the time step decides.
//! * **Edge.** The first and last faces inside the border, on all four sides, see the slope [`HailCaesarConfig::edge_slope`]
//!   outwards instead of that of the water; what stands deeper than 1 cm on border cells at the end of a step is the outflow.
//! * **Rain.** It feeds a store for each rain cell; what the stores give is put, in equal amounts, on the cells whose drainage
//!   area passes a threshold that rises and falls by factors of 3 with the runoff. Rain is read up to a minute early, the
//!   runoff follows it with a lag of half a minute to a minute, and starts at half of its value each minute. The amount is
//!   counted without the last row and column of the grid, and capped at [`HailCaesarConfig::max_input_m`] a cell and step.
//! * **Cells outside** the domain take a share of the runoff where their neighbours drain to them, and swallow it.
//! * **Drainage area** leaves out the highest cells, as many as there are around the border and outside it, less one. Where
//!   cells of equal height straddle that rank, which of them are left out is decided by GNU's `std::sort`, which is followed.
//! * **Scan list.** Only cells that had water on or beside them when last looked, every fifth step, are updated, and faces keep
//!   their discharge while both their cells are dry. Water that reaches other cells in between is lost, or made, a little.
//! * **Time step** from the deepest water of the step before, but at least 10 cm, whatever flows in; g is 9.81 m/s².
//!
//! Not reproduced: an allowed difference of in- and outflow above 0 (it stretches the step beyond what is stable), the jump of
//! the clock where a step exceeds `max_time_step` (cells of several hundred metres), water that appears outside the grid while
//! no cell has drainage enough to take the runoff, sediment.

mod config;
mod drainage;
mod gnu_sort;
mod hail_caesar;
mod routing;
mod topmodel;

pub use config::HailCaesarConfig;
pub use hail_caesar::HailCaesar;
