//! A set that is planted is found: two features rise in the model after on both tasks, one on a single task, and a crowd
//! fires alike in both models.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use dict::{CodeNormalization, Crosscoder, Normalizer, Rule};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use store::tables::{Sample, Score, Selection, Token};
use store::{ActivationWriter, Dtype, Features, Provenance, Spec};

const N_FEATURES: usize = 40;
const TASKS: [&str; 2] = ["a", "b"];
const DOCUMENTS: usize = 12;
/// Tokens kept of every answer: one of the prompt, two of the completion.
const TOKENS: usize = 3;

fn provenance() -> Provenance {
    Provenance::new("test", &()).unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write_dictionary();
        folder.write_samples("base", false);
        folder.write_samples("rl", true);
        folder.write_store();
        folder.write_features();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write_dictionary(&self) {
        let dictionary = Crosscoder {
            labels: vec!["base".into(), "rl".into()],
            widths: vec![1, 1],
            n_features: N_FEATURES,
            encoder: vec![vec![1.0; N_FEATURES]; 2],
            encoder_bias: vec![0.0; N_FEATURES],
            decoder: vec![vec![1.0; N_FEATURES], vec![2.0; N_FEATURES]],
            decoder_bias: vec![vec![0.0]; 2],
            normalizer: vec![Normalizer::identity(1), Normalizer::identity(1)],
            threshold: 0.0,
            thresholds: Vec::new(),
            rule: Rule::BatchTopK { k: 4 },
            code_normalization: CodeNormalization::Crosscoder,
            hook: "resid_post.0".into(),
            tokenizer_digest: "t".into(),
        };
        let path = self.path("dict.safetensors");
        dictionary.save(&path, &provenance()).unwrap();
    }

    fn write_samples(&self, model: &str, correct: bool) {
        let mut rows = Vec::new();
        for task in TASKS {
            for document in 0..DOCUMENTS {
                rows.push(Sample {
                    model: model.into(),
                    arm: "none".into(),
                    task: task.into(),
                    doc_id: document.to_string(),
                    sample: 0,
                    prompt: String::new(),
                    completion: String::new(),
                    extracted: None,
                    target: String::new(),
                    correct,
                    n_tokens: 2,
                    finish_reason: "stop".into(),
                    ..Sample::default()
                });
            }
        }
        let path = self.path(&format!("{model}.samples.parquet"));
        store::write_table(&path, &rows, &provenance()).unwrap();
    }

    fn tokens() -> Vec<Token> {
        let n_documents = TASKS.len() * DOCUMENTS;
        let token = |row: usize| {
            let document = row / TOKENS;
            let task = TASKS[document / DOCUMENTS];
            Token {
                row: row as u32,
                doc_id: format!("{task}/{}/0", document % DOCUMENTS),
                doc_index: document as u32,
                pos: (row % TOKENS) as u32,
                token_id: 1,
                role: "rl".into(),
                phase: if row.is_multiple_of(TOKENS) {
                    "prompt"
                } else {
                    "completion"
                }
                .into(),
                special: false,
            }
        };
        (0..n_documents * TOKENS).map(token).collect()
    }

    fn write_store(&self) {
        let tokens = Self::tokens();
        let labels = ["base", "rl"].map(String::from).to_vec();
        let spec = Spec {
            paths: labels.iter().map(PathBuf::from).collect(),
            labels,
            hooks: vec!["resid_post.0".into()],
            widths: vec![1, 1],
            dtype: Dtype::F32,
            n_rows: tokens.len(),
            rows_per_part: 1000,
            tokenizer_digest: "t".into(),
            provenance: provenance(),
        };
        let mut writer = ActivationWriter::create(&self.path("keys"), spec).unwrap();
        for label in ["base", "rl"] {
            let values = vec![1.0; tokens.len()];
            writer
                .write_part(0, label, "resid_post.0", &values)
                .unwrap();
        }
        writer.finish(&tokens).unwrap();
    }

    /// Features 0 and 1 rise by 4 and 2 in rl, feature 2 by 4 on task `a` alone, feature 3 falls by 3; 4 and above do not change.
    fn write_features(&self) {
        let n_rows = TASKS.len() * DOCUMENTS * TOKENS;
        let mut blocks = Vec::new();
        for model in ["base", "rl"] {
            let mut block = Features {
                model: Some(model.into()),
                n_rows: n_rows as u32,
                n_features: N_FEATURES as u32,
                token_digest: store::token_digest(&Self::tokens()),
                ..Features::default()
            };
            for row in 0..n_rows {
                for feature in 0..N_FEATURES {
                    let more = match model {
                        "rl" => rise(row, feature),
                        _ => fall(row, feature),
                    };
                    block.row.push(row as u32);
                    block.feature.push(feature as u32);
                    block.activation.push(1.0 + (row % 5) as f32 * 0.1 + more);
                }
            }
            blocks.push(block);
        }
        let provenance = provenance().input(&self.path("dict.safetensors")).unwrap();
        let path = self.path("keys/rl.features.parquet");
        store::write_features(&path, &blocks, &provenance).unwrap();
    }

    fn select(&self, more: &[&str]) -> Output {
        let features = ["--features", "keys/*.features.parquet"];
        self.select_features(&[&features[..], more].concat())
    }

    fn select_features(&self, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_select"))
            .current_dir(self.0.path())
            .args(["--dict", "dict.safetensors"])
            .args(["--samples", "base=base.samples.parquet"])
            .args(["--samples", "rl=rl.samples.parquet"])
            .args(["-o", "selection.parquet"])
            .args(more)
            .output()
            .unwrap()
    }

    fn selection(&self) -> Vec<Selection> {
        store::read_table(&[self.path("selection.parquet")]).unwrap()
    }
}

