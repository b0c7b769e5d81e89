//! Lines and progress bars for people, and the copy of every line in `log.txt`.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tsv::EpochRow;

/// Seconds between two progress lines where no bar can be drawn.
const PLAIN_LINE_S: u64 = 30;

/// Prints lines, and keeps a copy of each in `log.txt` without control codes. Clones write to the same place.
#[derive(Debug, Clone)]
pub struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Draws the bars, and moves them out of the way of lines; none where there is no terminal.
    bars: Option<MultiProgress>,
    copy: Mutex<Copy>,
}

#[derive(Debug)]
enum Copy {
    /// The run has no folder yet.
    Held(String),
    File(File),
    /// Writing failed; it was said once.
    Lost,
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

impl Log {
    /// A log on standard output; bars are drawn where standard error or output is a terminal.
    pub fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            Some(ProgressDrawTarget::stderr())
        } else if std::io::stdout().is_terminal() {
            Some(ProgressDrawTarget::stdout())
        } else {
            None
        };
        Self(Arc::new(Shared {
            bars: target.map(MultiProgress::with_draw_target),
            copy: Mutex::new(Copy::Held(String::new())),
        }))
    }

    /// Appends what was printed so far, and everything from now on, to the file at `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        let failed = || format!("cannot write {}", path.display());
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(failed)?;
        let mut copy = self.0.copy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Copy::Held(text) = &*copy {
            file.write_all(text.as_bytes()).with_context(failed)?;
        }
        *copy = Copy::File(file);
        Ok(())
    }

    /// Prints a line (or several, separated by `\n`).
    pub fn line(&self, text: impl Display) {
        let text = text.to_string();
        // A reader that went away (`train | head`) is no reason to stop a run of hours.
        let print = || _ = writeln!(std::io::stdout(), "{text}");
        match &self.0.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
        let plain = without_control_codes(&text) + "\n";
        let mut copy = self.0.copy.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *copy {
            Copy::Held(held) => held.push_str(&plain),
            Copy::File(file) => {
                if let Err(error) = file.write_all(plain.as_bytes()) {
                    *copy = Copy::Lost;
                    eprintln!("warning: the log file can no longer be written: {error}");
                }
            }
            Copy::Lost => {}
        }
    }

    /// Starts to show the progress of `what` from `done` of `total` samples on.
    pub fn progress(&self, what: impl Display, done: u64, total: u64) -> Progress {
        let what = what.to_string();
        let bar = self.0.bars.as_ref().map(|bars| {
            let style =
                ProgressStyle::with_template("{prefix}  {wide_bar:.cyan/dim} {pos}/{len}  {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("━╸─");
            let bar = ProgressBar::new(total)
                .with_style(style)
                .with_prefix(what.clone());
            let bar = bars.add(bar);
            bar.set_position(done);
            bar
        });
        Progress {
            log: self.clone(),
            bar,
            what,
            unit: "samples",
            first: done,
            done,
            total,
            started: Instant::now(),
            said: Instant::now(),
        }
    }
}

/// How far a pass over samples has come: a bar on a terminal, a line every half minute elsewhere. Dropping it takes the bar away.
#[derive(Debug)]
pub struct Progress {
    log: Log,
    bar: Option<ProgressBar>,
    what: String,
    unit: &'static str,
    first: u64,
    done: u64,
    total: u64,
    started: Instant,
    said: Instant,
}

impl Progress {
    /// Counts something else than samples.
    pub fn counting(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Counts `samples` more, and shows `note` (such as the loss) beside them.
    pub fn advance(&mut self, samples: u64, note: impl Display) {
        self.done += samples;
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.done);
                bar.set_message(self.status(&note));
            }
            None if self.said.elapsed().as_secs() >= PLAIN_LINE_S && self.done < self.total => {
                self.said = Instant::now();
                self.log.line(format_args!(
                    "{}  {}/{} {}  {}",
                    self.what,
                    self.done,
                    self.total,
                    self.unit,
                    self.status(&note)
                ));
            }
            None => {}
        }
    }

    /// Samples a second since the start; 0 before the first.
    pub fn samples_per_s(&self) -> f64 {
        rate(self.done - self.first, self.started.elapsed())
    }

    fn status(&self, note: &impl Display) -> String {
        let rate = self.samples_per_s();
        let left = if rate > 0.0 {
            duration(self.total.saturating_sub(self.done) as f64 / rate)
        } else {
            "?".into()
        };
        format!("{rate:.1} {}/s  {left} left  {note}", self.unit)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn rate(samples: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        samples as f64 / seconds
    } else {
        0.0
    }
}

/// `0:07`, `12:30`, `3:05:00`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        hours => format!("{hours}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// The line after an epoch: losses, validation scores, and what they are to be measured by.
///
/// `baseline` is the best uninformed one on the validation split: its name and CSI.
pub fn epoch_line(row: &EpochRow, epochs: u64, baseline: Option<(&str, f64)>) -> String {
    let scores = row.validation.scores();
    let mut line = format!(
        "epoch {:>width$}/{epochs}  loss {:.4}  val {:.4}  CSI {:.3}  F1 {:.3}  POD {:.3}  FAR {:.3}",
        row.epoch,
        row.train_loss,
        row.validation_loss,
        scores.csi,
        scores.f1,
        scores.pod,
        scores.far,
        width = epochs.to_string().len(),
    );
    if let Some((name, csi)) = baseline {
        line += &format!(
            "  | best baseline {csi:.3} ({})",
            crate::scores::plain_name(name)
        );
    }
    line += &format!("  {:.1} s", row.seconds);
    if let Some(share) = row.data_wait {
        line += &format!(", {:.1} % waiting for data", 100.0 * share);
    }
    line
}

/// Without ANSI escape sequences (ECMA-48: `ESC [` parameters, final byte) and without control characters but line end and tab.
fn without_control_codes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                if rest.next_if_eq(&'[').is_some() {
                    while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                }
            }
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use pluvial_model::metrics::Confusion;

    #[test]
    fn the_copy_holds_every_line_without_colours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.txt");
        let log = Log::new();
        log.line("before the folder");
        log.copy_to(&path).unwrap();
        log.clone().line("\u{1b}[1;32mgreen\u{1b}[0m\tand 0.5 mm\r");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "before the folder\ngreen\tand 0.5 mm\n");
        // A resumed run goes on in the same file.
        let log = Log::new();
        log.copy_to(&path).unwrap();
        log.line("again");
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .ends_with("mm\nagain\n")
        );
    }

    #[test]
    fn rates_and_times() {
        assert_eq!(rate(30, Duration::from_secs(4)), 7.5);
        assert_eq!(rate(0, Duration::ZERO), 0.0);
        assert_eq!(duration(7.4), "0:07");
        assert_eq!(duration(11100.0), "3:05:00");
    }

    #[test]
    fn the_epoch_line_shows_the_best_baseline() {
        let row = EpochRow {
            epoch: 3,
            step: 90,
            learning_rate: 1e-3,
            train_loss: 0.3124,
            validation_loss: 0.2981,
            validation: Confusion {
                tp: 60,
                fp: 20,
                fn_: 20,
                tn: 900,
            },
            seconds: 12.34,
            samples_per_s: 55.0,
            data_wait: Some(0.0123),
        };
        assert_eq!(
            epoch_line(&row, 12, Some(("logistic_regression", 0.53))),
            "epoch  3/12  loss 0.3124  val 0.2981  CSI 0.600  F1 0.750  POD 0.750  FAR 0.250  | best baseline 0.530 (logistic regression)  12.3 s, 1.2 % waiting for data"
        );
    }
}
