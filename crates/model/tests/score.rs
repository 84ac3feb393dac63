//! Log-probabilities of given continuations.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]
use model::{Batch, DType, Device, Hook, Model, Recorder, Site, Tap, Tensor};
use std::path::Path;

fn golden(name: &str, dtype: DType) -> Model {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    Model::load(&directory, &Device::Cpu, dtype).unwrap()
}

const PREFIX: [u32; 6] = [3, 1, 4, 1, 5, 9];

fn continuations() -> Vec<Vec<u32>> {
    vec![
        vec![2, 6, 5],
        vec![35],
        vec![8, 9, 7, 9, 3, 2, 3],
        vec![],
        vec![2, 6],
    ]
}

/// Log-softmax by hand from the logits of the whole text at once.
fn by_definition(model: &Model, prefix: &[u32], continuation: &[u32]) -> (Vec<f64>, bool) {
    let whole = [prefix, continuation].concat();
    let batch = Batch::right_padded(&[whole], 0);
    let logits = model.forward(&batch, &mut ()).unwrap();
    let logits: Vec<Vec<f64>> = logits
        .to_dtype(DType::F64)
        .unwrap()
        .squeeze(0)
        .unwrap()
        .to_vec2()
        .unwrap();
    let mut greedy = true;
    let row = |(index, token): (usize, &u32)| {
        let logits = &logits[prefix.len() - 1 + index];
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        greedy &= logits[*token as usize] >= largest;
        let sum: f64 = logits.iter().map(|x| (x - largest).exp()).sum();
        logits[*token as usize] - largest - sum.ln()
    };
    (continuation.iter().enumerate().map(row).collect(), greedy)
}

#[test]
fn continuations_score_as_whole_texts_do() {
    for (name, dtype) in [
        ("qwen2", DType::F32),
        ("qwen3", DType::F64),
        ("mistral-window", DType::F32),
    ] {
        let model = golden(name, dtype);
        let scored = model
            .continuation_logprobs(&PREFIX, &continuations(), &mut ())
            .unwrap();
        assert_eq!(scored.len(), 5);
        for (ours, tokens) in scored.iter().zip(continuations()) {
            let (wanted, greedy) = by_definition(&model, &PREFIX, &tokens);
            assert_eq!(ours.logprobs.len(), tokens.len());
            for (ours, wanted) in ours.logprobs.iter().zip(&wanted) {
                assert!(
                    (f64::from(*ours) - wanted).abs() < 2e-5,
                    "{name}: {ours} {wanted}"
                );
            }
            assert!((ours.total() - wanted.iter().sum::<f64>()).abs() < 1e-4);
            assert_eq!(ours.greedy, greedy, "{name} {tokens:?}");
        }
    }
}

#[test]
fn what_a_greedy_model_writes_is_greedy() {
    let model = golden("llama3", DType::F32);
    let sampling = model::Sampling::greedy(5);
    let written = model
        .generate(&[PREFIX.to_vec()], &[0], &sampling, &[], &mut ())
        .unwrap();
    let mut other = written[0].tokens.clone();
    other[4] ^= 1;
    let choices = [written[0].tokens.clone(), other];
    let scored = model
        .continuation_logprobs(&PREFIX, &choices, &mut ())
        .unwrap();
    assert!(scored[0].greedy && !scored[1].greedy);
    for (a, b) in scored[0].logprobs.iter().zip(&written[0].logprobs) {
        assert!((a - b).abs() < 1e-5);
    }
}

#[test]
fn scores_are_the_same_whatever_stands_beside_them() {
    let model = golden("qwen2", DType::F32);
    let together = model
        .continuation_logprobs(&PREFIX, &continuations(), &mut ())
        .unwrap();
    for (wanted, tokens) in together.iter().zip(continuations()) {
        let alone = model
            .continuation_logprobs(&PREFIX, &[tokens], &mut ())
            .unwrap();
        assert_eq!(&alone[0], wanted);
    }
}

/// Doubles the logits it sees.
struct Twice;

impl Tap for Twice {
    fn wants(&self, hook: Hook) -> bool {
        hook.site == Site::Logits
    }

    fn tap(&mut self, _: Hook, activation: Tensor) -> model::Result<Tensor> {
        Ok((activation * 2.0)?)
    }
}

#[test]
fn a_tap_on_the_logits_is_heeded() {
    let model = golden("qwen2", DType::F32);
    let plain = model.logprobs(&[PREFIX.to_vec()], 0, &mut ()).unwrap();
    let doubled = model.logprobs(&[PREFIX.to_vec()], 0, &mut Twice).unwrap();
    assert_ne!(plain, doubled);
    let mut recorder = Recorder::new([Hook::new(Site::Logits, 0)]);
    assert_eq!(
        model
            .logprobs(&[PREFIX.to_vec()], 0, &mut recorder)
            .unwrap(),
        plain
    );
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let model = golden("qwen2", DType::F32);
    let refused = |prefix: &[u32], continuation: Vec<u32>| {
        model
            .continuation_logprobs(prefix, &[continuation], &mut ())
            .is_err()
    };
    assert!(refused(&[], vec![1]));
    assert!(refused(&PREFIX, vec![1_000_000]));
    assert!(refused(&[1_000_000], vec![1]));
}
