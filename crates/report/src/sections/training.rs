//! Training curves of the models and of the crosscoders.

use super::{Report, is_null, options, overview};
use crate::find::Rows;
use crate::html::Page;
use crate::svg::Style;
use crate::svg::lines::{Lines, Series};
use crate::text;
use stats::Estimate;
use store::tables::{CrosscoderStep, TrainingStep};

/// Points drawn of one curve; longer runs are averaged over neighbouring steps.
const POINTS: usize = 160;

/// A run of `posttrain`.
struct Run<'a> {
    name: String,
    style: Style,
    rows: &'a [TrainingStep],
}

/// Loss, reward and divergence of each run; loss, explained variance and dead features of each crosscoder.
pub(crate) fn write(report: &Report, page: &mut Page) {
    let tables = &report.tables;
    if tables.training.is_empty() && tables.crosscoder_steps.is_empty() {
        return;
    }
    page.section("training", "Training");
    let runs = runs(report);
    page.headline(&headline(report, &runs));
    page.reading(&reading(report, &runs));
    let panels: Vec<String> = runs.iter().flat_map(model_panels).collect();
    if !panels.is_empty() {
        let caption = caption(
            "Training of the models",
            runs.iter().map(|run| (run.name.clone(), run.rows.len())),
        );
        page.figure(&panels, &[], &caption);
    }
    crosscoders(report, page);
    let files = tables.training.iter().map(|run| run.file.as_str());
    options::print(
        report,
        page,
        files.chain(tables.crosscoder_steps.iter().map(|run| run.file.as_str())),
    );
}

/// Runs in the order of their models on the page. A run is called as the model it made is labelled, else after its folder.
fn runs(report: &Report) -> Vec<Run<'_>> {
    let labels = overview::labels(report);
    let name = |file: &str| {
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        labels
            .get(folder)
            .cloned()
            .unwrap_or_else(|| run_name(file))
    };
    let run = |table: &'_ Rows<TrainingStep>| name(&table.file);
    let mut runs: Vec<Run> = report
        .tables
        .training
        .iter()
        .map(|table| Run {
            name: run(table),
            style: report.cast.style(&run(table)),
            rows: &table.rows,
        })
        .collect();
    runs.sort_by_key(|run| report.cast.rank(&run.name));
    runs
}

fn caption(what: &str, sizes: impl Iterator<Item = (String, usize)>) -> String {
    format!(
        "{what}. Of runs longer than {POINTS} steps the line is the mean over neighbouring steps and the band their range. n = {}.",
        text::sizes(sizes, "step")
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
        _ => name
            .trim_end_matches(".parquet")
            .trim_end_matches(".curve")
            .trim_end_matches(".steps")
            .to_owned(),
    }
}

/// What is drawn of a step, and how it is found.
type Quantity<T> = (&'static str, fn(&T) -> Option<f64>);

fn model_panels(run: &Run) -> Vec<String> {
    let has_reward = run.rows.iter().any(|row| row.reward.is_some());
    let loss = if has_reward {
        "policy objective"
    } else {
        "loss, nats per token"
    };
    let values: [Quantity<TrainingStep>; 4] = [
        (loss, |row| Some(row.loss)),
        ("reward", |row| row.reward),
        ("KL to the reference, nats per token", |row| row.kl_nats),
        ("length, tokens", |row| row.length),
    ];
    let stage = run.rows.first().map_or("", |row| &row.stage);
    let panel = |(what, value): &Quantity<TrainingStep>| {
        let points = curve(run.rows, |row| (row.step, value(row)));
        panel(
            &format!("{} ({stage}): {what}", run.name),
            vec![(run.style, points)],
        )
    };
    values.iter().filter_map(panel).collect()
}

/// All dictionaries in the same panels.
fn crosscoders(report: &Report, page: &mut Page) {
    let runs = &report.tables.crosscoder_steps;
    let style = |index: usize, file: &str| {
        if is_null(file) {
            Style::nth(index).dashed()
        } else {
            Style::nth(index)
        }
    };
    let values: [Quantity<CrosscoderStep>; 3] = [
        ("loss", |row| Some(row.loss)),
        ("explained variance of the batch", |row| {
            Some(row.explained_variance)
        }),
        ("dead features, share", |row| Some(row.dead)),
    ];
    let draw = |(what, value): &Quantity<CrosscoderStep>| {
        let one = |(index, run): (usize, &Rows<CrosscoderStep>)| {
            (
                style(index, &run.file),
                curve(&run.rows, |row| (row.step, value(row))),
            )
        };
        panel(what, runs.iter().enumerate().map(one).collect())
    };
    let panels: Vec<String> = values.iter().filter_map(draw).collect();
    if !panels.is_empty() {
        let legend = runs
            .iter()
            .enumerate()
            .map(|(index, run)| (run_name(&run.file), style(index, &run.file)));
        let caption = caption(
            "Training of the crosscoders",
            runs.iter().map(|run| (run_name(&run.file), run.rows.len())),
        );
        page.figure(&panels, &legend.collect::<Vec<_>>(), &caption);
    }
}

fn panel(title: &str, curves: Vec<(Style, Vec<(f64, Estimate)>)>) -> Option<String> {
    let series = curves.into_iter().filter(|(_, points)| points.len() > 1);
    let series: Vec<Series> = series
        .map(|(style, points)| Series {
            points,
            style,
            aside: 0.0,
            marks: false,
        })
        .collect();
    if series.is_empty() {
        return None;
    }
    let lines = Lines {
        title: title.to_owned(),
        axis: "optimizer step".to_owned(),
        // A young crosscoder is far below zero: what matters is where it ends.
        domain: title.starts_with("explained").then_some((0.0, 1.0)),
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

fn headline(report: &Report, runs: &[Run]) -> String {
    let parts = runs
        .iter()
        .map(|run| format!("{} {}", run.name, text::plural(run.rows.len(), "step")));
    let dictionaries = report.tables.crosscoder_steps.len();
    let more = (dictionaries > 0).then(|| text::plural(dictionaries, "crosscoder run"));
    text::list(&parts.chain(more).collect::<Vec<_>>())
}

/// Where each run began and where it ended: the means of its first and last tenth.
fn reading(report: &Report, runs: &[Run]) -> Vec<String> {
    let mut sentences = vec![
        "Each as the mean of the first tenth of the steps → the mean of the last tenth.".to_owned(),
    ];
    for run in runs {
        let has_reward = run.rows.iter().any(|row| row.reward.is_some());
        let what = if has_reward {
            let kl = ends(run.rows, |row| row.kl_nats);
            format!(
                "reward {}, KL {kl} nats per token",
                ends(run.rows, |row| row.reward)
            )
        } else {
            format!(
                "loss {} nats per token",
                ends(run.rows, |row| Some(row.loss))
            )
        };
        let tokens = run.rows.last().map_or(0, |row| row.tokens);
        let steps = text::plural(run.rows.len(), "step");
        sentences.push(format!(
            "{} ({steps}, {} tokens): {what}.",
            run.name,
            text::count(tokens as usize)
        ));
    }
    for run in &report.tables.crosscoder_steps {
        let variance = ends(&run.rows, |row| Some(row.explained_variance));
        let dead = text::percent(run.rows.last().map_or(f64::NAN, |row| row.dead));
        let name = run_name(&run.file);
        sentences.push(format!("{name}: explained variance of the batches {variance}; at the end {dead} % of the features dead."));
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
        assert_eq!(run_name("dict/base-rl.curve.parquet"), "base-rl");
    }
}
