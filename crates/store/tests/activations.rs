//! The activation store: written part by part, in any sitting, the same bytes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{directory, line, provenance};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use store::tables::Token;
use store::{ActivationStore, ActivationWriter, Dtype, Manifest, Spec, TensorData, write_tensors};

const N_ROWS: usize = 10;

fn spec() -> Spec {
    Spec {
        labels: vec!["base".into(), "rl".into()],
        paths: vec!["models/base".into(), "models/rl".into()],
        hooks: vec!["resid_post.1".into(), "embed".into()],
        widths: vec![3, 2],
        dtype: Dtype::Bf16,
        n_rows: N_ROWS,
        rows_per_part: 4,
        tokenizer_digest: "tok".into(),
        provenance: provenance(),
    }
}

fn tokens(n: usize) -> Vec<Token> {
    let token = |row: u32| Token {
        row,
        doc_id: format!("copy/{}", row / 3),
        doc_index: row / 3,
        pos: row % 3,
        token_id: row * row,
        role: "text".into(),
        phase: "text".into(),
        special: row.is_multiple_of(3),
    };
    (0..n as u32).map(token).collect()
}

/// A value that bf16 holds exactly and that tells label, hook, row and coordinate.
fn value(label: usize, hook: usize, row: usize, j: usize) -> f32 {
    let sign = if hook == 0 { 1.0 } else { -1.0 };
    sign * (row * 8 + j * 2 + label) as f32
}

fn rows(spec: &Spec, label: usize, hook: usize, rows: std::ops::Range<usize>) -> Vec<f32> {
    rows.flat_map(|row| (0..spec.widths[label]).map(move |j| value(label, hook, row, j)))
        .collect()
}

fn write_part(writer: &mut ActivationWriter, spec: &Spec, part: usize, label: usize) {
    for (hook, name) in spec.hooks.iter().enumerate() {
        let values = rows(spec, label, hook, writer.part_rows(part));
        writer
            .write_part(part, &spec.labels[label], name, &values)
            .unwrap();
    }
}

fn write_missing(directory: &Path, spec: &Spec) {
    let mut writer = ActivationWriter::create(directory, spec.clone()).unwrap();
    for (label, name) in spec.labels.iter().enumerate() {
        for part in writer.missing_parts(name).unwrap() {
            write_part(&mut writer, spec, part, label);
        }
    }
    writer.finish(&tokens(spec.n_rows)).unwrap();
}

/// Every file of a store and its bytes.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(
                    path.strip_prefix(directory).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

fn part(directory: &Path) -> PathBuf {
    directory.join("base/resid_post.1/part-00001-of-00003.safetensors")
}

#[test]
fn what_is_written_is_read_in_any_piece() {
    let dir = directory();
    write_missing(dir.path(), &spec());
    let store = ActivationStore::open(dir.path()).unwrap();
    assert_eq!(
        (store.labels(), store.hooks()),
        (spec().labels.as_slice(), spec().hooks.as_slice())
    );
    assert_eq!(
        (store.n_rows(), store.width(0), store.width(1)),
        (N_ROWS, 3, 2)
    );
    assert_eq!(
        (store.tokenizer_digest(), store.provenance()),
        ("tok", Some(&provenance()))
    );
    assert_eq!(store.tokens().unwrap(), tokens(N_ROWS));
    assert_eq!(store.token_digest(), store::token_digest(&tokens(N_ROWS)));
    let mut out = vec![9.0];
    for label in 0..2 {
        for (hook, name) in spec().hooks.iter().enumerate() {
            for start in 0..=N_ROWS {
                for end in start..=N_ROWS {
                    store.read(label, name, start..end, &mut out).unwrap();
                    assert_eq!(out, rows(&spec(), label, hook, start..end));
                }
            }
        }
    }
    store
        .read_rows(1, "embed", &[9, 0, 5, 5], &mut out)
        .unwrap();
    let expected: Vec<f32> = [9, 0, 5, 5]
        .iter()
        .flat_map(|&row| rows(&spec(), 1, 1, row..row + 1))
        .collect();
    assert_eq!(out, expected);
}

