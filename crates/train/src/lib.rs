//! The train and predict programs: configuration, run folder, training loop, checkpoints, report.

pub mod device;
pub mod log;
pub mod logistic;
pub mod maps;
pub mod report;
pub mod run_dir;
pub mod schedule;
pub mod scores;
pub mod signals;
