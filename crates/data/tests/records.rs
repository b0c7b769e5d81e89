//! Shards against TensorFlow's own (`golden/make_records.py`), and against every kind of damage.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use ndarray::{Array2, Array3};
use pluvial_data::record::shard::{decode_sample, encode_sample};
use pluvial_data::record::tensor::encode_tensor;
use pluvial_data::record::tfrecord::{masked_crc32c, write_record};
use pluvial_data::{Metadata, Sample, ShardReader, ShardWriter};

const RAIN: [usize; 3] = [7, 4, 3];
const DEPTH: [usize; 2] = [8, 6];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// The formulas of `make_records.py`.
fn rain(i: usize) -> Array3<f32> {
    Array3::from_shape_fn(RAIN, |(c, y, x)| {
        ((i * 7 + c * 31 + y * 5 + x) % 101) as f32 / 100.0
    })
}

fn depth(i: usize) -> Array2<f32> {
    Array2::from_shape_fn(DEPTH, |(y, x)| ((i * 3 + y * 11 + x) % 17) as f32 / 16.0)
}

fn sample(i: usize) -> Sample {
    Sample {
        rain: rain(i),
        depth_m: depth(i),
        rain_totals_mm: None,
        depth_now_m: None,
    }
}

fn metadata() -> Metadata {
    Metadata::new(RAIN, DEPTH)
}

fn read(path: &Path) -> Vec<pluvial_data::Result<Sample>> {
    ShardReader::open(path, &metadata()).unwrap().collect()
}

fn inflated(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Reads `bytes` as a shard in a folder with spaces; the samples before the first error, and the error.
fn read_bytes(bytes: &[u8]) -> (Vec<Sample>, Option<String>) {
    let folder = tempfile::Builder::new()
        .prefix("with space ")
        .tempdir()
        .unwrap();
    let path = folder.path().join("0.tfrecord.gz");
    std::fs::write(&path, bytes).unwrap();
    let mut samples = Vec::new();
    for result in read(&path) {
        match result {
            Ok(sample) => samples.push(sample),
            Err(e) => {
                let message = e.to_string();
                assert!(
                    message.contains(path.to_str().unwrap()) && !message.contains('\n'),
                    "{message}"
                );
                return (samples, Some(message));
            }
        }
    }
    (samples, None)
}

/// A framed record.
fn frame(record: &[u8]) -> Vec<u8> {
    let mut framed = Vec::new();
    write_record(&mut framed, record).unwrap();
    framed
}

/// Three framed records, as the bytes below the gzip.
fn three() -> Vec<u8> {
    (0..3)
        .flat_map(|i| frame(&encode_sample(&sample(i), &metadata()).unwrap()))
        .collect()
}

#[test]
fn reads_what_tensorflow_writes() {
    assert_eq!(Metadata::read(&golden("")).unwrap(), metadata());
    for name in ["content.tfrecord.gz", "members.tfrecord.gz"] {
        let samples: Vec<_> = read(&golden(name))
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(samples, [sample(0), sample(1), sample(2)], "{name}");
    }
}

#[test]
fn reads_every_form_of_values_that_tensorflow_reads() {
    let samples: Vec<_> = read(&golden("values.tfrecord.gz"))
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(samples.len(), 11);
    let repeated = Array2::from_shape_fn(DEPTH, |(y, x)| {
        depth(1)[if y * 6 + x < 5 { [y, x] } else { [0, 4] }]
    });
    let expected = [
        depth(0),
        repeated,
        Array2::ones(DEPTH),
        depth(3),
        depth(4),
        depth(5),
        depth(6),
        depth(7) * 16.0,
        Array2::zeros(DEPTH),
        depth(9),
        depth(10) * 16.0,
    ];
    for (i, (sample, depth)) in samples.iter().zip(expected).enumerate() {
        assert_eq!(sample.rain, rain(i), "{i}");
        assert_eq!(sample.depth_m, depth, "{i}");
    }
}

#[test]
fn writes_what_tensorflow_writes() {
    let tensor = std::fs::read(golden("depth1.tensor")).unwrap();
    assert_eq!(
        encode_tensor(&DEPTH, &depth(1).into_raw_vec_and_offset().0),
        tensor
    );

    // Records of equal length and content; the order of the features is free in protobuf.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.tfrecord.gz");
    let mut writer = ShardWriter::create(&path, &metadata(), 6).unwrap();
    (0..3).for_each(|i| writer.write(&sample(i)).unwrap());
    assert!(!path.exists());
    assert_eq!(writer.finish().unwrap(), 3);
    assert_eq!(
        inflated(&path).len(),
        inflated(&golden("content.tfrecord.gz")).len()
    );
    let samples: Vec<_> = read(&path).into_iter().map(Result::unwrap).collect();
    assert_eq!(samples, [sample(0), sample(1), sample(2)]);
}

#[test]
fn all_four_features_round_trip_at_every_gzip_level() {
    let mut metadata = metadata();
    metadata.rainfalltotals = Some([2, 4, 3]);
    metadata.waterdepth_now = Some(DEPTH);
    let full = |i| Sample {
        rain_totals_mm: Some(Array3::from_elem([2, 4, 3], 30.5 + i as f32)),
        depth_now_m: Some(depth(i + 1)),
        ..sample(i)
    };
    let folder = tempfile::tempdir().unwrap();
    for level in 0..=9 {
        let path = folder.path().join(format!("{level}.tfrecord.gz"));
        let mut writer = ShardWriter::create(&path, &metadata, level).unwrap();
        (0..2).for_each(|i| writer.write(&full(i)).unwrap());
        writer.finish().unwrap();
        let samples: Vec<_> = ShardReader::open(&path, &metadata)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(samples, [full(0), full(1)]);
    }
    // A dataset that asks for fewer features than the records have is read; one that asks for more is not.
    let path = folder.path().join("0.tfrecord.gz");
    assert_eq!(read(&path)[0].as_ref().unwrap(), &sample(0));
    let message = ShardReader::open(golden("content.tfrecord.gz"), &metadata)
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert!(
        message
            .to_string()
            .contains("record 0: feature 'rainfalltotals' is missing"),
        "{message}"
    );
}

#[test]
fn a_writer_that_is_dropped_or_refused_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.tfrecord.gz");
    let mut writer = ShardWriter::create(&path, &metadata(), 1).unwrap();
    writer.write(&sample(0)).unwrap();
    let mut bad = sample(1);
    bad.depth_m[[7, 2]] = f32::NAN;
    let message = writer.write(&bad).unwrap_err().to_string();
    assert!(
        message.contains("record 1: feature 'waterdepth': NaN at [7, 2]"),
        "{message}"
    );
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(
        ShardWriter::create(
            folder.path().join("no folder/0.tfrecord.gz"),
            &metadata(),
            1
        )
        .is_err()
    );
}

