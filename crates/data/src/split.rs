//! Which shards are for training and which are held back, and whether one tells of the other.
//!
//! Splits are whole shards, never single samples: neighbouring steps of one event are nearly the same and would leak.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::manifest::{Manifest, ShardInfo};
use crate::record::ShardReader;
use crate::rng::stream;
use crate::scan::{Tick, scan_shards};

/// What stays together when shards are dealt to splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// All shards of a rain event; events are dealt at random.
    Event,
    /// All shards of a catchment; catchments are dealt at random.
    Catchment,
    /// Spans of time, the oldest first; shards that reach over a cut belong to no split.
    Time,
    /// Nothing but the shard itself, dealt at random: the published way. Neighbours in time fall into different splits.
    File,
}

impl FromStr for SplitBy {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "event" => Ok(Self::Event),
            "catchment" => Ok(Self::Catchment),
            "time" => Ok(Self::Time),
            "file" => Ok(Self::File),
            _ => Err("must be event, catchment, time or file".into()),
        }
    }
}

/// How shards are dealt to splits: equal rule and manifest, equal splits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitRule {
    /// What stays together.
    pub by: SplitBy,
    /// Names of the splits and their shares, relative to the sum; for [`SplitBy::Time`] in the order of time.
    pub shares: Vec<(String, f64)>,
    /// Seed of the dealing.
    pub seed: u64,
    /// Whether it was accepted that held-back samples tell of training samples. Only [`SplitBy::File`] may.
    pub leaky: bool,
}

impl SplitRule {
    /// The split of every shard of `manifest`; `None` for those that [`SplitBy::Time`] leaves out.
    ///
    /// # Errors
    /// When the manifest does not say what the rule asks for, there is less to deal than there are splits, or a share is not
    /// positive.
    pub fn assign(&self, manifest: &Manifest) -> Result<Vec<Option<String>>> {
        let shards = &manifest.shards;
        let groups = match self.by {
            SplitBy::Event => group(shards, "event", |shard| shard.event.as_deref())?,
            SplitBy::Catchment => group(shards, "catchment", |shard| Some(&shard.catchment))?,
            SplitBy::File => (0..shards.len()).map(|shard| vec![shard]).collect(),
            SplitBy::Time => return self.assign_by_time(manifest),
        };
        let fractions: Vec<f64> = self.shares.iter().map(|&(_, share)| share).collect();
        let mut splits = vec![None; shards.len()];
        for ((name, _), part) in
            self.shares
                .iter()
                .zip(by_file(groups.len(), &fractions, self.seed)?)
        {
            for &shard in part.iter().flat_map(|&group| &groups[group]) {
                splits[shard] = Some(name.clone());
            }
        }
        Ok(splits)
    }

    /// Cuts where the running share of samples says it.
    fn assign_by_time(&self, manifest: &Manifest) -> Result<Vec<Option<String>>> {
        check_fractions(self.shares.iter().map(|&(_, share)| share))?;
        let mut spans = Vec::with_capacity(manifest.shards.len());
        for (index, shard) in manifest.shards.iter().enumerate() {
            let span = span(manifest, shard).ok_or_else(|| {
                DataError::Config(format!(
                    "cannot split by time: the manifest does not say when '{}' was",
                    shard.file
                ))
            })?;
            spans.push((span, index));
        }
        spans.sort_by(|(a, _), (b, _)| a.0.total_cmp(&b.0));
        let samples = |index: usize| manifest.shards[index].times_s.len() as f64;
        let all: f64 = spans.iter().map(|&(_, index)| samples(index)).sum();
        let sum: f64 = self.shares.iter().map(|&(_, share)| share).sum();

        let mut splits = vec![None; manifest.shards.len()];
        let (mut current, mut until, mut before) = (0, self.shares[0].1 / sum, 0.0);
        // End of what lies in earlier splits, and of what lies in this one too.
        let (mut earlier_end, mut end) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        for &((first, last), index) in &spans {
            // The shard's middle decides.
            let middle = (before + 0.5 * samples(index)) / all;
            while middle > until && current + 1 < self.shares.len() {
                current += 1;
                until += self.shares[current].1 / sum;
                earlier_end = end;
            }
            before += samples(index);
            if first > earlier_end {
                splits[index] = Some(self.shares[current].0.clone());
                end = end.max(last);
            }
        }
        match self
            .shares
            .iter()
            .find(|(name, _)| !splits.iter().flatten().any(|split| split == name))
        {
            Some((name, _)) => Err(DataError::Config(format!(
                "split by time: no shard lies wholly in the time of '{name}'; smaller shards or another share may help"
            ))),
            None => Ok(splits),
        }
    }
}

