//! `manifest.json`: where every sample of a dataset came from, and which split it belongs to.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::file::{read_json, write_json};
use crate::grid::Place;
use crate::split::SplitRule;

/// What stands in `manifest.json` beside the shards.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Version of this layout; readers refuse a newer one.
    pub format: u32,
    /// The recipe as it was written, TOML; empty for a dataset that no recipe made.
    pub recipe: String,
    /// SHA-256 over the recipe and the builder's version, hexadecimal: equal hash, equal dataset. Empty without a recipe.
    pub recipe_sha256: String,
    /// The seed from which all random streams of the recipe come.
    pub seed: u64,
    /// Version of pluvial that built it.
    pub pluvial_version: String,
    /// Metres per cell of the depth grid; `None` where the source does not say, as for a published dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell_size_m: Option<f64>,
    /// Seconds between radar frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_s: Option<f64>,
    /// Group lengths of the rain channels in frames, counted backwards from now (newest first).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Vec<usize>>,
    /// Frames between now and the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub water_offset: Option<usize>,
    /// Windows of `rainfalltotals` in hours, in channel order; empty when the records hold none.
    pub total_hours: Vec<f64>,
    /// How the shards were dealt to splits; `None` where the recipe says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_rule: Option<SplitRule>,
    /// The catchments, in the order that indices refer to.
    pub catchments: Vec<Catchment>,
    /// The shards, each of one event at most.
    pub shards: Vec<ShardInfo>,
    /// SHA-256 of every other file of the dataset, by its path relative to the folder; hexadecimal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sha256: BTreeMap<String, String>,
}

impl Manifest {
    /// Name of the file in a dataset's folder.
    pub const FILE: &str = "manifest.json";
    /// The newest layout that this version reads, and the one it writes.
    pub const FORMAT: u32 = 2;

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catchment {
    /// Name, unique in the dataset.
    pub name: String,
    /// Elevation in metres on the depth grid (heightmap JSON, gzip), relative to the dataset's folder; `None` where there is
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heightmap: Option<String>,
    /// Where the depth grid lies; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A shard: samples over one catchment, in time order. A long event may fill several shards.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardInfo {
    /// File name, `<int>.tfrecord.gz`.
    pub file: String,
    /// Name of the rain event, unique in the dataset; `None` where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Name of the catchment.
    pub catchment: String,
    /// `train`, `validation`, or any other name for a test split; a recipe makes `test_storms` (unseen storms over known
    /// terrain) and `test_terrain` (terrain never seen in training). `None`: in no split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Seconds since 1970-01-01 UTC of the event's start; `None` for synthetic storms and where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_s: Option<i64>,
    /// Seconds from the event's start to the end of the rain that was measured, where made-up dry time follows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rain_s: Option<f64>,
    /// West, south, east and north of the rain in the radar's coordinates, where known; without it the catchment stands for
    /// the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rain_extent: Option<[f64; 4]>,
    /// Seconds from the event's start to each sample's newest radar frame; empty where they are not known.
    pub times_s: Vec<f64>,
}
