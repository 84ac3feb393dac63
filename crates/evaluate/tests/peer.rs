//! The same tasks on the same tiny model through `lm_eval` of `PyPI`: equal prompts, hashes, texts and accuracies,
//! log-likelihoods within 1e-4.
//!
//! Needs a Python with `lm_eval`, torch and transformers (`POSTSCOPE_PYTHON`); says so and passes where there is none.

use std::path::Path;
use std::process::Command;

#[test]
fn lm_eval_finds_the_same() {
    let python = std::env::var("POSTSCOPE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_BIN_EXE_evaluate")).parent().unwrap();
    let imported = Command::new(&python)
        .args(["-c", "import lm_eval, torch, transformers"])
        .output();
    if !imported.is_ok_and(|output| output.status.success()) {
        println!("skipped: no Python with lm_eval, torch and transformers (set POSTSCOPE_PYTHON)");
        return;
    }
    let output = Command::new(python)
        .arg(here.join("../../benches/peers/evaluate_lm_eval.py"))
        .args(["check", "--bin"])
        .arg(program)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let cause = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{cause}");
    assert!(said.contains("log-likelihoods within"), "{said}");
}
