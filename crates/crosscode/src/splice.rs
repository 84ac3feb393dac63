//! What a reconstruction costs the models that compute with it: cross-entropy and KL divergence of the next token with the
//! hook's activations replaced.
//!
//! Special tokens keep their own activations: the dictionary was not made for them.

use anyhow::{Context, ensure};
use cli::Labelled;
use dict::{Acts, Crosscoder, Selection};
use model::{Batch, Config, DType, Device, Hook, Model, Recorder, Tap, Tensor, Tokenizer};
use stats::{Estimate, bootstrap};
use store::tables::CrosscoderEval;

/// Models in the dictionary's order, and what they read.
pub struct Bench {
    models: Vec<Model>,
    tokenizer: Tokenizer,
    hook: Hook,
    documents: Vec<Vec<u32>>,
}

/// Sums over the predicted tokens of one document.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    n: f64,
    clean: f64,
    spliced: f64,
    zero: f64,
    kl: f64,
}

/// Puts other values in the place of an activation.
struct Replace {
    hook: Hook,
    /// `[1, seq, d_model]`
    values: Tensor,
}

impl Tap for Replace {
    fn wants(&self, hook: Hook) -> bool {
        hook == self.hook
    }

    fn tap(&mut self, _: Hook, activation: Tensor) -> model::Result<Tensor> {
        Ok(self.values.to_dtype(activation.dtype())?)
    }
}

impl Bench {
    /// Loads the dictionary's models, all of them: its code needs every one.
    pub fn open(
        dictionary: &Crosscoder,
        models: &[Labelled],
        device: &Device,
    ) -> anyhow::Result<Self> {
        let mut loaded = Vec::new();
        let mut shared: Option<(Tokenizer, Hook)> = None;
        for label in &dictionary.labels {
            let Some(found) = models.iter().find(|model| &model.label == label) else {
                anyhow::bail!(cli::Usage(format!(
                    "the dictionary's code needs --model {label}=DIR too"
                )));
            };
            let tokenizer = Tokenizer::load(&found.path)?;
            ensure!(
                dictionary.tokenizer_digest.is_empty()
                    || tokenizer.digest() == dictionary.tokenizer_digest,
                "cannot use {}: its tokenizer is not the one behind the dictionary",
                found.path.display()
            );
            let hook = Hook::parse(&dictionary.hook, Config::load(&found.path)?.n_layers)
                .with_context(|| format!("cannot splice into {}", found.path.display()))?;
            loaded.push(Model::load(&found.path, device, DType::F32)?);
            shared = Some((tokenizer, hook));
        }
        let (tokenizer, hook) = shared.context("the dictionary has no models")?;
        Ok(Self {
            models: loaded,
            tokenizer,
            hook,
            documents: Vec::new(),
        })
    }

    /// The tokenizer of the models.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Tokens of a document that all models can read.
    pub fn longest(&self) -> usize {
        self.models
            .iter()
            .map(|model| model.config.max_positions)
            .min()
            .unwrap_or(usize::MAX)
    }

    /// Sets what is read: at most `limit` documents of two and more tokens.
    pub fn read(
        &mut self,
        documents: impl IntoIterator<Item = Vec<u32>>,
        limit: usize,
    ) -> anyhow::Result<()> {
        let long = documents.into_iter().filter(|document| document.len() > 1);
        self.documents = long.take(limit).collect();
        ensure!(
            !self.documents.is_empty(),
            "there is no document of two tokens to measure on"
        );
        Ok(())
    }

    /// Documents of a store, where it kept every token but a BOS at the beginning.
    pub fn documents_of(&self, acts: &Acts) -> anyhow::Result<Vec<Vec<u32>>> {
        let lost = || {
            cli::Usage(
                "the store does not hold whole documents: name them by --texts or --token-ids"
                    .into(),
            )
        };
        let tokens = acts.tokens()?.ok_or_else(lost)?;
        let mut documents: Vec<Vec<u32>> = Vec::new();
        let mut last = None;
        for token in tokens {
            if last != Some(token.doc_index) {
                let begin = self.tokenizer.bos_id().filter(|_| token.pos == 1);
                documents.push(begin.into_iter().collect());
                last = Some(token.doc_index);
            }
            let document = documents.last_mut().ok_or_else(lost)?;
            ensure!(document.len() == token.pos as usize, lost());
            document.push(token.token_id);
        }
        Ok(documents)
    }

    /// Fills the columns of the splice in the rows, one per model.
    pub fn measure(
        &self,
        dictionary: &Crosscoder,
        selection: Selection,
        seed: u64,
        rows: &mut [CrosscoderEval],
    ) -> anyhow::Result<()> {
        let progress = cli::Progress::start("splice", self.documents.len() as u64, "documents");
        let mut sums: Vec<Vec<Sums>> = vec![Vec::new(); self.models.len()];
        for document in &self.documents {
            if cli::stop_requested() {
                let done = format!(
                    "{} of {} documents, none of them kept",
                    sums[0].len(),
                    self.documents.len()
                );
                return Err(cli::Stopped { done }.into());
            }
            let found = self.document(dictionary, selection, document)?;
            sums.iter_mut()
                .zip(found)
                .for_each(|(all, one)| all.push(one));
            progress.advance(1);
        }
        progress.finish();
        rows.iter_mut()
            .zip(&sums)
            .for_each(|(row, sums)| fill(row, sums, seed));
        Ok(())
    }

