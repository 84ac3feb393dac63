//! The page made from a folder of every table.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use clap::Parser;
use common::{Fixture, sample};
use report::{Args, run};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Renders a folder and returns the page.
fn render(folder: &Path, more: &[&str]) -> anyhow::Result<String> {
    let output = tempfile::tempdir()?;
    let page = output.path().join("report.html");
    let fixed = [
        "report",
        "-q",
        "--dir",
        folder.to_str().unwrap(),
        "-o",
        page.to_str().unwrap(),
    ];
    run(&Args::parse_from(fixed.iter().chain(more)))?;
    // No-break spaces stand before percent signs.
    Ok(fs::read_to_string(page)?.replace('\u{a0}', " "))
}

fn full(n_docs: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    Fixture::new(folder.path(), n_docs).write_all();
    folder
}

/// Tags in order, checked to close what they open. Returns how many elements there were.
fn check_balanced(html: &str) -> usize {
    let body = &html[html.find("</style>").unwrap()..];
    let mut open = vec!["style"];
    let mut n = 0;
    for part in body.split('<').skip(1) {
        let tag = &part[..part.find('>').expect("a tag ends")];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closing </{name}>");
            if name == "style" {
                open.extend(["html", "head"]);
            }
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
            n += 1;
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    n
}

#[test]
fn every_section_is_there_and_the_page_is_well_formed() {
    let folder = full(40);
    let html = render(folder.path(), &[]).unwrap();
    for id in [
        "run",
        "accuracy",
        "training",
        "crosscoder",
        "drift",
        "dynamics",
        "edges",
        "selection",
        "effects",
        "notes",
    ] {
        assert!(
            html.contains(&format!("<h2 id=\"{id}\">")),
            "no section {id}"
        );
    }
    assert!(check_balanced(&html) > 500);
    for unwanted in [
        "NaN", ">inf<", "[inf", "inf]", "<script", "http://", "https://", "@import", "url(", "src=",
    ] {
        assert!(!html.contains(unwanted), "the page holds {unwanted}");
    }
    assert!(html.contains("The mechanism of this experiment is planted."));
}

#[test]
fn the_same_folder_gives_the_same_bytes_wherever_it_lies() {
    let (one, two) = (full(12), full(12));
    let page = render(one.path(), &[]).unwrap();
    assert_eq!(page, render(one.path(), &[]).unwrap());
    // Only what the input files themselves say about their paths may differ, and the fixture names absolute ones.
    let strip = |page: &str, folder: &Path| page.replace(folder.to_str().unwrap(), "");
    assert_eq!(
        strip(&page, one.path()).len(),
        strip(&render(two.path(), &[]).unwrap(), two.path()).len()
    );
}

#[test]
fn accuracies_and_effects_are_the_hand_computed_ones() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(folder.path(), 0);
    // Ten documents. base right on 0–1, rl on 1–9; disabled right on 1–3; two random sets right on 1–8 and 1–9.
    let rows = |model: &str, arm: &str, right: std::ops::Range<usize>| {
        (0..10)
            .map(|doc| {
                sample(
                    model,
                    arm,
                    "rev",
                    &format!("test-{doc}"),
                    right.contains(&doc),
                )
            })
            .collect::<Vec<_>>()
    };
    fixture.table(
        "base.parquet",
        "evaluate run",
        &json!({}),
        &[],
        &rows("base", "none", 0..2),
    );
    fixture.table(
        "rl.parquet",
        "evaluate run",
        &json!({}),
        &[],
        &rows("rl", "none", 1..10),
    );
    let arms = [
        rows("rl", "disable", 1..4),
        rows("rl", "disable/random-00", 1..9),
        rows("rl", "disable/random-01", 1..10),
    ]
    .concat();
    fixture.table("disable.parquet", "intervene run", &json!({}), &[], &arms);
    let html = render(folder.path(), &[]).unwrap();
    // base 2/10, rl 9/10: eight turned right, one wrong; p = 2·(1 + 9)/512.
    let row = "<tr><td>rev</td><td>base → rl</td><td class=\"r\">10</td><td class=\"r\">20.0 [5.7, 51.0]</td><td class=\"r\">90.0 [59.6, 98.2]</td>";
    assert!(html.contains(row), "accuracies");
    assert!(html.contains("<td class=\"r\">8</td><td class=\"r\">1</td><td class=\"r\">0.039</td><td class=\"r\">0.039</td>"), "flips");
    // disabled 3/10: −60 points; random sets −10 and 0, mean −5; excess −55. Keys are 2–9: 8 of them, 2 left right.
    assert!(
        html.contains("90.0 % → 30.0 % of 10 documents, −60.0 ["),
        "change"
    );
    assert!(html.contains(" points against −5.0 ["), "random");
    assert!(html.contains("selected − random −55.0 ["), "excess");
    assert!(
        html.contains("On 8 key samples (100.0 % right before): −75.0 ["),
        "keys"
    );
    assert!(html.contains("below 2 of 2 sets"), "beyond");
    assert!(
        !html.contains("class=\"planted\""),
        "nothing says that this is the lab suite"
    );
}

#[test]
fn an_empty_folder_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let error = format!("{:#}", render(folder.path(), &[]).unwrap_err());
    assert!(
        error.ends_with("there is no table below it") && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn a_damaged_table_is_named() {
    let folder = full(4);
    let path = folder.path().join("null/pair.drift.parquet");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = format!("{:#}", render(folder.path(), &[]).unwrap_err());
    assert!(
        error.contains("null/pair.drift.parquet") && error.contains("truncated"),
        "{error}"
    );
}

#[test]
fn answers_that_contradict_others_are_left_out_aloud() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(folder.path(), 0);
    fixture.table(
        "a.parquet",
        "evaluate run",
        &json!({}),
        &[],
        &[sample("base", "none", "rev", "1", true)],
    );
    fixture.table(
        "b.parquet",
        "evaluate run",
        &json!({}),
        &[],
        &[sample("base", "none", "rev", "1", false)],
    );
    let html = render(folder.path(), &[]).unwrap();
    assert!(html.contains("b.parquet gives other answers than a.parquet to 1 document for base (none); it was left out"));
}

#[test]
fn a_label_nobody_has_is_a_wrong_argument() {
    let folder = full(4);
    let error = render(folder.path(), &["--base", "nobody"]).unwrap_err();
    assert!(error.is::<cli::Usage>());
    assert!(error.to_string().contains("base, rl and sft"), "{error}");
}

#[test]
#[ignore = "writes a folder to look at: POSTSCOPE_FIXTURE=fixture cargo test --release -p report -- --ignored"]
fn a_folder_to_look_at() {
    let folder = std::env::var("POSTSCOPE_FIXTURE").unwrap();
    Fixture::new(Path::new(&folder), 200).write_all();
}
