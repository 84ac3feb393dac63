//! Answers, and how two models compare on them.

use serde::{Deserialize, Serialize};

/// One answer of one model to one document: written by `evaluate run` and `intervene run`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Role of the model, as the user labelled it: `base`, `sft`, `rl`, …
    pub model: String,
    /// What was done to it: `none`, or an intervention such as `disable`, `amplify-2`, `disable/random-03`.
    pub arm: String,
    /// Task the document belongs to.
    pub task: String,
    /// Identifier of the document within its task.
    pub doc_id: String,
    /// Which of the repeated answers to this document, from 0.
    pub sample: u32,
    /// Text given to the model, after the chat template.
    pub prompt: String,
    /// Text the model wrote.
    pub completion: String,
    /// Answer found in the completion; null when none was found.
    pub extracted: Option<String>,
    /// Answer expected.
    pub target: String,
    /// Whether `extracted` is equivalent to `target`.
    pub correct: bool,
    /// Tokens generated, the end token included.
    pub n_tokens: u32,
    /// `stop` (an end token or a stop string) or `length` (the budget ran out: not an answer).
    pub finish_reason: String,
    /// What the model thought before it answered (the text inside `<think>…</think>`); null when it did not.
    pub reasoning: Option<String>,
    /// What each way of reading the completion found, as a JSON object: `{"boxed":{"extracted":"12","correct":true},…}`; null
    /// where the grader has only one.
    pub readings: Option<String>,
}

/// Two sets of answers to the same documents, compared: written by `evaluate compare`. One row per task and one for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Task, or `all`.
    pub task: String,
    /// Model and arm of the first set, as `model` or `model/arm`.
    pub a: String,
    /// Model and arm of the second set.
    pub b: String,
    /// Documents answered in both sets.
    pub n: u32,
    /// Share of correct answers in the first set, 0 to 1, with its Wilson interval.
    pub accuracy_a: f64,
    /// Lower end of the interval.
    pub accuracy_a_low: f64,
    /// Upper end of the interval.
    pub accuracy_a_high: f64,
    /// Share of correct answers in the second set, 0 to 1, with its Wilson interval.
    pub accuracy_b: f64,
    /// Lower end of the interval.
    pub accuracy_b_low: f64,
    /// Upper end of the interval.
    pub accuracy_b_high: f64,
    /// `accuracy_b - accuracy_a`, −1 to 1, with its paired bootstrap interval.
    pub difference: f64,
    /// Lower end of the interval.
    pub difference_low: f64,
    /// Upper end of the interval.
    pub difference_high: f64,
    /// Documents `a` answers wrong and `b` right.
    pub wrong_to_right: u32,
    /// Documents `a` answers right and `b` wrong.
    pub right_to_wrong: u32,
    /// Exact two-sided McNemar test on the discordant documents.
    pub p: f64,
    /// `p` corrected over the tasks by Holm's method.
    pub p_holm: f64,
    /// `p` corrected over the tasks by Benjamini and Hochberg: the share of false discoveries expected among the tasks at or
    /// below it; null for `all`.
    pub q: Option<f64>,
    /// Standard error of `difference`, clustered by the clusters of documents where they were given.
    pub difference_error: Option<f64>,
    /// Smallest true difference, in absolute value, that a two-sided test at 5 % finds in four of five such comparisons:
    /// 2.80 standard errors.
    pub detectable: Option<f64>,
    /// Answers to each document in both sets; null where it is not the same for all.
    pub answers: Option<u32>,
    /// Share of documents whose most frequent answer in the first set is right; null with one answer a document.
    pub majority_a: Option<f64>,
    /// The same in the second set.
    pub majority_b: Option<f64>,
    /// Share of documents with a right answer among all in the first set (pass@n); null with one answer a document.
    pub pass_a: Option<f64>,
    /// The same in the second set.
    pub pass_b: Option<f64>,
}
