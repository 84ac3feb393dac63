//! What is asked of which document, in tokens.

use anyhow::{Context, Result, ensure};
use model::{Message, Tokenizer};
use tasks::harness::{Request, Style, Task, Turn};

/// How prompts are written: with the model's chat template or without.
#[derive(Debug, Clone, Copy)]
pub struct Writing<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Whether its chat template is put around the prompt.
    pub chat: bool,
    /// Examples as turns of their own.
    pub multiturn: bool,
    /// What stands before all else.
    pub system: Option<&'a str>,
}

/// One document of a task with its request.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Number of the task.
    pub task: usize,
    /// Number of the document.
    pub document: usize,
    /// What is asked.
    pub request: Request,
    /// The same in tokens.
    pub tokens: Tokens,
}

/// A request in tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Tokens {
    /// A prompt to go on from.
    Prompt(Vec<u32>),
    /// Whole sequences, each with the place where the part that counts begins.
    Sequences(Vec<Sequence>),
}

/// Context and continuation as one sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sequence {
    /// Tokens of both.
    pub tokens: Vec<u32>,
    /// Where the continuation begins, at least 1.
    pub start: usize,
}

impl Unit {
    /// Tokens of the longest sequence: what batches are ordered by.
    pub fn length(&self) -> usize {
        match &self.tokens {
            Tokens::Prompt(tokens) => tokens.len(),
            Tokens::Sequences(all) => all.iter().map(|one| one.tokens.len()).max().unwrap_or(0),
        }
    }
}

/// The requests of a task's first `limit` documents, as texts.
pub fn requests(task: &Task, writing: Writing, limit: usize) -> Result<Vec<Request>> {
    let chat = |turns: &[Turn], begins: bool| chat(writing.tokenizer, turns, begins);
    let style = Style {
        chat: if writing.chat { Some(&chat) } else { None },
        multiturn: writing.multiturn,
        system: writing.system,
    };
    Ok(task.requests(style, limit)?)
}

/// Turns by the model's template. One that knows no system turn is given none, and a turn that goes on is cut after its words.
fn chat(tokenizer: &Tokenizer, turns: &[Turn], begins: bool) -> Result<String, String> {
    let message = |turn: &Turn| Message {
        role: turn.role.to_owned(),
        content: turn.content.clone(),
    };
    let all: Vec<Message> = turns.iter().map(message).collect();
    let written = tokenizer.chat(&all, begins).or_else(|error| {
        let others: Vec<Message> = turns
            .iter()
            .filter(|turn| turn.role != "system")
            .map(message)
            .collect();
        if others.len() == all.len() {
            Err(error)
        } else {
            tokenizer.chat(&others, begins)
        }
    });
    let mut text = written.map_err(|error| error.to_string())?;
    if !begins && let Some(last) = turns.last() {
        let words = last.content.trim();
        let place = text
            .rfind(words)
            .ok_or("the chat template changes the last turn, which is to go on")?;
        text.truncate(place + words.len());
    }
    Ok(text)
}

/// A request in tokens, as lm-evaluation-harness cuts them: no longer than the model's `positions` after `reserved` new ones.
pub fn tokens(
    request: &Request,
    tokenizer: &Tokenizer,
    positions: usize,
    reserved: usize,
) -> Result<Tokens> {
    match request {
        Request::Generate { context } => {
            ensure!(
                reserved < positions,
                "{reserved} new tokens do not fit in the model's {positions} positions"
            );
            let mut tokens = encoded(tokenizer, context)?;
            tokens.drain(..tokens.len().saturating_sub(positions - reserved));
            ensure!(!tokens.is_empty(), "the prompt has no token");
            Ok(Tokens::Prompt(tokens))
        }
        Request::Score { pairs } => {
            let pair = |(context, continuation): &(String, String)| {
                sequence(tokenizer, context, continuation, positions)
            };
            Ok(Tokens::Sequences(
                pairs.iter().map(pair).collect::<Result<_>>()?,
            ))
        }
        Request::Roll { text } => Ok(Tokens::Sequences(windows(tokenizer, text, positions)?)),
    }
}

/// Tokens of a text with what the tokenizer adds; a text that begins with the beginning token already gets no second one.
fn encoded(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let plain = tokenizer.encode(text, false)?;
    if tokenizer
        .bos_id()
        .is_some_and(|bos| plain.first() == Some(&bos))
    {
        return Ok(plain);
    }
    Ok(tokenizer.encode(text, true)?)
}

/// The token a text without context follows: the beginning token, else an end token.
fn before(tokenizer: &Tokenizer) -> Result<u32> {
    let end = tokenizer.eos_ids().first().copied();
    tokenizer
        .bos_id()
        .or(end)
        .context("the tokenizer has no token that a text can follow")
}

fn sequence(
    tokenizer: &Tokenizer,
    context: &str,
    continuation: &str,
    positions: usize,
) -> Result<Sequence> {
    let (mut tokens, start) = if context.is_empty() {
        let mut tokens = tokenizer.encode(continuation, false)?;
        let first = before(tokenizer)?;
        if tokens.first() != Some(&first) {
            tokens.insert(0, first);
        }
        (tokens, 1)
    } else {
        // Blanks at the end of the context belong to the first word of what follows.
        let bare = context.trim_end();
        let whole = encoded(tokenizer, &format!("{context}{continuation}"))?;
        (whole, encoded(tokenizer, bare)?.len())
    };
    ensure!(
        start < tokens.len(),
        "the continuation `{continuation}` has no token"
    );
    ensure!(start > 0, "the context has no token");
    let excess = tokens.len().saturating_sub(positions + 1).min(start - 1);
    tokens.drain(..excess);
    Ok(Sequence {
        tokens,
        start: start - excess,
    })
}

/// A whole text in windows: every token is predicted once, from as much as fits before it.
fn windows(tokenizer: &Tokenizer, text: &str, positions: usize) -> Result<Vec<Sequence>> {
    let mut tokens = vec![before(tokenizer)?];
    tokens.extend(tokenizer.encode(text, false)?);
    let mut windows = Vec::new();
    let mut done = 1;
    while done < tokens.len() {
        // The first window predicts as many tokens as there are positions, a later one what is left of the text.
        let end = tokens.len().min(if done == 1 {
            positions + 1
        } else {
            done + positions
        });
        let begin = end.saturating_sub(positions + 1);
        windows.push(Sequence {
            tokens: tokens[begin..end].to_vec(),
            start: done - begin,
        });
        done = end;
    }
    ensure!(!windows.is_empty(), "the text has no token");
    Ok(windows)
}
