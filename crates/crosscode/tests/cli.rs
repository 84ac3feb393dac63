//! The edge: help, wrong flags, missing and damaged files.

mod common;

use common::{WIDTH, crosscode, fail, rows, succeed, workplace, write_acts};

#[test]
fn help_opens_with_an_example() {
    let (directory, _) = workplace(4);
    for line in [
        "--help",
        "train --help",
        "encode --help",
        "eval --help",
        "import --help",
    ] {
        assert!(
            succeed(directory.path(), line).starts_with("Example:\n  crosscode "),
            "{line}"
        );
    }
}

#[test]
fn a_wrong_flag_is_2() {
    let (directory, _) = workplace(4);
    assert_eq!(
        crosscode(directory.path(), "train --no-such-flag")
            .status
            .code(),
        Some(2)
    );
    let (code, message) = fail(
        directory.path(),
        "train acts.safetensors -o d.safetensors --features 4 --k 8",
    );
    assert_eq!(code, 2, "{message}");
}

#[test]
fn a_missing_file_is_1_and_named() {
    let (directory, _) = workplace(4);
    for line in [
        "train none/ -o d.safetensors",
        "eval none.safetensors acts.safetensors -o e.parquet",
    ] {
        let (code, message) = fail(directory.path(), line);
        assert_eq!(code, 1);
        assert!(
            message.starts_with("crosscode: cannot read none") && message.lines().count() == 1,
            "{message}"
        );
    }
}

#[test]
fn a_truncated_file_and_a_nan_are_1_and_named() {
    let (directory, acts) = workplace(8);
    let mut values = rows(8, 1.0);
    values[5 * 2 * WIDTH] = f32::NAN;
    write_acts(
        &directory.path().join("nan.safetensors"),
        values,
        "resid_post.1",
    );
    let (code, message) = fail(
        directory.path(),
        "train nan.safetensors -o d.safetensors --features 8 --k 2 --batch 4 --tokens 8",
    );
    assert_eq!(
        (code, message.as_str()),
        (
            1,
            "crosscode: cannot use nan.safetensors: row 5 holds a NaN or an infinity"
        )
    );
    let bytes = std::fs::read(&acts).unwrap();
    std::fs::write(
        directory.path().join("cut.safetensors"),
        &bytes[..bytes.len() - 8],
    )
    .unwrap();
    let (code, message) = fail(directory.path(), "train cut.safetensors -o d.safetensors");
    assert!(
        code == 1 && message.contains("cut.safetensors") && message.lines().count() == 1,
        "{message}"
    );
}

#[test]
fn activations_of_another_hook_are_refused_with_both_files_named() {
    let (directory, _) = workplace(64);
    write_acts(
        &directory.path().join("other.safetensors"),
        rows(64, 1.0),
        "resid_post.0",
    );
    succeed(
        directory.path(),
        "-q train acts.safetensors -o d.safetensors --features 8 --k 2 --batch 16 --tokens 64",
    );
    for line in [
        "eval d.safetensors other.safetensors -o e.parquet",
        "encode d.safetensors other.safetensors -o f.parquet",
    ] {
        let (code, message) = fail(directory.path(), line);
        assert_eq!(code, 1);
        let wanted = "cannot use d.safetensors with other.safetensors: hook is resid_post.1 in the first and resid_post.0";
        assert!(message.contains(wanted), "{message}");
    }
    let (code, message) = fail(
        directory.path(),
        "eval d.safetensors acts.safetensors --models base,rl -o e.parquet",
    );
    assert!(
        code == 1 && message.contains("there is no model rl"),
        "{message}"
    );
}
