//! Damaged rasters: whatever the bytes, readers return and never panic, and no allocation exceeds what the file can justify.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::Array2;
use pluvial_data::raster::{esri_ascii, geotiff, heightmap_json};
use pluvial_data::{GeoGrid, rng};
use rand::RngExt;

/// The system's allocator, with the largest request remembered.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with its arguments unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// One to four of: a flipped bit, an extreme byte, a cut, a removed or doubled stretch, a hostile word.
fn mutate(bytes: &[u8], rng: &mut impl rand::Rng) -> Vec<u8> {
    const WORDS: [&[u8]; 10] = [
        b"nan",
        b"-inf",
        b"1e999",
        b"4294967295",
        b"-1",
        b"[[[[",
        b"{}",
        b"ncols 99999",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
    ];
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            break;
        }
        // Headers decide most: half of the damage goes there.
        let end = if rng.random::<bool>() {
            bytes.len()
        } else {
            bytes.len().min(400)
        };
        let at = rng.random_range(0..end);
        let to = (at + rng.random_range(1..40)).min(bytes.len());
        match rng.random_range(0..6) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = [0, 0xff, 0x7f, 0x80][rng.random_range(0..4)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..to)),
            4 => {
                let stretch = bytes[at..to].to_vec();
                bytes.splice(at..at, stretch);
            }
            _ => {
                let word = WORDS[rng.random_range(0..WORDS.len())];
                let to = (at + word.len()).min(bytes.len());
                bytes.splice(at..to, word.iter().copied());
            }
        }
    }
    bytes
}

/// How many of `rounds` mutations of a file were refused. One test runs at a time: all share the allocator's counter.
fn refused(
    bytes: &[u8],
    name: &str,
    rounds: usize,
    limit: usize,
    read: impl Fn(&Path) -> pluvial_data::Result<()>,
) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let mut rng = rng::stream(7, name);
    let mut refused = 0;
    for round in 0..rounds {
        // A new file each time: overwriting one makes some file systems wait for the disk.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, mutate(bytes, &mut rng)).unwrap();
        LARGEST.store(0, Ordering::Relaxed);
        let result = read(&path);
        let largest = LARGEST.load(Ordering::Relaxed);
        assert!(
            largest <= limit,
            "{name}, round {round}: {largest} bytes at once"
        );
        if let Err(error) = result {
            refused += 1;
            let error = error.to_string();
            assert!(
                error.contains(name) && !error.contains('\n'),
                "{name}, round {round}: {error}"
            );
        }
    }
    refused
}

#[test]
fn damaged_files_are_refused_or_read_but_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let grid = GeoGrid::new(
        Array2::from_shape_fn((13, 17), |(i, j)| i as f32 * 1.5 - j as f32),
        100.0,
        200.0,
        5.0,
    );
    let bytes_of = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    for name in ["a.asc", "b.asc.gz"] {
        esri_ascii::write(&folder.path().join(name), &grid).unwrap();
        let count = refused(&bytes_of(name), name, 1000, 8 << 20, |path| {
            esri_ascii::Grids::open(path)?.try_for_each(|grid| grid.map(drop))
        });
        assert!(count > 300, "{name}: {count}");
    }
    for name in ["c.json", "d.json.gz"] {
        heightmap_json::write(&folder.path().join(name), grid.data.view()).unwrap();
        let count = refused(&bytes_of(name), name, 1000, 1 << 20, |path| {
            heightmap_json::read(path).map(drop)
        });
        assert!(count > 300, "{name}: {count}");
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/geotiff");
    let mut files = 0;
    for entry in std::fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "tif") {
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            let count = refused(&bytes, name, 400, 16 << 20, |path| {
                geotiff::read(path).map(drop)
            });
            assert!(count > 80, "{name}: {count}");
        }
    }
    assert_eq!(files, 9);
}
