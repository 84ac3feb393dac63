//! Dictionaries we write, loaded by the programs they are written for: the same codes and reconstructions.
//!
//! Needs a Python with these programs: `POSTSCOPE_PYTHON`, and for those that are not on `PyPI` their git clones in
//! `POSTSCOPE_CLONES` (see `golden/make_foreign.py`). What is missing is passed over with a line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "a check that is passed over says so")]

use dict::foreign::{Format, Told, export, import};
use dict::{CodeNormalization, Codes, Crosscoder, Rule, Selection};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use store::{Provenance, TensorData, TensorFile, write_tensors};

const ROWS: usize = 32;

/// The crosscoder of the golden files that the standard program computed: three models, a normaliser, a threshold.
fn dictionary() -> Crosscoder {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/crosscoder");
    let told = Told {
        labels: ["base", "sft", "rl"].map(str::to_owned).to_vec(),
        hook: Some("resid_post.1".into()),
        ..Told::default()
    };
    import(&folder, None, &told).unwrap().dictionary
}

fn with(rule: Rule, code_normalization: CodeNormalization) -> Crosscoder {
    Crosscoder {
        rule,
        code_normalization,
        ..dictionary()
    }
}

/// Two of the three models, without a mean: what formats with factors alone can hold.
fn pair() -> Crosscoder {
    let mut pair = dictionary();
    pair.labels.truncate(2);
    pair.widths.truncate(2);
    pair.encoder.truncate(2);
    pair.decoder.truncate(2);
    pair.decoder_bias.truncate(2);
    pair.normalizer.truncate(2);
    pair.normalizer
        .iter_mut()
        .for_each(|normalizer| normalizer.mean.fill(0.0));
    pair
}

/// The pair with two features of its first model and one of its second.
fn exclusive() -> Crosscoder {
    let mut pair = pair();
    for (model, feature) in [(1, 0), (1, 1), (0, 2)] {
        let n = pair.n_features;
        pair.encoder[model]
            .iter_mut()
            .skip(feature)
            .step_by(n)
            .for_each(|value| *value = 0.0);
        pair.decoder[model][feature * 8..][..8].fill(0.0);
    }
    pair
}

/// Rows on which about half of the features fire.
fn rows(dictionary: &Crosscoder) -> Vec<f32> {
    let n = ROWS * dictionary.n_models() * dictionary.widths[0];
    let noise = |place: usize| ((place * 7919 + 13) % 1009) as f32 / 1009.0 - 0.5;
    (0..n).map(|place| 3.0 * noise(place)).collect()
}

/// Runs the program; `None` when it is not there.
fn run(name: &str, folder: &Path) -> Option<TensorFile> {
    let python = std::env::var("POSTSCOPE_PYTHON").ok()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/read_foreign.py");
    let out = folder.join("out.safetensors");
    let mut command = Command::new(python);
    command
        .arg(script)
        .arg(name)
        .arg(folder)
        .arg(folder.join("x.safetensors"))
        .arg(&out);
    command.args(std::env::var("POSTSCOPE_CLONES").ok());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Some(TensorFile::open(&out).unwrap()),
        Some(3) => None,
        _ => panic!("{name}: {text}"),
    }
}

/// Writes a dictionary, has it loaded, and compares; `weighed` says that the format measures activations by rank value.
fn check(name: &str, format: Format, dictionary: &Crosscoder, weighed: bool) {
    let folder = tempfile::tempdir().unwrap();
    let provenance = Provenance::new("test", &()).unwrap();
    export(dictionary, format, folder.path(), &provenance).unwrap();
    let values = rows(dictionary);
    let shape = vec![ROWS, dictionary.n_models(), dictionary.widths[0]];
    let tensors = [(
        "x".to_owned(),
        TensorData::F32 {
            shape,
            values: values.clone(),
        },
    )];
    let path = folder.path().join("x.safetensors");
    write_tensors(&path, &tensors, &BTreeMap::new(), &provenance).unwrap();
    match run(name, folder.path()) {
        Some(theirs) => compare(name, dictionary, &values, weighed, &theirs),
        None => println!("skipped {name}: no Python with it (POSTSCOPE_PYTHON, POSTSCOPE_CLONES)"),
    }
}

/// Codes and reconstructions of `values` `[rows, n_models, d_model]` are those the program computed.
fn compare(
    name: &str,
    dictionary: &Crosscoder,
    values: &[f32],
    weighed: bool,
    theirs: &TensorFile,
) {
    let (n_models, width) = (dictionary.n_models(), dictionary.widths[0]);
    let model = |model: usize| -> Vec<f32> {
        let rows = values.chunks(width).skip(model).step_by(n_models);
        rows.flatten().copied().collect()
    };
    let x: Vec<Vec<f32>> = (0..n_models).map(model).collect();
    let x: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
    let codes = dictionary.encode_decoupled(&x, ROWS, Selection::Rule);
    assert!(codes[0].len() > ROWS, "{name}: hardly anything fires");
    let weights = if weighed {
        dictionary.rank_weights()
    } else {
        vec![1.0; dictionary.n_features]
    };
    let dense = |codes: &Codes| {
        let dense = codes.to_dense(dictionary.n_features);
        let weights = weights.iter().cycle();
        dense
            .iter()
            .zip(weights)
            .map(|(value, weight)| value * weight)
            .collect()
    };
    let shared = theirs.shape("f").unwrap().len() == 2;
    let n_codes = if shared { 1 } else { n_models };
    let f: Vec<Vec<f32>> = codes.iter().take(n_codes).map(dense).collect();
    let expected = theirs.f32("f").unwrap();
    close(
        &interleave(&f, dictionary.n_features),
        &expected,
        &format!("{name}: code"),
    );
    let y: Vec<Vec<f32>> = (0..n_models)
        .map(|model| dictionary.decode(model, &codes[model]))
        .collect();
    let expected = theirs.f32("y").unwrap();
    close(
        &interleave(&y, width),
        &expected,
        &format!("{name}: reconstruction"),
    );
}

