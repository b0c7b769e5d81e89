//! Where a loader stands, to be saved beside the weights.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::LoaderConfig;
use crate::dataset::Dataset;
use crate::transform::Crop;

/// A place between two batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Samples drawn in this epoch.
    pub drawn: u64,
    /// Of everything that the order of records depends on.
    pub(super) fingerprint: String,
}

/// A hash of what the order of records depends on: the shards, the seed and the shuffling, but not how many threads or how
/// much cache there are, nor what the records become, unless tiles or the balance of wet shares make several of one.
pub(super) fn fingerprint(dataset: &Dataset, shards: &[usize], config: &LoaderConfig) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(
        dataset
            .manifest
            .as_ref()
            .map_or("", |manifest| manifest.recipe_sha256.as_str())
            .as_bytes(),
    );
    for &shard in shards {
        part(
            dataset.shards[shard]
                .path
                .file_name()
                .unwrap_or_default()
                .as_encoded_bytes(),
        );
    }
    let numbers = [
        config.shuffle as u64,
        config.shuffle_buffer as u64,
        config.interleave as u64,
        config.seed,
    ];
    numbers
        .iter()
        .for_each(|number| part(&number.to_le_bytes()));
    if config.balance.is_some() || matches!(config.transform.crop, Crop::Tiles { .. }) {
        let transform = &config.transform;
        let size = (transform.output_size, transform.crop);
        let wet = (transform.threshold_m.to_bits(), transform.remove_isolated);
        part(format!("{size:?} {wet:?} {:?}", config.balance).as_bytes());
    }
    hash.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
