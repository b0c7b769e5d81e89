//! The train and predict programs: configuration, run folder, training loop, checkpoints, report.

pub mod scores;