#[test]
fn truncated_gzip_is_an_error_at_every_length() {
    let bytes = gzip(&three());
    assert_eq!(read_bytes(&bytes).1, None);
    for length in (0..bytes.len())
        .step_by(7)
        .chain(bytes.len() - 9..bytes.len())
    {
        let (samples, error) = read_bytes(&bytes[..length]);
        assert!(error.is_some(), "{length} of {}", bytes.len());
        assert!(
            samples
                .iter()
                .enumerate()
                .all(|(i, found)| *found == sample(i))
        );
    }
}

#[test]
fn damage_below_the_gzip_names_the_record_and_the_field() {
    let plain = three();
    let record = plain.len() / 3;
    for (offset, reason) in [
        (0, "checksum of the length"),
        (8, "checksum of the length"),
        (12 + 50, "checksum of the data"),
        (record - 1, "checksum of the data"),
    ] {
        let mut damaged = plain.clone();
        damaged[record + offset] ^= 4;
        let (samples, error) = read_bytes(&gzip(&damaged));
        assert_eq!(samples, [sample(0)]);
        let error = error.unwrap();
        assert!(
            error.contains(", record 1: ") && error.contains(reason),
            "{error}"
        );
    }
    let (samples, error) = read_bytes(&gzip(&plain[..2 * record + 20]));
    assert_eq!(samples.len(), 2);
    assert!(error.unwrap().contains("record 2: truncated"));
    // Damage of the data is local: the record after it is read.
    let mut damaged = plain;
    damaged[record + 62] ^= 4;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.tfrecord.gz");
    std::fs::write(&path, gzip(&damaged)).unwrap();
    let results = read(&path);
    assert_eq!(results.len(), 3);
    assert_eq!(results[2].as_ref().unwrap(), &sample(2));
}

#[test]
fn huge_claims_and_bombs_are_refused() {
    // A good checksum over a length that no record of these shapes has.
    let length = (1u64 << 40).to_le_bytes();
    let mut claim = length.to_vec();
    claim.extend(masked_crc32c(&length).to_le_bytes());
    let (_, error) = read_bytes(&gzip(&claim));
    assert!(
        error
            .unwrap()
            .contains("record 0: claims 1099511627776 bytes where at most")
    );
    // A small file that inflates to much: 64 MiB of zeros are no record (the checksum of length 0 is not 0).
    let (samples, error) = read_bytes(&gzip(&vec![0; 64 << 20]));
    assert!(samples.is_empty() && error.unwrap().contains("checksum of the length"));
    // Not gzip at all.
    assert!(read_bytes(b"hello").1.is_some());
}

