//! A dam that vanishes: on a dry bed (Ritter 1892), on a wet one (Stoker 1957), and with friction.

use super::{GRAVITY, channel, root};

const HALF_LENGTH_M: f64 = 1500.0;

/// Depths behind and before the dam, roughness, and when to look.
#[derive(Clone, Copy)]
pub struct Dam {
    pub left_m: f64,
    pub right_m: f64,
    pub manning: f64,
    pub time_s: f64,
}

pub const DRY: Dam = Dam {
    left_m: 2.0,
    right_m: 0.0,
    manning: 0.0,
    time_s: 100.0,
};
pub const WET: Dam = Dam {
    right_m: 0.5,
    ..DRY
};
pub const DRY_ROUGH: Dam = Dam {
    manning: 0.05,
    time_s: 600.0,
    ..DRY
};

pub struct Break {
    pub mass_error: f64,
    /// Mean error of the depth over the mean change that the dam break has made: against the solution of the shallow water
    /// equations (for rough beds, that of [`reference`]), and of the equations without advection where friction allows one.
    pub error: f64,
    pub error_without_advection: Option<f64>,
    /// Where the water in front is `FRONT_M` deeper than it was: computed, and in the solution of the shallow water equations.
    pub front_m: [f64; 2],
    /// Distance from the dam in m, depth, and the two solutions (the second NaN on rough beds).
    pub profile: Vec<[f64; 4]>,
}

const FRONT_M: f64 = 0.05;

/// The depth of the shallow water equations without friction at x / t: Ritter's, and Stoker's.
fn exact_m(dam: Dam, speed: f64) -> f64 {
    let c0 = (GRAVITY * dam.left_m).sqrt();
    let fan = |c: f64| (2.0 * c0 - c) / 3.0;
    if speed < -c0 {
        return dam.left_m;
    }
    if dam.right_m == 0.0 {
        return fan(speed).max(0.0).powi(2) / GRAVITY;
    }
    // A bore that the rarefaction feeds: u = 2 (c₀ - c) = (h - h_r) √(g (h + h_r) / (2 h h_r)).
    let bore =
        |h: f64| (h - dam.right_m) * (0.5 * GRAVITY * (h + dam.right_m) / (h * dam.right_m)).sqrt();
    let middle_m = root(dam.right_m, dam.left_m, |h| {
        2.0 * (c0 - (GRAVITY * h).sqrt()) - bore(h)
    });
    let (u, c) = (bore(middle_m), (GRAVITY * middle_m).sqrt());
    if speed < u - c {
        fan(speed).powi(2) / GRAVITY
    } else if speed < u * middle_m / (middle_m - dam.right_m) {
        middle_m
    } else {
        dam.right_m
    }
}

/// The same of the equations without advection, h_t + q_x = 0 and q_t + (g h² / 2)_x = 0: waves of the speeds ±√(g h), so that
/// q + 2/3 √g h^(3/2) is constant across the rarefaction, and a bore with s Δh = Δq and s Δq = Δ(g h² / 2).
fn without_advection_m(dam: Dam, speed: f64) -> f64 {
    let sum = |h: f64| 2.0 / 3.0 * GRAVITY.sqrt() * h.powf(1.5);
    let bore = |h: f64| (0.5 * GRAVITY * (h + dam.right_m)).sqrt();
    let middle_m = root(dam.right_m, dam.left_m, |h| {
        sum(dam.left_m) - sum(h) - bore(h) * (h - dam.right_m)
    });
    let celerity = |h: f64| (GRAVITY * h).sqrt();
    if speed < -celerity(dam.left_m) {
        dam.left_m
    } else if speed < -celerity(middle_m) {
        speed * speed / GRAVITY
    } else if speed < bore(middle_m) {
        middle_m
    } else {
        dam.right_m
    }
}

