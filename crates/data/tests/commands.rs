//! The `dataset` program from the outside, on data that the tests make.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ndarray::{Array2, Array3};
use pluvial_data::{Manifest, Metadata, Sample, ShardReader, ShardWriter};
use serde_json::Value;

const TINY: &str = r#"
seed = 5
[grid]
shape = [12, 20]
cell_size_m = 500.0
rain_ratio = 2
[[terrain]]
name = "a"
synthetic = { relief_m = 40.0 }
[[terrain]]
name = "b"
synthetic = { relief_m = 30.0 }
[rain.storms]
duration_h = 10.0
[sample]
total_hours = [1.0, 8.0]
[split]
train = 2
validation = 1
test = 1
"#;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dataset"))
        .args(args)
        .output()
        .unwrap()
}

/// What a successful command prints.
fn text(args: &[&str]) -> String {
    let output = run(args);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&text(&[args, &["--json"]].concat())).unwrap()
}

/// The one line that a failing command complains with.
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

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// A dataset of [`TINY`] in a folder whose name has a space.
fn tiny(root: &Path) -> PathBuf {
    let (recipe, built) = (root.join("tiny.toml"), root.join("built here"));
    fs::write(&recipe, TINY).unwrap();
    text(&["build", path(&recipe), "--out", path(&built)]);
    built
}

/// A published dataset: `files` of samples, each a number that rain and depth are made of.
fn published(folder: &Path, files: &[&[u32]]) {
    let metadata = Metadata::new([2, 3, 2], [6, 4]);
    fs::create_dir_all(folder).unwrap();
    metadata.write(folder).unwrap();
    for (i, samples) in files.iter().enumerate() {
        let mut writer =
            ShardWriter::create(folder.join(format!("{i}.tfrecord.gz")), &metadata, 4).unwrap();
        samples
            .iter()
            .for_each(|&number| writer.write(&sample(number)).unwrap());
        writer.finish().unwrap();
    }
}

fn sample(number: u32) -> Sample {
    Sample {
        rain: Array3::from_shape_fn((2, 3, 2), |(c, y, x)| {
            (number as usize * (c + 2 * y + x)) as f32 / 64.0
        }),
        depth_m: Array2::from_shape_fn((6, 4), |(y, x)| (number as usize * y * x) as f32 / 32.0),
        rain_totals_mm: None,
        depth_now_m: None,
    }
}

fn samples(folder: &Path, file: &str) -> Vec<Sample> {
    let metadata = Metadata::read(folder).unwrap();
    ShardReader::open(folder.join(file), &metadata)
        .unwrap()
        .map(|sample| sample.unwrap())
        .collect()
}

