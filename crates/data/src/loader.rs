//! Shards → shuffled, prefetched batches, in an order that depends on the seed alone.
//!
//! An epoch deals the shards, in random order, to a fixed number of lanes. Every lane reads its shards one after the other; the
//! stream takes one record of each lane in turn, and a buffer from which a random record is drawn mixes them further. Lanes are
//! spread over threads that read ahead through bounded channels, but the order in which records are taken does not depend on
//! which thread is first. Decoding and the transforms run in parallel inside a batch. Memory is set by the buffer, the
//! channels and the cache, never by the size of the dataset.
//!
//! ```no_run
//! use std::sync::Arc;
//! use pluvial_data::{Dataset, Loader, LoaderConfig, split};
//!
//! # fn main() -> pluvial_data::Result<()> {
//! let dataset = Arc::new(Dataset::open("datasets/built/default")?);
//! let training = split::by_manifest(&dataset, "train")?;
//! let loader = Loader::new(dataset, training, LoaderConfig::default())?;
//! for batch in loader.epoch(0) {
//!     let batch = batch?;
//!     println!("{:?} → {:?}", batch.input.dim(), batch.label.dim());
//! }
//! # Ok(())
//! # }
//! ```

mod lanes;
mod position;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ndarray::{Array3, Array4, ArrayView2};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::record::shard::decode_sample;
use crate::rng::stream;
use crate::sample::Sample;
use crate::transform::label::label;
use crate::transform::{InputBuilder, Symmetry, TransformConfig};
use lanes::{Cache, Lanes, Record};
pub use position::Position;

/// What happens when a record is damaged or holds values that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRecord {
    /// The error is returned.
    #[default]
    Stop,
    /// The record is left out and counted ([`Loader::bad_records`]).
    Skip,
}

/// How batches are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Samples a batch; the last batch of an epoch may have fewer. Default 8.
    pub batch_size: usize,
    /// Seed of the order and of the augmentation. Default 0.
    pub seed: u64,
    /// Whether the order is random, another one each epoch. Without it: shard by shard, in order. Default true.
    pub shuffle: bool,
    /// Records in the shuffle buffer; a dataset that fits into it is shuffled uniformly. Default 1024.
    pub shuffle_buffer: usize,
    /// Shards that are open at a time and read in turn. Default 8.
    pub interleave: usize,
    /// Threads that read shards; 0 means one a core, at most `interleave`. The order does not depend on it. Default 0.
    pub threads: usize,
    /// Batches made ahead. Default 2.
    pub prefetch: usize,
    /// Bytes of inflated shards that may be kept for the next epochs. Default 1 GiB.
    pub cache_bytes: u64,
    /// Whether each sample is turned to a random one of its map's symmetries. Default false.
    pub augment: bool,
    /// What a bad record does. Default: stop.
    pub on_bad_record: OnBadRecord,
    /// How samples become inputs and labels.
    pub transform: TransformConfig,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch_size: 8,
            seed: 0,
            shuffle: true,
            shuffle_buffer: 1024,
            interleave: 8,
            threads: 0,
            prefetch: 2,
            cache_bytes: 1 << 30,
            augment: false,
            on_bad_record: OnBadRecord::Stop,
            transform: TransformConfig::default(),
        }
    }
}

/// Where a sample stands in its dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SampleId {
    /// Index into [`Dataset::shards`].
    pub shard: usize,
    /// Index of the record in the shard, from 0.
    pub record: u64,
}

/// Samples as a network takes them. B samples, C channels, maps of H × W cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[B, C, H, W]`: the input channels.
    pub input: Array4<f32>,
    /// `[B, H, W]`: 0 dry, 1 wet, 255 no data (left out of losses and scores).
    pub label: Array3<u8>,
    /// `[B, H, W]`: depth in metres that the label was made of.
    pub depth_m: Array3<f32>,
    /// `[B, H, W]`: depth in metres at the newest radar frame, where the records hold it.
    pub depth_now_m: Option<Array3<f32>>,
    /// `[B]`: index of each sample's catchment in [`Dataset::terrains`].
    pub catchment: Vec<usize>,
    /// `[B]`: where each sample stands.
    pub ids: Vec<SampleId>,
}

