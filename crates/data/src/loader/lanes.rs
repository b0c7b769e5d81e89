//! Shards read in turn by several threads, in an order that is the same for any number of threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use super::Shared;
use crate::error::{DataError, Result};
use crate::record::ShardReader;
use crate::sample::Sample;

/// Records that a thread reads ahead for each of its lanes.
const READ_AHEAD: usize = 8;

/// A decoded record.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Index into the loader's shards.
    pub(super) shard: usize,
    /// Index in the shard.
    pub(super) index: u64,
    /// What the inputs and labels are made of, no more.
    pub(super) sample: Arc<Sample>,
}

/// The samples of whole shards, kept as long as they fit the budget. What is in it changes the speed and never the order.
#[derive(Debug)]
pub(super) struct Cache {
    shards: Vec<OnceLock<Vec<Record>>>,
    free: AtomicU64,
}

impl Cache {
    pub(super) fn new(shards: usize, bytes: u64) -> Self {
        Self {
            shards: (0..shards).map(|_| OnceLock::new()).collect(),
            free: AtomicU64::new(bytes),
        }
    }

    /// Takes `bytes` off the budget; false when there is not so much left.
    fn reserve(&self, bytes: u64) -> bool {
        self.free
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(bytes)
            })
            .is_ok()
    }

    fn give_back(&self, records: &[Record]) {
        self.free
            .fetch_add(records.iter().map(cost).sum(), Ordering::Relaxed);
    }
}

/// Memory of a record in the cache.
fn cost(record: &Record) -> u64 {
    let sample = &record.sample;
    let values = sample.rain.len()
        + sample.depth_m.len()
        + sample
            .rain_totals_mm
            .as_ref()
            .map_or(0, |totals| totals.len())
        + sample.depth_now_m.as_ref().map_or(0, |depth| depth.len());
    4 * values as u64 + 256
}

/// What a lane has in its turn.
enum Turn {
    Record(Record),
    Bad(DataError),
    /// Nothing, from now on.
    End,
}

/// A shard that is being read.
enum Open {
    Cached {
        shard: usize,
        next: usize,
    },
    File {
        shard: usize,
        reader: Box<ShardReader>,
        keep: Option<Vec<Record>>,
    },
}

/// Some shards, one after the other.
struct Lane {
    shards: VecDeque<usize>,
    open: Option<Open>,
}

impl Lane {
    fn turn(&mut self, shared: &Shared, bytes: &mut Vec<u8>) -> Turn {
        loop {
            let Some(open) = &mut self.open else {
                let Some(shard) = self.shards.pop_front() else {
                    return Turn::End;
                };
                if shared.cache.shards[shard].get().is_some() {
                    self.open = Some(Open::Cached { shard, next: 0 });
                } else {
                    let path = &shared.dataset.shards[shared.shards[shard]].path;
                    match ShardReader::open(path, &shared.dataset.metadata) {
                        Ok(reader) => {
                            self.open = Some(Open::File {
                                shard,
                                reader: Box::new(reader),
                                keep: Some(Vec::new()),
                            })
                        }
                        Err(e) => return Turn::Bad(e),
                    }
                }
                continue;
            };
            match open.turn(shared, bytes) {
                Turn::End => self.open = None,
                turn => return turn,
            }
        }
    }
}

impl Open {
    /// `bytes` is room for a record, shared by all lanes of a thread: it stays in the processor's cache.
    fn turn(&mut self, shared: &Shared, bytes: &mut Vec<u8>) -> Turn {
        match self {
            Open::Cached { shard, next } => {
                let record = shared.cache.shards[*shard]
                    .get()
                    .and_then(|records| records.get(*next));
                *next += 1;
                record.map_or(Turn::End, |record| Turn::Record(record.clone()))
            }
            Open::File {
                shard,
                reader,
                keep,
            } => {
                match reader.next_record(bytes) {
                    Ok(Some(index)) => {
                        let sample = match shared.decode(*shard, index, bytes) {
                            Ok(sample) => Arc::new(sample),
                            Err(e) => {
                                if let Some(records) = keep.take() {
                                    shared.cache.give_back(&records);
                                }
                                return Turn::Bad(e);
                            }
                        };
                        let record = Record {
                            shard: *shard,
                            index,
                            sample,
                        };
                        if let Some(records) = keep {
                            if shared.cache.reserve(cost(&record)) {
                                records.push(record.clone());
                            } else {
                                shared.cache.give_back(records);
                                *keep = None;
                            }
                        }
                        Turn::Record(record)
                    }
                    Ok(None) => {
                        if let Some(Err(records)) = keep
                            .take()
                            .map(|records| shared.cache.shards[*shard].set(records))
                        {
                            // Another epoch was read at the same time and was first.
                            shared.cache.give_back(&records);
                        }
                        Turn::End
                    }
                    Err(e) => {
                        // A damaged shard is read again each epoch, so that each epoch counts its bad records.
                        if let Some(records) = keep.take() {
                            shared.cache.give_back(&records);
                        }
                        Turn::Bad(e)
                    }
                }
            }
        }
    }
}

/// The records of all lanes, one of each in turn.
#[derive(Debug)]
pub(super) struct Lanes {
    /// One a thread; lane `l` is read by thread `l mod threads`.
    receivers: Vec<Receiver<Turn>>,
    readers: Vec<JoinHandle<()>>,
    /// Lanes that have not ended, ascending.
    live: Vec<usize>,
    /// Place in `live` of the lane whose turn it is.
    turn: usize,
}

