//! The `train` program as a user runs it: a small dataset, whole runs, interrupted runs, damaged input.

#![cfg(feature = "flex")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pluvial_data::build::build;
use pluvial_data::recipe::BoundRecipe;
use serde_json::Value;
use tempfile::TempDir;

/// Two terrains to train on and one never seen; 32 training samples. Shards are stored, so that a flipped bit damages one record.
const RECIPE: &str = r#"
seed = 5
[grid]
shape = [24, 32]
cell_size_m = 500.0
rain_ratio = 2
[[terrain]]
name = "ash"
synthetic = { relief_m = 60.0, tilt_m = 30.0, valley_m = 5.0 }
[[terrain]]
name = "beech"
synthetic = { relief_m = 45.0, tilt_m = 25.0, valley_m = 4.0 }
[[terrain]]
name = "elm"
unseen = true
synthetic = { relief_m = 60.0, tilt_m = 30.0, valley_m = 5.0 }
[rain.storms]
duration_h = 6.0
total_mm = [90.0, 250.0]
spells = [1, 1]
spell_h = [2.0, 4.0]
background_wet_share = [0.5, 0.9]
cells = [2, 6]
[sample]
every_frames = 8
[split]
train = 2
validation = 1
test = 1
unseen = 1
[output]
gzip_level = 0
"#;

/// A small network with drop path (random numbers in training) and batch norm (running statistics), trained with accumulated
/// gradients for 2 epochs of 3 steps, the last of which has one batch of 4 instead of two of 7.
const SETTINGS: &[&str] = &[
    "--model=deeplabv3plus-convnext_atto",
    "--set=model.decoder_channels=8",
    "--set=model.refinement_channels=8",
    "--set=model.drop_path=0.2",
    "--set=optim.accumulate=2",
    "--batch-size=7",
    "--epochs=2",
    "--device=cpu",
    "--seed=3",
];

