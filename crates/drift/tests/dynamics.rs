//! Checkpoints whose specific features are known.

mod common;

use common::{N, dictionary, fail, save, succeed, write_acts};
use store::read_table;
use store::tables::Dynamics;

/// Rows of base, a teacher if there is one, and three checkpoints that raise two coordinates each: (0, 1), (1, 2), (1, 2).
fn rows(teacher: bool) -> Vec<f32> {
    let mut values = Vec::new();
    for row in 0..512 {
        let mut base = [0.0; N];
        base[3 + row % 3] = 1.0;
        values.extend(base);
        if teacher {
            values.extend([2.0; N]);
        }
        for raised in [[0, 1], [1, 2], [1, 2]] {
            let mut checkpoint = base;
            for place in raised {
                checkpoint[place] += 0.5 + (row % 7) as f32 * 0.1;
            }
            values.extend(checkpoint);
        }
    }
    values
}

#[test]
fn two_models_share_the_swapped_input() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    save(&dictionary(&["base", "sft"]), at);
    write_acts(
        &at.join("sft.safetensors"),
        "base,sft-1,sft-2,sft-3",
        "resid_post.1",
        rows(false),
    );
    let line = "-q dynamics dict.safetensors --series sft=sft.safetensors --top 2 --draws 50 -o dynamics.parquet";
    let shown = succeed(at, line);
    assert_eq!(shown.lines().count(), 4, "{shown}");
    let rows: Vec<Dynamics> = read_table(&[at.join("dynamics.parquet")]).unwrap();
    let pairs: Vec<(u32, u32)> = rows.iter().map(|row| (row.from, row.to)).collect();
    assert_eq!(pairs, [(1, 2), (1, 3), (2, 3)]);
    assert_eq!(
        rows.iter().map(|row| row.overlap).collect::<Vec<_>>(),
        [0.5, 0.5, 1.0]
    );
    assert!((rows[0].jaccard - 1.0 / 3.0).abs() < 1e-9);
    assert!((rows[0].overlap_null - 2.0 / 6.0).abs() < 1e-9);
    for row in &rows {
        assert!(
            row.explained_variance_from > 0.999 && row.explained_variance_to > 0.999,
            "{row:?}"
        );
        assert!(
            row.overlap_low <= row.overlap && row.overlap <= row.overlap_high,
            "{row:?}"
        );
        assert!((row.code_shift - 1.6).abs() < 0.01, "{row:?}");
    }
}

#[test]
fn the_teacher_keeps_its_slot_and_cancels() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    save(&dictionary(&["base", "sft", "rl"]), at);
    write_acts(
        &at.join("sft.safetensors"),
        "base,rl,1,2,3",
        "resid_post.1",
        rows(true),
    );
    succeed(
        at,
        "-q dynamics dict.safetensors --series sft=sft.safetensors --top 2 --draws 50 -o dynamics.parquet",
    );
    let rows: Vec<Dynamics> = read_table(&[at.join("dynamics.parquet")]).unwrap();
    assert_eq!(
        rows.iter().map(|row| row.overlap).collect::<Vec<_>>(),
        [0.5, 0.5, 1.0]
    );
    // The teacher's part of the code moves the reconstruction away from what the student slots were given, and says so.
    assert!(rows.iter().all(|row| row.explained_variance_from < 0.9));
}

#[test]
fn a_training_that_changes_nothing_has_no_specific_features() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    save(&dictionary(&["base", "sft"]), at);
    let same: Vec<f32> = (0..256)
        .flat_map(|row| [[(row % 5) as f32; N]; 3].concat())
        .collect();
    write_acts(
        &at.join("sft.safetensors"),
        "base,1,2",
        "resid_post.1",
        same,
    );
    succeed(
        at,
        "-q dynamics dict.safetensors --series sft=sft.safetensors --draws 50 -o dynamics.parquet",
    );
    let rows: Vec<Dynamics> = read_table(&[at.join("dynamics.parquet")]).unwrap();
    assert_eq!(
        (rows[0].overlap, rows[0].jaccard, rows[0].code_shift),
        (0.0, 0.0, 0.0)
    );
}

#[test]
fn a_series_of_another_hook_is_refused_with_both_files_named() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    save(&dictionary(&["base", "sft"]), at);
    write_acts(
        &at.join("sft.safetensors"),
        "base,1,2",
        "resid_post.0",
        vec![1.0; 6 * N],
    );
    let (code, message) = fail(
        at,
        "dynamics dict.safetensors --series sft=sft.safetensors -o dynamics.parquet",
    );
    assert_eq!(code, 1);
    assert!(
        message.contains("cannot use dict.safetensors with sft.safetensors: hook is resid_post.1"),
        "{message}"
    );
}

#[test]
fn the_same_run_gives_the_same_bytes_on_any_number_of_threads() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    save(&dictionary(&["base", "sft"]), at);
    write_acts(
        &at.join("sft.safetensors"),
        "base,1,2,3",
        "resid_post.1",
        rows(false),
    );
    for (threads, name) in [(1, "a"), (3, "b")] {
        let line = format!(
            "-q --threads {threads} dynamics dict.safetensors --series sft=sft.safetensors --draws 50 -o {name}.parquet"
        );
        succeed(at, &line);
        let line =
            format!("-q --threads {threads} features dict.safetensors -o {name}-features.parquet");
        succeed(at, &line);
    }
    let read = |name: &str| std::fs::read(at.join(name)).unwrap();
    assert!(
        read("a.parquet") == read("b.parquet")
            && read("a-features.parquet") == read("b-features.parquet")
    );
}