/// How much more a feature fires in rl. Answers alone rise, so prompts must not count.
fn rise(row: usize, feature: usize) -> f32 {
    let task = row / TOKENS / DOCUMENTS;
    match (feature, row % TOKENS) {
        (_, 0) => 0.0,
        (0, _) => 4.0,
        (1, _) => 2.0,
        (2, _) if task == 0 => 4.0,
        _ => 0.0,
    }
}

/// How much less a feature fires in rl, in answers.
fn fall(row: usize, feature: usize) -> f32 {
    if feature == 3 && !row.is_multiple_of(TOKENS) {
        3.0
    } else {
        0.0
    }
}

fn selected(rows: &[Selection]) -> Vec<u32> {
    let selected = rows.iter().filter(|row| row.set == "selected");
    selected.map(|row| row.feature).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_planted_features_are_found_with_their_nulls() {
    let folder = Folder::new();
    let output = folder.select(&["--scores", "scores.parquet"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows = folder.selection();
    assert_eq!(selected(&rows), [0, 1]);
    assert!((rows[1].relative_score - 0.5).abs() < 1e-6);
    assert!((rows[1].decoder_norm - 3.0).abs() < 1e-6);
    assert!(rows[0].q.unwrap() < 0.05 && (rows[0].firing_rate - 1.0).abs() < 1e-12);

    let random: Vec<&Selection> = rows.iter().filter(|row| row.set != "selected").collect();
    assert_eq!(random.len(), 2 * 16);
    assert!(
        random
            .iter()
            .all(|row| row.feature > 1 && row.matched_to.is_some())
    );

    let scores: Vec<Score> = store::read_table(&[folder.path("scores.parquet")]).unwrap();
    assert_eq!(scores.len(), 2 * N_FEATURES);
    let first = &scores[0];
    assert!((first.score - 4.0).abs() < 1e-5 && first.passes && first.n == DOCUMENTS as u32);

    let curve = String::from_utf8(output.stdout).unwrap();
    assert!(curve.starts_with("fraction\tpassing_a\tpassing_b\tset\t"));
    assert!(curve.contains("\n0.2\t3\t2\t2\t"), "{curve}");
}

#[test]
fn what_training_lowered_counts_where_it_is_asked_for() {
    let folder = Folder::new();
    let select = |direction| {
        let output = folder.select(&["--direction", direction]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        folder.selection()
    };
    assert_eq!(selected(&select("lowered")), [3]);
    let rows = select("both");
    assert_eq!(selected(&rows), [0, 3, 1]);
    assert!((rows[1].relative_score + 0.75).abs() < 1e-6 && rows[1].q.unwrap() < 0.05);
    // A random feature is moved the way the one it stands for is.
    for row in &rows {
        let stands_for = row.matched_to.unwrap_or(row.feature);
        assert_eq!(row.lowered, stands_for == 3, "{row:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let folder = Folder::new();
    let bytes = |more: &[&str]| {
        assert_eq!(folder.select(more).status.code(), Some(0));
        std::fs::read(folder.path("selection.parquet")).unwrap()
    };
    let first = bytes(&["--threads", "1"]);
    assert_eq!(first, bytes(&["--threads", "2"]));
    assert_ne!(first, bytes(&["--seed", "1"]));
}

#[test]
fn a_task_may_be_left_out_and_the_prompt_read_instead() {
    let folder = Folder::new();
    assert_eq!(folder.select(&["--tasks", "a"]).status.code(), Some(0));
    assert_eq!(selected(&folder.selection()), [0, 2, 1]);

    // Nothing rises at the prompt: no feature can pass.
    let output = folder.select(&["--tokens", "last-prompt"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("(0 in a, 0 in b)"),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("lower --fraction"));
}

#[test]
fn an_empty_intersection_says_how_much_each_task_gave() {
    let folder = Folder::new();
    // Above 0.99 of the largest nothing is left: 0 and 2 are the largest themselves on `a`, 0 on `b`.
    assert_eq!(
        folder.select(&["--fraction", "0.99"]).status.code(),
        Some(0)
    );
    assert_eq!(selected(&folder.selection()), [0]);
}

#[test]
fn equal_models_have_no_key_sample() {
    let folder = Folder::new();
    folder.write_samples("base", true);
    let output = folder.select(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no key sample (wrong before, right after) in a, b:"));
}

#[test]
fn features_may_lie_apart_from_their_store() {
    let folder = Folder::new();
    let blocks = store::read_features(&folder.path("keys/rl.features.parquet")).unwrap();
    std::fs::remove_file(folder.path("keys/rl.features.parquet")).unwrap();
    let apart = |provenance: Provenance| {
        let path = folder.path("apart.features.parquet");
        store::write_features(&path, &blocks, &provenance).unwrap();
    };
    let dictionary = provenance()
        .input(&folder.path("dict.safetensors"))
        .unwrap();
    let more = ["--features", "apart.features.parquet"];

    // Neither the folder nor the provenance knows: the store must be named.
    apart(dictionary.clone());
    let output = folder.select_features(&more);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--acts"), "{}", stderr(&output));
    let named = [&more[..], &["--acts", "keys"]].concat();
    assert_eq!(folder.select_features(&named).status.code(), Some(0));

    apart(dictionary.input(&folder.path("keys")).unwrap());
    assert_eq!(folder.select_features(&more).status.code(), Some(0));
    assert_eq!(selected(&folder.selection()), [0, 1]);
}

#[test]
fn another_dictionary_or_other_tokens_are_refused() {
    let folder = Folder::new();
    let path = folder.path("dict.safetensors");
    let mut dictionary = Crosscoder::load(&path).unwrap();
    dictionary.threshold = 1.0;
    dictionary.save(&path, &provenance()).unwrap();
    let output = folder.select(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("another dictionary"),
        "{}",
        stderr(&output)
    );

    folder.write_features();
    let elsewhere = Path::new("elsewhere");
    std::fs::create_dir(folder.0.path().join(elsewhere)).unwrap();
    let output = folder.select(&["--acts", "elsewhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("elsewhere"), "{}", stderr(&output));
}
