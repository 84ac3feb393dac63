//! The edge: help, wrong flags, files that are missing or do not belong together.

mod common;

use common::{N, dictionary, drift, fail, save, succeed, write_acts};

#[test]
fn help_opens_with_an_example() {
    let directory = tempfile::tempdir().unwrap();
    for line in ["--help", "features --help", "dynamics --help"] {
        assert!(
            succeed(directory.path(), line).starts_with("Example:\n  drift "),
            "{line}"
        );
    }
}

#[test]
fn a_wrong_flag_is_2() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        drift(directory.path(), "features --no-such-flag")
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_missing_file_is_1_and_named() {
    let directory = tempfile::tempdir().unwrap();
    save(&dictionary(&["base", "sft"]), directory.path());
    for line in [
        "features none.safetensors -o d.parquet",
        "dynamics dict.safetensors --series sft=none -o d.parquet",
    ] {
        let (code, message) = fail(directory.path(), line);
        assert_eq!(code, 1);
        assert!(
            message.starts_with("drift: cannot read none") && message.lines().count() == 1,
            "{message}"
        );
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    save(&dictionary(&["base", "sft"]), at);
    write_acts(
        &at.join("other.safetensors"),
        "base,sft",
        "resid_post.0",
        vec![1.0; 4 * N],
    );
    let (code, message) = fail(
        at,
        "features dict.safetensors other.safetensors -o d.parquet",
    );
    assert!(
        code == 1
            && message.contains("dict.safetensors with other.safetensors: hook is resid_post.1"),
        "{message}"
    );
    let (code, message) = fail(
        at,
        "dynamics dict.safetensors --series sft=other.safetensors -o d.parquet",
    );
    assert!(
        code == 1 && message.contains("a series needs two checkpoints"),
        "{message}"
    );
    let mut values = vec![1.0; 4 * N];
    values[2 * N] = f32::NAN;
    write_acts(
        &at.join("nan.safetensors"),
        "base,sft",
        "resid_post.1",
        values,
    );
    let (code, message) = fail(at, "features dict.safetensors nan.safetensors -o d.parquet");
    assert!(
        code == 1 && message.contains("cannot use nan.safetensors: row 1 holds a NaN"),
        "{message}"
    );
    let (code, message) = fail(at, "features dict.safetensors --base rl -o d.parquet");
    assert!(
        code == 1 && message.contains("there is no model rl, it holds base, sft"),
        "{message}"
    );
}
