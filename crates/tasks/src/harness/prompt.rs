//! What the model is given for every document: description, examples, question, continuations.

use serde_json::{Map, Value};

use super::config::OutputType;
use super::documents::Document;
use super::python;
use super::random::Random;
use super::task::{Part, Task, optional};
use crate::{Error, Result};

/// One turn of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What is said.
    pub content: String,
    /// What follows it in a plain text.
    delimiter: String,
}

impl Turn {
    fn new(role: &'static str, content: impl Into<String>, delimiter: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            delimiter: delimiter.into(),
        }
    }
}

/// Writes turns as a model's chat template does; the flag says whether the model's own turn is to begin (else the last turn
/// goes on).
pub type Template<'a> = &'a dyn Fn(&[Turn], bool) -> std::result::Result<String, String>;

/// How prompts are put together.
#[derive(Clone, Copy, Default)]
pub struct Style<'a> {
    /// The model's chat template; none for plain text.
    pub chat: Option<Template<'a>>,
    /// Examples as turns of their own, rather than in one turn with the question.
    pub multiturn: bool,
    /// What stands before all else.
    pub system: Option<&'a str>,
}

impl std::fmt::Debug for Style<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Style")
            .field("chat", &self.chat.is_some())
            .field("multiturn", &self.multiturn)
            .field("system", &self.system)
            .finish()
    }
}

/// What is asked of the model for one document.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// To go on until a stop string.
    Generate {
        /// The prompt.
        context: String,
    },
    /// The likelihood of continuations, each after its context.
    Score {
        /// Contexts and continuations.
        pairs: Vec<(String, String)>,
    },
    /// The likelihood of a whole text.
    Roll {
        /// The text.
        text: String,
    },
}

impl Task {
    /// The request of every document among the first `limit`, in order. They depend on the documents before them, since
    /// examples are drawn from one stream of random numbers as lm-evaluation-harness draws them.
    pub fn requests(&self, style: Style, limit: usize) -> Result<Vec<Request>> {
        let mut random = Random::new(1234);
        let mut requests = Vec::new();
        for (number, document) in self.documents.iter().take(limit).enumerate() {
            let request = self.request(document, style, &mut random);
            requests.push(request.map_err(|cause| Error::Task {
                path: self.definition.path.clone(),
                cause: format!("document {number}: {cause}"),
            })?);
        }
        Ok(requests)
    }

    fn request(&self, document: &Document, style: Style, random: &mut Random) -> Part<Request> {
        let contexts = self.contexts(document, style, random)?;
        match self.config().output_type {
            OutputType::GenerateUntil => Ok(Request::Generate {
                context: contexts.into_iter().next().unwrap_or_default(),
            }),
            OutputType::Loglikelihood => {
                let target = self.target_text(document)?;
                Ok(Request::Score {
                    pairs: contexts
                        .into_iter()
                        .take(1)
                        .map(|context| (context, target.clone()))
                        .collect(),
                })
            }
            OutputType::LoglikelihoodRolling => Ok(Request::Roll {
                text: self.target_text(document)?,
            }),
            OutputType::MultipleChoice => self.choice_request(document, contexts, style),
        }
    }

    fn choice_request(
        &self,
        document: &Document,
        contexts: Vec<String>,
        style: Style,
    ) -> Part<Request> {
        let choices = self.choices(document)?;
        let begun = self
            .config()
            .gen_prefix
            .as_deref()
            .is_some_and(|prefix| !prefix.is_empty() && !prefix.ends_with(char::is_whitespace));
        let delimiter = if style.chat.is_some() && !begun {
            ""
        } else {
            &self.config().target_delimiter
        };
        let mut pairs: Vec<(String, String)> = if self.several_inputs {
            let target = self.target_text(document)?;
            contexts
                .into_iter()
                .map(|context| (context, format!("{delimiter}{target}")))
                .collect()
        } else {
            let context = contexts.into_iter().next().unwrap_or_default();
            choices
                .iter()
                .map(|choice| (context.clone(), format!("{delimiter}{choice}")))
                .collect()
        };
        if self
            .measures
            .iter()
            .any(|measure| measure.name == "acc_mutual_info")
        {
            pairs.extend(
                choices
                    .iter()
                    .map(|choice| (String::new(), format!("{delimiter}{choice}"))),
            );
        }
        Ok(Request::Score { pairs })
    }

