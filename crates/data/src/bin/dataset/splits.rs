//! The lines about the splits of a dataset.

use std::collections::BTreeMap;

use pluvial_data::build::{SplitReport, WET_DEPTH_M};

/// Prints a line for each split.
pub fn print_splits(splits: &BTreeMap<String, SplitReport>) {
    for (name, split) in splits {
        println!(
            "{name:13} {:4} events {:6} samples {:6.2} % wet at {WET_DEPTH_M} m",
            split.events,
            split.samples,
            100.0 * split.wet_share()
        );
    }
}
