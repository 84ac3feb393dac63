//! Training, encoding and evaluating small activations; stopping and going on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{crosscode, fail, rows, succeed, workplace, write_acts};
use dict::Crosscoder;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use store::tables::{CrosscoderEval, CrosscoderStep};
use store::{read_features, read_table};

const TRAIN: &str =
    "-q train acts.safetensors --features 48 --k 3 --batch 64 --tokens 64k --lr 3e-3";

fn read(directory: &Path, name: &str) -> Vec<u8> {
    std::fs::read(directory.join(name)).unwrap()
}

#[test]
fn a_dictionary_is_trained_encoded_and_measured() {
    let (directory, _) = workplace(3000);
    let at = directory.path();
    succeed(at, &format!("{TRAIN} -o d.safetensors"));
    let table = succeed(at, "-q eval d.safetensors acts.safetensors -o e.parquet");
    assert!(
        table.starts_with("model") && table.lines().count() == 3,
        "{table}"
    );
    let rows: Vec<CrosscoderEval> = read_table(&[at.join("e.parquet")]).unwrap();
    assert_eq!(
        rows.iter()
            .map(|row| row.model.as_str())
            .collect::<Vec<_>>(),
        ["base", "sft"]
    );
    for row in &rows {
        assert!(row.explained_variance > 0.8, "{row:?}");
        assert!(
            row.explained_variance_low <= row.explained_variance
                && row.explained_variance <= row.explained_variance_high
        );
        assert!(
            (row.l0 - 3.0).abs() < 1.0 && row.cosine > 0.8 && row.n_rows == 3000,
            "{row:?}"
        );
    }
    succeed(at, "-q encode d.safetensors acts.safetensors -o f.parquet");
    let joint = read_features(&at.join("f.parquet")).unwrap();
    assert_eq!(
        (joint.len(), joint[0].n_rows, joint[0].n_features),
        (1, 3000, 48)
    );
    assert!((joint[0].row.len() as f64 / 3000.0 - rows[0].l0).abs() < 1e-9);
    succeed(
        at,
        "-q encode d.safetensors acts.safetensors --readout swap -o s.parquet",
    );
    let swapped = read_features(&at.join("s.parquet")).unwrap();
    assert_eq!(
        swapped
            .iter()
            .map(|part| part.model.as_deref())
            .collect::<Vec<_>>(),
        [Some("base"), Some("sft")]
    );
    let curve: Vec<CrosscoderStep> = read_table(&[at.join("d.curve.parquet")]).unwrap();
    assert_eq!(curve.len(), 1000);
    assert!(curve[999].loss < 0.5 * curve[0].loss);
}

#[test]
fn an_identical_pair_gives_the_same_decoder_twice() {
    let (directory, _) = workplace(2000);
    for rule in ["batch-topk", "l1", "topk"] {
        succeed(
            directory.path(),
            &format!("{TRAIN} --rule {rule} -o {rule}.safetensors"),
        );
        let dictionary =
            Crosscoder::load(&directory.path().join(format!("{rule}.safetensors"))).unwrap();
        assert!(dictionary.decoder[0] == dictionary.decoder[1], "{rule}");
    }
}

#[test]
fn the_same_run_gives_the_same_bytes_on_any_number_of_threads() {
    let (directory, _) = workplace(2000);
    let at = directory.path();
    succeed(at, &format!("{TRAIN} -o a.safetensors"));
    succeed(at, &format!("--threads 1 {TRAIN} -o b.safetensors"));
    assert!(read(at, "a.safetensors") == read(at, "b.safetensors"));
    assert!(read(at, "a.curve.parquet") == read(at, "b.curve.parquet"));
    let (code, message) = fail(
        at,
        &format!("{} -o a.safetensors", TRAIN.replace("-q ", "")),
    );
    assert_eq!((code, message.as_str()), (0, "a.safetensors is up to date"));
}

/// Runs until a state file stands, then ends the process with a signal; returns its exit code.
fn stop_at_first_state(at: &Path, line: &str, signal: &str) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crosscode"));
    let mut child = command
        .current_dir(at)
        .args(line.split_whitespace())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..6000 {
        if at.join("d.state.safetensors").exists() || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .unwrap();
    child.wait().unwrap().code()
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let line = TRAIN.replace("64k", "512k");
    let (directory, _) = workplace(3000);
    let at = directory.path();
    succeed(at, &format!("{line} -o straight.safetensors"));
    let line = format!("{line} --checkpoint-every 100 -o d.safetensors");
    assert_eq!(stop_at_first_state(at, &line, "-KILL"), None);
    assert!(!at.join("d.safetensors").exists());
    let (code, message) = fail(at, &line.replace("--k 3", "--k 4"));
    assert!(
        code == 1
            && message.contains(
                "cannot continue d.state.safetensors: settings.settings.rule.k was 3 and is now 4"
            ),
        "{message}"
    );
    std::fs::remove_file(at.join("d.state.safetensors")).unwrap();
    assert_eq!(stop_at_first_state(at, &line, "-TERM"), Some(3));
    succeed(at, &line);
    assert!(read(at, "d.safetensors") == read(at, "straight.safetensors"));
    assert!(read(at, "d.curve.parquet") == read(at, "straight.curve.parquet"));
    assert!(!at.join("d.state.safetensors").exists());
}

#[test]
fn several_stores_are_one_after_the_other() {
    let (directory, _) = workplace(1000);
    let at = directory.path();
    let all = rows(1000, 1.0);
    let middle = all.len() / 10 * 3;
    write_acts(
        &at.join("x.safetensors"),
        all[..middle].to_vec(),
        "resid_post.1",
    );
    write_acts(
        &at.join("y.safetensors"),
        all[middle..].to_vec(),
        "resid_post.1",
    );
    succeed(at, &format!("{TRAIN} -o whole.safetensors"));
    succeed(
        at,
        &format!(
            "{} -o parts.safetensors",
            TRAIN.replace("acts.safetensors", "x.safetensors y.safetensors")
        ),
    );
    let load = |name: &str| Crosscoder::load(&at.join(name)).unwrap();
    assert!(load("whole.safetensors") == load("parts.safetensors"));
}

#[test]
fn a_foreign_dictionary_is_imported_and_used() {
    let (directory, _) = workplace(8);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dict/tests/golden/crosscoder");
    let line = format!(
        "import --from crosscoder-learning {} --labels base,sft,rl -o d.safetensors",
        golden.display()
    );
    succeed(directory.path(), &line);
    assert_eq!(
        Crosscoder::load(&directory.path().join("d.safetensors"))
            .unwrap()
            .labels,
        ["base", "sft", "rl"]
    );
    let output = crosscode(
        directory.path(),
        "eval d.safetensors acts.safetensors -o e.parquet",
    );
    assert_eq!(output.status.code(), Some(1));
}
