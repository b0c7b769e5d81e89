//! Drops samples that are there twice.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use crate::dataset::{Dataset, published_heightmap};
use crate::error::{DataError, Result};
use crate::file::{copy_or_link, sha256_of_file};
use crate::manifest::Manifest;
use crate::record::{Metadata, ShardReader, ShardWriter};
use crate::scan::{Tick, scan_shards};

/// How many samples are there more than once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UniqReport {
    /// Samples read.
    pub samples: u64,
    /// Samples that another one before them equals.
    pub duplicates: u64,
    /// Shards that hold nothing else, and are left out.
    pub empty_files: Vec<PathBuf>,
}

/// What is kept of each shard, in the order of [`Dataset::shards`].
#[derive(Debug)]
pub struct Unique {
    keep: Vec<Vec<bool>>,
    /// The counts.
    pub report: UniqReport,
}

/// Finds the first sample of each content ([`Sample::content_hash`](crate::Sample::content_hash)), in the order of shards and
/// records. Memory is a hash a sample.
///
/// # Errors
/// At the first record that cannot be read.
pub fn find(dataset: &Dataset, tick: &Tick) -> Result<Unique> {
    let all: Vec<usize> = (0..dataset.shards.len()).collect();
    let hashes = scan_shards(dataset, &all, tick, |shard, reader| {
        let catchment = &dataset.terrains[dataset.shards[shard].catchment].name;
        reader
            .map(|sample| Ok(sample?.content_hash(catchment)))
            .collect::<Result<Vec<u64>>>()
    })?;
    let mut seen = HashSet::new();
    let keep: Vec<Vec<bool>> = hashes
        .into_iter()
        .map(|shard| shard.into_iter().map(|hash| seen.insert(hash)).collect())
        .collect();
    let samples = keep.iter().map(|shard| shard.len() as u64).sum();
    let empty = dataset
        .shards
        .iter()
        .zip(&keep)
        .filter(|(_, keep)| !keep.contains(&true));
    Ok(Unique {
        report: UniqReport {
            samples,
            duplicates: samples - seen.len() as u64,
            empty_files: empty.map(|(shard, _)| shard.path.clone()).collect(),
        },
        keep,
    })
}

/// Writes the dataset without its duplicates into `folder`, which must be new or empty. Shards keep their names; one without
/// duplicates is linked or copied as it is.
///
/// # Errors
/// When a shard cannot be read or written, or the folder holds anything.
pub fn write(
    dataset: &Dataset,
    unique: &Unique,
    folder: &Path,
    gzip_level: u32,
    tick: &Tick,
) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| DataError::io("create", folder, e))?;
    if fs::read_dir(folder)
        .map_err(|e| DataError::io("read", folder, e))?
        .next()
        .is_some()
    {
        return Err(DataError::format(folder, "the folder is not empty"));
    }
    let heightmaps: Vec<String> = match &dataset.manifest {
        Some(manifest) => manifest
            .catchments
            .iter()
            .filter_map(|catchment| catchment.heightmap.clone())
            .collect(),
        None => published_heightmap(&dataset.folder)
            .map(String::from)
            .into_iter()
            .collect(),
    };
    for file in heightmaps
        .iter()
        .map(String::as_str)
        .chain([Metadata::FILE])
    {
        copy_or_link(&dataset.folder.join(file), &folder.join(file))?;
    }
    dataset
        .shards
        .par_iter()
        .zip(&unique.keep)
        .filter(|(_, keep)| keep.contains(&true))
        .try_for_each(|(shard, keep)| {
            let to = folder.join(shard.path.file_name().unwrap_or_default());
            if keep.contains(&false) {
                rewrite(&shard.path, &to, &dataset.metadata, keep, gzip_level)?;
            } else {
                copy_or_link(&shard.path, &to)?;
            }
            tick(fs::metadata(&shard.path).map_or(0, |metadata| metadata.len()));
            Ok::<_, DataError>(())
        })?;
    let Some(manifest) = &dataset.manifest else {
        return Ok(());
    };
    // The manifest's shards are the dataset's, in the same order.
    let mut manifest = Manifest {
        format: Manifest::FORMAT,
        ..manifest.clone()
    };
    manifest.sha256.clear();
    for (info, keep) in manifest.shards.iter_mut().zip(&unique.keep) {
        let mut keep = keep.iter();
        info.times_s.retain(|_| *keep.next().unwrap_or(&true));
    }
    let mut keep = unique.keep.iter().map(|keep| keep.contains(&true));
    manifest.shards.retain(|_| keep.next().unwrap_or(true));
    let shards: Vec<String> = manifest
        .shards
        .iter()
        .map(|info| info.file.clone())
        .collect();
    for file in shards
        .into_iter()
        .chain(heightmaps)
        .chain([Metadata::FILE.into()])
    {
        let sum = sha256_of_file(&folder.join(&file))?;
        manifest.sha256.insert(file, sum);
    }
    manifest.write(folder)
}

/// Copies the records to keep, their bytes unchanged.
fn rewrite(
    from: &Path,
    to: &Path,
    metadata: &Metadata,
    keep: &[bool],
    gzip_level: u32,
) -> Result<()> {
    let mut reader = ShardReader::open(from, metadata)?;
    let mut writer = ShardWriter::create(to, metadata, gzip_level)?;
    let mut record = Vec::new();
    while let Some(index) = reader.next_record(&mut record)? {
        if keep.get(index as usize) == Some(&true) {
            writer.write_record(&record)?;
        }
    }
    writer.finish().map(drop)
}
