//! The edit inside generation: prompt and decoding agree, a gain of zero is nothing, companions read what they would alone.

use crate::common::{dictionary, model};
use dict::{Crosscoder, Readout, Selection};
use intervene::edit::{Amount, Edit, Source};
use intervene::tap::{EditTap, Positions, Setting};
use model::{Batch, Hook, Model, Recorder, Sampling, Tap, Tensor};

const HOOK: &str = "resid_post.1";
const NEW_TOKENS: usize = 6;
/// The model under intervention: rl.
const SLOT: usize = 2;

/// Prompts of unequal length, so that the batch is padded on the left.
fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 5, 6, 7, 8], vec![1, 9], vec![1, 4, 11]]
}

fn hook() -> Hook {
    Hook::parse(HOOK, 3).unwrap()
}

fn scaled(gain: f32, readout: Readout) -> Edit {
    let source = Source::Encoder(readout);
    let amount = Amount::Scaled { gain, source };
    Edit::along_decoder(&dictionary(), SLOT, &[0, 3, 4, 7, 9], amount)
}

/// Everything a tap needs, kept alive together.
struct Scene {
    dictionary: Crosscoder,
    others: Vec<Model>,
}

impl Scene {
    fn new() -> Self {
        Self {
            dictionary: dictionary(),
            others: vec![model(10), model(11)],
        }
    }

    fn with<T>(
        &self,
        edit: &Edit,
        positions: Positions,
        work: impl FnOnce(&mut dyn Tap) -> T,
    ) -> T {
        let companions = [Some(&self.others[0]), Some(&self.others[1]), None];
        let is_special = |id: u32| id < 3;
        let setting = Setting {
            dictionary: &self.dictionary,
            hook: hook(),
            positions,
            is_special: &is_special,
            companions: &companions,
            max_new_tokens: NEW_TOKENS,
        };
        work(&mut EditTap::new(edit, setting))
    }
}

/// Applies the edit, and keeps what the next block reads.
struct Keep<'a>(&'a mut dyn Tap, Vec<f32>);
impl Tap for Keep<'_> {
    fn begin(&mut self, batch: &Batch) -> model::Result<()> {
        self.0.begin(batch)
    }
    fn wants(&self, hook: Hook) -> bool {
        self.0.wants(hook)
    }
    fn tap(&mut self, hook: Hook, activation: Tensor) -> model::Result<Tensor> {
        let edited = self.0.tap(hook, activation)?;
        self.1 = edited.flatten_all()?.to_vec1()?;
        Ok(edited)
    }
}

/// Counts the edited rows of every pass.
struct Count<'a>(&'a mut dyn Tap, Vec<usize>);
impl Tap for Count<'_> {
    fn begin(&mut self, batch: &Batch) -> model::Result<()> {
        self.1.push(0);
        self.0.begin(batch)
    }
    fn wants(&self, hook: Hook) -> bool {
        self.0.wants(hook)
    }
    fn tap(&mut self, hook: Hook, activation: Tensor) -> model::Result<Tensor> {
        let edited = self.0.tap(hook, activation.clone())?;
        let change = (edited - &activation)?.sqr()?.sum(2)?.flatten_all()?;
        let changed = change
            .to_vec1::<f32>()?
            .iter()
            .filter(|x| **x > 0.0)
            .count();
        *self.1.last_mut().unwrap() = changed;
        (activation + 0.0).map_err(Into::into)
    }
}

fn generate(model: &Model, tap: &mut dyn Tap) -> Vec<Vec<u32>> {
    let sampling = Sampling::greedy(NEW_TOKENS);
    let rows = model
        .generate(&prompts(), &[0, 1, 2], &sampling, &[], tap)
        .unwrap();
    rows.into_iter().map(|row| row.tokens).collect()
}

fn logits(model: &Model, tokens: &[u32], tap: &mut dyn Tap) -> Vec<Vec<f32>> {
    let batch = Batch::right_padded(&[tokens.to_vec()], 0);
    let logits = model.forward(&batch, tap).unwrap();
    logits.get(0).unwrap().to_vec2().unwrap()
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    best.unwrap() as u32
}

