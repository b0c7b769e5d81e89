//! Steady subcritical flow in a channel whose bed is made for a given depth: MacDonald et al. 1997, as in SWASHES (Delestre et
//! al. 2013, Int. J. Numer. Methods Fluids 72, arXiv 1110.0288), "long channel, subcritical", without and with rain.

use ndarray::array;
use pluvial_hydro::{Boundary, Hydrograph, Place, Side};

use super::{GRAVITY, channel};

const LENGTH_M: f64 = 1000.0;
const MANNING: f64 = 0.033;

pub struct Channel {
    pub cell_size_m: f64,
    /// Mean absolute error of the computed depth.
    pub mae_m: f64,
    /// The same against the depth that solves the equations without advection: what the discretisation does.
    pub mae_without_advection_m: f64,
    /// Mean absolute difference of the two solutions: what the missing term does.
    pub advection_m: f64,
    /// How far the water in the cell with the inflow stands too high.
    pub inflow_cell_m: f64,
    /// Froude number of the solution, lowest and highest.
    pub froude: [f64; 2],
    /// Distance in m, bed, level, exact level, level without advection.
    pub profile: Vec<[f64; 5]>,
}

/// Depth and its derivative.
fn depth_m(x_m: f64) -> [f64; 2] {
    let critical_m = (4.0 / GRAVITY).powf(1.0 / 3.0);
    let s = x_m / LENGTH_M - 0.5;
    let bump = 0.5 * (-16.0 * s * s).exp();
    [
        critical_m * (1.0 + bump),
        critical_m * bump * (-32.0 * s / LENGTH_M),
    ]
}

/// Rain in m/s and inflow in m²/s of the two cases.
fn water(rain: bool) -> [f64; 2] {
    if rain { [0.001, 1.0] } else { [0.0, 2.0] }
}

fn friction_slope(q: f64, h: f64) -> f64 {
    MANNING * MANNING * q * q / h.powf(10.0 / 3.0)
}

/// Slope of the bed.
fn bed_slope(x_m: f64, rain: bool) -> f64 {
    let [rain_m_per_s, inflow] = water(rain);
    let ([h, dh], q) = (depth_m(x_m), inflow + rain_m_per_s * x_m);
    (q * q / (GRAVITY * h.powi(3)) - 1.0) * dh
        - 2.0 * q * rain_m_per_s / (GRAVITY * h * h)
        - friction_slope(q, h)
}

/// From a dry bed to the steady state, with the inflow in a cell before the first and the level given beyond the last.
pub fn run(rain: bool, cell_size_m: f64) -> Channel {
    let [rain_m_per_s, inflow] = water(rain);
    let cells = (LENGTH_M / cell_size_m) as usize;
    // Cell 0 is the one with the inflow.
    let x_m = |k: usize| (k as f64 - 0.5) * cell_size_m;

    // Upstream from beyond the end with the classical Runge-Kutta method: the bed, and the depth without advection, for which
    // dh/dx = -dz/dx - S_f.
    const SUBSTEPS: usize = 20;
    let step = cell_size_m / SUBSTEPS as f64;
    let slopes = |x: f64, h: f64| {
        let slope = bed_slope(x, rain);
        [slope, -slope - friction_slope(inflow + rain_m_per_s * x, h)]
    };
    let beyond = cells + 1;
    let mut bed_m = vec![0.0; beyond + 1];
    let mut without_m = vec![depth_m(x_m(beyond))[0]; beyond + 1];
    for k in (0..beyond).rev() {
        let (mut z, mut h) = (bed_m[k + 1], without_m[k + 1]);
        for i in 0..SUBSTEPS {
            let x = x_m(k + 1) - i as f64 * step;
            let a = slopes(x, h);
            let b = slopes(x - 0.5 * step, h - 0.5 * step * a[1]);
            let c = slopes(x - 0.5 * step, h - 0.5 * step * b[1]);
            let d = slopes(x - step, h - step * c[1]);
            let mean = |j: usize| (a[j] + 2.0 * b[j] + 2.0 * c[j] + d[j]) / 6.0;
            z -= step * mean(0);
            h -= step * mean(1);
        }
        bed_m[k] = z;
        without_m[k] = h;
    }

    // The rain that falls on the cell with the inflow is part of it.
    let boundaries = vec![
        Boundary::Inflow {
            place: Place::Cells(vec![[0, 0]]),
            discharge_m3_per_s: Hydrograph::constant(
                (inflow - rain_m_per_s * cell_size_m) * cell_size_m,
            ),
        },
        Boundary::Level {
            place: Place::Side(Side::East),
            level_m: Hydrograph::constant(bed_m[beyond] + depth_m(x_m(beyond))[0]),
        },
    ];
    let mut solver = channel(
        bed_m[..beyond].to_vec(),
        vec![0.0; beyond],
        cell_size_m,
        MANNING,
        boundaries,
    );
    let rain_mm_per_h = (3.6e6 * rain_m_per_s) as f32;
    solver
        .set_rain_mm_per_h(array![[rain_mm_per_h]].view())
        .unwrap();
    solver.advance(4.0 * 3600.0).unwrap();

    let h = |k: usize| solver.depth_m()[(0, k)];
    let exact = |k: usize| depth_m(x_m(k))[0];
    let mean = |difference: &dyn Fn(usize) -> f64| {
        (1..=cells).map(|k| difference(k).abs()).sum::<f64>() / cells as f64
    };
    let froude = (1..=cells)
        .map(|k| (inflow + rain_m_per_s * x_m(k)) / (exact(k) * (GRAVITY * exact(k)).sqrt()));
    Channel {
        cell_size_m,
        mae_m: mean(&|k| h(k) - exact(k)),
        mae_without_advection_m: mean(&|k| h(k) - without_m[k]),
        advection_m: mean(&|k| without_m[k] - exact(k)),
        inflow_cell_m: h(0) - without_m[0],
        froude: froude.fold([f64::INFINITY, 0.0], |[low, high], f| {
            [low.min(f), high.max(f)]
        }),
        profile: (1..=cells)
            .map(|k| {
                [
                    x_m(k),
                    bed_m[k],
                    bed_m[k] + h(k),
                    bed_m[k] + exact(k),
                    bed_m[k] + without_m[k],
                ]
            })
            .collect(),
    }
}
