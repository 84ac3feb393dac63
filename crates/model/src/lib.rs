//! The hooked transformer: load, forward, backward, generate, chat.
//!
//! # Layout
//! - [`config`]: what a `config.json` says, for every architecture in one struct
//! - [`weights`]: Hugging Face directories in and out
//! - [`storage`]: what weights are in memory: `f32`, `bf16`, 8-bit integers
//! - [`transformer`]: the forward pass; one, with taps
//! - [`backward`]: the reverse pass, written out; [`gradients`]: of the weights, where training asks for them
//! - [`heads`]: gradients of single heads; [`rules`]: what the reverse pass may take for constant; [`pieces`]: parts of a
//!   block by themselves, and the rest of a pass from the middle
//! - [`ops`]: the operators of both; plain candle for any device and dtype, `kernels` for `f32` on the CPU
//! - [`hook`], [`tap`]: where an activation can be seen or replaced, and by whom
//! - [`batch`], [`cache`], [`generate`]: tokens in, tokens out
//! - [`queue`]: generation where rows end and begin one by one
//! - `packed`: passes without padding, for those two
//! - [`score`]: log-probabilities of given tokens; [`branch`]: of what may follow many contexts
//! - [`loss`]: negative log-likelihood and its gradient; [`likelihood`]: without keeping logits
//! - [`tokenizer`]: text to tokens and back; [`chat`]: chat templates
//! - [`place`]: where and how models are computed, by name
//! - [`hub`]: model directories by their name on the Hugging Face Hub
//!
//! Nothing here prints. Weights and activations are candle tensors, so the device is the caller's choice.

mod assemble;
pub mod backward;
pub mod batch;
pub mod branch;
pub mod cache;
pub mod chat;
pub mod config;
mod error;
pub mod generate;
pub mod gradients;
pub mod heads;
pub mod hook;
pub mod hub;
pub mod likelihood;
pub mod loss;
mod norm;
pub mod ops;
mod packed;
pub mod pieces;
pub mod place;
pub mod queue;
mod reading;
mod rotary;
pub mod rules;
mod sample;
pub mod score;
mod step;
pub mod storage;
pub mod tap;
pub mod tokenizer;
mod trace;
pub mod transformer;
pub mod weights;

pub use batch::Batch;
pub use branch::Branch;
pub use cache::Cache;
pub use chat::{Date, Message};
pub use config::Config;
pub use error::{Error, Result};
pub use generate::{Finish, Generated, Sampling, Stops};
pub use gradients::Gradients;
pub use heads::HeadGradients;
pub use hook::{Hook, Site, Target};
pub use kernels::KeyGradients;
pub use likelihood::Likelihood;
pub use loss::nll;
pub use pieces::HeadWeights;
pub use place::{Names, Place};
pub use rules::Rules;
pub use score::Continuation;
pub use storage::{Loading, Storage};
pub use tap::{GradientTap, Recorder, Tap};
pub use tokenizer::Tokenizer;
pub use trace::TraceOf;
pub use transformer::{Model, Trace};
pub use weights::parse_dtype;

pub use kernels::Precision;

pub use candle_core::{DType, Device, Tensor};
