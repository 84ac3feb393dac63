//! From samples to metrics, as a user runs it, on a tiny model with a tokenizer of words.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::float_cmp, reason = "these values are exact")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::json;
use store::{
    Provenance, read_table, table_provenance,
    tables::{Edge, EdgeMetric, Sample},
    write_table,
};

/// A folder with a model and its tokenizer, and the samples of two models.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.model("model");
        folder.samples("base", |_| true, |number| 6 + number % 3);
        folder.samples("rl", |number| number != 3, |number| 6 + number % 2);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The golden model, with words `w2` … `w96` for its tokens.
    fn model(&self, name: &str) {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model");
        let to = self.path(name);
        fs::create_dir(&to).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(golden.join(file), to.join(file)).unwrap();
        }
        let special = |id: u32, content: &str| {
            json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false})
        };
        let words = (2..97).map(|id| (format!("w{id}"), json!(id)));
        let named = [
            ("<bos>".to_owned(), json!(0)),
            ("<eos>".to_owned(), json!(1)),
        ];
        let vocab: serde_json::Map<_, _> = named.into_iter().chain(words).collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "decoder": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "added_tokens": [special(0, "<bos>"), special(1, "<eos>")],
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<eos>"},
        });
        fs::write(to.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        let settings = json!({"bos_token": "<bos>", "eos_token": "<eos>"});
        fs::write(to.join("tokenizer_config.json"), settings.to_string()).unwrap();
    }

    /// Twelve answers of a model: whether each is correct, and its length with the end token.
    fn samples(&self, model: &str, correct: fn(usize) -> bool, length: fn(usize) -> usize) {
        let words = |from: usize, n: usize| {
            (0..n)
                .map(|i| format!("w{}", 2 + (from + 7 * i) % 95))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let sample = |number: usize| Sample {
            model: model.into(),
            arm: "none".into(),
            task: "words".into(),
            doc_id: format!("{number:02}"),
            sample: 0,
            prompt: format!("<bos> {}", words(number, 4)),
            completion: words(11 * number, length(number) - 1),
            extracted: None,
            target: String::new(),
            correct: correct(number),
            n_tokens: length(number) as u32,
            finish_reason: "stop".into(),
            ..Sample::default()
        };
        let rows: Vec<Sample> = (0..12).map(sample).collect();
        let provenance = Provenance::new("test", &()).unwrap();
        write_table(
            &self.path(&format!("{model}.samples.parquet")),
            &rows,
            &provenance,
        )
        .unwrap();
    }

    fn eap(&self, line: &str) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_eap"))
            .args(line.split(' '))
            .current_dir(self.0.path())
            .output();
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    fn edges(&self, name: &str) -> Vec<Edge> {
        read_table(&[self.path(name)]).unwrap()
    }
}

#[test]
fn own_answers_become_edges_per_example_and_on_average() {
    let folder = Folder::new();
    folder.eap("score --model base=model --samples base.samples.parquet --alpha 0.3,0.5 -o base.edges.parquet");
    let edges = folder.edges("base.edges.parquet");
    // 46 edges of three layers; twelve examples and their average, under two truncations.
    assert_eq!(edges.len(), 46 * 13 * 2);
    let of = |alpha: f64, example: Option<u32>| -> Vec<&Edge> {
        edges
            .iter()
            .filter(|edge| edge.alpha == Some(alpha) && edge.example == example)
            .collect()
    };
    assert_eq!(of(0.3, Some(4))[0].doc_id.as_deref(), Some("words/04"));
    for (place, average) in of(0.5, None).into_iter().enumerate() {
        let mean = (0..12)
            .map(|number| of(0.5, Some(number))[place].score)
            .sum::<f64>()
            / 12.0;
        assert!((average.score - mean).abs() < 1e-12 && average.doc_id.is_none());
    }
    assert!(
        of(0.3, None)
            .iter()
            .zip(of(0.5, None))
            .any(|(short, long)| (short.score - long.score).abs() > 1e-9)
    );
    let settings = table_provenance(&folder.path("base.edges.parquet"))
        .unwrap()
        .settings;
    assert!(
        settings["self_check"]["edge_error"].as_f64().unwrap() < 0.05,
        "{settings}"
    );
    assert_eq!(settings["method"], "eap-zero");
}

