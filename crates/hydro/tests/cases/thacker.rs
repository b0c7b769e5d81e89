//! A planar water surface that rocks in a parabolic basin without friction: Thacker 1981 (J. Fluid Mech. 107), one-dimensional
//! as in SWASHES.

use std::f64::consts::TAU;

use super::{GRAVITY, channel};

const DEPTH_M: f64 = 10.0;
const HALF_WIDTH_M: f64 = 3000.0;
const CELL_SIZE_M: f64 = 20.0;
const PERIODS: usize = 4;

pub struct Basin {
    /// How far the water is moved out of the middle, over the half width of its surface.
    pub shift: f64,
    /// Measured period over the exact one, which is also that of small waves without advection.
    pub period: f64,
    /// Swing of the centre of mass in the last half period, over the first.
    pub amplitude: f64,
    pub mass_error: f64,
    /// Time over the exact period; place of the centre of mass, computed and exact, over the half width.
    pub swing: Vec<[f64; 3]>,
    /// After half a period: distance from the middle in m, bed, level, exact level.
    pub profile: Vec<[f64; 4]>,
}

/// The period 2π a / √(2 g h₀) of Thacker's solution for any amplitude. Without advection, small waves of the form
/// η = A x have q = Q (1 - x²/a²), A' = 2 Q / a² and Q' = -g h₀ A, hence the same one.
pub fn period_s() -> f64 {
    TAU * HALF_WIDTH_M / (2.0 * GRAVITY * DEPTH_M).sqrt()
}

pub fn run(shift: f64) -> Basin {
    let cells = (3.0 * HALF_WIDTH_M / CELL_SIZE_M) as usize;
    let x_m = |k: usize| (k as f64 + 0.5 - 0.5 * cells as f64) * CELL_SIZE_M;
    let exact = |x: f64, time: f64| {
        let s = x / HALF_WIDTH_M - shift * (TAU * time).cos();
        (DEPTH_M * (1.0 - s * s)).max(0.0)
    };
    let bed_m: Vec<_> = (0..cells)
        .map(|k| DEPTH_M * (x_m(k) / HALF_WIDTH_M).powi(2))
        .collect();
    let start = (0..cells).map(|k| exact(x_m(k), 0.0)).collect();
    let mut solver = channel(bed_m.clone(), start, CELL_SIZE_M, 0.0, vec![]);

    const SAMPLES: usize = 200;
    let mut swing = vec![[0.0, shift, shift]];
    let mut profile = vec![];
    for sample in 1..=PERIODS * SAMPLES {
        solver.advance(period_s() / SAMPLES as f64).unwrap();
        let time = sample as f64 / SAMPLES as f64;
        let h = solver.depth_m().row(0);
        let moment: f64 = h.iter().enumerate().map(|(k, h)| x_m(k) * h).sum();
        swing.push([
            time,
            moment / h.sum() / HALF_WIDTH_M,
            shift * (TAU * time).cos(),
        ]);
        if sample == SAMPLES / 2 {
            profile = (0..cells)
                .map(|k| {
                    [
                        x_m(k),
                        bed_m[k],
                        bed_m[k] + h[k],
                        bed_m[k] + exact(x_m(k), time),
                    ]
                })
                .collect();
        }
    }
    let crossings: Vec<f64> = swing
        .windows(2)
        .filter(|pair| (pair[0][1] > 0.0) != (pair[1][1] > 0.0))
        .map(|pair| pair[0][0] + (pair[1][0] - pair[0][0]) * pair[0][1] / (pair[0][1] - pair[1][1]))
        .collect();
    let last = swing[swing.len() - SAMPLES / 2..]
        .iter()
        .fold(0.0, |m: f64, s| m.max(s[1].abs()));
    Basin {
        shift,
        period: 2.0 * (crossings[crossings.len() - 1] - crossings[0])
            / (crossings.len() - 1) as f64,
        amplitude: last / shift,
        mass_error: solver.mass_balance().relative_error(),
        swing,
        profile,
    }
}
