//! A file exists whole or not at all, whatever happens to its writer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{directory, line, names};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;
use store::write_atomic;

#[test]
fn the_new_content_replaces_the_old_and_nothing_else_stays() {
    let dir = directory();
    let path = dir.path().join("a.txt");
    for text in ["old", "new"] {
        write_atomic(&path, |file| file.write_all(text.as_bytes())).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    assert_eq!(names(dir.path()), ["a.txt"]);
}

#[test]
fn a_failure_leaves_the_old_file_and_no_trace() {
    let dir = directory();
    let path = dir.path().join("a.txt");
    fs::write(&path, "old").unwrap();
    let full = write_atomic(&path, |file| {
        file.write_all(b"half of the new")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    });
    assert!(line(full, &path).starts_with("cannot write"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(dir.path()), ["a.txt"]);
}

#[test]
fn a_missing_directory_is_named() {
    let path = directory().path().join("nowhere/a.txt");
    let result = write_atomic(&path, |_| panic!("there is nothing to write to"));
    assert!(line(result, &path).ends_with("No such file or directory (os error 2)"));
}

#[test]
fn a_full_device_is_an_error() {
    let path = Path::new("/dev/full");
    let result = write_atomic(path, |file| file.write_all(b"x"));
    assert!(line(result, path).contains("No space left"));
}

#[test]
fn a_device_is_written_to_and_never_replaced() {
    write_atomic(Path::new("/dev/null"), |file| file.write_all(b"x")).unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn a_link_stays_a_link() {
    let dir = directory();
    let (link, target) = (dir.path().join("link"), dir.path().join("target"));
    fs::write(&target, "old").unwrap();
    symlink(&target, &link).unwrap();
    write_atomic(&link, |file| file.write_all(b"new")).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap(), "new");
}

#[test]
fn two_writers_of_one_file_do_not_mix() {
    let dir = directory();
    let path = dir.path().join("a.txt");
    let write = |letter: u8| {
        let path = path.clone();
        thread::spawn(move || {
            for _ in 0..50 {
                write_atomic(&path, |file| {
                    (0..64).try_for_each(|_| file.write_all(&[letter; 1024]))
                })
                .unwrap();
            }
        })
    };
    let writers = [write(b'a'), write(b'b')];
    while !writers.iter().all(thread::JoinHandle::is_finished) {
        let Ok(found) = fs::read(&path) else { continue };
        assert_eq!(found.len(), 64 * 1024);
        assert!(found.iter().all(|byte| *byte == found[0]));
    }
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(names(dir.path()), ["a.txt"]);
}

/// What the children of the tests below do: write slowly what the environment asks for.
#[test]
fn child() {
    let Some(path) = std::env::var_os("STORE_TEST_WRITE") else {
        return;
    };
    let n: usize = std::env::var("STORE_TEST_CHUNKS").unwrap().parse().unwrap();
    let slow = std::env::var_os("STORE_TEST_SLOW").is_some();
    let result = write_atomic(&PathBuf::from(path), |file| {
        for _ in 0..n {
            file.write_all(&[b'x'; 1024])?;
            if slow {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    });
    result.unwrap();
}

/// A child that writes `chunks` KiB to `path`, started by `shell` (which ends in `exec "$0" "$@"`).
fn writer(path: &Path, chunks: usize, shell: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", shell])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child"])
        .env("STORE_TEST_WRITE", path)
        .env("STORE_TEST_CHUNKS", chunks.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    command
}

#[test]
fn the_umask_decides_the_mode() {
    let dir = directory();
    for (umask, mode) in [
        ("022", 0o644),
        ("027", 0o640),
        ("002", 0o664),
        ("077", 0o600),
    ] {
        let path = dir.path().join(umask);
        let status = writer(&path, 1, &format!("umask {umask}; exec \"$0\" \"$@\"")).status();
        assert!(status.unwrap().success());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            mode
        );
    }
}

#[test]
fn a_writer_killed_midway_leaves_no_half_file() {
    let dir = directory();
    let path = dir.path().join("a.bin");
    for wait in [5, 50, 200] {
        let mut child: Child = writer(&path, 100_000, "exec \"$0\" \"$@\"")
            .env("STORE_TEST_SLOW", "1")
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!path.exists());
    }
}

#[test]
fn a_file_too_large_for_the_disk_leaves_the_old_one() {
    let dir = directory();
    let path = dir.path().join("a.bin");
    fs::write(&path, "old").unwrap();
    let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    assert!(!writer(&path, 100, limited).status().unwrap().success());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(dir.path()), ["a.bin"]);
}
