//! What the distributions of NRN say, in words.

use super::drift::{Family, TAIL, legend_title};
use crate::text;

/// The right tails of the real pairs.
pub(super) fn headline(families: &[Family]) -> String {
    let real = families
        .iter()
        .filter(|family| !family.is_null && family.is_pair == families[0].is_pair);
    let describe = |family: &Family| {
        format!(
            "{} {} %",
            family.tuned,
            text::with_interval(&family.above(), text::percent)
        )
    };
    let parts: Vec<String> = real.map(describe).collect();
    format!(
        "features with NRN above {}: {}",
        text::fixed(0.5 + TAIL, 1),
        parts.join("; ")
    )
}

/// Every pair by itself, then pairs of the same kind against each other.
pub(super) fn reading(families: &[Family]) -> Vec<String> {
    let mut sentences: Vec<String> = families
        .iter()
        .filter(|family| !family.live.is_empty())
        .map(describe)
        .collect();
    for (is_pair, place) in [
        (true, "Pairwise"),
        (false, "In the crosscoder of all models"),
    ] {
        let real = families
            .iter()
            .filter(|family| !family.is_null && family.is_pair == is_pair);
        let real: Vec<&Family> = real.collect();
        for (index, a) in real.iter().enumerate() {
            // Norms of two joint dictionaries have nothing to do with each other.
            let others = real[index + 1..]
                .iter()
                .filter(|b| b.tuned != a.tuned && (is_pair || b.file == a.file));
            sentences.extend(others.map(|b| contrast(place, a, b)));
        }
    }
    sentences
}

fn describe(family: &Family) -> String {
    let nrn = family.values(|row| row.nrn);
    let within = if family.is_null {
        let furthest = nrn
            .iter()
            .map(|value| (value - 0.5).abs())
            .fold(0.0, f64::max);
        format!(
            " The furthest live feature is {} from 0.5; what the other pairs show beyond that is not explained by this null.",
            text::number(furthest)
        )
    } else {
        String::new()
    };
    format!(
        "{}: median NRN {}; {} % of {} live features lie above {} and {} % below {}.{within}",
        legend_title(family),
        text::fixed(stats::median(&nrn), 3),
        text::with_interval(&family.above(), text::percent),
        text::count(family.live.len()),
        text::fixed(0.5 + TAIL, 1),
        text::with_interval(&family.below(), text::percent),
        text::fixed(0.5 - TAIL, 1)
    )
}

fn contrast(place: &str, a: &Family, b: &Family) -> String {
    let apart = |first: stats::Estimate, second: stats::Estimate| match (
        first.low > second.high,
        second.low > first.high,
    ) {
        (true, _) => Some(a.tuned),
        (_, true) => Some(b.tuned),
        _ => None,
    };
    let tail = apart(a.above(), b.above()).map_or_else(
        || {
            format!(
                "the right tails of {} and {} cannot be told apart",
                a.tuned, b.tuned
            )
        },
        |heavier| format!("{heavier} has the heavier right tail"),
    );
    let spread = apart(a.deviation(), b.deviation()).map_or_else(
        || "their spreads do not differ clearly".to_owned(),
        |wider| format!("{wider} is spread wider"),
    );
    format!(
        "{place}, {tail} and {spread} (standard deviation of NRN: {} {}, {} {}).",
        a.tuned,
        text::estimate(&a.deviation()),
        b.tuned,
        text::estimate(&b.deviation())
    )
}
