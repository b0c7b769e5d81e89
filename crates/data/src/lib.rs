//! Rainfall radar, terrain and flood records: rasters, TFRecord shards, dataset recipes and batches. No burn here.

pub mod atomic;
pub mod build;
pub mod error;
pub mod file;
pub mod grid;
pub mod manifest;
pub mod radar;
pub mod raster;
pub mod recipe;
pub mod record;
pub mod rng;
pub mod sample;
pub mod terrain;

pub use error::{DataError, Result};
pub use grid::GeoGrid;
pub use manifest::Manifest;
pub use record::{Metadata, ShardReader, ShardWriter};
pub use sample::Sample;
