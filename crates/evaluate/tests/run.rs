//! From a model to a comparison, as a user runs it, on a tiny model with random weights.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

#[path = "tiny/written.rs"]
mod tiny;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use store::tables::{Comparison, Sample};
use store::{read_table, table_provenance, write_table};

/// Every token of the model, by id: BOS, the end token, and what questions are written in.
const TOKENS: [&str; 16] = [
    "<bos>", "<end>", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "#", "?", "a", "b",
];

/// A folder with two models and the files of two tasks.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.model("base", 1);
        folder.model("rl", 2);
        folder.tasks();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn model(&self, name: &str, seed: u64) {
        let tokens = TOKENS.map(str::to_owned);
        let settings = json!({"bos_token": "<bos>", "eos_token": "<end>"});
        tiny::written(&self.path(name), &tokens, "<unk>", seed, &settings);
    }

    /// Twelve questions of different lengths in each of two tasks.
    fn tasks(&self) {
        for task in ["short", "long"] {
            let line = |i: usize| {
                let prompt = format!(
                    "{}{i}?",
                    if task == "long" {
                        "ab".repeat(1 + i % 3)
                    } else {
                        String::new()
                    }
                );
                json!({"id": format!("{i:02}"), "task": task, "prompt": prompt, "target": "3", "grader": "lab"}).to_string()
            };
            let lines: Vec<String> = (0..12).map(line).collect();
            fs::write(self.path(&format!("{task}.test.jsonl")), lines.join("\n")).unwrap();
        }
    }

    fn evaluate(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path());
        command.output().unwrap()
    }

    /// Runs a line that must succeed; what it said on stdout and on stderr.
    fn well(&self, line: &str) -> (String, String) {
        let output = self.evaluate(line);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (data, said) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "{line}: {said}");
        (data, said)
    }

    /// Runs a line that must fail with code 1; the one line it said.
    fn badly(&self, line: &str) -> String {
        let output = self.evaluate(line);
        assert_eq!(output.status.code(), Some(1), "{line}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn samples(&self, name: &str) -> Vec<Sample> {
        read_table(&[self.path(name)]).unwrap()
    }
}

const SAMPLED: &str = "run -q --model base=base --tasks *.test.jsonl --temperature 1.5 --samples-per-document 3 --max-new-tokens 24 --batch 5";

