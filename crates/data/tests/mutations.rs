//! Damaged input of every format: whatever the bytes, readers return; they never panic, hang, or ask for more memory than the
//! input can justify.
//!
//! A few thousand inputs a format by default; `PLUVIAL_MUTATIONS=1000000 cargo test --release -p pluvial-data --test mutations`
//! reads a million in all. Every input follows from the format's name and its number, which a failure names.

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use ndarray::{Array2, Array3};
use pluvial_data::radar::{JsonLines, OpenOptions, Orientation, RadarFrame, RadarSource, nimrod};
use pluvial_data::raster::{esri_ascii, geotiff, heightmap_json};
use pluvial_data::record::example::Example;
use pluvial_data::record::shard::{decode_sample, encode_sample};
use pluvial_data::record::tensor::{decode_tensor, encode_tensor};
use pluvial_data::record::tfrecord::{read_record, write_record};
use pluvial_data::{GeoGrid, Metadata, Sample, ShardReader, rng};
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

/// What may be asked for at once, beside four times the input.
const MOST_BYTES: usize = 64 << 20;
/// Seconds after which an input counts as one that never ends.
const HANG_S: u64 = 60;

type Read = Box<dyn Fn(&[u8]) -> Result<(), String>>;

/// A format, with files that its reader takes.
struct Format {
    name: &'static str,
    good: Vec<Vec<u8>>,
    read: Read,
    /// What one request may be at most for inputs as small as these; far below the general bound.
    most_bytes: usize,
}

/// One to four of: a flipped bit, an extreme byte, a cut, a removed or doubled stretch, a hostile word.
fn mutate(bytes: &[u8], rng: &mut impl rand::Rng) -> Vec<u8> {
    const WORDS: [&[u8]; 11] = [
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
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ];
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            break;
        }
        // Headers decide most: half of the damage goes there, half of that to its first bytes.
        let end = match rng.random_range(0..4) {
            0 => bytes.len().min(64),
            1 => bytes.len().min(600),
            _ => bytes.len(),
        };
        let at = rng.random_range(0..end);
        let to = (at + rng.random_range(1..64)).min(bytes.len());
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = [0, 0xff, 0x7f, 0x80][rng.random_range(0..4)],
            2 => bytes[at] = rng.random(),
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..to)),
            5 => {
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

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn inflated(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(file), &mut bytes).unwrap();
    bytes
}

/// The records in TFRecord framing.
fn framed(records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        write_record(&mut bytes, record).unwrap();
    }
    bytes
}

/// The records of a framed stream, as far as they are good. As the readers of shards do: a local error is followed by the
/// next record, any other ends the stream.
fn unframed(mut bytes: &[u8], bound: u64) -> Result<Vec<Vec<u8>>, String> {
    let (mut records, mut data, mut first_error) = (Vec::new(), Vec::new(), None);
    loop {
        match read_record(&mut bytes, &mut data, bound) {
            Ok(true) => records.push(data.clone()),
            Ok(false) => break,
            Err(e) => {
                let local = e.is_local();
                first_error.get_or_insert(e.to_string());
                if !local {
                    break;
                }
            }
        }
    }
    first_error.map_or(Ok(records), Err)
}

/// A reader of files as one of bytes. The errors of such readers name the file.
fn through_file(
    folder: &Path,
    name: &'static str,
    read: impl Fn(&Path) -> pluvial_data::Result<()> + 'static,
) -> Read {
    let path = folder.join(name);
    Box::new(move |bytes| {
        // A new file each time: overwriting one makes some file systems wait for the disk.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).unwrap();
        LARGEST.store(0, Ordering::Relaxed);
        read(&path).map_err(|e| {
            let e = e.to_string();
            assert!(e.contains(name), "the error does not name the file: {e}");
            e
        })
    })
}