/// Bad records that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BadRecords {
    /// How many.
    pub count: u64,
    /// What was wrong with the first few.
    pub first: Vec<String>,
}

/// Makes batches of some shards of a dataset.
#[derive(Debug)]
pub struct Loader {
    shared: Arc<Shared>,
}

/// What the reading threads and the batches share.
#[derive(Debug)]
struct Shared {
    dataset: Arc<Dataset>,
    shards: Vec<usize>,
    config: LoaderConfig,
    inputs: InputBuilder,
    cache: Cache,
    bad: Mutex<BadRecords>,
    fingerprint: String,
}

impl Loader {
    /// A loader of the `shards` (indices into [`Dataset::shards`]) of `dataset`.
    ///
    /// # Errors
    /// When there is no shard, when a setting is 0 that must not be, or the transforms do not fit the dataset.
    pub fn new(dataset: Arc<Dataset>, shards: Vec<usize>, config: LoaderConfig) -> Result<Self> {
        if shards.is_empty() {
            return Err(DataError::Config("there is no shard to load".into()));
        }
        if let Some(&shard) = shards.iter().find(|&&shard| shard >= dataset.shards.len()) {
            return Err(DataError::Config(format!(
                "there is no shard {shard}: the dataset has {}",
                dataset.shards.len()
            )));
        }
        let sizes = [
            ("batch_size", config.batch_size),
            ("shuffle_buffer", config.shuffle_buffer),
            ("interleave", config.interleave),
            ("prefetch", config.prefetch),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|&(_, size)| size == 0) {
            return Err(DataError::Config(format!("{name} must be 1 at least")));
        }
        let threshold_m = config.transform.threshold_m;
        if !(threshold_m > 0.0 && threshold_m.is_finite()) {
            return Err(DataError::Config(format!(
                "threshold_m must be a positive depth, not {threshold_m}"
            )));
        }
        let inputs = InputBuilder::new(
            &dataset,
            &config.transform.channels,
            config.transform.output_size,
        )?;
        let fingerprint = position::fingerprint(&dataset, &shards, &config);
        let cache = Cache::new(shards.len(), config.cache_bytes);
        let bad = Mutex::default();
        Ok(Self {
            shared: Arc::new(Shared {
                dataset,
                shards,
                config,
                inputs,
                cache,
                bad,
                fingerprint,
            }),
        })
    }

    /// `[C, H, W]` of the inputs.
    pub fn input_shape(&self) -> [usize; 3] {
        self.shared.inputs.shape()
    }

    /// Number of samples an epoch, where the manifest says it.
    pub fn samples(&self) -> Option<usize> {
        self.shared
            .shards
            .iter()
            .map(|&shard| self.shared.dataset.shards[shard].samples)
            .sum()
    }

    /// The records that were left out since the loader was made.
    pub fn bad_records(&self) -> BadRecords {
        self.shared
            .bad
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The place before the first batch of `epoch` (from 0).
    pub fn start(&self, epoch: u64) -> Position {
        Position {
            epoch,
            drawn: 0,
            fingerprint: self.shared.fingerprint.clone(),
        }
    }

    /// The batches of `epoch` (from 0).
    pub fn epoch(&self, epoch: u64) -> Batches {
        Batches::new(&self.shared, self.start(epoch))
    }

    /// The batches of an epoch from `position` on, exactly those that would have followed. Records before it are read again but
    /// not decoded.
    ///
    /// # Errors
    /// When the position was saved with other data or other settings of the order.
    pub fn resume(&self, position: &Position) -> Result<Batches> {
        if position.fingerprint != self.shared.fingerprint {
            return Err(DataError::Config(
                "the saved position belongs to other data or other loader settings".into(),
            ));
        }
        Ok(Batches::new(&self.shared, position.clone()))
    }
}

/// The rest of an epoch's batches.
#[derive(Debug)]
pub struct Batches {
    receiver: Option<Receiver<Result<(Batch, Position)>>>,
    maker: Option<JoinHandle<()>>,
    abandoned: Arc<AtomicBool>,
    position: Position,
}

impl Batches {
    fn new(shared: &Arc<Shared>, position: Position) -> Self {
        let (sender, receiver) = sync_channel(shared.config.prefetch);
        let abandoned = Arc::new(AtomicBool::new(false));
        let maker = std::thread::spawn({
            let (shared, start, abandoned) =
                (Arc::clone(shared), position.clone(), Arc::clone(&abandoned));
            move || make_batches(&shared, start, &abandoned, &sender)
        });
        Self {
            receiver: Some(receiver),
            maker: Some(maker),
            abandoned,
            position,
        }
    }

