//! Training: [`Trainer::step`] on one batch after the other.
//!
//! The encode is the only dense product of a sparse rule; the decode and all gradients read and write the rows of active
//! features only. The gradients are written out by hand and checked against finite differences and against autograd.

mod aux;
mod backward;
mod forward;
mod parameters;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod trainer;

pub use settings::{Distance, PUBLISHED_STEPS, Settings};
pub use trainer::{StepReport, Subject, Trainer};