#[test]
fn statistics_are_of_the_stored_rows() {
    let dir = directory();
    write_missing(dir.path(), &spec());
    let manifest = Manifest::read(dir.path()).unwrap();
    let stream = &manifest.streams[2];
    assert_eq!(
        (stream.label.as_str(), stream.hook.as_str()),
        ("rl", "resid_post.1")
    );
    // Coordinates 8 row + 1 and 8 row + 3: each has the variance 64 · (10² − 1) / 12 = 528.
    assert!((stream.total_variance - 1056.0).abs() < 1e-9);
    let norms = (0..N_ROWS).map(|row| (8.0 * row as f64 + 1.0).hypot(8.0 * row as f64 + 3.0));
    assert!((stream.mean_norm - norms.sum::<f64>() / 10.0).abs() < 1e-9);
}

#[test]
fn several_sittings_in_any_order_give_the_same_bytes() {
    let (whole, pieces) = (directory(), directory());
    let spec = spec();
    write_missing(whole.path(), &spec);
    for (part, label) in [(2, 1), (0, 0), (2, 0)] {
        let mut writer = ActivationWriter::create(pieces.path(), spec.clone()).unwrap();
        write_part(&mut writer, &spec, part, label);
        assert!(
            !writer
                .missing_parts(&spec.labels[label])
                .unwrap()
                .contains(&part)
        );
    }
    let writer = ActivationWriter::create(pieces.path(), spec.clone()).unwrap();
    assert_eq!(writer.missing_parts("base").unwrap(), [1]);
    assert_eq!(writer.missing_parts("rl").unwrap(), [0, 1]);
    assert!(ActivationStore::open(pieces.path()).is_err());
    write_missing(pieces.path(), &spec);
    assert_eq!(content(pieces.path()), content(whole.path()));
}

#[test]
fn a_finished_store_has_nothing_to_do() {
    let dir = directory();
    let spec = spec();
    write_missing(dir.path(), &spec);
    let writer = ActivationWriter::create(dir.path(), spec.clone()).unwrap();
    assert!(writer.is_complete());
    assert_eq!(writer.missing_parts("base").unwrap(), [0; 0]);
    drop(writer);
    ActivationStore::open(dir.path()).unwrap().check().unwrap();
}

#[test]
fn a_store_of_another_run_is_replaced_whole() {
    let (dir, fresh) = (directory(), directory());
    write_missing(dir.path(), &spec());
    let other = Spec {
        rows_per_part: 6,
        provenance: provenance().seed(8),
        ..spec()
    };
    let writer = ActivationWriter::create(dir.path(), other.clone()).unwrap();
    assert!(!writer.is_complete());
    assert!(line(ActivationStore::open(dir.path()), dir.path()).contains("manifest.json"));
    assert_eq!(writer.missing_parts("base").unwrap(), [0, 1]);
    write_missing(dir.path(), &other);
    write_missing(fresh.path(), &other);
    assert_eq!(content(dir.path()), content(fresh.path()));
}

#[test]
fn a_store_is_not_finished_with_a_part_missing() {
    let dir = directory();
    let spec = spec();
    let mut writer = ActivationWriter::create(dir.path(), spec.clone()).unwrap();
    write_part(&mut writer, &spec, 0, 0);
    let line = line(writer.finish(&tokens(N_ROWS)), &part(dir.path()));
    assert!(line.ends_with("this part is missing or of another run"));
}

#[test]
fn a_nan_is_refused_when_written_and_named_with_its_row() {
    let dir = directory();
    let mut writer = ActivationWriter::create(dir.path(), spec()).unwrap();
    let mut values = rows(&spec(), 0, 0, 4..8);
    values[2 * 3 + 1] = f32::NAN;
    let result = writer.write_part(1, "base", "resid_post.1", &values);
    assert!(line(result, &part(dir.path())).ends_with("row 6 holds a NaN or an infinity"));
    let short = writer.write_part(1, "base", "resid_post.1", &values[1..]);
    assert!(line(short, &part(dir.path())).contains("11 values are not 4 rows of 3"));
    assert!(!part(dir.path()).exists());
}

