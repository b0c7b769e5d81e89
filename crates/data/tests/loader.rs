//! Datasets, channels and batches: order, position, bad records.

use std::path::Path;
use std::sync::Arc;

use ndarray::{Array2, Array3, Axis, array, s};
use pluvial_data::loader::{Balance, Batches, InputStats, Position};
use pluvial_data::manifest::{Catchment, ShardInfo};
use pluvial_data::{
    Batch, Channel, Crop, Dataset, Loader, LoaderConfig, Manifest, Metadata, OnBadRecord, Sample,
    SampleId, ShardWriter, TransformConfig, raster::heightmap_json, split, stats,
    transform::Stitch,
};

const RAIN: [usize; 3] = [2, 4, 3];
const DEPTH: [usize; 2] = [8, 6];
/// Samples a shard: uneven, so that lanes end at different times.
const COUNTS: [usize; 7] = [5, 1, 9, 3, 7, 2, 6];

fn metadata() -> Metadata {
    let mut metadata = Metadata::new(RAIN, DEPTH);
    metadata.rainfalltotals = Some([1, 4, 3]);
    metadata.waterdepth_now = Some(DEPTH);
    metadata
}

/// A sample that says which it is at every place.
fn sample(shard: usize, record: usize) -> Sample {
    let base = 0.001 * (shard * 10 + record) as f32;
    Sample {
        rain: Array3::from_shape_fn(RAIN, |(c, y, x)| base + (c * 12 + y * 3 + x) as f32 / 100.0),
        depth_m: Array2::from_shape_fn(DEPTH, |(y, x)| {
            base + 0.02 * ((y * 5 + x * 3 + shard + record) % 11) as f32
        }),
        rain_totals_mm: Some(Array3::from_shape_fn((1, 4, 3), |(_, y, x)| {
            base + (y * 3 + x) as f32
        })),
        depth_now_m: Some(Array2::from_shape_fn(DEPTH, |(y, x)| {
            base + 0.01 * ((y + x * 2) % 5) as f32
        })),
    }
}

fn elevation(catchment: usize) -> Array2<f32> {
    Array2::from_shape_fn(DEPTH, |(y, x)| {
        100.0 - (y * (7 + catchment)) as f32 - (x * x) as f32
    })
}

/// Seven shards over two catchments, the last shard in a split of its own; a folder whose name has spaces.
fn dataset() -> (tempfile::TempDir, Arc<Dataset>) {
    let folder = tempfile::Builder::new()
        .prefix("a data set ")
        .tempdir()
        .unwrap();
    write_dataset(folder.path());
    let dataset = Arc::new(Dataset::open(folder.path()).unwrap());
    (folder, dataset)
}

fn write_dataset(folder: &Path) {
    metadata().write(folder).unwrap();
    std::fs::create_dir(folder.join("heightmaps")).unwrap();
    let mut shards = Vec::new();
    for (shard, &count) in COUNTS.iter().enumerate() {
        let file = format!("{shard}.tfrecord.gz");
        let mut writer = ShardWriter::create(folder.join(&file), &metadata(), 6).unwrap();
        (0..count).for_each(|record| writer.write(&sample(shard, record)).unwrap());
        writer.finish().unwrap();
        shards.push(ShardInfo {
            file,
            event: Some(format!("event {shard}")),
            catchment: ["upper", "lower"][shard % 2].into(),
            split: Some(if shard == 6 { "test_storms" } else { "train" }.into()),
            times_s: (0..count).map(|record| 300.0 * record as f64).collect(),
            ..ShardInfo::default()
        });
    }
    let mut catchments = Vec::new();
    for (i, name) in ["upper", "lower"].into_iter().enumerate() {
        let heightmap = format!("heightmaps/{name}.json.gz");
        heightmap_json::write(&folder.join(&heightmap), elevation(i).view()).unwrap();
        catchments.push(Catchment {
            name: name.into(),
            heightmap: Some(heightmap),
            place: None,
        });
    }
    let manifest = Manifest {
        format: 1,
        cell_size_m: Some(500.0),
        frame_s: Some(300.0),
        pattern: Some(vec![1, 3]),
        water_offset: Some(1),
        total_hours: vec![1.0],
        catchments,
        shards,
        ..Manifest::default()
    };
    manifest.write(folder).unwrap();
}

/// Small buffers, so that the order is made by everything at once.
fn config() -> LoaderConfig {
    LoaderConfig {
        batch_size: 4,
        seed: 3,
        shuffle_buffer: 6,
        interleave: 3,
        ..LoaderConfig::default()
    }
}

fn loader(dataset: &Arc<Dataset>, config: LoaderConfig) -> Loader {
    Loader::new(Arc::clone(dataset), (0..COUNTS.len()).collect(), config).unwrap()
}

fn all(batches: Batches) -> Vec<Batch> {
    batches.map(Result::unwrap).collect()
}

fn ids(batches: &[Batch]) -> Vec<SampleId> {
    batches.iter().flat_map(|batch| batch.ids.clone()).collect()
}

#[test]
fn every_sample_comes_once_an_epoch_in_another_order() {
    let (_folder, dataset) = dataset();
    let loader = loader(&dataset, config());
    assert_eq!(loader.samples(), Some(33));
    let epochs: Vec<_> = (0..3).map(|epoch| ids(&all(loader.epoch(epoch)))).collect();
    let expected: Vec<SampleId> = COUNTS
        .iter()
        .enumerate()
        .flat_map(|(shard, &count)| (0..count as u64).map(move |record| SampleId { shard, record }))
        .collect();
    for ids in &epochs {
        let mut sorted = ids.clone();
        sorted.sort();
        assert_eq!(sorted, expected);
        assert_ne!(*ids, expected);
    }
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
    let other_seed = ids(&all(self::loader(
        &dataset,
        LoaderConfig {
            seed: 4,
            ..config()
        },
    )
    .epoch(0)));
    assert_ne!(other_seed, epochs[0]);
    let in_order = ids(&all(self::loader(
        &dataset,
        LoaderConfig {
            shuffle: false,
            ..config()
        },
    )
    .epoch(5)));
    assert_eq!(in_order, expected);
}

