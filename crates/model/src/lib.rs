//! pluvial-model

pub mod metrics;