#[test]
fn answers_stand_in_the_order_of_the_documents_and_are_graded() {
    let folder = Folder::new();
    folder.well(&format!("{SAMPLED} -o a.parquet --results a.json"));
    let samples = folder.samples("a.parquet");
    assert_eq!(samples.len(), 72);
    for (index, sample) in samples.iter().enumerate() {
        assert_eq!(sample.task, if index < 36 { "long" } else { "short" });
        assert_eq!(sample.doc_id, format!("{:02}", index % 36 / 3));
        assert_eq!(sample.sample, index as u32 % 3);
        assert!(!sample.completion.contains("<end>") && sample.n_tokens <= 24);
        let answered = sample.extracted.as_deref() == Some("3") && sample.finish_reason == "stop";
        assert_eq!(sample.correct, answered);
    }
    assert!(
        samples
            .iter()
            .any(|sample| sample.finish_reason == "length"),
        "the budget is too large for this test"
    );
    let results: Value =
        serde_json::from_str(&fs::read_to_string(folder.path("a.json")).unwrap()).unwrap();
    let right = samples.iter().filter(|sample| sample.correct).count() as f64;
    assert!((results["results"]["all"]["accuracy"].as_f64().unwrap() - right / 72.0).abs() < 1e-12);
    assert_eq!(results["results"]["long"]["documents"], 12);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_other_answers() {
    let folder = Folder::new();
    folder.well(&format!("{SAMPLED} -o a.parquet"));
    folder.well(&format!("{SAMPLED} -o b.parquet --threads 1"));
    folder.well(&format!("{SAMPLED} -o c.parquet --seed 1"));
    assert_eq!(
        fs::read(folder.path("a.parquet")).unwrap(),
        fs::read(folder.path("b.parquet")).unwrap()
    );
    let texts = |name| {
        folder
            .samples(name)
            .into_iter()
            .map(|s| s.completion)
            .collect::<Vec<_>>()
    };
    assert_ne!(texts("a.parquet"), texts("c.parquet"));
}

#[test]
fn shards_give_the_answers_of_the_whole() {
    let folder = Folder::new();
    fs::create_dir(folder.path("shards")).unwrap();
    folder.well(&format!("{SAMPLED} -o whole.parquet"));
    for shard in 0..3 {
        folder.well(&format!(
            "{SAMPLED} --shard {shard}/3 -o shards/{shard}.parquet"
        ));
    }
    assert_eq!(folder.samples("shards"), folder.samples("whole.parquet"));
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_bytes() {
    let folder = Folder::new();
    folder.well(&format!("{SAMPLED} -o whole.parquet"));
    let whole = fs::read(folder.path("whole.parquet")).unwrap();
    // What a run killed after its second batch leaves: two parts, one of them marked so that its use can be seen.
    let provenance = table_provenance(&folder.path("whole.parquet")).unwrap();
    fs::create_dir(folder.path("x.parquet.parts")).unwrap();
    let samples = folder.samples("whole.parquet");
    let mut first: Vec<Sample> = samples
        .iter()
        .filter(|s| s.task == "short")
        .take(5)
        .cloned()
        .collect();
    first[0].completion = "from the part".into();
    write_table(
        &folder.path("x.parquet.parts/batch-000000.parquet"),
        &first,
        &provenance,
    )
    .unwrap();
    folder.well(&format!("{SAMPLED} -o x.parquet"));
    let found = folder.samples("x.parquet");
    assert_eq!(
        found
            .iter()
            .filter(|s| s.completion == "from the part")
            .count(),
        1
    );
    assert!(!folder.path("x.parquet.parts").exists());
    // The same parts of other settings are not used.
    fs::remove_file(folder.path("x.parquet")).unwrap();
    fs::create_dir(folder.path("x.parquet.parts")).unwrap();
    write_table(
        &folder.path("x.parquet.parts/batch-000000.parquet"),
        &first,
        &provenance.seed(9),
    )
    .unwrap();
    folder.well(&format!("{SAMPLED} -o x.parquet"));
    assert_eq!(fs::read(folder.path("x.parquet")).unwrap(), whole);
}

#[test]
fn a_rerun_does_nothing_and_says_so() {
    let folder = Folder::new();
    let line =
        "run --model base=base --tasks *.test.jsonl --limit 2 --max-new-tokens 4 -o a.parquet";
    folder.well(line);
    assert_eq!(folder.samples("a.parquet").len(), 4);
    // Made from the same, but marked: a run that asked again would take the mark away.
    let mut marked = folder.samples("a.parquet");
    marked[0].completion = "kept".into();
    let provenance = table_provenance(&folder.path("a.parquet")).unwrap();
    write_table(&folder.path("a.parquet"), &marked, &provenance).unwrap();
    let (_, said) = folder.well(&format!("{line} --results a.json"));
    assert!(
        said.contains("a.parquet is complete: nothing to ask"),
        "{said}"
    );
    assert!(folder.path("a.json").exists());
    assert_eq!(folder.samples("a.parquet"), marked);
}

/// The answers without what every way of reading found, the verdict before the last grading among it.
fn without_readings(mut samples: Vec<Sample>) -> Vec<Sample> {
    for sample in &mut samples {
        sample.readings = None;
    }
    samples
}

#[test]
fn grading_again_finds_the_same_verdicts_or_the_new_ones() {
    let folder = Folder::new();
    folder.well(&format!("{SAMPLED} -o a.parquet"));
    let (_, said) = folder.well("grade a.parquet --tasks *.test.jsonl -o b.parquet");
    assert!(
        said.contains("72 answers graded, 0 verdicts changed"),
        "{said}"
    );
    let graded = folder.samples("b.parquet");
    let kept = |sample: &Sample| {
        sample
            .readings
            .as_deref()
            .unwrap_or("")
            .contains("\"before\":")
    };
    assert!(graded.iter().all(kept), "the old verdict stays readable");
    assert_eq!(folder.samples("a.parquet"), without_readings(graded));
    let said = folder.badly("grade a.parquet --tasks short.test.jsonl -o c.parquet");
    assert_eq!(
        said,
        "evaluate: cannot grade long/00: no task file holds it\n"
    );
}

#[test]
fn json_lines_are_graded_and_written_back() {
    let folder = Folder::new();
    fs::write(
        folder.path("pairs.jsonl"),
        "{\"target\":\"3\",\"completion\":\"#3.\"}\n",
    )
    .unwrap();
    folder.well("grade -q --preset lab --answers pairs.jsonl -o verdicts.jsonl");
    let found = fs::read_to_string(folder.path("verdicts.jsonl")).unwrap();
    assert_eq!(
        found,
        "{\"target\":\"3\",\"completion\":\"#3.\",\"extracted\":\"3\",\"correct\":true}\n"
    );
}

#[test]
fn a_comparison_counts_who_went_which_way() {
    let folder = Folder::new();
    folder.well("run -q --model base=base --tasks *.test.jsonl --max-new-tokens 8 -o base.parquet");
    let provenance = table_provenance(&folder.path("base.parquet")).unwrap();
    let set = |model: &str, right: fn(usize) -> bool| {
        let mut samples = folder.samples("base.parquet");
        for (index, sample) in samples.iter_mut().enumerate() {
            model.clone_into(&mut sample.model);
            sample.correct = right(index);
        }
        write_table(
            &folder.path(&format!("{model}.parquet")),
            &samples,
            &provenance,
        )
        .unwrap();
    };
    set("before", |index| index == 0);
    set("after", |index| index != 0);
    let (table, _) = folder.well("compare before.parquet after.parquet -o c.parquet");
    assert!(
        table.starts_with("a = before, b = after")
            && table.contains("\nall ")
            && table.contains("can see differences above"),
        "{table}"
    );
    let rows: Vec<Comparison> = read_table(&[folder.path("c.parquet")]).unwrap();
    let found: Vec<_> = rows
        .iter()
        .map(|r| (r.task.as_str(), r.n, r.wrong_to_right, r.right_to_wrong))
        .collect();
    assert_eq!(
        found,
        [
            ("long", 12, 11, 1),
            ("short", 12, 12, 0),
            ("all", 24, 23, 1)
        ]
    );
    assert!((rows[0].p - stats::mcnemar_exact(11, 1)).abs() < 1e-15 && rows[0].p_holm >= rows[0].p);
    assert!((rows[2].difference - 22.0 / 24.0).abs() < 1e-12 && rows[2].difference_low > 0.7);
}

#[test]
fn tables_and_tasks_go_through_pipes() {
    let folder = Folder::new();
    let run = "run -q --model base=base --limit 3 --max-new-tokens 4";
    let program = env!("CARGO_BIN_EXE_evaluate");
    let pipe = format!(
        "cat short.test.jsonl | {program} {run} --tasks - -o - \
         | {program} grade -q - --tasks short.test.jsonl -o - | cat > piped.parquet"
    );
    let done = Command::new("sh")
        .args(["-c", &pipe])
        .current_dir(folder.0.path())
        .output()
        .unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    folder.well(&format!("{run} --tasks short.test.jsonl -o plain.parquet"));
    assert_eq!(
        without_readings(folder.samples("piped.parquet")),
        folder.samples("plain.parquet")
    );
    assert!(!folder.path("-.parts").exists());
}

#[test]
fn a_truncated_model_is_one_line_with_its_name() {
    let folder = Folder::new();
    let path = folder.path("base/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let said = folder.badly(&format!("{SAMPLED} -o a.parquet"));
    assert!(
        said.starts_with("evaluate: cannot ") && said.contains("model.safetensors"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_wrong_line_of_a_task_is_found_before_the_model_is_read() {
    let folder = Folder::new();
    fs::write(folder.path("base/model.safetensors"), "no weights").unwrap();
    fs::write(folder.path("wrong.test.jsonl"), r#"{"id": "0"}"#).unwrap();
    let said = folder.badly(&format!("{SAMPLED} -o a.parquet"));
    assert!(said.contains("wrong.test.jsonl line 1"), "{said}");
}
