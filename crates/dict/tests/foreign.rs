//! Dictionaries that other programs wrote: the same codes and reconstructions as theirs, and through their formats and back.
//!
//! The files are made by `golden/make_foreign.py`, which runs the programs themselves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use dict::foreign::{Format, Imported, Told, export, import};
use dict::{Codes, Crosscoder, Selection};
use std::path::{Path, PathBuf};
use store::{Provenance, TensorFile};

/// Folder, format, and what the user must say.
const ALL: [(&str, Format); 21] = [
    ("crosscoder_learning_l1", Format::CrosscoderLearning),
    ("crosscoder_learning_sae", Format::CrosscoderLearning),
    ("opd", Format::Opd),
    ("dfc", Format::Dfc),
    ("dfc_masked", Format::Dfc),
    ("ckkissane", Format::Ckkissane),
    ("bayazit", Format::Ckkissane),
    ("crosscode_jumprelu", Format::Crosscode),
    ("crosscode_topk", Format::Crosscode),
    ("openmoss_jumprelu", Format::Openmoss),
    ("openmoss_topk", Format::Openmoss),
    ("sae_lens_standard", Format::SaeLens),
    ("sae_lens_jumprelu", Format::SaeLens),
    ("sae_lens_topk", Format::SaeLens),
    ("sae_lens_gated", Format::SaeLens),
    ("dictionary_learning_standard", Format::DictionaryLearning),
    ("dictionary_learning_new", Format::DictionaryLearning),
    ("dictionary_learning_gated", Format::DictionaryLearning),
    ("dictionary_learning_jumprelu", Format::DictionaryLearning),
    ("dictionary_learning_topk", Format::DictionaryLearning),
    ("dictionary_learning_batch_topk", Format::DictionaryLearning),
];
/// Two more whose folders are named by their program, or whose rule has no name of its own here.
const MORE: [(&str, Format); 2] = [
    ("dictionary_learning_matryoshka", Format::DictionaryLearning),
    ("layers.5", Format::Sparsify),
];

fn all() -> impl Iterator<Item = (&'static str, Format)> {
    ALL.into_iter().chain(MORE)
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/foreign")
        .join(name)
}

/// What the formats leave out: only ckkissane's factors, which the script chose as 0.25 and 0.4.
fn told(name: &str) -> Told {
    let scales = if name == "ckkissane" {
        vec![0.25, 0.4]
    } else {
        Vec::new()
    };
    Told {
        scales,
        ..Told::default()
    }
}

/// A training folder with several checkpoints is named by its file.
fn read(name: &str) -> Imported {
    let folder = golden(name);
    let path = if name == "bayazit" {
        folder.join("5.pt")
    } else {
        folder
    };
    import(&path, None, &told(name)).unwrap()
}

/// `[rows, n_models, width]` → `[rows, width]` of each model; one tensor each where they are stored so.
fn per_model(expected: &TensorFile, name: &str) -> Vec<Vec<f32>> {
    if !expected.contains(name) {
        let numbered = (0..)
            .map(|model| format!("{name}_{model}"))
            .take_while(|name| expected.contains(name));
        return numbered.map(|name| expected.f32(&name).unwrap()).collect();
    }
    let [_, n_models, width] = *expected.shape(name).unwrap() else {
        return vec![expected.f32(name).unwrap()];
    };
    let values = expected.f32(name).unwrap();
    let model = |model: usize| {
        values
            .chunks(width)
            .skip(model)
            .step_by(n_models)
            .flatten()
            .copied()
            .collect()
    };
    (0..n_models).map(model).collect()
}

struct Case {
    dictionary: Crosscoder,
    x: Vec<Vec<f32>>,
    f: Vec<Vec<f32>>,
    y: Vec<Vec<f32>>,
}

impl Case {
    fn new(name: &str, dictionary: Crosscoder) -> Self {
        let expected = TensorFile::open(&golden(name).join("expected.safetensors")).unwrap();
        let [x, f, y] = ["x", "f", "y"].map(|tensor| per_model(&expected, tensor));
        Self {
            dictionary,
            x,
            f,
            y,
        }
    }

    fn codes(&self) -> Vec<Codes> {
        let x: Vec<&[f32]> = self.x.iter().map(Vec::as_slice).collect();
        let n_rows = self.x[0].len() / self.dictionary.widths[0];
        self.dictionary
            .encode_decoupled(&x, n_rows, Selection::Rule)
    }

    /// Codes and reconstructions are those of the program.
    fn check(&self, name: &str) {
        let codes = self.codes();
        for (model, theirs) in self.f.iter().enumerate() {
            close(
                &codes[model].to_dense(self.dictionary.n_features),
                theirs,
                &format!("{name}: code {model}"),
            );
        }
        for (model, theirs) in self.y.iter().enumerate() {
            close(
                &self.dictionary.decode(model, &codes[model]),
                theirs,
                &format!("{name}: reconstruction {model}"),
            );
        }
        assert!(
            codes.iter().all(|codes| !codes.is_empty()),
            "{name} has no code at all"
        );
    }
}

