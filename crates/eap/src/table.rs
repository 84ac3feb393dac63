//! The table of edges: batches scored or taken from an earlier sitting, then written in order.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use store::{Provenance, TableWriter, tables::PositionEdge};

use crate::{
    attribute::{Scorer, Scores},
    example::Example,
    parts::{Part, Parts},
    rows::Rows,
    sets::Set,
};

/// A table of one model.
#[derive(Debug)]
pub struct Table<'a> {
    /// The model's label.
    pub label: &'a str,
    /// Scores its examples.
    pub scorer: &'a Scorer<'a>,
    /// The examples.
    pub sets: &'a [Set],
    /// Examples per batch.
    pub batch: usize,
    /// Whether every example has its rows.
    pub with_examples: bool,
    /// Where it goes.
    pub output: &'a Path,
    /// Where the rows by position go.
    pub per_position: Option<PathBuf>,
}

impl Table<'_> {
    /// Scores the batches of a shard that are not finished, and writes the table once all of every shard are; whether it
    /// did.
    ///
    /// # Errors
    /// `cli::Stopped` when a signal came: what was finished is kept.
    pub fn write(
        &self,
        parts: &Parts,
        shard: cli::Shard,
        provenance: &Provenance,
    ) -> anyhow::Result<bool> {
        let batches = self.batches();
        let mut own: Vec<Vec<Part>> = Vec::new();
        let range = shard.range(batches);
        let progress = cli::Progress::start("score", self.n_examples(range.clone()), "examples");
        for (number, batch) in range.clone().enumerate() {
            let n = self.n_examples(batch..batch + 1);
            if self.is_done(parts, batch) {
                progress.skip(n);
                continue;
            }
            if cli::stop_requested() {
                let done = format!("{number} of {} batches", range.len());
                return Err(cli::Stopped { done }.into());
            }
            let scored = self.score(batch)?;
            if parts.are_kept() {
                for (set, part) in scored.iter().enumerate() {
                    parts.write(set, batch, part)?;
                }
            } else {
                own.push(scored);
            }
            progress.advance(n);
        }
        progress.finish();
        if parts.are_kept() && !(0..batches).all(|batch| self.is_done(parts, batch)) {
            return Ok(false);
        }
        self.assemble(parts, own, provenance)?;
        parts.remove()?;
        Ok(true)
    }

    /// Every set holds the same documents, batch by batch.
    fn batches(&self) -> usize {
        let examples = self.sets.first().map_or(0, |set| set.examples.len());
        examples.div_ceil(self.batch)
    }

    fn examples(&self, set: usize, batch: usize) -> &[Example] {
        let examples = &self.sets[set].examples;
        let end = ((batch + 1) * self.batch).min(examples.len());
        &examples[(batch * self.batch).min(end)..end]
    }

    fn n_examples(&self, batches: Range<usize>) -> u64 {
        let of_batch = |batch| (0..self.sets.len()).map(move |set| self.examples(set, batch).len());
        batches.flat_map(of_batch).sum::<usize>() as u64
    }

    fn is_done(&self, parts: &Parts, batch: usize) -> bool {
        let by_position = self.per_position.is_some();
        (0..self.sets.len()).all(|set| parts.has(set, batch, by_position))
    }

    fn rows(&self, set: usize) -> Rows<'_> {
        Rows {
            model: self.label,
            graph: &self.scorer.graph,
            alpha: self.sets[set].alpha,
            edges: self.scorer.edges.as_deref(),
        }
    }

    /// One batch of every set: their truncations share what they can.
    fn score(&self, batch: usize) -> anyhow::Result<Vec<Part>> {
        let of_set = |set| self.examples(set, batch).iter().collect();
        let sets: Vec<Vec<&Example>> = (0..self.sets.len()).map(of_set).collect();
        let scores = self.scorer.score_sets(&sets)?;
        let parts = scores.into_iter().zip(&sets).enumerate();
        Ok(parts
            .map(|(set, (scores, examples))| self.part((set, batch), scores, examples))
            .collect())
    }

    fn part(
        &self,
        (set, batch): (usize, usize),
        scores: Vec<Scores>,
        examples: &[&Example],
    ) -> Part {
        let rows = self.rows(set);
        let first = batch * self.batch;
        let positions = scores
            .iter()
            .zip(examples)
            .enumerate()
            .flat_map(|(i, (scores, example))| rows.by_position((first + i, example), scores));
        Part {
            positions: positions.collect(),
            maps: scores.into_iter().map(|scores| scores.map).collect(),
        }
    }

    /// Every set's rows: example by example, then their average.
    fn assemble(
        &self,
        parts: &Parts,
        mut own: Vec<Vec<Part>>,
        provenance: &Provenance,
    ) -> anyhow::Result<()> {
        let mut writer = TableWriter::create(self.output, provenance)?;
        let mut by_position = self
            .per_position
            .as_ref()
            .map(|path| TableWriter::<PositionEdge>::create(path, provenance))
            .transpose()?;
        for set in 0..self.sets.len() {
            let (rows, examples) = (self.rows(set), &self.sets[set].examples);
            let mut sum = vec![0.0; self.scorer.graph.n_entries()];
            for batch in 0..self.batches() {
                let part = match own.get_mut(batch) {
                    Some(scored) => std::mem::take(&mut scored[set]),
                    None => parts.read(set, batch, sum.len())?,
                };
                let first = batch * self.batch;
                for (i, map) in part.maps.iter().enumerate() {
                    sum.iter_mut()
                        .zip(map)
                        .for_each(|(sum, score)| *sum += score);
                    if self.with_examples {
                        writer.push(&rows.of(Some((first + i, &examples[first + i])), map))?;
                    }
                }
                if let Some(writer) = &mut by_position {
                    writer.push(&part.positions)?;
                }
            }
            for sum in &mut sum {
                *sum /= examples.len() as f64;
            }
            writer.push(&rows.of(None, &sum))?;
        }
        if let Some(writer) = by_position {
            writer.finish()?;
        }
        writer.finish()?;
        Ok(())
    }
}
