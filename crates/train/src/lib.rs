//! The train and predict programs: configuration, run folder, training loop, checkpoints, report.

pub mod baselines;
pub mod checkpoint;
pub mod config;
pub mod device;
pub mod evaluate;
pub mod fit;
pub mod log;
pub mod logistic;
pub mod maps;
pub mod memory;
pub mod optim;
pub mod predict;
pub mod report;
pub mod run_dir;
pub mod schedule;
pub mod scores;
pub mod session;
pub mod splits;
