//! Rows that end and begin one by one, and texts computed as a tree: the same bits as one by one.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

use model::{Branch, DType, Device, Generated, Model, Sampling, Stops};
use std::path::Path;

fn load(name: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    Model::load(&folder.join(name), &Device::Cpu, DType::F32).unwrap()
}

/// Prompts of unequal lengths behind `shared` tokens; the third comes twice.
fn prompts(shared: u32) -> Vec<Vec<u32>> {
    let token = |row: u32, i: u32| (row * 17 + i * i * 5 + 3) % 60;
    let prompt = |row: u32, n: u32| -> Vec<u32> {
        let begin = (0..shared).map(|i| (i * 7 + 1) % 60);
        begin.chain((0..n).map(|i| token(row, i))).collect()
    };
    let mut all: Vec<Vec<u32>> = [3, 41, 1, 18, 9, 70]
        .iter()
        .zip(0..)
        .map(|(&n, row)| prompt(row, n))
        .collect();
    all.push(all[2].clone());
    all
}

fn queued(model: &Model, prompts: &[Vec<u32>], n: usize, rows: usize) -> Vec<Generated> {
    let (streams, sampling, stops) = settings(prompts, n);
    let found = model.generate_queued(prompts, &streams, &sampling, stops, rows);

    found.unwrap()
}

fn settings(prompts: &[Vec<u32>], n: usize) -> (Vec<u64>, Sampling, Stops<'static>) {
    let sampling = Sampling {
        temperature: 0.9,
        seed: 7,
        ..Sampling::greedy(n)
    };
    let stops = Stops {
        ids: &[5, 6, 7],
        texts: None,
    };
    ((0..prompts.len() as u64).collect(), sampling, stops)
}

#[test]
fn a_text_is_the_same_whoever_ends_beside_it() {
    for (name, shared) in [
        ("qwen2", 0),
        ("qwen2", 20),
        ("mistral-window", 30),
        ("gemma2", 12),
        ("phi3-longrope", 9),
        ("llama-dynamic", 9),
    ] {
        let model = load(name);
        let (mut prompts, mut n) = (prompts(shared), 90);
        if let Some(limit) = model.config.position_limit().filter(|limit| *limit < 200) {
            n = limit - 40;
            prompts.retain(|prompt| prompt.len() <= 40);
        }
        let (streams, sampling, stops) = settings(&prompts, n);
        let together = model
            .generate_until(&prompts, &streams, &sampling, stops, &mut ())
            .unwrap();
        let lengths: Vec<usize> = together.iter().map(|text| text.tokens.len()).collect();
        assert!(lengths.iter().max() > lengths.iter().min(), "{lengths:?}");
        for rows in [1, 2, 3, 64] {
            assert_eq!(queued(&model, &prompts, n, rows), together, "{name} {rows}");
        }
    }
}

#[test]
fn no_token_and_no_prompt_are_possible() {
    let model = load("qwen2");
    assert!(queued(&model, &[], 3, 2).is_empty());
    let nothing = queued(&model, &prompts(0), 0, 2);
    assert!(nothing.iter().all(|text| text.tokens.is_empty()));
    let one = queued(&model, &prompts(0), 1, 2);
    assert!(one.iter().all(|text| text.tokens.len() == 1));
    let (streams, sampling, stops) = settings(&prompts(0), 1);
    let refused = model.generate_queued(&prompts(0), &streams, &sampling, stops, 0);
    assert!(refused.is_err());
}

/// Contexts of unequal lengths with continuations that share some of their tokens, or all, or have none.
fn branches() -> Vec<Branch> {
    let branch = |context: &[u32], continuations: &[&[u32]]| Branch {
        context: context.to_vec(),
        continuations: continuations.iter().map(|tokens| tokens.to_vec()).collect(),
    };
    vec![
        branch(&[2, 6, 5, 3], &[&[1, 2, 3], &[1, 2, 4], &[9], &[]]),
        branch(&[7], &[&[1, 2, 3], &[8, 8, 8, 8, 8, 8, 8]]),
        branch(&[4, 4, 4, 4, 4, 4, 4, 4, 4], &[]),
        branch(&[3, 5, 8, 9, 7, 9], &[&[11, 12], &[11, 12]]),
    ]
}

#[test]
fn a_tree_scores_as_its_texts_do_one_by_one() {
    for name in ["qwen2", "mistral-window", "gemma2"] {
        let model = load(name);
        for prefix in [&[][..], &[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]] {
            let scored = model.branch_logprobs(prefix, &branches()).unwrap();
            for (branch, scored) in branches().iter().zip(scored) {
                let context = [prefix, &branch.context].concat();
                let alone = model
                    .continuation_logprobs(&context, &branch.continuations, &mut ())
                    .unwrap();
                assert_eq!(scored, alone, "{name} {:?}", branch.context);
            }
        }
    }
}

#[test]
fn where_rotation_changes_with_the_length_texts_share_nothing() {
    for name in ["llama-dynamic", "phi3-longrope"] {
        let model = load(name);
        let prefix = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5];
        let scored = model.branch_logprobs(&prefix, &branches()).unwrap();
        for (branch, scored) in branches().iter().zip(scored) {
            let before = prefix.len() + branch.context.len();
            for (tokens, scored) in branch.continuations.iter().zip(scored) {
                // What is read ends before the last token: its rotation is that of this length.
                let Some((_, read)) = tokens.split_last() else {
                    continue;
                };
                let text = [&prefix[..], &branch.context, read].concat();
                let whole = model.logprobs(&[text], 0, &mut ()).unwrap();
                let n = read.len();
                assert_eq!(
                    scored.logprobs[..n],
                    whole[0][before - 1..],
                    "{name} {tokens:?}"
                );
            }
        }
    }
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let model = load("qwen2");
    let mut branches = branches();
    branches[1].continuations[0][2] = 1_000_000;
    let message = model.branch_logprobs(&[], &branches).unwrap_err();
    assert!(message.to_string().contains("1000000"), "{message}");
    branches[0].context.clear();
    assert!(model.branch_logprobs(&[1, 2], &branches).is_err());
}
