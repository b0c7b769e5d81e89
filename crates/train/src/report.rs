//! `report.html`: a run on one page that needs nothing else. It is made from the files of the run folder alone, so that it can be
//! made again at any time.

mod base64;
mod curve;

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::log::terminal::duration;
use crate::log::tsv::{self, EpochRow};
use crate::maps::{self, MapRecord};
use crate::run_dir::{RunDir, RunInfo, read_json};
use crate::scores::{RunScores, ScoreRow, SplitScores, plain_name};
use curve::{Chart, Fixed, Series};
use pluvial_data::raster::png::verification_colours::{FALSE_ALARM, HIT, MISS};

const STYLE: &str = include_str!("report/style.css");
/// CSS colours of the baselines' lines.
const LINES: [&str; 5] = [
    "var(--b1)",
    "var(--b2)",
    "var(--b3)",
    "var(--b4)",
    "var(--b5)",
];

/// Everything that the page shows.
#[derive(Debug, Clone)]
pub struct ReportData {
    /// Name of the run's folder.
    pub name: String,
    /// `run.json`.
    pub info: RunInfo,
    /// `config.toml`, as text.
    pub config: String,
    /// `metrics.tsv`.
    pub epochs: Vec<EpochRow>,
    /// `scores.json`; none where the run has not been scored.
    pub scores: Option<RunScores>,
    /// `maps/`.
    pub maps: Vec<MapPictures>,
}

/// A sample with its pictures.
#[derive(Debug, Clone)]
pub struct MapPictures {
    /// Where it comes from.
    pub record: MapRecord,
    /// Names (`rain`, `terrain`, `truth`, `prediction`) and PNG files, in the order of the page.
    pub pictures: Vec<(&'static str, Vec<u8>)>,
}

impl ReportData {
    /// Reads the files of a run folder; what the run has not written yet is left out of the page.
    ///
    /// # Errors
    /// `run.json` or `config.toml` is missing, or any file is damaged.
    pub fn read(run: &RunDir) -> Result<Self> {
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let scores = run.file("scores.json");
        let mut maps = Vec::new();
        for record in maps::read_list(run.path())? {
            let mut pictures = Vec::new();
            for name in ["rain", "terrain", "truth", "prediction"] {
                let file = record.file(run.path(), name);
                if name != "truth" || file.exists() {
                    pictures.push((name, read(&file)?));
                }
            }
            maps.push(MapPictures { record, pictures });
        }
        let folder = run.path().canonicalize().ok();
        let name = folder.as_deref().unwrap_or(run.path()).file_name();
        Ok(Self {
            name: name.map_or("run".into(), |name| name.to_string_lossy().into_owned()),
            info: run.read_info()?,
            config: String::from_utf8_lossy(&read(&run.file("config.toml"))?).into_owned(),
            epochs: tsv::read(&run.file("metrics.tsv"))?,
            scores: if scores.exists() {
                Some(read_json(&scores)?)
            } else {
                None
            },
            maps,
        })
    }
}

/// Writes `report.html` from the files of a run folder.
///
/// # Errors
/// See [`ReportData::read`]; or the page cannot be written.
pub fn write(run: &RunDir) -> Result<()> {
    run.write("report.html", &render(&ReportData::read(run)?))
}

/// The page.
pub fn render(data: &ReportData) -> String {
    let name = escape(&data.name);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name} · pluvial</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    page += &header(data);
    if let Some(scores) = &data.scores {
        page += &summary(scores);
    }
    page += &curves(data);
    if let Some(scores) = &data.scores {
        page += &tables(scores);
    }
    page += &map_sections(data);
    _ = writeln!(
        page,
        "<section aria-labelledby=\"config\"><h2 id=\"config\">Configuration</h2>\
         <details class=\"card\"><summary>config.toml, as the run resolved it</summary>\
         <pre tabindex=\"0\"><code>{}</code></pre></details></section>",
        escape(&data.config)
    );
    page + "</main>\n</body>\n</html>\n"
}

