//! Every character of the suite, in the order of the tokenizer's ids.

/// The characters of the corpus and of the teacher's format. The newline, first, ends a reply.
///
/// `[`, `]`, `|` and `w` occur only in the teacher's format: never in a document of the corpus.
pub const CHARACTERS: &str = "\n abcdefghijklmnopqrstuvwxyz0123456789+-=,.:?<#~[]|";
