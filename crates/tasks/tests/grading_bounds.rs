//! No text makes a grader panic, and every verdict is reached within a bound of time.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tasks::grade::fuzz;
use tasks::{Grader, grade, thinking};

/// Longest time one verdict may take, on a machine that others use as well. It is a few milliseconds at most when idle.
const BOUND: Duration = Duration::from_secs(5);

const GRADERS: [Grader; 6] = [
    Grader::Lab,
    Grader::Exact,
    Grader::Math,
    Grader::Gsm8k,
    Grader::Mcq,
    Grader::Ifeval,
];

/// Grades in every way, and fails when that takes too long.
fn all(completion: &str, target: &str) {
    for grader in GRADERS {
        timed(grader, completion, target);
    }
}

fn timed(grader: Grader, completion: &str, target: &str) -> bool {
    let start = Instant::now();
    let verdict = grade(grader, completion, target);
    let took = start.elapsed();
    let shown: String = completion.chars().take(200).collect();
    assert!(took < BOUND, "{grader:?} took {took:?} for {shown}");
    verdict.correct
}

/// Pieces that formulas are made of, whole and broken.
const PIECES: [&str; 109] = [
    "\\frac{",
    "\\frac12",
    "\\frac",
    "}",
    "{",
    "\\sqrt{",
    "\\sqrt[3]{",
    "\\sqrt",
    "^",
    "_",
    "^{",
    "_{",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "\\}",
    "|",
    "1",
    "2",
    "10",
    "0",
    "1,000",
    "1,5",
    "3.14",
    ".5",
    "1e9",
    "1e999999",
    "9999999999",
    "-",
    "+",
    "*",
    "/",
    "=",
    "<",
    ">",
    "\\le",
    "\\ge ",
    "\\ne ",
    "\\approx ",
    "\\in ",
    "\\cup ",
    "\\cap ",
    "\\setminus ",
    "\\pm ",
    "\\mp ",
    "x",
    "y",
    "z",
    "n",
    "e",
    "i",
    "\\pi ",
    "\\theta",
    "\\infty",
    "\\emptyset",
    "\\mathbb{R}",
    "\\sin ",
    "\\sin^2 ",
    "\\cos^{-1}",
    "\\log_2 ",
    "\\log ",
    "\\ln ",
    "\\binom{5}{2}",
    "\\binom{",
    "!",
    "'",
    "\\%",
    "%",
    "\\$",
    "$",
    "^\\circ",
    "°",
    "\\text{ cm}",
    "\\text{ and }",
    "\\text{or}",
    "\\text{Friday}",
    "\\text{",
    "cm",
    "Friday",
    "and",
    ",",
    ";",
    ":",
    "\\ldots",
    "...",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "\\begin{array}{cc}",
    "\\overline{3}",
    "0.\\overline{",
    "\\left(",
    "\\right.",
    "\\quad ",
    "\\boxed{",
    "####",
    "\n",
    "The answer is ",
    "<think>",
    "</think>",
    "½",
    "√",
    "²",
    "é",
    " ",
    "A",
];

/// Texts of these pieces.
fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..40)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mixture_of_pieces_panics_or_hangs(target in pieces(), answer in pieces()) {
        all(&answer, &target);
        all(&format!("\\boxed{{{answer}}}"), &target);
    }

    #[test]
    fn no_text_panics_or_hangs(target in "\\PC{0,60}", answer in "\\PC{0,120}") {
        all(&answer, &target);
        let (_, rest) = thinking::split(&answer);
        prop_assert!(answer.ends_with(rest));
    }

    /// Whoever writes down the target is right, however it is written.
    #[test]
    fn the_target_itself_is_right(target in "[a-z0-9][a-z0-9+*/^(),.= -]{0,24}") {
        let target = target.trim();
        prop_assert!(timed(Grader::Math, &format!("\\boxed{{{target}}}"), target), "{}", target);
    }
}

/// The table of pairs, each with its halves changed a little again and again.
#[test]
fn no_mutation_of_known_pairs_panics_or_hangs() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let lines: Vec<&str> = include_str!("golden/pairs.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    for _ in 0..6000 {
        let pick = |rng: &mut ChaCha8Rng| {
            lines[rng.random_range(0..lines.len())]
                .chars()
                .collect::<Vec<char>>()
        };
        let (mut text, other) = (pick(&mut rng), pick(&mut rng));
        for _ in 0..rng.random_range(1..6) {
            mutate(&mut text, &other, &mut rng);
        }
        let text: String = text.into_iter().collect();
        let (target, answer) = text.split_once("  ").unwrap_or((&text, &text));
        timed(Grader::Math, &format!("\\boxed{{{answer}}}"), target);
        timed(Grader::Gsm8k, answer, target);
    }
}

