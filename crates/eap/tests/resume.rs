//! Work that is stopped goes on, work that is shared comes out the same, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::json;
use store::{
    read_table,
    tables::{Edge, PositionEdge},
};

const OPTIONS: &str = "--method eap-ig-inputs --level head --per-example --batch 1 -q";

struct Folder(tempfile::TempDir);

impl Folder {
    /// A folder with `n` pairs of token ids.
    fn new(n: u32) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let pair = |i: u32| {
            let token = |place: u32| 2 + (7 * i + 11 * place + i * place) % 90;
            let clean: Vec<u32> = (0..6 + i % 3).map(token).collect();
            let mut corrupted = clean.clone();
            corrupted[1 + i as usize % 3] = 95;
            json!({"clean": clean, "corrupted": corrupted, "label": [2 + i % 90, 3 + i % 90]})
        };
        let pairs: Vec<_> = (0..n).map(pair).collect();
        fs::write(folder.path("pairs.json"), json!(pairs).to_string()).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model");
        let line = format!(
            "score --model m={} --pairs pairs.json {OPTIONS} {line}",
            model.display()
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_eap"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path());
        command
    }

    fn run(&self, line: &str) -> Output {
        let output = self.command(line).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {error}");
        output
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn n_parts(&self, name: &str) -> usize {
        fs::read_dir(self.path(name)).map_or(0, Iterator::count)
    }
}

#[test]
fn shards_of_any_number_give_the_same_bytes() {
    let folder = Folder::new(5);
    folder.run("-o whole.parquet");
    for shard in ["2/3", "0/3"] {
        folder.run(&format!("--shard {shard} -o shared.parquet"));
        assert!(
            !folder.path("shared.parquet").exists() && folder.n_parts("shared.parquet.parts") > 0
        );
    }
    folder.run("--shard 1/3 -o shared.parquet");
    assert!(folder.bytes("whole.parquet") == folder.bytes("shared.parquet"));
    assert!(!folder.path("shared.parquet.parts").exists());
}

#[test]
fn a_run_that_was_stopped_goes_on() {
    let folder = Folder::new(150);
    let mut child = folder
        .command("--check off --per-position stopped.positions.parquet -o stopped.parquet")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..3000 {
        if folder.n_parts("stopped.parquet.parts") >= 6 {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    let stop = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    let status = child.wait().unwrap();
    assert!(stop.success());
    assert_eq!(status.code(), Some(3));
    assert!(!folder.path("stopped.parquet").exists());
    let left = folder.n_parts("stopped.parquet.parts");
    assert!((6..300).contains(&left), "{left}");
    folder.run("--check off --per-position stopped.positions.parquet -o stopped.parquet");
    folder.run("--check off --per-position whole.positions.parquet -o whole.parquet");
    assert!(folder.bytes("whole.parquet") == folder.bytes("stopped.parquet"));
    assert!(folder.bytes("whole.positions.parquet") == folder.bytes("stopped.positions.parquet"));
}

#[test]
fn a_rerun_that_would_do_nothing_says_so() {
    let folder = Folder::new(2);
    folder.run("-o edges.parquet");
    let before = fs::metadata(folder.path("edges.parquet"))
        .unwrap()
        .modified()
        .unwrap();
    let output = folder.command("-o edges.parquet").output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        fs::metadata(folder.path("edges.parquet"))
            .unwrap()
            .modified()
            .unwrap(),
        before
    );
    folder.run("--steps 2 -o edges.parquet");
    assert!(
        fs::metadata(folder.path("edges.parquet"))
            .unwrap()
            .modified()
            .unwrap()
            > before
    );
}

#[test]
fn positions_are_a_table_of_their_own_that_adds_up() {
    let folder = Folder::new(3);
    folder.run("--per-position positions.parquet -o edges.parquet");
    let edges: Vec<Edge> = read_table(&[folder.path("edges.parquet")]).unwrap();
    let positions: Vec<PositionEdge> = read_table(&[folder.path("positions.parquet")]).unwrap();
    let edge = edges
        .iter()
        .filter(|edge| edge.example == Some(1))
        .max_by(|a, b| a.score.abs().total_cmp(&b.score.abs()))
        .unwrap();
    let shares: Vec<&PositionEdge> = positions
        .iter()
        .filter(|row| row.example == 1 && row.source == edge.source && row.target == edge.target)
        .collect();
    // Nothing happens before the token that differs: position 2 of 7.
    assert_eq!(
        shares.iter().map(|row| row.position).collect::<Vec<_>>(),
        [2, 3, 4, 5, 6]
    );
    let sum: f64 = shares.iter().map(|row| row.score).sum();
    assert!((sum - edge.score).abs() < 1e-6 * edge.score.abs());
}

#[test]
fn a_dry_run_tells_the_memory_and_writes_nothing() {
    let folder = Folder::new(2);
    let output = folder.run("--dry-run -o edges.parquet");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("802 edges of 28 sources and 76 targets") && text.contains("memory about"),
        "{text}"
    );
    assert!(text.contains("5 reverse passes"), "{text}");
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1);
}
