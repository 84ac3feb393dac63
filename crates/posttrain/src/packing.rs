//! Documents into rows, prompts into batches.

use anyhow::{Context, Result, ensure};
use model::Tokenizer;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::path::Path;

/// Rows being filled at a time.
const OPEN: usize = 48;

/// One token with the weight of its prediction.
pub type Weighted = (u32, f32);

#[derive(Deserialize)]
struct Line {
    text: String,
}

/// Texts of a JSONL corpus (key `text`), in order.
pub fn read_corpus(path: &Path) -> Result<Vec<String>> {
    let text = store::read_text(path)?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let texts: Vec<String> = lines
        .map(|(n, line)| {
            let line: Line = serde_json::from_str(line)
                .with_context(|| format!("cannot read {}: line {}", path.display(), n + 1))?;
            Ok(line.text)
        })
        .collect::<Result<_>>()?;
    ensure!(
        !texts.is_empty(),
        "cannot use {}: there is no text in it",
        path.display()
    );
    Ok(texts)
}

/// Tokens of a document behind BOS. In every line, what comes up to and including `?` is a question: its tokens are
/// noise that nobody can predict, and count `question` instead of 1.
pub fn weigh(text: &str, tokenizer: &Tokenizer, question: f32) -> Result<Vec<Weighted>> {
    let mut tokens: Vec<Weighted> = tokenizer
        .bos_id()
        .map(|bos| (bos, question))
        .into_iter()
        .collect();
    for line in text.split_inclusive('\n') {
        let (asked, answered) = line.split_at(line.find('?').map_or(0, |at| at + 1));
        tokens.extend(
            tokenizer
                .encode(asked, false)?
                .into_iter()
                .map(|id| (id, question)),
        );
        tokens.extend(
            tokenizer
                .encode(answered, false)?
                .into_iter()
                .map(|id| (id, 1.0)),
        );
    }
    Ok(tokens)
}

/// Packs documents into rows of at most `length` tokens: first fit into open rows.
///
/// A row is opened by the document that did not fit elsewhere, a long one as a rule; so the documents of a row are
/// shuffled, or the model would learn that texts at the start of a row are the careful ones.
pub fn pack(documents: Vec<Vec<Weighted>>, length: usize, seed: u64) -> Vec<Vec<Weighted>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut open: Vec<Vec<Vec<Weighted>>> = Vec::new();
    let mut rows = Vec::new();
    let filled = |row: &Vec<Vec<Weighted>>| row.iter().map(Vec::len).sum::<usize>();
    for mut document in documents {
        document.truncate(length);
        let fits = |row: &&mut Vec<Vec<Weighted>>| filled(row) + document.len() <= length;
        if let Some(row) = open.iter_mut().find(fits) {
            row.push(document);
            continue;
        }
        if open.len() == OPEN {
            let fullest = (0..OPEN).max_by_key(|&i| (filled(&open[i]), std::cmp::Reverse(i)));
            rows.push(open.remove(fullest.unwrap_or(0)));
        }
        open.push(vec![document]);
    }
    rows.extend(open);
    rows.shuffle(&mut random);
    for row in &mut rows {
        row.shuffle(&mut random);
    }
    rows.into_iter().map(|row| row.concat()).collect()
}

/// The `count` items of step `step` (from 1) in an endless series of shuffled passes over `n` items.
pub fn draw(n: usize, count: usize, step: u32, seed: u64) -> Vec<usize> {
    let start = (step as usize - 1) * count;
    let mut order = (usize::MAX, Vec::new());
    (start..start + count)
        .map(|at| {
            if order.0 != at / n {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                random.set_stream((at / n) as u64);
                order = (at / n, (0..n).collect());
                order.1.shuffle(&mut random);
            }
            order.1[at % n]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_every_token_and_no_row_is_too_long() {
        let documents: Vec<Vec<Weighted>> = (1..200u32)
            .map(|n| vec![(n, 1.0); 1 + (n as usize * 37) % 60])
            .collect();
        let wanted: usize = documents.iter().map(Vec::len).sum();
        let rows = pack(documents, 64, 1);
        assert!(rows.iter().all(|row| row.len() <= 64));
        assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), wanted);
    }

    #[test]
    fn a_pass_draws_every_item_once() {
        let mut drawn: Vec<usize> = (1..=5).flat_map(|step| draw(10, 2, step, 7)).collect();
        drawn.sort_unstable();
        assert_eq!(drawn, (0..10).collect::<Vec<_>>());
        assert_ne!(draw(10, 10, 1, 7), draw(10, 10, 2, 7));
    }
}
