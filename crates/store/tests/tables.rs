//! Tables go to Parquet and come back; what is not the table asked for is refused by name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Int64Array, LargeStringArray, NullArray,
    RecordBatch, StringArray, UInt32Array,
};
use arrow::datatypes::Int32Type;
use common::{cut, directory, line, provenance, put};
use parquet::arrow::ArrowWriter;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use store::tables::{
    CircuitOverlap, CircuitPoint, Comparison, CrosscoderEval, CrosscoderStep, Drift, Dynamics,
    Edge, EdgeChange, EdgeMetric, PositionEdge, Sample, Score, Selection, Token, TrainingStep,
};
use store::{
    Table, TableWriter, read_table, read_table_by, table_name, table_provenance, write_table,
};

/// A row made from the schema: numbers and texts that differ from row to row, every third optional value null.
fn row<T: Table>(i: u32) -> T {
    static SCHEMA: LazyLock<String> = LazyLock::new(store::schema_text);
    let columns = SCHEMA.lines().skip_while(|line| *line != T::NAME).skip(1);
    let mut row = Map::new();
    for (number, column) in columns.take_while(|line| line.starts_with(' ')).enumerate() {
        let (name, kind) = column.trim().split_once(": ").unwrap();
        let value = match kind.trim_end_matches('?') {
            _ if kind.ends_with('?') && (i as usize + number).is_multiple_of(3) => Value::Null,
            "text" => json!(format!("{name} {i} – “β”\n")),
            "bool" => json!(i.is_multiple_of(2)),
            "f64" => json!(f64::from(i) / 7.0 - 1e-300),
            "u32" | "u64" => json!(u32::MAX - i),
            other => panic!("{other}"),
        };
        row.insert(name.into(), value);
    }
    serde_json::from_value(Value::Object(row)).unwrap()
}

fn round_trip<T: Table + PartialEq + std::fmt::Debug>() {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    for n in [0, 1, 20] {
        let rows: Vec<T> = (0..n).map(row).collect();
        write_table(&path, &rows, &provenance()).unwrap();
        assert_eq!(read_table::<T>(std::slice::from_ref(&path)).unwrap(), rows);
    }
    assert_eq!(table_name(&path).unwrap().as_deref(), Some(T::NAME));
}

#[test]
fn every_table_comes_back_as_it_went() {
    round_trip::<Sample>();
    round_trip::<Comparison>();
    round_trip::<Token>();
    round_trip::<CrosscoderEval>();
    round_trip::<CrosscoderStep>();
    round_trip::<Drift>();
    round_trip::<Dynamics>();
    round_trip::<Edge>();
    round_trip::<EdgeMetric>();
    round_trip::<PositionEdge>();
    round_trip::<EdgeChange>();
    round_trip::<CircuitPoint>();
    round_trip::<CircuitOverlap>();
    round_trip::<Selection>();
    round_trip::<Score>();
    round_trip::<TrainingStep>();
}

#[test]
fn a_table_does_not_depend_on_the_pieces_it_was_written_in() {
    let dir = directory();
    let (whole, pieces) = (dir.path().join("whole"), dir.path().join("pieces"));
    let rows: Vec<Score> = (0..20_000).map(row).collect();
    write_table(&whole, &rows, &provenance()).unwrap();
    let mut writer = TableWriter::create(&pieces, &provenance()).unwrap();
    for part in [&rows[..3], &rows[3..9_000], &[], &rows[9_000..]] {
        assert!(!pieces.exists());
        writer.push(part).unwrap();
    }
    writer.finish().unwrap();
    assert!(fs::read(&whole).unwrap() == fs::read(&pieces).unwrap());
    let (mut read, mut most) = (Vec::new(), 0);
    read_table_by(&[pieces], &mut |part: Vec<Score>| {
        most = most.max(part.len());
        read.extend(part);
        Ok(())
    })
    .unwrap();
    assert!(read == rows && most < rows.len());
}

