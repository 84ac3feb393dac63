//! The sections of the page, each drawn only when its tables exist.
//!
//! # Layout
//! One file a section, with `write(report, page)`: [`overview`], [`accuracy`], [`training`], [`quality`], [`drift`],
//! [`dynamics`], [`circuit`] (metrics) and [`edges`] (maps and tops), [`selection`], [`effects`] (with [`changes`], the
//! arithmetic), [`notes`]. A `…_reading` beside a section holds its sentences. [`options`] prints settings.

pub(crate) mod accuracy;
mod accuracy_reading;
pub(crate) mod changes;
pub(crate) mod circuit;
mod circuit_reading;
pub(crate) mod drift;
mod drift_reading;
pub(crate) mod dynamics;
mod edge_map;
pub(crate) mod edges;
pub(crate) mod effects;
mod effects_sweep;
mod effects_table;
pub(crate) mod notes;
pub(crate) mod options;
pub(crate) mod overview;
pub(crate) mod quality;
mod removal;
pub(crate) mod selection;
pub(crate) mod training;

use crate::answers::Answers;
use crate::cast::{Cast, Roles};
use crate::find::Tables;
use crate::html::Page;

/// Everything a section may look at.
pub(crate) struct Report {
    pub tables: Tables,
    pub answers: Answers,
    pub cast: Cast,
    pub roles: Roles,
}

impl Report {
    /// Writes every section whose tables exist.
    pub(crate) fn write(&self, page: &mut Page) {
        overview::write(self, page);
        accuracy::write(self, page);
        training::write(self, page);
        quality::write(self, page);
        drift::write(self, page);
        dynamics::write(self, page);
        circuit::write(self, page);
        selection::write(self, page);
        effects::write(self, page);
        notes::write(self, page);
    }
}

/// Whether a file holds a null: an identical pair, told by its path (`null/drift.parquet`, `identical.metrics.parquet`).
pub(crate) fn is_null(file: &str) -> bool {
    let mut words = file.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| matches!(word, "null" | "identical"))
}

/// Whether an interval lies on one side of zero: `1` above, `-1` below, `0` neither.
pub(crate) fn side(estimate: &stats::Estimate) -> i32 {
    match (estimate.low > 0.0, estimate.high < 0.0) {
        (true, _) => 1,
        (_, true) => -1,
        _ => 0,
    }
}

/// The heading of a group of tasks, or what stands for none.
pub(crate) fn group_name(title: &str) -> &str {
    if title.is_empty() { "all tasks" } else { title }
}
