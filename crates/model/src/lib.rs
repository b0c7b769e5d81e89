//! Segmentation networks for flood maps, on burn: layers, encoders, decoders, whole models, losses and metrics.
//!
//! All maps are `[batch, channel, height, width]`, row 0 = north. A network is described by a [`ModelConfig`], which is
//! saved beside the weights and rebuilds it.

pub mod config;
pub mod decoders;
pub mod encoders;
#[cfg(test)]
mod golden;
pub mod layers;
pub mod losses;
pub mod metrics;
pub mod models;
pub mod ops;
pub mod summary;
pub mod weights;

pub use config::{ModelConfig, ModelError};
pub use models::Model;
pub use models::segmenter::{Segmenter, SegmenterConfig};
pub use ops::precision::Precision;