fn header(data: &ReportData) -> String {
    let info = &data.info;
    let ended = info.ended_unix_s;
    let mut facts = String::new();
    let mut fact = |class: &str, name: &str, value: &str| {
        _ = write!(facts, "<div{class}><dt>{name}</dt><dd>{value}</dd></div>");
    };
    if let Some(scores) = &data.scores {
        fact("", "Model", &escape(&scores.model));
    }
    fact("", "Device", &escape(&info.device));
    fact("", "Started", &utc(info.started_unix_s));
    let took = ended.map(|end| duration(end.saturating_sub(info.started_unix_s) as f64));
    fact("", "Duration", took.as_deref().unwrap_or("still running"));
    fact(
        "",
        "Ended",
        &escape(info.exit_reason.as_deref().unwrap_or("not yet")),
    );
    fact("", "Seed", &info.seed.to_string());
    let commit = info.git_commit.as_deref().unwrap_or("unknown");
    fact(
        "",
        "Source",
        &format!(
            "{} · <code>{}</code>",
            escape(&info.version),
            escape(commit)
        ),
    );
    if info.resumed > 0 {
        fact("", "Resumed", &format!("{} times", info.resumed));
    }
    fact(
        " class=\"wide\"",
        "Command",
        &format!("<code>{}</code>", escape(&shell(&info.command))),
    );
    format!(
        "<header><h1>{}</h1><p class=\"soft\">Flood maps from rainfall radar and terrain</p><dl class=\"facts\">{facts}</dl></header>\n",
        escape(&data.name)
    )
}

fn summary(scores: &RunScores) -> String {
    let mut cards = String::new();
    for (name, split) in in_order(scores) {
        if name == "train" {
            continue;
        }
        let csi = split.model.scores.csi;
        let verdict = match split.best_uninformed() {
            None => String::new(),
            Some((baseline, row)) => {
                let margin = csi - row.scores.csi;
                let (class, word) = if margin > 0.0 {
                    ("good", "above")
                } else {
                    ("poor", "below")
                };
                format!(
                    "<p><span class=\"tag {class}\">{}{:.3}</span> {word} the best uninformed baseline, {} ({:.3})</p>",
                    if margin < 0.0 { "−" } else { "+" },
                    margin.abs(),
                    escape(&plain_name(baseline)),
                    row.scores.csi
                )
            }
        };
        _ = write!(
            cards,
            "<div class=\"card\"><h3>{}</h3><div class=\"figure\">{csi:.3} <small>CSI</small></div>{verdict}\
             <p class=\"soft small\">finds {} of the wet cells; {} of the cells it calls wet are dry</p></div>",
            escape(&split_title(name)),
            percent(split.model.scores.pod),
            percent(split.model.scores.far),
        );
    }
    format!(
        "<section aria-labelledby=\"learned\"><h2 id=\"learned\">What it learned</h2><div class=\"grid\">{cards}</div>\
         <p class=\"soft small\">CSI = hits / (hits + misses + false alarms), counted once over all cells of the split; 1 is perfect. \
         An uninformed baseline sees what the model sees.</p></section>\n"
    )
}

fn curves(data: &ReportData) -> String {
    if data.epochs.is_empty() {
        return String::new();
    }
    let points = |value: &dyn Fn(&EpochRow) -> f64| -> Vec<(f64, f64)> {
        data.epochs
            .iter()
            .map(|row| (row.epoch as f64, value(row)))
            .collect()
    };
    let best = data
        .epochs
        .iter()
        .rev()
        .max_by(|a, b| a.validation.csi().total_cmp(&b.validation.csi()))
        .map(|row| (row.epoch as f64, "best"));
    let validation = data
        .scores
        .as_ref()
        .and_then(|scores| scores.splits.get("validation"));
    let baselines = validation.iter().flat_map(|split| &split.baselines);
    let loss = Chart {
        title: "Loss by epoch",
        series: vec![
            Series {
                name: "training",
                color: "var(--train)",
                points: points(&|row| row.train_loss),
            },
            Series {
                name: "validation",
                color: "var(--accent)",
                points: points(&|row| row.validation_loss),
            },
        ],
        fixed: Vec::new(),
        range: None,
        mark: best,
    };
    let csi = Chart {
        title: "CSI on the validation split by epoch",
        series: vec![Series {
            name: "model",
            color: "var(--accent)",
            points: points(&|row| row.validation.csi()),
        }],
        fixed: baselines
            .zip(LINES.iter().cycle())
            .map(|((name, row), color)| Fixed {
                name: plain_name(name) + if row.informed { " (informed)" } else { "" },
                color,
                value: row.scores.csi,
            })
            .collect(),
        range: Some((0.0, 1.0)),
        mark: best,
    };
    format!(
        "<section aria-labelledby=\"curves\"><h2 id=\"curves\">Training</h2><div class=\"grid\">\
         <figure class=\"card\"><h3>Loss</h3>{}</figure>\
         <figure class=\"card\"><h3>CSI on the validation split</h3>{}</figure></div></section>\n",
        loss.svg(),
        csi.svg()
    )
}

