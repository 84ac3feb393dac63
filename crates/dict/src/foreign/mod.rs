//! Dictionaries of other programs.

mod crosscoder_learning;

pub use crosscoder_learning::import_crosscoder_learning;
