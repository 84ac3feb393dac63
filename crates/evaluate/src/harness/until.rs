//! Texts that end at stop strings: the model is told to end as soon as one stands in what it has written.

use anyhow::Result;
use model::{Batch, Finish, Generated, Hook, Model, Sampling, Site, Tap, Tensor, Tokenizer};

/// What a model wrote after one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Its text up to the stop string, without the end token.
    pub text: String,
    /// Tokens generated: the end token and those of the stop string count.
    pub n_tokens: usize,
    /// Why it ended; a stop string is an end like any other.
    pub finish: Finish,
}

/// Who writes, and when it is enough.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// How it chooses its words.
    pub sampling: &'a Sampling,
    /// Stop strings.
    pub until: &'a [String],
}

impl Writer<'_> {
    /// Continues prompts until a stop string, an end token or the budget.
    pub fn write(&self, prompts: &[Vec<u32>], streams: &[u64]) -> Result<Vec<Written>> {
        let ends = self.tokenizer.eos_ids();
        let mut stopper = Stopper::new(self.tokenizer, self.until, prompts.len());
        let generated = self
            .model
            .generate(prompts, streams, self.sampling, ends, &mut stopper)?;
        let rows = generated.iter().zip(&stopper.rows);
        rows.map(|(generated, row)| self.written(generated, row.stopped))
            .collect()
    }

    /// The text of one row; a row that was stopped ends with an end token that is not the model's.
    fn written(&self, generated: &Generated, stopped: bool) -> Result<Written> {
        let ended = generated.finish == Finish::Stop;
        let tokens = &generated.tokens[..generated.tokens.len() - usize::from(ended)];
        let whole = self.tokenizer.decode(tokens)?;
        let text = cut(&whole, self.until);
        let finish = if text.len() < whole.len() {
            Finish::Stop
        } else {
            generated.finish
        };
        Ok(Written {
            text: text.to_owned(),
            n_tokens: generated.tokens.len() - usize::from(ended && stopped),
            finish,
        })
    }
}

/// A text up to the first of the stop strings; an empty one stops nothing.
pub fn cut<'a>(text: &'a str, until: &[String]) -> &'a str {
    until
        .iter()
        .filter(|stop| !stop.is_empty())
        .fold(text, |text, stop| {
            text.split(stop.as_str()).next().unwrap_or(text)
        })
}

/// Watches every row, and leaves it no choice but to end once it has written a stop string.
struct Stopper<'a> {
    tokenizer: &'a Tokenizer,
    until: Vec<&'a str>,
    /// Tokens that can hold the end of the longest stop string.
    window: usize,
    end: Option<u32>,
    rows: Vec<Row>,
    prompted: bool,
}

#[derive(Debug, Clone, Default)]
struct Row {
    tokens: Vec<u32>,
    stopped: bool,
}

impl<'a> Stopper<'a> {
    fn new(tokenizer: &'a Tokenizer, until: &'a [String], n: usize) -> Self {
        let until: Vec<&str> = until
            .iter()
            .map(String::as_str)
            .filter(|stop| !stop.is_empty())
            .collect();
        Self {
            tokenizer,
            window: until.iter().map(|stop| stop.len()).max().unwrap_or(0) + 4,
            until,
            end: tokenizer.eos_ids().first().copied(),
            rows: vec![Row::default(); n],
            prompted: false,
        }
    }

    /// Whether the last tokens hold a stop string. A token is at least a byte of text, so the window is long enough.
    fn has_stopped(&self, tokens: &[u32]) -> model::Result<bool> {
        let tail = &tokens[tokens.len().saturating_sub(self.window)..];
        let text = self.tokenizer.decode(tail)?;
        Ok(self.until.iter().any(|stop| text.contains(stop)))
    }
}

impl Tap for Stopper<'_> {
    fn begin(&mut self, batch: &Batch) -> model::Result<()> {
        if !self.prompted {
            self.prompted = true;
            return Ok(());
        }
        if self.until.is_empty() || batch.batch != self.rows.len() {
            return Ok(());
        }
        for place in 0..self.rows.len() {
            if !self.rows[place].stopped {
                self.rows[place].tokens.push(batch.token_ids[place]);
                self.rows[place].stopped = self.has_stopped(&self.rows[place].tokens)?;
            }
        }
        Ok(())
    }

    fn wants(&self, hook: Hook) -> bool {
        hook.site == Site::Logits && !self.until.is_empty() && self.end.is_some()
    }

    fn tap(&mut self, _: Hook, activation: Tensor) -> model::Result<Tensor> {
        let Some(end) = self.end.filter(|_| self.rows.iter().any(|row| row.stopped)) else {
            return Ok(activation);
        };
        let (batch, seq, vocab) = activation.dims3()?;
        if batch != self.rows.len() {
            return Ok(activation);
        }
        // 0 for the end token, and so little for all others that no temperature brings them back.
        let mut only_end = vec![-1e4_f32; seq * vocab];
        only_end
            .iter_mut()
            .skip(end as usize)
            .step_by(vocab)
            .for_each(|logit| *logit = 0.0);
        let only_end = Tensor::from_vec(only_end, (1, seq, vocab), activation.device())?
            .to_dtype(activation.dtype())?;
        let row = |(place, row): (usize, &Row)| {
            if row.stopped {
                Ok(only_end.clone())
            } else {
                activation.narrow(0, place, 1)
            }
        };
        let rows: Vec<Tensor> = self
            .rows
            .iter()
            .enumerate()
            .map(row)
            .collect::<Result<_, _>>()?;
        Ok(Tensor::cat(&rows, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_before_its_first_stop_string() {
        let until = ["\n\n".to_owned(), String::new(), "Question:".to_owned()];
        assert_eq!(cut("4 Question: 5\n\n6", &until), "4 ");
        assert_eq!(cut("4", &until), "4");
        assert_eq!(cut("\n\n4", &until), "");
    }
}
