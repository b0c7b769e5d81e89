//! The arithmetic of one row of faces or cells, without branches, that the compiler turns into SIMD.

use crate::kernel::inverse_sixth_root;

/// Acceleration of gravity as the program has it, m/s².
pub(crate) const GRAVITY: f64 = 9.81;

/// What all faces share during one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepScalars {
    pub(crate) timestep_s: f64,
    pub(crate) cell_size_m: f64,
    pub(crate) froude_limit: f64,
    pub(crate) flow_threshold_m: f64,
    /// Square of Manning's n.
    pub(crate) manning2: f64,
    pub(crate) integer_exponent: bool,
}

/// The cells on both sides of the faces of one row: `a` (west or north) and `b` (east or south).
#[derive(Clone, Copy)]
pub(crate) struct Sides<'a> {
    /// Beds; NaN outside the domain.
    pub(crate) bed: [&'a [f64]; 2],
    pub(crate) depth: [&'a [f64]; 2],
    /// Whether `b`, to which the face belongs, is on the scan list: 1 or 0.
    pub(crate) listed: &'a [f64],
}

/// New unit discharges of a row of faces, m²/s, positive from `a` to `b`. `edge_slope` stands in for the slope of the water
/// (η_b - η_a) / Δx on faces beside the border.
///
/// Bates et al. 2010, equation 12: q ← (q - g h Δt ∂η/∂x) / (1 + g h Δt n² |q| / h^(10/3)), then the limits of Froude number
/// and volume.
#[inline(always)]
pub(crate) fn discharges(
    q: &mut [f64],
    sides: Sides,
    edge_slope: Option<f64>,
    scalars: &StepScalars,
) {
    match (scalars.integer_exponent, edge_slope) {
        (true, None) => update(q, sides, scalars, cube, |slope| slope),
        (true, Some(edge)) => update(q, sides, scalars, cube, |_| edge),
        (false, None) => update(q, sides, scalars, ten_thirds, |slope| slope),
        (false, Some(edge)) => update(q, sides, scalars, ten_thirds, |_| edge),
    }
}

/// h^3 / h.
#[inline(always)]
fn cube(h: f64) -> f64 {
    h * h
}

/// h^(10/3) / h.
#[inline(always)]
fn ten_thirds(h: f64) -> f64 {
    let root = inverse_sixth_root(h);
    let root2 = root * root;
    h * h * h * (root2 * root2)
}

#[inline(always)]
fn update(
    q: &mut [f64],
    sides: Sides,
    scalars: &StepScalars,
    power: impl Fn(f64) -> f64,
    slope: impl Fn(f64) -> f64,
) {
    let n = q.len();
    let [bed_a, bed_b] = sides.bed.map(|s| &s[..n]);
    let [depth_a, depth_b] = sides.depth.map(|s| &s[..n]);
    let listed = &sides.listed[..n];
    let &StepScalars {
        timestep_s,
        cell_size_m,
        froude_limit,
        flow_threshold_m,
        manning2,
        ..
    } = scalars;
    let gravity_step = GRAVITY * timestep_s;
    let per_m = 1.0 / cell_size_m;
    let per_cell = timestep_s / cell_size_m;
    let fifth = cell_size_m / 5.0 / timestep_s;
    for i in 0..n {
        let (h_a, h_b) = (depth_a[i], depth_b[i]);
        let (level_a, level_b) = (bed_a[i] + h_a, bed_b[i] + h_b);
        // NaN outside the domain, hence not deep enough.
        let flow_depth = max(level_a, level_b) - max(bed_a[i], bed_b[i]);
        let flows = flow_depth > flow_threshold_m;
        let h = if flows { flow_depth } else { 1.0 };

        let old = q[i];
        let pull = gravity_step * h * slope((level_b - level_a) * per_m);
        // Both sides of the fraction times h^(10/3) / h: one division, which is what a face costs.
        let power = power(h);
        let new = (old - pull) * power / (power + gravity_step * manning2 * old.abs());
        let fastest = h * ((GRAVITY * h).sqrt() * froude_limit);
        let new = max(min(new, fastest), -fastest);
        // One after the other: where round-off has left a depth below zero, the first turns the flow round.
        let new = if (new > 0.0) & (new * per_cell > h_a / 4.0) {
            h_a * fifth
        } else {
            new
        };
        let new = if (new < 0.0) & (-new * per_cell > h_b / 4.0) {
            -h_b * fifth
        } else {
            new
        };
        let new = if flows { new } else { 0.0 };

        let computed = (listed[i] > 0.0) & ((h_a > 0.0) | (h_b > 0.0));
        q[i] = if computed { new } else { old };
    }
}

/// New depths of a row from the discharges around its cells (west, east, north, south), where the cells are listed; the largest
/// of these goes to `deepest`.
#[inline(always)]
pub(crate) fn fill(
    depth: &mut [f64],
    [west, east, north, south]: [&[f64]; 4],
    listed: &[f64],
    deepest: &mut [f64],
    scalars: &StepScalars,
) {
    let n = depth.len();
    let [west, east, north, south] = [west, east, north, south].map(|s| &s[..n]);
    let (listed, deepest) = (&listed[..n], &mut deepest[..n]);
    let per_cell = scalars.timestep_s / scalars.cell_size_m;
    for i in 0..n {
        let gain = per_cell * (((north[i] - south[i]) - east[i]) + west[i]);
        let new = depth[i] + gain;
        depth[i] = if listed[i] > 0.0 { new } else { depth[i] };
        let counted = if listed[i] > 0.0 { new } else { 0.0 };
        deepest[i] = max(deepest[i], counted);
    }
}

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

    fn settle(
        h: f64,
        slope: f64,
        integer_exponent: bool,
        timestep_s: f64,
        cell_size_m: f64,
    ) -> f64 {
        let scalars = StepScalars {
            timestep_s,
            cell_size_m,
            froude_limit: 0.8,
            flow_threshold_m: 1e-5,
            manning2: 0.04 * 0.04,
            integer_exponent,
        };
        let mut q = [0.0];
        for _ in 0..2000 {
            let sides = Sides {
                bed: [&[slope * cell_size_m], &[0.0]],
                depth: [&[h], &[h]],
                listed: &[1.0],
            };
            discharges(&mut q, sides, None, &scalars);
        }
        q[0]
    }

    #[test]
    fn steady_flow_is_mannings_with_the_exponent_of_the_setting() {
        for h in [0.05_f64, 0.4, 2.0] {
            let uniform = h.powf(5.0 / 3.0) * 0.001_f64.sqrt() / 0.04;
            assert!((settle(h, 0.001, false, 1.0, 50.0) / uniform - 1.0).abs() < 1e-9);
            // h^3 in place of h^(10/3): the discharge is h^(3/2) √S / n.
            let integer = h.powf(1.5) * 0.001_f64.sqrt() / 0.04;
            assert!((settle(h, 0.001, true, 1.0, 50.0) / integer - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn steep_flow_stops_at_the_froude_limit_and_long_steps_at_a_fifth_of_the_cell() {
        let critical = 0.5 * (GRAVITY * 0.5_f64).sqrt();
        assert!((settle(0.5, 0.3, true, 1.0, 50.0) / (0.8 * critical) - 1.0).abs() < 1e-12);
        assert!(
            (settle(0.5, 0.3, true, 10.0, 50.0) / (0.5 * 50.0 / 5.0 / 10.0) - 1.0).abs() < 1e-12
        );
    }
}