#[test]
fn batches_hold_the_samples_they_name() {
    let (_folder, dataset) = dataset();
    let batches = all(loader(&dataset, config()).epoch(0));
    assert_eq!(
        batches
            .iter()
            .map(|batch| batch.ids.len())
            .collect::<Vec<_>>(),
        [4, 4, 4, 4, 4, 4, 4, 4, 1]
    );
    for batch in &batches {
        for (i, id) in batch.ids.iter().enumerate() {
            let sample = sample(id.shard, id.record as usize);
            assert_eq!(batch.catchment[i], id.shard % 2);
            assert_eq!(batch.depth_m.index_axis(Axis(0), i), sample.depth_m);
            assert_eq!(
                batch.depth_now_m.as_ref().unwrap().index_axis(Axis(0), i),
                sample.depth_now_m.unwrap()
            );
            let input = batch.input.index_axis(Axis(0), i);
            assert_eq!(input.shape(), [3, 8, 6]);
            // Each rain cell stands over 2 × 2 depth cells.
            for ((c, y, x), value) in input.slice(s![..2, .., ..]).indexed_iter() {
                assert_eq!(*value, sample.rain[[c, y / 2, x / 2]]);
            }
        }
    }
}

#[test]
fn the_order_does_not_depend_on_threads_prefetch_or_cache() {
    let (_folder, dataset) = dataset();
    let augmented = LoaderConfig {
        augment: true,
        ..config()
    };
    let reference: Vec<_> = (0..2)
        .map(|epoch| all(loader(&dataset, augmented.clone()).epoch(epoch)))
        .collect();
    for (threads, prefetch, cache_bytes) in [(1, 1, 0), (2, 5, 3000), (3, 2, 1 << 20), (64, 1, 0)] {
        let loader = loader(
            &dataset,
            LoaderConfig {
                threads,
                prefetch,
                cache_bytes,
                ..augmented.clone()
            },
        );
        for (epoch, reference) in reference.iter().enumerate() {
            assert_eq!(
                &all(loader.epoch(epoch as u64)),
                reference,
                "{threads} threads, cache of {cache_bytes}"
            );
        }
    }
}

#[test]
fn a_saved_position_continues_with_the_very_next_batch() {
    let (_folder, dataset) = dataset();
    let config = LoaderConfig {
        augment: true,
        ..config()
    };
    let loader = self::loader(&dataset, config.clone());
    let reference = all(loader.epoch(1));
    for taken in 0..=reference.len() {
        let mut batches = loader.epoch(1);
        assert_eq!(all_of(batches.by_ref().take(taken)), reference[..taken]);
        let saved = serde_json::to_string(batches.position()).unwrap();
        drop(batches);
        // Another process: nothing is cached.
        let fresh = self::loader(
            &dataset,
            LoaderConfig {
                threads: 1,
                ..config.clone()
            },
        );
        let position: Position = serde_json::from_str(&saved).unwrap();
        assert_eq!(
            all(fresh.resume(&position).unwrap()),
            reference[taken..],
            "{taken}"
        );
    }
    let mut batches = loader.epoch(1);
    assert_eq!(batches.by_ref().count(), reference.len());
    assert_eq!(*batches.position(), loader.start(2));

    let other = self::loader(&dataset, LoaderConfig { seed: 9, ..config });
    let message = other.resume(&loader.start(0)).unwrap_err().to_string();
    assert!(
        message.contains("other data or other loader settings"),
        "{message}"
    );
}

fn all_of(batches: impl Iterator<Item = pluvial_data::Result<Batch>>) -> Vec<Batch> {
    batches.map(Result::unwrap).collect()
}