/// Sums of terms as large as a tensor's typical value: relative to that.
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
fn every_program_is_recognised_and_its_codes_are_reproduced() {
    for (name, format) in all() {
        let imported = read(name);
        assert_eq!(imported.format, format, "{name}");
        Case::new(name, imported.dictionary).check(name);
    }
}

#[test]
fn what_a_format_says_of_its_hook_and_models_is_kept() {
    for (name, hook) in [
        ("ckkissane", "resid_pre.14"),
        ("openmoss_jumprelu", "resid_post.3"),
        ("sae_lens_topk", "resid_post.2"),
        ("dictionary_learning_topk", "resid_post.7"),
        ("layers.5", "resid_post.5"),
    ] {
        assert_eq!(read(name).dictionary.hook, hook, "{name}");
    }
    assert_eq!(
        read("bayazit").dictionary.labels,
        ["step1000", "step2000", "step3000"]
    );
    assert_eq!(
        read("openmoss_topk").dictionary.labels,
        ["step0", "step1", "step2"]
    );
    let unknown = read("opd");
    assert_eq!(unknown.dictionary.labels, ["m0", "m1", "m2"]);
    assert!(
        unknown.notes.iter().any(|note| note.contains("--labels")),
        "{:?}",
        unknown.notes
    );
    assert!(unknown.notes.iter().any(|note| note.contains("--hook")));
    assert!(
        read("dfc").notes[0]
            .contains("features 0 to 2 belong to the first model alone, the next 3")
    );
}

#[test]
fn what_a_format_leaves_out_is_asked_for() {
    let refused =
        |name: &str, told: &Told| import(&golden(name), None, told).unwrap_err().to_string();
    let message = refused("ckkissane", &Told::default());
    assert!(
        message.contains("cc_weights.pt: its activations were multiplied")
            && message.contains("--scale"),
        "{message}"
    );
    let message = refused(
        "sae_lens_topk",
        &Told {
            scales: vec![1.0],
            ..Told::default()
        },
    );
    assert!(message.contains("leave --scale out"), "{message}");
    let message = refused(
        "opd",
        &Told {
            labels: vec!["a".into()],
            ..Told::default()
        },
    );
    assert!(message.contains("holds 3 models, 1 labels"), "{message}");
}

/// Writes a dictionary for a program and reads it again.
fn through(dictionary: &Crosscoder, format: Format) -> Option<Crosscoder> {
    let folder = tempfile::tempdir().unwrap();
    let provenance = Provenance::new("test", &()).unwrap();
    export(dictionary, format, folder.path(), &provenance).ok()?;
    let told = Told {
        labels: dictionary.labels.clone(),
        hook: Some(dictionary.hook.clone()),
        ..Told::default()
    };
    Some(import(folder.path(), None, &told).unwrap().dictionary)
}

#[test]
fn every_dictionary_survives_its_own_format() {
    for (name, format) in all() {
        // The masked crosscoders of dfc keep k per row, for which the program that is written has no class.
        if name == "dfc_masked" {
            continue;
        }
        let dictionary = read(name).dictionary;
        let back =
            through(&dictionary, format).unwrap_or_else(|| panic!("{name} cannot be written"));
        Case::new(name, back).check(&format!("{name} written again"));
    }
}

#[test]
fn every_format_that_takes_a_dictionary_keeps_its_codes() {
    let mut written = 0;
    for (name, _) in all() {
        let dictionary = read(name).dictionary;
        for format in Format::ALL {
            let Some(back) = through(&dictionary, format) else {
                continue;
            };
            written += 1;
            let what = format!("{name} through {}", format.name());
            let (before, after) = (Case::new(name, dictionary.clone()), Case::new(name, back));
            let (ours, theirs) = (before.codes(), after.codes());
            for model in 0..dictionary.n_models() {
                assert_eq!(ours[model].features, theirs[model].features, "{what}");
                close(
                    &after.dictionary.decode(model, &theirs[model]),
                    &before.y[model],
                    &what,
                );
            }
        }
    }
    // Sixty-odd of the 207 pairs make sense; that this number does not shrink unseen is what is tested.
    assert!(written >= 60, "{written}");
}

#[test]
fn a_dictionary_in_the_units_of_its_format_comes_back_bit_by_bit() {
    for (name, format) in all() {
        // Logarithms of thresholds and norms in place of factors are rounded; gates have become thresholds of another class.
        let rounded = ["dfc_masked", "crosscode_jumprelu"].contains(&name);
        if rounded || format == Format::Openmoss || name.ends_with("gated") {
            continue;
        }
        let dictionary = read(name).dictionary;
        let mut back = through(&dictionary, format).unwrap();
        back.rule = dictionary.rule;
        assert_eq!(back, dictionary, "{name}");
    }
}
