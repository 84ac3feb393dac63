//! Which tokens become rows, and which documents a part needs.
//!
//! A part is a range of rows fixed by the documents alone; its batches follow from the documents it touches. So a part has
//! the same bytes whichever job computes it, and in whichever sitting.

use crate::documents::Document;
use std::ops::Range;
use store::tables::Token;

/// Documents with the positions that are kept.
#[derive(Debug)]
pub struct Plan {
    documents: Vec<Document>,
    /// Per document, the positions kept, ascending.
    kept: Vec<Vec<usize>>,
    /// Per document, the row of its first kept token; one more entry for the end.
    starts: Vec<usize>,
}

/// The tokens of one document within a range of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Token ids of the document up to the last position needed: later ones cannot be seen from there.
    pub token_ids: &'a [u32],
    /// Positions that become rows.
    pub positions: &'a [usize],
    /// Where they go: rows counted from the start of the range.
    pub row: usize,
}

impl Plan {
    /// Keeps the positions of `keep(token_id)`.
    pub fn new(documents: Vec<Document>, keep: impl Fn(u32) -> bool) -> Self {
        let positions = |document: &Document| -> Vec<usize> {
            let tokens = document.token_ids.iter().enumerate();
            tokens
                .filter(|(_, id)| keep(**id))
                .map(|(position, _)| position)
                .collect()
        };
        let kept: Vec<Vec<usize>> = documents.iter().map(positions).collect();
        let mut starts = vec![0];
        for positions in &kept {
            starts.push(starts[starts.len() - 1] + positions.len());
        }
        Self {
            documents,
            kept,
            starts,
        }
    }

    /// Tokens kept.
    pub fn n_rows(&self) -> usize {
        self.starts[self.documents.len()]
    }

    /// Documents read.
    pub fn n_documents(&self) -> usize {
        self.documents.len()
    }

    /// Tokens read, kept or not.
    pub fn n_tokens(&self) -> usize {
        let lengths = self
            .documents
            .iter()
            .map(|document| document.token_ids.len());
        lengths.sum()
    }

    /// Tokens of the longest document.
    pub fn longest(&self) -> usize {
        let lengths = self
            .documents
            .iter()
            .map(|document| document.token_ids.len());
        lengths.max().unwrap_or(0)
    }

    /// Largest token id, and the document it stands in.
    pub fn largest_id(&self) -> Option<(u32, &str)> {
        let largest = |document: &Document| document.token_ids.iter().copied().max();
        let all = self.documents.iter();
        all.filter_map(|document| Some((largest(document)?, document.id.as_str())))
            .max_by_key(|(id, _)| *id)
    }

    /// The documents behind a range of rows, in order.
    pub fn pieces(&self, rows: Range<usize>) -> Vec<Piece<'_>> {
        let first = self.starts.partition_point(|&start| start <= rows.start) - 1;
        let mut pieces = Vec::new();
        for document in first..self.documents.len() {
            let start = self.starts[document];
            if start >= rows.end {
                break;
            }
            let kept = &self.kept[document];
            let from = rows.start.saturating_sub(start).min(kept.len());
            let positions = &kept[from..kept.len().min(rows.end - start)];
            if let Some(&last) = positions.last() {
                pieces.push(Piece {
                    token_ids: &self.documents[document].token_ids[..=last],
                    positions,
                    row: start + from - rows.start,
                });
            }
        }
        pieces
    }

    /// A line of `tokens.parquet` for every row.
    pub fn tokens(&self, is_special: impl Fn(u32) -> bool) -> Vec<Token> {
        let mut tokens = Vec::with_capacity(self.n_rows());
        for (index, (document, kept)) in self.documents.iter().zip(&self.kept).enumerate() {
            for &position in kept {
                let token_id = document.token_ids[position];
                tokens.push(Token {
                    row: tokens.len() as u32,
                    doc_id: document.id.clone(),
                    doc_index: index as u32,
                    pos: position as u32,
                    token_id,
                    role: document.role.clone(),
                    phase: document.phase(position).into(),
                    special: is_special(token_id),
                });
            }
        }
        tokens
    }
}

