//! Training curves of the models and of the crosscoders.

use super::{Report, options};
use crate::html::Page;
use crate::svg::Style;
use crate::svg::lines::{Lines, Series};
use crate::svg::scale::Spread;
use crate::text;
use stats::Estimate;
use store::tables::{CrosscoderStep, TrainingStep};

/// Points drawn of one curve; longer runs are averaged over neighbouring steps.
const POINTS: usize = 160;

/// Loss, reward and divergence of each run; loss, explained variance and sparsity of each crosscoder.
pub(crate) fn write(report: &Report, page: &mut Page) {
    let tables = &report.tables;
    if tables.training.is_empty() && tables.crosscoder_steps.is_empty() {
        return;
    }
    page.section("training", "Training");
    page.headline(&headline(report));
    page.reading(&reading(report));
    let models: Vec<String> = tables
        .training
        .iter()
        .flat_map(|run| model_panels(report, &run.file, &run.rows))
        .collect();
    if !models.is_empty() {
        page.figure(
            &models,
            &[],
            &caption(
                "Training of the models",
                tables.training.iter().map(|run| run.rows.len()),
            ),
        );
    }
    let crosscoders: Vec<String> = tables
        .crosscoder_steps
        .iter()
        .flat_map(|run| crosscoder_panels(&run.file, &run.rows))
        .collect();
    if !crosscoders.is_empty() {
        page.figure(
            &crosscoders,
            &[],
            &caption(
                "Training of the crosscoders",
                tables.crosscoder_steps.iter().map(|run| run.rows.len()),
            ),
        );
    }
    let files = tables.training.iter().map(|run| run.file.as_str());
    options::print(
        report,
        page,
        files.chain(tables.crosscoder_steps.iter().map(|run| run.file.as_str())),
    );
}

fn caption(what: &str, sizes: impl Iterator<Item = usize>) -> String {
    let sizes: Vec<String> = sizes.map(text::count).collect();
    format!(
        "{what}. Of runs longer than {POINTS} steps the line is the mean over neighbouring steps and the band their range. n = {} steps.",
        text::list(&sizes)
    )
}

/// The name of a run: the folder of its file, or the file itself at the top.
pub(crate) fn run_name(file: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    let name = parts.pop().unwrap_or(file);
    match parts.pop() {
        Some(folder) if name.starts_with("metrics") || name.starts_with("training") => {
            folder.to_owned()
        }
        _ => name.trim_end_matches(".parquet").to_owned(),
    }
}

fn model_panels(report: &Report, file: &str, rows: &[TrainingStep]) -> Vec<String> {
    let run = run_name(file);
    let label = if report.cast.labels().contains(&run) {
        run.clone()
    } else {
        rows.first().map_or(run.clone(), |row| row.stage.clone())
    };
    let style = report.cast.style(&label);
    let has_reward = rows.iter().any(|row| row.reward.is_some());
    let loss = if has_reward {
        "policy objective"
    } else {
        "loss, nats per token"
    };
    let mut panels = vec![panel(
        &format!("{run}: {loss}"),
        style,
        curve(rows, |row| (row.step, Some(row.loss))),
    )];
    let more: [(&str, fn(&TrainingStep) -> Option<f64>); 3] = [
        ("reward", |row| row.reward),
        ("KL to the reference, nats per token", |row| row.kl_nats),
        ("length, tokens", |row| row.length),
    ];
    for (name, value) in more {
        panels.push(panel(
            &format!("{run}: {name}"),
            style,
            curve(rows, |row| (row.step, value(row))),
        ));
    }
    panels.into_iter().flatten().collect()
}

fn crosscoder_panels(file: &str, rows: &[CrosscoderStep]) -> Vec<String> {
    let name = run_name(file);
    let style = Style::nth(0);
    let values: [(&str, fn(&CrosscoderStep) -> f64); 4] = [
        ("loss", |row| row.loss),
        ("explained variance", |row| row.explained_variance),
        ("active features per row", |row| row.l0),
        ("dead features, share", |row| row.dead),
    ];
    let panels = values.iter().map(|(what, value)| {
        panel(
            &format!("{name}: {what}"),
            style,
            curve(rows, |row| (row.step, Some(value(row)))),
        )
    });
    panels.flatten().collect()
}

fn panel(title: &str, style: Style, points: Vec<(f64, Estimate)>) -> Option<String> {
    if points.len() < 2 {
        return None;
    }
    let series = vec![Series {
        points,
        style,
        aside: 0.0,
        marks: false,
    }];
    let lines = Lines {
        title: title.to_owned(),
        axis: "optimizer step".to_owned(),
        domain: None,
        spread: Spread::Linear,
        reference: None,
        chosen: None,
        at_points: false,
        series,
    };
    Some(lines.draw())
}

