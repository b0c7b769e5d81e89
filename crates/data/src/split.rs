//! Which shards are for training and which are held back. Splits are whole shards, never single samples: neighbouring steps
//! of one event are nearly the same and would leak.

use rand::seq::SliceRandom;

use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::rng::stream;

/// The indices of the shards that the manifest puts into the split `name`.
///
/// # Errors
/// When the dataset has no manifest, or the manifest no such split; the message names those it has.
pub fn by_manifest(dataset: &Dataset, name: &str) -> Result<Vec<usize>> {
    let is_in = |shard: usize| dataset.shards[shard].split.as_deref() == Some(name);
    let found: Vec<usize> = (0..dataset.shards.len())
        .filter(|&shard| is_in(shard))
        .collect();
    if found.is_empty() {
        let names = names(dataset);
        let folder = dataset.folder.display();
        return Err(DataError::Config(match names.len() {
            0 => format!("'{folder}' has no manifest that says what split '{name}' is"),
            _ => format!(
                "'{folder}' has no split '{name}'; it has {}",
                names.join(", ")
            ),
        }));
    }
    Ok(found)
}

/// The names of the manifest's splits, in the order of their first shards; empty without a manifest.
pub fn names(dataset: &Dataset) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for split in dataset
        .shards
        .iter()
        .filter_map(|shard| shard.split.as_ref())
    {
        if !names.contains(split) {
            names.push(split.clone());
        }
    }
    names
}

/// Deals `shards` shards out at random, `fractions` of them to each part (the published way), each part sorted.
///
/// Fractions are relative to their sum. Every part gets one shard at least.
///
/// # Errors
/// When a fraction is not positive or there are fewer shards than parts.
pub fn by_file(shards: usize, fractions: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    if fractions.is_empty()
        || !fractions
            .iter()
            .all(|&fraction| fraction > 0.0 && fraction.is_finite())
    {
        return Err(DataError::Config(format!(
            "split fractions must be positive: {fractions:?}"
        )));
    }
    let parts = fractions.len();
    if shards < parts {
        return Err(DataError::Config(format!(
            "{shards} shards cannot be split into {parts} parts"
        )));
    }
    let mut order: Vec<usize> = (0..shards).collect();
    order.shuffle(&mut stream(seed, "split"));
    let sum: f64 = fractions.iter().sum();
    let mut result = Vec::with_capacity(parts);
    let (mut start, mut share) = (0, 0.0);
    for (part, fraction) in fractions.iter().enumerate() {
        share += fraction / sum;
        // Cuts at the rounded running share, moved where this part or one after it would stay empty.
        let end = ((share * shards as f64).round() as usize)
            .clamp(start + 1, shards - (parts - 1 - part));
        let end = if part + 1 == parts { shards } else { end };
        let mut shards = order[start..end].to_vec();
        shards.sort_unstable();
        result.push(shards);
        start = end;
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_dealt_out_once_each() {
        let parts = by_file(10, &[0.8, 0.2], 1).unwrap();
        assert_eq!([parts[0].len(), parts[1].len()], [8, 2]);
        let mut all = parts.concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(by_file(10, &[0.8, 0.2], 1).unwrap(), parts);
        assert!((2..20).any(|seed| by_file(10, &[0.8, 0.2], seed).unwrap() != parts));
    }

    #[test]
    fn no_part_is_empty() {
        for shards in 3..12 {
            let parts = by_file(shards, &[0.98, 0.01, 0.01], 3).unwrap();
            assert!(parts.iter().all(|part| !part.is_empty()));
            assert_eq!(parts.concat().len(), shards);
        }
        assert!(by_file(2, &[1.0, 1.0, 1.0], 3).is_err());
        assert!(by_file(5, &[1.0, 0.0], 3).is_err());
        assert!(by_file(5, &[1.0, f64::NAN], 3).is_err());
    }
}
