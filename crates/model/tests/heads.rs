//! Gradients of single heads, the pieces of a block, and the rules of the reverse pass.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

use candle_core::{D, DType, Device, Tensor};
use model::loss::Scored;
use model::{
    Batch, GradientTap, HeadGradients, Hook, KeyGradients, Model, Recorder, Rules, Site, Tap,
    Target, nll,
};
use std::collections::BTreeMap;
use std::path::Path;

const ARCHITECTURES: [&str; 4] = ["qwen2", "qwen3", "llama3", "mistral-window"];

fn load(name: &str) -> Model {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    Model::load(&golden.join(name), &Device::Cpu, DType::F64).unwrap()
}

fn batch() -> Batch {
    Batch::right_padded(&[vec![3, 7, 1, 9, 4, 4, 2, 100], vec![5, 6, 8, 120, 11]], 0)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let largest = |x: &Tensor| {
        let flat = x.abs().unwrap().flatten_all().unwrap();
        flat.max(D::Minus1).unwrap().to_scalar::<f64>().unwrap()
    };
    largest(&(a - b).unwrap()) / largest(b)
}

/// Keeps what it is shown; with `by_head` it asks for heads too.
#[derive(Default)]
struct Collect {
    by_head: bool,
    targets: BTreeMap<Target, Tensor>,
    heads: BTreeMap<usize, HeadGradients>,
}

impl GradientTap for Collect {
    fn wants(&self, _: Target) -> bool {
        true
    }
    fn gradient(&mut self, target: Target, gradient: Tensor) -> model::Result<()> {
        self.targets.insert(target, gradient);
        Ok(())
    }
    fn wants_heads(&self) -> Option<KeyGradients> {
        self.by_head.then_some(KeyGradients::Apart)
    }
    fn heads(&mut self, layer: usize, gradients: HeadGradients) -> model::Result<()> {
        self.heads.insert(layer, gradients);
        Ok(())
    }
}

fn scored() -> Vec<Scored> {
    let one = |row, position, token| Scored {
        row,
        position,
        token,
        weight: 0.5,
    };
    vec![one(0, 7, 17), one(0, 3, 4), one(1, 4, 3)]
}

fn backward(model: &Model, by_head: bool, rules: Rules) -> (Tensor, Collect) {
    let (logits, trace) = model.forward_trace(&batch(), &mut ()).unwrap();
    let loss = nll(&logits, &scored()).unwrap();
    let mut taps = Collect {
        by_head,
        ..Collect::default()
    };
    let trace = trace.with_rules(rules);
    let d_embed = model
        .backward(&trace, &loss.d_logits, &mut taps, None)
        .unwrap();
    (d_embed, taps)
}

/// Gradient by the residual from a head's own: the norm's reverse of W₁ᵀ·δ, summed over the heads.
fn through(delta: &Tensor, weight: &Tensor, gamma: &Tensor, heads: &HeadGradients) -> Tensor {
    let dy = delta.matmul(weight).unwrap();
    model::ops::rms_norm_backward(&dy, &heads.resid, gamma, &heads.scale).unwrap()
}

#[test]
fn the_gradients_of_heads_add_up_to_those_of_their_targets() {
    for name in ARCHITECTURES {
        let model = load(name);
        let (embed, plain) = backward(&model, false, Rules::default());
        let (embed_by_head, taps) = backward(&model, true, Rules::default());
        assert!(distance(&embed_by_head, &embed) < 1e-12, "{name}");
        for (layer, heads) in &taps.heads {
            let weights = model.head_weights(*layer).unwrap();
            let group = model.config.n_heads / model.config.n_kv_heads;
            let d_model = model.config.d_model;
            let wide = |weight: &Tensor| {
                let apart =
                    weight.reshape((model.config.n_kv_heads, 1, model.config.d_head, d_model));
                let shape = (model.config.n_kv_heads, group, model.config.d_head, d_model);
                apart
                    .unwrap()
                    .broadcast_as(shape)
                    .unwrap()
                    .contiguous()
                    .unwrap()
                    .reshape(((), d_model))
                    .unwrap()
            };
            let parts = [
                (&heads.q, weights.q.clone(), Target::Q(*layer)),
                (&heads.k, wide(&weights.k), Target::K(*layer)),
                (&heads.v, wide(&weights.v), Target::V(*layer)),
            ];
            for (delta, weight, target) in parts {
                let found = through(delta, &weight, &weights.norm, heads);
                let expected = plain.targets[&target].reshape(((), d_model)).unwrap();
                assert!(distance(&found, &expected) < 1e-10, "{name} {target:?}");
            }
        }
        assert_eq!(taps.heads.len(), model.config.n_layers);
    }
}

