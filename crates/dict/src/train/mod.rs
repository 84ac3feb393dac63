//! Training: [`Trainer::step`] on one batch after the other.
//!
//! The encode is the only dense product of a sparse rule, and its result is never held: the decode, all gradients and Adam
//! read and write the rows of active features only. The gradients are written out by hand and checked against finite differences and against autograd.

mod aux;
mod backward;
mod choose;
mod compute;
mod finished;
mod forward;
mod history;
mod kernels;
mod parameters;
mod part;
mod partition;
mod penalty;
mod settings;
mod sources;
mod state;
mod tensors;
#[cfg(test)]
mod tests;
mod trainer;
mod update;

pub use compute::DeviceError;
pub use partition::Block;
pub use settings::{Distance, PUBLISHED_STEPS, Penalty, Precision, Settings};
pub use trainer::{StepReport, Subject, Trainer};
