//! The passes over one batch: forward once, back for every truncation, contracted when enough gradients are there.

use std::ops::Range;

use anyhow::Context;
use model::Model;

use crate::{
    attribute::{Scorer, Scores},
    blocks::Blocks,
    contract::Place,
    example::Example,
    loss::Readout,
    method::Point,
    reads::Reads,
    runs::{Run, Shift, Wanted},
};

/// Runs whose gradients are summed before they are contracted: each leaves the residuals its norms read.
pub(crate) const RUNS: usize = 8;

/// A stretch of one example's positions with scores of its own.
struct Cell {
    example: usize,
    /// ΔO of the example.
    differences: Blocks,
    place: Place,
    map: Vec<f64>,
}

/// The examples under one truncation.
struct Truncation<'a> {
    examples: &'a [&'a Example],
    /// Positions of a row of the batch.
    seq: usize,
    readout: Readout,
    /// Logits of the clean run, for divergences.
    reference: Option<model::Tensor>,
    cells: Vec<Cell>,
}

/// The passes over one batch.
pub(crate) struct Pass<'a> {
    scorer: &'a Scorer<'a>,
    /// Of every document the longest example.
    longest: &'a [&'a Example],
    run: Run,
    truncations: Vec<Truncation<'a>>,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(
        scorer: &'a Scorer<'a>,
        longest: &'a [&'a Example],
        sets: &'a [Vec<&'a Example>],
        wanted: Wanted,
    ) -> anyhow::Result<Self> {
        let run = Run::new(scorer.setting(), longest, wanted)?;
        let truncations = sets
            .iter()
            .map(|examples| Truncation::new(scorer, &run, examples));
        Ok(Self {
            scorer,
            longest,
            truncations: truncations.collect::<anyhow::Result<_>>()?,
            run,
        })
    }

    /// The runs of one group, contracted with these sources.
    pub(crate) fn group(
        &mut self,
        points: &[(Point, f64)],
        sources: &Range<usize>,
    ) -> anyhow::Result<()> {
        let scorer = self.scorer;
        let contraction = scorer.contraction();
        let mut reads = Reads::new(&scorer.graph, &scorer.expansion);
        reads.norms_constant = scorer.plan.rules().norms_constant;
        let mut all: Vec<Reads<'_>> = vec![reads; self.truncations.len()];
        for (number, &(point, weight)) in points.iter().enumerate() {
            for reads in &mut all {
                reads.weight = weight;
            }
            self.run(point, &mut all)?;
            if all.iter().all(|reads| reads.runs() < RUNS) && number + 1 < points.len() {
                continue;
            }
            for (truncation, reads) in self.truncations.iter_mut().zip(&mut all) {
                for cell in &mut truncation.cells {
                    let Cell {
                        differences,
                        place,
                        map,
                        ..
                    } = cell;
                    contraction.add(map, differences, reads, place, sources)?;
                }
                reads.clear();
            }
        }
        Ok(())
    }

    /// One forward pass, and a reverse pass for every truncation.
    fn run(&mut self, point: Point, all: &mut [Reads<'_>]) -> anyhow::Result<()> {
        let (model, mut held) = (self.scorer.model, None);
        let ablated = point.is_ablated_input() && self.run.corrupted.is_some();
        let mut skips = false;
        let trace = match point {
            Point::Clean => self
                .run
                .clean
                .take()
                .context("the clean run is read once")?,
            _ if ablated => {
                let trace = self.run.corrupted.take();
                trace.context("the corrupted run is read once")?
            }
            Point::Between {
                block,
                share,
                held: holds,
            } => {
                let setting = self.scorer.setting();
                let mut shift = Shift::new(setting, &self.run.differences, block, share)?;
                held = (holds && block > 0).then_some(shift.hook);
                skips = holds && block == 0;
                self.run.again(model, self.longest, &mut shift)?
            }
        };
        let trace = trace.with_rules(self.scorer.plan.rules());
        let mut trace = match held {
            Some(hook) => trace.holding(hook),
            None => trace,
        };
        let whole = 0..self.longest.len();
        let several = self.truncations.len() > 1;
        for (truncation, reads) in self.truncations.iter().zip(all) {
            reads.skips_first_attention = skips;
            if several {
                let mut part = trace.part(model, &whole, truncation.seq)?;
                truncation.reverse(model, &mut part, reads)?;
            } else {
                truncation.reverse(model, &mut trace, reads)?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Vec<Vec<Scores>> {
        let (scorer, start) = (self.scorer, self.run.start);
        let truncations = self.truncations.into_iter();
        truncations
            .map(|truncation| truncation.finish(scorer, start))
            .collect()
    }
}

impl<'a> Truncation<'a> {
    fn new(scorer: &Scorer<'_>, run: &Run, examples: &'a [&'a Example]) -> anyhow::Result<Self> {
        let (model, start) = (scorer.model, run.start);
        let lengths = examples.iter().map(|example| example.tokens.len());
        let seq = lengths.max().unwrap_or(start) - start;
        let mut cells = Vec::new();
        for (row, example) in examples.iter().enumerate() {
            let own = run.differences.row(row, example.tokens.len() - start)?;
            let positions = scorer.positions(example);
            let positions = positions.start.max(start) - start..positions.end - start;
            let stretches: Vec<Range<usize>> = if scorer.by_position {
                positions.map(|position| position..position + 1).collect()
            } else {
                vec![positions]
            };
            cells.extend(stretches.into_iter().map(|positions| Cell {
                example: row,
                differences: own.clone(),
                place: Place {
                    offset: row * seq,
                    positions,
                },
                map: vec![0.0; scorer.graph.n_entries()],
            }));
        }
        let readout = Readout::from_start(examples, seq, start);
        let reference = if examples.iter().any(|example| example.is_divergence()) {
            let whole = run.differences.0[0].dim(1)?;
            let rows = Readout::from_start(examples, whole, start).rows;
            let rows = model::Tensor::new(rows, model.device())?;
            Some(model.logits_of(&run.last.index_select(&rows, 0)?)?)
        } else {
            None
        };
        Ok(Self {
            examples,
            seq,
            readout,
            reference,
            cells,
        })
    }

    /// One reverse pass.
    fn reverse(
        &self,
        model: &Model,
        trace: &mut model::Trace,
        reads: &mut Reads<'_>,
    ) -> anyhow::Result<()> {
        let logits = model.logits_at(trace, &self.readout.rows)?;
        let losses = self
            .readout
            .losses(&logits, self.reference.as_ref(), self.examples)?;
        model.backward(trace, &losses.d_logits, reads, None)?;
        Ok(())
    }

    fn finish(self, scorer: &Scorer<'_>, start: usize) -> Vec<Scores> {
        let empty = || Scores {
            map: vec![0.0; scorer.graph.n_entries()],
            positions: Vec::new(),
        };
        let mut scores: Vec<Scores> = self.examples.iter().map(|_| empty()).collect();
        for cell in self.cells {
            let own = &mut scores[cell.example];
            own.map
                .iter_mut()
                .zip(&cell.map)
                .for_each(|(sum, score)| *sum += score);
            if scorer.by_position {
                let position = start + cell.place.positions.start;
                own.positions.push((position, cell.map));
            }
        }
        scores
    }
}
