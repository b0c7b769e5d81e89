//! `manifest.json`: where every sample of a dataset came from, and which split it belongs to.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::file::{read_json, write_json};

/// What stands in `manifest.json` beside the shards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this layout; readers refuse a newer one.
    pub format: u32,
    /// The recipe as it was written, TOML.
    pub recipe: String,
    /// SHA-256 over the recipe and the builder's version, hexadecimal: equal hash, equal dataset.
    pub recipe_sha256: String,
    /// The seed from which all random streams come.
    pub seed: u64,
    /// Version of pluvial that built it.
    pub pluvial_version: String,
    /// Metres per cell of the depth grid.
    pub cell_size_m: f64,
    /// Seconds between radar frames.
    pub frame_s: f64,
    /// Group lengths of the rain channels in frames, counted backwards from now (newest first).
    pub pattern: Vec<usize>,
    /// Frames between now and the label.
    pub water_offset: usize,
    /// Windows of `rainfalltotals` in hours, in channel order; empty when the records hold none.
    pub total_hours: Vec<f64>,
    /// The catchments, in the order that indices refer to.
    pub catchments: Vec<Catchment>,
    /// The shards, one event each.
    pub shards: Vec<ShardInfo>,
}

impl Manifest {
    /// Name of the file in a dataset's folder.
    pub const FILE: &str = "manifest.json";
    /// The newest layout that this version reads, and the one it writes.
    pub const FORMAT: u32 = 1;

    /// Reads `manifest.json` of the dataset in `folder`.
    ///
    /// # Errors
    /// When the file is missing, is no manifest or has a newer layout.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::FILE);
        let manifest: Self = read_json(&path)?;
        if manifest.format > Self::FORMAT {
            let newer = format!(
                "layout {} is newer than this program's {}",
                manifest.format,
                Self::FORMAT
            );
            return Err(DataError::format(&path, newer));
        }
        Ok(manifest)
    }

    /// Writes `manifest.json` into `folder`, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(Self::FILE), self)
    }
}

/// A terrain of the dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catchment {
    /// Name, unique in the dataset.
    pub name: String,
    /// Elevation in metres on the depth grid (heightmap JSON, gzip), relative to the dataset's folder.
    pub heightmap: String,
}

/// A shard: the samples of one event over one catchment, in time order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// File name, `<int>.tfrecord.gz`.
    pub file: String,
    /// Name of the rain event, unique in the dataset.
    pub event: String,
    /// Name of the catchment.
    pub catchment: String,
    /// `train`, `validation`, `test_storms` (unseen storms over known terrain) or `test_terrain` (terrain never seen in training).
    pub split: String,
    /// Seconds from the event's start to each sample's newest radar frame.
    pub times_s: Vec<f64>,
}
