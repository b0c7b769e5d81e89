//! The published scheme on made terrain: what of it can be known without the program.

use ndarray::{Array2, array};
use pluvial_hydro::HydroError;
use pluvial_hydro::compat::{HailCaesar, HailCaesarConfig};

/// A valley that falls to the west, its sides rough.
fn valley() -> Array2<f64> {
    Array2::from_shape_fn((24, 37), |(row, col)| {
        let (y, x) = (row as f64 - 11.5, col as f64);
        20.0 + 1.5 * x + 0.4 * y.abs() + 0.3 * (1.7 * x + 2.9 * y).sin()
    })
}

fn config() -> HailCaesarConfig {
    HailCaesarConfig {
        courant: 0.3,
        topmodel_m: 0.002,
        edge_slope: 0.005,
        ..HailCaesarConfig::default()
    }
}

/// A day: two hours of 40 mm/h after an hour of none.
fn storm(config: HailCaesarConfig) -> HailCaesar {
    let mut simulation = HailCaesar::new(valley(), 50.0, (1, 1), config).unwrap();
    for (from_h, mm_per_h) in [(0.0, 0.0), (1.0, 40.0), (3.0, 0.0)] {
        simulation
            .set_rain_mm_per_h(from_h * 3600.0, array![[mm_per_h]].view())
            .unwrap();
    }
    simulation
}

#[test]
fn what_the_stores_give_is_in_the_valley_or_has_left() {
    for integer_exponent in [true, false] {
        let mut simulation = storm(HailCaesarConfig {
            integer_exponent,
            ..config()
        });
        let mut given_m3 = 0.0;
        let mut largest: f64 = 0.0;
        while simulation.time_s() < 24.0 * 3600.0 {
            let runoff = simulation.runoff_m3_per_s();
            given_m3 += simulation.step() * runoff;
            largest = largest.max(simulation.outflow_m3_per_s());
            assert!(simulation.depth_m().iter().all(|h| *h > -1e-9));
        }
        let balance = simulation.mass_balance();
        // The store keeps little of 80 mm: its m is 2 mm.
        let rain_m3 = 0.08 * 23.0 * 36.0 * 2500.0;
        assert!(
            (given_m3 / rain_m3 - 1.0).abs() < 0.1,
            "{given_m3} {rain_m3}"
        );
        assert!(
            (balance.rain_m3 / given_m3 - 1.0).abs() < 1e-9,
            "{} {given_m3}",
            balance.rain_m3
        );
        assert!(balance.outflow_m3 > 0.5 * given_m3);
        assert!(
            balance.relative_error() < 1e-3,
            "{}",
            balance.relative_error()
        );
        // At the height of the storm the edge gives what the stores give: 40 mm/h on 828 cells.
        assert!(
            (largest / (0.04 / 3600.0 * 828.0 * 2500.0) - 1.0).abs() < 0.1,
            "{largest}"
        );
    }
}

#[test]
fn nothing_moves_where_no_cell_takes_the_runoff() {
    let config = HailCaesarConfig {
        min_discharge_m3_per_s: 10.0,
        ..config()
    };
    let mut simulation = HailCaesar::new(valley(), 50.0, (1, 1), config).unwrap();
    let steps = simulation.advance_to(3600.0);
    assert!(simulation.depth_m().iter().all(|h| *h == 0.0));
    assert_eq!(simulation.outflow_m3_per_s(), 0.0);
    // The first step is that of 10 m of water, the others those of 10 cm.
    let step_s = |depth_m: f64| 0.3 * 50.0 / (9.81 * depth_m).sqrt();
    let expected = step_s(10.0) + (steps - 1) as f64 * step_s(0.1);
    assert!((simulation.time_s() - expected).abs() < 1e-6);
    assert!(expected >= 3600.0 && expected - step_s(0.1) < 3600.0);
}

#[test]
fn each_rain_cell_feeds_its_own_cells() {
    let mut simulation = HailCaesar::new(valley(), 50.0, (1, 2), config()).unwrap();
    simulation
        .set_rain_mm_per_h(0.0, array![[30.0, 0.0]].view())
        .unwrap();
    simulation.advance_to(3.0 * 3600.0);
    let depth_m = simulation.depth_m();
    let largest = |cols: std::ops::Range<usize>| {
        let part = depth_m.slice(ndarray::s![.., cols]);
        part.iter().fold(0.0, |m: f64, h| m.max(*h))
    };
    // The valley falls away from the dry half, whose store still gives its first nanometre a second.
    assert!(largest(0..18) > 0.05, "{}", largest(0..18));
    assert!(largest(21..37) < 1e-3, "{}", largest(21..37));
    // 23 x 18 of the western cells are counted.
    let steady = 0.03 / 3600.0 * 23.0 * 18.0 * 2500.0;
    assert!((simulation.runoff_m3_per_s() / steady - 1.0).abs() < 0.02);
}

#[test]
fn cells_outside_stay_dry_and_swallow_their_share_of_the_runoff() {
    let mut bed_m = valley();
    bed_m.slice_mut(ndarray::s![..5, 9..14]).fill(f64::NAN);
    let mut simulation = HailCaesar::new(bed_m.clone(), 50.0, (1, 1), config()).unwrap();
    simulation
        .set_rain_mm_per_h(0.0, array![[50.0]].view())
        .unwrap();
    let mut given_m3 = 0.0;
    while simulation.time_s() < 2.0 * 3600.0 {
        let runoff = simulation.runoff_m3_per_s();
        given_m3 += simulation.step() * runoff;
    }
    for (z, h) in bed_m.iter().zip(simulation.depth_m()) {
        assert!(h.is_finite() && (!z.is_nan() || *h == 0.0));
    }
    let balance = simulation.mass_balance();
    assert!(balance.relative_error() < 1e-3);
    let swallowed = 1.0 - balance.rain_m3 / given_m3;
    assert!(swallowed > 0.005 && swallowed < 0.05, "{swallowed}");
}

#[test]
fn wrong_input_is_refused() {
    let new = |shape, config| HailCaesar::new(valley(), 50.0, shape, config).err();
    assert!(matches!(
        new((0, 1), config()),
        Some(HydroError::Shape { .. })
    ));
    assert!(matches!(
        new((25, 1), config()),
        Some(HydroError::Shape { .. })
    ));
    for wrong in [
        HailCaesarConfig {
            courant: 1.5,
            ..config()
        },
        HailCaesarConfig {
            topmodel_m: 0.0,
            ..config()
        },
        HailCaesarConfig {
            manning: f64::NAN,
            ..config()
        },
    ] {
        assert!(matches!(new((1, 1), wrong), Some(HydroError::Value { .. })));
    }
    let mut simulation = storm(config());
    let early = simulation.set_rain_mm_per_h(3600.0, array![[1.0]].view());
    assert!(matches!(early, Err(HydroError::Value { .. })));
    let shape = simulation.set_rain_mm_per_h(2e4, array![[1.0, 1.0]].view());
    assert!(matches!(shape, Err(HydroError::Shape { .. })));
    let negative = simulation.set_rain_mm_per_h(2e4, array![[-1.0]].view());
    assert!(matches!(negative, Err(HydroError::CellValue { .. })));
}