/// Depths of the shallow water equations with advection and friction on a flat bed between walls, by the finite volumes of
/// Harten, Lax and van Leer, of the first order in cells of `cell_size_m` on both sides of the dam.
fn reference(dam: Dam, cell_size_m: f64) -> Vec<f64> {
    const DRY_M: f64 = 1e-6;
    let mut water = start(dam, cell_size_m)
        .map(|h| [h, 0.0])
        .collect::<Vec<[f64; 2]>>();
    let cells = water.len();
    let speeds = |[h, q]: [f64; 2]| [if h > DRY_M { q / h } else { 0.0 }, (GRAVITY * h).sqrt()];
    let flux = |l: [f64; 2], r: [f64; 2]| {
        let ([ul, cl], [ur, cr]) = (speeds(l), speeds(r));
        // Over a dry bed the front runs at u + 2 c.
        let right = if r[0] > DRY_M {
            (ur + cr).max(ul + cl)
        } else {
            ul + 2.0 * cl
        };
        let (left, right) = ((ul - cl).min(ur - cr).min(0.0), right.max(0.0));
        if left == right {
            return [0.0; 2];
        }
        let of = |[h, q]: [f64; 2], u: f64| [q, q * u + 0.5 * GRAVITY * h * h];
        let (fl, fr) = (of(l, ul), of(r, ur));
        [0, 1]
            .map(|i| (right * fl[i] - left * fr[i] + left * right * (r[i] - l[i])) / (right - left))
    };
    let mirrored = |[h, q]: [f64; 2]| [h, -q];
    let mut time_s = 0.0;
    while time_s < dam.time_s {
        let fastest = water.iter().fold(0.0, |m: f64, w| {
            let [u, c] = speeds(*w);
            m.max(u.abs() + c)
        });
        let step_s = (0.9 * cell_size_m / fastest).min(dam.time_s - time_s);
        let fluxes: Vec<_> = (0..=cells)
            .map(|face| match face {
                0 => flux(mirrored(water[0]), water[0]),
                face if face == cells => flux(water[cells - 1], mirrored(water[cells - 1])),
                face => flux(water[face - 1], water[face]),
            })
            .collect();
        for (cell, faces) in water.iter_mut().zip(fluxes.windows(2)) {
            for i in 0..2 {
                cell[i] += step_s / cell_size_m * (faces[0][i] - faces[1][i]);
            }
            let [h, q] = *cell;
            cell[1] = if h > DRY_M {
                q / (1.0 + step_s * GRAVITY * dam.manning.powi(2) * q.abs() / h.powf(7.0 / 3.0))
            } else {
                0.0
            };
        }
        time_s += step_s;
    }
    water.iter().map(|w| w[0]).collect()
}

/// The depths before the dam breaks.
fn start(dam: Dam, cell_size_m: f64) -> impl Iterator<Item = f64> {
    let half = (HALF_LENGTH_M / cell_size_m) as usize;
    (0..2 * half).map(move |k| if k < half { dam.left_m } else { dam.right_m })
}

/// Relative error of the reference where the solution is known.
pub fn reference_error(dam: Dam) -> f64 {
    let cell_size_m = 2.5;
    let h = reference(dam, cell_size_m);
    let exact: Vec<_> = (0..h.len())
        .map(|k| exact_m(dam, distance_m(k, cell_size_m) / dam.time_s))
        .collect();
    relative_error(dam, &h, &exact)
}

/// From the dam to the middle of a cell.
fn distance_m(k: usize, cell_size_m: f64) -> f64 {
    (k as f64 + 0.5) * cell_size_m - HALF_LENGTH_M
}

/// Σ |h - exact| / Σ |exact - start|.
fn relative_error(dam: Dam, h: &[f64], exact: &[f64]) -> f64 {
    let start = start(dam, 2.0 * HALF_LENGTH_M / h.len() as f64);
    let error: f64 = h.iter().zip(exact).map(|(h, e)| (h - e).abs()).sum();
    let change: f64 = exact
        .iter()
        .zip(start)
        .map(|(e, start)| (e - start).abs())
        .sum();
    error / change
}

pub fn run(dam: Dam, cell_size_m: f64) -> Break {
    let start: Vec<_> = start(dam, cell_size_m).collect();
    let cells = start.len();
    let mut solver = channel(vec![0.0; cells], start, cell_size_m, dam.manning, vec![]);
    solver.advance(dam.time_s).unwrap();
    let x_m = |k: usize| distance_m(k, cell_size_m);
    let rough = dam.manning > 0.0;
    let exact: Vec<f64> = if rough {
        const FINER: usize = 4;
        reference(dam, cell_size_m / FINER as f64)
            .chunks(FINER)
            .map(|h| h.iter().sum::<f64>() / FINER as f64)
            .collect()
    } else {
        (0..cells)
            .map(|k| exact_m(dam, x_m(k) / dam.time_s))
            .collect()
    };
    let without: Vec<f64> = if rough {
        vec![f64::NAN; cells]
    } else {
        (0..cells)
            .map(|k| without_advection_m(dam, x_m(k) / dam.time_s))
            .collect()
    };
    let h = solver.depth_m().row(0).to_vec();
    let front_m = |h: &[f64]| {
        let last = h
            .iter()
            .rposition(|h| *h > dam.right_m + FRONT_M)
            .unwrap_or(0);
        x_m(last) + 0.5 * cell_size_m
    };
    Break {
        mass_error: solver.mass_balance().relative_error(),
        error: relative_error(dam, &h, &exact),
        error_without_advection: (!rough).then(|| relative_error(dam, &h, &without)),
        front_m: [front_m(&h), front_m(&exact)],
        profile: (0..cells)
            .map(|k| [x_m(k), h[k], exact[k], without[k]])
            .collect(),
    }
}
