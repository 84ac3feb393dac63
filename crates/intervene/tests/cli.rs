//! The program on tiny models: its edge, its arms, its resumption, and what it refuses.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod common;
mod generation;

use common::{dictionary, write_model};
use std::path::PathBuf;
use std::process::{Command, Output};
use store::Provenance;
use store::tables::{Sample, Selection};
use tasks::{Grader, Item};

struct Folder(tempfile::TempDir);

impl Folder {
    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn new() -> Self {
        let folder = Self::empty();
        write_model(&folder.path("rl"), 12);
        write_model(&folder.path("base"), 10);
        write_model(&folder.path("sft"), 11);
        folder.write_dictionary();
        folder.write_selection();
        folder.write_tasks();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write_dictionary(&self) {
        let provenance = Provenance::new("test", &()).unwrap();
        let path = self.path("dict.safetensors");
        dictionary().save(&path, &provenance).unwrap();
    }

    fn write_selection(&self) {
        let row = |set: &str, feature: u32, rank: u32| Selection {
            set: set.into(),
            feature,
            rank,
            matched_to: None,
            lowered: false,
            relative_score: 1.0,
            relative_score_min: 1.0,
            q: None,
            firing_rate: 0.5,
            mean_activation: 1.0,
            decoder_norm: 1.0,
            removal_share: None,
        };
        let rows = [
            row("selected", 0, 0),
            row("selected", 3, 1),
            row("random-00", 5, 0),
            row("random-00", 6, 1),
            row("random-01", 7, 0),
            row("random-01", 8, 1),
        ];
        let provenance = Provenance::new("test", &()).unwrap();
        let provenance = provenance.input(&self.path("dict.safetensors")).unwrap();
        store::write_table(&self.path("selection.parquet"), &rows, &provenance).unwrap();
    }

    fn write_tasks(&self) {
        let prompts = ["ab?", "1+2?", "hij 0?", "a", "bb?"];
        let items: Vec<Item> = prompts
            .iter()
            .enumerate()
            .map(|(number, prompt)| Item {
                id: number.to_string(),
                task: "t".into(),
                prompt: (*prompt).into(),
                target: "1".into(),
                grader: Grader::Lab,
                solution: None,
                careful: None,
                sloppy: None,
            })
            .collect();
        let mut file = std::fs::File::create(self.path("t.jsonl")).unwrap();
        tasks::write_items(&mut file, &items).unwrap();
    }

    fn intervene(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_intervene"))
            .current_dir(self.0.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// `intervene run` on rl with a budget of five tokens.
    fn run(&self, more: &[&str]) -> Output {
        let usual = [
            "run",
            "--dict",
            "dict.safetensors",
            "--selection",
            "selection.parquet",
            "--tasks",
            "t.jsonl",
            "-o",
            "out.parquet",
            "--max-new-tokens",
            "5",
            "--batch",
            "2",
        ];
        self.intervene(&[&usual[..], more].concat())
    }

    fn runs(&self, more: &[&str]) -> Vec<Sample> {
        let output = self.run(more);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(!self.path("out.parquet.parts").exists());
        store::read_table(&[self.path("out.parquet")]).unwrap()
    }

    fn refuses(&self, code: i32, more: &[&str], words: &[&str]) {
        let output = self.run(more);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{message}");
        for word in words {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
        assert!(!self.path("out.parquet").exists());
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn arms(samples: &[Sample]) -> Vec<&str> {
    let mut arms: Vec<&str> = samples.iter().map(|sample| sample.arm.as_str()).collect();
    arms.dedup();
    arms
}

fn texts<'a>(samples: &'a [Sample], arm: &str) -> Vec<&'a str> {
    let of = samples.iter().filter(|sample| sample.arm == arm);
    of.map(|sample| sample.completion.as_str()).collect()
}

const DISABLE: [&str; 4] = ["--model", "rl=rl", "--op", "disable"];

#[test]
fn help_opens_with_an_example() {
    for arguments in [&["--help"][..], &["run", "--help"]] {
        let output = Folder::empty().intervene(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).starts_with("Example:\n  intervene run "));
    }
}

#[test]
fn a_wrong_flag_and_flags_of_another_operation_are_usage_errors() {
    let folder = Folder::new();
    folder.refuses(2, &["--nonsense"], &["--nonsense"]);
    let more = [&DISABLE[..], &["--alpha", "2"]].concat();
    folder.refuses(2, &more, &["--alpha"]);
    folder.refuses(2, &["--model", "rl=rl", "--op", "steer"], &["--strength"]);
    let more = [&DISABLE[..], &["--device", "abacus"]].concat();
    folder.refuses(2, &more, &["abacus"]);
    let more = [&DISABLE[..], &["--weights", "int8", "--dtype", "bf16"]].concat();
    folder.refuses(2, &more, &["int8", "bf16"]);
    let more = [&DISABLE[..], &["--source", "joint"]].concat();
    folder.refuses(2, &more, &["--companion", "base, sft"]);
}

#[test]
fn a_missing_file_is_named() {
    let folder = Folder::new();
    folder.refuses(1, &["--model", "rl=absent", "--op", "disable"], &["absent"]);
    std::fs::remove_file(folder.path("dict.safetensors")).unwrap();
    folder.refuses(1, &DISABLE, &["intervene: ", "dict.safetensors"]);
}

#[test]
fn every_arm_answers_every_question() {
    let folder = Folder::new();
    let samples = folder.runs(&[
        "--model",
        "rl=rl",
        "--op",
        "amplify",
        "--alpha",
        "1,4",
        "--random-arms",
        "1",
        "--random-directions",
        "1",
        "--sign-flip",
    ]);
    let controls = |name: &str| {
        ["", "/random-00", "/direction-00", "/flip"].map(|control| format!("{name}{control}"))
    };
    let wanted: Vec<String> = controls("amplify-1")
        .into_iter()
        .chain(controls("amplify-4"))
        .collect();
    assert_eq!(arms(&samples), wanted);
    assert_eq!(samples.len(), 8 * 5);
    let documents: Vec<&str> = samples[..5].iter().map(|s| s.doc_id.as_str()).collect();
    assert_eq!(documents, ["0", "1", "2", "3", "4"]);
    assert_eq!(samples[0].prompt, "<bos>ab?");

    // α = 1 changes nothing, whatever it is done to; α = 4 does.
    let plain = texts(&samples, "amplify-1");
    for arm in &wanted[1..4] {
        assert_eq!(texts(&samples, arm), plain);
    }
    assert_ne!(texts(&samples, "amplify-4"), plain);
}

#[test]
fn accuracies_go_to_stdout_and_a_dry_run_writes_nothing() {
    let folder = Folder::new();
    let output = folder.run(&[&DISABLE[..], &["--dry-run"]].concat());
    assert!(
        stdout(&output).contains("disable/random-01\t2 features"),
        "{}",
        stdout(&output)
    );
    assert!(!folder.path("out.parquet").exists());
    let output = folder.run(&DISABLE);
    assert!(
        stdout(&output).contains("\ndisable\tt\t5\t"),
        "{}",
        stdout(&output)
    );
    let again = folder.run(&DISABLE);
    assert!(stderr(&again).contains("nothing to do"));
}

#[test]
fn a_run_that_was_cut_short_ends_with_the_same_bytes() {
    let folder = Folder::new();
    folder.runs(&DISABLE);
    let whole = std::fs::read(folder.path("out.parquet")).unwrap();

    // What a kill leaves: some batches, one of them damaged, and no output.
    let provenance = store::table_provenance(&folder.path("out.parquet")).unwrap();
    let samples: Vec<Sample> = store::read_table(&[folder.path("out.parquet")]).unwrap();
    std::fs::remove_file(folder.path("out.parquet")).unwrap();
    let parts = folder.path("out.parquet.parts");
    std::fs::create_dir(&parts).unwrap();
    // Prompts of 2, 4 and 4, 5 and 7 tokens with BOS: documents 3 0, 4 1, 2.
    let marked = |number: usize| Sample {
        completion: "kept".into(),
        ..samples[number].clone()
    };
    let part = parts.join("arm-00-batch-00000.parquet");
    store::write_table(&part, &[marked(3), marked(0)], &provenance).unwrap();
    std::fs::write(parts.join("arm-01-batch-00001.parquet"), b"half").unwrap();
    let resumed = folder.runs(&DISABLE);
    assert_eq!(
        (
            resumed[0].completion.as_str(),
            resumed[3].completion.as_str()
        ),
        ("kept", "kept")
    );
    assert_eq!(resumed[1], samples[1]);

    std::fs::remove_file(folder.path("out.parquet")).unwrap();
    folder.runs(&[&DISABLE[..], &["--threads", "1"]].concat());
    assert_eq!(std::fs::read(folder.path("out.parquet")).unwrap(), whole);
}

#[test]
fn companions_run_in_step_where_they_are_wanted() {
    let folder = Folder::new();
    let joint = [
        "--source",
        "joint",
        "--companion",
        "base=base",
        "--companion",
        "sft=sft",
    ];
    let samples = folder.runs(&[&DISABLE[..], &joint, &["--random-arms", "0"]].concat());
    assert_eq!(arms(&samples), ["disable"]);

    let base = [
        "--model",
        "base=base",
        "--op",
        "steer",
        "--strength",
        "0.5",
        "--random-arms",
        "0",
    ];
    let output = folder.run(&[&base[..], &["--companion", "rl=rl"]].concat());
    assert!(
        stderr(&output).contains("is not needed"),
        "{}",
        stderr(&output)
    );
    let base = ["--model", "base=base", "--op", "amplify", "--alpha", "2"];
    let alone = folder.run(&base);
    assert!(
        stderr(&alone).contains("--companion rl=DIR"),
        "{}",
        stderr(&alone)
    );
}

#[test]
fn weights_and_products_are_those_asked_for() {
    let folder = Folder::new();
    let texts = |more: &[&str]| -> Vec<String> {
        let rows = folder.runs(&[&DISABLE[..], &["--temperature", "1"], more].concat());
        rows.into_iter().map(|sample| sample.completion).collect()
    };
    let plain = texts(&[]);
    assert_eq!(plain, texts(&["--weights", "stored", "--precision", "f32"]));
    assert_ne!(plain, texts(&["--weights", "int8"]));
    assert_ne!(plain, texts(&["--precision", "bf16"]));
}

#[test]
fn shards_ask_their_own_documents() {
    let folder = Folder::new();
    let mut documents = Vec::new();
    for shard in ["0/2", "1/2"] {
        let more = [&DISABLE[..], &["--shard", shard, "--random-arms", "0"]].concat();
        documents.extend(folder.runs(&more).into_iter().map(|sample| sample.doc_id));
    }
    assert_eq!(documents, ["0", "1", "2", "3", "4"]);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let folder = Folder::new();
    let other = ["--model", "ppo=rl", "--op", "disable"];
    folder.refuses(1, &other, &["dict.safetensors", "`ppo`", "base, sft, rl"]);
    let more = [&DISABLE[..], &["--random-arms", "3"]].concat();
    folder.refuses(1, &more, &["selection.parquet", "2 random sets"]);

    let provenance = Provenance::new("test", &()).unwrap();
    let path = folder.path("dict.safetensors");
    let mut other = dictionary();
    other.threshold = 0.5;
    other.save(&path, &provenance).unwrap();
    folder.refuses(1, &DISABLE, &["selection.parquet", "another dictionary"]);
    other.tokenizer_digest = "0123456789abcdef".into();
    other.save(&path, &provenance).unwrap();
    folder.refuses(
        1,
        &DISABLE,
        &["dict.safetensors", "rl", "another tokenizer"],
    );
    let more = [&DISABLE[..], &["--hook", "resid_post.2"]].concat();
    other.tokenizer_digest.clear();
    other.save(&path, &provenance).unwrap();
    folder.refuses(1, &more, &["dict.safetensors", "resid_post.1"]);
    other.hook = "unknown".into();
    other.save(&path, &provenance).unwrap();
    folder.refuses(1, &DISABLE, &["dict.safetensors", "--hook"]);
    other.hook = "resid_post.7".into();
    other.save(&path, &provenance).unwrap();
    folder.refuses(1, &DISABLE, &["dict.safetensors", "rl", "resid_post.7"]);
}

#[test]
fn a_checkpoint_may_take_the_slot_of_another_label() {
    let folder = Folder::new();
    let more = [
        "--model",
        "step=rl",
        "--slot",
        "rl",
        "--op",
        "disable",
        "--random-arms",
        "0",
    ];
    let samples = folder.runs(&more);
    assert!(samples.iter().all(|sample| sample.model == "step"));
}
