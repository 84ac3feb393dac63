//! The built-in suite: eight text tasks with exact answers, written by two kinds of author.
//!
//! Every document of the corpus has one author, careful or sloppy throughout, and nothing in the text says which. A careful
//! author shows short steps and is right; a sloppy one shows none and slips half of the time, in the way typical of the
//! task. A base model trained on it can do both and mostly writes as the majority does: sloppily. Outcome reward on one
//! task selects the careful manner, which all tasks share. That shared manner is the known answer an analysis should find:
//! the mechanism is planted, and it validates the tools.
//!
//! # Layout
//! - [`problem`] — one problem of each task: prompt, worked steps, answer, slip
//! - [`author`] — how the two authors write a reply
//! - [`corpus`] — the documents a base model is trained on
//! - [`suite`] — the splits and their items
//! - [`alphabet`] — every character that occurs

pub mod alphabet;
pub mod author;
pub mod corpus;
pub mod problem;
pub mod suite;

pub use alphabet::CHARACTERS;
pub use author::Author;
pub use corpus::{DOCUMENT_CHARACTERS, Document, documents};
pub use problem::{Problem, Role, Task};
pub use suite::{Settings, Split, Suite, items};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The random numbers of one purpose: a stream of its own, so that nothing depends on what was drawn before.
pub(crate) fn random(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}
