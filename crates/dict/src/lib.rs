//! Crosscoders: one sparse code for the residual streams of several models.
//!
//! # Layout
//! - [`Crosscoder`]: the weights, norms and normalisers
//! - `encode`: [`Crosscoder::encode`], [`Crosscoder::decode`] and the [`Readout`]s that give one code per model
//! - [`Rule`], [`CodeNormalization`], [`Selection`]: sparsity rules and how features are ranked
//! - [`Codes`], [`Columns`]: sparse codes by row and by feature
//! - [`Normalizer`], [`Moments`]: per-model normalisation
//! - `train`: [`Trainer`], its [`Settings`] and reports
//! - `file`: [`Crosscoder::save`], [`Crosscoder::load`]
//! - [`foreign`]: dictionaries of other programs, read and written
//! - [`Acts`]: the activations of a dictionary's models, several stores as one; [`Filter`]: rows left out
//! - `search`: the dense product of the encoder, and the largest of its results without a sort

mod acts;
mod codes;
mod crosscoder;
mod encode;
mod file;
mod filter;
pub mod foreign;
mod normalizer;
mod rule;
mod search;
mod train;

pub use acts::Acts;
pub use codes::{Codes, Columns};
pub use crosscoder::Crosscoder;
pub use encode::Readout;
pub use filter::{Filter, Kept};
pub use foreign::import_crosscoder_learning;
pub use normalizer::{Moments, Normalizer};
pub use rule::{CodeNormalization, Rule, Selection};
pub use train::{
    Block, DeviceError, Distance, PUBLISHED_STEPS, Penalty, Precision, Settings, StepReport,
    Subject, Trainer,
};
