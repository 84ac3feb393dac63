//! Logits, residuals and greedy continuations of `transformers` on small random models of every architecture.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

mod common;

use candle_core::{DType, Tensor};
use common::{ARCHITECTURES, LENGTH_DEPENDENT, PADDING, load, rows, tensors, worst};
use model::{Batch, Hook, Recorder, Sampling, Site};

/// How far this crate is from `transformers` on one model.
#[derive(Debug, Clone, Copy)]
struct Distance {
    logits: f64,
    resid: f64,
}

impl Distance {
    fn worst(self) -> f64 {
        self.logits.max(self.resid)
    }
}

/// Both forms of every operator: `kernels` in f32, plain candle in f64.
fn distance(name: &str, dtype: DType, padded: bool) -> Distance {
    let (model, expected) = (load(name, dtype), tensors(name, "expected.safetensors"));
    let ids = rows(&expected);
    let batch = if padded {
        Batch::left_padded(&[ids[0].clone(), ids[1][PADDING..].to_vec()], 0)
    } else {
        Batch::right_padded(&ids, 0)
    };
    let hooks = (0..model.config.n_layers).map(|layer| Hook::new(Site::ResidPost, layer));
    let mut recorder = Recorder::new(hooks.chain([Hook::new(Site::Embed, 0)]));
    let logits = model.forward(&batch, &mut recorder).unwrap();
    let real = |x: &Tensor| x.get(1).unwrap().narrow(0, PADDING, 14 - PADDING).unwrap();
    let compare = |ours: &Tensor, plain: &str, padded_row: &str| {
        if padded {
            worst(&real(ours), &expected[padded_row])
        } else {
            worst(ours, &expected[plain])
        }
    };
    let mut resid = 0f64;
    for (hook, ours) in &recorder.activations {
        if hook.site == Site::ResidPost {
            let padded_row = format!("padded_resid_post_row1.{}", hook.layer);
            resid = resid.max(compare(ours, &hook.to_string(), &padded_row));
        } else if !padded {
            resid = resid.max(worst(ours, &expected["embed_out"]));
        }
    }
    Distance {
        logits: compare(&logits, "logits", "padded_logits_row1"),
        resid,
    }
}

/// Row 0 continued as `transformers` does, with a shorter row beside it: padding and cache are at work together.
fn continues_greedily(name: &str) -> bool {
    let (model, expected) = (
        load(name, DType::F32),
        tensors(name, "expected.safetensors"),
    );
    let ids = rows(&expected);
    let prompts = [ids[0].clone(), ids[1][PADDING..].to_vec()];
    let out = model.generate(&prompts, &[0, 1], &Sampling::greedy(12), &[], &mut ());
    out.unwrap()[0].tokens == greedy(name)
}

/// The last 12 tokens of the golden continuation.
fn greedy(name: &str) -> Vec<u32> {
    let expected = tensors(name, "expected.safetensors");
    let greedy = expected["greedy"].to_dtype(DType::I64).unwrap();
    let greedy: Vec<i64> = greedy.flatten_all().unwrap().to_vec1().unwrap();
    let continued = &greedy[greedy.len() - 12..];
    continued.iter().map(|id| *id as u32).collect()
}

#[test]
fn logits_and_residuals_are_those_of_transformers() {
    println!(
        "| model | max abs Δlogit | max abs Δresid | Δlogit, left-padded | Δresid, left-padded | greedy |"
    );
    println!("|---|---|---|---|---|---|");
    for name in ARCHITECTURES {
        let [plain, padded] = [false, true].map(|padded| distance(name, DType::F32, padded));
        let same = if continues_greedily(name) {
            "equal"
        } else {
            "differs"
        };
        println!(
            "| {name} | {:.1e} | {:.1e} | {:.1e} | {:.1e} | {same} |",
            plain.logits, plain.resid, padded.logits, padded.resid
        );
        let worst = plain.worst().max(padded.worst());
        assert!(
            worst < 1e-4 && same == "equal",
            "{name} differs by {worst}, greedy {same}"
        );
    }
}

#[test]
fn the_plain_form_of_every_operator_agrees_as_well() {
    for name in ARCHITECTURES {
        for padded in [false, true] {
            let worst = distance(name, DType::F64, padded).worst();
            assert!(worst < 1e-4, "{name} differs by {worst}, padded: {padded}");
        }
    }
}

#[test]
fn right_padding_changes_nothing_for_the_real_tokens() {
    for name in ARCHITECTURES
        .iter()
        .filter(|name| !LENGTH_DEPENDENT.contains(name))
    {
        let (model, expected) = (
            load(name, DType::F32),
            tensors(name, "expected.safetensors"),
        );
        let ids = rows(&expected);
        let batch = Batch::right_padded(&[ids[0].clone(), ids[1][..9].to_vec()], 0);
        let logits = model.forward(&batch, &mut ()).unwrap();
        let real = |x: &Tensor| x.get(1).unwrap().narrow(0, 0, 9).unwrap();
        let worst = worst(&real(&logits), &real(&expected["logits"]));
        assert!(worst < 1e-4, "{name} differs by {worst}");
    }
}

#[test]
fn a_row_continues_alike_whatever_stands_beside_it() {
    for name in ARCHITECTURES {
        let (model, expected) = (
            load(name, DType::F32),
            tensors(name, "expected.safetensors"),
        );
        let ids = rows(&expected);
        let prompts = [ids[0].clone(), ids[1][PADDING..].to_vec()];
        let generate = |prompts: &[Vec<u32>], streams: &[u64]| {
            let out = model.generate(prompts, streams, &Sampling::greedy(12), &[], &mut ());
            out.unwrap()
        };
        let (both, alone) = (generate(&prompts, &[0, 1]), generate(&prompts[1..], &[1]));
        assert_eq!(both[1].tokens, alone[0].tokens, "{name}");
        if LENGTH_DEPENDENT.contains(&name) {
            continue;
        }
        let whole = [[prompts[0].clone(), both[0].tokens.clone()].concat()];
        let again = model.logprobs(&whole, 0, &mut ()).unwrap();
        for (step, logprob) in both[0].logprobs.iter().enumerate() {
            let again = again[0][prompts[0].len() - 1 + step];
            assert!(
                (logprob - again).abs() < 1e-4,
                "{name}: the cache changes step {step}"
            );
        }
    }
}
