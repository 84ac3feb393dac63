//! How well each crosscoder reconstructs each model.

use super::{Report, is_null, options};
use crate::html::{Page, Table};
use crate::svg::dots::{Dot, DotPlot, Row, WIDE};
use crate::text;
use stats::Estimate;
use store::tables::CrosscoderEval;

/// Explained variance, sparsity and dead features per dictionary and model.
pub(crate) fn write(report: &Report, page: &mut Page) {
    let evals = &report.tables.crosscoder_evals;
    if evals.is_empty() {
        return;
    }
    page.section("crosscoder", "Crosscoder quality");
    page.headline(&headline(report));
    page.reading(&reading(report));
    let mut rows = Vec::new();
    for table in evals {
        rows.push(Row::Group(name(&table.file)));
        rows.extend(table.rows.iter().map(|row| item(report, row)));
    }
    let plot = DotPlot {
        title: "Explained variance".to_owned(),
        slots: 1,
        domain: None,
        reference: None,
        arrows: false,
        width: WIDE,
        rows,
    };
    let n = evals
        .iter()
        .filter_map(|table| Some((name(&table.file), table.rows.first()?.n_rows as usize)));
    let caption = format!(
        "Explained variance of each model's activations, 1 − Σ‖x−x̂‖²/Σ‖x−x̄‖², with 95 % bootstrap intervals over documents. n = {}.",
        text::sizes(n, "row")
    );
    page.figure(&[plot.draw()], &[], &caption);
    page.table(&details(report), "The same with other measures. Centred: blind to a constant error. Per row: mean over rows. L0: active features per row. Dead: never active on these rows.");
    options::print(report, page, evals.iter().map(|table| table.file.as_str()));
}

/// A dictionary's name: its file without the endings.
fn name(file: &str) -> String {
    file.trim_end_matches(".parquet")
        .trim_end_matches(".eval")
        .to_owned()
}

fn item(report: &Report, row: &CrosscoderEval) -> Row {
    let estimate = variance(row);
    let title = format!(
        "{}: {}",
        row.model,
        text::with_interval(&estimate, text::number)
    );
    Row::Item {
        label: row.model.clone(),
        dots: vec![Dot {
            estimate,
            style: report.cast.style(&row.model),
            title,
            members: Vec::new(),
        }],
    }
}

fn variance(row: &CrosscoderEval) -> Estimate {
    Estimate {
        value: row.explained_variance,
        low: row.explained_variance_low,
        high: row.explained_variance_high,
    }
}

fn details(report: &Report) -> Table {
    let columns = [
        "model",
        "rows>",
        "explained variance>",
        "centred>",
        "per row>",
        "MSE>",
        "cosine>",
        "L0>",
        "dead, %>",
    ];
    let mut table = Table::new(&columns);
    for file in &report.tables.crosscoder_evals {
        table.group(&name(&file.file));
        for row in &file.rows {
            table.row(&[
                row.model.clone(),
                text::count(row.n_rows as usize),
                text::with_interval(&variance(row), |value| text::fixed(value, 3)),
                text::fixed(row.explained_variance_centred, 3),
                text::fixed(row.explained_variance_per_row, 3),
                text::number(row.mse),
                text::fixed(row.cosine, 3),
                text::number(row.l0),
                text::percent(row.dead),
            ]);
        }
    }
    table
}

/// Dictionaries of real pairs; all of them when there is nothing else.
fn real(report: &Report) -> Vec<&CrosscoderEval> {
    let evals = &report.tables.crosscoder_evals;
    let real: Vec<&CrosscoderEval> = evals
        .iter()
        .filter(|table| !is_null(&table.file))
        .flat_map(|table| &table.rows)
        .collect();
    if real.is_empty() {
        evals.iter().flat_map(|table| &table.rows).collect()
    } else {
        real
    }
}

fn headline(report: &Report) -> String {
    let rows = real(report);
    let ends = |value: fn(&CrosscoderEval) -> f64| {
        let (low, high) = crate::svg::scale::bounds(rows.iter().map(|row| value(row)))
            .unwrap_or((f64::NAN, f64::NAN));
        let (low, high) = (text::number(low), text::number(high));
        if low == high {
            low
        } else {
            format!("{low} to {high}")
        }
    };
    format!(
        "explained variance {}, {} features active per row",
        ends(|row| (row.explained_variance * 1000.0).round() / 1000.0),
        ends(|row| row.l0)
    )
}

fn reading(report: &Report) -> Vec<String> {
    let worst = real(report)
        .into_iter()
        .min_by(|a, b| a.explained_variance.total_cmp(&b.explained_variance));
    let Some(worst) = worst else {
        return Vec::new();
    };
    let missing = 1.0 - worst.explained_variance;
    vec![format!(
        "The least well explained model is {}: {} of its variance is in the features, and {} % is left in the error, which every \
         statement about features below leaves out.",
        worst.model,
        text::with_interval(&variance(worst), |value| text::fixed(value, 3)),
        text::percent(missing)
    )]
}