    /// The prompt; one for each choice where the choices are different questions.
    fn contexts(
        &self,
        document: &Document,
        style: Style,
        random: &mut Random,
    ) -> Part<Vec<String>> {
        let config = self.config();
        let description = optional(document, config.description.as_deref())?.unwrap_or_default();
        let system = joined(
            style.system.unwrap_or_default(),
            &description,
            &config.fewshot_delimiter,
        );
        let mut turns = Vec::new();
        if !system.is_empty() {
            turns.push(Turn::new("system", system, ""));
        }
        for example in self.examples(document, random)? {
            turns.extend(self.example_turns(&example)?);
        }
        let prefix = match config.gen_prefix.as_deref() {
            Some(prefix) => optional(document, Some(prefix))?,
            None => None,
        };
        let prefix = prefix.filter(|prefix| !prefix.is_empty());
        let (questions, delimiter) = if self.several_inputs {
            (self.choices(document)?, "")
        } else {
            let question = self.text(document)?;
            let question = question
                .as_str()
                .ok_or_else(|| format!("`doc_to_text` gives no text but {question}"))?;
            (vec![question.to_owned()], config.target_delimiter.as_str())
        };
        let written = |question: &String| {
            let mut turns = turns.clone();
            turns.extend(question_turns(question, prefix.as_deref(), delimiter));
            written(turns, style, prefix.is_none())
        };
        questions.iter().map(written).collect()
    }

    /// The examples before a document.
    fn examples(&self, document: &Document, random: &mut Random) -> Part<Vec<Document>> {
        let n = self.n_fewshot;
        if n == 0 {
            return Ok(Vec::new());
        }
        let pool = &self.pool;
        let too_few = || format!("{n} examples were asked for, and there are {}", pool.len());
        // Where examples come from the documents that are asked, a document is no example for itself.
        let apart = self.fewshot.split == self.config().test_split;
        let is_other = |other: &&Document| !apart || *other != document;
        let chosen = |places: Vec<usize>| places.into_iter().map(|place| &pool[place]);
        let examples: Vec<Document> = match self.fewshot.sampler.as_deref() {
            Some("first_n") => pool.iter().filter(is_other).take(n).cloned().collect(),
            Some("default") => {
                let places = random
                    .sample(pool.len(), n + usize::from(apart))
                    .ok_or_else(too_few)?;
                chosen(places).filter(is_other).take(n).cloned().collect()
            }
            other => {
                return Err(format!(
                    "the sampler {} is not known",
                    other.unwrap_or_default()
                ));
            }
        };
        if examples.len() == n {
            return Ok(examples);
        }
        // The document occurs more than once in the pool: draw again, without it.
        let others: Vec<&Document> = pool.iter().filter(is_other).collect();
        let places = random.sample(others.len(), n).ok_or_else(too_few)?;
        Ok(places
            .into_iter()
            .map(|place| others[place].clone())
            .collect())
    }

