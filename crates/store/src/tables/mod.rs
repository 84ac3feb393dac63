//! Every table of the workspace: one documented struct, one column per field.
//!
//! A column exists in exactly one place. Units are in the names, ranges in the comments, intervals are
//! `x, x_low, x_high` (95 % unless said). `tests/golden/schema.txt` makes a change visible in review.

mod circuit;
mod crosscoder;
mod evaluation;
mod features;
mod training;

pub use circuit::{CircuitOverlap, CircuitPoint, Edge, EdgeChange, EdgeMetric, PositionEdge};
pub use crosscoder::{CrosscoderEval, CrosscoderModelStep, CrosscoderStep, Token};
pub use evaluation::{Comparison, Sample};
pub use features::{Drift, Dynamics, Score, Selection};
pub use training::TrainingStep;