/// A folder with a dataset in `data`; runs go to `runs`.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("end to end ")
            .tempdir()
            .unwrap();
        let recipe = BoundRecipe::parse(RECIPE, "tiny".into(), &BTreeMap::new()).unwrap();
        build(&recipe, &root.path().join("data"), &|_| {}).unwrap();
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// `train` in this folder.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        command.current_dir(self.root.path()).args(args);
        command
    }

    /// A new run of the dataset with `extra` options.
    fn new_run(&self, extra: &[&str]) -> Command {
        let mut command = self.command(SETTINGS);
        command.args(["--data=data", "--runs=runs"]).args(extra);
        command
    }

    /// Flips a bit in the middle of a file.
    fn flip_bit(&self, name: &str) {
        let mut bytes = fs::read(self.path(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(self.path(name), bytes).unwrap();
    }
}

/// The output of a command that is to succeed.
fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The one line that a command which is to fail says why with.
fn fail(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let errors = String::from_utf8(stderr).unwrap();
    assert!(status.code().is_some_and(|code| code != 0), "{status:?}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.starts_with("error: "), "{errors}");
    errors
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: PathBuf) -> Value {
    serde_json::from_str(&text(path)).unwrap()
}

/// `metrics.tsv` without its last three columns, which are times.
fn metrics(run: &Path) -> Vec<Vec<String>> {
    let text = text(run.join("metrics.tsv"));
    let rows = text.lines().map(|line| {
        let fields: Vec<String> = line.split('\t').map(String::from).collect();
        fields[..fields.len() - 3].to_vec()
    });
    rows.collect()
}

/// Asserts that two runs came to the same in every digit.
fn assert_same(run: &Path, reference: &Path) {
    assert_eq!(metrics(run), metrics(reference), "{}", run.display());
    assert!(text(run.join("scores.json")) == text(reference.join("scores.json")));
    assert_eq!(
        text(run.join("maps/maps.json")),
        text(reference.join("maps/maps.json"))
    );
    assert_eq!(names(&run.join("checkpoints")), ["best", "last"]);
}

/// Asserts that the counts of a row belong together, and returns their sum.
fn cells(row: &Value) -> u64 {
    let [tp, fp, fn_, tn] = ["tp", "fp", "fn", "tn"].map(|key| row[key].as_u64().unwrap());
    if tp + fp + fn_ > 0 {
        let csi = tp as f64 / (tp + fp + fn_) as f64;
        assert!((row["csi"].as_f64().unwrap() - csi).abs() < 1e-12, "{row}");
    }
    tp + fp + fn_ + tn
}

/// Asserts that a finished run left all that it should.
fn assert_whole(run: &Path) {
    let present = names(run);
    for name in [
        "checkpoints",
        "config.toml",
        "log.txt",
        "maps",
        "metrics.tsv",
        "report.html",
        "run.json",
        "scores.json",
    ] {
        assert!(
            present.iter().any(|p| p == name),
            "no {name} in {present:?}"
        );
    }
    assert!(
        present
            .iter()
            .any(|name| name.starts_with("events.out.tfevents"))
    );
    assert!(!present.iter().any(|name| name.contains("tmp")));
    let info = json(run.join("run.json"));
    assert_eq!(info["exit_reason"], "finished");
    assert_eq!((&info["seed"], &info["device"]), (&3.into(), &"cpu".into()));
    assert_eq!(names(&run.join("checkpoints")), ["best", "last"]);
    assert_eq!(metrics(run).len(), 1 + 2);
    assert_eq!(metrics(run)[2][1], "6", "steps");

    let log = text(run.join("log.txt"));
    let at = |what: &str| {
        log.find(what)
            .unwrap_or_else(|| panic!("no {what} in {log}"))
    };
    assert!(at("32 samples") < at("CSI of the baselines"));
    assert!(at("CSI of the baselines") < at("logistic regression"));
    assert!(at("logistic regression") < at("epoch 1/2"));
    assert!(at("epoch 1/2") < at("epoch 2/2"));

    let scores = json(run.join("scores.json"));
    let splits = scores["splits"].as_object().unwrap();
    assert_eq!(
        splits.keys().collect::<Vec<_>>(),
        ["test_storms", "test_terrain", "validation"]
    );
    for (name, split) in splits {
        let samples = split["samples"].as_u64().unwrap();
        let expected = samples * 24 * 32;
        assert_eq!(cells(&split["model"]), expected, "{name}");
        let baselines = split["baselines"].as_object().unwrap();
        for (baseline, row) in baselines {
            assert_eq!(cells(row), expected, "{name}: {baseline}");
        }
        for baseline in ["all_dry", "all_wet", "logistic_regression", "persistence"] {
            assert!(baselines.contains_key(baseline), "{name}: {baseline}");
        }
        assert_eq!(
            baselines.contains_key("climatology"),
            name != "test_terrain"
        );
    }

    let maps = json(run.join("maps/maps.json"));
    let of = |split: &str| {
        let list = maps.as_array().unwrap().iter();
        list.filter(|map| map["split"] == split).count()
    };
    assert_eq!((of("test_storms"), of("test_terrain")), (6, 6));
    let pictures = names(&run.join("maps"));
    for map in maps.as_array().unwrap() {
        let stem = map["stem"].as_str().unwrap();
        let own: Vec<_> = pictures.iter().filter(|p| p.starts_with(stem)).collect();
        assert!(own.len() >= 4, "rain, terrain, truth, prediction: {own:?}");
        for picture in own {
            image::open(run.join("maps").join(picture)).unwrap();
        }
    }
    assert!(text(run.join("report.html")).contains("</html>"));
}

#[test]
fn a_run_is_whole_and_comes_out_the_same_repeated_or_interrupted() {
    let place = Place::new();
    let folder = |number: usize| format!("runs/run_{number:04}");
    let run = |number: usize| place.path(&folder(number));
    let resume = |number: usize, extra: &[&str]| {
        succeed(place.command(&[&["--resume", &folder(number)], extra].concat()));
        assert_eq!(
            json(run(number).join("run.json"))["exit_reason"],
            "finished"
        );
    };
    succeed(place.new_run(&[]));
    assert_whole(&run(1));
    succeed(place.new_run(&[]));
    assert_same(&run(2), &run(1));
    // Blocks that the backward pass computes again, with drop path beside them, give the same digits.
    succeed(place.new_run(&["--set=train.gradient_checkpointing=true"]));
    assert_same(&run(3), &run(1));

    // Step 5 is the second of epoch 2; step 2 lies in epoch 1.
    for (number, steps) in [(4, 5), (5, 2)] {
        succeed(place.new_run(&[&format!("--max-steps={steps}")]));
        assert_eq!(
            json(run(number).join("run.json"))["exit_reason"],
            "step limit"
        );
        let rows = metrics(&run(number));
        assert_eq!(rows.last().unwrap()[1], steps.to_string());
        assert!(
            run(number).join("scores.json").is_file(),
            "a cut run is scored"
        );
        let error = fail(place.command(&["--resume", &folder(number)]));
        assert!(error.contains("raise it to go on"), "{error}");
        resume(number, &["--max-steps=1000"]);
        assert_same(&run(number), &run(1));
    }

    #[cfg(unix)]
    {
        interrupt(place.new_run(&[]), "run        ");
        assert_eq!(json(run(6).join("run.json"))["exit_reason"], "interrupted");
        assert_eq!(names(&run(6).join("checkpoints")), ["last"]);
        resume(6, &[]);
        assert_same(&run(6), &run(1));
    }
}

#[test]
fn a_run_in_bf16_goes_on_in_f32_and_back() {
    let place = Place::new();
    let run = place.path("runs/run_0001");
    let resume = |precision: &str, steps: &str| {
        let precision = format!("--set=train.precision={precision}");
        let resume = ["--resume=runs/run_0001", &precision, "--max-steps", steps];
        succeed(place.command(&resume))
    };
    let said = succeed(place.new_run(&["--set=train.precision=bf16", "--max-steps=2"]));
    assert!(said.contains("precision  bf16"), "{said}");
    assert!(text(run.join("config.toml")).contains("precision = \"bf16\""));
    let said = resume("f32", "4");
    assert!(!said.contains("precision  bf16"), "{said}");
    resume("bf16", "6");
    let rows = metrics(&run);
    let [header, .., last] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!(last[1], "6", "steps");
    for (name, value) in header.iter().zip(last) {
        assert!(value.parse::<f64>().unwrap().is_finite(), "{name}: {value}");
    }
    assert!(run.join("scores.json").is_file());
    let error = fail(place.new_run(&["--set=train.precision=fp8"]));
    assert!(
        error.contains("`f32`") && error.contains("`bf16`"),
        "{error}"
    );
}

/// Sends SIGTERM to a run when it prints a line that starts with `line`; it is to end well.
#[cfg(unix)]
fn interrupt(mut command: Command, line: &str) {
    use std::io::{BufRead, BufReader, Read};
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    loop {
        said.clear();
        assert!(
            output.read_line(&mut said).unwrap() > 0,
            "ended without {line:?}"
        );
        if said.starts_with(line) {
            break;
        }
    }
    let kill = Command::new("kill").arg(child.id().to_string()).status();
    assert!(kill.unwrap().success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    assert!(rest.contains("continue with: train --resume"), "{rest}");
}

#[test]
fn a_damaged_shard_stops_the_run_or_is_skipped_and_counted() {
    let place = Place::new();
    let whole = fs::read(place.path("data/0.tfrecord.gz")).unwrap();
    fs::write(place.path("data/0.tfrecord.gz"), &whole[..whole.len() / 2]).unwrap();
    let error = fail(place.new_run(&[]));
    assert!(
        error.contains("0.tfrecord.gz', record ") && error.contains("incomplete"),
        "{error}"
    );
    // The folder of the run says why it ended, and holds nothing else.
    let run = place.path("runs/run_0001");
    assert_eq!(
        names(&run),
        ["checkpoints", "config.toml", "log.txt", "run.json"]
    );
    assert!(names(&run.join("checkpoints")).is_empty());
    let reason = json(run.join("run.json"))["exit_reason"].to_string();
    assert!(
        reason.starts_with("\"error: ") && reason.contains("0.tfrecord.gz"),
        "{reason}"
    );
    let error = fail(place.command(&["--resume=runs/run_0001"]));
    assert!(error.contains("runs/run_0001 has no checkpoint"), "{error}");

    // The last shard is the unseen terrain's.
    let last = format!("data/{}.tfrecord.gz", 2 * 4);
    fs::write(place.path("data/0.tfrecord.gz"), &whole).unwrap();
    place.flip_bit("data/0.tfrecord.gz");
    place.flip_bit(&last);
    let error = fail(place.new_run(&["--on-bad-record=stop"]));
    assert!(
        error.contains("0.tfrecord.gz', record ") && error.contains("checksum"),
        "{error}"
    );

    let said = succeed(place.new_run(&["--on-bad-record=skip", "--set=train.epochs=1"]));
    assert!(said.contains("train      31 samples"), "{said}");
    for (split, shard) in [("train", "data/0.tfrecord.gz"), ("test_terrain", &last)] {
        let warning = format!("warning: {split}: bad records skipped: ");
        let line = said.lines().find(|line| line.starts_with(&warning));
        assert!(line.is_some_and(|line| line.contains(shard)), "{said}");
    }
    assert!(!said.contains("validation: bad"), "{said}");
    let run = place.path("runs/run_0003");
    let scores = json(run.join("scores.json"));
    let samples = |split: &str| scores["splits"][split]["samples"].as_u64().unwrap();
    assert_eq!(
        (samples("test_storms"), samples("test_terrain")),
        (2 * 8, 8 - 1)
    );
}

#[test]
fn bad_input_is_one_line_and_leaves_nothing() {
    let place = Place::new();
    let says = |command: Command, parts: &[&str]| {
        let error = fail(command);
        for part in parts {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
    };
    fs::write(place.path("no runs"), "a file").unwrap();
    let mut command = place.new_run(&[]);
    command.arg("--set=optim.lerning_rate=0.1");
    says(command, &["`lerning_rate`", "`learning_rate`"]);
    fs::write(place.path("my config.toml"), "[train]\nepoch = 3\n").unwrap();
    says(
        place.new_run(&["--config=my config.toml"]),
        &["my config.toml", "`epoch`", "`epochs`"],
    );
    says(
        place.new_run(&["--config=other.toml"]),
        &["other.toml", "No such file"],
    );
    // Later settings win.
    says(
        place.new_run(&["--set=device=gpu"]),
        &["`gpu` is no device", "cuda[:i]"],
    );
    #[cfg(not(feature = "cuda"))]
    says(
        place.new_run(&["--set=device=cuda:1"]),
        &["`cuda:1`", "built without it", "--features cuda"],
    );
    says(
        place.command(&["--recipe=recipes/none.toml", "--device=cpu"]),
        &["recipes/none.toml is not there"],
    );
    says(
        place.command(&["--data=elsewhere", "--device=cpu"]),
        &["elsewhere", "No such file"],
    );
    says(
        place.command(&["--resume=data", "--device=cpu"]),
        &["data is not the folder of a run"],
    );
    let mut command = place.command(SETTINGS);
    command.args(["--data=data", "--runs=no runs"]);
    says(command, &["cannot make the folder no runs", "exists"]);
    fs::remove_file(place.path("data/metadata.json")).unwrap();
    says(place.new_run(&[]), &["data/metadata.json", "No such file"]);
    assert_eq!(
        names(place.root.path()),
        ["data", "my config.toml", "no runs"]
    );
    assert_eq!(text(place.path("no runs")), "a file");
}

#[test]
fn exported_weights_start_another_run() {
    let place = Place::new();
    succeed(place.new_run(&["--max-steps=1"]));
    let weights = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weights"));
        command.current_dir(place.root.path()).args(args);
        command
    };
    let export = |format| {
        let run = ["export", "--run=runs/run_0001", "--checkpoint=last"];
        weights(&[&run[..], &[format, "--out=encoder.safetensors"]].concat())
    };
    let printed = succeed(export("--format=timm"));
    assert!(
        printed.starts_with("encoder.safetensors: 124 tensors\n"),
        "{printed}"
    );
    assert!(
        printed.contains("timm.create_model(\"convnext_atto\", features_only=True"),
        "{printed}"
    );
    let listed = succeed(weights(&["inspect", "encoder.safetensors"]));
    assert!(
        listed.contains("stages_3.blocks.1.mlp.fc2.weight  F32    [320, 1280, 1, 1]\n"),
        "{listed}"
    );
    let error = fail(export("--format=smp"));
    assert!(error.contains("no name for decoder."), "{error}");

    let pretrained = ["--max-steps=1", "--pretrained=encoder.safetensors"];
    let printed = succeed(place.new_run(&pretrained));
    let report =
        "pretrained encoder.safetensors: names of timm (features only); applied 124 tensors";
    assert!(printed.contains(report), "{printed}");
    assert!(text(place.path("runs/run_0002/log.txt")).contains(report));
    // A resumed run has its own weights and does not want the file.
    fs::remove_file(place.path("encoder.safetensors")).unwrap();
    let printed = succeed(place.command(&["--resume=runs/run_0002", "--max-steps=2"]));
    assert!(!printed.contains("pretrained "), "{printed}");
    let error = fail(place.new_run(&pretrained));
    assert!(
        error.starts_with("error: encoder.safetensors: cannot read: No such file"),
        "{error}"
    );
    assert!(!place.path("runs/run_0003").exists());
}
