//! Shards → shuffled, prefetched batches, in an order that depends on the seed alone.
//!
//! An epoch deals the shards, in random order, to a fixed number of lanes. Every lane reads its shards one after the other; the
//! stream takes one record of each lane in turn, and a buffer from which a random record is drawn mixes them further. Lanes are
//! spread over threads that read ahead through bounded channels, but the order in which records are taken does not depend on
//! which thread is first. The reading threads also decode, and keep only what the crop needs, so that the bytes of a record
//! never leave the processor's cache; the transforms run in parallel inside a batch. Memory is set by the buffer, the channels
//! and the cache, never by the size of the dataset, and is used again rather than asked for: see [`Loader::recycle`].
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

mod balance;
mod input_stats;
mod lanes;
mod position;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use ndarray::{Array2, Array3, Array4, ArrayView2};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::record::shard::decode_cut;
use crate::rng::stream;
use crate::sample::Sample;
use crate::transform::label::label;
use crate::transform::{Crop, InputBuilder, NO_DATA, Symmetry, TransformConfig, Window};
pub use balance::{Balance, WET_SHARES};
pub use input_stats::InputStats;
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
    /// Records in the shuffle buffer; a dataset that fits into it is shuffled uniformly. An epoch starts as soon as 256 MiB of
    /// records have been read, and the buffer grows by a record with each one drawn, so large records do not delay the first
    /// batch. Default 1024.
    pub shuffle_buffer: usize,
    /// Shards that are open at a time and read in turn. Default 8.
    pub interleave: usize,
    /// Threads that read shards; 0 means one a core, at most `interleave`. The order does not depend on it. Default 0.
    pub threads: usize,
    /// Batches made ahead. Default 2.
    pub prefetch: usize,
    /// Bytes of decoded samples that may be kept for the next epochs. Default 1 GiB.
    pub cache_bytes: u64,
    /// Whether each sample is turned to a random one of its map's symmetries. Default false.
    pub augment: bool,
    /// Mean number of times that a sample comes in an epoch, by its share of wet cells. Default: none, each comes once.
    pub balance: Option<Balance>,
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
            balance: None,
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
    /// `[B]`: the part of the depth grid that each sample shows.
    pub windows: Vec<Window>,
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
    /// Where the output lies: one window, or all tiles.
    windows: Vec<Window>,
    cache: Cache,
    /// Samples whose memory can be used again.
    spare_samples: Mutex<Vec<Sample>>,
    /// Batches whose memory can be used again.
    spare_batches: Mutex<Vec<Batch>>,
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
        let inputs = InputBuilder::new(&dataset, &config.transform)?;
        let map = dataset.metadata.waterdepth;
        let windows = match config.transform.crop {
            Crop::Tiles { overlap } => {
                let size = config.transform.output_size.unwrap_or(map);
                Window::tiles(map, size, overlap)?
            }
            _ => vec![Window::centred(map, config.transform.output_size)?],
        };
        if let Some(balance) = &config.balance {
            balance.check()?;
        }
        let fingerprint = position::fingerprint(&dataset, &shards, &config);
        let cache = Cache::new(shards.len(), config.cache_bytes);
        let bad = Mutex::default();
        Ok(Self {
            shared: Arc::new(Shared {
                dataset,
                shards,
                config,
                inputs,
                windows,
                cache,
                spare_samples: Mutex::default(),
                spare_batches: Mutex::default(),
                bad,
                fingerprint,
            }),
        })
    }

    /// `[C, H, W]` of the inputs.
    pub fn input_shape(&self) -> [usize; 3] {
        self.shared.inputs.shape()
    }

    /// Number of samples an epoch, where the manifest says it: every tile counts, and balancing keeps the number on average.
    pub fn samples(&self) -> Option<usize> {
        let shards = self.shared.shards.iter();
        let records: Option<usize> = shards
            .map(|&shard| self.shared.dataset.shards[shard].samples)
            .sum();
        Some(records? * self.shared.windows.len())
    }

    /// Gives the memory of a batch back for one to come. Fresh memory costs as much time as filling it does, so a loop that is
    /// done with a batch should call this; nothing else depends on it.
    pub fn recycle(&self, batch: Batch) {
        let mut spare = lock(&self.shared.spare_batches);
        if spare.len() <= self.shared.config.prefetch {
            spare.push(batch);
        }
    }

    /// The records that were left out since the loader was made.
    pub fn bad_records(&self) -> BadRecords {
        lock(&self.shared.bad).clone()
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

    /// The batches of an epoch from `position` on, exactly those that would have followed. Records before it are read again.
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

/// Inflated bytes of records that are read before the first is drawn: a third of a second's work on two slow cores.
const FIRST_FILL_BYTES: u64 = 256 << 20;

/// A record that is to become a sample of a batch.
struct Draw {
    record: Record,
    /// Index into [`Shared::windows`].
    window: usize,
}

/// Records in the order of an epoch.
struct Draws<'a> {
    shared: &'a Shared,
    epoch: u64,
    /// Set when nobody waits for the batches any more: there are no further records then.
    abandoned: &'a AtomicBool,
    lanes: Option<Lanes>,
    buffer: Vec<Draw>,
    /// Records that the buffer holds before the next is drawn; grows to that of the configuration.
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
            let first = FIRST_FILL_BYTES / shared.dataset.metadata.content_bytes();
            let first = usize::try_from(first).unwrap_or(usize::MAX).max(1);
            (config.interleave, first.min(config.shuffle_buffer))
        } else {
            (1, 1)
        };
        Self {
            shared,
            epoch,
            abandoned,
            lanes: Some(Lanes::start(shared, &order, lanes)),
            buffer: Vec::new(),
            capacity,
            rng: stream(config.seed, &format!("shuffle of epoch {epoch}")),
        }
    }

    fn next(&mut self) -> Result<Option<Draw>> {
        while let Some(lanes) = self
            .lanes
            .as_mut()
            .filter(|_| self.buffer.len() < self.capacity)
        {
            if self.abandoned.load(Ordering::Relaxed) {
                return Ok(None);
            }
            match lanes.next() {
                Some(Ok(record)) => {
                    for _ in 0..self.shared.copies(&record, self.epoch) {
                        let draws = (0..self.shared.windows.len()).map(|window| Draw {
                            record: record.clone(),
                            window,
                        });
                        self.buffer.extend(draws);
                    }
                    self.shared.give_back(record);
                }
                Some(Err(e)) => self.shared.bad_record(e)?,
                None => self.lanes = None,
            }
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if !self.shared.config.shuffle {
            return Ok(Some(self.buffer.remove(0)));
        }
        self.capacity = (self.capacity + 1).min(self.shared.config.shuffle_buffer);
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
        match draws.next() {
            Ok(Some(draw)) => shared.give_back(draw.record),
            Ok(None) => return,
            Err(e) => {
                let _ = sender.send(Err(e));
                return;
            }
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
    let mut drawn = Vec::with_capacity(shared.config.batch_size);
    while drawn.len() < shared.config.batch_size {
        let Some(draw) = draws.next()? else { break };
        drawn.push((draw, position.drawn));
        position.drawn += 1;
    }
    Ok((!drawn.is_empty()).then(|| shared.assemble(drawn, position.epoch)))
}

/// What a mutex holds; a thread that panicked while it held it left nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Stops or counts.
    fn bad_record(&self, error: DataError) -> Result<()> {
        match self.config.on_bad_record {
            OnBadRecord::Stop => Err(error),
            OnBadRecord::Skip => {
                let mut bad = lock(&self.bad);
                bad.count += 1;
                if bad.first.len() < 10 {
                    bad.first.push(error.to_string());
                }
                Ok(())
            }
        }
    }

    /// The sample that record `index` of the loader's `shard` holds, as far as it is needed.
    fn decode(&self, shard: usize, index: u64, record: &[u8]) -> Result<Sample> {
        let (cut, metadata) = (self.inputs.cut(), &self.dataset.metadata);
        let spare = lock(&self.spare_samples).pop();
        let mut sample = spare.unwrap_or_else(|| cut.empty_sample(metadata));
        match decode_cut(record, metadata, cut, &mut sample) {
            Ok(()) => Ok(sample),
            Err(e) => {
                lock(&self.spare_samples).push(sample);
                let path = &self.dataset.shards[self.shards[shard]].path;
                Err(DataError::record(path, index, e.to_string()))
            }
        }
    }

    /// Keeps the memory of a sample that nobody else holds for another.
    fn give_back(&self, record: Record) {
        if let Ok(sample) = Arc::try_unwrap(record.sample) {
            lock(&self.spare_samples).push(sample);
        }
    }

    /// How often the record comes in `epoch`: a function of the record, so that a resumed epoch repeats it.
    fn copies(&self, record: &Record, epoch: u64) -> usize {
        let Some(balance) = &self.config.balance else {
            return 1;
        };
        let (shard, index) = (self.shards[record.shard], record.index);
        let mut rng = stream(
            self.config.seed,
            &format!("copies of record {index} of shard {shard} in epoch {epoch}"),
        );
        balance.copies(self.wet_share(record), &mut rng)
    }

    /// Share of wet cells among those with data that the sample can show.
    fn wet_share(&self, record: &Record) -> f64 {
        let cut = self.inputs.cut().depth;
        let depth_m = record.sample.depth_m.view();
        let label = self.label(depth_m, cut, self.catchment(record));
        let wet = label.iter().filter(|&&label| label == 1).count();
        let known = label.iter().filter(|&&label| label != NO_DATA).count();
        wet as f64 / known.max(1) as f64
    }

    /// Labels of `depth_m` `[H, W]`, which stands on `window` of the depth grid.
    fn label(&self, depth_m: ArrayView2<f32>, window: Window, catchment: usize) -> Array2<u8> {
        let transform = &self.config.transform;
        let valid = self.inputs.valid(catchment);
        label(
            depth_m,
            transform.threshold_m,
            transform.remove_isolated,
            valid.as_ref().map(|valid| window.of(valid)),
        )
    }

    /// A batch of zeros or of what an earlier one held.
    fn empty_batch(&self, samples: usize) -> Batch {
        let [channels, height, width] = self.inputs.shape();
        let spare = lock(&self.spare_batches).pop();
        // The last batch of an epoch may be smaller.
        if let Some(batch) =
            spare.filter(|batch| batch.input.dim() == (samples, channels, height, width))
        {
            return batch;
        }
        let now = self.dataset.metadata.waterdepth_now;
        Batch {
            input: Array4::zeros((samples, channels, height, width)),
            label: Array3::zeros((samples, height, width)),
            depth_m: Array3::zeros((samples, height, width)),
            depth_now_m: now.map(|_| Array3::zeros((samples, height, width))),
            catchment: Vec::new(),
            windows: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// The batch of records with their numbers in the epoch.
    fn assemble(&self, draws: Vec<(Draw, u64)>, epoch: u64) -> Batch {
        let mut batch = self.empty_batch(draws.len());
        let records = || draws.iter().map(|(draw, _)| &draw.record);
        batch.catchment = records().map(|record| self.catchment(record)).collect();
        batch.ids = records()
            .map(|record| SampleId {
                shard: self.shards[record.shard],
                record: record.index,
            })
            .collect();
        batch.windows = draws
            .iter()
            .map(|(draw, drawn)| self.window(draw, epoch, *drawn))
            .collect();
        let now = batch.depth_now_m.iter_mut();
        let mut now = now.flat_map(|now| now.outer_iter_mut());
        let rows: Vec<_> = draws
            .iter()
            .zip(&batch.windows)
            .zip(batch.input.outer_iter_mut())
            .zip(
                batch
                    .label
                    .outer_iter_mut()
                    .zip(batch.depth_m.outer_iter_mut()),
            )
            .map(|row| (row, now.next()))
            .collect();
        rows.into_par_iter().for_each(
            |(((((draw, drawn), &window), mut input), (mut labels, mut depth_m)), now)| {
                let (sample, catchment) = (&draw.record.sample, self.catchment(&draw.record));
                self.inputs
                    .build(sample, catchment, window, input.view_mut());
                let held = window.within(self.inputs.cut().depth);
                depth_m.assign(&held.of(&sample.depth_m.view()));
                labels.assign(&self.label(depth_m.view(), window, catchment));
                let symmetry = self.symmetry(epoch, *drawn, window.height == window.width);
                symmetry.apply_to(&mut input);
                symmetry.apply_to(&mut labels);
                symmetry.apply_to(&mut depth_m);
                if let (Some(mut now), Some(depth)) = (now, &sample.depth_now_m) {
                    now.assign(&held.of(&depth.view()));
                    symmetry.apply_to(&mut now);
                }
            },
        );
        for (draw, _) in draws {
            self.give_back(draw.record);
        }
        batch
    }

    /// The part of the map that a draw shows. Of a stream of its own for each, as [`Shared::symmetry`].
    fn window(&self, draw: &Draw, epoch: u64, drawn: u64) -> Window {
        let window = self.windows[draw.window];
        if self.config.transform.crop != Crop::Random {
            return window;
        }
        let mut rng = stream(
            self.config.seed,
            &format!("crop of sample {drawn} in epoch {epoch}"),
        );
        window.anywhere(self.dataset.metadata.waterdepth, &mut rng)
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