fn records(folder: &Path) -> Vec<Format> {
    let metadata = Metadata::new([7, 4, 3], [8, 6]);
    let bound = metadata.max_record_bytes();
    let sample = Sample {
        rain: Array3::from_shape_fn((7, 4, 3), |(c, y, x)| (c * 12 + y * 3 + x) as f32 / 100.0),
        depth_m: Array2::from_shape_fn((8, 6), |(y, x)| (y * 6 + x) as f32 / 16.0),
        rain_totals_mm: None,
        depth_now_m: None,
    };
    let ours = encode_sample(&sample, &metadata).unwrap();
    // Every form of values that TensorFlow writes.
    let mut examples = unframed(&inflated(&golden("values.tfrecord.gz")), bound).unwrap();
    examples.push(ours.clone());
    let mut tensors: Vec<Vec<u8>> = examples
        .iter()
        .map(|example| Example::parse(example).unwrap())
        .map(|example| example.bytes("waterdepth").unwrap().to_vec())
        .collect();
    let depths: Vec<f32> = sample.depth_m.iter().copied().collect();
    tensors.push(encode_tensor(&[8, 6], &depths));
    let shape = metadata.clone();
    let shards = metadata.clone();
    let stream = framed(&[ours.clone(), examples[1].clone(), ours]);
    vec![
        Format {
            name: "TFRecord",
            good: vec![stream.clone()],
            read: Box::new(move |bytes| unframed(bytes, bound).map(drop)),
            most_bytes: 64 << 10,
        },
        Format {
            name: "Example",
            good: examples.clone(),
            read: Box::new(|bytes| {
                let example = Example::parse(bytes).map_err(|e| e.to_string())?;
                for name in ["rainfallradar", "waterdepth"] {
                    example.bytes(name).map_err(|e| e.to_string())?;
                }
                Ok(())
            }),
            most_bytes: 64 << 10,
        },
        Format {
            name: "TensorProto",
            good: tensors,
            read: Box::new(|bytes| {
                let values = decode_tensor(bytes, &[8, 6]).map_err(|e| e.to_string())?;
                assert_eq!(values.len(), 48);
                Ok(())
            }),
            most_bytes: 64 << 10,
        },
        Format {
            name: "sample",
            good: examples,
            read: Box::new(move |bytes| {
                let sample = decode_sample(bytes, &shape).map_err(|e| e.to_string())?;
                assert_eq!(sample.depth_m.dim(), (8, 6));
                assert!(sample.depth_m.iter().all(|depth| depth.is_finite()));
                Ok(())
            }),
            most_bytes: 64 << 10,
        },
        Format {
            name: "shard",
            good: vec![gzip(&stream)],
            read: through_file(folder, "0.tfrecord.gz", move |path| {
                let results: Vec<_> = ShardReader::open(path, &shards)?.collect();
                assert!(results.len() <= 5, "{} records", results.len());
                results.into_iter().try_for_each(|result| result.map(drop))
            }),
            most_bytes: 1 << 20,
        },
    ]
}