#[test]
fn shuffling_mixes_across_shards_and_time() {
    let folder = tempfile::tempdir().unwrap();
    Metadata::new([1, 1, 2], [1, 2])
        .write(folder.path())
        .unwrap();
    for shard in 0..16 {
        let metadata = Metadata::new([1, 1, 2], [1, 2]);
        let path = folder.path().join(format!("{shard}.tfrecord.gz"));
        let mut writer = ShardWriter::create(path, &metadata, 1).unwrap();
        let sample = Sample {
            rain: Array3::zeros((1, 1, 2)),
            depth_m: array![[0.0, 0.2]],
            rain_totals_mm: None,
            depth_now_m: None,
        };
        (0..64).for_each(|_| writer.write(&sample).unwrap());
        writer.finish().unwrap();
    }
    let dataset = Arc::new(Dataset::open(folder.path()).unwrap());
    let transform = TransformConfig {
        channels: vec![Channel::Rain],
        ..TransformConfig::default()
    };
    let config = LoaderConfig {
        batch_size: 16,
        shuffle_buffer: 128,
        interleave: 8,
        transform,
        ..LoaderConfig::default()
    };
    let loader = Loader::new(Arc::clone(&dataset), (0..16).collect(), config).unwrap();
    assert_eq!(loader.samples(), None);
    let batches = all(loader.epoch(0));
    assert_eq!(batches.len(), 64);
    let shards = batches.iter().map(|batch| {
        let mut shards: Vec<_> = batch.ids.iter().map(|id| id.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        shards.len()
    });
    // 16 draws of 8 shards hold 7.05 different ones on average (8 (1 − (7/8)^16)).
    let mean = shards.sum::<usize>() as f64 / 64.0;
    assert!(mean > 6.5, "{mean}");
}

#[test]
fn labels_are_cropped_thresholded_and_freed_of_isolated_cells() {
    let (folder, dataset) = dataset();
    let transform = TransformConfig {
        output_size: Some([3, 4]),
        threshold_m: 0.15,
        ..TransformConfig::default()
    };
    let loader = loader(
        &dataset,
        LoaderConfig {
            shuffle: false,
            transform: transform.clone(),
            ..config()
        },
    );
    assert_eq!(loader.input_shape(), [3, 3, 4]);
    let batch = loader.epoch(0).next().unwrap().unwrap();
    // Offsets ⌈(8 − 3)/2⌉ = 3 and ⌈(6 − 4)/2⌉ = 1. Depth of sample 0 there: 0.02 · ((5 y + 3 x) mod 11).
    let depth = array![
        [0.14, 0.20, 0.04, 0.10],
        [0.02, 0.08, 0.14, 0.20],
        [0.12, 0.18, 0.02, 0.08]
    ];
    assert!(
        (&batch.depth_m.index_axis(Axis(0), 0) - &depth)
            .iter()
            .all(|difference| difference.abs() < 1e-6)
    );
    assert_eq!(
        batch.label.index_axis(Axis(0), 0),
        array![[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    );
    let kept = TransformConfig {
        remove_isolated: false,
        ..transform
    };
    let loader = self::loader(
        &dataset,
        LoaderConfig {
            shuffle: false,
            transform: kept,
            ..config()
        },
    );
    let batch = loader.epoch(0).next().unwrap().unwrap();
    assert_eq!(
        batch.label.index_axis(Axis(0), 0),
        array![[0, 1, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    );
    drop(folder);
}

#[test]
fn augmentation_turns_everything_together() {
    let (_folder, dataset) = dataset();
    let plain = all(loader(&dataset, config()).epoch(0));
    let turned = all(loader(
        &dataset,
        LoaderConfig {
            augment: true,
            ..config()
        },
    )
    .epoch(0));
    assert_eq!(ids(&plain), ids(&turned));
    let mut kinds = std::collections::HashSet::new();
    for (plain, turned) in plain.iter().zip(&turned) {
        for i in 0..plain.ids.len() {
            let matches = |rows: i32, columns: i32| {
                let now = plain.depth_now_m.as_ref().unwrap();
                turned.input.index_axis(Axis(0), i)
                    == plain.input.slice(s![i, .., ..;rows, ..;columns])
                    && turned.label.index_axis(Axis(0), i)
                        == plain.label.slice(s![i, ..;rows, ..;columns])
                    && turned.depth_m.index_axis(Axis(0), i)
                        == plain.depth_m.slice(s![i, ..;rows, ..;columns])
                    && turned.depth_now_m.as_ref().unwrap().index_axis(Axis(0), i)
                        == now.slice(s![i, ..;rows, ..;columns])
            };
            let found = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
                .into_iter()
                .find(|&(rows, columns)| matches(rows, columns));
            kinds.insert(found.expect("no symmetry of the map"));
        }
    }
    assert_eq!(kinds.len(), 4);
}

#[test]
fn cells_without_terrain_have_no_label_and_no_input() {
    let (folder, _) = dataset();
    let mut holes = elevation(0);
    holes[[0, 0]] = f32::NAN;
    holes[[7, 5]] = f32::NAN;
    heightmap_json::write(
        &folder.path().join("heightmaps/upper.json.gz"),
        holes.view(),
    )
    .unwrap();
    let dataset = Arc::new(Dataset::open(folder.path()).unwrap());
    let channels = vec![
        Channel::Rain,
        Channel::Height,
        Channel::Slope,
        Channel::Hand,
        Channel::UpstreamRain,
    ];
    let transform = TransformConfig {
        channels,
        ..TransformConfig::default()
    };
    let shards = vec![0];
    let loader = Loader::new(
        dataset,
        shards,
        LoaderConfig {
            transform,
            ..config()
        },
    )
    .unwrap();
    for batch in all(loader.epoch(0)) {
        for cell in [[0, 0], [7, 5]] {
            assert!(
                batch
                    .label
                    .slice(s![.., cell[0], cell[1]])
                    .iter()
                    .all(|&label| label == 255)
            );
            assert!(
                batch
                    .input
                    .slice(s![.., .., cell[0], cell[1]])
                    .iter()
                    .all(|&value| value == 0.0)
            );
        }
        assert_eq!(
            batch.label.iter().filter(|&&label| label == 255).count(),
            2 * batch.ids.len()
        );
        assert!(batch.input.iter().all(|value| value.is_finite()));
    }
}

#[test]
fn derived_channels_have_their_values() {
    let (_folder, dataset) = dataset();
    use Channel::*;
    let channels = vec![
        Height,
        Slope,
        LogFlowAccumulation,
        Hand,
        DepressionDepth,
        RainTotals,
        UpstreamRain,
        Rain,
    ];
    let transform = TransformConfig {
        channels,
        ..TransformConfig::default()
    };
    let loader = loader(
        &dataset,
        LoaderConfig {
            shuffle: false,
            transform,
            ..config()
        },
    );
    assert_eq!(loader.input_shape(), [9, 8, 6]);
    let batch = loader.epoch(0).next().unwrap().unwrap();
    let input = batch.input.index_axis(Axis(0), 0);
    let height = input.index_axis(Axis(0), 0);
    assert!(height.mean().unwrap().abs() < 1e-6 && (height.std(0.0) - 1.0).abs() < 1e-6);
    assert!(height[[0, 0]] > height[[7, 5]]);
    // Interior slope: 7 m a row of 500 m; x² has the central difference 2x.
    let slope = f32::hypot(7.0, 4.0) / 500.0 * 100.0;
    assert!(
        (input[[1, 3, 2]] - slope).abs() < 1e-4,
        "{} {slope}",
        input[[1, 3, 2]]
    );
    // A ridge cell has only itself upstream; the terrain has no depressions.
    assert_eq!(input[[2, 0, 0]], 0.0);
    assert!(
        input
            .index_axis(Axis(0), 4)
            .iter()
            .all(|&depth| depth == 0.0)
    );
    let totals = sample(0, 0).rain_totals_mm.unwrap();
    assert!((input[[5, 7, 4]] - totals[[0, 3, 2]] / 100.0).abs() < 1e-7);
    // What leaves the grid is what fell on it: the sums at the cells from which water leaves.
    let gathered = input
        .index_axis(Axis(0), 6)
        .mapv(|v| 10f32.powf(2.0 * v) - 1.0);
    let cells = input.index_axis(Axis(0), 2).mapv(|v| 10f32.powf(v));
    assert!((gathered[[0, 0]] - totals[[0, 0, 0]]).abs() < 1e-4);
    let flow = pluvial_data::terrain::FlowTree::new(elevation(0).mapv(f64::from).view(), 500.0);
    let outlets: Vec<(usize, usize)> = cells
        .indexed_iter()
        .map(|(cell, _)| cell)
        .filter(|&cell| flow.receiver(cell).is_none())
        .collect();
    let out = |values: &Array2<f32>| outlets.iter().map(|&cell| values[cell]).sum::<f32>();
    assert!((out(&cells) - 48.0).abs() < 1e-3, "{}", out(&cells));
    assert!(
        (out(&gathered) - 4.0 * totals.sum()).abs() < 1e-2,
        "{}",
        out(&gathered)
    );
}

#[test]
fn bad_records_stop_or_are_counted() {
    let (folder, dataset) = dataset();
    // Shard 2 ends in its middle; record 1 of shard 4 holds a NaN, behind good checksums.
    let path = folder.path().join("2.tfrecord.gz");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let path = folder.path().join("4.tfrecord.gz");
    let mut inflated = Vec::new();
    std::io::Read::read_to_end(
        &mut flate2::read::MultiGzDecoder::new(std::fs::File::open(&path).unwrap()),
        &mut inflated,
    )
    .unwrap();
    rewrite_record(&mut inflated, 1, |record| {
        let depth = sample(4, 1).depth_m[[0, 0]].to_le_bytes();
        let at = record.windows(4).rposition(|bytes| bytes == depth).unwrap();
        record[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &inflated).unwrap();
    std::fs::write(&path, encoder.finish().unwrap()).unwrap();

    let in_order = LoaderConfig {
        shuffle: false,
        ..config()
    };
    let results: Vec<_> = loader(&dataset, in_order.clone()).epoch(0).collect();
    let error = results.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(
        error.contains("2.tfrecord.gz', record ")
            && results.iter().filter(|result| result.is_err()).count() == 1,
        "{error}"
    );

    let skipping = LoaderConfig {
        on_bad_record: OnBadRecord::Skip,
        ..config()
    };
    let first = loader(&dataset, skipping.clone());
    let batches = all(first.epoch(0));
    let bad = first.bad_records();
    assert_eq!(bad.count, 2, "{bad:?}");
    assert!(
        bad.first
            .iter()
            .any(|e| e.contains("4.tfrecord.gz', record 1: feature 'waterdepth': NaN at [")),
        "{bad:?}"
    );
    let found = ids(&batches);
    assert!(
        !found.contains(&SampleId {
            shard: 4,
            record: 1
        }) && found.contains(&SampleId {
            shard: 4,
            record: 2
        })
    );
    assert!(
        batches[..batches.len() - 1]
            .iter()
            .all(|batch| batch.ids.len() == 4)
    );
    // A position that lies behind bad records continues as well.
    for taken in 0..batches.len() {
        let again = loader(&dataset, skipping.clone());
        let mut rest = again.epoch(0);
        rest.by_ref().take(taken).for_each(drop);
        let position = rest.position().clone();
        assert_eq!(
            all(loader(&dataset, skipping.clone())
                .resume(&position)
                .unwrap()),
            batches[taken..]
        );
    }
    let all_shards: Vec<usize> = (0..COUNTS.len()).collect();
    let transform = TransformConfig::default();
    let stats = stats::split_stats(&dataset, &all_shards, &transform, OnBadRecord::Skip).unwrap();
    assert_eq!((stats.samples, stats.bad_records), (found.len() as u64, 2));
    let error = stats::split_stats(&dataset, &[4], &transform, OnBadRecord::Stop)
        .unwrap_err()
        .to_string();
    assert!(error.contains("record 1: feature 'waterdepth'"), "{error}");
}

/// Changes the data of one record and mends its checksum.
fn rewrite_record(plain: &mut [u8], index: usize, change: impl Fn(&mut [u8])) {
    let mut at = 0;
    for record in 0.. {
        let length = u64::from_le_bytes(plain[at..at + 8].try_into().unwrap()) as usize;
        let data = at + 12..at + 12 + length;
        if record == index {
            change(&mut plain[data.clone()]);
            let checksum = pluvial_data::record::tfrecord::masked_crc32c(&plain[data.clone()]);
            plain[data.end..data.end + 4].copy_from_slice(&checksum.to_le_bytes());
            return;
        }
        at = data.end + 4;
    }
}

#[test]
fn stats_are_those_of_the_batches() {
    let (_folder, dataset) = dataset();
    let train = split::by_manifest(&dataset, "train").unwrap();
    assert_eq!(train, [0, 1, 2, 3, 4, 5]);
    let transform = TransformConfig {
        output_size: Some([5, 4]),
        ..TransformConfig::default()
    };
    let stats = stats::split_stats(&dataset, &train, &transform, OnBadRecord::Stop).unwrap();
    let loader = Loader::new(
        Arc::clone(&dataset),
        train,
        LoaderConfig {
            transform,
            ..config()
        },
    )
    .unwrap();
    let batches = all(loader.epoch(0));
    let count = |wanted| {
        batches
            .iter()
            .flat_map(|batch| &batch.label)
            .filter(|&&label| label == wanted)
            .count() as u64
    };
    assert_eq!(
        (stats.samples, stats.dry, stats.wet, stats.no_data),
        (27, count(0), count(1), 0)
    );
    assert_eq!(stats.dry + stats.wet, 27 * 20);
    assert!((stats.wet_share() - count(1) as f64 / 540.0).abs() < 1e-15);
    assert!(
        (stats.max_depth_m - 0.248).abs() < 0.02 && stats.binary_shards.is_empty(),
        "{stats:?}"
    );
}

#[test]
fn published_datasets_have_no_manifest_and_a_heightmap_on_the_rain_grid() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = Metadata::new(RAIN, DEPTH);
    metadata.write(folder.path()).unwrap();
    let message = Dataset::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("holds no shard"), "{message}");
    for shard in [10, 9] {
        let mut writer = ShardWriter::create(
            folder.path().join(format!("{shard}.tfrecord.gz")),
            &metadata,
            6,
        )
        .unwrap();
        let depth_m = Array2::from_shape_fn(DEPTH, |(y, x)| ((y + x) % 2) as f32);
        let sample = Sample {
            depth_m,
            rain_totals_mm: None,
            depth_now_m: None,
            ..sample(shard, 0)
        };
        writer.write(&sample).unwrap();
        writer.finish().unwrap();
    }
    let dataset = Dataset::open(folder.path()).unwrap();
    let names: Vec<_> = dataset
        .shards
        .iter()
        .map(|shard| shard.path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["9.tfrecord.gz", "10.tfrecord.gz"]);
    // Depths of 0 and 1 only: binarised by their writer.
    let stats = stats::split_stats(
        &dataset,
        &[0, 1],
        &TransformConfig::default(),
        OnBadRecord::Stop,
    )
    .unwrap();
    assert_eq!(stats.binary_shards.len(), 2);
    let message = split::by_manifest(&dataset, "train")
        .unwrap_err()
        .to_string();
    assert!(message.contains("has no manifest"), "{message}");
    let message = Loader::new(Arc::new(dataset.clone()), vec![0], config())
        .unwrap_err()
        .to_string();
    assert!(message.contains("need a heightmap"), "{message}");

    let path = folder.path().join("elsewhere.json");
    heightmap_json::write(
        &path,
        Array2::from_shape_fn((4, 3), |(y, x)| (y * 3 + x) as f32).view(),
    )
    .unwrap();
    let dataset = Arc::new(dataset.with_heightmap(&path).unwrap());
    assert_eq!(
        dataset.terrains[0].elevation_m.as_ref().unwrap()[[5, 4]],
        8.0
    );
    let loader = Loader::new(
        Arc::clone(&dataset),
        vec![0, 1],
        LoaderConfig {
            shuffle: false,
            ..config()
        },
    )
    .unwrap();
    let batch = loader.epoch(0).next().unwrap().unwrap();
    assert_eq!(batch.input.dim(), (2, 3, 8, 6));
    assert!(batch.depth_now_m.is_none());
    // z-score of 0 … 11: mean 5.5, variance (12² − 1)/12.
    assert!((batch.input[[0, 2, 7, 5]] - 5.5 / (143.0f32 / 12.0).sqrt()).abs() < 1e-6);

    heightmap_json::write(&path, Array2::zeros((3, 4)).view()).unwrap();
    let message = Dataset::open(folder.path())
        .unwrap()
        .with_heightmap(&path)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains(
            "elsewhere.json': is [3, 4], neither the depth grid [8, 6] nor the rain grid [4, 3]"
        ),
        "{message}"
    );
}

#[test]
fn a_folder_that_disagrees_with_its_manifest_is_refused() {
    let (folder, dataset) = dataset();
    let message = split::by_manifest(&dataset, "validation")
        .unwrap_err()
        .to_string();
    assert!(
        message.ends_with("has no split 'validation'; it has train, test_storms"),
        "{message}"
    );
    let open = || Dataset::open(folder.path()).unwrap_err().to_string();
    std::fs::rename(
        folder.path().join("3.tfrecord.gz"),
        folder.path().join("33.tfrecord.gz"),
    )
    .unwrap();
    assert!(
        open().contains("manifest.json': names the shard '3.tfrecord.gz', which is not there"),
        "{}",
        open()
    );
    std::fs::copy(
        folder.path().join("33.tfrecord.gz"),
        folder.path().join("3.tfrecord.gz"),
    )
    .unwrap();
    assert!(open().contains("33.tfrecord.gz"), "{}", open());
    std::fs::remove_file(folder.path().join("33.tfrecord.gz")).unwrap();
    std::fs::remove_file(folder.path().join("metadata.json")).unwrap();
    assert!(open().contains("metadata.json"), "{}", open());
    assert!(Dataset::open(folder.path().join("no such folder")).is_err());
}

#[test]
fn impossible_settings_are_named() {
    let (_folder, dataset) = dataset();
    let message = |shards: Vec<usize>, config| {
        Loader::new(Arc::clone(&dataset), shards, config)
            .unwrap_err()
            .to_string()
    };
    assert!(message(vec![], config()).contains("no shard"));
    assert!(message(vec![7], config()).contains("no shard 7"));
    assert_eq!(
        message(
            vec![0],
            LoaderConfig {
                batch_size: 0,
                ..config()
            }
        ),
        "batch_size must be 1 at least"
    );
    let with = |transform| LoaderConfig {
        transform,
        ..config()
    };
    let nan = TransformConfig {
        threshold_m: f32::NAN,
        ..TransformConfig::default()
    };
    assert_eq!(
        message(vec![0], with(nan)),
        "threshold_m must be a positive depth, not NaN"
    );
    let twice = TransformConfig {
        channels: vec![Channel::Rain, Channel::Rain],
        ..TransformConfig::default()
    };
    assert_eq!(
        message(vec![0], with(twice)),
        "input channel rain is named twice"
    );
    let large = TransformConfig {
        output_size: Some([8, 7]),
        ..TransformConfig::default()
    };
    assert_eq!(
        message(vec![0], with(large)),
        "cannot crop [8, 7] (height, width) out of [8, 6]"
    );
}

/// A dataset of the published layout, with a heightmap.
fn published(
    folder: &Path,
    [rain, depth]: [&[usize]; 2],
    heightmap: &Array2<f32>,
    shards: &[Vec<Sample>],
) -> Arc<Dataset> {
    let metadata = Metadata::new([rain[0], rain[1], rain[2]], [depth[0], depth[1]]);
    metadata.write(folder).unwrap();
    heightmap_json::write(&folder.join("heightmap.json"), heightmap.view()).unwrap();
    for (shard, samples) in shards.iter().enumerate() {
        let path = folder.join(format!("{shard}.tfrecord.gz"));
        let mut writer = ShardWriter::create(path, &metadata, 1).unwrap();
        samples
            .iter()
            .for_each(|sample| writer.write(sample).unwrap());
        writer.finish().unwrap();
    }
    Arc::new(Dataset::open(folder).unwrap())
}

/// `golden/make_transforms.py` has the formulas and did the same with TensorFlow.
#[test]
fn the_published_transforms_are_those_of_tensorflow() {
    #[derive(serde::Deserialize)]
    struct Golden {
        input: Vec<f32>,
        label: Vec<u8>,
    }
    let text = include_str!("golden/transforms.json");
    let golden: Golden = serde_json::from_str(text).unwrap();
    let sample = Sample {
        rain: Array3::from_shape_fn((7, 9, 7), |(c, y, x)| {
            (((c * 31 + y * 5 + x * x) % 101) as f64 / 100.0) as f32
        }),
        depth_m: Array2::from_shape_fn((18, 14), |(y, x)| {
            ((((y * 7 + x * x * 3 + y * x) % 29) as f64 / 100.0) as f32 - 0.13).max(0.0)
        }),
        rain_totals_mm: None,
        depth_now_m: None,
    };
    let height = Array2::from_shape_fn((9, 7), |(y, x)| 100.0 + (y * 3) as f32 - (x * x) as f32);
    let folder = tempfile::tempdir().unwrap();
    let dataset = published(
        folder.path(),
        [&[7, 9, 7], &[18, 14]],
        &height,
        &[vec![sample]],
    );
    let transform = TransformConfig {
        output_size: Some([7, 9]),
        ..TransformConfig::default()
    };
    let config = LoaderConfig {
        transform,
        ..config()
    };
    let loader = Loader::new(dataset, vec![0], config).unwrap();
    let batch = loader.epoch(0).next().unwrap().unwrap();
    assert_eq!(batch.input.dim(), (1, 8, 7, 9));
    let input: Vec<f32> = batch.input.iter().copied().collect();
    let rain = 7 * 7 * 9;
    assert_eq!(input[..rain], golden.input[..rain]);
    // TensorFlow's mean and deviation are sums of f32.
    for (ours, theirs) in input[rain..].iter().zip(&golden.input[rain..]) {
        assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");
    }
    assert_eq!(batch.label.into_raw_vec_and_offset().0, golden.label);
}

/// `inputs` of whole maps by sample, to compare crops with.
fn whole_maps(dataset: &Arc<Dataset>, transform: &TransformConfig) -> Vec<Batch> {
    let whole = LoaderConfig {
        batch_size: 1,
        shuffle: false,
        transform: TransformConfig {
            output_size: None,
            crop: Crop::Centre,
            remove_isolated: false,
            ..transform.clone()
        },
        ..config()
    };
    all(loader(dataset, whole).epoch(0))
}

#[test]
fn random_crops_show_parts_of_the_maps_and_are_repeated_by_a_resume() {
    let (_folder, dataset) = dataset();
    let transform = TransformConfig {
        channels: vec![
            Channel::Rain,
            Channel::Height,
            Channel::RainTotals,
            Channel::UpstreamRain,
        ],
        output_size: Some([5, 3]),
        crop: Crop::Random,
        remove_isolated: false,
        ..TransformConfig::default()
    };
    let whole = whole_maps(&dataset, &transform);
    let config = LoaderConfig {
        transform,
        ..config()
    };
    let loader = self::loader(&dataset, config.clone());
    let batches = all(loader.epoch(0));
    let mut corners = std::collections::HashSet::new();
    for batch in &batches {
        for (i, (id, window)) in batch.ids.iter().zip(&batch.windows).enumerate() {
            let map = whole.iter().find(|map| map.ids[0] == *id).unwrap();
            let rows = window.top..window.top + 5;
            let columns = window.left..window.left + 3;
            corners.insert((window.top, window.left));
            assert_eq!(
                batch.input.index_axis(Axis(0), i),
                map.input.slice(s![0, .., rows.clone(), columns.clone()])
            );
            let label = map.label.slice(s![0, rows.clone(), columns.clone()]);
            assert_eq!(batch.label.index_axis(Axis(0), i), label);
            let depth = map.depth_m.slice(s![0, rows, columns]);
            assert_eq!(batch.depth_m.index_axis(Axis(0), i), depth);
        }
    }
    // 33 crops of 4 × 4 places.
    assert!(corners.len() > 8, "{corners:?}");
    let mut started = loader.epoch(0);
    started.by_ref().take(3).for_each(drop);
    let position = started.position().clone();
    let rest = all(self::loader(&dataset, config).resume(&position).unwrap());
    assert_eq!(rest, batches[3..]);
    assert_ne!(all(loader.epoch(1)), batches);
}

#[test]
fn tiles_come_in_order_and_are_stitched_to_the_map() {
    let (_folder, dataset) = dataset();
    let transform = TransformConfig {
        output_size: Some([4, 4]),
        crop: Crop::Tiles { overlap: 1 },
        remove_isolated: false,
        ..TransformConfig::default()
    };
    let whole = whole_maps(&dataset, &transform);
    let tiled = |shuffle| {
        let config = LoaderConfig {
            shuffle,
            transform: transform.clone(),
            ..config()
        };
        loader(&dataset, config)
    };
    // Rows from 0, 2, 4, columns from 0, 2.
    let loader = tiled(false);
    assert_eq!(loader.samples(), Some(33 * 6));
    let batches = all(loader.epoch(0));
    let mut tiles = batches.iter().flat_map(|batch| {
        (0..batch.ids.len()).map(move |i| (batch, i, batch.windows[i], batch.ids[i]))
    });
    for map in &whole {
        let mut depth = Stitch::new(DEPTH);
        for number in 0..6 {
            let (batch, i, window, id) = tiles.next().unwrap();
            assert_eq!(id, map.ids[0]);
            assert_eq!((window.top, window.left), (number / 2 * 2, number % 2 * 2));
            depth.add(window, batch.depth_m.index_axis(Axis(0), i));
        }
        let depth = depth.finish();
        let error = &depth - &map.depth_m.index_axis(Axis(0), 0);
        assert!(error.iter().all(|error| error.abs() < 1e-7));
    }
    assert!(tiles.next().is_none());
    // Shuffled, the tiles of a sample are apart, and each comes once.
    let shuffled = all(tiled(true).epoch(0));
    let mut found: Vec<_> = shuffled
        .iter()
        .flat_map(|batch| batch.ids.iter().zip(&batch.windows))
        .map(|(id, window)| (*id, window.top, window.left))
        .collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 33 * 6);
}

#[test]
fn balancing_draws_wet_samples_more_often_the_same_ones_after_a_resume() {
    // 90 dry samples, 9 with 2 of 12 cells wet, 1 with all.
    let depth = |number: usize| {
        let wet = [0, 2, 12][usize::from(number >= 90) + usize::from(number == 99)];
        Array2::from_shape_fn((4, 3), |(y, x)| if y * 3 + x < wet { 0.5 } else { 0.0 })
    };
    let shards: Vec<Vec<Sample>> = (0..10)
        .map(|shard| {
            (0..10).map(move |record| Sample {
                rain: Array3::from_elem((1, 4, 3), 0.01 * shard as f32),
                // The wet ones spread over the shards.
                depth_m: depth(record * 10 + shard),
                rain_totals_mm: None,
                depth_now_m: None,
            })
        })
        .map(Iterator::collect)
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let dataset = published(
        folder.path(),
        [&[1, 4, 3], &[4, 3]],
        &Array2::zeros((4, 3)),
        &shards,
    );
    let plain = LoaderConfig {
        transform: TransformConfig {
            channels: vec![Channel::Rain],
            ..TransformConfig::default()
        },
        ..config()
    };
    let loader = |config: &LoaderConfig| {
        Loader::new(Arc::clone(&dataset), (0..10).collect(), config.clone()).unwrap()
    };
    let stats = loader(&plain).input_stats().unwrap();
    assert_eq!(
        (stats.samples, stats.wet_shares),
        (100, [90, 0, 0, 9, 0, 0, 1])
    );
    let config = LoaderConfig {
        balance: Some(Balance::even(stats.wet_shares, 1000.0).unwrap()),
        ..plain
    };
    let balanced = loader(&config);
    let mut counts = [0usize; 3];
    for epoch in 0..30 {
        for batch in all(balanced.epoch(epoch)) {
            for label in batch.label.outer_iter() {
                let wet = label.iter().filter(|&&label| label == 1).count();
                counts[[0, 2, 12].iter().position(|&count| count == wet).unwrap()] += 1;
            }
        }
    }
    // A third each of 3000: the first with a standard deviation of √(30 · 90 · 0.37 · 0.63) = 25.
    for count in counts {
        assert!((900..1100).contains(&count), "{counts:?}");
    }
    let reference = all(balanced.epoch(4));
    let mut started = balanced.epoch(4);
    started.by_ref().take(7).for_each(drop);
    let threads = LoaderConfig {
        threads: 1,
        prefetch: 1,
        ..config.clone()
    };
    assert_eq!(
        all(loader(&threads).resume(started.position()).unwrap()),
        reference[7..]
    );
    // Another balance is another order.
    let other = LoaderConfig {
        balance: Some(Balance::even(stats.wet_shares, 2.0).unwrap()),
        ..config
    };
    assert!(loader(&other).resume(started.position()).is_err());
}

#[test]
fn moments_make_every_plane_zero_mean_and_unit_deviation() {
    let (folder, _) = dataset();
    let mut holes = elevation(0);
    holes[[2, 3]] = f32::NAN;
    let heights = folder.path().join("heightmaps/upper.json.gz");
    heightmap_json::write(&heights, holes.view()).unwrap();
    let dataset = Arc::new(Dataset::open(folder.path()).unwrap());
    let transform = TransformConfig {
        channels: vec![Channel::Rain, Channel::Slope, Channel::WetnessIndex],
        output_size: Some([6, 5]),
        rain_scale: 3.0,
        ..TransformConfig::default()
    };
    let with = |transform: &TransformConfig| {
        let config = LoaderConfig {
            transform: transform.clone(),
            ..config()
        };
        loader(&dataset, config)
    };
    let stats = with(&transform).input_stats().unwrap();
    assert_eq!((stats.samples, stats.moments.len()), (33, 4));
    // The same from the batches, the plain way.
    let batches = all(with(&transform).epoch(0));
    let cells = |batches: &[Batch], plane: usize| -> Vec<f64> {
        batches
            .iter()
            .flat_map(|batch| {
                let input = batch.input.index_axis(Axis(1), plane);
                let known = batch.label.iter().map(|&label| label != 255);
                let cells = input.iter().zip(known).filter(|(_, known)| *known);
                cells
                    .map(|(&value, _)| f64::from(value))
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let moments = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (mean, (squares / values.len() as f64).sqrt())
    };
    for (plane, found) in stats.moments.iter().enumerate() {
        let (mean, deviation) = moments(&cells(&batches, plane));
        assert!((f64::from(found.mean) - mean).abs() < 1e-6, "{plane}");
        assert!(
            (f64::from(found.deviation) - deviation).abs() < 1e-6,
            "{plane}"
        );
    }
    let normalised = TransformConfig {
        moments: Some(stats.moments.clone()),
        ..transform.clone()
    };
    let batches = all(with(&normalised).epoch(0));
    for plane in 0..4 {
        let (mean, deviation) = moments(&cells(&batches, plane));
        assert!(
            mean.abs() < 1e-5 && (deviation - 1.0).abs() < 1e-5,
            "{plane}: {mean} {deviation}"
        );
    }
    // They are saved as text beside what was trained with them.
    let text = serde_json::to_string(&stats).unwrap();
    assert_eq!(serde_json::from_str::<InputStats>(&text).unwrap(), stats);
    let short = TransformConfig {
        moments: Some(stats.moments[..3].to_vec()),
        ..transform
    };
    let message = Loader::new(
        dataset,
        vec![0],
        LoaderConfig {
            transform: short,
            ..config()
        },
    );
    assert_eq!(
        message.unwrap_err().to_string(),
        "there are moments of 3 planes for an input of 4"
    );
}

#[test]
fn rain_is_scaled_and_the_wetness_index_is_that_of_its_parts() {
    let (_folder, dataset) = dataset();
    let transform = TransformConfig {
        channels: vec![
            Channel::Rain,
            Channel::LogFlowAccumulation,
            Channel::Slope,
            Channel::WetnessIndex,
        ],
        rain_scale: 0.5,
        ..TransformConfig::default()
    };
    let config = LoaderConfig {
        shuffle: false,
        transform,
        ..config()
    };
    let batch = loader(&dataset, config).epoch(0).next().unwrap().unwrap();
    let input = batch.input.index_axis(Axis(0), 0);
    assert_eq!(input[[1, 5, 3]], 0.5 * sample(0, 0).rain[[1, 2, 1]]);
    for y in 0..DEPTH[0] {
        for x in 0..DEPTH[1] {
            let area_m = 10f32.powf(input[[2, y, x]]) * 500.0;
            let slope = (input[[3, y, x]] / 100.0).max(1e-3);
            let index = 0.1 * (area_m / slope).ln();
            assert!((input[[4, y, x]] - index).abs() < 1e-5, "{index}");
        }
    }
}

#[test]
fn memory_that_is_used_again_leaves_no_trace() {
    let (_folder, dataset) = dataset();
    let config = LoaderConfig {
        augment: true,
        cache_bytes: 2000,
        ..config()
    };
    let plain = loader(&dataset, config.clone());
    let recycling = loader(&dataset, config);
    for epoch in 0..3 {
        let reference = all(plain.epoch(epoch));
        let mut count = 0;
        for (batch, reference) in recycling.epoch(epoch).zip(&reference) {
            let batch = batch.unwrap();
            assert_eq!(batch, *reference);
            recycling.recycle(batch);
            count += 1;
        }
        assert_eq!(count, reference.len());
    }
}

#[test]
fn large_records_do_not_have_to_fill_the_shuffle_buffer_first() {
    // Records of 8 MiB, of which 32 are read before the first is drawn. The last of 40 is bad.
    let folder = tempfile::tempdir().unwrap();
    let metadata = Metadata::new([1, 1, 1], [1448, 1448]);
    let sample = Sample {
        rain: Array3::zeros((1, 1, 1)),
        depth_m: Array2::zeros((1448, 1448)),
        rain_totals_mm: None,
        depth_now_m: None,
    };
    let mut record = Vec::new();
    let bytes = pluvial_data::record::shard::encode_sample(&sample, &metadata).unwrap();
    pluvial_data::record::tfrecord::write_record(&mut record, &bytes).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..39 {
        std::io::Write::write_all(&mut encoder, &record).unwrap();
    }
    std::io::Write::write_all(&mut encoder, &record[..1000]).unwrap();
    let folder = folder.path();
    metadata.write(folder).unwrap();
    std::fs::write(folder.join("0.tfrecord.gz"), encoder.finish().unwrap()).unwrap();
    let config = LoaderConfig {
        batch_size: 2,
        cache_bytes: 0,
        transform: TransformConfig {
            channels: vec![Channel::Rain],
            output_size: Some([8, 8]),
            ..TransformConfig::default()
        },
        ..LoaderConfig::default()
    };
    let dataset = Arc::new(Dataset::open(folder).unwrap());
    let loader = Loader::new(dataset, vec![0], config).unwrap();
    let results: Vec<_> = loader.epoch(0).collect();
    // Two are read for each draw after the first: the fifth would need the 40th.
    assert_eq!(results.len(), 3);
    assert!(results[..2].iter().all(|result| result.is_ok()));
    let error = results[2].as_ref().unwrap_err().to_string();
    assert!(
        error.contains("0.tfrecord.gz', record 39: truncated"),
        "{error}"
    );
}