fn token() -> impl Strategy<Value = Token> {
    (any::<[u32; 4]>(), any::<[String; 3]>(), any::<bool>()).prop_map(
        |(numbers, texts, special)| {
            let [row, doc_index, pos, token_id] = numbers;
            let [doc_id, role, phase] = texts;
            Token {
                row,
                doc_id,
                doc_index,
                pos,
                token_id,
                role,
                phase,
                special,
            }
        },
    )
}

fn edge() -> impl Strategy<Value = Edge> {
    let floats = (
        any::<Option<f64>>(),
        prop::num::f64::ANY.prop_filter("comparable", |x| !x.is_nan()),
    );
    (
        any::<[String; 3]>(),
        any::<Option<u32>>(),
        any::<Option<String>>(),
        floats,
    )
        .prop_map(
            |([model, source, target], example, doc_id, (alpha, score))| Edge {
                model,
                example,
                doc_id,
                alpha,
                source,
                target,
                score,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_come_back(tokens in prop::collection::vec(token(), 0..40), edges in prop::collection::vec(edge(), 0..40)) {
        let dir = directory();
        let path = dir.path().join("a.parquet");
        write_table(&path, &tokens, &provenance()).unwrap();
        prop_assert_eq!(read_table::<Token>(std::slice::from_ref(&path)).unwrap(), tokens);
        write_table(&path, &edges, &provenance()).unwrap();
        prop_assert_eq!(read_table::<Edge>(&[path]).unwrap(), edges);
    }
}

#[test]
fn more_rows_than_a_batch_keep_their_order() {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    let tokens: Vec<Token> = (0..20_000).map(row).collect();
    write_table(&path, &tokens, &provenance()).unwrap();
    assert_eq!(read_table::<Token>(&[path]).unwrap(), tokens);
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let dir = directory();
    let rows: Vec<Sample> = (0..100).map(row).collect();
    let written = ["a", "b"].map(|name| {
        let path = dir.path().join(name);
        write_table(&path, &rows, &provenance()).unwrap();
        fs::read(path).unwrap()
    });
    assert_eq!(written[0], written[1]);
}

#[test]
fn several_files_are_one_table() {
    let dir = directory();
    let rows: Vec<Token> = (0..6).map(row).collect();
    // Written out of order: a directory is read by name.
    for part in [2, 0, 1] {
        let path = dir.path().join(format!("part-{part}.parquet"));
        write_table(&path, &rows[2 * part..2 * part + 2], &provenance()).unwrap();
    }
    fs::write(dir.path().join("notes.txt"), "not a table").unwrap();
    let read = |input: PathBuf| read_table::<Token>(&[input]).unwrap();
    assert_eq!(read(dir.path().to_owned()), rows);
    assert_eq!(read(dir.path().join("part-*.parquet")), rows);
    let listed = [2, 0].map(|part| dir.path().join(format!("part-{part}.parquet")));
    assert_eq!(
        read_table::<Token>(&listed).unwrap(),
        [&rows[4..], &rows[..2]].concat()
    );
}

#[test]
fn the_provenance_is_readable_by_others() {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    write_table(&path, &[row::<Token>(1)], &provenance()).unwrap();
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let pairs = reader
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .clone();
    let text = pairs
        .iter()
        .find(|pair| pair.key == "provenance")
        .unwrap()
        .value
        .clone()
        .unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["seed"], 7);
    assert_eq!(value["settings"]["label"], "β");
    assert_eq!(table_provenance(&path).unwrap(), provenance());
}

/// A scores table as another program would write it, with some columns replaced or (`None`) left out.
fn foreign(path: &Path, changes: &[(&str, Option<ArrayRef>)]) {
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        (
            "task",
            Arc::new(LargeStringArray::from(vec!["copy", "sum"])),
        ),
        ("feature", Arc::new(Int64Array::from(vec![3, 4]))),
        ("n", Arc::new(Int64Array::from(vec![30, 40]))),
        ("passes", Arc::new(BooleanArray::from(vec![true, false]))),
    ];
    for name in ["score", "score_low", "score_high", "relative"] {
        columns.push((name, Arc::new(Float32Array::from(vec![0.5, 0.25]))));
    }
    for (name, change) in changes {
        columns.retain(|(known, _)| known != name);
        columns.extend(change.clone().map(|column| (*name, column)));
    }
    let nullable = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(nullable).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn a_table_of_another_program_is_read_when_it_means_the_same() {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    let categories: DictionaryArray<Int32Type> = vec!["copy", "sum"].into_iter().collect();
    for task in [None, Some(Arc::new(categories) as ArrayRef)] {
        let changes: Vec<_> = task
            .map(|column| ("task", Some(column)))
            .into_iter()
            .collect();
        foreign(&path, &changes);
        let rows: Vec<Score> = read_table(std::slice::from_ref(&path)).unwrap();
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.task.as_str(), row.feature, row.n, row.score, row.passes))
            .collect();
        assert_eq!(
            seen,
            [("copy", 3, 30, 0.5, true), ("sum", 4, 40, 0.25, false)]
        );
    }
    assert!(line(table_provenance(&path), &path).ends_with("it carries no provenance"));
    assert_eq!(table_name(&path).unwrap(), None);
}

