//! `dataset convert`, on radar and depth series, datasets and JSON lines that the tests write.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ndarray::{Array2, Array3};
use pluvial_data::raster::{esri_ascii, heightmap_json};
use pluvial_data::{Dataset, GeoGrid, Manifest, Metadata, Sample, ShardReader, ShardWriter};
use serde_json::Value;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dataset"))
        .args(args)
        .output()
        .unwrap()
}

fn json(args: &[&str]) -> Value {
    let output = run(&[args, &["--json"]].concat());
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn complaint(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn samples(folder: &Path) -> Vec<Sample> {
    let dataset = Dataset::open(folder).unwrap();
    let read = |shard: &pluvial_data::dataset::Shard| {
        ShardReader::open(&shard.path, &dataset.metadata)
            .unwrap()
            .map(|sample| sample.unwrap())
            .collect::<Vec<_>>()
    };
    dataset.shards.iter().flat_map(read).collect()
}

/// Radar frame `k`: 3 × 4 cells of 1 km with the corner at 0, 0.
fn rain(k: usize) -> GeoGrid {
    let data = Array2::from_shape_fn((3, 4), |(row, column)| {
        (5 * k) as f32 + row as f32 + 0.25 * column as f32
    });
    GeoGrid::new(data, 0.0, 3000.0, 1000.0)
}

/// Depth `k`: 4 × 4 cells of 500 m with the corner at 1000, 1000, under radar rows 0 and 1, columns 1 and 2. The south-eastern
/// cell is outside the terrain.
fn depth(k: usize) -> GeoGrid {
    let mut data = Array2::from_shape_fn((4, 4), |(row, column)| {
        k as f32 + 0.125 * row as f32 + 0.03125 * column as f32
    });
    data[[3, 3]] = f32::NAN;
    GeoGrid::new(data, 1000.0, 3000.0, 500.0)
}

/// All in one stream.
fn write_stream(file: &Path, folder: &Path, grids: impl Iterator<Item = GeoGrid>) {
    let one = folder.join("one grid.asc");
    let mut text = Vec::new();
    for grid in grids {
        esri_ascii::write(&one, &grid).unwrap();
        text.extend(fs::read(&one).unwrap());
    }
    fs::remove_file(one).unwrap();
    fs::write(file, text).unwrap();
}

/// Minutes after 03:00 at which radar frames end: four, an hour without any, and four more.
const TIMES: [usize; 8] = [0, 5, 10, 15, 75, 80, 85, 90];

/// Radar with its times, 20 depths five minutes apart that begin with the first radar frame, and terrain.
fn series(root: &Path) -> [PathBuf; 4] {
    let files =
        ["rain stream.asc", "times.txt", "depth.asc", "terrain.asc"].map(|name| root.join(name));
    write_stream(&files[0], root, (0..8).map(rain));
    let times =
        TIMES.map(|minutes| format!("20100826{:02}{:02}\n", 3 + minutes / 60, minutes % 60));
    fs::write(&files[1], times.concat()).unwrap();
    write_stream(&files[2], root, (0..20).map(depth));
    let terrain = Array2::from_shape_fn((8, 8), |(row, column)| (10 * row + column) as f32);
    esri_ascii::write(&files[3], &GeoGrid::new(terrain, 0.0, 4000.0, 500.0)).unwrap();
    files
}

fn convert<'a>(
    [rain, times, depth, terrain]: &'a [PathBuf; 4],
    out: &'a Path,
    more: &[&'a str],
) -> Vec<&'a str> {
    let mut args = vec![
        "convert",
        "--rain",
        path(rain),
        "--timestamps",
        path(times),
        "--depth",
        path(depth),
    ];
    args.extend([
        "--heightmap",
        path(terrain),
        "--out",
        path(out),
        "--pattern",
        "1,2",
    ]);
    args.extend(more);
    args
}

/// Rain, depth and terrain meet in place and time; windows do not reach over a gap; the label lies after now.
#[test]
fn series_become_records() {
    let root = tempfile::tempdir().unwrap();
    let files = series(root.path());
    let out = root.path().join("made");
    let report = json(&convert(&files, &out, &["--catchment", "hull"]));
    for (key, expected) in [
        ("samples", 4),
        ("files", 2),
        ("events", 2),
        ("duplicates", 0),
        ("without_depth", 0),
    ] {
        assert_eq!(report[key], expected, "{key}");
    }
    let metadata = Metadata::read(&out).unwrap();
    assert_eq!(
        (metadata.rainfallradar, metadata.waterdepth),
        ([2, 2, 2], [4, 4])
    );

    // Frames 2, 3 and 6, 7 are the third and fourth of their events. Depth index 0 stands at the end of frame 0 (03:00).
    for (sample, (newest, minutes)) in
        samples(&out)
            .iter()
            .zip([(2, 10), (3, 15), (6, 85), (7, 90)])
    {
        let cropped = |k: usize| {
            rain(k)
                .crop(0..2, 1..3)
                .unwrap()
                .data
                .mapv(|rate| rate / 100.0)
        };
        // Later frames rain more everywhere: the maximum of the two before is the newer one.
        assert_eq!(
            sample.rain.index_axis(ndarray::Axis(0), 0),
            cropped(newest - 1)
        );
        assert_eq!(sample.rain.index_axis(ndarray::Axis(0), 1), cropped(newest));
        let label = depth(minutes / 5 + 1)
            .data
            .mapv(|depth| if depth.is_nan() { 0.0 } else { depth });
        assert_eq!(sample.depth_m, label);
    }
    let manifest = Manifest::read(&out).unwrap();
    let [first, second] = &manifest.shards[..] else {
        panic!("{manifest:?}")
    };
    // `date -u -d "2010-08-26 02:55" +%s`
    assert_eq!(
        (first.start_s, second.start_s),
        (Some(1_282_791_300), Some(1_282_791_300 + 75 * 60))
    );
    assert_eq!(
        (first.event.as_deref(), &first.times_s[..]),
        (Some("hull/event_0000"), &[900.0, 1200.0][..])
    );
    assert_eq!(first.rain_extent, Some([1000.0, 1000.0, 3000.0, 3000.0]));
    assert_eq!(
        (manifest.cell_size_m, manifest.frame_s),
        (Some(500.0), Some(300.0))
    );
    let terrain = heightmap_json::read(&out.join("heightmaps/hull.json.gz")).unwrap();
    assert_eq!(
        (terrain.dim(), terrain[[0, 0]], terrain[[3, 3]]),
        ((4, 4), 22.0, 55.0)
    );
    assert!(run(&["verify", path(&out)]).status.success());

    // A folder whose names tell the minutes since the start (02:55) holds the same.
    let folder = root.path().join("depths");
    fs::create_dir(&folder).unwrap();
    for k in 0..20 {
        esri_ascii::write(
            &folder.join(format!("WaterDepths{}.asc", 5 * (k + 1))),
            &depth(k),
        )
        .unwrap();
    }
    let [rain, times, _, terrain] = files.clone();
    let again = root.path().join("again");
    let from_folder = [rain, times, folder, terrain];
    json(&convert(&from_folder, &again, &["--catchment", "hull"]));
    assert_eq!(samples(&again), samples(&out));

    // Every other frame; totals; a depth series that is over early; files of one sample.
    let few = root.path().join("few");
    let report = json(&convert(
        &files,
        &few,
        &["--every-frames", "2", "--total-hours", "0.25"],
    ));
    assert_eq!(report["samples"], 2);
    let totals = samples(&few)[0].rain_totals_mm.clone().unwrap();
    // Frames 1, 2 and 3 of the cell at row 1, column 2: (5 + 10 + 15 + 3 · 1.5) / 12 mm.
    assert!((totals[[0, 1, 1]] - 34.5 / 12.0).abs() < 1e-6);
    write_stream(&files[2], root.path(), (0..5).map(depth));
    let short = root.path().join("short");
    assert_eq!(
        json(&convert(&files, &short, &["--samples-per-file", "1"]))["files"],
        2
    );
}

#[test]
fn series_that_do_not_fit_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let files = series(root.path());
    let out = root.path().join("out");
    let elsewhere = GeoGrid::new(depth(0).data, 2500.0, 3000.0, 500.0);
    write_stream(&files[2], root.path(), std::iter::once(elsewhere));
    let message = complaint(&convert(&files, &out, &[]));
    for part in [
        "rain stream.asc",
        "west to east 2500 … 4500",
        "west to east 0 … 4000",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let odd = GeoGrid::new(Array2::zeros((4, 4)), 1000.0, 3000.0, 400.0);
    write_stream(&files[2], root.path(), std::iter::once(odd));
    let message = complaint(&convert(&files, &out, &[]));
    assert!(
        message.contains("no multiple of depth cells of 400 × 400"),
        "{message}"
    );
    write_stream(&files[2], root.path(), (0..2).map(depth));
    let message = complaint(&convert(&files, &out, &[]));
    assert!(
        message.contains("no sample: none of the events"),
        "{message}"
    );
    let message = complaint(&convert(
        &files,
        &root.path().join("b"),
        &["--water-offset", "0"],
    ));
    assert!(
        message.contains("water_offset must be at least 1"),
        "{message}"
    );
    // What a stopped conversion leaves is no dataset.
    assert!(complaint(&["inspect", path(&out)]).contains("unfinished"));
    assert!(complaint(&convert(&files, &out, &[])).contains("not empty"));
}

fn sample(number: usize) -> Sample {
    Sample {
        rain: Array3::from_shape_fn((2, 3, 2), |(c, y, x)| {
            (number * (c + 2 * y + x)) as f32 / 128.0
        }),
        depth_m: Array2::from_shape_fn((6, 4), |(y, x)| (number * y * x) as f32 / 32.0),
        rain_totals_mm: None,
        depth_now_m: None,
    }
}

#[test]
fn datasets_are_cut_anew() {
    let root = tempfile::tempdir().unwrap();
    let [set, out] = ["set", "out"].map(|name| root.path().join(name));
    fs::create_dir(&set).unwrap();
    let metadata = Metadata::new([2, 3, 2], [6, 4]);
    metadata.write(&set).unwrap();
    for file in 0..3 {
        let mut writer =
            ShardWriter::create(set.join(format!("{file}.tfrecord.gz")), &metadata, 1).unwrap();
        (0..5).for_each(|i| writer.write(&sample(1 + (5 * file + i) % 12)).unwrap());
        writer.finish().unwrap();
    }
    fs::write(
        set.join("heightmap.json"),
        r#"{"data":[[1,2],[3,4],[5,6]]}"#,
    )
    .unwrap();
    let args = [
        "convert",
        "--from",
        path(&set),
        "--out",
        path(&out),
        "--samples-per-file",
        "4",
        "--gzip-level",
        "9",
    ];
    let report = json(&args);
    assert_eq!(
        (&report["samples"], &report["files"]),
        (&15.into(), &4.into())
    );
    assert_eq!(samples(&out), samples(&set));
    assert_eq!(
        Dataset::open(&out).unwrap().terrains[0]
            .elevation_m
            .as_ref()
            .unwrap()[[5, 3]],
        6.0
    );
    assert!(run(&["verify", path(&out)]).status.success());
    let unique = root.path().join("unique");
    let report = json(&[
        "convert",
        "--from",
        path(&set),
        "--out",
        path(&unique),
        "--uniq",
    ]);
    assert_eq!(
        (&report["samples"], &report["duplicates"]),
        (&12.into(), &3.into())
    );
    assert_eq!(samples(&unique), (1..=12).map(sample).collect::<Vec<_>>());

    // Events, splits and times of a manifest stay; no shard mixes them.
    let made = root.path().join("made");
    json(&convert(
        &series(root.path()),
        &made,
        &["--every-frames", "1"],
    ));
    let recut = root.path().join("recut");
    let report = json(&[
        "convert",
        "--from",
        path(&made),
        "--out",
        path(&recut),
        "--samples-per-file",
        "1",
    ]);
    assert_eq!(
        (&report["files"], &report["events"]),
        (&4.into(), &2.into())
    );
    let manifest = Manifest::read(&recut).unwrap();
    let events: Vec<_> = manifest
        .shards
        .iter()
        .map(|s| (s.event.clone().unwrap(), s.times_s[0]))
        .collect();
    let expected = [(0, 900.0), (0, 1200.0), (1, 900.0), (1, 1200.0)];
    assert_eq!(
        events,
        expected.map(|(event, time)| (format!("catchment/event_000{event}"), time))
    );
    // By time: the two samples of an event see the same rain, the events do not.
    let report = json(&[
        "split",
        path(&recut),
        "--by",
        "time",
        "--shares",
        "train=1,test=1",
    ]);
    assert_eq!(
        (&report["splits"]["train"]["files"], &report["left_out"]),
        (&2.into(), &0.into())
    );
    let message = complaint(&[
        "split",
        path(&recut),
        "--by",
        "file",
        "--shares",
        "train=3,test=1",
        "--seed",
        "1",
    ]);
    assert!(message.contains("belong to the same event"), "{message}");
}

#[test]
fn json_lines_become_records() {
    let root = tempfile::tempdir().unwrap();
    let [lines, out] = ["lines", "out"].map(|name| root.path().join(name));
    fs::create_dir(&lines).unwrap();
    let line = |number: usize| {
        let sample = sample(number);
        let rain: Vec<Vec<Vec<f32>>> = sample
            .rain
            .outer_iter()
            .map(|plane| plane.rows().into_iter().map(|row| row.to_vec()).collect())
            .collect();
        let depth: Vec<Vec<f32>> = sample
            .depth_m
            .rows()
            .into_iter()
            .map(|row| row.to_vec())
            .collect();
        format!(
            "{}\n",
            serde_json::json!({"rainfallradar": rain, "waterdepth": depth, "note": "kept out"})
        )
    };
    fs::write(lines.join("10.jsonl"), line(3)).unwrap();
    pluvial_data::file::write(&lines.join("9.jsonl.gz"), |out| {
        out.write_all(format!("{}\n{}", line(1), line(2)).as_bytes())
    })
    .unwrap();
    let report = json(&[
        "convert",
        "--from",
        path(&lines),
        "--out",
        path(&out),
        "--rain-factor",
        "0.5",
    ]);
    assert_eq!(
        (&report["samples"], &report["files"]),
        (&3.into(), &1.into())
    );
    for (number, made) in (1..=3).zip(samples(&out)) {
        assert_eq!(made.depth_m, sample(number).depth_m);
        assert_eq!(made.rain, sample(number).rain * 0.5);
    }
    let bad = root.path().join("bad.jsonl");
    for (text, reason) in [
        (
            "{\"rainfallradar\":[[[1]]]}\n".to_string(),
            "line 1: no sample: missing field `waterdepth`",
        ),
        (
            format!(
                "{}{{\"rainfallradar\":[[[1,2]]],\"waterdepth\":[[1]]}}\n",
                line(1)
            ),
            "line 2: rain [1, 1, 2] and depth [1, 1], unlike",
        ),
        (
            "{\"rainfallradar\":[[[1],[1,2]]],\"waterdepth\":[[1]]}\n".into(),
            "rows of the same length",
        ),
        (String::new(), "holds no sample"),
    ] {
        fs::write(&bad, text).unwrap();
        let message = complaint(&[
            "convert",
            "--from",
            path(&bad),
            "--out",
            path(&root.path().join(reason)),
        ]);
        assert!(
            message.contains("bad.jsonl") && message.contains(reason),
            "{message}"
        );
    }
}
