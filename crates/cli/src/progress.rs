//! How far a long run is: a bar where somebody looks, a line every ten seconds where a log is kept.

use crate::output::{self, BARS, say};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time between two plain lines.
const EVERY: Duration = Duration::from_secs(10);

/// Progress of one stage, with its rate and the time left. Shared by reference between threads.
#[derive(Debug)]
pub struct Progress {
    what: String,
    unit: String,
    total: u64,
    skipped: AtomicU64,
    done: AtomicU64,
    note: Mutex<String>,
    started: Instant,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Bar(ProgressBar),
    /// When the last line was said.
    Lines(Mutex<Instant>),
}

impl Progress {
    /// Begins a stage: `Progress::start("train", 5000, "steps")`. A `total` of 0 is one nobody knows.
    pub fn start(what: &str, total: u64, unit: &str) -> Self {
        Self {
            what: what.into(),
            unit: unit.into(),
            total,
            skipped: AtomicU64::new(0),
            done: AtomicU64::new(0),
            note: Mutex::default(),
            started: Instant::now(),
            shown: Shown::new(what, total, unit),
        }
    }

    /// Counts what an earlier run has done already: part of the way, not of the rate.
    pub fn skip(&self, n: u64) {
        self.skipped.fetch_add(n, Ordering::Relaxed);
        self.advance(n);
    }

    /// Counts `n` more units done.
    pub fn advance(&self, n: u64) {
        let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Lines(last) => self.say_now_and_then(last),
        }
    }

    /// Sets the words after the figures: the loss, the file at work.
    pub fn note(&self, note: impl Display) {
        let note = note.to_string();
        if let Shown::Bar(bar) = &self.shown {
            bar.set_message(note.clone());
        }
        if let Ok(mut kept) = self.note.lock() {
            *kept = note;
        }
    }

    /// Ends the stage; one that took long enough to be waited for leaves a line behind.
    pub fn finish(self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
        let elapsed = self.started.elapsed();
        if elapsed >= EVERY && !matches!(self.shown, Shown::Nothing) {
            say(&self.line(elapsed));
        }
    }

    fn say_now_and_then(&self, last: &Mutex<Instant>) {
        // Another thread at this very place is saying it already.
        let Ok(mut last) = last.try_lock() else {
            return;
        };
        if last.elapsed() >= EVERY {
            *last = Instant::now();
            say(&self.line(self.started.elapsed()));
        }
    }

    /// `train: 1200/5000 steps (24 %), 34.2 steps/s, 1:51 left, loss 0.31`
    fn line(&self, elapsed: Duration) -> String {
        let done = self.done.load(Ordering::Relaxed);
        let fresh = done.saturating_sub(self.skipped.load(Ordering::Relaxed));
        let rate = fresh as f64 / elapsed.as_secs_f64().max(1e-9);
        let mut parts = vec![
            self.amount(done),
            format!("{} {}/s", short(rate), self.unit),
            self.time(done, rate, elapsed),
        ];
        parts.extend(
            self.note
                .lock()
                .ok()
                .map(|note| note.clone())
                .filter(|note| !note.is_empty()),
        );
        format!("{}: {}", self.what, parts.join(", "))
    }

    fn amount(&self, done: u64) -> String {
        match self.total {
            0 => format!("{done} {}", self.unit),
            total => format!(
                "{done}/{total} {} ({:.0} %)",
                self.unit,
                100.0 * done as f64 / total as f64
            ),
        }
    }

    fn time(&self, done: u64, rate: f64, elapsed: Duration) -> String {
        let left = self.total.saturating_sub(done) as f64 / rate;
        if left > 0.0 && left < 1e9 {
            format!("{} left", clock(left))
        } else {
            format!("{} in all", clock(elapsed.as_secs_f64()))
        }
    }
}

impl Drop for Progress {
    /// An error on the way out must not leave half a bar on the screen.
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

impl Shown {
    fn new(what: &str, total: u64, unit: &str) -> Self {
        if output::is_quiet() {
            Self::Nothing
        } else if io::stderr().is_terminal() {
            Self::Bar(bar(what, total, unit))
        } else {
            Self::Lines(Mutex::new(Instant::now()))
        }
    }
}

fn bar(what: &str, total: u64, unit: &str) -> ProgressBar {
    let length = (total > 0).then_some(total);
    let template = match length {
        Some(_) => format!(
            "{{prefix}} [{{wide_bar}}] {{human_pos}}/{{human_len}} {unit}, {{per_sec}}, {{eta}} left {{msg}}"
        ),
        None => {
            format!("{{prefix}} {{spinner}} {{human_pos}} {unit}, {{per_sec}}, {{elapsed}} {{msg}}")
        }
    };
    let bar = ProgressBar::with_draw_target(length, indicatif::ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.progress_chars("=> "));
    }
    BARS.add(bar.with_prefix(what.to_owned()))
}

/// A rate in three digits or so: `0.031`, `34.2`, `12.5k`, `3.1M`.
fn short(rate: f64) -> String {
    match rate {
        r if r >= 1e7 => format!("{:.1}M", r / 1e6),
        r if r >= 1e4 => format!("{:.1}k", r / 1e3),
        r if r >= 100.0 => format!("{r:.0}"),
        r if r >= 1.0 => format!("{r:.1}"),
        r => format!("{r:.3}"),
    }
}

/// Seconds as `1:51` or `2:03:20`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_how_fast_and_how_long() {
        let progress = Progress::start("train", 5000, "steps");
        progress.skip(1000);
        progress.advance(200);
        progress.note("loss 0.31");
        assert_eq!(
            progress.line(Duration::from_secs(10)),
            "train: 1200/5000 steps (24 %), 20.0 steps/s, 3:10 left, loss 0.31"
        );
    }

    #[test]
    fn without_a_total_there_is_no_time_left() {
        let progress = Progress::start("read", 0, "documents");
        progress.advance(20);
        assert_eq!(
            progress.line(Duration::from_secs(40)),
            "read: 20 documents, 0.500 documents/s, 0:40 in all"
        );
    }

    #[test]
    fn before_the_first_unit_there_is_no_time_left_either() {
        let progress = Progress::start("train", 10, "steps");
        assert_eq!(
            progress.line(Duration::from_secs(3)),
            "train: 0/10 steps (0 %), 0.000 steps/s, 0:03 in all"
        );
    }

    #[test]
    fn figures_are_short() {
        let rates = [0.031, 34.21, 250.4, 12_500.0, 31_000_000.0].map(short);
        assert_eq!(rates, ["0.031", "34.2", "250", "12.5k", "31.0M"]);
        assert_eq!(
            [59.6, 111.0, 7400.0].map(clock),
            ["1:00", "1:51", "2:03:20"]
        );
    }
}
