//! Samples of other evaluations become samples tables, and grading says what changed.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use store::tables::Sample;

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    path.to_str().unwrap().to_owned()
}

fn evaluate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evaluate"))
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs with `-o out.parquet`, and reads what was written.
    fn samples(&self, arguments: &[&str]) -> Vec<Sample> {
        let out = self.path("out.parquet");
        let output = evaluate(&[arguments, &["-o", out.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{}", said(&output));
        store::read_table(&[out]).unwrap()
    }

    /// The error of a run that fails.
    fn error(&self, arguments: &[&str]) -> String {
        let out = self.path("none.parquet");
        let output = evaluate(&[arguments, &["-o", out.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(!out.exists());
        said(&output)
    }
}

fn readings(sample: &Sample) -> Value {
    serde_json::from_str(sample.readings.as_deref().unwrap()).unwrap()
}

#[test]
fn generated_samples_of_lm_eval_keep_every_filter() {
    let folder = Folder::new();
    let samples = folder.samples(&["import", &golden("lmeval")]);
    let generated: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.task == "my_gen")
        .collect();
    // Two answers a document, of which the harness has judged the first.
    assert_eq!(generated.len(), 3);
    let first = generated[0];
    assert_eq!(
        (
            first.model.as_str(),
            first.arm.as_str(),
            first.doc_id.as_str(),
            first.sample
        ),
        ("dtzt3t8v", "none", "0", 0)
    );
    assert_eq!(first.prompt, "Question: 2+2?\nAnswer:");
    assert_eq!(
        (first.completion.as_str(), first.target.as_str()),
        ("lol", "#### 4")
    );
    assert_eq!(
        (
            first.extracted.as_deref(),
            first.correct,
            first.finish_reason.as_str()
        ),
        (None, false, "stop")
    );
    let readings = readings(first);
    assert_eq!(readings["strict-match"]["correct"], false);
    assert_eq!(readings["flexible-extract"]["metrics"]["exact_match"], 0.0);
}

#[test]
fn choices_of_lm_eval_are_what_is_likeliest() {
    let folder = Folder::new();
    let samples = folder.samples(&["import", &golden("lmeval"), "--model", "base"]);
    let choices: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.task == "my_mc")
        .collect();
    let found: Vec<_> = choices
        .iter()
        .map(|s| (s.completion.as_str(), s.target.as_str(), s.correct))
        .collect();
    assert_eq!(
        found,
        [(" 4", "4", true), (" 9", "8", false), (" 5", "6", false)]
    );
    assert_eq!(choices[0].finish_reason, "choice");
    assert_eq!(
        readings(choices[0])["choices"][0]["logprob"],
        -0.587_617_064_175_436_4
    );
    assert_eq!(readings(choices[0])["acc_norm"]["extracted"], "4");
}

#[test]
fn with_a_preset_every_repeated_answer_is_graded() {
    let folder = Folder::new();
    let file = golden("lmeval/samples_my_gen.jsonl");
    let samples = folder.samples(&["import", &file, "--preset", "gsm8k"]);
    assert_eq!(
        samples
            .iter()
            .map(|sample| sample.sample)
            .collect::<Vec<_>>(),
        [0, 1, 0, 1, 0, 1]
    );
    let readings = readings(&samples[0]);
    assert!(readings["strict-match"].is_object() && readings["flexible"].is_object());
}

#[test]
fn filters_and_metrics_are_chosen_by_name() {
    let folder = Folder::new();
    let file = golden("lmeval/samples_my_gen.jsonl");
    assert_eq!(
        folder
            .samples(&["import", &file, "--filter", "flexible-extract"])
            .len(),
        3
    );
    let error = folder.error(&["import", &file, "--filter", "boxed"]);
    assert!(
        error.contains("document 0") && error.contains("strict-match, flexible-extract"),
        "{error}"
    );
    let error = folder.error(&["import", &file, "--metric", "acc"]);
    assert!(
        error.contains("no metric acc, only: exact_match"),
        "{error}"
    );
}

#[test]
fn details_of_lighteval_keep_reasoning_lengths_and_metrics() {
    let folder = Folder::new();
    let files = golden("lighteval");
    let samples = folder.samples(&["import", &files, "--model", "rl"]);
    let math: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.task == "lighteval|math|0")
        .collect();
    assert_eq!(
        math.iter().map(|sample| sample.correct).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert_eq!(
        math.iter()
            .map(|sample| sample.n_tokens)
            .collect::<Vec<_>>(),
        [3, 2, 8]
    );
    assert_eq!(math[0].reasoning.as_deref(), Some("one and one"));
    assert_eq!(
        (math[0].target.as_str(), math[0].prompt.as_str()),
        ("2", "1+1?")
    );
    // The third used up its budget: whatever the metric says, it came to no end.
    assert_eq!(math[2].finish_reason, "length");
    let arc = samples
        .iter()
        .find(|sample| sample.task == "lighteval|arc|0")
        .unwrap();
    assert_eq!(
        (arc.completion.as_str(), arc.target.as_str(), arc.correct),
        (" B", "B", true)
    );
    assert_eq!(readings(arc)["choices"][0]["logprob"], -2.0);
    // A metric over two answers is the verdict of neither.
    assert!(
        !samples
            .iter()
            .any(|sample| sample.task == "lighteval|aime|0")
    );
}

#[test]
fn details_of_lighteval_are_graded_again_where_asked() {
    let folder = Folder::new();
    let file = |task: &str| {
        golden(&format!(
            "lighteval/details_{task}_2026-01-02T03-04-05.678901.parquet"
        ))
    };
    let samples = folder.samples(&[
        "import",
        &file("math"),
        &file("aime"),
        "--model",
        "rl",
        "--preset",
        "math",
    ]);
    let verdicts: Vec<_> = samples
        .iter()
        .map(|sample| (sample.doc_id.as_str(), sample.sample, sample.correct))
        .collect();
    // aime comes first: files are read in order of their names.
    assert_eq!(
        verdicts,
        [
            ("0", 0, true),
            ("0", 1, false),
            ("0", 0, true),
            ("1", 0, true),
            ("2", 0, false)
        ]
    );
    let error = folder.error(&["import", &file("arc"), "--model", "rl", "--preset", "math"]);
    assert!(
        error.contains("row 0") && error.contains("leave --preset out"),
        "{error}"
    );
}

#[test]
fn what_is_no_sample_is_refused() {
    let folder = Folder::new();
    let other = folder.path("samples_x.jsonl");
    for (text, cause) in [
        ("{\"a\":1}\n", "line 1: `doc_id` is missing"),
        ("", "holds no sample"),
        ("{", "line 1"),
    ] {
        std::fs::write(&other, text).unwrap();
        let error = folder.error(&["import", other.to_str().unwrap(), "--model", "m"]);
        assert!(
            error.starts_with("evaluate: cannot import ") && error.contains(cause),
            "{error}"
        );
    }
    let error = folder.error(&["import", other.to_str().unwrap()]);
    assert!(error.contains("--model"), "{error}");
    let error = folder.error(&[
        "import",
        folder.0.path().join("nothing").to_str().unwrap(),
        "--model",
        "m",
    ]);
    assert!(error.contains("nothing"), "{error}");
}

#[test]
fn grading_again_shows_what_changed_and_keeps_the_verdict_before() {
    let folder = Folder::new();
    let file = golden("lighteval/details_math_2026-01-02T03-04-05.678901.parquet");
    folder.samples(&["import", &file, "--model", "rl"]);
    let table = folder.path("out.parquet");
    let (again, changes) = (folder.path("again.parquet"), folder.path("changes.jsonl"));
    let output = evaluate(&[
        "grade",
        table.to_str().unwrap(),
        "--preset",
        "math",
        "--changes",
        changes.to_str().unwrap(),
        "-o",
        again.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains(
            "lighteval|math|0/1/0 wrong>right: found 0.5 (before: nothing), expected \\frac12"
        ),
        "{shown}"
    );
    let row = shown.lines().find(|line| line.starts_with("all")).unwrap();
    assert_eq!(
        row.split_whitespace().skip(1).collect::<Vec<_>>(),
        ["3", "1", "0", "1", "2", "1", "0"]
    );
    let samples: Vec<Sample> = store::read_table(&[again]).unwrap();
    assert_eq!(
        samples
            .iter()
            .map(|sample| sample.correct)
            .collect::<Vec<_>>(),
        [true, true, false]
    );
    assert_eq!(
        readings(&samples[1])["before"],
        serde_json::json!({"extracted": null, "correct": false})
    );
    assert_eq!(readings(&samples[1])["boxed"]["correct"], true);
    let line: Value =
        serde_json::from_str(std::fs::read_to_string(changes).unwrap().trim()).unwrap();
    assert_eq!(
        (&line["doc_id"], &line["after"]["correct"]),
        (&Value::from("1"), &Value::from(true))
    );
}

#[test]
fn answers_are_graded_by_what_they_mean() {
    let folder = Folder::new();
    let (pairs, out) = (folder.path("pairs.jsonl"), folder.path("verdicts.jsonl"));
    std::fs::write(&pairs, "{\"target\":\"\\\\frac{1}{2}\",\"completion\":\"so \\\\boxed{0.5}\"}\n{\"target\":7,\"completion\":\"it is 8\"}\n").unwrap();
    let output = evaluate(&[
        "grade",
        "--preset",
        "math",
        "--answers",
        pairs.to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let lines: Vec<Value> = std::fs::read_to_string(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["extracted"], &lines[0]["correct"]),
        (&Value::from("0.5"), &Value::from(true))
    );
    assert_eq!(
        (&lines[1]["extracted"], &lines[1]["correct"]),
        (&Value::from("8"), &Value::from(false))
    );
}