/// Steps with a value, averaged in at most [`POINTS`] groups: mean, smallest, largest.
fn curve<T>(rows: &[T], value: impl Fn(&T) -> (u32, Option<f64>)) -> Vec<(f64, Estimate)> {
    let points: Vec<(f64, f64)> = rows
        .iter()
        .filter_map(|row| {
            let (step, value) = value(row);
            Some((f64::from(step), value.filter(|value| value.is_finite())?))
        })
        .collect();
    points
        .chunks(points.len().div_ceil(POINTS).max(1))
        .map(summary)
        .collect()
}

fn summary(group: &[(f64, f64)]) -> (f64, Estimate) {
    let n = group.len() as f64;
    let step = group.iter().map(|point| point.0).sum::<f64>() / n;
    let mean = group.iter().map(|point| point.1).sum::<f64>() / n;
    let low = group
        .iter()
        .map(|point| point.1)
        .fold(f64::INFINITY, f64::min);
    let high = group
        .iter()
        .map(|point| point.1)
        .fold(f64::NEG_INFINITY, f64::max);
    (
        step,
        Estimate {
            value: mean,
            low,
            high,
        },
    )
}

fn headline(report: &Report) -> String {
    let runs: Vec<String> = report
        .tables
        .training
        .iter()
        .map(|run| {
            format!(
                "{} {}",
                run_name(&run.file),
                text::plural(run.rows.len(), "step")
            )
        })
        .collect();
    let dictionaries = report.tables.crosscoder_steps.len();
    let more = (dictionaries > 0).then(|| text::plural(dictionaries, "crosscoder run"));
    text::list(&runs.into_iter().chain(more).collect::<Vec<_>>())
}

/// Where each run began and where it ended: the means of its first and last tenth.
fn reading(report: &Report) -> Vec<String> {
    let mut sentences = Vec::new();
    for run in &report.tables.training {
        let mut parts = vec![format!("loss {}", ends(&run.rows, |row| Some(row.loss)))];
        if run.rows.iter().any(|row| row.reward.is_some()) {
            parts = vec![
                format!("reward {}", ends(&run.rows, |row| row.reward)),
                format!("KL {} nats per token", ends(&run.rows, |row| row.kl_nats)),
            ];
        }
        let tokens = run.rows.last().map_or(0, |row| row.tokens);
        let steps = text::plural(run.rows.len(), "step");
        sentences.push(format!(
            "{} ({steps}, {} tokens): {}.",
            run_name(&run.file),
            text::count(tokens as usize),
            parts.join(", ")
        ));
    }
    for run in &report.tables.crosscoder_steps {
        let variance = ends(&run.rows, |row| Some(row.explained_variance));
        let dead = run.rows.last().map_or(f64::NAN, |row| row.dead);
        sentences.push(format!("{}: explained variance of the batches {variance}; at the end {} % of the features were dead.", run_name(&run.file), text::percent(dead)));
    }
    if !sentences.is_empty() {
        sentences.push(
            "Given as the mean of the first tenth of the steps → the mean of the last tenth."
                .to_owned(),
        );
    }
    sentences
}

fn ends<T>(rows: &[T], value: impl Fn(&T) -> Option<f64>) -> String {
    let values: Vec<f64> = rows
        .iter()
        .filter_map(value)
        .filter(|value| value.is_finite())
        .collect();
    let tenth = (values.len() / 10).max(1).min(values.len());
    if values.is_empty() {
        return text::NONE.to_owned();
    }
    let mean = |part: &[f64]| text::number(part.iter().sum::<f64>() / part.len() as f64);
    format!(
        "{} → {}",
        mean(&values[..tenth]),
        mean(&values[values.len() - tenth..])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_are_averaged_and_keep_their_range() {
        let rows: Vec<u32> = (1..=320).collect();
        let points = curve(&rows, |step| (*step, Some(f64::from(*step))));
        assert_eq!(points.len(), 160);
        assert_eq!(
            (
                points[0].0,
                points[0].1.value,
                points[0].1.low,
                points[0].1.high
            ),
            (1.5, 1.5, 1.0, 2.0)
        );
    }

    #[test]
    fn runs_are_named_after_their_folder() {
        assert_eq!(run_name("models/sft/metrics.parquet"), "sft");
        assert_eq!(run_name("dict.steps.parquet"), "dict.steps");
    }
}