    /// The place after the last batch that was taken, whatever has been made ahead; after the epoch's last, the start of the
    /// next epoch.
    pub fn position(&self) -> &Position {
        &self.position
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.receiver.as_ref()?.recv() {
            Ok(Ok((batch, position))) => {
                self.position = position;
                Some(Ok(batch))
            }
            Ok(Err(e)) => {
                self.receiver = None;
                Some(Err(e))
            }
            Err(_) => {
                self.receiver = None;
                let maker = self.maker.take()?;
                if maker.join().is_err() {
                    return Some(Err(DataError::Config(
                        "the thread that makes batches panicked".into(),
                    )));
                }
                self.position.epoch += 1;
                self.position.drawn = 0;
                None
            }
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // The flag stops a maker that still fills its buffer, the closed channel one that has a batch to hand over.
        self.abandoned.store(true, Ordering::Relaxed);
        self.receiver = None;
        if let Some(maker) = self.maker.take() {
            let _ = maker.join();
        }
    }
}

/// Records in the order of an epoch.
struct Draws<'a> {
    shared: &'a Shared,
    /// Set when nobody waits for the batches any more: there are no further records then.
    abandoned: &'a AtomicBool,
    lanes: Option<Lanes>,
    buffer: Vec<Record>,
    capacity: usize,
    rng: ChaCha8Rng,
}

impl<'a> Draws<'a> {
    fn new(shared: &'a Arc<Shared>, epoch: u64, abandoned: &'a AtomicBool) -> Self {
        let config = &shared.config;
        // Lanes number the loader's own shards.
        let mut order: Vec<usize> = (0..shared.shards.len()).collect();
        let (lanes, capacity) = if config.shuffle {
            order.shuffle(&mut stream(
                config.seed,
                &format!("shards of epoch {epoch}"),
            ));
            (config.interleave, config.shuffle_buffer)
        } else {
            (1, 1)
        };
        Self {
            shared,
            abandoned,
            lanes: Some(Lanes::start(shared, &order, lanes)),
            buffer: Vec::new(),
            capacity,
            rng: stream(config.seed, &format!("shuffle of epoch {epoch}")),
        }
    }

    fn next(&mut self) -> Result<Option<Record>> {
        while let Some(lanes) = self
            .lanes
            .as_mut()
            .filter(|_| self.buffer.len() < self.capacity)
        {
            if self.abandoned.load(Ordering::Relaxed) {
                return Ok(None);
            }
            match lanes.next() {
                Some(Ok(record)) => self.buffer.push(record),
                Some(Err(e)) => self.shared.bad_record(e)?,
                None => self.lanes = None,
            }
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let drawn = self.rng.random_range(0..self.buffer.len());
        Ok(Some(self.buffer.swap_remove(drawn)))
    }
}

/// Makes the batches from `position` to the end of its epoch; ends early when nobody takes them.
fn make_batches(
    shared: &Arc<Shared>,
    mut position: Position,
    abandoned: &AtomicBool,
    sender: &SyncSender<Result<(Batch, Position)>>,
) {
    let mut draws = Draws::new(shared, position.epoch, abandoned);
    for _ in 0..position.drawn {
        if let Err(e) = draws.next() {
            let _ = sender.send(Err(e));
            return;
        }
    }
    loop {
        let message = match next_batch(shared, &mut draws, &mut position) {
            Ok(None) => return,
            Ok(Some(batch)) => Ok((batch, position.clone())),
            Err(e) => Err(e),
        };
        let failed = message.is_err();
        if sender.send(message).is_err() || failed {
            return;
        }
    }
}

fn next_batch(
    shared: &Shared,
    draws: &mut Draws,
    position: &mut Position,
) -> Result<Option<Batch>> {
    let mut samples: Vec<(Record, Sample, u64)> = Vec::with_capacity(shared.config.batch_size);
    // A bad record that is left out is replaced by the next one.
    while samples.len() < shared.config.batch_size {
        let mut records = Vec::new();
        while samples.len() + records.len() < shared.config.batch_size {
            let Some(record) = draws.next()? else { break };
            records.push((record, position.drawn));
            position.drawn += 1;
        }
        if records.is_empty() {
            break;
        }
        let decoded: Vec<_> = records
            .into_par_iter()
            .map(|(record, drawn)| (shared.decode(&record), record, drawn))
            .collect();
        for (sample, record, drawn) in decoded {
            match sample {
                Ok(sample) => samples.push((record, sample, drawn)),
                Err(e) => shared.bad_record(e)?,
            }
        }
    }
    Ok((!samples.is_empty()).then(|| shared.assemble(&samples, position.epoch)))
}

impl Shared {
    /// Stops or counts.
    fn bad_record(&self, error: DataError) -> Result<()> {
        match self.config.on_bad_record {
            OnBadRecord::Stop => Err(error),
            OnBadRecord::Skip => {
                let mut bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
                bad.count += 1;
                if bad.first.len() < 10 {
                    bad.first.push(error.to_string());
                }
                Ok(())
            }
        }
    }

