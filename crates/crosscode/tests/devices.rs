//! Training by plain tensors, as on a GPU: through the same trainer, checkpoints and curves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{fail, succeed, workplace};
use std::path::Path;
use store::read_table;
use store::tables::CrosscoderStep;

const TRAIN: &str = "-q train acts.safetensors --features 48 --k 3 --batch 64 --tokens 4k --lr 3e-3 --dead-after 500";

fn losses(path: &Path) -> Vec<f64> {
    let steps: Vec<CrosscoderStep> = read_table(&[path.to_owned()]).unwrap();
    steps.iter().map(|step| step.loss).collect()
}

#[test]
fn every_rule_on_plain_tensors_follows_the_kernels() {
    let (directory, _) = workplace(2000);
    let at = directory.path();
    let rules = [
        "l1 --sparsity 0.1",
        "topk",
        "batch-topk --partition base=4,sft=4,tied=25%",
        "jumprelu --bandwidth 0.1",
        "matryoshka --k-start 9",
    ];
    for rule in rules {
        for device in ["cpu", "plain"] {
            succeed(
                at,
                &format!("{TRAIN} --rule {rule} --device {device} -o {device}.safetensors"),
            );
        }
        let [kernels, plain] =
            ["cpu", "plain"].map(|name| losses(&at.join(format!("{name}.curve.parquet"))));
        assert_eq!((kernels.len(), plain.len()), (63, 63));
        // A gate of jumprelu within rounding of its threshold opens or closes with the last bit: here one does at step 47.
        let steps = if rule.starts_with("jumprelu") { 40 } else { 63 };
        for (step, (a, b)) in kernels.iter().zip(&plain).take(steps).enumerate() {
            let step = step + 1;
            assert!(
                (a - b).abs() < 1e-3 * a.abs(),
                "{rule}, step {step}: {a}, not {b}"
            );
        }
        assert!(plain[62] < 0.9 * plain[0], "{rule}: {plain:?}");
        for name in ["cpu", "plain"] {
            std::fs::remove_file(at.join(format!("{name}.safetensors"))).unwrap();
        }
    }
}

#[test]
fn what_a_device_does_not_have_is_named() {
    let (directory, _) = workplace(200);
    let at = directory.path();
    let (code, message) = fail(
        at,
        &format!("{TRAIN} --device plain --precision bf16 -o d.safetensors"),
    );
    assert!(
        code == 2 && message.contains("bf16 are for the CPU's kernels"),
        "{message}"
    );
    let (code, message) = fail(at, &format!("{TRAIN} --device gpu -o d.safetensors"));
    assert!(
        code == 2 && message.contains("`gpu` is not a device"),
        "{message}"
    );
    if !cfg!(feature = "cuda") {
        let (code, message) = fail(at, &format!("{TRAIN} --device cuda -o d.safetensors"));
        assert!(
            code == 1 && message.contains("cannot use device cuda:0"),
            "{message}"
        );
    }
}
