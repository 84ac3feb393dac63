//! The checkpoints of one training, read through a dictionary that never saw them.
//!
//! Swap readout (arXiv 2609.35210): a checkpoint's activation fills every slot of the dictionary but the last, which, with
//! three models and more, keeps its own (the teacher); with two models it fills both. Code and base code then differ by the
//! checkpoint alone. It holds only where the dictionary still reconstructs the input it is given, which is measured.

use crate::specific::Collector;
use anyhow::{Context, ensure};
use dict::{Acts, Codes, Crosscoder, Filter, Kept, Moments, Selection};
use std::path::{Path, PathBuf};
use store::{ActivationStore, Error};

/// Rows taken at a time.
const CHUNK: usize = 1024;

/// A dictionary with the model that everything is compared against.
pub struct Reference<'a> {
    /// Dictionary.
    pub dictionary: &'a Crosscoder,
    /// Its file.
    pub path: &'a Path,
    /// Number of the base model.
    pub base: usize,
}

impl Reference<'_> {
    /// Slot that keeps its own activation; none with two models.
    fn keep(&self) -> Option<usize> {
        let n_models = self.dictionary.n_models();
        (n_models > 2).then(|| n_models - 1)
    }

    /// Codes of an activation in every slot but the kept one.
    fn encode(&self, x: &[f32], kept: Option<&[f32]>, n_rows: usize) -> Codes {
        let slot = |slot: usize| kept.filter(|_| Some(slot) == self.keep()).unwrap_or(x);
        let slots: Vec<&[f32]> = (0..self.dictionary.n_models()).map(slot).collect();
        self.dictionary.encode(&slots, n_rows, Selection::Rule)
    }
}

/// One checkpoint, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Label in the store.
    pub label: String,
    /// Sums of its code and of the base's, by document.
    pub documents: Collector,
    /// Share of the swapped input's variance that the dictionary explains, mean over the swapped slots.
    pub explained_variance: f64,
    /// `Σ‖z − z_base‖₁ / Σ‖z_base‖₁` over all rows.
    pub code_shift: f64,
}

/// Reads all checkpoints of a store: the labels the dictionary does not have, in the order of the store.
pub fn read(
    reference: &Reference<'_>,
    path: &Path,
    keep_special: bool,
) -> anyhow::Result<Vec<Checkpoint>> {
    let (acts, labels) = open(reference, path)?;
    let kept = Filter {
        keep_special,
        ..Filter::default()
    }
    .apply(&acts)?;
    cli::say(&format!(
        "{}: {} checkpoints; {}",
        path.display(),
        labels.len(),
        kept.report()
    ));
    let mut readers: Vec<Reader> = labels
        .iter()
        .map(|_| Reader::new(reference.dictionary))
        .collect();
    let progress = cli::Progress::start("swap readout", kept.rows.len() as u64, "rows");
    for (rows, documents) in kept.rows.chunks(CHUNK).zip(kept.documents.chunks(CHUNK)) {
        if cli::stop_requested() {
            return Err(cli::Stopped {
                done: "nothing is kept".into(),
            }
            .into());
        }
        read_rows(reference, &acts, rows, documents, &mut readers)?;
        progress.advance(rows.len() as u64);
    }
    progress.finish();
    Ok(labels
        .into_iter()
        .zip(readers)
        .map(|(label, reader)| reader.finish(label, &kept))
        .collect())
}

/// Opens base, teacher (where the dictionary has one) and checkpoints, in this order.
fn open(reference: &Reference<'_>, path: &Path) -> anyhow::Result<(Acts, Vec<String>)> {
    let Reference {
        dictionary, base, ..
    } = *reference;
    let store = ActivationStore::open(path)?;
    let known = |label: &&String| !dictionary.labels.contains(*label);
    let checkpoints: Vec<String> = store.labels().iter().filter(known).cloned().collect();
    ensure!(
        checkpoints.len() > 1,
        "cannot use {}: a series needs two checkpoints, labels that {} does not have; it holds {}",
        path.display(),
        reference.path.display(),
        store.labels().join(", ")
    );
    let mut models = vec![dictionary.labels[base].clone()];
    models.extend(reference.keep().map(|keep| dictionary.labels[keep].clone()));
    models.extend(checkpoints.iter().cloned());
    let hook = store
        .hooks()
        .contains(&dictionary.hook)
        .then_some(dictionary.hook.as_str());
    let acts = Acts::open(&[PathBuf::from(path)], &models, hook)
        .with_context(|| format!("cannot read {} as a series", path.display()))?;
    acts.check_origin(dictionary, reference.path)?;
    let odd = acts
        .widths()
        .iter()
        .chain(&dictionary.widths)
        .find(|&&width| width != dictionary.widths[base]);
    if let Some(width) = odd {
        let widths = [dictionary.widths[base].to_string(), width.to_string()];
        return Err(
            Error::disagree(reference.path, path, "a width", [&widths[0], &widths[1]]).into(),
        );
    }
    Ok((acts, checkpoints))
}

