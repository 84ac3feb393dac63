//! The edit on its way through the forward pass, and the companions that run in step with it.

use crate::edit::Edit;
use dict::Crosscoder;
use model::{Batch, Cache, DType, Hook, Model, Recorder, Result, Tap, Tensor};

/// Which positions are edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// Prompt and generated tokens, special ones left out
    All,
    /// The prompt, special tokens left out
    Prompt,
    /// Generated tokens, special ones left out
    Generated,
    /// The last token of the prompt, whatever it is
    LastPrompt,
}

impl Positions {
    /// Whether anything is edited once the prompt is read.
    fn reach_answers(self) -> bool {
        matches!(self, Self::All | Self::Generated)
    }
}

/// What an edit needs to know of its surroundings.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The dictionary.
    pub dictionary: &'a Crosscoder,
    /// Where the dictionary reads, and the edit writes.
    pub hook: Hook,
    /// Positions edited.
    pub positions: Positions,
    /// Whether a token is special.
    pub is_special: &'a dyn Fn(u32) -> bool,
    /// The other models of the dictionary, by slot; those the edit does not look at may be absent.
    pub companions: &'a [Option<&'a Model>],
    /// Tokens generated at most: room in the companions' caches.
    pub max_new_tokens: usize,
}

/// Applies an edit to one batch from its prompts to its last generated token. Made anew for every batch.
///
/// The first pass it sees is the prompt, every later one a token of each row.
pub struct EditTap<'a> {
    edit: &'a Edit,
    setting: Setting<'a>,
    companions: Vec<Companion<'a>>,
    /// Positions of the pass at work that are edited: `row * seq + position`.
    chosen: Vec<usize>,
    passes: usize,
}

/// Another model reading the same tokens.
struct Companion<'a> {
    slot: usize,
    model: &'a Model,
    cache: Option<Cache>,
    /// Its activation `[batch, seq, d_model]` in the pass at work.
    seen: Option<Tensor>,
}

impl<'a> EditTap<'a> {
    /// An edit about to see a batch of prompts.
    pub fn new(edit: &'a Edit, setting: Setting<'a>) -> Self {
        let needed = edit.needs(setting.dictionary.n_models());
        let others = needed.into_iter().filter(|&slot| slot != edit.slot);
        let companions = others.filter_map(|slot| {
            Some(Companion {
                slot,
                model: setting.companions[slot]?,
                cache: None,
                seen: None,
            })
        });
        Self {
            companions: companions.collect(),
            edit,
            setting,
            chosen: Vec::new(),
            passes: 0,
        }
    }

    /// Positions of a pass that are edited.
    fn choose(&self, batch: &Batch) -> Vec<usize> {
        let is_prompt = self.passes == 0;
        let ordinary = |row: usize, position: usize| {
            let token = batch.token_ids[row * batch.seq + position];
            batch.is_real(row, position) && !(self.setting.is_special)(token)
        };
        let edited = |row: usize, position: usize| match self.setting.positions {
            Positions::All => ordinary(row, position),
            Positions::Prompt => is_prompt && ordinary(row, position),
            Positions::Generated => !is_prompt && ordinary(row, position),
            Positions::LastPrompt => is_prompt && position + 1 == batch.ends[row],
        };
        let all =
            (0..batch.batch).flat_map(|row| (0..batch.seq).map(move |position| (row, position)));
        all.filter(|&(row, position)| edited(row, position))
            .map(|(row, position)| row * batch.seq + position)
            .collect()
    }

    /// The chosen rows of `[batch, seq, d_model]`, row-major.
    fn rows(&self, activation: &Tensor) -> Result<Vec<f32>> {
        let (_, _, width) = activation.dims3()?;
        let values = flat(activation)?;
        let rows = self.chosen.iter();
        Ok(rows
            .flat_map(|&row| &values[row * width..(row + 1) * width])
            .copied()
            .collect())
    }

    /// Chosen rows of every slot; empty where nobody looks.
    fn slots(&self, own: &Tensor) -> Result<Vec<Vec<f32>>> {
        let mut slots = vec![Vec::new(); self.setting.dictionary.n_models()];
        slots[self.edit.slot] = self.rows(own)?;
        for companion in &self.companions {
            let seen = companion.seen.as_ref();
            slots[companion.slot] =
                self.rows(seen.expect("a companion ran when the pass began"))?;
        }
        Ok(slots)
    }

    /// What is added to `[batch, seq, d_model]`: zero but at the chosen rows.
    fn delta(&self, activation: &Tensor) -> Result<Tensor> {
        let width = activation.dims3()?.2;
        let slots = self.slots(activation)?;
        let slots: Vec<&[f32]> = slots.iter().map(Vec::as_slice).collect();
        let edits = self
            .edit
            .delta(self.setting.dictionary, &slots, self.chosen.len());
        let mut delta = vec![0.0; activation.elem_count()];
        for (&row, edit) in self.chosen.iter().zip(edits.chunks_exact(width)) {
            delta[row * width..(row + 1) * width].copy_from_slice(edit);
        }
        let delta = Tensor::from_vec(delta, activation.dims(), activation.device())?;
        Ok(delta)
    }
}

impl Tap for EditTap<'_> {
    fn begin(&mut self, batch: &Batch) -> Result<()> {
        self.chosen = self.choose(batch);
        let is_prompt = self.passes == 0;
        self.passes += 1;
        if !is_prompt && !self.setting.positions.reach_answers() {
            return Ok(());
        }
        let capacity = batch.seq + self.setting.max_new_tokens;
        for companion in &mut self.companions {
            companion.step(batch, self.setting.hook, capacity)?;
        }
        Ok(())
    }

    fn wants(&self, hook: Hook) -> bool {
        hook == self.setting.hook && !self.chosen.is_empty()
    }

    fn tap(&mut self, _: Hook, activation: Tensor) -> Result<Tensor> {
        let dtype = activation.dtype();
        let delta = self.delta(&activation)?;
        let edited = (activation.to_dtype(DType::F32)? + delta)?;
        Ok(edited.to_dtype(dtype)?)
    }
}

impl Companion<'_> {
    /// Reads the tokens of a pass and keeps what it sees at the hook.
    fn step(&mut self, batch: &Batch, hook: Hook, capacity: usize) -> Result<()> {
        let cache = match &mut self.cache {
            Some(cache) => cache,
            empty => empty.insert(self.model.new_cache(batch.batch, capacity)?),
        };
        let mut recorder = Recorder::new([hook]);
        self.model.step(batch, cache, &mut recorder)?;
        self.seen = recorder.activations.remove(&hook);
        Ok(())
    }
}

/// All values of a tensor as f32.
fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?)
}
