//! The table of edges: batches scored or taken from an earlier sitting, then written in order.

use std::path::{Path, PathBuf};

use store::{Provenance, TableWriter, tables::PositionEdge};

use crate::{
    attribute::Scorer,
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

/// A batch of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    set: usize,
    batch: usize,
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
        let places = self.places();
        let mut own: Vec<(Place, Part)> = Vec::new();
        let range = shard.range(places.len());
        let total: usize = places[range.clone()]
            .iter()
            .map(|&place| self.examples(place).len())
            .sum();
        let progress = cli::Progress::start("score", total as u64, "examples");
        for (number, &place) in places[range.clone()].iter().enumerate() {
            let n = self.examples(place).len() as u64;
            if self.is_done(parts, place) {
                progress.skip(n);
                continue;
            }
            if cli::stop_requested() {
                let done = format!("{number} of {} batches", range.len());
                return Err(cli::Stopped { done }.into());
            }
            let part = self.score(place)?;
            if parts.are_kept() {
                parts.write(place.set, place.batch, &part)?;
            } else {
                own.push((place, part));
            }
            progress.advance(n);
        }
        progress.finish();
        if parts.are_kept() && !places.iter().all(|&place| self.is_done(parts, place)) {
            return Ok(false);
        }
        self.assemble(&places, parts, own, provenance)?;
        parts.remove()?;
        Ok(true)
    }

    fn places(&self) -> Vec<Place> {
        let of_set = |(set, examples): (usize, &Set)| {
            let batches = examples.examples.len().div_ceil(self.batch);
            (0..batches).map(move |batch| Place { set, batch })
        };
        self.sets.iter().enumerate().flat_map(of_set).collect()
    }

    fn examples(&self, place: Place) -> &[Example] {
        let examples = &self.sets[place.set].examples;
        let end = ((place.batch + 1) * self.batch).min(examples.len());
        &examples[place.batch * self.batch..end]
    }

    fn is_done(&self, parts: &Parts, place: Place) -> bool {
        parts.has(place.set, place.batch, self.per_position.is_some())
    }

    fn rows(&self, set: usize) -> Rows<'_> {
        Rows {
            model: self.label,
            graph: &self.scorer.graph,
            alpha: self.sets[set].alpha,
            edges: self.scorer.edges.as_deref(),
        }
    }

    fn score(&self, place: Place) -> anyhow::Result<Part> {
        let examples: Vec<&Example> = self.examples(place).iter().collect();
        let scores = self.scorer.score(&examples)?;
        let rows = self.rows(place.set);
        let first = place.batch * self.batch;
        let positions = scores
            .iter()
            .zip(&examples)
            .enumerate()
            .flat_map(|(i, (scores, example))| rows.by_position((first + i, example), scores));
        Ok(Part {
            positions: positions.collect(),
            maps: scores.into_iter().map(|scores| scores.map).collect(),
        })
    }

    /// Every set's rows: example by example, then their average.
    fn assemble(
        &self,
        places: &[Place],
        parts: &Parts,
        mut own: Vec<(Place, Part)>,
        provenance: &Provenance,
    ) -> anyhow::Result<()> {
        let mut writer = TableWriter::create(self.output, provenance)?;
        let mut by_position = self
            .per_position
            .as_ref()
            .map(|path| TableWriter::<PositionEdge>::create(path, provenance))
            .transpose()?;
        own.reverse();
        for places in places.chunk_by(|a, b| a.set == b.set) {
            let set = places[0].set;
            let (rows, examples) = (self.rows(set), &self.sets[set].examples);
            let mut sum = vec![0.0; self.scorer.graph.n_entries()];
            for place in places {
                let part = match own.pop() {
                    Some((_, part)) => part,
                    None => parts.read(set, place.batch, sum.len())?,
                };
                let first = place.batch * self.batch;
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
