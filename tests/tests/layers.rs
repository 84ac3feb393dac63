//! The two layers, from `cargo metadata`: programs share nothing but files, libraries know only what they must.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const PROGRAMS: [&str; 9] = [
    "posttrain",
    "evaluate",
    "capture",
    "crosscode",
    "drift",
    "eap",
    "select",
    "intervene",
    "report",
];
const LIBRARIES: [&str; 7] = ["cli", "dict", "kernels", "model", "stats", "store", "tasks"];
/// The arrows between libraries, as drawn in `docs/architecture.md`.
const ARROWS: [(&str, &str); 3] = [("dict", "kernels"), ("dict", "store"), ("model", "kernels")];

fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
            "--manifest-path",
            manifest,
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Dependencies of every package on packages of this workspace; with or without those of its tests.
fn arrows(with_tests: bool) -> BTreeMap<String, BTreeSet<String>> {
    let packages = packages();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();
    let inside = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        let counted = all.filter(|one| with_tests || one["kind"].as_str() != Some("dev"));
        counted
            .map(name)
            .filter(|name| members.contains(name))
            .collect()
    };
    packages
        .iter()
        .map(|package| (name(package), inside(package)))
        .collect()
}

#[test]
fn every_crate_is_a_program_or_a_library() {
    let known: BTreeSet<String> = PROGRAMS
        .iter()
        .chain(&LIBRARIES)
        .map(|name| (*name).to_owned())
        .collect();
    let found: BTreeSet<String> = arrows(false)
        .into_keys()
        .filter(|name| name != "postscope-tests")
        .collect();
    assert_eq!(found, known);
}

#[test]
fn a_program_never_depends_on_a_program() {
    for (package, dependencies) in arrows(true) {
        let sideways: Vec<_> = dependencies
            .iter()
            .filter(|name| PROGRAMS.contains(&name.as_str()))
            .collect();
        assert!(
            sideways.is_empty() || package == "postscope-tests",
            "{package} depends on {sideways:?}"
        );
    }
}

#[test]
fn a_library_depends_on_no_library_but_by_the_arrows_drawn() {
    for (package, dependencies) in arrows(false) {
        for dependency in dependencies
            .iter()
            .filter(|_| LIBRARIES.contains(&package.as_str()))
        {
            let arrow = (package.as_str(), dependency.as_str());
            assert!(ARROWS.contains(&arrow), "{package} depends on {dependency}");
        }
    }
}

#[test]
fn only_the_edge_of_a_program_knows_the_command_line() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let parses = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["name"] == "clap");
        assert!(
            !parses || name == "cli" || PROGRAMS.contains(&name),
            "{name} depends on clap"
        );
    }
}

#[test]
fn only_kernels_holds_unsafe_code_and_one_place_maps_weights() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates");
    let listing = Command::new("grep")
        .args(["-rlE", r"unsafe\s*(\{|fn|impl)", "--include=*.rs", root])
        .output()
        .unwrap();
    let text = String::from_utf8(listing.stdout).unwrap();
    let mut files: Vec<&str> = text
        .lines()
        .map(|path| path.split_once("../crates/").unwrap().1)
        .collect();
    files.sort_unstable();
    for file in files {
        let known = file.starts_with("kernels/")
            || [
                "cli/src/memory.rs",
                "model/src/weights.rs",
                "store/src/tensor_file.rs",
                "store/src/activations/reader.rs",
            ]
            .contains(&file);
        assert!(known, "unsafe code in {file}");
    }
}