    fn example_turns(&self, example: &Document) -> Part<[Turn; 2]> {
        let fewshot = &self.fewshot;
        let missing = |name: &str| format!("an example has no `{name}`");
        let question = self.text_by(
            example,
            fewshot
                .doc_to_text
                .as_ref()
                .ok_or_else(|| missing("doc_to_text"))?,
        )?;
        let answer = self.target_by(
            example,
            fewshot
                .doc_to_target
                .as_ref()
                .ok_or_else(|| missing("doc_to_target"))?,
        )?;
        let choices = match &fewshot.doc_to_choice {
            Some(field) => Some(self.choices_by(example, field)?),
            None => None,
        };
        let chosen = |number: &Value| {
            let place = number.as_u64().map(|place| place as usize);
            choices
                .as_ref()
                .and_then(|choices| choices.get(place?))
                .cloned()
        };
        let (question, answer) = if self.several_inputs {
            let question = chosen(&question)
                .ok_or_else(|| format!("the example's question is no choice but {question}"))?;
            (question, python::text(&answer))
        } else {
            let question = question
                .as_str()
                .ok_or_else(|| format!("an example's question is no text but {question}"))?;
            (question.to_owned(), answer_text(&answer, chosen(&answer))?)
        };
        let prefix = optional(example, fewshot.gen_prefix.as_deref())?;
        let between = fewshot.target_delimiter.as_deref().unwrap_or_default();
        let delimiter = match &prefix {
            Some(prefix) if !needs_blank(&question, prefix) => "",
            _ => between,
        };
        let answer = joined(prefix.as_deref().unwrap_or_default(), &answer, " ");
        let after = fewshot.fewshot_delimiter.as_deref().unwrap_or_default();
        Ok([
            Turn::new("user", question, delimiter),
            Turn::new("assistant", answer, after),
        ])
    }

    /// How this task generates: its own settings.
    pub fn generation(&self) -> Map<String, Value> {
        self.config().generation().unwrap_or_default()
    }
}

/// The answer of an example: a choice by its number, the first of several answers, or the text itself.
fn answer_text(answer: &Value, chosen: Option<String>) -> Part<String> {
    match (answer, chosen) {
        (Value::Number(_), Some(choice)) => Ok(choice),
        (Value::Array(several), _) => several
            .first()
            .map(python::text)
            .ok_or_else(|| "an example has no answer".to_owned()),
        (Value::String(text), _) => Ok(text.clone()),
        (other, _) => Err(format!("an example's answer is no text but {other}")),
    }
}

fn question_turns(question: &str, prefix: Option<&str>, delimiter: &str) -> Vec<Turn> {
    match prefix {
        None => vec![Turn::new("user", question, "")],
        Some(prefix) => {
            let delimiter = if needs_blank(question, prefix) {
                delimiter
            } else {
                ""
            };
            vec![
                Turn::new("user", question, delimiter),
                Turn::new("assistant", prefix, ""),
            ]
        }
    }
}

fn needs_blank(before: &str, after: &str) -> bool {
    let blank = before.ends_with(char::is_whitespace) || after.starts_with(char::is_whitespace);
    !(before.is_empty() || blank)
}

/// Two texts with a delimiter between them unless there is a blank already, or one is empty.
fn joined(before: &str, after: &str, delimiter: &str) -> String {
    match (before, after) {
        ("", text) | (text, "") => text.to_owned(),
        _ if needs_blank(before, after) => format!("{before}{delimiter}{after}"),
        _ => format!("{before}{after}"),
    }
}

fn plain(turns: &[Turn]) -> String {
    turns
        .iter()
        .flat_map(|turn| [turn.content.as_str(), &turn.delimiter])
        .collect()
}

fn written(turns: Vec<Turn>, style: Style, begins: bool) -> Part<String> {
    match style.chat {
        None => Ok(plain(&turns)),
        Some(template) if style.multiturn => template(&turns, begins),
        Some(template) => template(&single(turns), begins),
    }
}

/// Everything the user and the examples say in one turn, between the system's and a last one of the assistant.
fn single(mut turns: Vec<Turn>) -> Vec<Turn> {
    let last = turns.pop_if(|turn| turn.role == "assistant");
    let mut single: Vec<Turn> = Vec::new();
    if turns.first().is_some_and(|turn| turn.role == "system") {
        single.push(turns.remove(0));
    }
    if let Some(turn) = turns.last_mut() {
        turn.delimiter.clear();
    }
    single.push(Turn::new("user", plain(&turns), ""));
    single.extend(last);
    single
}
