//! Is a dataset whole? Every checksum and record of every shard, the sums of the manifest, and splits that leak.

use std::fs;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::build::UNFINISHED;
use crate::dataset::{numbered_shards, read_elevation};
use crate::error::{DataError, Result};
use crate::file::sha256_of_file;
use crate::manifest::Manifest;
use crate::record::{Metadata, ShardReader};
use crate::scan::Tick;
use crate::split::{self, Contents, SplitBy};

/// Something bad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, relative to the dataset's folder.
    pub file: String,
    /// The record in it, from 0, where one is bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

/// What was read, and all that is bad.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Shards read.
    pub files: usize,
    /// Good samples in them.
    pub samples: u64,
    /// Files whose sum the manifest holds.
    pub sums: usize,
    /// All that is bad, in the order of the files.
    pub problems: Vec<Problem>,
}

/// What a shard came to.
#[derive(Default)]
struct Read {
    samples: u64,
    contents: Vec<u64>,
    problems: Vec<Problem>,
}

/// Reads every byte of the dataset in `folder`; `tick` is told of every shard.
///
/// Shards that can be read in part are read to their end: after a damaged record as far as the next ones can be found.
///
/// # Errors
/// When the folder cannot be read, or its `metadata.json`, without which no record can be checked.
pub fn verify(folder: &Path, tick: &Tick) -> Result<VerifyReport> {
    let metadata = Metadata::read(folder)?;
    let shards = numbered_shards(folder)?;
    let mut report = VerifyReport {
        files: shards.len(),
        ..VerifyReport::default()
    };
    let mut problem = |file: &str, reason: String| {
        let file = file.to_owned();
        report.problems.push(Problem {
            file,
            record: None,
            reason,
        });
    };
    if shards.is_empty() {
        problem("", "there is no shard (<number>.tfrecord.gz)".into());
    }
    let manifest_path = folder.join(Manifest::FILE);
    let manifest = match manifest_path.exists().then(|| Manifest::read(folder)) {
        Some(Ok(manifest)) => Some(manifest),
        Some(Err(e)) => {
            problem(Manifest::FILE, reason(e).1);
            None
        }
        None => {
            if folder.join(UNFINISHED).exists() {
                problem(
                    Manifest::FILE,
                    "is not there: the build is not finished".into(),
                );
            }
            None
        }
    };
    let names: Vec<String> = shards
        .iter()
        .map(|path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    if let Some(manifest) = &manifest {
        for info in manifest
            .shards
            .iter()
            .filter(|info| !names.contains(&info.file))
        {
            problem(&info.file, "is named by the manifest and not there".into());
        }
        for name in names
            .iter()
            .filter(|name| manifest.shards.iter().all(|info| info.file != **name))
        {
            problem(name, "is not named by the manifest".into());
        }
        for file in manifest
            .catchments
            .iter()
            .filter_map(|catchment| catchment.heightmap.as_ref())
        {
            if let Err(e) = read_elevation(&folder.join(file), &metadata) {
                problem(file, reason(e).1);
            }
        }
        for (file, sum) in manifest
            .sha256
            .iter()
            .filter(|(file, _)| !names.contains(file))
        {
            // A shard that is missing has been named already.
            if manifest.shards.iter().all(|info| info.file != *file) {
                check_sum(folder, file, sum).map_or_else(|reason| problem(file, reason), |()| ());
            }
        }
    }

    let read: Vec<Read> = shards
        .par_iter()
        .zip(&names)
        .map(|(path, name)| {
            let info = manifest
                .as_ref()
                .and_then(|m| m.shards.iter().find(|info| info.file == *name));
            let sum = manifest.as_ref().and_then(|m| m.sha256.get(name));
            let catchment = info.map_or("", |info| &info.catchment);
            let mut read = read_shard(path, name, &metadata, catchment);
            if let Some(promised) = info
                .map(|info| info.times_s.len() as u64)
                .filter(|&promised| promised > 0)
                && read.problems.is_empty()
                && read.samples != promised
            {
                let reason = format!(
                    "holds {} samples, the manifest says {promised}",
                    read.samples
                );
                read.problems.push(Problem {
                    file: name.clone(),
                    record: None,
                    reason,
                });
            }
            if let Some(Err(reason)) = sum.map(|sum| check_sum(folder, name, sum)) {
                read.problems.push(Problem {
                    file: name.clone(),
                    record: None,
                    reason,
                });
            }
            tick(fs::metadata(path).map_or(0, |metadata| metadata.len()));
            read
        })
        .collect();
    let mut contents = Contents::default();
    for (name, read) in names.iter().zip(read) {
        report.samples += read.samples;
        report.problems.extend(read.problems);
        let index = manifest
            .as_ref()
            .and_then(|m| m.shards.iter().position(|info| info.file == *name));
        if let (Some(manifest), Some(index)) = (&manifest, index)
            && manifest.shards[index].split.is_some()
        {
            read.contents
                .into_iter()
                .for_each(|content| contents.add(content, index));
        }
    }
    if let Some(manifest) = &manifest {
        report.sums = manifest.sha256.len();
        // Files that were dealt out one by one leak, and whoever did it has said that he knows.
        let accepted = manifest
            .split_rule
            .as_ref()
            .is_some_and(|rule| rule.by == SplitBy::File && rule.leaky);
        if !accepted {
            let leaks = split::leaks(manifest)
                .into_iter()
                .chain(contents.leaks(manifest));
            report.problems.extend(leaks.map(|leak| Problem {
                file: Manifest::FILE.into(),
                record: None,
                reason: format!("splits leak: {leak}"),
            }));
        }
    }
    Ok(report)
}

/// The record, where there is one, and the reason, without the file.
fn reason(error: DataError) -> (Option<u64>, String) {
    match error {
        DataError::Record { record, reason, .. } => (Some(record), reason),
        DataError::Format { reason, .. } => (None, reason),
        DataError::Io { action, cause, .. } => (None, format!("cannot {action}: {cause}")),
        DataError::Config(reason) => (None, reason),
    }
}

fn check_sum(folder: &Path, file: &str, sum: &str) -> std::result::Result<(), String> {
    match sha256_of_file(&folder.join(file)) {
        Ok(found) if found == sum => Ok(()),
        Ok(_) => Err("has another SHA-256 than the manifest says".into()),
        Err(e) => Err(reason(e).1),
    }
}

fn read_shard(path: &Path, name: &str, metadata: &Metadata, catchment: &str) -> Read {
    let mut read = Read::default();
    let problem = |error: DataError| {
        let (record, reason) = reason(error);
        Problem {
            file: name.to_owned(),
            record,
            reason,
        }
    };
    let reader = match ShardReader::open(path, metadata) {
        Ok(reader) => reader,
        Err(e) => {
            read.problems.push(problem(e));
            return read;
        }
    };
    for sample in reader {
        match sample {
            Ok(sample) => {
                read.samples += 1;
                if !sample.is_dry() {
                    read.contents.push(sample.content_hash(catchment));
                }
            }
            Err(e) => read.problems.push(problem(e)),
        }
    }
    if read.samples == 0 && read.problems.is_empty() {
        read.problems
            .push(problem(DataError::format(path, "holds no sample")));
    }
    read
}