#[test]
fn both_models_of_a_comparison_are_scored_on_the_same_documents() {
    let folder = Folder::new();
    let documents = |label: &str, other: &str| {
        let file = format!("{label}.edges.parquet");
        folder.eap(&format!(
            "score --model {label}=model --samples {label}.samples.parquet --against {other}.samples.parquet {label}.samples.parquet -n 5 -o {file}"
        ));
        let mut documents: Vec<_> = folder
            .edges(&file)
            .into_iter()
            .filter_map(|edge| edge.doc_id)
            .collect();
        documents.dedup();
        documents
    };
    let documents = [documents("base", "rl"), documents("rl", "base")];
    assert_eq!(documents[0].len(), 5);
    assert_eq!(documents[0], documents[1]);
    assert!(!documents[0].contains(&"words/03".to_owned()));
}

#[test]
fn an_identical_pair_has_metrics_that_differ_by_zero() {
    let folder = Folder::new();
    for label in ["a", "b"] {
        folder.eap(&format!(
            "score --model {label}=model --samples base.samples.parquet -o {label}.edges.parquet"
        ));
    }
    let output =
        folder.eap("metrics a.edges.parquet b.edges.parquet --draws 100 -o metrics.parquet");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("activation_intensity") && table.contains("before (a)"),
        "{table}"
    );
    let metrics: Vec<EdgeMetric> = read_table(&[folder.path("metrics.parquet")]).unwrap();
    assert_eq!(metrics.len(), 14);
    for row in metrics {
        assert_eq!((row.n, row.alpha), (12, Some(0.3)));
        assert!(
            [row.difference, row.difference_low, row.difference_high]
                .iter()
                .all(|&x| x == 0.0),
            "{row:?}"
        );
        assert!(row.before.is_finite() && row.before_low.is_finite());
    }
}

#[test]
fn scores_of_two_methods_are_not_compared() {
    let folder = Folder::new();
    fs::write(
        folder.path("pairs.json"),
        json!([{"clean": [0, 5, 6], "corrupted": [0, 7, 6], "label": [9, 10]}]).to_string(),
    )
    .unwrap();
    for method in ["eap", "eap-zero"] {
        folder.eap(&format!("score --model m=model --pairs pairs.json --method {method} --per-example -o {method}.parquet"));
    }
    let line = "metrics eap.parquet eap-zero.parquet -o metrics.parquet";
    let output = Command::new(env!("CARGO_BIN_EXE_eap"))
        .args(line.split(' '))
        .current_dir(folder.0.path())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("eap-zero of logit-diff") && error.contains("eap of logit-diff"),
        "{error}"
    );
}

#[test]
fn a_rerun_gives_the_same_bytes_on_any_number_of_threads() {
    let folder = Folder::new();
    let bytes = |threads: usize, file: &str| {
        folder.eap(&format!(
            "score --model a=model --samples rl.samples.parquet --threads {threads} -q -o {file}"
        ));
        folder.eap(&format!(
            "metrics {file} {file} --draws 50 --threads {threads} -o {file}.metrics"
        ));
        (
            fs::read(folder.path(file)).unwrap(),
            fs::read(folder.path(&format!("{file}.metrics"))).unwrap(),
        )
    };
    let (edges, _) = bytes(1, "one.parquet");
    assert!(edges == bytes(2, "two.parquet").0);
    assert!(bytes(1, "one.parquet").1 == bytes(2, "one.parquet").1);
}

#[test]
fn pairs_give_averages_unless_examples_are_asked_for() {
    let folder = Folder::new();
    let pairs = json!([
        {"clean": "<bos> w5 w6", "corrupted": "<bos> w7 w6", "label": ["w9", "w10"]},
        {"clean": [0, 15, 16], "corrupted": [0, 15, 17], "label": [9, 10]},
    ]);
    fs::write(folder.path("pairs.json"), pairs.to_string()).unwrap();
    folder.eap("score --model m=model --pairs pairs.json -o average.parquet");
    folder.eap("score --model m=model --pairs pairs.json --method eap-ig-inputs --per-example -o examples.parquet");
    assert_eq!(folder.edges("average.parquet").len(), 46);
    assert_eq!(folder.edges("examples.parquet").len(), 46 * 3);
    assert!(
        folder
            .edges("average.parquet")
            .iter()
            .all(|edge| edge.alpha.is_none() && edge.example.is_none())
    );
}