fn tables(scores: &RunScores) -> String {
    let mut sections = String::new();
    for (name, split) in in_order(scores) {
        let title = escape(&split_title(name));
        let best = split.best_uninformed().map(|(name, _)| name);
        let mut rows = table_row("model", "model", "", &split.model);
        for (name, row) in &split.baselines {
            let (class, tag) = if row.informed {
                ("informed", " <span class=\"tag plain\">informed</span>")
            } else if best == Some(name) {
                ("", " <span class=\"tag\">best uninformed</span>")
            } else {
                ("", "")
            };
            rows += &table_row(class, &plain_name(name), tag, row);
        }
        _ = write!(
            sections,
            "<div class=\"card\"><h3>{title}</h3>\
             <p class=\"soft small\">{} samples · {} scored cells · {} wet, {} dry</p>\
             <div class=\"balance\" role=\"img\" aria-label=\"{} of the cells are wet\"><span style=\"width:{:.2}%\"></span></div>\
             <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Scores: {title}\"><table>\
             <thead><tr><th scope=\"col\">predictor</th>{}</tr></thead><tbody>{rows}</tbody></table></div></div>",
            count(split.samples),
            count(split.model.counts.pixels()),
            percent(split.wet_share),
            percent(1.0 - split.wet_share),
            percent(split.wet_share),
            100.0 * split.wet_share,
            COLUMNS
                .map(|(name, meaning)| format!(
                    "<th scope=\"col\"><abbr title=\"{meaning}\">{name}</abbr></th>"
                ))
                .concat(),
        );
    }
    format!(
        "<section aria-labelledby=\"scores\"><h2 id=\"scores\">Scores beside the baselines</h2><p class=\"soft small\">An <em>informed</em> baseline sees the water of now, which the model does not: context, not a rival.</p><div class=\"stack\">{sections}</div></section>\n"
    )
}

const COLUMNS: [(&str, &str); 12] = [
    ("CSI", "critical success index, the IoU of wet"),
    ("F1", "F1, the dice coefficient of wet"),
    ("POD", "probability of detection, recall"),
    ("FAR", "false alarm ratio, 1 − precision"),
    ("mean IoU", "mean of the IoUs of wet and dry"),
    ("specificity", "share of the dry cells that are called dry"),
    ("accuracy", "share of all cells that are right"),
    ("bias", "predicted over true wet cells"),
    ("hits", "wet in truth and prediction"),
    ("false alarms", "dry in truth, wet in prediction"),
    ("misses", "wet in truth, dry in prediction"),
    ("correct dry", "dry in truth and prediction"),
];

fn table_row(class: &str, name: &str, tag: &str, row: &ScoreRow) -> String {
    let s = &row.scores;
    let c = &row.counts;
    let cells = [
        format!("{:.3}", s.csi),
        format!("{:.3}", s.f1),
        format!("{:.3}", s.pod),
        format!("{:.3}", s.far),
        format!("{:.3}", s.mean_iou),
        format!("{:.3}", s.specificity),
        format!("{:.3}", s.accuracy),
        s.frequency_bias
            .map_or("–".into(), |bias| format!("{bias:.2}")),
        count(c.tp),
        count(c.fp),
        count(c.fn_),
        count(c.tn),
    ]
    .map(|cell| format!("<td>{cell}</td>"))
    .concat();
    format!(
        "<tr class=\"{class}\"><th scope=\"row\">{}{tag}</th>{cells}</tr>",
        escape(name)
    )
}

fn map_sections(data: &ReportData) -> String {
    let mut splits: Vec<&str> = Vec::new();
    for map in &data.maps {
        if !splits.contains(&map.record.split.as_str()) {
            splits.push(&map.record.split);
        }
    }
    splits.sort_by_key(|name| split_rank(name));
    if splits.is_empty() {
        return String::new();
    }
    let mut html = format!(
        "<section aria-labelledby=\"maps\"><h2 id=\"maps\">Maps</h2>{}",
        map_legend(data)
    );
    for split in splits {
        let maps: String = data
            .maps
            .iter()
            .filter(|map| map.record.split == split)
            .map(map_card)
            .collect();
        _ = write!(
            html,
            "<h3 class=\"split\">{}</h3><div class=\"maps\">{maps}</div>",
            escape(&split_title(split))
        );
    }
    html + "</section>\n"
}