/// Adds a chunk of rows to every checkpoint.
fn read_rows(
    reference: &Reference<'_>,
    acts: &Acts,
    rows: &[u32],
    documents: &[u32],
    readers: &mut [Reader],
) -> anyhow::Result<()> {
    let x = acts.pick(rows)?;
    let before = x.len() - readers.len();
    let kept = reference.keep().map(|_| x[1].as_slice());
    let base = reference.encode(&x[0], kept, rows.len());
    for (reader, x) in readers.iter_mut().zip(&x[before..]) {
        let codes = reference.encode(x, kept, rows.len());
        reader.shift += distance(&codes, &base);
        reader.base_total += base
            .activations
            .iter()
            .map(|&value| f64::from(value))
            .sum::<f64>();
        reader.documents.add(&codes, &base, documents);
        reader.add_errors(reference, x, &codes);
    }
    Ok(())
}

/// Σ over rows of ‖a − b‖₁.
fn distance(a: &Codes, b: &Codes) -> f64 {
    let row = |row: usize| {
        let (mut a, mut b) = (a.row(row).peekable(), b.row(row).peekable());
        let mut total = 0.0;
        loop {
            let (left, right) = (a.peek().copied(), b.peek().copied());
            let difference = match (left, right) {
                (None, None) => return total,
                (Some(left), Some(right)) if left.0 == right.0 => left.1 - right.1,
                (Some(left), Some(right)) if left.0 < right.0 => left.1,
                (Some(left), None) => left.1,
                (_, Some(right)) => -right.1,
            };
            let next = left
                .map_or(u32::MAX, |entry| entry.0)
                .min(right.map_or(u32::MAX, |entry| entry.0));
            a.next_if(|entry| entry.0 == next);
            b.next_if(|entry| entry.0 == next);
            total += f64::from(difference.abs());
        }
    };
    (0..a.n_rows()).map(row).sum()
}

/// A checkpoint being read.
struct Reader {
    documents: Collector,
    moments: Moments,
    /// Σ‖x − x̂‖² of each slot.
    errors: Vec<f64>,
    shift: f64,
    base_total: f64,
    /// Slot that is not swapped.
    keep: Option<usize>,
}

impl Reader {
    fn new(dictionary: &Crosscoder) -> Self {
        let n_models = dictionary.n_models();
        Self {
            documents: Collector::new(dictionary.n_features),
            moments: Moments::new(dictionary.widths[0]),
            errors: vec![0.0; n_models],
            shift: 0.0,
            base_total: 0.0,
            keep: (n_models > 2).then(|| n_models - 1),
        }
    }

    fn add_errors(&mut self, reference: &Reference<'_>, x: &[f32], codes: &Codes) {
        self.moments.add(x);
        for slot in (0..self.errors.len()).filter(|&slot| Some(slot) != self.keep) {
            let decoded = reference.dictionary.decode(slot, codes);
            let square = |(x, decoded): (&f32, &f32)| f64::from(x - decoded).powi(2);
            self.errors[slot] += x.iter().zip(&decoded).map(square).sum::<f64>();
        }
    }

    fn finish(self, label: String, kept: &Kept) -> Checkpoint {
        let spread = self.moments.variance().iter().sum::<f64>() * kept.rows.len() as f64;
        let swapped = self.errors.len() - usize::from(self.keep.is_some());
        let error = self.errors.iter().sum::<f64>() / swapped as f64;
        Checkpoint {
            label,
            documents: self.documents.finish(kept.n_documents()),
            explained_variance: 1.0 - error / spread.max(f64::MIN_POSITIVE),
            code_shift: self.shift / self.base_total.max(f64::MIN_POSITIVE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_entries_of_either_side() {
        let (mut a, mut b) = (Codes::default(), Codes::default());
        a.push_row([(0, 1.0), (2, 2.0), (5, 1.0)]);
        b.push_row([(1, 0.5), (2, 3.0)]);
        a.push_row([]);
        b.push_row([(7, 4.0)]);
        assert!((distance(&a, &b) - (1.0 + 0.5 + 1.0 + 1.0 + 4.0)).abs() < 1e-9);
    }
}