#[test]
fn several_models_are_scored_in_one_call_as_they_are_one_by_one() {
    let folder = Folder::new();
    folder.eap("score --model base=model --model rl=model --samples base.samples.parquet rl.samples.parquet -n 5 -o {model}.both.parquet");
    for (label, other) in [("base", "rl"), ("rl", "base")] {
        folder.eap(&format!(
            "score --model {label}=model --samples {label}.samples.parquet --against {other}.samples.parquet -n 5 -o {label}.alone.parquet"
        ));
        let alone = folder.edges(&format!("{label}.alone.parquet"));
        assert!(alone == folder.edges(&format!("{label}.both.parquet")));
    }
}

#[test]
fn the_head_graph_of_answers_is_compared_edge_by_edge() {
    let folder = Folder::new();
    for label in ["base", "rl"] {
        folder.eap(&format!(
            "score --model {label}=model --samples {label}.samples.parquet --level head --gqa grouped --check off -o {label}.parquet"
        ));
    }
    folder.eap("metrics base.parquet rl.parquet --draws 20 -o metrics.parquet");
    let told = folder
        .eap("compare base.parquet rl.parquet --draws 50 -o changes.parquet")
        .stdout;
    assert!(
        String::from_utf8(told)
            .unwrap()
            .contains("edges changed from base to rl")
    );
    let changes: Vec<store::tables::EdgeChange> =
        read_table(&[folder.path("changes.parquet")]).unwrap();
    let n_edges = changes.iter().filter(|row| row.unit == "edge").count();
    // Per layer 12 attention targets see 1 + 9l sources and the MLP 9 + 9l; the logits see 28.
    assert_eq!(
        n_edges,
        (0..3).map(|l| 12 * (1 + 9 * l) + 9 + 9 * l).sum::<usize>() + 28
    );
    assert_eq!(changes.len() - n_edges, 2 * 4);
    folder.eap("compare base.parquet base.parquet --draws 20 -o null.parquet");
    let null: Vec<store::tables::EdgeChange> = read_table(&[folder.path("null.parquet")]).unwrap();
    assert!(
        null.iter()
            .all(|row| row.difference == 0.0 && row.difference_high == 0.0 && row.q == 1.0)
    );
    folder.eap("overlap base.parquet base.parquet --draws 20 --sizes 0.05,0.5 -o overlap.parquet");
    let overlap: Vec<store::tables::CircuitOverlap> =
        read_table(&[folder.path("overlap.parquet")]).unwrap();
    assert!(
        overlap
            .iter()
            .all(|row| row.jaccard == 1.0 && row.jaccard_low == 1.0 && row.null < 1.0)
    );
}

#[test]
fn contradictions_are_refused_before_anything_is_read() {
    let folder = Folder::new();
    for (line, word) in [
        (
            "score --model m=model --samples base.samples.parquet --method eap -o x",
            "--pairs",
        ),
        (
            "score --model m=model --samples base.samples.parquet --metric kl -o x",
            "kl",
        ),
        (
            "score --model m=model --pairs nothing.json --metric kl -o x",
            "every score would be 0",
        ),
        (
            "score --model m=model --pairs nothing.json --edges 5 -o x",
            "exact",
        ),
        (
            "score --model m=model --model n=model --pairs nothing.json -o x",
            "{model}",
        ),
        (
            "score --model m=model --pairs nothing.json --method eap-zero --ablation mean -o x",
            "eap-zero",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_eap"))
            .args(line.split(' '))
            .current_dir(folder.0.path())
            .output();
        let output = output.unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {error}");
        assert!(error.contains(word), "{line}: {error}");
    }
}
