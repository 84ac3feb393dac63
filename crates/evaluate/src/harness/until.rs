//! Texts that end at stop strings.

use anyhow::Result;
use model::{Finish, Generated, Model, Sampling, Stops, Tokenizer};

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
    /// Texts under way at a time.
    pub rows: usize,
}

impl Writer<'_> {
    /// Continues prompts until a stop string, an end token or the budget.
    pub fn write(&self, prompts: &[Vec<u32>], streams: &[u64]) -> Result<Vec<Written>> {
        let stops = Stops {
            ids: self.tokenizer.eos_ids(),
            texts: Some((self.tokenizer, self.until)),
        };
        let generated =
            self.model
                .generate_queued(prompts, streams, self.sampling, stops, self.rows)?;
        generated.iter().map(|one| self.written(one)).collect()
    }

    fn written(&self, generated: &Generated) -> Result<Written> {
        // The end token is no part of the text, though a newline that ends a reply would be readable.
        let is_end = |token: &u32| self.tokenizer.eos_ids().contains(token);
        let ends = usize::from(generated.tokens.last().is_some_and(is_end));
        let tokens = &generated.tokens[..generated.tokens.len() - ends];
        let whole = self.tokenizer.decode(tokens)?;
        Ok(Written {
            text: cut(&whole, self.until).to_owned(),
            n_tokens: generated.tokens.len(),
            finish: generated.finish,
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
