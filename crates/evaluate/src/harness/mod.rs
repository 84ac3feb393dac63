//! Tasks of lm-evaluation-harness files, and of bare JSON lines with a preset: asked, judged, and written as the harness
//! writes them.
//!
//! # Layout
//! - [`open`] — which tasks the arguments name; [`preset`] — tasks for bare JSON lines
//! - [`units`] — what is asked of which document, in tokens
//! - [`score`] — likelihoods of continuations, shared beginnings computed once
//! - [`until`] — texts that end at stop strings
//! - [`ask`] — batches through the model; [`judge`] — answers as rows
//! - [`export`], [`figures`], [`header`] — the files lm-evaluation-harness writes

pub mod ask;
pub mod export;
pub mod figures;
pub mod header;
pub mod judge;
pub mod open;
pub mod preset;
pub mod score;
pub mod units;
pub mod until;