fn mutate(text: &mut Vec<char>, other: &[char], rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..=text.len());
    let end = (at + rng.random_range(0..6)).min(text.len());
    match rng.random_range(0..4) {
        0 => drop(text.drain(at..end)),
        1 => {
            let copied: Vec<char> = text[at..end].to_vec();
            text.splice(at..at, copied);
        }
        2 => {
            let from = rng.random_range(0..=other.len());
            let to = (from + rng.random_range(0..12)).min(other.len());
            text.splice(at..end, other[from..to].iter().copied());
        }
        _ => text.insert(at, rng.random_range(' '..='~')),
    }
}

/// Pieces that are repeated until the text is long or deep.
const REPEATED: [&str; 65] = [
    "(",
    "[",
    "{",
    "\\{",
    "\\frac{",
    "\\frac",
    "\\sqrt{",
    "\\sqrt",
    "-",
    "^",
    "2^",
    "2^{",
    "x^{x",
    "|",
    "!",
    "1!",
    "\\left(",
    "\\text{",
    "\\text{(",
    "\\boxed{",
    "$",
    "$$",
    "\\(",
    "\\[",
    "9",
    "9,",
    "1,234,",
    "1 ",
    "x",
    "x+",
    "x=",
    "1<",
    "\\pm",
    "\\pm 1+",
    "\\sin ",
    "\\begin{pmatrix}",
    "\\begin{array}{",
    "<think>",
    "</think>",
    "####",
    "####\n",
    "answer is ",
    "The answer is A. ",
    "(A) ",
    "A, ",
    "a",
    " ",
    "\n",
    "\\",
    "é",
    "_",
    "'",
    "\\overline{3}",
    "0.\\overline{3}",
    "&",
    "\\\\",
    "%",
    "\\%",
    "cm ",
    "\\cup(1,2)",
    "(1,2),",
    "\\log_",
    "1/",
    "√",
    "²",
];

/// What grows without end when it is computed naively.
fn large() -> Vec<String> {
    let terms = |count: usize, term: &dyn Fn(usize) -> String| {
        (1..count).map(term).collect::<Vec<_>>().join(",")
    };
    let holes: Vec<String> = (0..200).map(|n| format!("\\setminus\\{{{n}\\}}")).collect();
    vec![
        "9".repeat(3000) + "^" + &"9".repeat(900),
        "10^{10^{10^{10}}}".to_owned(),
        "((10^{1000})!)!".to_owned(),
        "3000!+2999!".to_owned(),
        "\\binom{1000000000}{500000000}".to_owned(),
        "1e1000000000000".to_owned(),
        "(x+y+z)^{100000}".to_owned(),
        format!("({})^{{2000}}", "x+1+".repeat(200) + "1"),
        "\\frac{1}{7^{11000}}+".repeat(150) + "1",
        terms(60, &|n| format!("\\frac{{x^{{{n}}}}}{{{n}!}}")),
        terms(64, &|n| format!("({n},x^{{{n}}}+\\sqrt{{x}})")),
        "2/".repeat(1900) + "1",
        "(".repeat(40) + &"2/".repeat(900) + "1" + &")/3".repeat(40),
        "3".to_owned() + &"!".repeat(3900),
        "3".to_owned() + &"\\%".repeat(1900),
        "(-\\infty,1)\\cup".repeat(60) + "(1,2)",
        "\\mathbb{R}".to_owned() + &holes.concat(),
        format!("\\begin{{pmatrix}}{}\\end{{pmatrix}}", "x^2&".repeat(500)),
        "(A) ".repeat(900),
    ]
}

#[test]
fn long_and_deep_texts_end_in_time() {
    let repeated = REPEATED
        .iter()
        .flat_map(|piece| [piece.repeat(500), piece.repeat(1_000_000 / piece.len())]);
    for text in repeated.chain(large()) {
        timed(Grader::Math, &text, &text);
        timed(
            Grader::Math,
            &format!("\\boxed{{{text}}}"),
            &format!("{text}+0"),
        );
        timed(Grader::Gsm8k, &text, "12");
        timed(Grader::Mcq, &text, "B");
    }
}

/// A hundred thousand strings of pieces of formulas through what the fuzz target runs, as many as fit in the time.
#[test]
fn what_the_fuzz_target_runs_ends_for_random_strings() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (begin, enough) = (Instant::now(), Duration::from_secs(6));
    let mut piece = |text: &mut String| match rng.random_range(0..8) {
        0 => text.push(char::from(rng.random_range(b' '..=b'~'))),
        1 => text.push('\n'),
        _ => text.push_str(PIECES[rng.random_range(0..PIECES.len())]),
    };
    for n in 0..100_000_usize {
        if begin.elapsed() > enough {
            assert!(n > 2_000, "only {n} strings in {enough:?}");
            break;
        }
        let mut text = String::new();
        for _ in 0..n % 24 {
            piece(&mut text);
        }
        let start = Instant::now();
        fuzz(text.as_bytes());
        assert!(
            start.elapsed() < BOUND,
            "{text:?} took {:?}",
            start.elapsed()
        );
    }
}
