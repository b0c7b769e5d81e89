//! Progress of long work, on stderr: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// How often a line is printed where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

pub struct Progress {
    bar: ProgressBar,
    unit: &'static str,
    said: Mutex<Instant>,
}

impl Progress {
    /// Progress over `total` bytes.
    pub fn bytes(total: u64) -> Self {
        Self::new(
            Some(total),
            "bytes",
            "{bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
        )
    }

    /// Progress over `total` things.
    pub fn count(total: u64, unit: &'static str) -> Self {
        Self::new(
            Some(total),
            unit,
            &format!("{{bar:40}} {{pos}}/{{len}} {unit}, {{eta}} left, {{msg}}"),
        )
    }

    /// Progress where nobody knows how much there is.
    pub fn endless(unit: &'static str) -> Self {
        Self::new(
            None,
            unit,
            &format!("{{spinner}} {{human_pos}} {unit}, {{per_sec}}, {{elapsed}}"),
        )
    }

    fn new(total: Option<u64>, unit: &'static str, template: &str) -> Self {
        let bar = match (stderr().is_terminal(), total) {
            (false, _) => ProgressBar::hidden(),
            (true, Some(total)) => ProgressBar::new(total),
            (true, None) => ProgressBar::new_spinner(),
        };
        if let Some(total) = total {
            bar.set_length(total);
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            unit,
            said: Mutex::new(Instant::now()),
        }
    }

    /// `count` more are done.
    pub fn add(&self, count: u64) {
        self.add_with(count, String::new);
    }

    /// `count` more are done, and what to say about them.
    pub fn add_with(&self, count: u64, message: impl Fn() -> String) {
        self.bar.inc(count);
        if !self.bar.is_hidden() {
            self.bar.set_message(message());
        } else if let Ok(mut said) = self.said.lock()
            && said.elapsed() > INTERVAL
        {
            *said = Instant::now();
            let show = |count: u64| match self.unit {
                "bytes" => HumanBytes(count).to_string(),
                unit => format!("{count} {unit}"),
            };
            let of = self
                .bar
                .length()
                .map_or(String::new(), |total| format!(" of {}", show(total)));
            let message = message();
            let colon = if message.is_empty() { "" } else { ": " };
            eprintln!("{}{of}{colon}{message}", show(self.bar.position()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