/// Counts that TensorFlow made with the published loader's steps (`golden/make_inspect.py`), on a folder without a manifest.
#[test]
fn inspect_counts_as_the_published_loader_does() {
    let folder = tempfile::tempdir().unwrap();
    for (to, from) in [("0", "content"), ("17", "members")] {
        let file = format!("{to}.tfrecord.gz");
        fs::copy(
            golden(&format!("{from}.tfrecord.gz")),
            folder.path().join(file),
        )
        .unwrap();
    }
    fs::copy(golden("metadata.json"), folder.path().join("metadata.json")).unwrap();
    let cases: Value =
        serde_json::from_str(&fs::read_to_string(golden("inspect.json")).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let flags: Vec<&str> = case["flags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|flag| flag.as_str().unwrap())
            .collect();
        let report = json(&[&["inspect", path(folder.path())], flags.as_slice()].concat());
        for key in [
            "samples",
            "cells",
            "wet_cells",
            "wet_cells_clean",
            "rain_shape",
            "depth_shape",
            "wet_fraction",
        ] {
            assert_eq!(report[key], case[key], "{key} with {flags:?}");
        }
        let (ours, theirs) = (
            report["rain_sum"].as_f64().unwrap(),
            case["rain_sum"].as_f64().unwrap(),
        );
        assert!((ours - theirs).abs() < 1e-9 * theirs, "{ours} {theirs}");
        assert_eq!(report["files"], 2);
    }
    let message = complaint(&["inspect", path(folder.path()), "--scale-up", "3"]);
    assert!(
        message.contains("covers 2 × 2 depth cells, --scale-up 3 does not fit"),
        "{message}"
    );
}

/// Every kind of damage is listed with file, record and reason.
#[test]
fn verify_lists_all_that_is_bad() {
    let root = tempfile::tempdir().unwrap();
    let built = tiny(root.path());
    assert!(text(&["verify", path(&built)]).contains("is whole: 152 samples in 8 files, 11 sums"));
    assert_eq!(
        json(&["verify", path(&built)])["problems"],
        Value::Array(Vec::new())
    );

    // A bit in the middle of one file, the end of another cut off, a third one gone, a stray one, another heightmap.
    let shard = |number: usize| built.join(format!("{number}.tfrecord.gz"));
    let mut bytes = fs::read(shard(1)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(shard(1), &bytes).unwrap();
    let bytes = fs::read(shard(2)).unwrap();
    fs::write(shard(2), &bytes[..bytes.len() - 4]).unwrap();
    fs::remove_file(shard(3)).unwrap();
    fs::write(shard(40), fs::read(shard(0)).unwrap()).unwrap();
    fs::copy(
        built.join("heightmaps/a.json.gz"),
        built.join("heightmaps/b.json.gz"),
    )
    .unwrap();

    let output = run(&["verify", path(&built), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems: Vec<(&str, Option<u64>, &str)> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            (
                p["file"].as_str().unwrap(),
                p.get("record").map(|r| r.as_u64().unwrap()),
                p["reason"].as_str().unwrap(),
            )
        })
        .collect();
    let of = |file: &str| -> Vec<_> {
        problems
            .iter()
            .filter(|(name, ..)| *name == file)
            .map(|&(_, r, w)| (r, w))
            .collect()
    };
    let sum = (None, "has another SHA-256 than the manifest says");
    assert_eq!(
        of("3.tfrecord.gz"),
        [(None, "is named by the manifest and not there")]
    );
    assert_eq!(
        of("40.tfrecord.gz"),
        [(None, "is not named by the manifest")]
    );
    assert_eq!(of("heightmaps/b.json.gz"), [sum]);
    let flipped = of("1.tfrecord.gz");
    assert!(
        flipped.len() >= 2 && flipped.contains(&sum) && flipped[0].0.is_some(),
        "{flipped:?}"
    );
    // All 19 records are there, the gzip trailer after them is not.
    let cut = of("2.tfrecord.gz");
    assert_eq!(cut.len(), 2);
    assert_eq!(cut[0].0, Some(19));
    assert!(cut[0].1.starts_with("cannot read"), "{cut:?}");
    let lines = String::from_utf8(run(&["verify", path(&built)]).stdout).unwrap();
    assert!(
        lines.contains("2.tfrecord.gz, record 19: cannot read"),
        "{lines}"
    );
}

#[test]
fn events_and_catchments_are_dealt_and_stay_apart() {
    let root = tempfile::tempdir().unwrap();
    let built = tiny(root.path());
    let split = |args: &[&str]| json(&[&["split", path(&built), "--seed", "3"], args].concat());
    let names = || -> Vec<String> {
        let manifest = Manifest::read(&built).unwrap();
        manifest
            .shards
            .iter()
            .map(|shard| shard.split.clone().unwrap())
            .collect()
    };
    let report = split(&["--by", "event", "--shares", "train=2,validation=1,test=1"]);
    assert_eq!(report["splits"]["train"]["files"], 4);
    assert_eq!(report["splits"]["test"]["samples"], 38);
    let first = names();
    split(&["--by", "catchment", "--shares", "train=1,test=1"]);
    assert!(names()[..4].iter().all(|name| *name == names()[0]) && names()[0] != names()[4]);
    split(&["--by", "event", "--shares", "train=2,validation=1,test=1"]);
    assert_eq!(names(), first);
    let rule = Manifest::read(&built).unwrap().split_rule.unwrap();
    assert_eq!((rule.seed, rule.shares.len(), rule.leaky), (3, 3, false));
    text(&["verify", path(&built)]);

    let message = complaint(&["split", path(&built), "--by", "time"]);
    assert!(
        message.contains("the manifest does not say when '0.tfrecord.gz' was"),
        "{message}"
    );
    let message = complaint(&["split", path(&built), "--by", "catchment"]);
    assert!(
        message.contains("2 cannot be dealt to 3 splits"),
        "{message}"
    );
    // The same event in two files of different splits.
    let mut manifest = Manifest::read(&built).unwrap();
    manifest.shards[1].event = manifest.shards[0].event.clone();
    manifest.shards[1].split = Some("other".into());
    manifest.write(&built).unwrap();
    let lines = String::from_utf8(run(&["verify", path(&built)]).stdout).unwrap();
    assert!(
        lines.contains("belong to the same event 'a/storm_00'"),
        "{lines}"
    );
}

/// A published dataset says nothing of events, so that dealing its files out must be asked for twice.
#[test]
fn files_are_dealt_out_only_where_the_leak_is_accepted() {
    let root = tempfile::tempdir().unwrap();
    let set = root.path().join("published");
    published(&set, &[&[1, 2], &[3, 4], &[5, 6], &[7, 4]]);
    let by_file = [
        "split",
        path(&set),
        "--by",
        "file",
        "--shares",
        "train=3,test=1",
    ];
    let message = complaint(&by_file);
    assert!(
        message.contains("hold 1 of the same samples")
            || message.contains("nothing says which event"),
        "{message}"
    );
    assert!(!set.join("manifest.json").exists());
    let said = text(&[&by_file[..], &["--leaky"]].concat());
    assert!(said.contains("These splits leak"), "{said}");
    let manifest = Manifest::read(&set).unwrap();
    assert!(manifest.split_rule.unwrap().leaky);
    assert_eq!(
        manifest
            .shards
            .iter()
            .filter(|shard| shard.split.as_deref() == Some("train"))
            .count(),
        3
    );
    assert!(text(&["verify", path(&set)]).contains("is whole: 8 samples in 4 files, 5 sums"));
    assert_eq!(
        json(&["inspect", path(&set), "--split", "train"])["samples"],
        6
    );

    // The same samples in two splits are found whatever keeps together: here by the events of a hand-written manifest.
    let mut manifest = Manifest::read(&set).unwrap();
    manifest
        .shards
        .iter_mut()
        .enumerate()
        .for_each(|(i, shard)| shard.event = Some(format!("event {i}")));
    manifest.write(&set).unwrap();
    let seeds: Vec<String> = (0..8)
        .map(|seed| {
            run(&[
                "split",
                path(&set),
                "--by",
                "event",
                "--shares",
                "train=1,test=1",
                "--seed",
                &seed.to_string(),
            ])
        })
        .filter(|output| !output.status.success())
        .map(|output| String::from_utf8(output.stderr).unwrap())
        .collect();
    assert!(
        !seeds.is_empty()
            && seeds
                .iter()
                .all(|line| line.contains("hold 1 of the same samples")),
        "{seeds:?}"
    );
}

#[test]
fn duplicates_are_counted_and_dropped() {
    let root = tempfile::tempdir().unwrap();
    let [set, out] = ["set", "out"].map(|name| root.path().join(name));
    published(&set, &[&[1, 2, 1], &[2, 1], &[3, 4], &[3, 5]]);
    let report = json(&["uniq", path(&set)]);
    assert_eq!(
        (&report["samples"], &report["duplicates"]),
        (&9.into(), &4.into())
    );
    assert!(text(&["uniq", path(&set), "--out", path(&out)]).contains("holds the other 5"));
    let kept: Vec<Sample> = ["0", "2", "3"]
        .iter()
        .flat_map(|file| samples(&out, &format!("{file}.tfrecord.gz")))
        .collect();
    assert_eq!(kept, [1, 2, 3, 4, 5].map(sample));
    assert!(!out.join("1.tfrecord.gz").exists());
    assert_eq!(json(&["uniq", path(&out)])["duplicates"], 0);
    assert!(complaint(&["uniq", path(&set), "--out", path(&out)]).contains("not empty"));

    // A manifest follows: times and sums are those of what is left.
    let built = tiny(root.path());
    let unique = root.path().join("unique");
    let report = json(&["uniq", path(&built), "--out", path(&unique)]);
    let left = report["samples"].as_u64().unwrap() - report["duplicates"].as_u64().unwrap();
    assert!(text(&["verify", path(&unique)]).contains(&format!("is whole: {left} samples")));
}

#[test]
fn arrays_hold_the_samples() {
    let root = tempfile::tempdir().unwrap();
    let [set, out] = ["set", "arrays"].map(|name| root.path().join(name));
    published(&set, &[&[1, 2, 3], &[4, 5]]);
    fs::write(
        set.join("heightmap.json"),
        r#"{"data":[[1,2],[3,4],[5,6.5]]}"#,
    )
    .unwrap();
    let report = json(&[
        "export",
        path(&set),
        "--out",
        path(&out),
        "--first",
        "2",
        "--count",
        "2",
    ]);
    assert_eq!(report["samples"], 2);
    let values = |name: &str, shape: &str| -> Vec<f32> {
        let bytes = fs::read(out.join(name)).unwrap();
        let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = String::from_utf8_lossy(&bytes[10..start]);
        assert!(
            header.contains(&format!("'shape': ({shape}, )")),
            "{header}"
        );
        bytes[start..]
            .chunks_exact(4)
            .map(|v| f32::from_le_bytes(v.try_into().unwrap()))
            .collect()
    };
    let (third, fourth) = (sample(3), sample(4));
    assert_eq!(
        values("rain.npy", "2, 2, 3, 2"),
        third
            .rain
            .iter()
            .chain(&fourth.rain)
            .copied()
            .collect::<Vec<_>>()
    );
    assert_eq!(
        values("depth.npy", "2, 6, 4"),
        third
            .depth_m
            .iter()
            .chain(&fourth.depth_m)
            .copied()
            .collect::<Vec<_>>()
    );
    let heights = values("heightmap.npy", "1, 6, 4");
    assert_eq!(heights[..5], [1.0, 1.0, 2.0, 2.0, 1.0]);
    assert_eq!(heights[23], 6.5);
    let message = complaint(&[
        "export",
        path(&set),
        "--out",
        path(&root.path().join("x")),
        "--first",
        "9",
    ]);
    assert!(
        message.contains("has 5 samples there, none from number 9 on"),
        "{message}"
    );
}

#[test]
fn statistics_and_pictures() {
    let root = tempfile::tempdir().unwrap();
    let set = root.path().join("set");
    published(&set, &[&[1, 2], &[3]]);
    let report = json(&["stats", path(&set), "--threshold", "0.25"]);
    // Rain channel 0 of sample n is n·(2y + x)/64 on 3 × 2 cells: mean of 2y + x is 2.5. Depth is n·y·x/32 on 6 × 4 cells.
    let channel = |name: &str| {
        report["channels"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(channel("rain_0")["mean"], 2.0 * 2.5 / 64.0);
    assert_eq!(channel("rain_1")["max"], 3.0 * 6.0 / 64.0);
    assert_eq!(channel("depth_m")["mean"], 2.0 * 2.5 * 1.5 / 32.0);
    assert_eq!(channel("depth_m")["count"], 72);
    let wet: usize = (1..=3)
        .map(|n| (0..24).filter(|i| n * (i / 4) * (i % 4) >= 8).count())
        .sum();
    assert_eq!(report["all"]["wet"], wet);
    assert_eq!(report["catchments"]["catchment"]["dry"], 72 - wet);
    let bins: u64 = report["depth_histogram"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(bins, 72);
    assert!(text(&["stats", path(&set)]).contains("rain_0"));

    let built = tiny(root.path());
    let picture = root.path().join("a sample.png");
    let report = json(&["head", path(&built), "30", "--out", path(&picture)]);
    assert_eq!(
        (&report["record"], &report["event"]),
        (&11.into(), &"a/storm_01".into())
    );
    let panels: Vec<&str> = report["panels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_str().unwrap())
        .collect();
    assert_eq!(panels.len(), 7 + 2 + 3);
    assert_eq!(
        (panels[0], panels[6], panels[8]),
        (
            "rain 480 to 240 min ago",
            "rain 5 to 0 min ago",
            "rain of 8 h"
        )
    );
    let picture = image::open(&picture).unwrap();
    // Panels of 12 × 20 cells, twelve times enlarged, four a row.
    assert_eq!(
        (picture.width(), picture.height()),
        (4 * 248 + 8, 3 * 152 + 8)
    );
    assert!(complaint(&["head", path(&built), "152"]).contains("has only 152 samples there"));
}

#[test]
fn parts_are_built_and_merged() {
    let root = tempfile::tempdir().unwrap();
    let built = tiny(root.path());
    let recipe = root.path().join("tiny.toml");
    let parts = [1, 2, 3].map(|k| root.path().join(format!("part {k}")));
    for (k, part) in parts.iter().enumerate() {
        let number = format!("{}/3", k + 1);
        text(&[
            "build",
            path(&recipe),
            "--out",
            path(part),
            "--part",
            &number,
            "--jobs",
            "1",
        ]);
    }
    let merged = root.path().join("merged");
    let arguments: Vec<&str> = parts.iter().map(|part| path(part)).collect();
    text(&[&["merge", "--out", path(&merged)], arguments.as_slice()].concat());
    for file in fs::read_dir(&built)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "heightmaps")
    {
        assert_eq!(
            fs::read(built.join(&file)).unwrap(),
            fs::read(merged.join(&file)).unwrap(),
            "{file:?}"
        );
    }
    assert!(complaint(&["inspect", path(&parts[0])]).contains("unfinished build"));
    assert!(text(&["--help"]).contains("merge"));
}