    fn decode(&self, record: &Record) -> Result<Sample> {
        decode_sample(&record.bytes, &self.dataset.metadata).map_err(|e| {
            let path = &self.dataset.shards[self.shards[record.shard]].path;
            DataError::record(path, record.index, e.to_string())
        })
    }

    fn assemble(&self, samples: &[(Record, Sample, u64)], epoch: u64) -> Batch {
        let batch = samples.len();
        let [channels, height, width] = self.inputs.shape();
        let mut input = Array4::zeros((batch, channels, height, width));
        let mut labels = Array3::zeros((batch, height, width));
        let mut depth_m = Array3::zeros((batch, height, width));
        let has_now = self.dataset.metadata.waterdepth_now.is_some();
        let mut depth_now_m = Array3::zeros((if has_now { batch } else { 0 }, height, width));
        let rows: Vec<_> = samples
            .iter()
            .zip(input.outer_iter_mut())
            .zip(labels.outer_iter_mut().zip(depth_m.outer_iter_mut()))
            .zip(
                depth_now_m
                    .outer_iter_mut()
                    .map(Some)
                    .chain(std::iter::repeat_with(|| None)),
            )
            .collect();
        rows.into_par_iter().for_each(
            |((((record, sample, drawn), mut input), (mut labels, mut depth_m)), now)| {
                let catchment = self.catchment(record);
                let window = self.inputs.window();
                let symmetry = self.symmetry(epoch, *drawn, height == width);
                let turned = |plane: ArrayView2<f32>| symmetry.apply(window.of(&plane));
                let transform = &self.config.transform;
                self.inputs.build(sample, catchment, input.view_mut());
                let cropped = sample.depth_m.view();
                let label = label(
                    window.of(&cropped),
                    transform.threshold_m,
                    transform.remove_isolated,
                    self.inputs.valid(catchment),
                );
                labels.assign(&symmetry.apply(label.view()));
                depth_m.assign(&turned(sample.depth_m.view()));
                if let (Some(mut now), Some(depth)) = (now, &sample.depth_now_m) {
                    now.assign(&turned(depth.view()));
                }
                if symmetry != Symmetry::default() {
                    let turned = symmetry.apply(input.view());
                    input.assign(&turned);
                }
            },
        );
        Batch {
            input,
            label: labels,
            depth_m,
            depth_now_m: has_now.then_some(depth_now_m),
            catchment: samples
                .iter()
                .map(|(record, ..)| self.catchment(record))
                .collect(),
            ids: samples
                .iter()
                .map(|(record, ..)| SampleId {
                    shard: self.shards[record.shard],
                    record: record.index,
                })
                .collect(),
        }
    }

    fn catchment(&self, record: &Record) -> usize {
        self.dataset.shards[self.shards[record.shard]].catchment
    }

    /// A stream of its own for each sample, so that neither threads nor a resume change it.
    fn symmetry(&self, epoch: u64, drawn: u64, square: bool) -> Symmetry {
        if !self.config.augment {
            return Symmetry::default();
        }
        let mut rng = stream(
            self.config.seed,
            &format!("augmentation of sample {drawn} in epoch {epoch}"),
        );
        Symmetry::random(&mut rng, square)
    }
}