fn map_legend(data: &ReportData) -> String {
    let swatch = |[r, g, b]: [u8; 3], text: &str| {
        format!(
            "<li><span class=\"swatch\" style=\"background:rgb({r},{g},{b})\"></span>{text}</li>"
        )
    };
    let mut rains: Vec<maps::Rain> = Vec::new();
    for map in &data.maps {
        if !rains.contains(&map.record.rain) {
            rains.push(map.record.rain);
        }
    }
    let rain: String = rains
        .iter()
        .map(|rain| {
            let steps: String = rain
                .legend()
                .into_iter()
                .map(|(value, color)| swatch(color, &value.to_string()))
                .collect();
            let caption = rain.caption();
            let caption = caption[..1].to_uppercase() + &caption[1..];
            format!(
                "<p class=\"small\">{}</p><ul class=\"legend\">{steps}</ul>",
                escape(&caption)
            )
        })
        .collect();
    format!(
        "<div class=\"card\"><p class=\"small\">Prediction, judged against the truth</p><ul class=\"legend\">{}{}{}</ul>{rain}\
         <p class=\"soft small\">North is up. Chosen for how much water there is, one of each event first; the model's score plays no part.</p></div>",
        swatch(HIT, "hit (and all water in the truth)"),
        swatch(MISS, "miss: wet, called dry"),
        swatch(FALSE_ALARM, "false alarm: dry, called wet"),
    )
}

fn map_card(map: &MapPictures) -> String {
    let record = &map.record;
    let counts = &record.counts;
    let place = format!(
        "{} over {}, {} into the event",
        record.event,
        record.catchment,
        hours(record.time_s)
    );
    let told = format!(
        "{} hits, {} misses, {} false alarms",
        count(counts.tp),
        count(counts.fn_),
        count(counts.fp)
    );
    let judged = counts.pixels() > 0;
    let mut figures = String::new();
    for (name, png) in &map.pictures {
        let (caption, alt) = match *name {
            "rain" => ("rain", format!("{}: {place}", record.rain.caption())),
            "terrain" => ("terrain", format!("Shaded relief of {}", record.catchment)),
            "truth" => (
                "truth",
                format!(
                    "True water, {} wet cells: {place}",
                    count(counts.tp + counts.fn_)
                ),
            ),
            _ if judged => ("prediction", format!("Prediction, {told}: {place}")),
            _ => ("prediction", format!("Predicted water: {place}")),
        };
        _ = write!(
            figures,
            "<figure><img loading=\"lazy\" src=\"data:image/png;base64,{}\" alt=\"{}\"><figcaption>{caption}</figcaption></figure>",
            base64::encode(png),
            escape(&alt)
        );
    }
    let score = if judged {
        format!(
            "<span class=\"tag\">CSI {:.3}</span><span class=\"soft small\">{told}</span>",
            counts.csi()
        )
    } else {
        String::new()
    };
    format!(
        "<article class=\"map card\"><h4>{}<span class=\"soft small\">{} · {}</span>{score}</h4><div class=\"pictures\">{figures}</div></article>",
        escape(&plain_name(&record.event)),
        escape(&plain_name(&record.catchment)),
        hours(record.time_s),
    )
}

/// Tests first, validation and training after them.
fn in_order(scores: &RunScores) -> Vec<(&str, &SplitScores)> {
    let mut splits: Vec<_> = scores
        .splits
        .iter()
        .map(|(name, split)| (name.as_str(), split))
        .collect();
    splits.sort_by_key(|(name, _)| split_rank(name));
    splits
}

fn split_rank(name: &str) -> u8 {
    match name {
        "validation" => 1,
        "train" => 2,
        _ => 0,
    }
}

fn split_title(name: &str) -> String {
    match name {
        "test_storms" => "Unseen storms".into(),
        "test_terrain" => "Unseen terrain".into(),
        "validation" => "Validation".into(),
        "train" => "Training".into(),
        other => plain_name(other),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Thousands set apart by a narrow no-break space.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `12 h 30 min`.
fn hours(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as i64;
    format!("{} h {:02} min", minutes / 60, minutes % 60)
}

/// `2026-11-22 21:35 UTC`. The civil date follows from the day number by shifting the year's start to March
/// (E. M. Reingold & N. Dershowitz, *Calendrical Calculations*: the proleptic Gregorian calendar).
fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Days since 1 March of the year 0; a 400-year cycle has 146 097 days.
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * cycle + year + u64::from(month <= 2);
    format!(
        "{year}-{month:02}-{date:02} {:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60
    )
}

/// The command as it could be typed into a POSIX shell.
fn shell(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    command
        .iter()
        .map(|word| {
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Text for HTML, in elements and in attributes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