/// Per model `[rows, width]` → `[rows, n_models, width]`.
fn interleave(models: &[Vec<f32>], width: usize) -> Vec<f32> {
    let row = |row: usize| {
        models
            .iter()
            .flat_map(move |values| &values[row * width..(row + 1) * width])
    };
    (0..models[0].len() / width)
        .flat_map(row)
        .copied()
        .collect()
}

fn close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let scale = theirs.iter().map(|value| value.abs()).sum::<f32>() / theirs.len() as f32;
    for (place, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!(
            (a - b).abs() <= 1e-5 * b.abs().max(scale),
            "{what}[{place}]: {a}, not {b}"
        );
    }
}

#[test]
fn sae_lens_computes_the_same() {
    use CodeNormalization::{Crosscoder as Sum, None, Sae};
    let l1 = Rule::L1 { sparsity: 1.0 };
    check("sae_lens", Format::SaeLens, &dictionary(), false);
    check("sae_lens", Format::SaeLens, &with(l1, Sum), false);
    check(
        "sae_lens",
        Format::SaeLens,
        &with(Rule::TopK { k: 4 }, None),
        false,
    );
    check(
        "sae_lens",
        Format::SaeLens,
        &with(Rule::TopK { k: 4 }, Sae),
        true,
    );
}

#[test]
fn dictionary_learning_computes_the_same() {
    use CodeNormalization::{Crosscoder as Sum, None};
    let format = Format::DictionaryLearning;
    let mut centred = with(Rule::L1 { sparsity: 0.1 }, Sum);
    centred
        .normalizer
        .iter_mut()
        .for_each(|normalizer| normalizer.scale = 1.0);
    centred
        .decoder_bias
        .iter_mut()
        .for_each(|bias| bias.fill(0.0));
    let mut unweighted = with(Rule::BatchTopK { k: 4 }, None);
    unweighted.threshold = 0.5;
    check("dictionary_learning", format, &dictionary(), false);
    check(
        "dictionary_learning",
        format,
        &with(Rule::L1 { sparsity: 0.1 }, Sum),
        false,
    );
    check("dictionary_learning", format, &centred, false);
    check("dictionary_learning", format, &unweighted, false);
    check(
        "dictionary_learning",
        format,
        &with(Rule::TopK { k: 4 }, Sum),
        true,
    );
}

#[test]
fn sparsify_computes_the_same() {
    check(
        "sparsify",
        Format::Sparsify,
        &with(Rule::TopK { k: 4 }, CodeNormalization::None),
        false,
    );
    check(
        "sparsify",
        Format::Sparsify,
        &with(Rule::TopK { k: 4 }, CodeNormalization::Crosscoder),
        true,
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn crosscoders_compute_the_same_in_their_own_programs() {
    let format = Format::CrosscoderLearning;
    let mixed = CodeNormalization::Mixed {
        alpha_sae: 0.5,
        alpha_crosscoder: 0.2,
    };
    let decoupled = CodeNormalization::Decoupled {
        thresholds: vec![1.0; 3],
    };
    check("crosscoder_learning", format, &dictionary(), false);
    check(
        "crosscoder_learning",
        format,
        &with(Rule::BatchTopK { k: 4 }, mixed),
        false,
    );
    check(
        "crosscoder_learning",
        format,
        &with(Rule::BatchTopK { k: 4 }, decoupled.clone()),
        false,
    );
    check(
        "crosscoder_learning",
        format,
        &with(Rule::L1 { sparsity: 0.1 }, CodeNormalization::Crosscoder),
        false,
    );
    check("opd", Format::Opd, &dictionary(), false);
    check(
        "opd",
        Format::Opd,
        &with(Rule::L1 { sparsity: 0.1 }, CodeNormalization::Crosscoder),
        false,
    );
    check("dfc", Format::Dfc, &exclusive(), false);
    check("ckkissane", Format::Ckkissane, &dictionary(), false);
    check(
        "ckkissane",
        Format::Ckkissane,
        &with(Rule::L1 { sparsity: 0.1 }, CodeNormalization::Crosscoder),
        false,
    );
    check("crosscode", Format::Crosscode, &dictionary(), false);
    check(
        "crosscode",
        Format::Crosscode,
        &with(Rule::L1 { sparsity: 0.1 }, CodeNormalization::Crosscoder),
        false,
    );
    let one_threshold = CodeNormalization::Decoupled {
        thresholds: vec![1.0; 2],
    };
    check(
        "openmoss",
        Format::Openmoss,
        &Crosscoder {
            code_normalization: one_threshold,
            ..pair()
        },
        false,
    );
    check(
        "openmoss",
        Format::Openmoss,
        &Crosscoder {
            rule: Rule::L1 { sparsity: 0.1 },
            ..pair()
        },
        false,
    );
}