/// Sets bytes of a part, counted from its end.
fn damage(path: &Path, from_end: usize, bytes: &[u8]) {
    let mut content = fs::read(path).unwrap();
    let at = content.len() - from_end;
    content[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).unwrap();
}

#[test]
fn a_nan_that_came_later_is_named_with_its_row() {
    let dir = directory();
    write_missing(dir.path(), &spec());
    // The last value of the part: row 7.
    damage(&part(dir.path()), 2, &[0xc0, 0x7f]);
    let store = ActivationStore::open(dir.path()).unwrap();
    let mut out = Vec::new();
    store.read(0, "resid_post.1", 0..7, &mut out).unwrap();
    for result in [
        store.read(0, "resid_post.1", 0..10, &mut out),
        store.read_rows(0, "resid_post.1", &[7], &mut out),
        store.check().map(drop),
    ] {
        assert!(line(result, &part(dir.path())).ends_with("row 7 holds a NaN or an infinity"));
    }
}

#[test]
fn a_check_finds_a_changed_bit_and_a_changed_token() {
    let dir = directory();
    write_missing(dir.path(), &spec());
    let report = ActivationStore::open(dir.path()).unwrap().check().unwrap();
    assert_eq!((report.parts, report.n_rows), (12, N_ROWS));
    damage(&part(dir.path()), 1, &[0x01]);
    let store = ActivationStore::open(dir.path()).unwrap();
    assert!(line(store.check(), &part(dir.path())).contains("digest"));
    let path = dir.path().join("tokens.parquet");
    store::write_table(&path, &tokens(N_ROWS - 1), &provenance()).unwrap();
    assert!(line(store.check(), &path).contains("digest"));
    assert!(line(store.tokens(), &path).contains("not the tokens"));
}

#[test]
fn a_truncated_or_missing_part_is_one_line_when_opened() {
    let dir = directory();
    write_missing(dir.path(), &spec());
    let path = part(dir.path());
    let whole = fs::read(&path).unwrap();
    for n in [0, 7, 100, whole.len() - 1] {
        fs::write(&path, &whole[..n]).unwrap();
        assert!(line(ActivationStore::open(dir.path()), &path).contains("truncated"));
    }
    fs::remove_file(&path).unwrap();
    line(ActivationStore::open(dir.path()), &path);
}

#[test]
fn what_was_asked_for_wrongly_is_said() {
    let dir = directory();
    write_missing(dir.path(), &spec());
    let store = ActivationStore::open(dir.path()).unwrap();
    let mut out = Vec::new();
    let unknown = store.read(0, "resid_post.9", 0..1, &mut out);
    assert!(
        line(unknown, dir.path())
            .ends_with("there is no hook resid_post.9: it holds resid_post.1, embed")
    );
    assert!(line(store.read(0, "embed", 5..11, &mut out), dir.path()).contains("row 10 of 10"));
    assert!(
        line(store.read_rows(0, "embed", &[10], &mut out), dir.path()).contains("row 10 of 10")
    );
    for bad in [
        Spec {
            labels: vec!["a/b".into(), "c".into()],
            ..spec()
        },
        Spec {
            labels: vec!["a".into(), "a".into()],
            ..spec()
        },
        Spec {
            widths: vec![3],
            ..spec()
        },
        Spec {
            n_rows: 0,
            ..spec()
        },
        Spec {
            hooks: vec![],
            ..spec()
        },
    ] {
        line(ActivationWriter::create(dir.path(), bad), dir.path());
    }
}