fn rasters(folder: &Path) -> Vec<Format> {
    let grid = GeoGrid::new(
        Array2::from_shape_fn((13, 17), |(i, j)| i as f32 * 1.5 - j as f32),
        100.0,
        200.0,
        5.0,
    );
    let written = |name: &str, write: &dyn Fn(&Path)| {
        let path = folder.join(name);
        write(&path);
        std::fs::read(path).unwrap()
    };
    let ascii = written("grid.asc", &|path| esri_ascii::write(path, &grid).unwrap());
    let json = written("heights.json", &|path| {
        heightmap_json::write(path, grid.data.view()).unwrap();
    });
    let mut tiffs: Vec<PathBuf> = std::fs::read_dir(golden("geotiff"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tif"))
        .collect();
    tiffs.sort();
    assert_eq!(tiffs.len(), 9);
    vec![
        Format {
            name: "ESRI ASCII",
            // A stream of two grids, plain and packed.
            good: vec![ascii.repeat(2), gzip(&ascii)],
            read: through_file(folder, "damaged.asc", |path| {
                esri_ascii::Grids::open(path)?.try_for_each(|grid| grid.map(drop))
            }),
            most_bytes: 8 << 20,
        },
        Format {
            name: "heightmap JSON",
            good: vec![json.clone(), gzip(&json)],
            read: through_file(folder, "damaged.json", |path| {
                heightmap_json::read(path).map(drop)
            }),
            most_bytes: 1 << 20,
        },
        Format {
            name: "GeoTIFF",
            good: tiffs
                .iter()
                .map(|path| std::fs::read(path).unwrap())
                .collect(),
            read: through_file(folder, "damaged.tif", |path| geotiff::read(path).map(drop)),
            most_bytes: 16 << 20,
        },
    ]
}

fn radar(folder: &Path) -> Vec<Format> {
    let mut grid = GeoGrid::new(
        Array2::from_shape_fn((5, 7), |(i, j)| (i * 7 + j) as f32 / 32.0),
        209_000.0,
        93_000.0,
        1000.0,
    );
    grid.data[[0, 6]] = f32::NAN;
    let nimrod = |minutes: i64| {
        let path = folder.join("frame.dat");
        let frame = RadarFrame {
            end_s: Some(1_458_950_400 + 60 * minutes),
            duration_s: None,
            rain_mm_per_h: grid.clone(),
        };
        nimrod::write(&path, &frame).unwrap();
        std::fs::read(path).unwrap()
    };
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("uk_201603260005.dat.gz", gzip(&nimrod(5))),
        ("without a time.dat", nimrod(0)),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive
            .append_data(&mut header, name, bytes.as_slice())
            .unwrap();
    }
    let archive = archive.into_inner().unwrap();
    let line = br#"{"data":[[0,1.5],[null,2],[3,-1]],"timestamp":"2016-03-26T00:05:00.000Z","timestamps":[null,"2016-03-26T00:05:00.000Z"],"size_full":{"width":20,"height":10},"bounds_full":{"top":1550000,"bottom":1530000,"left":-405000,"right":-395000},"bounds_extract_array":{"start":{"x":7,"y":4},"end":{"x":9,"y":7}}}
"#;
    let frames = |source: &mut dyn RadarSource| {
        while let Some(frame) = source.next_frame()? {
            let rain = frame.rain_mm_per_h.data;
            assert!(
                rain.iter()
                    .all(|rate| rate.is_nan() || (rate.is_finite() && *rate >= 0.0))
            );
        }
        Ok(())
    };
    let opened = move |path: &Path| {
        frames(pluvial_data::radar::open(path, &OpenOptions::default())?.as_mut())
    };
    vec![
        Format {
            name: "Nimrod",
            good: vec![[nimrod(0), nimrod(5)].concat(), gzip(&nimrod(0))],
            read: through_file(folder, "damaged.dat", opened),
            most_bytes: 1 << 20,
        },
        Format {
            name: "archive of Nimrod files",
            good: vec![archive.clone(), gzip(&archive)],
            read: through_file(folder, "damaged.tar", opened),
            most_bytes: 1 << 20,
        },
        Format {
            name: "rain table",
            good: vec![b"0.5 0.5\n1 1\n\n 2.25 2.25\n".to_vec()],
            read: through_file(folder, "damaged.txt", opened),
            most_bytes: 1 << 20,
        },
        Format {
            name: "JSON lines of radar",
            good: vec![line.repeat(2), gzip(line)],
            read: through_file(folder, "damaged.jsonl", move |path| {
                frames(&mut JsonLines::open(path, Orientation::Rotated)?)
            }),
            most_bytes: 1 << 20,
        },
    ]
}

/// How many of `count` damaged inputs were refused. `started` counts them for whoever watches.
fn refused(format: &Format, count: usize, started: &AtomicU64) -> usize {
    for good in &format.good {
        (format.read)(good).unwrap_or_else(|e| panic!("{}: undamaged, but {e}", format.name));
    }
    let mut refused = 0;
    for number in 0..count {
        started.fetch_add(1, Ordering::Relaxed);
        let mut rng = rng::stream(number as u64, format.name);
        let input = mutate(&format.good[number % format.good.len()], &mut rng);
        LARGEST.store(0, Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| (format.read)(&input)));
        let largest = LARGEST.load(Ordering::Relaxed);
        let Ok(result) = result else {
            panic!("{}, input {number}: panicked", format.name);
        };
        assert!(
            largest <= format.most_bytes.min(MOST_BYTES) + 4 * input.len(),
            "{}, input {number} of {} bytes: {largest} bytes at once",
            format.name,
            input.len()
        );
        if let Err(error) = result {
            refused += 1;
            assert!(
                !error.contains('\n'),
                "{}, input {number}: {error}",
                format.name
            );
        }
    }
    refused
}

/// All formats in one test: they share the allocator's counter.
#[test]
fn damaged_input_is_refused_or_read() {
    let total = match std::env::var("PLUVIAL_MUTATIONS") {
        Ok(text) => text.parse().expect("PLUVIAL_MUTATIONS is a number"),
        Err(_) => 40_000,
    };
    let folder = tempfile::tempdir().unwrap();
    let mut formats = records(folder.path());
    formats.extend(rasters(folder.path()));
    formats.extend(radar(folder.path()));

    let (started, done) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let watch = std::thread::spawn({
        let (started, done) = (Arc::clone(&started), Arc::clone(&done));
        move || {
            let (mut last, mut seconds) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(1));
                let now = started.load(Ordering::Relaxed);
                seconds = if now == last { seconds + 1 } else { 0 };
                last = now;
                if seconds > HANG_S {
                    eprintln!("input {now} in all has not ended after {HANG_S} s");
                    std::process::abort();
                }
            }
        }
    });
    let count = usize::div_ceil(total, formats.len());
    for format in &formats {
        let refused = refused(format, count, &started);
        println!("{}: {refused} of {count} refused", format.name);
        assert!(
            10 * refused > count && refused < count,
            "{}: {refused} of {count} refused: the damage tests one side only",
            format.name
        );
    }
    done.store(true, Ordering::Relaxed);
    watch.join().unwrap();
}
