//! The published label-maker's known answer for the flood of Boscastle, 2004. Needs the variable `PLUVIAL_SHARED`.

use std::path::PathBuf;

#[path = "../examples/boscastle/case.rs"]
mod case;

use case::{Case, WET_M, depth_error_m, nash_sutcliffe, peak, wet_iou};

fn load() -> Option<Case> {
    let Some(shared) = std::env::var_os("PLUVIAL_SHARED") else {
        println!("skipped: PLUVIAL_SHARED is not set, the Boscastle run is not read");
        return None;
    };
    let folder = PathBuf::from(shared).join("data/boscastle");
    Some(Case::load(&folder).unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn the_published_scheme_gives_the_published_answer_and_corrected_friction_slows_it() {
    let Some(case) = load() else { return };
    let answer = &case.answer;
    let (run, water) = case.published_scheme(true).unwrap();
    let ours = &run.series;
    assert_eq!(ours.outflow.len(), 852);
    // The answer's files have six digits.
    let outflow_error = ours
        .outflow
        .iter()
        .zip(&answer.outflow)
        .map(|(a, b)| (a - b).abs());
    assert!(nash_sutcliffe(&ours.outflow, &answer.outflow) > 0.999_999_9);
    assert!(outflow_error.fold(0.0, f64::max) < 1e-4);
    assert!(nash_sutcliffe(&ours.expected, &answer.expected) > 0.999_999_9);
    assert_eq!(peak(&ours.outflow).1, peak(&answer.outflow).1);
    assert_eq!(wet_iou(&ours.depth_m, &answer.depth_m, WET_M), 1.0);
    let [lowest, highest, _] = depth_error_m(&ours.depth_m, &answer.depth_m);
    assert!(lowest > -1e-5 && highest < 1e-5, "{lowest} {highest}");
    assert!(run.mass_error < 1e-6, "{}", run.mass_error);

    // Corrected friction resists more in water below a metre: a lower peak, that comes no earlier, in the same places.
    let corrected = case.solver(&water).unwrap();
    let ours = &corrected.series;
    let (lower, later) = peak(&ours.outflow);
    let (value, minute) = peak(&answer.outflow);
    assert!(lower < value && lower > 0.8 * value, "{lower} {value}");
    assert!(
        later >= minute && later <= minute + 10.0,
        "{later} {minute}"
    );
    assert!(nash_sutcliffe(&ours.outflow, &answer.outflow) > 0.95);
    assert!(wet_iou(&ours.depth_m, &answer.depth_m, WET_M) > 0.95);
    assert!(corrected.mass_error < 1e-12);
    assert!(corrected.steps < run.steps);
}