fn bare(path: &Path, shape: Vec<usize>, metadata: &[(&str, &str)]) {
    let values = (0..shape.iter().product())
        .map(|i: usize| i as f32)
        .collect();
    let metadata = metadata
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect();
    let tensors = [("x".to_owned(), TensorData::F32 { shape, values })];
    write_tensors(path, &tensors, &metadata, &provenance()).unwrap();
}

#[test]
fn a_bare_file_serves_as_a_store() {
    let dir = directory();
    let path = dir.path().join("acts.safetensors");
    bare(
        &path,
        vec![4, 2, 3],
        &[("labels", "base,rl"), ("hook", "resid_post.5")],
    );
    let store = ActivationStore::open(&path).unwrap();
    assert_eq!(
        (store.labels(), store.hooks()),
        (
            &["base".to_owned(), "rl".into()][..],
            &["resid_post.5".to_owned()][..]
        )
    );
    let mut out = Vec::new();
    store.read(1, "resid_post.5", 1..3, &mut out).unwrap();
    assert_eq!(out, [9.0, 10.0, 11.0, 15.0, 16.0, 17.0]);
    store
        .read_rows(0, "resid_post.5", &[3, 0], &mut out)
        .unwrap();
    assert_eq!(out, [18.0, 19.0, 20.0, 0.0, 1.0, 2.0]);
    assert_eq!(store.check().unwrap().n_rows, 4);
    assert!(line(store.tokens(), &path).contains("no tokens"));
}

#[test]
fn a_bare_file_without_names_gets_some() {
    let dir = directory();
    let path = dir.path().join("acts.safetensors");
    bare(&path, vec![4, 2, 3], &[]);
    let store = ActivationStore::open(&path).unwrap();
    assert_eq!(
        (store.labels()[1].as_str(), store.hooks()[0].as_str()),
        ("model-1", "unknown")
    );
    bare(&path, vec![4, 3], &[]);
    assert_eq!(ActivationStore::open(&path).unwrap().labels().len(), 1);
    for (shape, labels) in [
        (vec![12], None),
        (vec![0, 2, 3], None),
        (vec![4, 2, 3], Some(("labels", "a,b,c"))),
    ] {
        bare(&path, shape, labels.as_slice());
        line(ActivationStore::open(&path), &path);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_activations_come_back(
        values in prop::collection::vec(-1e4f32..1e4, 1..200),
        width in 1usize..7,
        rows_per_part in 1usize..9,
        dtype in prop::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Int8]),
    ) {
        let n_rows = values.len().div_ceil(width);
        let mut values = values;
        values.resize(n_rows * width, 0.5);
        let dir = directory();
        let spec = Spec {
            labels: vec!["m".into()],
            paths: vec!["m".into()],
            hooks: vec!["embed".into()],
            widths: vec![width],
            dtype,
            n_rows,
            rows_per_part,
            ..spec()
        };
        let mut writer = ActivationWriter::create(dir.path(), spec).unwrap();
        for part in 0..writer.n_parts() {
            let rows = writer.part_rows(part);
            writer.write_part(part, "m", "embed", &values[rows.start * width..rows.end * width]).unwrap();
        }
        writer.finish(&tokens(n_rows)).unwrap();
        let store = ActivationStore::open(dir.path()).unwrap();
        let mut out = Vec::new();
        store.read(0, "embed", 0..n_rows, &mut out).unwrap();
        let error = match dtype { Dtype::F32 | Dtype::Int8 => 0.0, Dtype::F16 => 1.0 / 2048.0, Dtype::Bf16 => 1.0 / 256.0 };
        prop_assert_eq!(out.len(), values.len());
        for (place, (found, value)) in out.iter().zip(&values).enumerate() {
            let row = &values[place / width * width..][..width];
            let step = row.iter().fold(0f32, |largest, value| largest.max(value.abs())) / 127.0;
            let rounding = if dtype == Dtype::Int8 { 0.5001 * step } else { 0.0 };
            prop_assert!((found - value).abs() <= value.abs() * error + rounding + 1e-7);
        }
    }
}
