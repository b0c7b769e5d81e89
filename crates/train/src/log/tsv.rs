//! `metrics.tsv`: one row an epoch, for spreadsheets, plots and the report.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pluvial_model::metrics::Confusion;

/// What one epoch reached.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochRow {
    /// Epoch, from 1.
    pub epoch: u64,
    /// Optimizer steps since the start of the run.
    pub step: u64,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Mean training loss over the epoch's samples.
    pub train_loss: f64,
    /// Mean loss over the validation split.
    pub validation_loss: f64,
    /// Pixel counts over the validation split; the score columns are computed from them.
    pub validation: Confusion,
    /// Wall time of the epoch, evaluation included.
    pub seconds: f64,
    /// Training samples a second, evaluation excluded.
    pub samples_per_s: f64,
    /// Share of the training time, evaluation excluded, that was spent waiting for batches; unknown for rows of older versions.
    pub data_wait: Option<f64>,
}

/// The columns in file order. The last three are times: all before them repeat exactly when a run is repeated on the CPU.
const COLUMNS: [&str; 19] = [
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "validation_loss",
    "tp",
    "fp",
    "fn",
    "tn",
    "csi",
    "f1",
    "pod",
    "far",
    "mean_iou",
    "accuracy",
    "frequency_bias",
    "seconds",
    "samples_per_s",
    "data_wait",
];

/// Columns of version 0.1, the first of [`COLUMNS`]. A file that has no more is continued as it is.
const FIRST_COLUMNS: usize = 18;

impl EpochRow {
    /// The first `columns` fields, tab-separated; floats in the shortest form that reads back to the same number.
    fn to_line(&self, columns: usize) -> String {
        let scores = self.validation.scores();
        [
            self.epoch.to_string(),
            self.step.to_string(),
            self.learning_rate.to_string(),
            self.train_loss.to_string(),
            self.validation_loss.to_string(),
            self.validation.tp.to_string(),
            self.validation.fp.to_string(),
            self.validation.fn_.to_string(),
            self.validation.tn.to_string(),
            scores.csi.to_string(),
            scores.f1.to_string(),
            scores.pod.to_string(),
            scores.far.to_string(),
            scores.mean_iou.to_string(),
            scores.accuracy.to_string(),
            scores
                .frequency_bias
                .map_or(String::new(), |b| b.to_string()),
            format!("{:.3}", self.seconds),
            format!("{:.2}", self.samples_per_s),
            self.data_wait
                .map_or(String::new(), |share| format!("{share:.5}")),
        ][..columns]
            .join("\t")
    }

    fn parse(line: &str, columns: usize) -> Result<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != columns {
            bail!("{} columns instead of {columns}", fields.len());
        }
        let text = |name: &str| {
            let at = COLUMNS.iter().position(|column| *column == name);
            at.and_then(|at| fields.get(at).copied()).unwrap_or("")
        };
        let count = |name: &str| {
            let text = text(name);
            text.parse::<u64>()
                .with_context(|| format!("{name} is `{text}`, not a count"))
        };
        let number = |name: &str| {
            let text = text(name);
            text.parse::<f64>()
                .with_context(|| format!("{name} is `{text}`, not a number"))
        };
        Ok(Self {
            epoch: count("epoch")?,
            step: count("step")?,
            learning_rate: number("learning_rate")?,
            train_loss: number("train_loss")?,
            validation_loss: number("validation_loss")?,
            validation: Confusion {
                tp: count("tp")?,
                fp: count("fp")?,
                fn_: count("fn")?,
                tn: count("tn")?,
            },
            seconds: number("seconds")?,
            samples_per_s: number("samples_per_s")?,
            data_wait: match text("data_wait") {
                "" => None,
                _ => Some(number("data_wait")?),
            },
        })
    }
}

/// An open `metrics.tsv`, to which rows are appended.
#[derive(Debug)]
pub struct MetricsTsv {
    path: PathBuf,
    file: File,
    columns: usize,
}

impl MetricsTsv {
    /// Opens the file for a run that goes on after `epochs_done` whole epochs (0 for a new one): rows of later epochs, which the
    /// run is about to make again, are dropped, and so is a last line that was cut off.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds other columns.
    pub fn open(path: &Path, epochs_done: u64) -> Result<Self> {
        let Contents {
            rows,
            ends,
            columns,
        } = read_contents(path)?;
        let kept = rows
            .iter()
            .take_while(|row| row.epoch <= epochs_done)
            .count();
        let attempt = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.set_len(ends.get(kept).copied().unwrap_or(0))?;
            if ends.is_empty() {
                file.write_all((COLUMNS.join("\t") + "\n").as_bytes())?;
            }
            Ok(file)
        };
        let file = attempt().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            columns,
        })
    }

    /// Appends one row.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, row: &EpochRow) -> Result<()> {
        self.file
            .write_all((row.to_line(self.columns) + "\n").as_bytes())
            .with_context(|| format!("cannot append to {}", self.path.display()))
    }
}