impl Lanes {
    /// Deals the shards of `order` (indices into the loader's shards) to `lanes` lanes and starts reading.
    pub(super) fn start(shared: &Arc<Shared>, order: &[usize], lanes: usize) -> Self {
        let lanes = lanes.min(order.len());
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if shared.config.threads == 0 {
            cores()
        } else {
            shared.config.threads
        }
        .min(lanes);
        let (mut receivers, mut readers) = (Vec::new(), Vec::new());
        for thread in 0..threads {
            let lane = |lane| Lane {
                shards: order.iter().copied().skip(lane).step_by(lanes).collect(),
                open: None,
            };
            let own: Vec<Lane> = (thread..lanes).step_by(threads).map(lane).collect();
            let (sender, receiver) = sync_channel(READ_AHEAD * own.len());
            let shared = Arc::clone(shared);
            receivers.push(receiver);
            readers.push(std::thread::spawn(move || read(own, &shared, &sender)));
        }
        Self {
            receivers,
            readers,
            live: (0..lanes).collect(),
            turn: 0,
        }
    }

    pub(super) fn next(&mut self) -> Option<Result<Record>> {
        while !self.live.is_empty() {
            self.turn %= self.live.len();
            let threads = self.receivers.len();
            match self.receivers[self.live[self.turn] % threads].recv() {
                Ok(Turn::Record(record)) => {
                    self.turn += 1;
                    return Some(Ok(record));
                }
                Ok(Turn::Bad(e)) => {
                    self.turn += 1;
                    return Some(Err(e));
                }
                Ok(Turn::End) => {
                    self.live.remove(self.turn);
                }
                Err(_) => {
                    self.live.clear();
                    return Some(Err(DataError::Config(
                        "a thread that reads shards panicked".into(),
                    )));
                }
            }
        }
        None
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.receivers.clear();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

/// Reads `lanes` in turn. The turns of all lanes together, restricted to these, come in this same order: so one channel a
/// thread serves all its lanes, and a thread never waits for room in one lane while another is asked for.
fn read(lanes: Vec<Lane>, shared: &Shared, sender: &SyncSender<Turn>) {
    let mut live = lanes;
    let mut turn = 0;
    let mut bytes = Vec::new();
    while !live.is_empty() {
        turn %= live.len();
        let message = live[turn].turn(shared, &mut bytes);
        if matches!(message, Turn::End) {
            live.remove(turn);
        } else {
            turn += 1;
        }
        if sender.send(message).is_err() {
            break;
        }
    }
    for lane in live {
        // Half a shard is of no use to the cache.
        if let Some(Open::File {
            keep: Some(records),
            ..
        }) = lane.open
        {
            shared.cache.give_back(&records);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Channel, Dataset, Loader, LoaderConfig, Metadata, ShardWriter, TransformConfig};
    use ndarray::{Array2, Array3};

    /// Three shards of eight records.
    fn dataset(folder: &std::path::Path) -> Arc<Dataset> {
        let metadata = Metadata::new([1, 2, 3], [2, 3]);
        metadata.write(folder).unwrap();
        for shard in 0..3 {
            let path = folder.join(format!("{shard}.tfrecord.gz"));
            let mut writer = ShardWriter::create(path, &metadata, 1).unwrap();
            let sample = Sample {
                rain: Array3::zeros((1, 2, 3)),
                depth_m: Array2::zeros((2, 3)),
                rain_totals_mm: None,
                depth_now_m: None,
            };
            (0..8).for_each(|_| writer.write(&sample).unwrap());
            writer.finish().unwrap();
        }
        Arc::new(Dataset::open(folder).unwrap())
    }

    fn loader(dataset: &Arc<Dataset>, cache_bytes: u64) -> Loader {
        let transform = TransformConfig {
            channels: vec![Channel::Rain],
            ..TransformConfig::default()
        };
        let config = LoaderConfig {
            batch_size: 1,
            shuffle_buffer: 1,
            interleave: 2,
            prefetch: 1,
            cache_bytes,
            transform,
            ..LoaderConfig::default()
        };
        Loader::new(Arc::clone(dataset), vec![0, 1, 2], config).unwrap()
    }

    #[test]
    fn the_cache_keeps_to_its_budget_and_gets_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path());
        let free = |loader: &Loader| loader.shared.cache.free.load(Ordering::Relaxed);
        let kept = |loader: &Loader| {
            loader
                .shared
                .cache
                .shards
                .iter()
                .filter(|shard| shard.get().is_some())
                .count()
        };

        let all = loader(&dataset, 1 << 20);
        assert_eq!(all.epoch(0).count(), 24);
        assert_eq!(kept(&all), 3);
        let shard = ((1 << 20) - free(&all)) / 3;
        assert!(shard >= 8 * 64);
        assert_eq!(all.epoch(1).count(), 24);
        assert_eq!(free(&all), (1 << 20) - 3 * shard);

        // Room for one shard and a half.
        let some = loader(&dataset, shard * 3 / 2);
        for epoch in 0..5 {
            some.epoch(epoch).take(3).for_each(drop);
            assert_eq!(free(&some), shard * 3 / 2 - kept(&some) as u64 * shard);
        }
        assert_eq!(some.epoch(5).count(), 24);
        assert!(kept(&some) <= 1);
        assert_eq!(loader(&dataset, 0).epoch(0).count(), 24);
    }
}
