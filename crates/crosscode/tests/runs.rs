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
fn a_run_killed_again_and_again_ends_in_the_same_bytes() {
    killed_again_and_again(&TRAIN.replace("64k", "100k"));
    killed_again_and_again(&format!("{} --device plain", TRAIN.replace("64k", "20k")));
}

fn killed_again_and_again(line: &str) {
    let (directory, _) = workplace(3000);
    let at = directory.path();
    succeed(at, &format!("{line} -o straight.safetensors"));
    let line = format!("{line} --checkpoint-every 7 -o d.safetensors");
    for wait in [40, 90, 150, 230, 60, 120] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crosscode"));
        let mut child = command
            .current_dir(at)
            .args(line.split_whitespace())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    succeed(at, &line);
    assert!(read(at, "d.safetensors") == read(at, "straight.safetensors"));
    assert!(read(at, "d.curve.parquet") == read(at, "straight.curve.parquet"));
    assert!(read(at, "d.curve.models.parquet") == read(at, "straight.curve.models.parquet"));
}

#[test]
fn exactly_as_many_rows_are_trained_on_as_were_asked_for() {
    let (directory, _) = workplace(1000);
    let at = directory.path();
    for tokens in [1, 63, 64, 100, 2345] {
        succeed(
            at,
            &format!(
                "-q train acts.safetensors --features 16 --k 2 --batch 64 --tokens {tokens} -o d{tokens}.safetensors"
            ),
        );
        let curve: Vec<CrosscoderStep> =
            read_table(&[at.join(format!("d{tokens}.curve.parquet"))]).unwrap();
        assert_eq!(curve.last().unwrap().tokens, tokens);
        assert_eq!(curve.len(), (tokens as usize).div_ceil(64));
    }
}

#[test]
fn several_dictionaries_from_one_pass_are_those_of_single_runs() {
    let (directory, _) = workplace(2000);
    let at = directory.path();
    let line = "-q train acts.safetensors --batch 64 --tokens 6400 --lr 3e-3 --order-seed 5";
    succeed(
        at,
        &format!(
            "{line} --features 24,48 --k 2,3 --seed 0,1 -o all-{{features}}-{{k}}-{{seed}}.safetensors"
        ),
    );
    for name in ["24-2-0", "48-2-1", "48-3-0"] {
        let [features, k, seed] = name.split('-').collect::<Vec<_>>()[..] else {
            panic!("three numbers")
        };
        succeed(
            at,
            &format!("{line} --features {features} --k {k} --seed {seed} -o one.safetensors"),
        );
        assert!(
            read(at, "one.safetensors") == read(at, &format!("all-{name}.safetensors")),
            "{name}"
        );
        std::fs::remove_file(at.join("one.safetensors")).unwrap();
    }
    let (code, message) = fail(at, &format!("{line} --k 2,3 -o same.safetensors"));
    assert!(code == 2 && message.contains("put {k}"), "{message}");
}

#[test]
fn every_rule_and_partition_trains_and_is_read_again() {
    let (directory, _) = workplace(2000);
    let at = directory.path();
    let cases = [
        "--rule jumprelu --k 3 --bandwidth 0.1",
        "--rule matryoshka --k 3 --groups 8,24,48",
        "--rule l1 --sparsity 0.5 --tanh 4 --partition base=25%,sft=6,tied=25%",
        "--code-norm decoupled --k 3 --precision bf16x3",
        "--code-norm sae --k 3 --precision bf16 --normalize norm --timed",
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let name = format!("d{number}.safetensors");
        let line = "-q train acts.safetensors --features 48 --batch 64 --tokens 32k --lr 3e-3";
        succeed(at, &format!("{line} {case} -o {name}"));
        succeed(
            at,
            &format!("-q eval {name} acts.safetensors -o e{number}.parquet"),
        );
        let rows: Vec<CrosscoderEval> =
            read_table(&[at.join(format!("e{number}.parquet"))]).unwrap();
        assert!(
            rows.iter().all(|row| row.explained_variance > 0.4),
            "{case}: {rows:?}"
        );
    }
    let partitioned = Crosscoder::load(&at.join("d2.safetensors")).unwrap();
    assert!(
        partitioned.row(1, 0).iter().all(|value| *value == 0.0),
        "the first twelve are the base's"
    );
    assert!(
        partitioned.row(0, 12).iter().all(|value| *value == 0.0),
        "the next six are sft's"
    );
    assert!(
        partitioned.row(0, 20) == partitioned.row(1, 20),
        "the next twelve are tied"
    );
    let timed: Vec<CrosscoderStep> = read_table(&[at.join("d4.curve.parquet")]).unwrap();
    assert!(timed[0].tokens_per_s.is_none() && timed[1].tokens_per_s.is_some());
    for (line, wanted) in [
        (
            "--code-norm decoupled --rule jumprelu",
            "one code for all models",
        ),
        ("--partition rl=5%", "there is no model rl"),
    ] {
        let (code, message) = fail(
            at,
            &format!("-q train acts.safetensors --features 48 --k 3 {line} -o x.safetensors"),
        );
        assert!(code == 2 && message.contains(wanted), "{message}");
    }
}

#[test]
fn a_preset_is_changed_by_the_flags_beside_it() {
    let (directory, _) = workplace(2000);
    let at = directory.path();
    succeed(
        at,
        "-q train acts.safetensors --preset shi2026 --features 32 --tokens 4096 --batch 256 -o d.safetensors",
    );
    let dictionary = Crosscoder::load(&at.join("d.safetensors")).unwrap();
    assert_eq!(dictionary.rule, dict::Rule::L1 { sparsity: 2.0 });
    assert_eq!(dictionary.n_features, 32);
    assert!(
        dictionary.normalizer[0]
            .mean
            .iter()
            .all(|mean| *mean == 0.0),
        "activations are scaled, not centred"
    );
    let file = store::TensorFile::open(&at.join("d.safetensors")).unwrap();
    let settings = &file.provenance().unwrap().settings;
    assert_eq!(settings["filter"]["skip_first"], 1);
    assert!((settings["settings"]["learning_rate"].as_f64().unwrap() - 1e-4).abs() < 1e-9);
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
