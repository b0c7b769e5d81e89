//! Memory of the loader does not grow with the number of files.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array2, Array3};
use pluvial_data::{
    Channel, Dataset, Loader, LoaderConfig, Metadata, Sample, ShardWriter, TransformConfig,
};

/// The system's allocator, with what is in use and the most that was.
struct Counted;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with its arguments unchanged; `realloc` and `alloc_zeroed` are the
// trait's own, made of these two.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(in_use, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// The most bytes in use at once in an epoch over the first `files` shards, above what there was before.
fn peak(folder: &Path, files: usize) -> usize {
    let dataset = Arc::new(Dataset::open(folder).unwrap());
    let config = LoaderConfig {
        batch_size: 8,
        shuffle_buffer: 64,
        interleave: 8,
        threads: 2,
        cache_bytes: 0,
        transform: TransformConfig {
            channels: vec![Channel::Rain],
            ..TransformConfig::default()
        },
        ..LoaderConfig::default()
    };
    let loader = Loader::new(dataset, (0..files).collect(), config).unwrap();
    let before = IN_USE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let mut samples = 0;
    for batch in loader.epoch(0) {
        let batch = batch.unwrap();
        samples += batch.ids.len();
        loader.recycle(batch);
    }
    assert_eq!(samples, 4 * files);
    MOST.load(Ordering::Relaxed) - before
}

#[test]
fn memory_is_that_of_the_buffers_for_any_number_of_files() {
    const FILES: usize = 1000;
    let folder = tempfile::tempdir().unwrap();
    let metadata = Metadata::new([2, 32, 24], [64, 48]);
    metadata.write(folder.path()).unwrap();
    let path = |shard: usize| folder.path().join(format!("{shard}.tfrecord.gz"));
    let mut writer = ShardWriter::create(path(0), &metadata, 1).unwrap();
    let sample = Sample {
        rain: Array3::zeros((2, 32, 24)),
        depth_m: Array2::zeros((64, 48)),
        rain_totals_mm: None,
        depth_now_m: None,
    };
    (0..4).for_each(|_| writer.write(&sample).unwrap());
    writer.finish().unwrap();
    (1..FILES).for_each(|shard| std::fs::hard_link(path(0), path(shard)).unwrap());

    let sample_bytes = 4 * (2 * 32 * 24 + 64 * 48);
    let few = peak(folder.path(), 40);
    let many = peak(folder.path(), FILES);
    // Which thread is first decides how many of the samples read ahead are held at once: a megabyte at most. The order
    // of the shards takes some bytes each.
    let read_ahead = 2 * 4 * 8 * sample_bytes;
    assert!(
        many < few + read_ahead + 100 * FILES,
        "{few} bytes for 40 files, {many} for {FILES}"
    );
    // All samples would be seventy megabytes.
    assert!(many < 4 * FILES * sample_bytes / 10, "{many}");
}
