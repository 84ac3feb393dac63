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
mod notation;
mod parse;
mod relation;
mod scalar;
mod sets;
mod text;
mod token;
mod units;
mod value;
mod vectors;
mod words;

use answer::Answer;
pub(super) use clean::{clean, closing};
pub(super) use text::{is_words, normal};

/// Longest answer that is read as a formula, in bytes; longer ones are compared as they are written.
const LONGEST: usize = 4000;

/// Whether an answer is the target. Neither may be a whole solution: both are what was taken out of it.
pub(super) fn same(target: &str, answer: &str) -> bool {
    let (target, answer) = (text::unescaped(target), text::unescaped(answer));
    let (target, answer) = (notation::going_on(&target), notation::going_on(&answer));
    let (target, answer) = (clean(&target), clean(&answer));
    let (target, answer) = (&*text::closed(target), &*text::closed(answer));
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
    if text::is_phrase(target) && text::parts(target) == text::parts(answer) {
        return true;
    }
    if let Some((letter, rest)) = labelled(target) {
        return letters(&letter.to_string(), answer)
            || labelled(answer).is_some_and(|(other, _)| other == letter)
            || same(rest, answer);
    }
    if let Some((letter, rest)) = labelled(answer) {
        return letters(target, &letter.to_string()) || same(target, rest);
    }
    if notation::digits_in_base(target).is_some_and(|digits| digits == notation::plain(answer)) {
        return true;
    }
    notation::same(target, answer)
        || formulas(&notation::rewritten(target), &notation::rewritten(answer))
}

/// Whether a text can be read as an answer: a formula, a quantity, or nothing but words.
pub(super) fn reads(text: &str) -> bool {
    exact::refuel();
    text.len() <= LONGEST && !answer::readings(clean(text)).is_empty()
}

fn formulas(target: &str, answer: &str) -> bool {
    exact::refuel();
    let mut targets = answer::readings(target);
    // A target with a decimal comma looks like a list: only an answer with a decimal point tells.
    // Three digits after it are thousands.
    let comma =
        answer.contains('.') && !answer.contains(',') && !matches!(decimals(target), 0 | 1 | 3);
    if target.trim_start_matches('-').starts_with("0,") || comma {
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

/// Digits after the only comma of a text that is digits and a comma.
fn decimals(text: &str) -> usize {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.trim_start_matches('-').split_once(',') {
        Some((whole, part)) if digits(whole) && digits(part) => part.len(),
        _ => 0,
    }
}

/// The letter and the content of a choice written out: `\textbf{(B)}\ 12`, `(B) 12`.
fn labelled(text: &str) -> Option<(char, &str)> {
    let upright = [
        "\\textbf{",
        "\\text{",
        "\\mathrm{",
        "\\mathbf{",
        "\\textrm{",
    ]
    .iter()
    .find_map(|name| text.strip_prefix(name));
    let inside = upright.unwrap_or(text);
    let bracketed = inside.strip_prefix('(');
    let rest = bracketed.unwrap_or(inside);
    let letter = rest
        .chars()
        .next()
        .filter(|letter| ('A'..='J').contains(letter))?;
    let rest = rest[1..].strip_prefix([')', '.', ':'])?;
    let rest = if upright.is_some() {
        rest.trim_start().strip_prefix('}')?
    } else {
        rest
    };
    let spaced = rest.starts_with([' ', '\\', '~']) || (upright.is_some() && !rest.is_empty());
    let rest = rest.trim_start_matches(['\\', ' ', '~', ',']);
    // Without its backslash a command would be no command any more.
    let whole = &text[text.len() - rest.len() - 1..];
    let rest = if whole.starts_with('\\') && rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
        whole
    } else {
        rest
    };
    ((bracketed.is_some() || upright.is_some()) && spaced && !rest.is_empty())
        .then_some((letter, rest))
}

/// Whether a target is the letter of a choice.
pub(super) fn is_choice(target: &str) -> bool {
    letters(clean(target), clean(target))
}

/// Options of a choice: `A`, `(A)`, `\text{(a)}`.
fn letters(target: &str, answer: &str) -> bool {
    let letter = |text: &str| {
        let plain = text
            .replace("\\text", "")
            .replace("\\mathrm", "")
            .replace("\\textbf", "")
            .replace("\\mathbf", "");
        let plain = ["option ", "choice "].iter().fold(plain, |plain, word| {
            let bare = plain.trim_start_matches(['{', ' ']).to_owned();
            let named = bare
                .get(..word.len())
                .filter(|begin| begin.eq_ignore_ascii_case(word));
            named.map_or(plain, |_| bare[word.len()..].to_owned())
        });
        let mut letters = plain.chars().filter(|c| !"{}()[]. \\".contains(*c));
        match (letters.next(), letters.next()) {
            (Some(letter @ ('A'..='J' | 'a'..='j')), None) => Some(letter),
            _ => None,
        }
    };
    match (letter(target), letter(answer)) {
        (Some(target), Some(answer)) => {
            // e and i are numbers.
            target.is_ascii_uppercase()
                && target == answer.to_ascii_uppercase()
                && !"ei".contains(answer)
        }
        _ => false,
    }
}
