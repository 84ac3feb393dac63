//! The reverse pass against finite differences, its own identities, and the kernels' form of itself.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

mod common;

use candle_core::{DType, Tensor};
use common::{ARCHITECTURES, load, values};
use model::loss::Scored;
use model::{Batch, GradientTap, Gradients, Hook, Model, Recorder, Site, Tap, Target, nll};
use std::collections::BTreeMap;

fn batch() -> Batch {
    Batch::left_padded(&[vec![3, 7, 1, 9, 4, 4, 2, 90], vec![5, 6, 8, 70, 11]], 0)
}

fn scored() -> Vec<Scored> {
    let one = |row, position, token, weight| Scored {
        row,
        position,
        token,
        weight,
    };
    vec![
        one(0, 7, 17, 0.7),
        one(0, 3, 4, 0.2),
        one(1, 7, 3, 1.0),
        one(1, 5, 96, -0.4),
    ]
}

fn loss(model: &Model, tap: &mut dyn Tap) -> f64 {
    nll(&model.forward(&batch(), tap).unwrap(), &scored())
        .unwrap()
        .total
}

#[derive(Default)]
struct Collect(BTreeMap<Target, Tensor>);

impl GradientTap for Collect {
    fn wants(&self, _: Target) -> bool {
        true
    }
    fn gradient(&mut self, target: Target, gradient: Tensor) -> model::Result<()> {
        self.0.insert(target, gradient);
        Ok(())
    }
}

fn backward(model: &Model) -> (Tensor, Collect, Gradients) {
    let (logits, trace) = model.forward_trace(&batch(), &mut ()).unwrap();
    let loss = nll(&logits, &scored()).unwrap();
    let (mut taps, mut gradients) = (Collect::default(), Gradients::default());
    let d_embed = model
        .backward(&trace, &loss.d_logits, &mut taps, Some(&mut gradients))
        .unwrap();
    (d_embed, taps, gradients)
}

/// Adds a number to one value of one activation.
struct Nudge {
    hook: Hook,
    at: usize,
    by: f64,
}

impl Tap for Nudge {
    fn wants(&self, hook: Hook) -> bool {
        hook == self.hook
    }
    fn tap(&mut self, _: Hook, activation: Tensor) -> model::Result<Tensor> {
        let mut moved = values(&activation);
        moved[self.at] += self.by;
        Ok(Tensor::from_vec(
            moved,
            activation.dims(),
            activation.device(),
        )?)
    }
}

#[test]
fn the_gradient_by_the_embedding_is_the_slope() {
    for name in ARCHITECTURES {
        let model = load(name, DType::F64);
        let gradient = values(&backward(&model).0);
        let d_model = model.config.d_model;
        for at in [3 * d_model + 5, 5 * d_model, 9 * d_model + 31, 13 * d_model + 20] {
            let hook = Hook::new(Site::Embed, 0);
            let slope = [1e-5, -1e-5].map(|by| loss(&model, &mut Nudge { hook, at, by }));
            let slope = (slope[0] - slope[1]) / 2e-5;
            assert!(
                (slope - gradient[at]).abs() < 1e-6 * (1.0 + slope.abs()),
                "{name}: {slope} {}",
                gradient[at]
            );
        }
    }
}

#[test]
fn the_gradient_by_every_weight_is_the_slope() {
    for name in ARCHITECTURES {
        let mut model = load(name, DType::F64);
        let gradients = backward(&model).2;
        let names: Vec<String> = model
            .parameters()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        for weight in names {
            let gradient = values(
                gradients
                    .get(&weight)
                    .unwrap_or_else(|| panic!("{name}: no gradient of {weight}")),
            );
            let at = gradient
                .iter()
                .enumerate()
                .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))
                .unwrap()
                .0;
            let slope = [1e-5, -1e-5].map(|by| {
                let before = nudge(&mut model, &weight, at, by);
                let moved = loss(&model, &mut ());
                restore(&mut model, &weight, before);
                moved
            });
            let slope = (slope[0] - slope[1]) / 2e-5;
            assert!(
                (slope - gradient[at]).abs() < 1e-5 * (1.0 + slope.abs()),
                "{name} {weight}: {slope} {}",
                gradient[at]
            );
        }
    }
}

fn nudge(model: &mut Model, name: &str, at: usize, by: f64) -> Tensor {
    let parameters = model.parameters_mut();
    let (_, tensor) = parameters
        .into_iter()
        .find(|(known, _)| known == name)
        .unwrap();
    let before = tensor.clone();
    let mut moved = values(&before);
    moved[at] += by;
    *tensor = Tensor::from_vec(moved, before.dims(), before.device()).unwrap();
    before
}

fn restore(model: &mut Model, name: &str, before: Tensor) {
    *model
        .parameters_mut()
        .into_iter()
        .find(|(known, _)| known == name)
        .unwrap()
        .1 = before;
}

#[test]
fn the_kernels_agree_with_the_plain_operators() {
    for name in ARCHITECTURES {
        let (exact, fast) = (
            backward(&load(name, DType::F64)),
            backward(&load(name, DType::F32)),
        );
        let compare = |what: String, a: &Tensor, b: &Tensor| {
            let (a, b) = (values(a), values(b));
            let scale = a.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
            let error = a
                .iter()
                .zip(&b)
                .fold(0f64, |m, (x, y)| m.max((x - y).abs()));
            assert!(error < 1e-4 * scale, "{name} {what}: {error} of {scale}");
        };
        compare("embed".into(), &exact.0, &fast.0);
        for (target, gradient) in &exact.1.0 {
            compare(format!("{target:?}"), gradient, &fast.1.0[target]);
        }
        for (weight, gradient) in exact.2.iter() {
            compare(weight.clone(), gradient, fast.2.get(weight).unwrap());
        }
    }
}

#[test]
fn zero_ablating_every_source_of_a_target_changes_nothing_to_first_order() {
    // RMSNorm does not see the length of its input, so ⟨residual, gradient⟩ ≈ 0 at every target before its norm.
    let model = load("llama3", DType::F64);
    let (_, taps, _) = backward(&model);
    let mut recorder = Recorder::new((0..3).map(|layer| Hook::new(Site::ResidPre, layer)));
    model.forward(&batch(), &mut recorder).unwrap();
    for layer in 0..3 {
        let x = &recorder.activations[&Hook::new(Site::ResidPre, layer)];
        let product: f64 = values(&(x * &taps.0[&Target::Q(layer)]).unwrap())
            .iter()
            .sum();
        let size: f64 = values(&taps.0[&Target::Q(layer)])
            .iter()
            .map(|g| g.abs())
            .sum();
        assert!(
            product.abs() < 1e-3 * size.max(1e-6),
            "layer {layer}: {product} of {size}"
        );
    }
}
