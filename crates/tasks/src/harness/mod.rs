//! Task files of lm-evaluation-harness: what they ask of which data, and what the answers are worth, without Python.
//!
//! Numbers, prompts and hashes are those of lm-evaluation-harness 0.4.13; where a file needs Python that is not known here,
//! reading it is an error that names the function.
//!
//! # Layout
//! - [`load`] — files, includes, tags; [`groups`] — groups; [`config`] — the keys of one task; [`dump`] — written back;
//!   [`yaml`] — YAML 1.1
//! - [`documents`] — rows of JSON, CSV and Parquet files; [`rows`] — those of a task; [`functions`] — Python functions written
//!   here
//! - [`task`] — a task with its rows: questions, answers, scores; [`prompt`] — prompts with examples
//! - [`filter`] — from responses to what is compared; [`metric`] — values of a document, [`measure`] — which of them,
//!   [`aggregation`] — figures of all; [`hendrycks`] — an old equality
//! - [`template`], [`regex`](mod@regex), [`python`], [`literal`], [`random`] — Jinja2, `re`, spelling, literals and `random` of
//!   Python

pub mod aggregation;
pub mod config;
pub mod documents;
pub mod dump;
pub mod filter;
pub mod functions;
pub mod groups;
pub mod hendrycks;
pub mod literal;
pub mod load;
pub mod measure;
pub mod metric;
pub mod prompt;
pub mod python;
pub mod random;
pub mod regex;
pub mod rows;
pub mod task;
pub mod template;
pub mod yaml;

pub use config::{Config, OutputType};
pub use documents::Document;
pub use groups::Group;
pub use load::{Definition, Library, Selection, is_task_file};
pub use prompt::{Request, Style, Turn};
pub use task::Task;