/// Groups pieces of similar length so that a padded rectangle holds at most `batch_tokens` tokens (one piece always fits).
///
/// Returns piece numbers per batch; the longest pieces come first, so that memory is highest at the start.
pub fn batches(pieces: &[Piece], batch_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&piece| (std::cmp::Reverse(pieces[piece].token_ids.len()), piece));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut seq = 0;
    for piece in order {
        match batches.last_mut() {
            Some(batch) if seq * (batch.len() + 1) <= batch_tokens => batch.push(piece),
            _ => {
                seq = pieces[piece].token_ids.len();
                batches.push(vec![piece]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn document(token_ids: Vec<u32>) -> Document {
        Document {
            id: "d".into(),
            role: "text".into(),
            token_ids,
            prompt: None,
        }
    }

    /// BOS is 0: it is dropped.
    fn plan() -> Plan {
        let documents = [vec![0, 5, 6], vec![0], vec![0, 7, 8, 9]];
        Plan::new(documents.map(document).to_vec(), |id| id != 0)
    }

    #[test]
    fn rows_are_the_kept_tokens_in_order() {
        let plan = plan();
        assert_eq!((plan.n_rows(), plan.n_tokens(), plan.longest()), (5, 8, 4));
        assert_eq!(plan.largest_id(), Some((9, "d")));
        let tokens = plan.tokens(|id| id == 0);
        let ids: Vec<u32> = tokens.iter().map(|token| token.token_id).collect();
        assert_eq!(ids, [5, 6, 7, 8, 9]);
        assert_eq!(
            (tokens[2].doc_index, tokens[2].pos, tokens[2].row),
            (2, 1, 2)
        );
    }

    #[test]
    fn a_piece_ends_with_the_last_position_its_part_needs() {
        let plan = plan();
        let pieces = plan.pieces(1..4);
        assert_eq!(pieces.len(), 2);
        assert_eq!(
            (pieces[0].token_ids, pieces[0].positions),
            (&[0, 5, 6][..], &[2][..])
        );
        assert_eq!(
            (pieces[1].token_ids, pieces[1].positions),
            (&[0, 7, 8][..], &[1, 2][..])
        );
        assert_eq!((pieces[0].row, pieces[1].row), (0, 1));
    }

    #[test]
    fn batches_hold_similar_lengths_and_no_more_than_asked() {
        let ids = [0; 8];
        let pieces: Vec<Piece> = [2, 8, 3, 4, 1]
            .map(|n| Piece {
                token_ids: &ids[..n],
                positions: &[],
                row: 0,
            })
            .to_vec();
        assert_eq!(batches(&pieces, 8), [vec![1], vec![3, 2], vec![0, 4]]);
        assert_eq!(batches(&pieces, 1), [[1], [3], [2], [0], [4]]);
    }

    proptest! {
        #[test]
        fn any_cut_into_parts_covers_every_row_once(
            lengths in prop::collection::vec(0_usize..6, 1..12),
            rows_per_part in 1_usize..7,
        ) {
            let documents = lengths.iter().map(|&n| document((0..n as u32).collect())).collect();
            let plan = Plan::new(documents, |id| id % 2 == 1);
            let tokens = plan.tokens(|_| false);
            let mut seen = Vec::new();
            for start in (0..plan.n_rows()).step_by(rows_per_part) {
                let end = plan.n_rows().min(start + rows_per_part);
                for piece in plan.pieces(start..end) {
                    prop_assert_eq!(start + piece.row, seen.len());
                    seen.extend(piece.positions.iter().map(|&position| piece.token_ids[position]));
                }
            }
            let wanted: Vec<u32> = tokens.iter().map(|token| token.token_id).collect();
            prop_assert_eq!(seen, wanted);
        }
    }
}
