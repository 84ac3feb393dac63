//! Whether two answers in LaTeX, or as plain text, are the same.
//!
//! An answer is read as values, equations, inequalities, sets, intervals, tuples, matrices, quantities or words. Rational
//! values are compared exactly; others, and formulas with variables, at fixed points. What cannot be read is compared as
//! it is written. Every comparison is bounded in length, depth, size and work, and comes to an end whatever the text is.

mod answer;
mod clean;
mod compare;
mod eval;
mod exact;
mod lex;
mod matrix;
mod node;
mod parse;
mod relation;
mod scalar;
mod sets;
mod text;
mod token;
mod units;
mod value;
mod words;

use answer::Answer;
pub(super) use clean::{clean, closing};
pub(super) use text::{is_words, normal};

/// Longest answer that is read as a formula, in bytes; longer ones are compared as they are written.
const LONGEST: usize = 4000;

/// Whether an answer is the target. Neither may be a whole solution: both are what was taken out of it.
pub(super) fn same(target: &str, answer: &str) -> bool {
    let (target, answer) = (clean(target), clean(answer));
    if target.len() > LONGEST || answer.len() > LONGEST {
        return target == answer;
    }
    let (bare_target, bare_answer) = (text::bare(target), text::bare(answer));
    if bare_target.is_empty() || bare_answer.is_empty() {
        return false;
    }
    if bare_target == bare_answer || letters(target, answer) {
        return true;
    }
    if text::is_phrase(target) && normal(target) == normal(answer) {
        return true;
    }
    if digits_in_base(target).is_some_and(|digits| digits == answer) {
        return true;
    }
    formulas(target, answer)
}

/// Whether a text can be read as an answer: a formula, a quantity, or nothing but words.
pub(super) fn reads(text: &str) -> bool {
    exact::refuel();
    text.len() <= LONGEST && !answer::readings(clean(text)).is_empty()
}

fn formulas(target: &str, answer: &str) -> bool {
    exact::refuel();
    let mut targets = answer::readings(target);
    if target.trim_start_matches('-').starts_with("0,") {
        targets.extend(answer::decimal_comma(target));
    }
    let answers = answer::readings(answer);
    let any = |answers: &[Answer]| {
        targets
            .iter()
            .any(|target| answers.iter().any(|answer| compare::same(target, answer)))
    };
    any(&answers) || (!target.contains(',') && any(answer::decimal_comma(answer).as_slice()))
}

/// The digits of `204_5`: an answer may leave out the base it was asked in.
fn digits_in_base(target: &str) -> Option<&str> {
    let (digits, base) = target.split_once('_')?;
    let base = base.trim_matches(['{', '}']);
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(digits) && number(base)).then_some(digits)
}

/// Options of a choice: `A`, `(A)`, `\text{(a)}`.
fn letters(target: &str, answer: &str) -> bool {
    let letter = |text: &str| {
        let plain = text
            .replace("\\text", "")
            .replace("\\mathrm", "")
            .replace("\\textbf", "")
            .replace("\\mathbf", "");
        let mut letters = plain.chars().filter(|c| !"{}()[]. \\".contains(*c));
        match (letters.next(), letters.next()) {
            (Some(letter @ ('A'..='J' | 'a'..='j')), None) => Some(letter),
            _ => None,
        }
    };
    match (letter(target), letter(answer)) {
        (Some(target), Some(answer)) => {
            target.is_ascii_uppercase() && target == answer.to_ascii_uppercase()
        }
        _ => false,
    }
}
