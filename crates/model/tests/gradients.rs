//! The reverse pass against finite differences, its own identities, and the kernels' form of itself.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{ARCHITECTURES, directory, load, rows, tensors, values, worst};
use model::config::Norms;
use model::loss::Scored;
use model::{
    Batch, GradientTap, Gradients, Hook, Loading, Model, Precision, Recorder, Site, Tap, Target,
    nll,
};
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

/// ‖a − b‖/‖b‖ of all the tensors together.
fn distance<'a>(pairs: impl Iterator<Item = (&'a Tensor, &'a Tensor)>) -> f64 {
    let (mut difference, mut size) = (0.0, 0.0);
    for (ours, wanted) in pairs {
        for (a, b) in values(ours).iter().zip(values(wanted)) {
            difference += (a - b).powi(2);
            size += b * b;
        }
    }
    (difference / size).sqrt()
}

#[test]
fn rounding_moves_the_gradients_a_little() {
    for name in ARCHITECTURES {
        let (exact, _, exact_weights) = backward(&load(name, DType::F64));
        let rounding = Loading {
            precision: Precision::Bf16,
            ..Loading::new(DType::F32)
        };
        let model = Model::load_with(&directory(name), &Device::Cpu, rounding).unwrap();
        let (rounded, _, weights) = backward(&model);
        let by_weights = exact_weights.iter();
        let by_weights = by_weights.map(|(name, wanted)| (weights.get(name).unwrap(), wanted));
        let embedding = distance([(&rounded, &exact)].into_iter());
        for off in [embedding, distance(by_weights)] {
            assert!(off > 1e-5 && off < 0.07, "{name}: {off}");
        }
    }
}