    /// One document under every model.
    fn document(
        &self,
        dictionary: &Crosscoder,
        selection: Selection,
        ids: &[u32],
    ) -> anyhow::Result<Vec<Sums>> {
        let batch = Batch::right_padded(&[ids.to_vec()], self.tokenizer.pad_id());
        let mut clean = Vec::new();
        let mut x = Vec::new();
        for model in &self.models {
            let mut recorder = Recorder::new([self.hook]);
            clean.push(values(&model.forward(&batch, &mut recorder)?)?);
            let found = recorder
                .activations
                .get(&self.hook)
                .context("the hook was not met")?;
            x.push(values(found)?);
        }
        let slices: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
        let codes = dictionary.encode_decoupled(&slices, ids.len(), selection);
        let mut out = Vec::new();
        for (number, model) in self.models.iter().enumerate() {
            let mut decoded = dictionary.decode(number, &codes[number]);
            let width = dictionary.widths[number];
            for (place, &id) in ids
                .iter()
                .enumerate()
                .filter(|(_, id)| self.tokenizer.is_special(**id))
            {
                let _ = id;
                let row = place * width..(place + 1) * width;
                decoded[row.clone()].copy_from_slice(&x[number][row]);
            }
            let zeros = vec![0.0; decoded.len()];
            let [spliced, zero] =
                [decoded, zeros].map(|values| self.replaced(model, &batch, values));
            out.push(compare(ids, &clean[number], &spliced?, &zero?));
        }
        Ok(out)
    }

    /// Logits `[seq, vocab]` with the hook's activations replaced by `values [seq, d_model]`.
    fn replaced(
        &self,
        model: &Model,
        batch: &Batch,
        activations: Vec<f32>,
    ) -> anyhow::Result<Vec<f32>> {
        let shape = (1, batch.seq, activations.len() / batch.seq);
        let mut tap = Replace {
            hook: self.hook,
            values: Tensor::from_vec(activations, shape, model.device())?,
        };
        values(&model.forward(batch, &mut tap)?)
    }
}

fn values(tensor: &Tensor) -> anyhow::Result<Vec<f32>> {
    Ok(tensor
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?)
}

/// Natural logarithms of the probabilities of a row of logits.
fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - largest).exp())
        .sum();
    let normalizer = largest + total.ln();
    logits
        .iter()
        .map(|&logit| f64::from(logit) - normalizer)
        .collect()
}

/// Sums over the predicted tokens; logits `[seq, vocab]`.
fn compare(ids: &[u32], clean: &[f32], spliced: &[f32], zero: &[f32]) -> Sums {
    let vocab = clean.len() / ids.len();
    let mut sums = Sums::default();
    for (position, &next) in ids[1..].iter().enumerate() {
        let of = |logits: &[f32]| log_probabilities(&logits[position * vocab..][..vocab]);
        let (p, q, z) = (of(clean), of(spliced), of(zero));
        let next = next as usize;
        sums.n += 1.0;
        sums.clean -= p[next];
        sums.spliced -= q[next];
        sums.zero -= z[next];
        sums.kl += p
            .iter()
            .zip(&q)
            .map(|(p, q)| p.exp() * (p - q))
            .sum::<f64>();
    }
    sums
}

fn fill(row: &mut CrosscoderEval, documents: &[Sums], seed: u64) {
    let sum = |drawn: &[usize], of: fn(&Sums) -> f64| {
        drawn.iter().map(|&i| of(&documents[i])).sum::<f64>()
    };
    let all: Vec<usize> = (0..documents.len()).collect();
    let n = sum(&all, |sums| sums.n);
    let draw = |statistic: &(dyn Fn(&[usize]) -> f64 + Sync)| {
        bootstrap(documents.len(), stats::DRAWS, seed, statistic)
    };
    let recovered = draw(&|drawn| {
        let [zero, spliced, clean] =
            [|s: &Sums| s.zero, |s: &Sums| s.spliced, |s: &Sums| s.clean].map(|of| sum(drawn, of));
        (zero - spliced) / (zero - clean)
    });
    let kl = draw(&|drawn| sum(drawn, |sums| sums.kl) / sum(drawn, |sums| sums.n));
    row.ce_clean_nats = Some(sum(&all, |sums| sums.clean) / n);
    row.ce_spliced_nats = Some(sum(&all, |sums| sums.spliced) / n);
    row.ce_zero_nats = Some(sum(&all, |sums| sums.zero) / n);
    let Estimate { value, low, high } = recovered;
    (
        row.ce_recovered,
        row.ce_recovered_low,
        row.ce_recovered_high,
    ) = (Some(value), Some(low), Some(high));
    let Estimate { value, low, high } = kl;
    (row.kl_nats, row.kl_nats_low, row.kl_nats_high) = (Some(value), Some(low), Some(high));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_follow_their_definitions() {
        // Two tokens, two words: clean says 3:1 for the second, spliced 1:1, zero 1:3.
        let three = 3f32.ln();
        let pad = [0.0, 0.0];
        let logits = |first: [f32; 2]| [first, pad].concat();
        let sums = compare(
            &[0, 0],
            &logits([three, 0.0]),
            &logits([0.0, 0.0]),
            &logits([0.0, three]),
        );
        assert!((sums.clean - (4f64 / 3.0).ln()).abs() < 1e-6);
        assert!((sums.spliced - 2f64.ln()).abs() < 1e-6 && (sums.zero - 4f64.ln()).abs() < 1e-6);
        let kl = 0.75 * (0.75f64 / 0.5).ln() + 0.25 * (0.25f64 / 0.5).ln();
        assert!((sums.kl - kl).abs() < 1e-6 && (sums.n - 1.0).abs() < 1e-9);
    }
}
