//! Which rows of an activation store belong to which key sample.

use crate::keys::TaskKeys;
use std::collections::BTreeMap;
use store::Features;
use store::tables::Token;

/// Which tokens of a document are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tokens {
    /// The model's answer
    Answer,
    /// Prompt and answer
    All,
    /// The last token of the answer
    Last,
    /// The last token of the prompt: where the answer is about to begin
    LastPrompt,
}

/// Mean activation of the features that fire in a document, by feature.
pub type Means = BTreeMap<u32, f64>;

/// Which key sample each row of a store belongs to.
pub struct Documents<'a> {
    /// Documents found, in the order of the store.
    pub names: Vec<&'a String>,
    /// Per row, the document it counts for.
    of_row: Vec<Option<u32>>,
    /// Rows per document.
    n_rows: Vec<u32>,
}

impl<'a> Documents<'a> {
    /// Finds the key samples among the documents written by `role`.
    pub fn of(tokens: &[Token], role: &str, keys: &'a [TaskKeys], which: Tokens) -> Self {
        let names = keys.iter().flat_map(|task| &task.documents);
        let wanted: BTreeMap<&str, &String> = names.map(|name| (name.as_str(), name)).collect();
        let mut documents = Self {
            names: Vec::new(),
            of_row: vec![None; tokens.len()],
            n_rows: Vec::new(),
        };
        let mut start = 0;
        for document in tokens.chunk_by(|a, b| a.doc_index == b.doc_index) {
            let first = &document[0];
            if first.role == role
                && let Some(&name) = wanted.get(first.doc_id.as_str())
            {
                documents.add(name, start, &rows_of(document, which));
            }
            start += document.len();
        }
        documents
    }

    /// Adds a document whose tokens begin at row `start`; one without a token to read is left out.
    fn add(&mut self, name: &'a String, start: usize, rows: &[usize]) {
        if rows.is_empty() {
            return;
        }
        for row in rows {
            self.of_row[start + row] = Some(self.names.len() as u32);
        }
        self.names.push(name);
        self.n_rows.push(rows.len() as u32);
    }

    /// The rows that count, ascending, each with its share of its document's mean.
    pub fn weighted_rows(&self) -> (Vec<u32>, Vec<f64>) {
        let rows = self.of_row.iter().zip(0..);
        let counted = rows.filter_map(|(document, row)| Some((row, (*document)?)));
        counted
            .map(|(row, document)| (row, 1.0 / f64::from(self.n_rows[document as usize])))
            .unzip()
    }

    /// Mean over each document's rows; a feature silent in a document is absent from it.
    pub fn means(&self, block: &Features) -> Vec<Means> {
        let mut means = vec![Means::new(); self.names.len()];
        let entries = block.row.iter().zip(&block.feature).zip(&block.activation);
        for ((&row, &feature), &activation) in entries {
            if let Some(document) = self.of_row[row as usize] {
                let share = f64::from(activation) / f64::from(self.n_rows[document as usize]);
                *means[document as usize].entry(feature).or_default() += share;
            }
        }
        means
    }
}

/// Positions within a document that are averaged. Special tokens never are.
fn rows_of(document: &[Token], which: Tokens) -> Vec<usize> {
    let in_phase = |wanted: &[&str]| -> Vec<usize> {
        let rows = document.iter().enumerate();
        rows.filter(|(_, token)| !token.special && wanted.contains(&token.phase.as_str()))
            .map(|(row, _)| row)
            .collect()
    };
    let last = |rows: Vec<usize>| rows.last().copied().into_iter().collect();
    match which {
        Tokens::Answer => in_phase(&["completion"]),
        Tokens::All => in_phase(&["prompt", "completion"]),
        Tokens::Last => last(in_phase(&["completion"])),
        Tokens::LastPrompt => last(in_phase(&["prompt"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_are_not_read() {
        let mut document = vec![
            Token {
                row: 0,
                doc_id: "d".into(),
                doc_index: 0,
                pos: 0,
                token_id: 0,
                role: "rl".into(),
                phase: "completion".into(),
                special: false,
            };
            3
        ];
        document[2].special = true;
        assert_eq!(rows_of(&document, Tokens::Last), [1]);
        assert_eq!(rows_of(&document, Tokens::Answer), [0, 1]);
        assert!(rows_of(&document, Tokens::LastPrompt).is_empty());
    }
}
