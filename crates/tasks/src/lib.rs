//! Prompts, answer extraction and grading: what a model is asked and whether it got it right.
//!
//! # Layout
//! - [`item`] — one question with its answer, as a line of a `.jsonl` file
//! - [`question`] — items as a model is asked them, in batches
//! - [`grade`](mod@grade) — from a completion to a verdict
//! - [`ifeval`] — instructions whose keeping a program can check
//! - [`thinking`] — reasoning apart from answers
//! - [`harness`] — task files of lm-evaluation-harness
//! - [`lab`] — the built-in suite: eight text tasks, two kinds of author, a corpus in which the known answer is planted
//! - [`error`] — what can be wrong with a task file
//!
//! ```
//! use tasks::{Grader, grade};
//! let verdict = grade(Grader::Lab, "so 9+3=12,5+6+1=12#122.", "122");
//! assert!(verdict.correct);
//! ```

pub mod error;
pub mod grade;
pub mod harness;
pub mod ifeval;
pub mod item;
pub mod lab;
pub mod question;
pub mod thinking;

pub use error::{Error, Result};
pub use grade::{Grader, Reading, Verdict, check_target, grade};
pub use item::{Item, read_items, read_items_from, write_items};
pub use question::{Question, Selection};
