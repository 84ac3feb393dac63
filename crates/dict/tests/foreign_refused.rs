//! What is not a dictionary, or not a whole one, is refused in one line that names the file and what was found.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use dict::foreign::{Format, Told, export, import};
use dict::{CodeNormalization, Crosscoder, Rule};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use store::{Provenance, TensorData, write_tensors};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/foreign")
        .join(name)
}

fn provenance() -> Provenance {
    Provenance::new("test", &()).unwrap()
}

/// Writes zeros of some shapes.
fn write(path: &Path, tensors: &[(&str, &[usize])]) {
    let zeros = |(name, shape): &(&str, &[usize])| {
        let values = vec![0.0; shape.iter().product()];
        (
            (*name).to_owned(),
            TensorData::F32 {
                shape: shape.to_vec(),
                values,
            },
        )
    };
    let tensors: Vec<_> = tensors.iter().map(zeros).collect();
    write_tensors(path, &tensors, &BTreeMap::new(), &provenance()).unwrap();
}

fn refused(path: &Path, format: Option<Format>) -> String {
    let message = import(path, format, &Told::default())
        .unwrap_err()
        .to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn refused_with(path: &Path, wanted: &str) {
    let message = refused(path, None);
    assert!(message.contains(wanted), "{message}");
}

#[test]
fn a_folder_without_a_dictionary_or_with_several_says_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    refused_with(folder.path(), "it holds no file of tensors");
    for name in ["a.safetensors", "b.safetensors"] {
        write(&folder.path().join(name), &[("x", &[1])]);
    }
    refused_with(
        folder.path(),
        "several dictionaries (a.safetensors, b.safetensors): name the file",
    );
    refused_with(
        &folder.path().join("a.safetensors"),
        "no dictionary is known with tensors like x",
    );
    refused_with(&folder.path().join("none.pt"), "cannot read");
}

#[test]
fn tensors_of_two_formats_are_told_apart_by_the_configuration_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let single: [(&str, &[usize]); 5] = [
        ("W_enc", &[2, 3]),
        ("b_enc", &[3]),
        ("W_dec", &[3, 2]),
        ("b_dec", &[2]),
        ("threshold", &[3]),
    ];
    write(&path, &single);
    refused_with(&path, "those of sae-lens and of dictionary-learning, and");
    fs::write(
        folder.path().join("cfg.json"),
        r#"{"architecture": "jumprelu", "d_sae": 3}"#,
    )
    .unwrap();
    assert_eq!(
        import(&path, None, &Told::default()).unwrap().format,
        Format::SaeLens
    );
    let pair: [(&str, &[usize]); 4] = [
        ("W_enc", &[2, 2, 3]),
        ("b_enc", &[3]),
        ("W_dec", &[3, 2, 2]),
        ("b_dec", &[2, 2]),
    ];
    write(&path, &pair);
    refused_with(&path, "those of ckkissane and of dfc");
    fs::write(folder.path().join("cfg.json"), "{").unwrap();
    refused_with(&path, "cfg.json: EOF while parsing");
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let whole: [(&str, &[usize]); 4] = [
        ("encoder.weight", &[2, 4, 3]),
        ("encoder.bias", &[3]),
        ("decoder.weight", &[2, 3, 4]),
        ("decoder.bias", &[2, 4]),
    ];
    write(&path, &whole);
    assert!(import(&path, None, &Told::default()).is_ok());
    for place in 0..whole.len() {
        let mut wrong = whole;
        wrong[place].1 = &[2, 3, 5];
        write(&path, &wrong);
        let message = refused(&path, Some(Format::CrosscoderLearning));
        assert!(
            message.contains("model.safetensors: `") && message.contains("shape"),
            "{message}"
        );
        write(&path, &[&whole[..place], &whole[place + 1..]].concat());
        let message = refused(&path, Some(Format::CrosscoderLearning));
        assert!(
            message.contains(&format!("there is no tensor `{}`", whole[place].0)),
            "{message}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_a_dictionary_here_cannot_be_is_said_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let with_config = |name: &str, file: &str, from: &str, to: &str| {
        for entry in fs::read_dir(golden(name)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let path = folder.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).unwrap();
        let message = import(folder.path(), None, &Told::default())
            .unwrap_err()
            .to_string();
        fs::remove_dir_all(folder.path()).unwrap();
        fs::create_dir(folder.path()).unwrap();
        message
    };
    for (name, file, from, to, wanted) in [
        (
            "layers.5",
            "cfg.json",
            "\"transcode\": false",
            "\"transcode\": true",
            "it is a transcoder",
        ),
        (
            "layers.5",
            "cfg.json",
            "\"topk\"",
            "\"groupmax\"",
            "its activation is groupmax",
        ),
        (
            "sae_lens_standard",
            "cfg.json",
            "\"normalize_activations\": \"none\"",
            "\"normalize_activations\": \"layer_norm\"",
            "normalised by layer_norm",
        ),
        (
            "sae_lens_jumprelu",
            "cfg.json",
            "\"jumprelu\"",
            "\"jumprelu_transcoder\"",
            "its architecture is jumprelu_transcoder",
        ),
        (
            "sae_lens_standard",
            "cfg.json",
            "\"standard\"",
            "\"temporal\"",
            "its architecture is temporal",
        ),
        (
            "openmoss_topk",
            "config.json",
            "\"topk\"",
            "\"batchtopk\"",
            "ranks all heads together",
        ),
        (
            "openmoss_topk",
            "config.json",
            "\"dataset-wise\"",
            "\"token-wise\"",
            "normalised token-wise",
        ),
        (
            "openmoss_topk",
            "config.json",
            "\"crosscoder\"",
            "\"clt\"",
            "it is of type clt",
        ),
        (
            "crosscode_topk",
            "model_cfg.yaml",
            "TopkActivation",
            "GroupMaxActivation",
            "its activation function is GroupMaxActivation",
        ),
    ] {
        let message = with_config(name, file, from, to);
        assert!(
            message.contains(wanted) && message.lines().count() == 1,
            "{message}"
        );
    }
}

