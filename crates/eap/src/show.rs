//! Tables as a person reads them.

use store::tables::{CircuitPoint, EdgeChange, EdgeMetric};

const HEADER: [&str; 7] = [
    "metric",
    "entries",
    "alpha",
    "n",
    "before",
    "after",
    "difference",
];

/// Aligned columns, a line per metric; intervals in brackets.
pub fn table(rows: &[EdgeMetric]) -> String {
    let mut cells = vec![HEADER.map(String::from)];
    if let Some(row) = rows.first() {
        cells[0][4] = format!("before ({})", row.before_model);
        cells[0][5] = format!("after ({})", row.after_model);
    }
    cells.extend(rows.iter().map(line));
    let width = |column: usize| {
        cells
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let text = |line: &[String; 7]| {
        let padded = line
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    cells.iter().map(text).collect()
}

fn line(row: &EdgeMetric) -> [String; 7] {
    let with_interval =
        |value, low, high| format!("{} [{}, {}]", number(value), number(low), number(high));
    [
        row.metric.clone(),
        row.entries.clone(),
        row.alpha
            .map_or_else(|| "-".into(), |alpha| alpha.to_string()),
        row.n.to_string(),
        with_interval(row.before, row.before_low, row.before_high),
        with_interval(row.after, row.after_low, row.after_high),
        with_interval(row.difference, row.difference_low, row.difference_high),
    ]
}

/// Four significant digits: plain where that is short, with an exponent otherwise.
pub fn number(value: f64) -> String {
    let magnitude = if value == 0.0 {
        0
    } else {
        value.abs().log10().floor() as i32
    };
    match magnitude {
        -3..=3 => format!("{value:.*}", usize::try_from(3 - magnitude).unwrap_or(0)),
        _ => format!("{value:.3e}"),
    }
}

/// How many edges changed, and the layers and edges that changed most surely.
pub fn changes(rows: &[EdgeChange], fdr: f64) -> String {
    const TOLD: usize = 10;
    let Some(first) = rows.first() else {
        return String::new();
    };
    let edges: Vec<&EdgeChange> = rows.iter().filter(|row| row.unit == "edge").collect();
    let found = |rows: &[&EdgeChange]| rows.iter().filter(|row| row.q <= fdr).count();
    let alpha = first
        .alpha
        .map_or_else(String::new, |alpha| format!("α {alpha}: "));
    let mut lines = vec![format!(
        "{alpha}{} of {} edges changed from {} to {} at q ≤ {fdr}, {} examples",
        found(&edges),
        edges.len(),
        first.before_model,
        first.after_model,
        first.n
    )];
    let mut told: Vec<&EdgeChange> = rows
        .iter()
        .filter(|row| row.unit != "edge" && row.q <= fdr)
        .collect();
    let mut surest: Vec<&EdgeChange> = edges.into_iter().filter(|row| row.q <= fdr).collect();
    surest.sort_by(|a, b| {
        a.q.total_cmp(&b.q)
            .then(b.difference.abs().total_cmp(&a.difference.abs()))
    });
    told.extend(surest.into_iter().take(TOLD));
    lines.extend(told.into_iter().map(change));
    lines.join("\n")
}

fn change(row: &EdgeChange) -> String {
    let name = match (&row.source, &row.target) {
        (Some(source), Some(target)) => format!("{source}->{target}"),
        (Some(source), None) => format!("from layer {source}"),
        (None, target) => format!("into layer {}", target.as_deref().unwrap_or_default()),
    };
    format!(
        "{name}\t{} → {}\t{} [{}, {}]\tq {}",
        number(row.before),
        number(row.after),
        number(row.difference),
        number(row.difference_low),
        number(row.difference_high),
        number(row.q)
    )
}

/// Figures of circuits as lines that a person reads.
pub fn curve(rows: &[CircuitPoint]) -> String {
    let line = |row: &CircuitPoint| {
        let size = match (row.share, row.edges, row.kept) {
            (Some(share), Some(edges), Some(kept)) => format!("{share}\t{edges}\t{kept}"),
            _ => "-\t-\t-".into(),
        };
        format!(
            "{}\t{size}\t{} [{}, {}]",
            row.measure,
            number(row.value),
            number(row.value_low),
            number(row.value_high)
        )
    };
    let lines = rows.iter().map(line);
    let head = "measure\tshare\tedges\tkept\tvalue".to_owned();
    std::iter::once(head)
        .chain(lines)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_significant_digits() {
        let cases = [
            (0.0, "0.000"),
            (1.0, "1.000"),
            (-12.345, "-12.35"),
            (0.0123, "0.01230"),
            (1234.5, "1234"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(1.234_56e-5), "1.235e-5");
    }

    #[test]
    fn columns_are_aligned() {
        let row = |metric: &str, before| EdgeMetric {
            metric: metric.into(),
            entries: "all".into(),
            alpha: Some(0.3),
            before_model: "base".into(),
            after_model: "rl".into(),
            n: 100,
            before,
            before_low: 0.0,
            before_high: 1.0,
            after: 1.0,
            after_low: 0.0,
            after_high: 1.0,
            difference: 0.0,
            difference_low: 0.0,
            difference_high: 0.0,
        };
        let text = table(&[row("gini", 0.5), row("distribution_kurtosis", 357.0)]);
        let columns: Vec<_> = text
            .lines()
            .map(|line| line.find('[').or_else(|| line.find("before")))
            .collect();
        assert!(text.starts_with("metric") && text.contains("before (base)"));
        assert!(columns[1].unwrap() > columns[0].unwrap());
        let after = |line: &str| line.match_indices("1.000 [").last().map(|(place, _)| place);
        assert_eq!(
            after(text.lines().nth(1).unwrap()),
            after(text.lines().nth(2).unwrap())
        );
    }
}