#[test]
fn impossible_values_and_shapes_name_the_feature() {
    let reason = |metadata: &Metadata, sample: &Sample| {
        let record = encode_sample(sample, metadata).map_err(|e| e.to_string());
        record
            .and_then(|record| decode_sample(&record, metadata).map_err(|e| e.to_string()))
            .unwrap_err()
    };
    for (value, name) in [
        (f32::NAN, "NaN"),
        (-0.5, "-0.5"),
        (f32::INFINITY, "inf"),
        (1e6, "1000000"),
    ] {
        let mut bad = sample(0);
        bad.rain[[6, 3, 1]] = value;
        assert_eq!(
            reason(&metadata(), &bad),
            format!("feature 'rainfallradar': {name} at [6, 3, 1] is not within 0..=20")
        );
    }
    // Height and width swapped: same number of values.
    let swapped = Metadata::new(RAIN, [6, 8]);
    assert_eq!(
        reason(&swapped, &sample(0)),
        "feature 'waterdepth' has shape [8, 6] instead of [6, 8]"
    );
    let record = encode_sample(&sample(0), &metadata()).unwrap();
    let error = decode_sample(&record, &swapped).unwrap_err().to_string();
    assert_eq!(
        error,
        "feature 'waterdepth': tensor of shape [8, 6] instead of [6, 8]"
    );
    // A value that a reader meets but our writer would not write.
    let values: Vec<f32> = vec![f32::NAN; 48];
    let bad = encode_tensor(&DEPTH, &values);
    let good = encode_tensor(&RAIN, &rain(0).into_raw_vec_and_offset().0);
    let record = pluvial_data::record::example::encode_example(&[
        ("rainfallradar", good.as_slice()),
        ("waterdepth", bad.as_slice()),
    ]);
    let error = read_bytes(&gzip(&frame(&record))).1.unwrap();
    assert!(
        error.ends_with("record 0: feature 'waterdepth': NaN at [0, 0] is not within 0..=1000"),
        "{error}"
    );
}

/// The formula of `golden/interop.py`: multiples of 2⁻²⁴ that fill the mantissa.
fn number(record: usize, feature: usize, place: usize) -> f32 {
    let number = (place * 104_729 + record * 7919 + feature * 15_485_863) % 16_777_213;
    number as f32 / 16_777_216.0
}

fn interop_sample(record: usize) -> Sample {
    let stack = |feature, [planes, height, width]: [usize; 3]| {
        Array3::from_shape_fn((planes, height, width), |(c, y, x)| {
            number(record, feature, (c * height + y) * width + x)
        })
    };
    let plane =
        |feature| Array2::from_shape_fn(DEPTH, |(y, x)| number(record, feature, y * DEPTH[1] + x));
    Sample {
        rain: stack(0, RAIN),
        rain_totals_mm: Some(stack(1, [2, 4, 3])),
        depth_m: plane(2),
        depth_now_m: Some(plane(3)),
    }
}

/// Runs where `$PLUVIAL_PYTHON`, or `python3`, has TensorFlow; the goldens above stand in elsewhere.
#[test]
fn tensorflow_reads_ours_and_we_read_its() {
    let chosen = std::env::var_os("PLUVIAL_PYTHON");
    let python = chosen.clone().unwrap_or_else(|| "python3".into());
    let run = |arguments: &[&std::ffi::OsStr]| {
        let mut command = std::process::Command::new(&python);
        command
            .args(arguments)
            .env("TF_CPP_MIN_LOG_LEVEL", "3")
            .env("CUDA_VISIBLE_DEVICES", "-1")
            .output()
    };
    let found = run(&["-c".as_ref(), "import tensorflow".as_ref()]);
    if !found.as_ref().is_ok_and(|output| output.status.success()) {
        assert!(
            chosen.is_none(),
            "PLUVIAL_PYTHON is set, and has no TensorFlow: {found:?}"
        );
        eprintln!("skipped: {} has no TensorFlow", python.display());
        return;
    }
    let mut metadata = metadata();
    metadata.rainfalltotals = Some([2, 4, 3]);
    metadata.waterdepth_now = Some(DEPTH);
    let folder = tempfile::tempdir().unwrap();
    let mut writer =
        ShardWriter::create(folder.path().join("ours.tfrecord.gz"), &metadata, 6).unwrap();
    (0..5).for_each(|record| writer.write(&interop_sample(record)).unwrap());
    writer.finish().unwrap();
    let output = run(&[golden("interop.py").as_os_str(), folder.path().as_os_str()]).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let theirs = ShardReader::open(folder.path().join("theirs.tfrecord.gz"), &metadata).unwrap();
    let samples: Vec<_> = theirs.map(Result::unwrap).collect();
    assert_eq!(samples, (0..5).map(interop_sample).collect::<Vec<_>>());
}