#[test]
fn logits_of_some_positions_have_the_gradient_of_all() {
    let model = load("qwen2");
    let (all, trace) = model.forward_trace(&batch(), &mut ()).unwrap();
    let vocab = model.config.vocab;
    let rows = [7, 3, 8 + 4];
    let (some, trace_at) = model.forward_trace_at(&batch(), &rows, &mut ()).unwrap();
    let all = all.reshape(((), vocab)).unwrap();
    let index = Tensor::new(&rows, &Device::Cpu).unwrap();
    assert!(distance(&some, &all.index_select(&index, 0).unwrap()) < 1e-14);
    let d_some = some.sin().unwrap();
    let d_all = all
        .zeros_like()
        .unwrap()
        .index_add(&index, &d_some, 0)
        .unwrap();
    let from_all = model.backward(&trace, &d_all, &mut (), None).unwrap();
    let from_some = model.backward(&trace_at, &d_some, &mut (), None).unwrap();
    assert!(distance(&from_some, &from_all) < 1e-12);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a block, piece by piece")]
fn the_pieces_of_a_block_are_the_block() {
    for name in ARCHITECTURES {
        let model = load(name);
        let hook = |site| Hook::new(site, 1);
        let sites = [
            Site::ResidPre,
            Site::Z,
            Site::AttnOut,
            Site::ResidMid,
            Site::MlpOut,
            Site::ResidPost,
        ];
        let last = Hook::new(Site::ResidPost, model.config.n_layers - 1);
        let mut seen = Recorder::new(sites.map(hook).into_iter().chain([last]));
        let logits = model.forward(&batch(), &mut seen).unwrap();
        let flat = |hook: Hook| {
            let x = &seen.activations[&hook];
            x.reshape(((), x.dim(D::Minus1).unwrap())).unwrap()
        };
        let at = |site| flat(hook(site));
        let pre = at(Site::ResidPre);
        let apart = |n: usize| {
            let (tokens, d_model) = pre.dims2().unwrap();
            pre.unsqueeze(0)
                .unwrap()
                .broadcast_as((n, tokens, d_model))
                .unwrap()
                .contiguous()
                .unwrap()
        };
        let (n, shared) = (apart(model.config.n_heads), apart(model.config.n_kv_heads));
        for reads in [
            [&pre, &pre, &pre],
            [&n, &n, &pre],
            [&n, &shared, &n],
            [&pre, &shared, &shared],
        ] {
            let z = model.attend(1, reads, &batch()).unwrap();
            assert!(distance(&z, &at(Site::Z)) < 1e-12, "{name}");
        }
        let out = model.attention_out(1, &at(Site::Z)).unwrap();
        assert!(distance(&out, &at(Site::AttnOut)) < 1e-12, "{name}");
        let weights = model.head_weights(1).unwrap();
        let scaled = model.scaled_z(1, &at(Site::Z)).unwrap();
        let mut linear = scaled.matmul(&weights.o.t().unwrap()).unwrap();
        if let Some(gamma) = &weights.after {
            linear = linear.broadcast_mul(gamma).unwrap();
        }
        if !model.config.output_bias {
            assert!(distance(&linear, &at(Site::AttnOut)) < 1e-12, "{name}");
        }
        let mlp = model.mlp_out(1, &at(Site::ResidMid)).unwrap();
        assert!(distance(&mlp, &at(Site::MlpOut)) < 1e-12, "{name}");
        for site in [Site::ResidPre, Site::ResidMid, Site::ResidPost] {
            let end = model
                .resume(hook(site), at(site), &batch(), &mut ())
                .unwrap();
            assert!(distance(&end, &flat(last)) < 1e-12, "{name} {site:?}");
        }
        let expected = logits.reshape(((), model.config.vocab)).unwrap();
        assert!(distance(&model.logits_of(&flat(last)).unwrap(), &expected) < 1e-12);
        assert!(
            model
                .resume(hook(Site::Z), pre.clone(), &batch(), &mut ())
                .is_err()
        );
    }
}

/// Puts a constant in the place of one activation.
struct Put(Hook, Tensor);

impl Tap for Put {
    fn wants(&self, hook: Hook) -> bool {
        hook == self.0
    }
    fn tap(&mut self, _: Hook, _: Tensor) -> model::Result<Tensor> {
        Ok(self.1.clone())
    }
}

#[test]
fn a_held_output_lets_no_gradient_through_its_block() {
    let model = load("qwen2");
    for site in [Site::AttnOut, Site::MlpOut] {
        let held = Hook::new(site, 1);
        let mut seen = Recorder::new([held, Hook::new(Site::Embed, 0)]);
        model.forward(&batch(), &mut seen).unwrap();
        let mut put = Put(held, seen.activations[&held].clone());
        let (logits, trace) = model.forward_trace(&batch(), &mut put).unwrap();
        let d_logits = nll(&logits, &scored()).unwrap().d_logits;
        let gradient = model
            .backward(&trace.holding(held), &d_logits, &mut (), None)
            .unwrap();
        // The slope along the embedding with the output put back to what it was.
        let embed = &seen.activations[&Hook::new(Site::Embed, 0)];
        let direction = embed.cos().unwrap();
        let loss = |step: f64| {
            let moved = (embed + (&direction * step).unwrap()).unwrap();
            let mut both = Both(
                Put(Hook::new(Site::Embed, 0), moved),
                Put(held, put.1.clone()),
            );
            nll(&model.forward(&batch(), &mut both).unwrap(), &scored())
                .unwrap()
                .total
        };
        let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
        let product = (gradient * &direction).unwrap().sum_all().unwrap();
        let expected = product.to_scalar::<f64>().unwrap();
        assert!(
            (slope - expected).abs() < 1e-6 * expected.abs().max(1.0),
            "{slope} {expected}"
        );
    }
}

struct Both(Put, Put);

impl Tap for Both {
    fn wants(&self, hook: Hook) -> bool {
        self.0.wants(hook) || self.1.wants(hook)
    }
    fn tap(&mut self, hook: Hook, activation: Tensor) -> model::Result<Tensor> {
        if self.0.wants(hook) {
            self.0.tap(hook, activation)
        } else {
            self.1.tap(hook, activation)
        }
    }
}

#[test]
fn under_the_rules_relevance_is_kept_by_every_norm_and_product() {
    // With attention constant as well, the network is linear in its input along each path but for biases: a model without
    // any gives ⟨embedding, gradient⟩ = the logits' weighted sum, exactly.
    let model = load("llama3");
    let rules = Rules {
        attention_constant: true,
        products_halved: true,
        ..Rules::RELP
    };
    let (logits, trace) = model.forward_trace(&batch(), &mut ()).unwrap();
    let d_logits = logits.sin().unwrap();
    let gradient = model
        .backward(&trace.with_rules(rules), &d_logits, &mut (), None)
        .unwrap();
    let mut seen = Recorder::new([Hook::new(Site::Embed, 0)]);
    model.forward(&batch(), &mut seen).unwrap();
    let sum = |a: &Tensor, b: &Tensor| {
        (a * b)
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f64>()
            .unwrap()
    };
    let kept = sum(&gradient, &seen.activations[&Hook::new(Site::Embed, 0)]);
    let whole = sum(&logits, &d_logits);
    assert!((kept / whole - 1.0).abs() < 1e-9, "{kept} {whole}");
}