#[test]
fn the_gradient_by_the_embedding_is_the_slope() {
    for name in ARCHITECTURES {
        let model = load(name, DType::F64);
        let gradient = values(&backward(&model).0);
        let d_model = model.config.d_model;
        for at in [
            3 * d_model + 5,
            5 * d_model,
            9 * d_model + 31,
            13 * d_model + 20,
        ] {
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

/// The loss of `golden/make.py`: row, position, token modulo the vocabulary, weight.
const LOSS: [(usize, usize, usize, f64); 4] = [
    (0, 13, 17, 0.7),
    (0, 3, 4, 0.2),
    (1, 12, 3, 1.0),
    (1, 5, 90, -0.4),
];

/// Gradients of that loss by the embeddings, at every target and by every weight.
fn reference_backward(name: &str, dtype: DType) -> (Tensor, Collect, Gradients) {
    let model = load(name, dtype);
    let batch = Batch::right_padded(&rows(&tensors(name, "expected.safetensors")), 0);
    let scored = LOSS.map(|(row, position, token, weight)| Scored {
        row,
        position,
        token: (token % model.config.vocab) as u32,
        weight,
    });
    let (logits, trace) = model.forward_trace(&batch, &mut ()).unwrap();
    let d_logits = nll(&logits, &scored).unwrap().d_logits;
    let (mut taps, mut gradients) = (Collect::default(), Gradients::default());
    let d_embed = model.backward(&trace, &d_logits, &mut taps, Some(&mut gradients));
    (d_embed.unwrap(), taps, gradients)
}

/// Largest difference as a share of the largest value.
fn relative(ours: &Tensor, wanted: &Tensor) -> f64 {
    let largest = values(wanted).iter().fold(1e-6f64, |m, x| m.max(x.abs()));
    worst(ours, wanted) / largest
}

/// The gradient of a weight as the file has it: parts that are stored joined are joined.
fn stored_gradient(gradients: &Gradients, weight: &str) -> Tensor {
    let parts = [
        ("qkv_proj", &["q_proj", "k_proj", "v_proj"][..]),
        ("gate_up_proj", &["gate_proj", "up_proj"]),
    ];
    let Some((whole, parts)) = parts.iter().find(|(whole, _)| weight.contains(whole)) else {
        return gradients
            .get(weight)
            .unwrap_or_else(|| panic!("no gradient of {weight}"))
            .clone();
    };
    let parts = parts
        .iter()
        .map(|part| gradients.get(&weight.replace(whole, part)).unwrap());
    Tensor::cat(&parts.collect::<Vec<_>>(), 0).unwrap()
}

#[test]
fn the_gradients_are_those_of_pytorch() {
    println!(
        "| model | Δ∂/∂embeddings | Δ∂/∂residuals | Δ∂/∂weights | (shares of the largest value)"
    );
    println!("|---|---|---|---|");
    for name in ARCHITECTURES {
        let reference = tensors(name, "reference.safetensors");
        let (d_embed, taps, gradients) = reference_backward(name, DType::F32);
        let embed = relative(&d_embed, &reference["grad.resid_pre.0"]);
        // From the end back: every target's gradient joins that of the stream.
        let (mut resid, mut worst_resid) = (taps.0[&Target::Logits].clone(), 0f64);
        for layer in (0..load(name, DType::F32).config.n_layers).rev() {
            for target in [
                Target::Mlp(layer),
                Target::Q(layer),
                Target::K(layer),
                Target::V(layer),
            ] {
                resid = (resid + &taps.0[&target]).unwrap();
            }
            let wanted = &reference[&format!("grad.resid_pre.{layer}")];
            worst_resid = worst_resid.max(relative(&resid, wanted));
        }
        let weights = reference.iter().filter_map(|(key, wanted)| {
            let weight = key
                .strip_prefix("grad.")
                .filter(|key| key.ends_with("weight") || key.ends_with("bias"))?;
            Some((
                relative(&stored_gradient(&gradients, weight), wanted),
                weight,
            ))
        });
        let (weights, which) = weights.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        println!("| {name} | {embed:.1e} | {worst_resid:.1e} | {weights:.1e} |");
        let worst = embed.max(worst_resid).max(weights);
        assert!(
            worst < 1e-4,
            "{name}: {worst} (weights {weights} at {which})"
        );
    }
}

#[test]
fn zero_ablating_every_source_of_a_target_changes_nothing_to_first_order() {
    // A norm does not see the length of its input, so ⟨stream, gradient⟩ ≈ 0 wherever a norm reads the stream. OLMo's
    // attention reads it bare, but its queries, its keys and what its values become are normed: that comes to the same.
    // Only its MLP, which is not linear, sees the length.
    for name in ARCHITECTURES {
        let model = load(name, DType::F64);
        let (_, taps, _) = backward(&model);
        let layers = 0..model.config.n_layers;
        let sites = [Site::ResidPre, Site::ResidMid, Site::ResidPost];
        let hooks = layers
            .clone()
            .flat_map(|layer| sites.map(|site| Hook::new(site, layer)));
        let mut recorder = Recorder::new(hooks);
        model.forward(&batch(), &mut recorder).unwrap();
        let share = |target: Target, hook: Hook| {
            let product = (&recorder.activations[&hook] * &taps.0[&target]).unwrap();
            let terms = values(&product);
            terms.iter().sum::<f64>().abs() / terms.iter().map(|term| term.abs()).sum::<f64>()
        };
        let bare = model.config.form.norms == Norms::After;
        for layer in layers {
            let pre = Hook::new(Site::ResidPre, layer);
            for target in [Target::Q(layer), Target::K(layer), Target::V(layer)] {
                let share = share(target, pre);
                assert!(share < 1e-3, "{name} {target:?}: {share}");
            }
            let mlp = share(Target::Mlp(layer), Hook::new(Site::ResidMid, layer));
            assert_eq!(mlp < 1e-3, !bare, "{name} {layer}: {mlp}");
        }
        let end = Hook::new(Site::ResidPost, model.config.n_layers - 1);
        assert!(share(Target::Logits, end) < 1e-3, "{name}");
    }
}

/// What patching reads: moving a source by ε·ΔO at the one target that sees it changes the loss by ε·⟨ΔO, gradient⟩.
#[test]
fn the_gradient_at_a_target_is_the_slope_of_what_is_added_to_the_stream() {
    for name in ARCHITECTURES {
        let model = load(name, DType::F64);
        let (_, taps, _) = backward(&model);
        let last = model.config.n_layers - 1;
        // The last MLP's output is read by the final norm alone; the last attention's output by it and the last MLP.
        let readers = [
            (Site::MlpOut, vec![Target::Logits]),
            (Site::AttnOut, vec![Target::Logits, Target::Mlp(last)]),
        ];
        for (site, targets) in readers {
            let hook = Hook::new(site, last);
            let gradients = targets.iter().map(|target| values(&taps.0[target]));
            let gradient = gradients.reduce(|a, b| a.iter().zip(b).map(|(a, b)| a + b).collect());
            let gradient = gradient.unwrap();
            let largest =
                |(_, a): &(usize, &f64), (_, b): &(usize, &f64)| a.abs().total_cmp(&b.abs());
            let at = gradient.iter().enumerate().max_by(largest).unwrap().0;
            let slope = [1e-5, -1e-5].map(|by| loss(&model, &mut Nudge { hook, at, by }));
            let slope = (slope[0] - slope[1]) / 2e-5;
            assert!(
                (slope - gradient[at]).abs() < 1e-6 * (1.0 + slope.abs()),
                "{name} {hook}: {slope} {}",
                gradient[at]
            );
        }
    }
}
