//! Flows with a known answer, as `docs/validation.md` shows them.

// What only the page shows.
#[allow(dead_code)]
mod cases;

use cases::{conservation, dam_break, depressions, front, macdonald, plane, thacker};
use front::Equations;

#[test]
fn a_lake_stays_at_rest_and_directions_are_alike() {
    let lake = conservation::lake_at_rest();
    // η is rounded to 1e-13 m at 1000 m.
    assert!(lake.deepest_m > 5.0 && lake.change_m < 1e-10 && lake.discharge_m2_per_s < 1e-9);
    assert_eq!(conservation::asymmetry_m(), 0.0);
}

#[test]
fn a_day_on_any_slope_keeps_its_water() {
    for slope in conservation::SLOPES {
        let day = conservation::day_on_slope(slope);
        assert!(day.mass_error <= 1e-10, "{slope}: {}", day.mass_error);
        // Rain, outflow and drying have happened.
        assert!(
            day.outflow > 0.5 && day.wet_cells[0] > 1000 && day.wet_cells[1] < day.wet_cells[0]
        );
    }
}

#[test]
fn a_wetting_front_moves_over_a_flat_bed() {
    let errors = |equations, manning, sizes: &[f64]| -> Vec<f64> {
        sizes
            .iter()
            .map(|size| front::run(equations, manning, *size).rmse_m)
            .collect()
    };
    let falling = |errors: &[f64]| errors.windows(2).all(|pair| pair[1] < pair[0]);
    let published = errors(Equations::ShallowWater, 0.01, &[25.0]);
    assert!(published[0] <= 0.02, "{published:?}");
    // A front makes the root mean square error fall with the square root of the cell size at least.
    let converging = errors(Equations::WithoutAdvection, 0.01, &front::CELL_SIZES_M);
    assert!(
        falling(&converging) && converging[4] < 0.5 * converging[0],
        "{converging:?}"
    );
    // With so much friction the missing term is small, and the solutions are close.
    let rough = errors(Equations::ShallowWater, 0.1, &front::CELL_SIZES_M);
    assert!(falling(&rough) && rough[4] < 0.25 * rough[0], "{rough:?}");
}

#[test]
fn rain_on_a_plane_is_the_kinematic_wave() {
    for case in plane::PLANES {
        let plane = plane::run(case);
        assert!(plane.depth_error < 0.02, "{case:?}: {}", plane.depth_error);
        assert!(
            plane.rise_error < 0.1 && (plane.rise_time - 1.0).abs() < 0.1,
            "{case:?}: {}",
            plane.rise_time
        );
    }
}

#[test]
fn macdonalds_channels_have_their_depth() {
    for (rain, limit_m) in [(false, 0.03), (true, 0.035)] {
        let [coarse, fine] = [5.0, 2.5].map(|size| macdonald::run(rain, size));
        assert!(coarse.mae_m < limit_m, "{}", coarse.mae_m);
        // What the discretisation adds to the missing advection is of the first order.
        let ratio = coarse.mae_without_advection_m / fine.mae_without_advection_m;
        assert!((1.8..2.2).contains(&ratio), "{ratio}");
    }
}

#[test]
fn thackers_basin_swings_in_time() {
    let small = thacker::run(0.05);
    assert!((small.period - 1.0).abs() < 0.01, "{}", small.period);
    for basin in [small, thacker::run(0.5)] {
        assert!(basin.mass_error < 1e-12 && basin.amplitude < 1.0);
    }
}

#[test]
fn dam_breaks_are_those_without_advection() {
    for dam in [dam_break::DRY, dam_break::WET] {
        assert!(dam_break::reference_error(dam) < 0.02);
        let flood = dam_break::run(dam, 10.0);
        let without = flood.error_without_advection.unwrap();
        assert!(
            without < 0.1 && without < 0.2 * flood.error,
            "{without} {}",
            flood.error
        );
        assert!(flood.mass_error < 1e-12);
        assert!(flood.front_m[0] < flood.front_m[1]);
    }
    let rough = dam_break::run(dam_break::DRY_ROUGH, 10.0);
    let [front, reference] = rough.front_m;
    assert!(
        (front / reference - 1.0).abs() < 0.05,
        "{front} {reference}"
    );
    assert!(rough.error < 0.1 && rough.mass_error < 1e-12);
}

#[test]
fn depressions_fill_and_spill() {
    let filling = depressions::run();
    assert!(filling.mass_error < 1e-12);
    assert!((filling.stored_m3 / depressions::INFLOW_M3 - 1.0).abs() < 1e-12);
    // Full in the west, still draining over thin sheets; the two in the north-east are reported dry in all packages.
    for row in 0..4 {
        assert!(filling.depth_m[row][0] > filling.spill_m[row][0] - 1e-3);
    }
    assert_eq!([filling.depth_m[0][3], filling.depth_m[1][3]], [0.0, 0.0]);
    assert!(filling.above_spill_m < 0.03 && filling.unevenness_m < 0.01);
}
