//! Steady rain on a plane: the kinematic wave (Henderson & Wooding 1964, J. Geophys. Res. 69).

use ndarray::{Array2, array};
use pluvial_hydro::{Domain, Edge, Infiltration, Parameter, Solver, SolverConfig};

pub struct Plane {
    pub cell_size_m: f64,
    pub slope: f64,
    pub manning: f64,
    pub rain_mm_per_h: f32,
    /// Largest relative error of a steady depth.
    pub depth_error: f64,
    /// Largest error of the discharge at the foot while it rises, over the steady one.
    pub rise_error: f64,
    /// When the discharge comes to 95 % of the steady one, over when it should.
    pub rise_time: f64,
    pub equilibrium_s: f64,
    /// Time over the time of equilibrium; discharge and kinematic discharge over the steady one.
    pub hydrograph: Vec<[f64; 3]>,
    /// Distance from the divide in m, steady depth, kinematic depth (n R x / √S)^(3/5).
    pub profile: Vec<[f64; 3]>,
}

/// The planes: cell size in m, slope, Manning's n, rain in mm/h. At 500 m the friction number g Δt n² q / h^(7/3) of a step
/// is up to 80.
pub const PLANES: [(f64, f64, f64, f32); 3] = [
    (10.0, 0.01, 0.05, 50.0),
    (500.0, 0.002, 0.05, 20.0),
    (500.0, 0.004, 0.1, 2.0),
];

/// Three times the time of equilibrium (n L / (√S R^(2/3)))^(3/5) on a plane that drops into a pit at its end.
pub fn run((cell_size_m, slope, manning, rain_mm_per_h): (f64, f64, f64, f32)) -> Plane {
    const CELLS: usize = 60;
    // The fall draws down the last three cells.
    const SEEN: usize = CELLS - 3;
    let bed_m = Array2::from_shape_fn((2, CELLS + 1), |(_, col)| {
        if col < CELLS {
            slope * cell_size_m * (CELLS - col) as f64
        } else {
            -50.0
        }
    });
    let domain = Domain {
        bed_m,
        cell_size_m,
        manning: Parameter::Uniform(manning),
        edge: Edge::Closed,
        boundaries: vec![],
        infiltration: Infiltration::None,
    };
    let mut solver = Solver::new(domain, SolverConfig::default()).unwrap();
    solver
        .set_rain_mm_per_h(array![[rain_mm_per_h]].view())
        .unwrap();
    let rain = f64::from(rain_mm_per_h) / 3.6e6;
    let length_m = cell_size_m * SEEN as f64;
    let equilibrium_s = (manning * length_m / (slope.sqrt() * rain.powf(2.0 / 3.0))).powf(0.6);
    let mut hydrograph = vec![[0.0; 3]];
    for k in 1..=150 {
        solver.advance(equilibrium_s / 50.0).unwrap();
        let time = f64::from(k) / 50.0;
        let discharge = solver.discharge_east_m2_per_s()[(1, SEEN)] / (rain * length_m);
        hydrograph.push([time, discharge, time.min(1.0).powf(5.0 / 3.0)]);
    }
    let profile: Vec<_> = (0..SEEN)
        .map(|col| {
            // What crosses the eastern face of a cell has fallen on the cells up to it.
            let x_m = cell_size_m * (col + 1) as f64;
            [
                x_m,
                solver.depth_m()[(1, col)],
                (manning * rain * x_m / slope.sqrt()).powf(0.6),
            ]
        })
        .collect();
    let largest =
        |errors: &mut dyn Iterator<Item = f64>| errors.fold(0.0, |m, e| f64::max(m, e.abs()));
    let after = hydrograph
        .iter()
        .position(|point| point[1] >= 0.95)
        .unwrap_or(150);
    let [[t0, q0, _], [t1, q1, _]] = [hydrograph[after - 1], hydrograph[after]];
    Plane {
        cell_size_m,
        slope,
        manning,
        rain_mm_per_h,
        depth_error: largest(&mut profile.iter().map(|[_, h, exact]| h / exact - 1.0)),
        rise_error: largest(&mut hydrograph.iter().map(|[_, q, exact]| q - exact)),
        rise_time: (t0 + (t1 - t0) * (0.95 - q0) / (q1 - q0)) / 0.95_f64.powf(0.6),
        equilibrium_s,
        hydrograph,
        profile,
    }
}
