//! The moving wetting front on a flat bed: Hunter, Horritt, Bates, Wilson & Werner 2005 (Adv. Water Resour. 28), with which
//! Bates et al. 2010 test the scheme.

use pluvial_hydro::{Beyond, Boundary, Hydrograph, Place, Side};

use super::{GRAVITY, channel, root};

const SPEED_M_PER_S: f64 = 0.4;
pub const DURATION_S: f64 = 500.0;
pub const CELL_SIZES_M: [f64; 5] = [50.0, 25.0, 12.5, 6.25, 3.125];

/// Which equations the front is a solution of.
#[derive(Clone, Copy, PartialEq)]
pub enum Equations {
    ShallowWater,
    WithoutAdvection,
}

pub struct Front {
    pub cell_size_m: f64,
    /// Over the cells that are wet, in truth or as computed.
    pub rmse_m: f64,
    /// Distance in m, depth and exact depth of the cells.
    pub profile: Vec<[f64; 3]>,
}

/// Depth of a front that moves at the constant speed u, at the time t and the distance x.
///
/// In the shallow water equations all of the water has the speed u, so that friction and slope alone are in balance:
/// h = (7/3 n² u² (u t - x))^(3/7). Without advection q = u h leaves (g h - u²) h_x = -g n² u² h^(-1/3), hence
/// 3/7 h^(7/3) - 3/4 u²/g h^(4/3) = n² u² (u t - x) + C behind a bore of the depth 2 u²/g, for which s² = g h / 2.
pub fn exact_m(equations: Equations, manning: f64, x_m: f64, time_s: f64) -> f64 {
    let u = SPEED_M_PER_S;
    let behind_m = u * time_s - x_m;
    if behind_m <= 0.0 {
        return 0.0;
    }
    let drag = manning * manning * u * u * behind_m;
    match equations {
        Equations::ShallowWater => (7.0 / 3.0 * drag).powf(3.0 / 7.0),
        Equations::WithoutAdvection => {
            let head = u * u / GRAVITY;
            let left = |h: f64| 3.0 / 7.0 * h.powf(7.0 / 3.0) - 0.75 * head * h.powf(4.0 / 3.0);
            root(2.0 * head, 10.0, |h| left(h) - left(2.0 * head) - drag)
        }
    }
}

/// The front that a rising level at the western edge drives.
pub fn run(equations: Equations, manning: f64, cell_size_m: f64) -> Front {
    let cells = (400.0 / cell_size_m) as usize;
    // The level stands a half cell beyond the edge, where the front has been before time 0.
    let points = (0..=DURATION_S as usize)
        .map(|t| {
            (
                t as f64,
                exact_m(equations, manning, -0.5 * cell_size_m, t as f64),
            )
        })
        .collect();
    let level = Boundary::Level {
        place: Place::Side(Side::West),
        level_m: Hydrograph {
            points,
            beyond: Beyond::Hold,
        },
    };
    let mut solver = channel(
        vec![0.0; cells],
        vec![0.0; cells],
        cell_size_m,
        manning,
        vec![level],
    );
    solver.advance(DURATION_S).unwrap();
    let profile: Vec<_> = solver
        .depth_m()
        .iter()
        .enumerate()
        .map(|(k, h)| {
            let x_m = (k as f64 + 0.5) * cell_size_m;
            [x_m, *h, exact_m(equations, manning, x_m, DURATION_S)]
        })
        .collect();
    let wet: Vec<_> = profile
        .iter()
        .filter(|[_, h, exact]| h.max(*exact) > 0.0)
        .collect();
    let squares: f64 = wet.iter().map(|[_, h, exact]| (h - exact).powi(2)).sum();
    Front {
        cell_size_m,
        rmse_m: (squares / wet.len() as f64).sqrt(),
        profile,
    }
}
