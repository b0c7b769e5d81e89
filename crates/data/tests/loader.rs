//! Datasets, channels and batches: order, position, bad records.

use std::path::Path;
use std::sync::Arc;

use ndarray::{Array2, Array3, Axis, array, s};
use pluvial_data::loader::{Batches, Position};
use pluvial_data::manifest::{Catchment, ShardInfo};
use pluvial_data::{
    Batch, Channel, Dataset, Loader, LoaderConfig, Manifest, Metadata, OnBadRecord, Sample,
    SampleId, ShardWriter, TransformConfig, raster::heightmap_json, split, stats,
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
            event: format!("event {shard}"),
            catchment: ["upper", "lower"][shard % 2].into(),
            split: if shard == 6 { "test_storms" } else { "train" }.into(),
            times_s: (0..count).map(|record| 300.0 * record as f64).collect(),
        });
    }
    let mut catchments = Vec::new();
    for (i, name) in ["upper", "lower"].into_iter().enumerate() {
        let heightmap = format!("heightmaps/{name}.json.gz");
        heightmap_json::write(&folder.join(&heightmap), elevation(i).view()).unwrap();
        catchments.push(Catchment {
            name: name.into(),
            heightmap,
        });
    }
    let manifest = Manifest {
        format: 1,
        recipe: String::new(),
        recipe_sha256: "00".into(),
        seed: 1,
        pluvial_version: "0".into(),
        cell_size_m: 500.0,
        frame_s: 300.0,
        pattern: vec![1, 3],
        water_offset: 1,
        total_hours: vec![1.0],
        catchments,
        shards,
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
