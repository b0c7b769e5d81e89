//! The arithmetic of one row: loops over slices of equal length, without branches, that the compiler turns into SIMD.
//!
//! Sums of opposite neighbours are written as pairs, so that a mirrored or turned problem gives the same bits.

/// Acceleration of gravity, m/s².
pub(crate) const GRAVITY: f64 = 9.80665;

/// What all faces share during one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepScalars {
    pub(crate) timestep_s: f64,
    pub(crate) cell_size_m: f64,
    pub(crate) froude_limit: f64,
    pub(crate) sheet_depth_m: f64,
    pub(crate) dry_depth_m: f64,
}

/// The faces of one row that the flow crosses in one direction, each from its cell `a` (west or north) to `b`.
#[derive(Clone, Copy)]
pub(crate) struct Faces<'a> {
    /// Unit discharge of the faces, m²/s.
    pub(crate) own: &'a [f64],
    /// Unit discharge of the next faces along the flow, before and behind.
    pub(crate) along: [&'a [f64]; 2],
    /// Unit discharge of the two faces of `a`, then of `b`, across the flow.
    pub(crate) across: [&'a [f64]; 4],
    /// Depths of `a` and `b`.
    pub(crate) depth: [&'a [f64]; 2],
    /// Beds of `a` and `b`; infinite outside the domain.
    pub(crate) bed: [&'a [f64]; 2],
}

/// Roughness of the cells on both sides of the faces.
#[derive(Clone, Copy)]
pub(crate) enum Roughness<'a> {
    Uniform(f64),
    PerCell([&'a [f64]; 2]),
}

/// New unit discharges of a row of faces, not yet limited to the water there is.
///
/// The momentum equation of de Almeida et al. 2012, whose weight θ of the face against its neighbours along the flow is
/// 1 - Δt/Δx min(|q|/h, √(g h)) as in LISFLOOD-FP 8 (Shaw et al. 2021, Geosci. Model Dev. 14): a constant θ smooths the more
/// the shorter the steps are. Friction is implicit: with N the discharge before friction, q solves q (1 + B |q|) = N,
/// B = g Δt n² / h^(7/3), for the norm of the two-dimensional vector, as Xia & Liang 2018 (Adv. Water Resour. 117) do for
/// stiff friction. With the old |q| in place of the new, thin sheets flip between two discharges unless the steps are tiny;
/// the steady states are the same. Of the vector N only the component along the flow is known; its norm is taken as
/// |N| + (|q| - |q_along|) (1 + B |q|) with the old q, which is the norm where the flow is steady, in any direction.
#[inline(always)]
pub(crate) fn discharges(
    out: &mut [f64],
    faces: Faces,
    roughness: Roughness,
    scalars: &StepScalars,
) {
    match roughness {
        Roughness::Uniform(n) => discharges_with(out, faces, scalars, |_| n),
        Roughness::PerCell([a, b]) => {
            let (a, b) = (&a[..out.len()], &b[..out.len()]);
            discharges_with(out, faces, scalars, |i| 0.5 * (a[i] + b[i]));
        }
    }
}

#[inline(always)]
fn discharges_with(
    out: &mut [f64],
    faces: Faces,
    scalars: &StepScalars,
    manning: impl Fn(usize) -> f64,
) {
    let n = out.len();
    let own = &faces.own[..n];
    let [before, behind] = faces.along.map(|s| &s[..n]);
    let [a0, a1, b0, b1] = faces.across.map(|s| &s[..n]);
    let [depth_a, depth_b] = faces.depth.map(|s| &s[..n]);
    let [bed_a, bed_b] = faces.bed.map(|s| &s[..n]);
    let &StepScalars {
        timestep_s,
        cell_size_m,
        froude_limit,
        sheet_depth_m,
        dry_depth_m,
    } = scalars;
    let gravity_step = GRAVITY * timestep_s;
    let half_step = 0.5 * (timestep_s / cell_size_m);
    let gravity_slope = GRAVITY * (timestep_s / cell_size_m);
    let gravity_sqrt = GRAVITY.sqrt();
    // Outside the domain this is inf - inf: not a number, hence not wet.
    let flow_depth =
        |i: usize| max(bed_a[i] + depth_a[i], bed_b[i] + depth_b[i]) - max(bed_a[i], bed_b[i]);
    // In two loops: in one, a face's operations depend on each other over more cycles than can be filled with other faces.
    for (i, root) in out.iter_mut().enumerate() {
        let h = flow_depth(i);
        *root = inverse_sixth_root(if h > dry_depth_m { h } else { 1.0 });
    }
    for i in 0..n {
        let drop = (bed_b[i] + depth_b[i]) - (bed_a[i] + depth_a[i]);
        let flow_depth = flow_depth(i);
        let wet = flow_depth > dry_depth_m;
        let h = if wet { flow_depth } else { 1.0 };

        let n2 = manning(i) * manning(i);
        let root = out[i];
        let root2 = root * root;
        let root6 = root2 * root2 * root2; // 1 / h
        let friction = gravity_step * n2 * (root6 * root6 * root2);
        let wave_speed = gravity_sqrt * (h * (root2 * root));

        let across = 0.25 * ((a0[i] + a1[i]) + (b0[i] + b1[i]));
        let norm = (own[i] * own[i] + across * across).sqrt();
        let smoothing = half_step * min(own[i].abs() * root6, wave_speed); // (1 - θ) / 2
        let smoothed = own[i] + smoothing * ((before[i] + behind[i]) - (own[i] + own[i]));
        let tentative = smoothed - gravity_slope * h * drop;
        let norm_before_friction =
            tentative.abs() + (norm - own[i].abs()) * (1.0 + friction * norm);
        let q = tentative / (0.5 + (0.25 + friction * norm_before_friction).sqrt());

        let critical = froude_limit * h * wave_speed;
        let limit = if h > sheet_depth_m {
            critical
        } else {
            f64::INFINITY
        };
        let q = max(min(q, limit), -limit);
        out[i] = if wet { q } else { 0.0 };
    }
}

/// The share of its outflow that each cell of a row can give: min(1, h Δx / (Δt Σ q_out)). Returns whether any is below 1.
#[inline(always)]
pub(crate) fn shares(
    out: &mut [f64],
    depth: &[f64],
    [west, east, north, south]: [&[f64]; 4],
    scalars: &StepScalars,
) -> bool {
    let n = out.len();
    let (depth, west, east, north, south) = (
        &depth[..n],
        &west[..n],
        &east[..n],
        &north[..n],
        &south[..n],
    );
    let step = scalars.timestep_s / scalars.cell_size_m;
    let demand = |i: usize| {
        let outflow =
            (max(east[i], 0.0) + max(-west[i], 0.0)) + (max(south[i], 0.0) + max(-north[i], 0.0));
        step * outflow
    };
    let mut limited = false;
    for i in 0..n {
        limited |= demand(i) > depth[i];
        out[i] = 1.0;
    }
    // Most rows need none of the divisions.
    if limited {
        for i in 0..n {
            let demand = demand(i);
            out[i] = if demand > depth[i] {
                depth[i] / demand
            } else {
                1.0
            };
        }
    }
    limited
}

/// Scales each tentative discharge by the share of the cell that it comes from.
#[inline(always)]
pub(crate) fn limit(out: &mut [f64], tentative: &[f64], shares_a: &[f64], shares_b: &[f64]) {
    let n = out.len();
    let (tentative, shares_a, shares_b) = (&tentative[..n], &shares_a[..n], &shares_b[..n]);
    for i in 0..n {
        // One of the two is 0. A choice between the shares would become scattered loads.
        out[i] = max(tentative[i], 0.0) * shares_a[i] + min(tentative[i], 0.0) * shares_b[i];
    }
}

/// New depths of a row from the discharges around its cells (west, east, north, south).
#[inline(always)]
pub(crate) fn fill(
    depth: &mut [f64],
    [west, east, north, south]: [&[f64]; 4],
    scalars: &StepScalars,
) {
    let n = depth.len();
    let (west, east, north, south) = (&west[..n], &east[..n], &north[..n], &south[..n]);
    let step = scalars.timestep_s / scalars.cell_size_m;
    for i in 0..n {
        let flowed = depth[i] + step * ((west[i] - east[i]) + (north[i] - south[i]));
        // The limiter leaves nothing below zero but round-off.
        depth[i] = max(flowed, 0.0);
    }
}

/// As [`fill`], and rain (m/s).
#[inline(always)]
pub(crate) fn fill_with_rain(
    depth: &mut [f64],
    [west, east, north, south]: [&[f64]; 4],
    rain: &[f64],
    scalars: &StepScalars,
) {
    let n = depth.len();
    let (west, east, north, south, rain) =
        (&west[..n], &east[..n], &north[..n], &south[..n], &rain[..n]);
    let step = scalars.timestep_s / scalars.cell_size_m;
    for i in 0..n {
        let flowed = depth[i] + step * ((west[i] - east[i]) + (north[i] - south[i]));
        depth[i] = max(flowed, 0.0) + scalars.timestep_s * rain[i];
    }
}

/// Sums over a row, in lanes that depend on the column alone, so that they do not depend on where loops begin and end.
pub(crate) const LANES: usize = 8;

/// Runs `take(i)` for the cells of a row from column `first` on, and adds what it returns to the lanes.
#[inline(always)]
fn sum_into(
    lanes: &mut [f64; LANES],
    first: usize,
    cells: usize,
    mut take: impl FnMut(usize) -> f64,
) {
    let head = (first.next_multiple_of(LANES) - first).min(cells);
    for i in 0..head {
        lanes[(first + i) % LANES] += take(i);
    }
    let whole = (cells - head) / LANES * LANES;
    for start in (head..head + whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += take(start + lane);
        }
    }
    for i in head + whole..cells {
        lanes[(first + i) % LANES] += take(i);
    }
}

/// Takes up to `loss_m` from each cell of a row from column `first` on; adds what was taken to the lanes.
#[inline(always)]
pub(crate) fn infiltrate(depth: &mut [f64], loss_m: f64, first: usize, lanes: &mut [f64; LANES]) {
    sum_into(lanes, first, depth.len(), |i| {
        let loss = min(loss_m, depth[i]);
        depth[i] -= loss;
        loss
    });
}

/// Takes from each cell what Green and Ampt's ground takes up in a step, no more than is there, and adds it to `infiltrated`
/// and to the lanes.
///
/// The capacity is that of the front in the middle of the step, ΔF = K Δt (1 + S / (F + ΔF/2)) with S = ψ Δθ, solved for ΔF
/// (Downer & Ogden 2006, GSSHA user's manual, section 6.2): of second order, and ΔF → √(2 S K Δt) for the first water on dry
/// ground, as it should.
#[inline(always)]
pub(crate) fn green_ampt(
    depth: &mut [f64],
    infiltrated: &mut [f64],
    [conductivity, storage]: [&[f64]; 2],
    timestep_s: f64,
    first: usize,
    lanes: &mut [f64; LANES],
) {
    let n = depth.len();
    let (infiltrated, conductivity, storage) =
        (&mut infiltrated[..n], &conductivity[..n], &storage[..n]);
    sum_into(lanes, first, n, |i| {
        let gravity = conductivity[i] * timestep_s;
        let a = 0.5 * gravity - infiltrated[i];
        let capacity = a + (a * a + 2.0 * gravity * (infiltrated[i] + storage[i])).sqrt();
        let loss = min(capacity, depth[i]);
        depth[i] -= loss;
        infiltrated[i] += loss;
        loss
    });
}

/// The largest of some values that are not negative; 0 if there are none.
#[inline(always)]
pub(crate) fn largest(values: &[f64]) -> f64 {
    // Several running maxima, since the order of a single one forbids SIMD.
    let mut lanes = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder().iter().fold(0.0, |m, v| max(m, *v));
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = max(*lane, *value);
        }
    }
    lanes.into_iter().fold(rest, max)
}

/// Discharge of uniform flow over an edge, m²/s: Froude-limited, and no more than the cell holds. `conveyance` is √S / n.
#[inline(always)]
pub(crate) fn free_outflow(depth: f64, conveyance: f64, scalars: &StepScalars) -> f64 {
    if depth <= scalars.dry_depth_m {
        return 0.0;
    }
    let root = inverse_sixth_root(depth);
    let uniform = depth * depth * (root * root) * conveyance;
    let critical = if depth > scalars.sheet_depth_m {
        scalars.froude_limit * depth * (GRAVITY * depth).sqrt()
    } else {
        f64::INFINITY
    };
    min(
        min(uniform, critical),
        depth * (scalars.cell_size_m / scalars.timestep_s),
    )
}

/// Velocity to the east and south in m/s at the centre of a cell: the mean discharge of opposite faces (west, east, north,
/// south) over the depth.
#[inline(always)]
pub(crate) fn velocity(depth: f64, [west, east, north, south]: [f64; 4]) -> [f64; 2] {
    let per_depth = 0.5 / max(depth, f64::MIN_POSITIVE);
    [(west + east) * per_depth, (north + south) * per_depth]
}

/// x^(-1/6) of a positive, normal x to round-off, without a division or a call. Its powers are all that friction
/// (h^(-7/3)), speed (h^(-1)) and waves (h^(1/2)) need.
///
/// A guess from the exponent bits (error below 3 %), then two steps of the series of (1 - e)^(-1/6), e = 1 - x s⁶, to the
/// third order.
#[inline(always)]
pub(crate) fn inverse_sixth_root(x: f64) -> f64 {
    // On the upper half of the bits: a sixth of it is a 32-bit product, which every SIMD set has.
    const GUESS: u64 = 0x4a97_0d08;
    let sixth = ((x.to_bits() >> 32) * 0x2aaa_aaab) >> 32;
    let mut s = f64::from_bits((GUESS - sixth) << 32);
    for _ in 0..2 {
        let s2 = s * s;
        let e = 1.0 - x * (s2 * s2 * s2);
        s += s * e * (1.0 / 6.0 + e * (7.0 / 72.0 + e * (91.0 / 1296.0)));
    }
    s
}

// f64::max and min treat NaN in a way that costs instructions; these are one each.
#[inline(always)]
fn max(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

#[inline(always)]
fn min(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_sixth_root_is_exact_to_round_off() {
        let mut x = 1e-12;
        while x < 1e12 {
            let error = (inverse_sixth_root(x) * x.powf(1.0 / 6.0) - 1.0).abs();
            assert!(error < 2e-15, "{x}: {error}");
            x *= 1.000_37;
        }
    }

    #[test]
    fn largest_sees_every_lane_and_the_rest() {
        for i in 0..19 {
            let mut values = [0.25; 19];
            values[i] = 3.0;
            assert_eq!(largest(&values), 3.0);
        }
        assert_eq!(largest(&[]), 0.0);
    }

    #[test]
    fn steady_flow_has_mannings_discharge_in_any_direction() {
        // On a tilted plane the steps settle at |q| = h^(5/3) √S / n along the slope: 2-D friction without grid direction.
        let scalars = StepScalars {
            timestep_s: 60.0,
            cell_size_m: 500.0,
            froude_limit: 1.0,
            sheet_depth_m: 0.0,
            dry_depth_m: 1e-4,
        };
        for (slope_x, slope_y) in [(0.002, 0.0), (0.002, 0.002), (0.003, 0.0005)] {
            for h in [0.002, 0.05, 1.5] {
                let (mut qx, mut qy) = ([0.0], [0.0]);
                for _ in 0..400 {
                    let (old_x, old_y) = (qx, qy);
                    for (out, own, across, slope) in [
                        (&mut qx, &old_x, &old_y, slope_x),
                        (&mut qy, &old_y, &old_x, slope_y),
                    ] {
                        // The bed drops between the cells, so the flow depth is that of the upper one.
                        let (depth, upper, lower) = ([h], [500.0 * slope], [0.0]);
                        let faces = Faces {
                            own,
                            along: [own; 2],
                            across: [across; 4],
                            depth: [&depth; 2],
                            bed: [&upper, &lower],
                        };
                        discharges(out, faces, Roughness::Uniform(0.04), &scalars);
                    }
                }
                let slope = f64::hypot(slope_x, slope_y);
                let manning = f64::powf(h, 5.0 / 3.0) * slope.sqrt() / 0.04;
                assert!(
                    (f64::hypot(qx[0], qy[0]) / manning - 1.0).abs() < 1e-6,
                    "{h} {slope_x} {slope_y} {qx:?} {qy:?}"
                );
                assert!((qx[0] * slope_y - qy[0] * slope_x).abs() < 1e-6 * manning * slope);
            }
        }
    }
}
