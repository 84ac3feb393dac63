//! The steps of a training run: what the tables beside the dictionary hold, and the line that is shown meanwhile.

use dict::StepReport;
use std::path::Path;
use std::time::Instant;
use store::tables::{CrosscoderModelStep, CrosscoderStep};
use store::{Provenance, write_table};

/// Rows of the curve, about at most.
const ROWS: u64 = 10_000;
/// Numbers of one step in a state file, before those of the models.
const COLUMNS: usize = 9;

/// The steps so far.
pub struct Curve {
    labels: Vec<String>,
    steps: Vec<CrosscoderStep>,
    /// Explained variance of each model, step by step.
    models: Vec<Vec<f64>>,
    /// Steps between two rows.
    every: u64,
    /// When the last row was added, where speed is to be kept.
    clock: Option<(Instant, u64)>,
}

impl Curve {
    /// Of a run of `steps` steps; `timed` keeps its speed.
    pub fn new(labels: &[String], steps: u64, timed: bool) -> Self {
        Self {
            labels: labels.to_vec(),
            steps: Vec::new(),
            models: Vec::new(),
            every: steps.div_ceil(ROWS).max(1),
            clock: timed.then(|| (Instant::now(), 0)),
        }
    }

    /// Adds a row, where it is time for one.
    pub fn add(&mut self, report: &StepReport) {
        let rate = self.clock.map(|(start, rows)| {
            (report.rows - rows.min(report.rows)) as f64 / start.elapsed().as_secs_f64().max(1e-9)
        });
        if report.step != 1 && !report.step.is_multiple_of(self.every) {
            return;
        }
        if let Some(clock) = &mut self.clock {
            *clock = (Instant::now(), report.rows);
        }
        self.models.push(report.explained_variances.clone());
        self.steps.push(CrosscoderStep {
            step: report.step as u32,
            tokens: report.rows,
            loss: report.loss,
            explained_variance: report.explained_variance,
            l0: report.l0,
            dead: report.dead,
            learning_rate: report.learning_rate,
            k: report.k,
            tokens_per_s: rate.filter(|_| report.step > 1),
        });
    }

    /// Writes the curve, and beside it that of the models.
    pub fn write(&self, path: &Path, provenance: &Provenance) -> anyhow::Result<()> {
        write_table(path, &self.steps, provenance)?;
        if path == Path::new("-") {
            return Ok(());
        }
        let rows = self
            .steps
            .iter()
            .zip(&self.models)
            .flat_map(|(step, models)| {
                let models = self.labels.iter().zip(models);
                models.map(|(label, &explained_variance)| CrosscoderModelStep {
                    step: step.step,
                    model: label.clone(),
                    explained_variance,
                })
            });
        let rows: Vec<CrosscoderModelStep> = rows.collect();
        Ok(write_table(&models_path(path), &rows, provenance)?)
    }

    /// The last row in words.
    pub fn last(&self) -> Option<String> {
        self.steps.last().map(|last| {
            format!(
                "loss {:.4}, explained variance {:.3}, L0 {:.1}, dead {:.1} %",
                last.loss,
                last.explained_variance,
                last.l0,
                100.0 * last.dead
            )
        })
    }

    /// As numbers of a state file, bit for bit: JSON would not give every float back.
    pub fn to_numbers(&self) -> Vec<i64> {
        let bits = |value: f64| value.to_bits() as i64;
        let row = |(step, models): (&CrosscoderStep, &Vec<f64>)| {
            let mut row = vec![
                i64::from(step.step),
                step.tokens as i64,
                bits(step.loss),
                bits(step.explained_variance),
                bits(step.l0),
                bits(step.dead),
                bits(step.learning_rate),
                bits(step.k.unwrap_or(f64::NAN)),
                bits(step.tokens_per_s.unwrap_or(f64::NAN)),
            ];
            row.extend(models.iter().copied().map(bits));
            row
        };
        self.steps.iter().zip(&self.models).flat_map(row).collect()
    }

    /// Takes up the rows of a state file.
    pub fn take_up(&mut self, numbers: &[i64]) {
        let value = |bits: i64| f64::from_bits(bits as u64);
        let known = |bits: i64| Some(value(bits)).filter(|value| !value.is_nan());
        let rows = numbers.chunks_exact(COLUMNS + self.labels.len());
        self.models = rows
            .clone()
            .map(|row| row[COLUMNS..].iter().copied().map(value).collect())
            .collect();
        let step = |row: &[i64]| CrosscoderStep {
            step: row[0] as u32,
            tokens: row[1] as u64,
            loss: value(row[2]),
            explained_variance: value(row[3]),
            l0: value(row[4]),
            dead: value(row[5]),
            learning_rate: value(row[6]),
            k: known(row[7]),
            tokens_per_s: known(row[8]),
        };
        self.steps = rows.map(step).collect();
        if let Some(clock) = &mut self.clock {
            *clock = (
                Instant::now(),
                self.steps.last().map_or(0, |last| last.tokens),
            );
        }
    }
}

/// Where the models' curve goes: `dict.curve.parquet` → `dict.curve.models.parquet`.
pub fn models_path(path: &Path) -> std::path::PathBuf {
    path.with_extension("models.parquet")
}

/// A step in words, for the line that is shown while training runs.
pub fn words(report: &StepReport, labels: &[String]) -> String {
    let models = labels.iter().zip(&report.explained_variances);
    let models: Vec<String> = models
        .map(|(label, value)| format!("{label} {value:.3}"))
        .collect();
    let k = report.k.map_or(String::new(), |k| format!(" k {k:.0}"));
    format!(
        "loss {:.4} EV {} L0 {:.1} dead {:.1} % lr {:.1e}{k}",
        report.loss,
        models.join(" "),
        report.l0,
        100.0 * report.dead,
        report.learning_rate
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_comes_back_to_the_last_bit() {
        let labels = ["base".to_owned(), "sft".to_owned()];
        let report = StepReport {
            step: 1,
            rows: 1 << 40,
            loss: 0.1 + 0.2,
            explained_variance: -1.5,
            explained_variances: vec![-1.6, -1.4],
            l0: 31.7,
            dead: 0.0,
            learning_rate: 1e-4,
            k: None,
            gradient_norm: 1.0,
        };
        let mut curve = Curve::new(&labels, 10, false);
        curve.add(&report);
        curve.add(&StepReport {
            step: 2,
            k: Some(0.3),
            ..report.clone()
        });
        let mut resumed = Curve::new(&labels, 10, false);
        resumed.take_up(&curve.to_numbers());
        assert_eq!(
            (&resumed.steps, &resumed.models),
            (&curve.steps, &curve.models)
        );
        assert_eq!(
            words(&report, &labels),
            "loss 0.3000 EV base -1.600 sft -1.400 L0 31.7 dead 0.0 % lr 1.0e-4"
        );
    }
}