/// The shards that share a key, in the order of the keys' first shards.
fn group<'a>(
    shards: &'a [ShardInfo],
    what: &str,
    key: impl Fn(&'a ShardInfo) -> Option<&'a str>,
) -> Result<Vec<Vec<usize>>> {
    let (mut groups, mut index) = (Vec::<Vec<usize>>::new(), HashMap::new());
    for (i, shard) in shards.iter().enumerate() {
        let key = key(shard).ok_or_else(|| {
            DataError::Config(format!(
                "cannot split by {what}: the manifest does not say the {what} of '{}'",
                shard.file
            ))
        })?;
        let group = *index.entry(key).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        groups[group].push(i);
    }
    Ok(groups)
}

/// When the oldest rain that a shard's samples see fell, and when the water of its last label stood, in seconds since 1970.
fn span(manifest: &Manifest, shard: &ShardInfo) -> Option<(f64, f64)> {
    let start = shard.start_s? as f64;
    let (first, last) = (shard.times_s.first()?, shard.times_s.last()?);
    let frame_s = manifest.frame_s.unwrap_or_default();
    let pooled = manifest.pattern.as_ref().map_or(0.0, |pattern| {
        pattern.iter().sum::<usize>() as f64 * frame_s
    });
    let seen = manifest
        .total_hours
        .iter()
        .fold(pooled, |longest, hours| longest.max(hours * 3600.0));
    // No rain is older than the event.
    let ahead = manifest.water_offset.unwrap_or_default() as f64 * frame_s;
    let end = (last + ahead).min(shard.rain_s.unwrap_or(f64::INFINITY));
    Some((start + (first - seen).max(0.0), start + end))
}

/// Why the split of one shard tells of another split's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leak {
    /// The shards' files.
    pub files: [String; 2],
    /// Their splits.
    pub splits: [String; 2],
    /// What they share.
    pub reason: String,
}

impl Display for Leak {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ([a, b], [split_a, split_b]) = (&self.files, &self.splits);
        write!(f, "'{a}' ({split_a}) and '{b}' ({split_b}) {}", self.reason)
    }
}

/// The pair of shards as a leak, if they lie in different splits.
fn leak(manifest: &Manifest, a: usize, b: usize, reason: impl Into<String>) -> Option<Leak> {
    let (a, b) = (&manifest.shards[a.min(b)], &manifest.shards[a.max(b)]);
    let (split_a, split_b) = (a.split.as_ref()?, b.split.as_ref()?);
    (split_a != split_b).then(|| Leak {
        files: [a.file.clone(), b.file.clone()],
        splits: [split_a.clone(), split_b.clone()],
        reason: reason.into(),
    })
}

/// Pairs of shards in different splits that belong to the same event, or see rain of the same place and time.
pub fn leaks(manifest: &Manifest) -> Vec<Leak> {
    let mut leaks = Vec::new();
    let mut events: HashMap<&str, usize> = HashMap::new();
    let mut spans = Vec::new();
    for (index, shard) in manifest
        .shards
        .iter()
        .enumerate()
        .filter(|(_, shard)| shard.split.is_some())
    {
        if let Some(event) = shard.event.as_deref() {
            let first = *events.entry(event).or_insert(index);
            leaks.extend(leak(
                manifest,
                first,
                index,
                format!("belong to the same event '{event}'"),
            ));
        }
        spans.extend(span(manifest, shard).map(|span| (span, index)));
    }
    spans.sort_by(|(a, _), (b, _)| a.0.total_cmp(&b.0));
    // A sweep over time: those that have not ended yet.
    let mut open: Vec<((f64, f64), usize)> = Vec::new();
    for &(now, index) in &spans {
        open.retain(|(other, _)| other.1 >= now.0);
        for &(_, other) in &open {
            let (a, b) = (&manifest.shards[other], &manifest.shards[index]);
            let same_event = a.event.is_some() && a.event == b.event;
            if !same_event && same_place(a, b) {
                leaks.extend(leak(
                    manifest,
                    other,
                    index,
                    "see rain of the same place and time",
                ));
            }
        }
        open.push((now, index));
    }
    leaks
}

fn same_place(a: &ShardInfo, b: &ShardInfo) -> bool {
    let (Some(a_extent), Some(b_extent)) = (a.rain_extent, b.rain_extent) else {
        return a.catchment == b.catchment;
    };
    // Neighbours share an edge, to rounding.
    [0, 1].into_iter().all(|axis| {
        let slack = 1e-6 * (a_extent[axis + 2] - a_extent[axis]);
        a_extent[axis] + slack < b_extent[axis + 2] && b_extent[axis] + slack < a_extent[axis + 2]
    })
}

