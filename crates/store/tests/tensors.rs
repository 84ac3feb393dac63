//! Safetensors: ours come back, others' are read, damage is one line.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{cut, directory, line, provenance, put};
use proptest::prelude::*;
use safetensors::tensor::{Dtype as Format, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use store::{TensorData, TensorFile, write_tensors};

fn metadata() -> BTreeMap<String, String> {
    [("labels", "base,rl"), ("rule", "batch-topk")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn tensors() -> Vec<(String, TensorData)> {
    let values = vec![0.0, 1.0, -2.5, 0.1, 1e-3, 3.0];
    vec![
        (
            "encoder.bias".into(),
            TensorData::F16 {
                shape: vec![3, 2],
                values: values.clone(),
            },
        ),
        (
            "encoder.weight".into(),
            TensorData::F32 {
                shape: vec![2, 3],
                values: values.clone(),
            },
        ),
        (
            "decoder".into(),
            TensorData::Bf16 {
                shape: vec![6],
                values,
            },
        ),
        (
            "steps".into(),
            TensorData::I64 {
                shape: vec![2],
                values: vec![i64::MIN, 7],
            },
        ),
        (
            "high".into(),
            TensorData::U16 {
                shape: vec![3],
                values: vec![0, 1, u16::MAX],
            },
        ),
        (
            "low".into(),
            TensorData::U8 {
                shape: vec![2],
                values: vec![7, u8::MAX],
            },
        ),
        (
            "nothing".into(),
            TensorData::F32 {
                shape: vec![0, 4],
                values: vec![],
            },
        ),
        (
            "scalar".into(),
            TensorData::F32 {
                shape: vec![],
                values: vec![4.0],
            },
        ),
    ]
}

fn write(path: &Path) {
    write_tensors(path, &tensors(), &metadata(), &provenance()).unwrap();
}

#[test]
fn tensors_come_back_rounded_as_they_were_stored() {
    let dir = directory();
    let path = dir.path().join("a.safetensors");
    write(&path);
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(
        file.f32("encoder.weight").unwrap(),
        [0.0, 1.0, -2.5, 0.1, 1e-3, 3.0]
    );
    assert_eq!(file.shape("encoder.weight").unwrap(), [2, 3]);
    for (name, steps) in [("encoder.bias", 2048.0), ("decoder", 256.0)] {
        for (found, value) in file
            .f32(name)
            .unwrap()
            .iter()
            .zip([0.0, 1.0, -2.5, 0.1, 1e-3, 3.0])
        {
            assert!(
                (found - value).abs() <= value.abs() / steps,
                "{name}: {found} for {value}"
            );
        }
    }
    assert_eq!(file.i64("steps").unwrap(), [i64::MIN, 7]);
    assert_eq!(file.u16("high").unwrap(), [0, 1, u16::MAX]);
    assert_eq!(file.u8("low").unwrap(), [7, u8::MAX]);
    assert!(file.u16("low").is_err() && file.u8("high").is_err());
    assert_eq!(file.f32("nothing").unwrap(), [0.0; 0]);
    assert_eq!(file.f32("scalar").unwrap(), [4.0]);
    assert_eq!(file.metadata(), &metadata());
    assert_eq!(file.provenance(), Some(&provenance()));
}

#[test]
fn the_order_of_tensors_does_not_change_the_bytes() {
    let dir = directory();
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
    write(&a);
    let mut reversed = tensors();
    reversed.reverse();
    write_tensors(&b, &reversed, &metadata(), &provenance()).unwrap();
    assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
}

#[test]
fn the_library_of_everybody_else_reads_our_files() {
    let dir = directory();
    let path = dir.path().join("a.safetensors");
    write(&path);
    let bytes = fs::read(&path).unwrap();
    let (n, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert!((8 + n).is_multiple_of(8));
    let keys = header.metadata().clone().unwrap();
    assert_eq!(keys["format"], "pt");
    let about: serde_json::Value = serde_json::from_str(&keys["provenance"]).unwrap();
    assert_eq!(
        (&about["program"], &about["metadata"]["rule"]),
        (&"test".into(), &"batch-topk".into())
    );
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = all.tensor("encoder.weight").unwrap();
    assert_eq!(
        (view.dtype(), view.shape()),
        (Format::F32, [2, 3].as_slice())
    );
    assert_eq!(view.data()[4..8], 1f32.to_le_bytes());
}

#[test]
fn files_of_others_are_read_with_their_metadata() {
    let dir = directory();
    let path = dir.path().join("a.safetensors");
    let doubles: Vec<u8> = [1.5f64, -2.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let views = [
        (
            "wide",
            TensorView::new(Format::F64, vec![2], &doubles).unwrap(),
        ),
        (
            "bytes",
            TensorView::new(Format::U8, vec![3], &[1, 2, 255]).unwrap(),
        ),
        (
            "ids",
            TensorView::new(Format::I32, vec![1], &[0xff; 4]).unwrap(),
        ),
    ];
    let about = HashMap::from([("format".into(), "pt".into()), ("k".into(), "32".into())]);
    fs::write(&path, safetensors::serialize(views, Some(about)).unwrap()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(file.f32("wide").unwrap(), [1.5, -2.0]);
    assert_eq!(file.i64("bytes").unwrap(), [1, 2, 255]);
    assert_eq!(file.i64("ids").unwrap(), [-1]);
    assert_eq!(
        file.metadata(),
        &BTreeMap::from([("k".into(), "32".into())])
    );
    assert_eq!(file.provenance(), None);
    assert!(line(file.f32("bytes"), &path).ends_with("tensor `bytes` must hold floats, not U8"));
    assert!(
        line(file.i64("wide"), &path).ends_with("tensor `wide` must hold whole numbers, not F64")
    );
    assert!(line(file.f32("gone"), &path).ends_with("there is no tensor `gone`"));
}

#[test]
fn a_truncated_file_is_one_line_when_opened() {
    let dir = directory();
    let path = dir.path().join("a.safetensors");
    write(&path);
    for n in 0..fs::read(&path).unwrap().len() {
        let cut = cut(&path, n);
        assert!(line(TensorFile::open(&cut), &cut).contains("truncated"));
    }
    let long = [fs::read(&path).unwrap(), vec![0]].concat();
    fs::write(&path, long).unwrap();
    assert!(line(TensorFile::open(&path), &path).contains("another length"));
}

#[test]
fn no_damage_makes_a_panic() {
    let dir = directory();
    let path = dir.path().join("a.safetensors");
    write(&path);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x04;
        let damaged_path = dir.path().join("b.safetensors");
        put(&damaged_path, &damaged);
        if let Ok(file) = TensorFile::open(&damaged_path) {
            for name in file.names() {
                drop((file.f32(&name), file.i64(&name)));
            }
        }
    }
}

#[test]
fn a_nan_names_its_row() {
    let dir = directory();
    let path = dir.path().join("a.safetensors");
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let values = vec![0.0, 1.0, 2.0, bad, 4.0, 5.0];
        let tensors = [(
            "w".to_owned(),
            TensorData::F32 {
                shape: vec![3, 2],
                values,
            },
        )];
        write_tensors(&path, &tensors, &BTreeMap::new(), &provenance()).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert!(line(file.f32("w"), &path).ends_with("row 1 holds a NaN or an infinity"));
        assert_eq!(file.f32_any("w").unwrap()[4..], [4.0, 5.0]);
    }
}

#[test]
fn tensors_that_make_no_file_are_refused() {
    let path = Path::new("never-written.safetensors");
    let short = (
        "w".to_owned(),
        TensorData::F32 {
            shape: vec![2, 2],
            values: vec![1.0],
        },
    );
    let twice = (
        "w".to_owned(),
        TensorData::F32 {
            shape: vec![1],
            values: vec![1.0],
        },
    );
    for tensors in [vec![short], vec![twice.clone(), twice]] {
        line(
            write_tensors(path, &tensors, &BTreeMap::new(), &provenance()),
            path,
        );
        assert!(!path.exists());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tensors_come_back(floats in prop::collection::vec(-1e30f32..1e30, 1..300), ints in prop::collection::vec(any::<i64>(), 0..50), name in ".{1,20}") {
        let dir = directory();
        let path = dir.path().join("a.safetensors");
        let tensors = [
            (name.clone(), TensorData::F32 { shape: vec![floats.len()], values: floats.clone() }),
            (format!("{name}2"), TensorData::I64 { shape: vec![1, ints.len()], values: ints.clone() }),
        ];
        write_tensors(&path, &tensors, &BTreeMap::from([(name.clone(), name.clone())]), &provenance()).unwrap();
        let file = TensorFile::open(&path).unwrap();
        prop_assert_eq!(file.f32(&name).unwrap(), floats);
        prop_assert_eq!(file.i64(&format!("{name}2")).unwrap(), ints);
        prop_assert_eq!(&file.metadata()[&name], &name);
    }
}
