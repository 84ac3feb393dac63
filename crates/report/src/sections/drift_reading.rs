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
    for is_pair in [true, false] {
        let real: Vec<&Family> = families
            .iter()
            .filter(|family| !family.is_null && family.is_pair == is_pair)
            .collect();
        for (index, a) in real.iter().enumerate() {
            sentences.extend(real[index + 1..].iter().map(|b| contrast(a, b)));
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
            text::fixed(furthest, 3)
        )
    } else {
        String::new()
    };
    format!(
        "{}{}: median NRN {}; {} % of {} live features lie above {} and {} % below {}.{within}",
        legend_title(family),
        if family.is_pair {
            ""
        } else {
            " (all models in one crosscoder)"
        },
        text::fixed(stats::median(&nrn), 3),
        text::with_interval(&family.above(), text::percent),
        text::count(family.live.len()),
        text::fixed(0.5 + TAIL, 1),
        text::with_interval(&family.below(), text::percent),
        text::fixed(0.5 - TAIL, 1)
    )
}

fn contrast(a: &Family, b: &Family) -> String {
    let (first, second) = (a.above(), b.above());
    let verdict = if first.low > second.high {
        format!("{} has the heavier right tail", a.tuned)
    } else if second.low > first.high {
        format!("{} has the heavier right tail", b.tuned)
    } else {
        format!(
            "the right tails of {} and {} cannot be told apart (their intervals overlap)",
            a.tuned, b.tuned
        )
    };
    let (wide, narrow) = (a.deviation(), b.deviation());
    let spread = if wide.low > narrow.high {
        format!("{} is the wider distribution", a.tuned)
    } else if narrow.low > wide.high {
        format!("{} is the wider distribution", b.tuned)
    } else {
        "their spreads do not differ clearly".to_owned()
    };
    format!(
        "Side by side, {verdict}, and {spread} (standard deviation of NRN {} against {}).",
        text::fixed(wide.value, 4),
        text::fixed(narrow.value, 4)
    )
}