/// Which shards hold the same samples. 8 bytes of each sample are kept, and where it was seen first.
#[derive(Debug, Default)]
pub struct Contents {
    first: HashMap<u64, u32>,
    twice: BTreeMap<(u32, u32), u64>,
}

impl Contents {
    /// The contents of all shards that lie in a split, dry samples left out: those are all the same.
    ///
    /// # Errors
    /// When a shard cannot be read.
    pub fn read(dataset: &Dataset, manifest: &Manifest, tick: &Tick) -> Result<Self> {
        let shards: Vec<usize> = (0..manifest.shards.len())
            .filter(|&shard| manifest.shards[shard].split.is_some())
            .collect();
        let hashes = scan_shards(dataset, &shards, tick, |shard, reader: ShardReader| {
            let catchment = &manifest.shards[shard].catchment;
            let hash = |sample: Result<crate::Sample>| {
                let sample = sample?;
                Ok((!sample.is_dry()).then(|| sample.content_hash(catchment)))
            };
            reader
                .map(hash)
                .filter_map(Result::transpose)
                .collect::<Result<Vec<u64>>>()
        })?;
        let mut contents = Self::default();
        for (&shard, hashes) in shards.iter().zip(hashes) {
            hashes
                .into_iter()
                .for_each(|hash| contents.add(hash, shard));
        }
        Ok(contents)
    }

    /// Takes a sample of `shard` (index into the manifest's) by its [`Sample::content_hash`](crate::Sample::content_hash).
    pub fn add(&mut self, content: u64, shard: usize) {
        let shard = shard as u32;
        let first = *self.first.entry(content).or_insert(shard);
        if first != shard {
            *self.twice.entry((first, shard)).or_default() += 1;
        }
    }

