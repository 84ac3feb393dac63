//! Which models a feature may belong to: blocks of features that are exclusive, shared by some, or shared by all.
//!
//! A mask is hard: encoder and decoder of a model outside a feature's block are 0 at the start and have no gradient.

use super::parameters::Layout;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Consecutive features that belong to the same models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Models that read and write these features, ascending; empty: all.
    pub models: Vec<usize>,
    /// How many features there are.
    pub n_features: usize,
    /// Whether the models share one decoder row instead of having one each (their widths must agree).
    pub tied: bool,
    /// Factor of the sparsity penalty of these features, 0 to 1 for a shared block (rules with a penalty).
    pub penalty: f32,
}

impl Block {
    /// Features of all models, each with a decoder row of its own.
    pub fn shared(n_features: usize) -> Self {
        Self {
            models: Vec::new(),
            n_features,
            tied: false,
            penalty: 1.0,
        }
    }

    /// Whether a model takes part.
    pub fn holds(&self, model: usize) -> bool {
        self.models.is_empty() || self.models.contains(&model)
    }
}

/// The blocks of a run, feature by feature.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partition<'a> {
    blocks: &'a [Block],
}

impl<'a> Partition<'a> {
    pub(super) fn new(blocks: &'a [Block]) -> Self {
        Self { blocks }
    }

    /// Whether any feature is masked, and whether any is tied.
    pub(super) fn is_masked(self) -> bool {
        self.blocks.iter().any(|block| !block.models.is_empty())
    }

    pub(super) fn is_tied(self) -> bool {
        self.blocks.iter().any(|block| block.tied)
    }

    /// Every block with its features.
    pub(super) fn blocks(self) -> impl Iterator<Item = (Range<usize>, &'a Block)> {
        let mut start = 0;
        self.blocks.iter().map(move |block| {
            let features = start..start + block.n_features;
            start = features.end;
            (features, block)
        })
    }

    /// Which features are tied `[n_features]`.
    pub(super) fn tied(self, n_features: usize) -> Vec<bool> {
        self.each(n_features, false, |block| block.tied)
    }

    /// Factor of the penalty of each feature `[n_features]`.
    pub(super) fn penalties(self, n_features: usize) -> Vec<f32> {
        self.each(n_features, 1.0, |block| block.penalty)
    }

    fn each<T: Copy>(self, n_features: usize, usual: T, value: impl Fn(&Block) -> T) -> Vec<T> {
        let mut out = vec![usual; n_features];
        for (features, block) in self.blocks() {
            out[features].fill(value(block));
        }
        out
    }

    /// Sets the coordinates of models outside their block to 0 in rows `[n_features, d_total]`.
    pub(super) fn mask(self, rows: &mut [f32], layout: &Layout) {
        for (features, block) in self.blocks() {
            let outside = layout
                .models
                .iter()
                .enumerate()
                .filter(|(model, _)| !block.holds(*model));
            let ranges: Vec<Range<usize>> = outside.map(|(_, range)| range.clone()).collect();
            for row in rows
                .chunks_mut(layout.d_total)
                .skip(features.start)
                .take(features.len())
            {
                for range in &ranges {
                    row[range.clone()].fill(0.0);
                }
            }
        }
    }

    /// Replaces the decoder gradient of a tied feature, one part per model, by their sum in every part.
    pub(super) fn tie(row: &mut [f32], layout: &Layout) {
        let width = layout.models[0].len();
        for place in 0..width {
            let sum: f32 = layout
                .models
                .iter()
                .map(|model| row[model.start + place])
                .sum();
            layout
                .models
                .iter()
                .for_each(|model| row[model.start + place] = sum);
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    #[test]
    fn a_mask_leaves_the_models_of_its_block() {
        let layout = Layout::new(&[2, 1]);
        let alone = Block {
            models: vec![1],
            ..Block::shared(1)
        };
        let blocks = [
            alone,
            Block {
                penalty: 0.1,
                ..Block::shared(1)
            },
        ];
        let partition = Partition::new(&blocks);
        let mut rows = vec![1.0; 6];
        partition.mask(&mut rows, &layout);
        assert_eq!(rows, [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(partition.penalties(2), [1.0, 0.1]);
        assert!(partition.is_masked() && !partition.is_tied());
    }

    #[test]
    fn tied_parts_get_the_sum_of_their_gradients() {
        let mut row = [1.0, 2.0, 10.0, 20.0];
        Partition::tie(&mut row, &Layout::new(&[2, 2]));
        assert_eq!(row, [11.0, 22.0, 11.0, 22.0]);
    }
}