#[test]
fn a_wrong_column_is_named() {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let cases: [(&str, Option<ArrayRef>, &str); 7] = [
        (
            "score",
            None,
            "not a scores table: there is no column `score`",
        ),
        (
            "color",
            Some(texts.clone()),
            "not a scores table: unknown column `color`",
        ),
        (
            "score",
            Some(texts.clone()),
            "column `score` must be f64, not text",
        ),
        (
            "feature",
            Some(texts),
            "column `feature` must be u32, not text",
        ),
        (
            "feature",
            Some(Arc::new(Float32Array::from(vec![1.0, 2.0]))),
            "column `feature` must be u32, not f32",
        ),
        (
            "feature",
            Some(Arc::new(UInt32Array::from(vec![Some(1), None]))),
            "column `feature` holds a null",
        ),
        (
            "task",
            Some(Arc::new(NullArray::new(2))),
            "column `task` holds a null",
        ),
    ];
    for (name, column, message) in cases {
        foreign(&path, &[(name, column)]);
        let line = line(read_table::<Score>(std::slice::from_ref(&path)), &path);
        assert!(line.ends_with(message), "{line}");
    }
}

#[test]
fn a_number_out_of_range_is_refused() {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    foreign(
        &path,
        &[("feature", Some(Arc::new(Int64Array::from(vec![1, -1]))))],
    );
    assert!(
        line(read_table::<Score>(std::slice::from_ref(&path)), &path).contains("column `feature`")
    );
}

#[test]
fn another_table_is_refused() {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    write_table(&path, &[row::<Edge>(1)], &provenance()).unwrap();
    let line = line(read_table::<Sample>(std::slice::from_ref(&path)), &path);
    assert!(
        line.ends_with("not a samples table: there is no column `arm`"),
        "{line}"
    );
}

#[test]
fn what_is_not_a_whole_parquet_file_says_so() {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    let read = |path: &PathBuf| line(read_table::<Token>(std::slice::from_ref(path)), path);
    for (content, message) in [
        ("", "the file is empty"),
        ("a,b\n1,2\n", "not a Parquet file"),
        ("a longer text", "not a Parquet file"),
    ] {
        fs::write(&path, content).unwrap();
        assert!(read(&path).ends_with(message));
    }
    write_table(&path, &[row::<Token>(1)], &provenance()).unwrap();
    for n in 12..fs::read(&path).unwrap().len() {
        assert!(read(&cut(&path, n)).ends_with("truncated: a Parquet file without its end"));
    }
    assert!(
        read(&dir.path().join("missing.parquet"))
            .ends_with("No such file or directory (os error 2)")
    );
}

#[test]
fn no_damage_makes_a_panic() {
    let dir = directory();
    let path = dir.path().join("a.parquet");
    let rows: Vec<Token> = (0..50).map(row).collect();
    write_table(&path, &rows, &provenance()).unwrap();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= [0x01, 0x80, 0xff][at % 3];
        put(&path, &damaged);
        if let Err(error) = read_table::<Token>(std::slice::from_ref(&path)) {
            assert!(error.to_string().contains(path.to_str().unwrap()));
        }
    }
}
