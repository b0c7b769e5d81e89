//! Samples into shards of a given size, and the manifest that says what is in them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::OutputConfig;
use crate::error::Result;
use crate::file::sha256_of_file;
use crate::manifest::{Manifest, ShardInfo};
use crate::record::{Metadata, ShardWriter};
use crate::sample::Sample;

/// Writes `0.tfrecord.gz`, `1.tfrecord.gz`, … into a folder.
pub(super) struct Sharder<'a> {
    folder: PathBuf,
    metadata: Metadata,
    output: &'a OutputConfig,
    manifest: Manifest,
    /// What the next shards hold, without file and times.
    info: ShardInfo,
    /// Whether they differ from what the current one holds.
    changed: bool,
    current: Option<(ShardWriter, ShardInfo)>,
    /// Samples in the current shard.
    filled: usize,
    seen: HashSet<u64>,
    samples: u64,
    duplicates: u64,
}

impl<'a> Sharder<'a> {
    /// `manifest` is without shards and sums.
    pub(super) fn new(
        folder: &Path,
        metadata: Metadata,
        manifest: Manifest,
        output: &'a OutputConfig,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            metadata,
            output,
            manifest,
            info: ShardInfo::default(),
            changed: false,
            current: None,
            filled: 0,
            seen: HashSet::new(),
            samples: 0,
            duplicates: 0,
        }
    }

    /// Samples written.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Samples left out.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// The samples from here on are of `info` (without file and times): of another shard, where it differs.
    pub(super) fn begin(&mut self, info: ShardInfo) {
        let info = ShardInfo {
            file: String::new(),
            times_s: Vec::new(),
            ..info
        };
        self.changed |= info != self.info;
        self.info = info;
    }

    /// Writes a sample with the time in seconds since the event's start; false where it was there before.
    pub(super) fn push(&mut self, sample: &Sample, time_s: f64) -> Result<bool> {
        self.write(sample, Some(time_s))
    }

    /// As [`push`](Self::push), where no time is known.
    pub(super) fn push_untimed(&mut self, sample: &Sample) -> Result<bool> {
        self.write(sample, None)
    }

    fn write(&mut self, sample: &Sample, time_s: Option<f64>) -> Result<bool> {
        if self.output.unique && !self.seen.insert(sample.content_hash(&self.info.catchment)) {
            self.duplicates += 1;
            return Ok(false);
        }
        if self.changed || self.filled == self.output.samples_per_file {
            self.close()?;
        }
        self.changed = false;
        let (writer, info) = match &mut self.current {
            Some(current) => current,
            None => {
                let file = format!("{}.tfrecord.gz", self.manifest.shards.len());
                let path = self.folder.join(&file);
                let writer = ShardWriter::create(path, &self.metadata, self.output.gzip_level)?;
                self.current.insert((
                    writer,
                    ShardInfo {
                        file,
                        ..self.info.clone()
                    },
                ))
            }
        };
        writer.write(sample)?;
        info.times_s.extend(time_s);
        self.filled += 1;
        self.samples += 1;
        Ok(true)
    }

    fn close(&mut self) -> Result<()> {
        if let Some((writer, info)) = self.current.take() {
            writer.finish()?;
            let sum = sha256_of_file(&self.folder.join(&info.file))?;
            self.manifest.sha256.insert(info.file.clone(), sum);
            self.manifest.shards.push(info);
            self.filled = 0;
        }
        Ok(())
    }

    /// Closes the last shard and writes the manifest; the number of shards.
    pub(super) fn finish(mut self) -> Result<usize> {
        self.close()?;
        let heightmaps = self
            .manifest
            .catchments
            .iter()
            .filter_map(|catchment| catchment.heightmap.clone());
        for file in heightmaps
            .chain([Metadata::FILE.into()])
            .collect::<Vec<_>>()
        {
            let sum = sha256_of_file(&self.folder.join(&file))?;
            self.manifest.sha256.insert(file, sum);
        }
        self.manifest.write(&self.folder)?;
        Ok(self.manifest.shards.len())
    }
}
