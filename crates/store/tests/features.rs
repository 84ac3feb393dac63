//! Sparse activations go to Parquet and come back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{cut, directory, line, provenance};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use store::{
    FeatureWriter, Features, FeaturesHeader, read_features, table_name, table_provenance,
    write_features,
};

fn features(model: Option<&str>, triples: &[(u32, u32, f32)]) -> Features {
    Features {
        model: model.map(str::to_owned),
        n_rows: 1000,
        n_features: 4096,
        token_digest: "abc".into(),
        row: triples.iter().map(|triple| triple.0).collect(),
        feature: triples.iter().map(|triple| triple.1).collect(),
        activation: triples.iter().map(|triple| triple.2).collect(),
    }
}

fn read_back(all: &[Features]) -> Vec<Features> {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    write_features(&path, all, &provenance()).unwrap();
    assert_eq!(table_name(&path).unwrap().as_deref(), Some("features"));
    assert_eq!(table_provenance(&path).unwrap(), provenance());
    read_features(&path).unwrap()
}

#[test]
fn a_shared_code_comes_back() {
    for triples in [vec![], vec![(0, 3, 0.5), (0, 4095, 1.5), (999, 0, 1e-30)]] {
        let all = [features(None, &triples)];
        assert_eq!(read_back(&all), all);
    }
}

#[test]
fn a_code_per_model_comes_back_in_its_order_silent_models_too() {
    let all = [
        features(Some("sft"), &[(5, 1, 1.0)]),
        features(Some("base"), &[]),
        features(Some("rl"), &[(0, 7, 2.0), (5, 1, 3.0)]),
    ];
    assert_eq!(read_back(&all), all);
}

fn sparse() -> impl Strategy<Value = Features> {
    let entries = prop::collection::btree_map((0..1000u32, 0..4096u32), -1e20f32..1e20, 0..500);
    entries.prop_map(|entries: BTreeMap<(u32, u32), f32>| {
        let triples: Vec<_> = entries
            .into_iter()
            .map(|((row, feature), value)| (row, feature, value))
            .collect();
        features(None, &triples)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_features_come_back(one in sparse(), other in sparse()) {
        prop_assert_eq!(&read_back(std::slice::from_ref(&one))[0], &one);
        let pair = [Features { model: Some("a".into()), ..one }, Features { model: Some("b".into()), ..other }];
        prop_assert_eq!(read_back(&pair), pair);
    }
}

/// 2.4 million activations: more than two row groups.
fn large() -> Features {
    let n_rows = 75_000;
    let row = (0..n_rows).flat_map(|row| [row; 32]).collect();
    let feature = (0..n_rows)
        .flat_map(|row| (0..32).map(move |i| i * 128 + row * 7919 % 128))
        .collect();
    let activation = (0..n_rows * 32)
        .map(|i| (i * 2_654_435_761 % 10_007) as f32 / 100.0)
        .collect();
    Features {
        n_rows,
        n_features: 4096,
        row,
        feature,
        activation,
        ..Features::default()
    }
}

#[test]
fn many_row_groups_come_back_and_stay_small() {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    let all = [large()];
    write_features(&path, &all, &provenance()).unwrap();
    assert!(read_features(&path).unwrap() == all);
    let per_activation = fs::metadata(&path).unwrap().len() as f64 / all[0].row.len() as f64;
    assert!(per_activation < 5.0, "{per_activation} bytes");
}

#[test]
fn written_piece_by_piece_or_at_once_is_the_same() {
    let dir = directory();
    let [whole, pieces] = ["a", "b"].map(|name| dir.path().join(name));
    let all = features(None, &[(0, 3, 0.5), (0, 5, 1.5), (2, 0, 3.0)]);
    write_features(&whole, std::slice::from_ref(&all), &provenance()).unwrap();
    let header = FeaturesHeader {
        n_rows: all.n_rows,
        n_features: all.n_features,
        token_digest: all.token_digest.clone(),
        models: vec![],
    };
    let mut writer = FeatureWriter::create(&pieces, header, &provenance()).unwrap();
    for at in 0..3 {
        let piece = at..=at;
        writer
            .push(
                0,
                &all.row[piece.clone()],
                &all.feature[piece.clone()],
                &all.activation[piece],
            )
            .unwrap();
    }
    assert!(!pieces.exists());
    writer.finish().unwrap();
    assert_eq!(read_features(&pieces).unwrap(), [all]);
}

#[test]
fn what_would_make_a_wrong_file_is_refused() {
    let path = Path::new("never-written.parquet");
    let refuse = |all: &[Features]| {
        let line = line(write_features(path, all, &provenance()), path);
        assert!(!path.exists());
        line
    };
    assert!(refuse(&[]).contains("no readout"));
    assert!(refuse(&[features(None, &[(1, 0, 1.0), (0, 0, 1.0)])]).contains("out of order"));
    assert!(refuse(&[features(None, &[(1, 0, 1.0), (1, 0, 1.0)])]).contains("there twice"));
    assert!(refuse(&[features(None, &[(1000, 0, 1.0)])]).contains("outside"));
    assert!(refuse(&[features(None, &[(0, 4096, 1.0)])]).contains("outside"));
    assert!(refuse(&[features(None, &[(3, 0, f32::NAN)])]).contains("row 3 holds a NaN"));
    assert!(refuse(&[features(None, &[]), features(None, &[])]).contains("needs its model"));
    let other = Features {
        n_rows: 7,
        ..features(Some("b"), &[])
    };
    assert!(refuse(&[features(Some("a"), &[]), other]).contains("different rows"));
    let lengths = Features {
        feature: vec![],
        ..features(None, &[(0, 0, 1.0)])
    };
    assert!(refuse(&[lengths]).contains("different lengths"));
}

#[test]
fn a_table_or_half_a_file_is_not_a_features_file() {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    store::write_table::<store::tables::Edge>(&path, &[], &provenance()).unwrap();
    assert!(line(read_features(&path), &path).contains("not a features file"));
    write_features(&path, &[features(None, &[(0, 0, 1.0)])], &provenance()).unwrap();
    for n in (0..fs::read(&path).unwrap().len()).step_by(7) {
        let cut: PathBuf = cut(&path, n);
        line(read_features(&cut), &cut);
    }
}
