//! What a program built on this crate does towards a shell: `examples/words.rs`, run as people run it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The example, which `cargo test` builds beside the tests.
fn words(args: &[&str]) -> Command {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.ancestors().nth(2).unwrap();
    let mut command = Command::new(profile.join("examples/words"));
    command
        .args(args)
        .env_remove("POSTSCOPE_THREADS")
        .env_remove("POSTSCOPE_CONFIG");
    command
}

fn output(args: &[&str]) -> Output {
    words(args).output().unwrap()
}

/// Exit code, stdout, stderr.
fn told(args: &[&str]) -> (Option<i32>, String, String) {
    let output = output(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn data_goes_to_stdout_and_messages_to_stderr() {
    let (code, out, err) = told(&["count", "Cargo.toml", "--times", "2"]);
    assert_eq!(code, Some(0));
    assert_eq!(out.lines().count(), 2);
    assert_eq!(err, "read Cargo.toml\n");
    assert_eq!(told(&["-q", "count", "Cargo.toml"]).2, "");
    assert_eq!(told(&["count", "Cargo.toml", "-q"]).2, "");
}

#[test]
fn help_opens_with_an_example_and_succeeds() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["count", "--help"],
        &["wait", "-h"],
        &["help", "count"],
    ] {
        let (code, out, err) = told(args);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.starts_with("Example:\n  words "), "{out}");
    }
    let version = format!("words {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(told(&["--version"]).1, version);
}

#[test]
fn an_error_is_one_line_that_names_the_file_also_when_quiet() {
    for args in [
        &["count", "no/such.txt"][..],
        &["-q", "count", "no/such.txt"],
    ] {
        let (code, out, err) = told(args);
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert_eq!(
            err,
            "words: cannot read no/such.txt: No such file or directory (os error 2)\n"
        );
    }
}

#[test]
fn wrong_arguments_are_told_apart_from_failures() {
    for args in [
        &["count"][..],
        &["count", "a", "--color"],
        &["count", "a", "--shard", "2/2"],
        &["count", "Cargo.toml", "--shard", "0/2"],
        &["wait", "--model", "no-label"],
        &["--threads", "0", "count", "a"],
        &["--generate", "poem"],
        &[],
    ] {
        let (code, out, err) = told(args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(!err.is_empty());
    }
}

#[test]
fn threads_come_from_the_flag_or_the_environment() {
    let with = |threads: &str| {
        let mut command = words(&["-q", "count", "Cargo.toml"]);
        command
            .env("POSTSCOPE_THREADS", threads)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(with("2"), Some(0));
    assert_eq!(with("many"), Some(2));
    assert_eq!(
        told(&["-q", "--threads", "3", "count", "Cargo.toml"]).0,
        Some(0)
    );
}

#[test]
fn a_reader_that_has_read_enough_is_a_success() {
    let mut child = words(&["-q", "count", "Cargo.toml", "--times", "1M"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

fn waiting() -> Child {
    let child = words(&["wait", "--model", "a=b"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(400));
    child
}

#[test]
fn a_signal_stops_between_batches_with_a_code_of_its_own() {
    for name in ["TERM", "INT", "USR1"] {
        let child = waiting();
        let asked = Instant::now();
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(5));
        assert_eq!(output.status.code(), Some(3), "{name}");
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(
            line.starts_with("words: stopped early, ") && line.lines().count() == 1,
            "{line}"
        );
    }
}

#[test]
fn a_second_interrupt_does_not_wait() {
    let mut child = waiting();
    for _ in 0..20 {
        signal(&child, "INT");
        if child.try_wait().unwrap().is_some() {
            break;
        }
    }
    let status = child.wait().unwrap();
    assert!(
        status.signal() == Some(2) || status.code() == Some(3),
        "{status}"
    );
}

#[test]
fn the_manual_is_generated_in_every_form() {
    let (code, markdown, _) = told(&["--generate", "markdown"]);
    assert_eq!(code, Some(0));
    let headings: Vec<_> = markdown
        .lines()
        .filter(|line| line.starts_with('#'))
        .collect();
    assert_eq!(headings, ["## words", "### words count", "### words wait"]);
    assert!(markdown.starts_with("## words\n\n```text\nExample:\n  words count text.txt\n"));
    assert!(!markdown.lines().any(|line| line.ends_with(' ')));
    assert!(told(&["--generate", "man"]).1.contains(".TH words"));
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, script, _) = told(&["--generate", shell]);
        assert_eq!(code, Some(0));
        assert!(script.contains("words"), "{shell}");
    }
}

/// A file of settings for this test alone.
fn settings(name: &str, text: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("words-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_the_default() {
    let path = settings("order", "[words.count]\ntimes = 4\n");
    let lines = |line: &[&str], variable: Option<&str>| {
        let mut command = words(&["count", "Cargo.toml"]);
        command.args(line).env("POSTSCOPE_CONFIG", &path);
        if let Some(value) = variable {
            command.env("POSTSCOPE_WORDS_COUNT_TIMES", value);
        }
        let out = command.output().unwrap().stdout;
        String::from_utf8(out).unwrap().lines().count()
    };
    assert_eq!(lines(&[], None), 4);
    assert_eq!(lines(&[], Some("3")), 3);
    assert_eq!(lines(&["--times", "2"], Some("3")), 2);
    let file = path.to_str().unwrap();
    let (code, out, _) = told(&["count", "Cargo.toml", "--config", file, "--print-config"]);
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with("[words.count]\n") && out.contains("times = 4\n"),
        "{out}"
    );
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_setting_that_nobody_knows_is_a_mistake() {
    let path = settings("unknown", "[words.count]\ntime = 4\n");
    let file = path.to_str().unwrap();
    let (code, out, err) = told(&["count", "Cargo.toml", "--config", file]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(
        err,
        format!("words: cannot use {file}: `words.count` has no argument `time`\n")
    );
    std::fs::remove_file(path).unwrap();
}
