//! Rainfall radar, terrain and flood records: rasters, TFRecord shards, dataset recipes and batches. No burn here.

pub mod atomic;
pub mod bng;
pub mod build;
pub mod convert;
pub mod dataset;
pub mod depth;
pub mod error;
pub mod file;
pub mod grid;
pub mod loader;
pub mod manifest;
pub mod npy;
mod pool;
pub mod radar;
pub mod raster;
pub mod recipe;
pub mod record;
pub mod rng;
pub mod sample;
pub mod scan;
pub mod signals;
pub mod simulate;
pub mod split;
pub mod stats;
pub mod terrain;
pub mod transform;
pub mod uniq;
pub mod verify;

pub use dataset::Dataset;
pub use error::{DataError, Result};
pub use grid::{GeoGrid, Place};
pub use loader::{Batch, Loader, LoaderConfig, OnBadRecord, SampleId};
pub use manifest::Manifest;
pub use record::{Metadata, ShardReader, ShardWriter};
pub use sample::Sample;
pub use transform::{Channel, Crop, TransformConfig};
