//! Verdicts on pairs of targets and answers: those of other graders, and a table of our own in both directions.

use tasks::{Grader, grade};

/// Lines of a table: target, whether the answer is right, answer.
fn table(text: &str) -> Vec<(&str, bool, &str)> {
    let lines = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let right = line
                .split_once("  ≡  ")
                .map(|(target, answer)| (target, true, answer));
            let wrong = || {
                line.split_once("  ≢  ")
                    .map(|(target, answer)| (target, false, answer))
            };
            right
                .or_else(wrong)
                .unwrap_or_else(|| panic!("no verdict in {line}"))
        })
        .collect()
}

#[test]
fn a_careful_person_agrees_with_every_verdict() {
    let mut pairs = table(include_str!("golden/pairs.txt"));
    pairs.extend(table(include_str!("golden/hard_pairs.txt")));
    assert!(pairs.len() >= 1200, "{}", pairs.len());
    let wrong: Vec<String> = pairs
        .iter()
        .filter_map(|(target, right, answer)| {
            let boxed = format!("So it is $\\boxed{{{answer}}}$.");
            let verdict = grade(Grader::Math, &boxed, target);
            (verdict.correct != *right).then(|| format!("{target}  |  {answer}  should be {right}"))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        pairs.len(),
        wrong.join("\n")
    );
}

/// Verdicts of the golden file that no careful person would follow Math-Verify in.
const OTHERWISE: [(&str, &str, bool); 4] = [
    // The same set.
    ("[2,5)", "\\boxed{2\\le x<5}", true),
    // Euler's identity.
    ("e^{i\\pi}", "\\boxed{-1}", true),
    // The last box is the answer.
    ("12", "First \\boxed{7}, but actually \\boxed{12}", true),
    // A brace that was not closed.
    ("12", "\\boxed{12", true),
];

#[test]
fn the_pairs_of_other_graders_get_the_better_verdict() {
    let lines = include_str!("golden/math_equiv.jsonl").lines();
    let mut wrong = Vec::new();
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let (gold, prediction) = (
            line["gold"].as_str().unwrap(),
            line["prediction"].as_str().unwrap(),
        );
        let known = OTHERWISE
            .iter()
            .find(|(target, answer, _)| (*target, *answer) == (gold, prediction));
        let expected = known.map_or(line["math_verify_0.9"] == true, |known| known.2);
        if grade(Grader::Math, prediction, gold).correct != expected {
            wrong.push(format!("{gold} | {prediction} should be {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn answers_are_found_in_whatever_is_written_around_them() {
    let mut completions = table(include_str!("golden/completions.txt"));
    completions.extend(table(include_str!("golden/hard_completions.txt")));
    let wrong: Vec<String> = completions
        .iter()
        .filter_map(|(target, right, completion)| {
            let completion = completion.replace('⏎', "\n");
            let verdict = grade(Grader::Math, &completion, target);
            let found = verdict.extracted.unwrap_or_default();
            (verdict.correct != *right)
                .then(|| format!("{target}  |  {completion}  should be {right}, found {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