/// All whole rows of a `metrics.tsv`; none where there is no file yet.
///
/// # Errors
/// The file cannot be read, or a line is not what this program wrote; the message names the line.
pub fn read(path: &Path) -> Result<Vec<EpochRow>> {
    Ok(read_contents(path)?.rows)
}

/// What a file holds.
struct Contents {
    rows: Vec<EpochRow>,
    /// Byte positions where the header and each row end; none in an empty file.
    ends: Vec<u64>,
    columns: usize,
}

fn read_contents(path: &Path) -> Result<Contents> {
    let mut contents = Contents {
        rows: Vec::new(),
        ends: Vec::new(),
        columns: COLUMNS.len(),
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(contents),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let Contents {
        rows,
        ends,
        columns,
    } = &mut contents;
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        // A line without its end was being written when the program was killed.
        let Some(whole) = line.strip_suffix('\n') else {
            break;
        };
        if ends.is_empty() {
            let header: Vec<&str> = whole.split('\t').collect();
            if !COLUMNS.starts_with(&header) || header.len() < FIRST_COLUMNS {
                bail!(
                    "{}: the columns are not those of this version",
                    path.display()
                );
            }
            *columns = header.len();
        } else {
            let row = EpochRow::parse(whole, *columns)
                .with_context(|| format!("{}, line {}", path.display(), ends.len() + 1))?;
            rows.push(row);
        }
        end += line.len() as u64;
        ends.push(end);
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: u64) -> EpochRow {
        EpochRow {
            epoch,
            step: 10 * epoch,
            learning_rate: 1.0 / 3.0,
            train_loss: 0.1 + 0.2,
            validation_loss: f64::NAN,
            validation: Confusion {
                tp: 3,
                fp: 1,
                fn_: 2,
                tn: 94,
            },
            seconds: 12.25,
            samples_per_s: 80.5,
            data_wait: Some(0.0125),
        }
    }

    #[test]
    fn a_resumed_run_drops_what_it_makes_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.tsv");
        let mut metrics = MetricsTsv::open(&path, 0).unwrap();
        for epoch in 1..=3 {
            metrics.append(&row(epoch)).unwrap();
        }
        drop(metrics);
        let cut = fs::read_to_string(&path).unwrap() + "4\t40\t0.5";
        fs::write(&path, cut).unwrap();
        assert_eq!(read(&path).unwrap().len(), 3);

        let mut metrics = MetricsTsv::open(&path, 2).unwrap();
        assert_eq!(
            read(&path)
                .unwrap()
                .iter()
                .map(|r| r.epoch)
                .collect::<Vec<_>>(),
            [1, 2]
        );
        metrics.append(&row(3)).unwrap();
        let rows = read(&path).unwrap();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0].learning_rate, 1.0 / 3.0);
        assert_eq!(rows[0].train_loss, 0.1 + 0.2, "to the last bit");
        assert!(rows[2].validation_loss.is_nan());
        assert_eq!(rows[2].validation, row(3).validation);
        assert_eq!(rows[2].data_wait, Some(0.0125));
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().nth(1).unwrap().split('\t').collect::<Vec<_>>();
        assert_eq!(first[9], "0.5", "csi 3 / 6");
    }

    #[test]
    fn a_file_of_an_older_version_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.tsv");
        let older = COLUMNS[..18].join("\t") + "\n" + &row(1).to_line(18) + "\n";
        fs::write(&path, older).unwrap();
        let mut metrics = MetricsTsv::open(&path, 1).unwrap();
        metrics.append(&row(2)).unwrap();
        let rows = read(&path).unwrap();
        let steps: Vec<u64> = rows.iter().map(|row| row.step).collect();
        assert_eq!(steps, [10, 20]);
        assert_eq!(rows[1].data_wait, None);
        fs::write(&path, COLUMNS[..17].join("\t") + "\n").unwrap();
        let message = format!("{:#}", MetricsTsv::open(&path, 1).unwrap_err());
        assert!(message.contains("not those of this version"), "{message}");
    }

    #[test]
    fn a_damaged_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.tsv");
        let mut metrics = MetricsTsv::open(&path, 0).unwrap();
        metrics.append(&row(1)).unwrap();
        let text = fs::read_to_string(&path)
            .unwrap()
            .replace("\t10\t", "\tten\t");
        fs::write(&path, text).unwrap();
        let message = format!("{:#}", read(&path).unwrap_err());
        assert!(
            message.contains("metrics.tsv, line 2") && message.contains("`ten`"),
            "{message}"
        );
    }
}
