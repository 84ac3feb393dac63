//! A comparison as people read it.

use store::tables::Comparison;

const HEADINGS: [&str; 8] = [
    "task",
    "n",
    "a",
    "b",
    "b - a",
    "wrong>right",
    "right>wrong",
    "p (Holm)",
];

/// The rows as aligned columns in percent, a block with a heading for each pair of sets.
pub fn render(rows: &[Comparison]) -> String {
    let blocks = rows
        .chunk_by(|x, y| (&x.a, &x.b) == (&y.a, &y.b))
        .map(block);
    blocks.collect::<Vec<_>>().join("\n")
}

fn block(rows: &[Comparison]) -> String {
    let mut lines: Vec<Vec<String>> = vec![HEADINGS.map(str::to_owned).into()];
    lines.extend(rows.iter().map(cells));
    let title = format!(
        "a = {}, b = {} (percent, 95 % intervals)\n",
        rows[0].a, rows[0].b
    );
    title + &aligned(&lines) + &notes(rows)
}

/// What the columns have no room for: the smallest difference that can be seen, and figures of several answers.
fn notes(rows: &[Comparison]) -> String {
    let mut notes: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| row.answers != Some(1)) {
        let n = row
            .answers
            .map_or_else(|| "n".to_owned(), |n| n.to_string());
        let pairs = [
            ("maj", row.majority_a.zip(row.majority_b)),
            ("pass", row.pass_a.zip(row.pass_b)),
        ];
        for (name, pair) in pairs {
            notes.extend(pair.map(|(a, b)| {
                format!(
                    "{}: {name}@{n} {:.1} -> {:.1}\n",
                    row.task,
                    100.0 * a,
                    100.0 * b
                )
            }));
        }
    }
    let last = rows.last();
    if last.is_some_and(|row| row.n > 1 && row.difference_error == Some(0.0)) {
        let same = "every document differs alike, or not at all: these answers do not tell what could be seen\n";
        notes.push(same.to_owned());
    }
    let detectable = last.and_then(|row| row.detectable);
    notes.extend(detectable.map(|share| {
        let points = 100.0 * share;
        format!("this comparison can see differences above {points:.1} points (80 % power, two-sided 5 %)\n")
    }));
    notes.concat()
}

fn cells(row: &Comparison) -> Vec<String> {
    vec![
        row.task.clone(),
        row.n.to_string(),
        estimate(row.accuracy_a, row.accuracy_a_low, row.accuracy_a_high),
        estimate(row.accuracy_b, row.accuracy_b_low, row.accuracy_b_high),
        estimate(row.difference, row.difference_low, row.difference_high),
        row.wrong_to_right.to_string(),
        row.right_to_wrong.to_string(),
        probability(row.p_holm),
    ]
}

fn estimate(value: f64, low: f64, high: f64) -> String {
    let [value, low, high] = [value, low, high].map(|share| 100.0 * share);
    format!("{value:.1} [{low:.1}, {high:.1}]")
}

fn probability(p: f64) -> String {
    if p < 1e-4 {
        "<0.0001".to_owned()
    } else {
        format!("{p:.4}")
    }
}

/// Columns as wide as their widest cell, two blanks apart: the first to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |cells: &Vec<String>| {
        let cell = |(column, (text, width)): (usize, (&String, &usize))| {
            if column == 0 {
                format!("{text:<width$}")
            } else {
                format!("{text:>width$}")
            }
        };
        let cells: Vec<String> = cells.iter().zip(&widths).enumerate().map(cell).collect();
        cells.join("  ") + "\n"
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(task: &str, b: &str) -> Comparison {
        Comparison {
            task: task.into(),
            a: "base".into(),
            b: b.into(),
            n: 500,
            accuracy_a: 0.036,
            accuracy_a_low: 0.02,
            accuracy_a_high: 0.06,
            accuracy_b: 1.0,
            accuracy_b_low: 0.99,
            accuracy_b_high: 1.0,
            difference: 0.964,
            difference_low: 0.948,
            difference_high: 0.98,
            wrong_to_right: 482,
            right_to_wrong: 0,
            p: 1e-9,
            p_holm: if task == "all" { 0.25 } else { 1e-9 },
            detectable: Some(0.0234),
            answers: Some(1),
            ..Comparison::default()
        }
    }

    #[test]
    fn columns_line_up_under_their_headings() {
        let text = render(&[row("arith", "rl"), row("all", "rl")]);
        let expected = "\
a = base, b = rl (percent, 95 % intervals)
task     n               a                    b              b - a  wrong>right  right>wrong  p (Holm)
arith  500  3.6 [2.0, 6.0]  100.0 [99.0, 100.0]  96.4 [94.8, 98.0]          482            0   <0.0001
all    500  3.6 [2.0, 6.0]  100.0 [99.0, 100.0]  96.4 [94.8, 98.0]          482            0    0.2500
this comparison can see differences above 2.3 points (80 % power, two-sided 5 %)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn several_answers_have_their_own_lines() {
        let mut all = row("all", "rl");
        (all.answers, all.majority_a, all.majority_b) = (Some(4), Some(0.5), Some(0.625));
        (all.pass_a, all.pass_b, all.detectable) = (Some(0.75), Some(1.0), None);
        let text = render(&[all]);
        assert!(
            text.ends_with("all: maj@4 50.0 -> 62.5\nall: pass@4 75.0 -> 100.0\n"),
            "{text}"
        );
    }

    #[test]
    fn every_pair_of_sets_has_a_block() {
        let text = render(&[row("all", "rl"), row("all", "sft")]);
        assert_eq!(text.matches("a = base").count(), 2);
    }
}
