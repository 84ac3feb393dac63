//! A model's own answers as examples: the prompt, and the first tokens of what the model wrote after it.
//!
//! The loss of arXiv 2509.21044 is L = −1/n Σ ln p(token | prompt and the tokens before it) in nats over the first n = `T_cut`
//! answer tokens. The input is the prompt and the first n − 1 of them. An answer shorter than n is used whole.

use anyhow::{Context, ensure};
use model::Tokenizer;
use store::tables::Sample;

use crate::{
    answers::Answers,
    documents::Chosen,
    example::{Example, Objective},
};

/// An answer in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Prompt, BOS included where the model has one.
    pub prompt: Vec<u32>,
    /// What the model wrote, its end token included.
    pub answer: Vec<u32>,
}

/// Tokens of the chosen answers; `unfaithful` counts those that do not re-tokenise to the length they had.
pub struct Tokenised {
    /// One per document, in the order of the choice.
    pub tokens: Vec<Tokens>,
    /// Answers whose number of tokens is not the one that was generated.
    pub unfaithful: usize,
}

/// Tokenises the answers of one model to the chosen documents.
pub fn tokenise(
    answers: &Answers,
    chosen: &[Chosen],
    tokenizer: &Tokenizer,
) -> anyhow::Result<Tokenised> {
    let mut tokenised = Tokenised {
        tokens: Vec::new(),
        unfaithful: 0,
    };
    for Chosen { document, .. } in chosen {
        let sample = &answers.answers[document];
        let tokens = tokens_of(sample, tokenizer).with_context(|| {
            format!("cannot use the answer to {}/{}", sample.task, sample.doc_id)
        })?;
        tokenised.unfaithful += usize::from(tokens.answer.len() != sample.n_tokens as usize);
        tokenised.tokens.push(tokens);
    }
    Ok(tokenised)
}

fn tokens_of(sample: &Sample, tokenizer: &Tokenizer) -> anyhow::Result<Tokens> {
    let prompt = prompt_tokens(&sample.prompt, tokenizer)?;
    let mut answer = tokenizer.encode(&sample.completion, false)?;
    let ended = sample.finish_reason == "stop" && answer.len() + 1 == sample.n_tokens as usize;
    answer.extend(tokenizer.eos_ids().first().filter(|_| ended));
    ensure!(!prompt.is_empty(), "its prompt has no tokens");
    ensure!(!answer.is_empty(), "it has no tokens");
    Ok(Tokens { prompt, answer })
}

/// A prompt after its chat template brings its own special tokens; one without a template was given BOS.
fn prompt_tokens(prompt: &str, tokenizer: &Tokenizer) -> anyhow::Result<Vec<u32>> {
    let plain = tokenizer.encode(prompt, false)?;
    if plain.first().is_some_and(|&id| tokenizer.is_special(id)) {
        return Ok(plain);
    }
    Ok(tokenizer.text_ids(prompt)?)
}

/// The examples under one truncation.
pub fn truncated(tokens: &[Tokens], chosen: &[Chosen], alpha: f64) -> Vec<Example> {
    let pairs = tokens.iter().zip(chosen);
    pairs
        .map(|(tokens, chosen)| example(tokens, &chosen.document, chosen.cut(alpha)))
        .collect()
}

fn example(
    Tokens { prompt, answer }: &Tokens,
    (task, doc_id): &(String, String),
    cut: usize,
) -> Example {
    let answer = &answer[..cut.min(answer.len())];
    let read = answer.len() - 1;
    let first = prompt.len() - 1;
    Example {
        doc_id: Some(format!("{task}/{doc_id}")),
        tokens: prompt.iter().chain(&answer[..read]).copied().collect(),
        corrupted: None,
        objective: Objective::Likelihood(
            answer
                .iter()
                .enumerate()
                .map(|(i, &token)| (first + i, token))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_answer_is_predicted_token_by_token() {
        let tokens = Tokens {
            prompt: vec![0, 5, 6],
            answer: vec![7, 8, 9, 1],
        };
        let document = ("sum".to_owned(), "4".to_owned());
        let found = example(&tokens, &document, 3);
        assert_eq!(found.tokens, [0, 5, 6, 7, 8]);
        assert_eq!(
            found.objective,
            Objective::Likelihood(vec![(2, 7), (3, 8), (4, 9)])
        );
        assert_eq!(found.doc_id.as_deref(), Some("sum/4"));
        assert!(found.check().is_ok());
    }

    #[test]
    fn one_token_needs_the_prompt_alone_and_a_short_answer_is_used_whole() {
        let tokens = Tokens {
            prompt: vec![0, 5],
            answer: vec![7, 1],
        };
        let document = ("sum".to_owned(), "4".to_owned());
        assert_eq!(example(&tokens, &document, 1).tokens, [0, 5]);
        assert_eq!(example(&tokens, &document, 9).tokens, [0, 5, 7]);
    }
}