const READOUTS: [Readout; 3] = [
    Readout::Joint,
    Readout::Swap {
        model: SLOT,
        keep: 2,
    },
    Readout::SelfOnly { model: SLOT },
];

#[test]
fn decoding_with_a_cache_equals_computing_the_whole_text_at_once() {
    let (scene, model) = (Scene::new(), model(12));
    let plain = generate(&model, &mut ());
    for readout in READOUTS {
        let edit = scaled(3.0, readout);
        let edited = scene.with(&edit, Positions::All, |tap| generate(&model, tap));
        assert_ne!(edited, plain, "{readout:?} changes nothing");
        for (prompt, answer) in prompts().iter().zip(&edited) {
            let text = [prompt.as_slice(), answer].concat();
            let whole = scene.with(&edit, Positions::All, |tap| logits(&model, &text, tap));
            for (i, &token) in answer.iter().enumerate() {
                assert_eq!(
                    likeliest(&whole[prompt.len() - 1 + i]),
                    token,
                    "{readout:?} step {i}"
                );
            }
        }
    }
}

#[test]
fn an_alpha_of_one_gives_the_very_same_text() {
    let (scene, model) = (Scene::new(), model(12));
    let plain = generate(&model, &mut ());
    for readout in READOUTS {
        let edit = scaled(0.0, readout);
        for positions in [Positions::All, Positions::LastPrompt] {
            let edited = scene.with(&edit, positions, |tap| generate(&model, tap));
            assert_eq!(edited, plain);
        }
    }
}

#[test]
fn the_joint_edit_is_that_of_three_models_read_apart() {
    let (scene, model) = (Scene::new(), model(12));
    let tokens = vec![1, 5, 6, 2, 7];
    let seen = |model: &Model| -> Vec<f32> {
        let mut recorder = Recorder::new([hook()]);
        let batch = Batch::right_padded(std::slice::from_ref(&tokens), 0);
        model.forward(&batch, &mut recorder).unwrap();
        let seen: &Tensor = &recorder.activations[&hook()];
        seen.flatten_all().unwrap().to_vec1().unwrap()
    };
    let x = [seen(&scene.others[0]), seen(&scene.others[1]), seen(&model)];
    let edit = scaled(-1.0, Readout::Joint);
    let codes = scene.dictionary.encode(
        &[x[0].as_slice(), x[1].as_slice(), x[2].as_slice()],
        tokens.len(),
        Selection::Rule,
    );

    let edited = scene.with(&edit, Positions::All, |tap| {
        let mut keep = Keep(tap, Vec::new());
        logits(&model, &tokens, &mut keep);
        keep.1
    });

    let width = crate::common::config().d_model;
    let scale = scene.dictionary.normalizer[SLOT].scale;
    for (row, &token) in tokens.iter().enumerate() {
        for i in 0..width {
            let mut wanted = x[2][row * width + i];
            // BOS and the end token are special: they stay as they are.
            for (feature, activation) in codes.row(row).filter(|_| token > 2) {
                if edit.features.contains(&feature) {
                    wanted -= activation * scene.dictionary.row(SLOT, feature as usize)[i] / scale;
                }
            }
            assert!((edited[row * width + i] - wanted).abs() < 1e-4, "row {row}");
        }
    }
}

#[test]
fn positions_are_those_asked_for() {
    let (scene, model) = (Scene::new(), model(12));
    let edit = Edit::along_decoder(&dictionary(), SLOT, &[0], Amount::Fixed(vec![1.0]));

    let counts = |positions| {
        scene.with(&edit, positions, |tap| {
            let mut count = Count(tap, Vec::new());
            generate(&model, &mut count);
            count.1
        })
    };
    // Ten prompt tokens of which three are BOS; then three rows a step, fewer where a special token was generated.
    let all = counts(Positions::All);
    assert_eq!((all[0], all.len()), (7, NEW_TOKENS));
    assert_eq!(counts(Positions::Prompt), [7, 0, 0, 0, 0, 0]);
    assert_eq!(counts(Positions::LastPrompt), [3, 0, 0, 0, 0, 0]);
    assert_eq!(counts(Positions::Generated)[1..], all[1..]);
    assert_eq!(counts(Positions::Generated)[0], 0);
}