/// A dictionary of one rule and normalisation over two models of unlike width, its threshold never learned.
fn unlike(rule: Rule, code_normalization: CodeNormalization) -> Crosscoder {
    let mut dictionary = import(&golden("opd"), None, &Told::default())
        .unwrap()
        .dictionary;
    dictionary.threshold = -1.0;
    Crosscoder {
        rule,
        code_normalization,
        ..dictionary
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_a_format_cannot_express_is_not_written() {
    use CodeNormalization::{Crosscoder as Sum, Decoupled};
    let decoupled = Decoupled {
        thresholds: vec![1.0; 3],
    };
    for (rule, normalization, format, wanted) in [
        (
            Rule::BatchTopK { k: 3 },
            Sum,
            Format::CrosscoderLearning,
            "widths [6, 4, 5], the format has one",
        ),
        (
            Rule::TopK { k: 3 },
            Sum,
            Format::Opd,
            "the rule is topk, the format knows l1 and batch-topk",
        ),
        (
            Rule::BatchTopK { k: 3 },
            decoupled.clone(),
            Format::Opd,
            "one code for all of them",
        ),
        (
            Rule::BatchTopK { k: 3 },
            Sum,
            Format::SaeLens,
            "its threshold was never learned",
        ),
        (
            Rule::BatchTopK { k: 3 },
            decoupled,
            Format::SaeLens,
            "each of its models has a code of its own",
        ),
        (
            Rule::BatchTopK { k: 3 },
            Sum,
            Format::DictionaryLearning,
            "its threshold was never learned",
        ),
        (
            Rule::L1 { sparsity: 1.0 },
            Sum,
            Format::Sparsify,
            "the rule is l1, the format knows topk",
        ),
        (
            Rule::L1 { sparsity: 1.0 },
            Sum,
            Format::Dfc,
            "the format has one",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let error = export(
            &unlike(rule, normalization),
            format,
            folder.path(),
            &provenance(),
        )
        .unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("cannot write") && message.contains(wanted),
            "{message}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{message}");
    }
}
