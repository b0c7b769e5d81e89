//! pluvial-model

pub mod losses;
pub mod metrics;
