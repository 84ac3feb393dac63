//! Free answers in mathematics: every way of finding one, each compared by what it means.

use std::borrow::Cow;

use super::extract::{
    after_hashes, after_phrase, announced_behind_box, anywhere, boxed, combined, formulas_together,
    sentence_answer,
};
use super::{Reading, Verdict};
use super::{choice, latex};

/// Ways of finding an answer, the most telling first.
#[derive(Debug, Clone, Copy)]
enum Extractor {
    /// The last box.
    Boxed,
    /// What follows the last `####`.
    Strict,
    /// What follows `the answer is`.
    Phrase,
    /// A short completion as a whole, else its last formula or number.
    Flexible,
}

impl Extractor {
    fn name(self) -> &'static str {
        match self {
            Self::Boxed => "boxed",
            Self::Strict => "strict",
            Self::Phrase => "phrase",
            Self::Flexible => "flexible",
        }
    }

    fn find(self, text: &str) -> Option<&str> {
        match self {
            Self::Boxed => boxed(text),
            Self::Strict => after_hashes(text),
            Self::Phrase => after_phrase(text).map(sentence_answer),
            Self::Flexible => anywhere(text),
        }
    }

    fn read(self, text: &str, target: &str) -> Reading {
        let found = self.find(text);
        let reading = |extracted: Option<String>, correct| Reading {
            extractor: self.name().to_owned(),
            extracted,
            correct,
        };
        let Some(found) = found else {
            return reading(None, false);
        };
        if matches!(self, Self::Boxed)
            && let Some(together) = combined(text)
            && several(target)
            && latex::same(target, &together)
        {
            return reading(Some(together), true);
        }
        if matches!(self, Self::Flexible)
            && several(target)
            && let Some(together) = formulas_together(text)
            && latex::same(target, &together)
        {
            return reading(Some(together), true);
        }
        let in_words = matches!(self, Self::Phrase | Self::Flexible);
        let named = in_words && says(found, target);
        // `The answer is 6!` may be a factorial, or said with joy.
        let exclaimed = found
            .strip_suffix('!')
            .filter(|_| in_words && text.trim_end().ends_with(found));
        reading(
            Some(latex::clean(found).to_owned()),
            named
                || latex::same(target, found)
                || exclaimed.is_some_and(|found| latex::same(target, found)),
        )
    }
}

/// Whether a target has several parts, which may be boxed one by one.
fn several(target: &str) -> bool {
    target.contains([',', ';'])
        || target.contains("and")
        || target.contains("or")
        || target.contains("\\pm")
}

/// Whether words end with the words that were expected: `She is taller than Evelyn` is no `Evelyn`, `it is Evelyn` is.
fn says(found: &str, target: &str) -> bool {
    if !latex::is_words(target) {
        return false;
    }
    let (found, target) = (latex::normal(found), latex::normal(target));
    let before = found.strip_suffix(&target).map(str::trim_end);
    before.is_some_and(|before| {
        before.is_empty()
            || ["is", "are", "was", "on", "be", "called"]
                .iter()
                .any(|word| before.ends_with(&format!(" {word}")))
    })
}

/// Grades a problem whose answer is boxed, as in MATH.
pub(super) fn math(text: &str, target: &str) -> Verdict {
    use Extractor::{Boxed, Flexible, Phrase, Strict};
    if latex::is_choice(target) && boxed(text).is_none() && after_hashes(text).is_none() {
        return choice::grade(text, target);
    }
    // Boxes on the way are no answer once the final one is announced behind them.
    if announced_behind_box(text) {
        return graded(text, target, [Phrase, Boxed, Strict, Flexible]);
    }
    graded(text, target, [Boxed, Strict, Phrase, Flexible])
}

/// Grades a problem whose answer stands after `####`, as in GSM8K.
pub(super) fn gsm8k(text: &str, target: &str) -> Verdict {
    use Extractor::{Boxed, Flexible, Phrase, Strict};
    graded(text, target, [Strict, Boxed, Phrase, Flexible])
}

fn graded(text: &str, target: &str, order: [Extractor; 4]) -> Verdict {
    let target = &expected(target);
    let readings: Vec<Reading> = order
        .iter()
        .map(|extractor| extractor.read(text, target))
        .collect();
    let first = readings.iter().find(|reading| reading.extracted.is_some());
    let (extracted, correct) = first.map_or((None, false), |first| {
        (first.extracted.clone(), first.correct)
    });
    Verdict {
        extracted,
        correct,
        readings,
    }
}

/// The answer of a target, which may be a whole solution, or several boxes.
fn expected(target: &str) -> Cow<'_, str> {
    let whole_solution =
        target.len() > 200 || target.contains("####") || target.contains("\\boxed");
    if !whole_solution {
        return Cow::Borrowed(target);
    }
    match combined(target) {
        Some(together) => Cow::Owned(together),
        None => Cow::Borrowed(
            boxed(target)
                .or_else(|| after_hashes(target))
                .unwrap_or(target),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_reading_is_kept() {
        let verdict = math("So it is 7, the answer is 8. Thus \\boxed{9}", "9");
        let found: Vec<_> = verdict
            .readings
            .iter()
            .map(|r| (r.extractor.as_str(), r.extracted.as_deref(), r.correct))
            .collect();
        assert_eq!(
            found,
            [
                ("boxed", Some("9"), true),
                ("strict", None, false),
                ("phrase", Some("8"), false),
                ("flexible", Some("9"), true)
            ]
        );
        assert!(verdict.correct && verdict.extracted.as_deref() == Some("9"));
    }

    #[test]
    fn targets_may_be_whole_solutions() {
        assert!(
            gsm8k(
                "so #### 1,018",
                "First 1000, then <<1000+18=1018>>1018.\n#### 1018"
            )
            .correct
        );
        assert!(math("\\boxed{0.5}", "It is a half: $\\boxed{\\frac12}$.").correct);
    }
}
