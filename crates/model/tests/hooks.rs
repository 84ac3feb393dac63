//! What a tap sees at every hook, on every architecture, and what it may do.

#![expect(clippy::float_cmp, reason = "the same arithmetic gives the same bits")]
#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{ARCHITECTURES, directory, load, rows, tensors, values, worst};
use model::{Batch, Hook, Loading, Model, Recorder, Site, Tap};

const SITES: [Site; 6] = [
    Site::ResidPre,
    Site::Z,
    Site::AttnOut,
    Site::ResidMid,
    Site::MlpOut,
    Site::ResidPost,
];

fn batch(name: &str) -> Batch {
    Batch::right_padded(&rows(&tensors(name, "expected.safetensors")), 0)
}

/// Every activation of a pass, and its logits.
fn everything(model: &Model, batch: &Batch) -> (Recorder, Tensor) {
    let layers = 0..model.config.n_layers;
    let hooks = layers.flat_map(|layer| SITES.map(|site| Hook::new(site, layer)));
    let ends = [Site::Embed, Site::Logits].map(|site| Hook::new(site, 0));
    let mut recorder = Recorder::new(hooks.chain(ends));
    let logits = model.forward(batch, &mut recorder).unwrap();
    (recorder, logits)
}

#[test]
fn every_hook_means_the_same_on_every_architecture() {
    for name in ARCHITECTURES {
        let reference = tensors(name, "reference.safetensors");
        let model = load(name, DType::F32);
        let (seen, logits) = everything(&model, &batch(name));
        let at = |site, layer| &seen.activations[&Hook::new(site, layer)];
        for (site, wanted) in [
            (Site::AttnOut, "attn_out.1"),
            (Site::ResidMid, "resid_mid.1"),
            (Site::MlpOut, "mlp_out.1"),
            (Site::Z, "z.1"),
        ] {
            let error = worst(at(site, 1), &reference[wanted]);
            assert!(error < 1e-4, "{name} {wanted} differs by {error}");
        }
        assert_eq!(worst(at(Site::Embed, 0), at(Site::ResidPre, 0)), 0.0);
        assert_eq!(worst(at(Site::Logits, 0), &logits), 0.0);
        for layer in 0..model.config.n_layers {
            let sum = |a: &Tensor, b: &Tensor| (a + b).unwrap();
            let mid = sum(at(Site::ResidPre, layer), at(Site::AttnOut, layer));
            let post = sum(at(Site::ResidMid, layer), at(Site::MlpOut, layer));
            assert_eq!(
                worst(&mid, at(Site::ResidMid, layer)),
                0.0,
                "{name} {layer}"
            );
            assert_eq!(
                worst(&post, at(Site::ResidPost, layer)),
                0.0,
                "{name} {layer}"
            );
        }
    }
}

#[test]
fn what_was_added_to_the_stream_adds_up_to_its_end() {
    // Embedding and every attn_out and mlp_out are the sources of the stream, whatever norms they went through.
    for name in ARCHITECTURES {
        let model = load(name, DType::F64);
        let (seen, _) = everything(&model, &batch(name));
        let at = |site, layer| seen.activations[&Hook::new(site, layer)].clone();
        let layers = 0..model.config.n_layers;
        let sources = layers.flat_map(|l| [at(Site::AttnOut, l), at(Site::MlpOut, l)]);
        let end = sources.fold(at(Site::Embed, 0), |sum, source| (sum + source).unwrap());
        let last = at(Site::ResidPost, model.config.n_layers - 1);
        assert!(worst(&end, &last) < 1e-12, "{name}");
    }
}

#[test]
fn a_tap_that_records_changes_nothing_and_one_that_replaces_does() {
    struct Mover(Hook);
    impl Tap for Mover {
        fn wants(&self, hook: Hook) -> bool {
            hook == self.0
        }
        fn tap(&mut self, _: Hook, activation: Tensor) -> model::Result<Tensor> {
            Ok((activation + 0.5)?)
        }
    }
    for name in ARCHITECTURES {
        let (model, batch) = (load(name, DType::F32), batch(name));
        let plain = model.forward(&batch, &mut ()).unwrap();
        let (seen, recorded) = everything(&model, &batch);
        assert_eq!(worst(&recorded, &plain), 0.0, "{name}");
        assert_eq!(
            seen.activations.len(),
            2 + SITES.len() * model.config.n_layers
        );
        for site in SITES {
            let mut tap = Mover(Hook::new(site, 1));
            let moved = model.forward(&batch, &mut tap).unwrap();
            assert!(
                worst(&moved, &plain) > 1e-3,
                "{name} {site:?} changes nothing"
            );
        }
    }
}

#[test]
fn a_pass_that_stops_early_shows_the_same_and_nothing_later() {
    for name in ["qwen3", "gemma3", "olmo2", "phi3"] {
        let (model, batch) = (load(name, DType::F32), batch(name));
        let (whole, _) = everything(&model, &batch);
        for site in SITES.into_iter().chain([Site::Embed]) {
            let last = Hook::new(site, usize::from(site != Site::Embed));
            let mut seen = Recorder::new(whole.hooks.clone());
            model.forward_until(&batch, last, &mut seen).unwrap();
            assert_eq!(
                worst(&seen.activations[&last], &whole.activations[&last]),
                0.0
            );
            let later = |hook: &&Hook| hook.layer > last.layer || hook.site == Site::Logits;
            assert_eq!(seen.activations.keys().find(later), None, "{name} {last}");
        }
    }
}

#[test]
fn a_model_loaded_up_to_a_hook_shows_the_same_there_and_goes_no_further() {
    for name in ["qwen2", "phi3", "gemma2"] {
        let (whole, batch) = (load(name, DType::F32), batch(name));
        let (seen, _) = everything(&whole, &batch);
        let ends = [Site::Embed, Site::Logits].map(|site| Hook::new(site, 0));
        let blocks = SITES.map(|site| Hook::new(site, 0));
        for last in blocks.into_iter().chain(ends) {
            let loading = Loading::new(DType::F32);
            let part = Model::load_until(&directory(name), &Device::Cpu, loading, last).unwrap();
            let mut recorder = Recorder::new([last]);
            part.forward_until(&batch, last, &mut recorder).unwrap();
            assert_eq!(
                values(&recorder.activations[&last]),
                values(&seen.activations[&last]),
                "{name} {last}"
            );
            let further = part.forward(&batch, &mut ());
            assert_eq!(further.is_ok(), last.site == Site::Logits, "{name} {last}");
            assert!(part.matrix_bytes() <= whole.matrix_bytes());
        }
    }
}
