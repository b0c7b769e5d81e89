use std::collections::BTreeMap;

use pluvial_model::metrics::Confusion;

use super::*;

fn confusion(tp: u64, fp: u64, fn_: u64, tn: u64) -> Confusion {
    Confusion { tp, fp, fn_, tn }
}

fn info() -> RunInfo {
    RunInfo {
        command: vec!["train".into(), "--data".into(), "my floods/it's".into()],
        version: "0.1.0".into(),
        git_commit: Some("0123456789ab".into()),
        seed: 17,
        device: "cpu".into(),
        started_unix_s: 1_795_383_135,
        ended_unix_s: Some(1_795_383_135 + 432),
        exit_reason: Some("finished".into()),
        resumed: 0,
    }
}

fn split() -> SplitScores {
    SplitScores {
        samples: 1234,
        wet_share: 0.08,
        model: confusion(60, 20, 20, 900).into(),
        baselines: BTreeMap::from([
            ("all_dry".into(), confusion(0, 0, 80, 920).into()),
            (
                "logistic_regression".into(),
                confusion(50, 30, 30, 890).into(),
            ),
            (
                "persistence".into(),
                ScoreRow::informed(confusion(79, 1, 1, 919)),
            ),
        ]),
    }
}

fn data() -> ReportData {
    ReportData {
        name: "run_0001 <&>".into(),
        info: info(),
        config: "[model]\nname = \"unet\" # <b>".into(),
        epochs: (1..=3)
            .map(|epoch| EpochRow {
                epoch,
                step: epoch * 10,
                learning_rate: 1e-3,
                train_loss: 0.6 / epoch as f64,
                validation_loss: 0.5 / epoch as f64,
                validation: confusion(10 * epoch, 10, 40 - 10 * epoch, 100),
                seconds: 2.0,
                samples_per_s: 100.0,
                data_wait: None,
            })
            .collect(),
        scores: Some(RunScores {
            model: "unet".into(),
            splits: BTreeMap::from([
                ("test_storms".into(), split()),
                ("validation".into(), split()),
            ]),
        }),
        maps: vec![MapPictures {
            record: MapRecord {
                stem: "test_storms_01".into(),
                split: "test_storms".into(),
                event: "storm_03".into(),
                catchment: "terrain_1".into(),
                time_s: 45_000.0,
                rain: maps::Rain::Total { hours: 8.0 },
                counts: confusion(1812, 120, 90, 14_362),
            },
            pictures: vec![
                ("rain", b"foobar".to_vec()),
                ("prediction", b"foo".to_vec()),
            ],
        }],
    }
}

#[test]
fn the_page_holds_everything_and_reaches_for_nothing() {
    let page = render(&data());
    for outside in ["http:", "https:", "src=\"/", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("run_0001 &lt;&amp;&gt;") && page.contains("# &lt;b&gt;"));
    assert!(page.contains(r"train --data 'my floods/it'\''s'"));
    assert!(page.contains("2026-11-22 21:32 UTC") && page.contains("7:12"));
    // CSI 60/100 against 50/110.
    assert!(page.contains("+0.145") && page.contains("logistic regression (0.455)"));
    assert!(page.contains("base64,Zm9vYmFy") && page.contains("12 h 30 min"));
    assert!(page.contains("Prediction, 1\u{202f}812 hits, 90 misses, 120 false alarms"));
    // Only a baseline that sees no water can be the best one.
    let rows: Vec<&str> = page.split("<tr ").skip(1).collect();
    let row = |name: &str| *rows.iter().find(|row| row.contains(name)).unwrap();
    assert!(row(">logistic regression").contains("best uninformed"));
    assert!(!row(">persistence").contains("best uninformed"));
    for tag in [
        "section", "div", "figure", "table", "article", "svg", "ul", "li", "p", "span", "details",
    ] {
        let open =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(
            open,
            page.matches(&format!("</{tag}>")).count(),
            "<{tag}> is left open"
        );
    }
    assert_eq!(
        page.matches("<img").count(),
        page.matches(" alt=\"").count()
    );
}

#[test]
fn a_run_that_was_interrupted_has_a_page_too() {
    let page = render(&ReportData {
        info: RunInfo {
            ended_unix_s: None,
            exit_reason: None,
            git_commit: None,
            ..info()
        },
        epochs: Vec::new(),
        scores: None,
        maps: Vec::new(),
        ..data()
    });
    assert!(page.contains("still running") && !page.contains("<table>") && !page.contains("<svg"));
}

#[test]
fn the_page_is_made_from_the_files_of_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::create(root.path()).unwrap();
    let data = data();
    assert!(write(&run).unwrap_err().to_string().contains("run.json"));
    run.write_info(&data.info).unwrap();
    run.write("config.toml", &data.config).unwrap();
    let scores = serde_json::to_string(data.scores.as_ref().unwrap()).unwrap();
    run.write("scores.json", &scores).unwrap();
    let mut metrics = tsv::MetricsTsv::open(&run.file("metrics.tsv"), 0).unwrap();
    for row in &data.epochs {
        metrics.append(row).unwrap();
    }
    std::fs::create_dir(run.file(maps::FOLDER)).unwrap();
    maps::write_list(run.path(), std::slice::from_ref(&data.maps[0].record)).unwrap();
    for picture in ["rain", "terrain", "prediction"] {
        std::fs::write(data.maps[0].record.file(run.path(), picture), picture).unwrap();
    }
    write(&run).unwrap();
    let read = ReportData::read(&run).unwrap();
    assert_eq!(read.name, "run_0001");
    assert_eq!(read.epochs, data.epochs);
    assert_eq!(read.maps[0].pictures.len(), 3, "truth may be missing");
    let page = std::fs::read_to_string(run.file("report.html")).unwrap();
    assert_eq!(page, render(&read));
}

#[test]
fn dates_and_counts() {
    assert_eq!(utc(0), "1970-01-01 00:00 UTC");
    assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
    assert_eq!(utc(4_107_542_399), "2100-02-28 23:59 UTC");
    assert_eq!(utc(4_107_542_400), "2100-03-01 00:00 UTC");
    assert_eq!(count(0), "0");
    assert_eq!(count(1_481_792), "1\u{202f}481\u{202f}792");
    assert_eq!(hours(45_000.0), "12 h 30 min");
}