    /// Pairs of shards in different splits that hold the same samples.
    pub fn leaks(&self, manifest: &Manifest) -> Vec<Leak> {
        let pairs = self.twice.iter();
        pairs
            .filter_map(|(&(a, b), count)| {
                leak(
                    manifest,
                    a as usize,
                    b as usize,
                    format!("hold {count} of the same samples"),
                )
            })
            .collect()
    }
}

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
    check_fractions(fractions.iter().copied())?;
    let parts = fractions.len();
    if shards < parts {
        return Err(DataError::Config(format!(
            "{shards} cannot be dealt to {parts} splits"
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

fn check_fractions(fractions: impl Iterator<Item = f64> + Clone) -> Result<()> {
    let mut fractions = fractions.peekable();
    let good = |fraction: f64| fraction > 0.0 && fraction.is_finite();
    if fractions.peek().is_some() && fractions.clone().all(good) {
        return Ok(());
    }
    let fractions: Vec<f64> = fractions.collect();
    Err(DataError::Config(format!(
        "split fractions must be positive: {fractions:?}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: f64 = 3600.0;

    /// Two catchments with the events `(catchment, event, start in hours, hours)`, a sample an hour, windows of 2 hours.
    fn manifest(events: &[(&str, &str, i64, usize)]) -> Manifest {
        let shards = events
            .iter()
            .enumerate()
            .map(|(i, &(catchment, event, start_h, hours))| ShardInfo {
                file: format!("{i}.tfrecord.gz"),
                event: Some(event.into()),
                catchment: catchment.into(),
                start_s: Some(3600 * start_h),
                times_s: (2..=hours).map(|hour| hour as f64 * HOUR).collect(),
                ..ShardInfo::default()
            });
        Manifest {
            frame_s: Some(HOUR),
            pattern: Some(vec![1, 1]),
            water_offset: Some(1),
            shards: shards.collect(),
            ..Manifest::default()
        }
    }

    fn rule(by: SplitBy) -> SplitRule {
        let shares = [("train", 0.5), ("validation", 0.25), ("test", 0.25)];
        SplitRule {
            by,
            shares: shares.map(|(name, share)| (name.into(), share)).into(),
            seed: 7,
            leaky: false,
        }
    }

    fn split(manifest: &Manifest, rule: &SplitRule) -> Result<Manifest> {
        let mut manifest = manifest.clone();
        let splits = rule.assign(&manifest)?;
        for (shard, split) in manifest.shards.iter_mut().zip(splits) {
            shard.split = split;
        }
        Ok(manifest)
    }

    #[test]
    fn events_and_catchments_stay_together() {
        let events: Vec<(String, String)> = (0..16)
            .map(|i| (format!("catchment {}", i / 4), format!("event {}", i / 2)))
            .collect();
        let events: Vec<_> = events
            .iter()
            .enumerate()
            .map(|(i, (c, e))| (c.as_str(), e.as_str(), 100 * i as i64, 5))
            .collect();
        let whole = manifest(&events);
        for (by, size) in [(SplitBy::Event, 2), (SplitBy::Catchment, 4)] {
            let dealt = split(&whole, &rule(by)).unwrap();
            assert_eq!(dealt, split(&whole, &rule(by)).unwrap());
            for group in dealt.shards.chunks(size) {
                assert!(group.iter().all(|shard| shard.split == group[0].split));
            }
            let count = |name: &str| {
                dealt
                    .shards
                    .iter()
                    .filter(|s| s.split.as_deref() == Some(name))
                    .count()
            };
            assert_eq!(["train", "validation", "test"].map(count), [8, 4, 4]);
            assert_eq!(leaks(&dealt), []);
        }
        // Single files of the same events lie in different splits.
        let dealt = split(&whole, &rule(SplitBy::File)).unwrap();
        assert!(
            leaks(&dealt)[0]
                .to_string()
                .contains("belong to the same event 'event ")
        );
        let mut unnamed = whole.clone();
        unnamed.shards[3].event = None;
        let error = rule(SplitBy::Event)
            .assign(&unnamed)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "cannot split by event: the manifest does not say the event of '3.tfrecord.gz'"
        );
    }

    #[test]
    fn time_is_cut_and_what_reaches_over_a_cut_is_left_out() {
        // One event of 40 hours in eight shards of five samples: each one's first window reaches into the shard before.
        let mut whole = manifest(&[("a", "long", 1000, 41); 8]);
        for (i, shard) in whole.shards.iter_mut().enumerate() {
            shard.times_s = (0..5).map(|k| (2 + 5 * i + k) as f64 * HOUR).collect();
            shard.event = Some(format!("piece {i}"));
        }
        whole.shards.reverse();
        let dealt = split(&whole, &rule(SplitBy::Time)).unwrap();
        let mut names: Vec<_> = dealt
            .shards
            .iter()
            .map(|s| s.split.as_deref().unwrap_or("-"))
            .collect();
        names.reverse();
        assert_eq!(
            names,
            [
                "train",
                "train",
                "train",
                "train",
                "-",
                "validation",
                "-",
                "test"
            ]
        );
        assert_eq!(leaks(&dealt), []);
        let mut leaky = dealt.clone();
        leaky.shards[3].split = Some("validation".into());
        assert_eq!(
            leaks(&leaky)[0].to_string(),
            "'4.tfrecord.gz' (validation) and '3.tfrecord.gz' (train) see rain of the same place and time"
        );
        // With a gap of three hours everywhere nothing is left out; two shares of nothing cannot be.
        for (i, shard) in whole.shards.iter_mut().enumerate() {
            shard.start_s = Some(3600 * (1000 - 3 * i as i64));
        }
        let dealt = split(&whole, &rule(SplitBy::Time)).unwrap();
        assert!(dealt.shards.iter().all(|shard| shard.split.is_some()));
        whole.shards.truncate(2);
        assert!(
            rule(SplitBy::Time)
                .assign(&whole)
                .unwrap_err()
                .to_string()
                .contains("'test'")
        );
        whole.shards[0].start_s = None;
        assert!(
            rule(SplitBy::Time)
                .assign(&whole)
                .unwrap_err()
                .to_string()
                .contains("does not say when")
        );
    }

    #[test]
    fn the_same_rain_and_the_same_samples_are_found() {
        let mut two = manifest(&[("a", "one", 0, 10), ("b", "two", 5, 10)]);
        two.shards[0].split = Some("train".into());
        two.shards[1].split = Some("test".into());
        assert_eq!(leaks(&two), []);
        two.shards[1].catchment = "a".into();
        assert_eq!(leaks(&two).len(), 1);
        // Known extents say more than names.
        two.shards[0].rain_extent = Some([0.0, 0.0, 10.0, 10.0]);
        two.shards[1].rain_extent = Some([10.0, 0.0, 20.0, 10.0]);
        assert_eq!(leaks(&two), []);
        two.shards[1].rain_extent = Some([9.0, 9.0, 20.0, 20.0]);
        assert_eq!(leaks(&two).len(), 1);
        // The window of the later one's first sample begins with its event; the earlier one's last label is at hour 11.
        two.shards[1].start_s = Some(3600 * 11 + 1);
        assert_eq!(leaks(&two), []);

        let mut contents = Contents::default();
        for (content, shard) in [(1, 0), (2, 0), (2, 0), (1, 1), (3, 1), (2, 1)] {
            contents.add(content, shard);
        }
        let found = contents.leaks(&two);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].reason, "hold 2 of the same samples");
        two.shards[1].split = Some("train".into());
        assert_eq!(contents.leaks(&two), []);
    }

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
