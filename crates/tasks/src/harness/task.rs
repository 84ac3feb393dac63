//! A task with its rows: what it asks, and what the answers are worth.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config::{Config, Fewshot, Field, OutputType, Pipeline};
use super::documents::{Document, Places};
use super::functions::{Native, Values, native};
use super::load::Definition;
use super::measure::{Measure, measures};
use super::metric::{self, Scored};
use super::rows::Rows;
use super::{filter, literal, python, template};
use crate::{Error, Grader, Result, Verdict};

/// A task with its rows.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its file.
    pub definition: Definition,
    /// Documents to ask, in order.
    pub documents: Vec<Document>,
    /// Documents examples are drawn from.
    pub pool: Vec<Document>,
    /// Its metrics.
    pub measures: Vec<Measure>,
    /// Its pipelines of filters.
    pub pipelines: Vec<Pipeline>,
    /// Examples before a question.
    pub n_fewshot: usize,
    /// Files its rows come from.
    pub files: Vec<PathBuf>,
    pub(super) fewshot: Fewshot,
    /// Whether choices are different questions with one continuation, rather than continuations of one question.
    pub(super) several_inputs: bool,
    several_targets: bool,
}

/// The part of a document a field gives.
pub(super) type Part<T> = std::result::Result<T, String>;

impl Task {
    /// Reads the rows of a task; `n_fewshot` replaces its own number of examples unless that is 0.
    pub fn open(
        definition: &Definition,
        n_fewshot: Option<usize>,
        data: &[PathBuf],
    ) -> Result<Self> {
        let config = &definition.config;
        let places = Places {
            beside: definition.path.parent().unwrap_or(Path::new("")).to_owned(),
            data: data.to_owned(),
        };
        let fail = |cause: String| Error::Task {
            path: definition.path.clone(),
            cause,
        };
        let own = config.num_fewshot;
        let n_fewshot = if own == Some(0) {
            0
        } else {
            n_fewshot.or(own).unwrap_or(0)
        };
        let evaluated = config
            .test_split
            .as_ref()
            .or(config.validation_split.as_ref());
        let evaluated = evaluated
            .ok_or_else(|| fail("it has neither `test_split` nor `validation_split`".to_owned()))?;
        let mut rows = Rows {
            config,
            places: &places,
            files: Vec::new(),
        };
        let process = config.process_docs.as_ref();
        let documents = rows.read(evaluated, process)?;
        let pool = if n_fewshot > 0 {
            rows.pool(&config.fewshot(), &documents)?
        } else {
            Vec::new()
        };
        let files = rows.files;
        let mut task = Self {
            definition: definition.clone(),
            documents,
            pool,
            measures: measures(config).map_err(fail)?,
            pipelines: filter::pipelines(config.filter_list.as_ref()),
            n_fewshot,
            files,
            fewshot: config.fewshot(),
            several_inputs: false,
            several_targets: false,
        };
        task.try_first()
            .map_err(|cause| fail(format!("document 0: {cause}")))?;
        for pipeline in &task.pipelines {
            filter::check(pipeline).map_err(fail)?;
        }
        Ok(task)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.definition.config.task
    }

    /// Its keys.
    pub fn config(&self) -> &Config {
        &self.definition.config
    }

    /// Renders the first document, which tells whether there are several inputs or targets.
    fn try_first(&mut self) -> Part<()> {
        let first = &self.documents[0];
        let text = self.text(first)?;
        let target = self.target(first)?;
        let has_choices = self.config().doc_to_choice.is_some();
        if has_choices {
            self.choices(first)?;
        } else if self.config().output_type == OutputType::MultipleChoice {
            return Err("a multiple_choice task needs `doc_to_choice`".to_owned());
        }
        self.several_inputs = text.is_i64() && has_choices;
        self.several_targets = target.is_array();
        Ok(())
    }

    /// The question of a document; a number where choices are different questions.
    pub fn text(&self, document: &Document) -> Part<Value> {
        let field = self
            .config()
            .doc_to_text
            .as_ref()
            .ok_or("it has no `doc_to_text`")?;
        self.text_by(document, field)
    }

    pub(super) fn text_by(&self, document: &Document, field: &Field) -> Part<Value> {
        match field {
            Field::Number(number) => Ok((*number).into()),
            Field::Text(text) => match document.get(text) {
                Some(value) => Ok(value.clone()),
                None => Ok(self.number_or_text(template::render(text, document)?)),
            },
            Field::Function(function) => self.by_function(document, &function.name),
            Field::List(_) | Field::Named(_) => Err("`doc_to_text` is a list".to_owned()),
        }
    }

    /// The answer of a document: a text, the number of a choice, or a list of either.
    pub fn target(&self, document: &Document) -> Part<Value> {
        let field = self
            .config()
            .doc_to_target
            .as_ref()
            .ok_or("it has no `doc_to_target`")?;
        self.target_by(document, field)
    }

    pub(super) fn target_by(&self, document: &Document, field: &Field) -> Part<Value> {
        match field {
            Field::Number(number) => Ok((*number).into()),
            Field::List(items) => Ok(Value::Array(items.clone())),
            Field::Text(text) => {
                if let Some(value) = document.get(text) {
                    return Ok(value.clone());
                }
                let rendered = template::render(text, document)?;
                if rendered.len() >= 2 && rendered.starts_with('[') && rendered.ends_with(']') {
                    return Ok(literal::read(&rendered).unwrap_or(Value::String(rendered)));
                }
                Ok(self.number_or_text(rendered))
            }
            Field::Function(function) => self.by_function(document, &function.name),
            Field::Named(_) => Err("`doc_to_target` is a mapping".to_owned()),
        }
    }

    /// Digits alone are the number of a choice, where there are choices.
    fn number_or_text(&self, text: String) -> Value {
        let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        match text.parse::<i64>() {
            Ok(number) if digits && self.config().doc_to_choice.is_some() => number.into(),
            _ => text.into(),
        }
    }

    /// The choices of a document.
    pub fn choices(&self, document: &Document) -> Part<Vec<String>> {
        let field = self
            .config()
            .doc_to_choice
            .as_ref()
            .ok_or("it has no `doc_to_choice`")?;
        self.choices_by(document, field)
    }

    pub(super) fn choices_by(&self, document: &Document, field: &Field) -> Part<Vec<String>> {
        let value = match field {
            Field::List(items) => Value::Array(items.clone()),
            Field::Named(map) => map.values().cloned().collect(),
            Field::Number(number) => return Err(format!("`doc_to_choice` is the number {number}")),
            Field::Function(function) => self.by_function(document, &function.name)?,
            Field::Text(text) => {
                if let Some(value) = document.get(text) {
                    value.clone()
                } else {
                    let rendered = template::render(text, document)?;
                    literal::read(&rendered)
                        .ok_or_else(|| format!("`doc_to_choice` gives no list but {rendered}"))?
                }
            }
        };
        match value {
            Value::Array(items) if !items.is_empty() => {
                Ok(items.iter().map(python::text).collect())
            }
            other => Err(format!(
                "`doc_to_choice` gives no list of choices but {other}"
            )),
        }
    }

    fn by_function(&self, document: &Document, name: &str) -> Part<Value> {
        match native(name, self.config())? {
            Native::Column(function) => function(document),
            _ => Err(format!(
                "the function {name} is not for a part of the prompt"
            )),
        }
    }

    /// Values of the metrics for a document, from its filtered responses: a text, or one `[log-likelihood, greedy]` a choice.
    pub fn score(&self, document: &Document, filtered: &[Value]) -> Part<Values> {
        if let Some(function) = &self.config().process_results {
            return match native(&function.name, self.config())? {
                Native::Results(function) => function(document, filtered),
                Native::Grade(grader) => {
                    let verdict = self.graded(grader, document, filtered)?;
                    Ok(vec![(
                        "exact_match".to_owned(),
                        f64::from(u8::from(verdict.correct)).into(),
                    )])
                }
                _ => Err(format!("the function {} is not for results", function.name)),
            };
        }
        match self.config().output_type {
            OutputType::GenerateUntil => self.score_text(document, filtered),
            OutputType::MultipleChoice => self.score_choices(document, filtered),
            OutputType::Loglikelihood => {
                let [sum, greedy] = [0, 1].map(|place| {
                    filtered
                        .first()
                        .map_or(Value::Null, |one| one[place].clone())
                });
                let greedy = u8::from(greedy == true);
                Ok(self.asked([("perplexity", sum), ("acc", greedy.into())]))
            }
            OutputType::LoglikelihoodRolling => self.score_rolling(document, filtered),
        }
    }

    /// The grader of a task whose results are graded by one of ours.
    pub fn grader(&self) -> Option<Grader> {
        let function = self.config().process_results.as_ref()?;
        match native(&function.name, self.config()) {
            Ok(Native::Grade(grader)) => Some(grader),
            _ => None,
        }
    }

    /// The verdict of one of our graders on a filtered response.
    pub fn graded(&self, grader: Grader, document: &Document, filtered: &[Value]) -> Part<Verdict> {
        let response = filtered.first().and_then(Value::as_str);
        let response =
            response.ok_or("the filters leave several responses: end them with take_first")?;
        Ok(crate::grade(grader, response, &self.target_text(document)?))
    }

    /// The answer of a document as a text; of several, the list as Python prints it.
    pub fn target_text(&self, document: &Document) -> Part<String> {
        Ok(python::text(&self.target(document)?))
    }

    fn asked<const N: usize>(&self, values: [(&str, Value); N]) -> Values {
        let is_asked = |name: &str| self.measures.iter().any(|measure| measure.name == name);
        let values = values.into_iter().filter(|(name, _)| is_asked(name));
        values
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn score_text(&self, document: &Document, filtered: &[Value]) -> Part<Values> {
        let response = filtered.first().unwrap_or(&Value::Null);
        if response.is_array() {
            return Err("the filters leave several responses: end them with take_first".to_owned());
        }
        let response = python::text(response);
        let gold = self.gold_texts(document)?;
        let mut values = Values::new();
        for measure in &self.measures {
            match measure.name.as_str() {
                "bypass" => values.push(("bypass".to_owned(), Value::Null)),
                "exact_match" => {
                    let mut right = false;
                    for gold in &gold {
                        right |= metric::exact_match(&response, gold, &measure.options)?;
                    }
                    values.push(("exact_match".to_owned(), f64::from(u8::from(right)).into()));
                }
                other => return Err(format!("the metric {other} is not for generated text")),
            }
        }
        Ok(values)
    }

    fn gold_texts(&self, document: &Document) -> Part<Vec<String>> {
        let gold = self.target(document)?;
        if self.config().doc_to_choice.is_some() {
            let choices = self.choices(document)?;
            let chosen = gold
                .as_u64()
                .and_then(|place| choices.get(place as usize).cloned());
            return Ok(vec![chosen.ok_or_else(|| {
                format!("`doc_to_target` gives no number of a choice but {gold}")
            })?]);
        }
        match gold {
            Value::Array(items) if self.several_targets => {
                Ok(items.iter().map(python::text).collect())
            }
            one => Ok(vec![python::text(&one)]),
        }
    }

    fn score_choices(&self, document: &Document, filtered: &[Value]) -> Part<Values> {
        let choices = self.choices(document)?;
        let pair = |one: &Value| (one[0].as_f64().unwrap_or(f64::NAN), one[1] == true);
        let pairs: Vec<(f64, bool)> = filtered.iter().map(pair).collect();
        let (likelihoods, alone) = pairs
            .split_at_checked(choices.len())
            .ok_or("fewer responses than choices")?;
        let scored = Scored {
            choices: &choices,
            likelihoods,
            unconditional: (alone.len() == choices.len()).then_some(alone),
            gold: &self.gold(document, &choices)?,
        };
        let names: Vec<&str> = self
            .measures
            .iter()
            .map(|measure| measure.name.as_str())
            .collect();
        Ok(metric::multiple_choice(&scored, &names))
    }

    /// Numbers of the right choices of a document; none for one out of range.
    pub fn gold(&self, document: &Document, choices: &[String]) -> Part<Vec<Option<usize>>> {
        let gold = if self.several_inputs {
            self.text(document)?
        } else {
            self.target(document)?
        };
        let place = |one: &Value| match one {
            Value::String(text) => choices.iter().position(|choice| choice == text),
            // As in Python, −1 is the last.
            other => other.as_i64().and_then(|place| {
                let place = if place < 0 {
                    choices.len() as i64 + place
                } else {
                    place
                };
                usize::try_from(place)
                    .ok()
                    .filter(|place| *place < choices.len())
            }),
        };
        Ok(match &gold {
            Value::Array(items) => items.iter().map(place).collect(),
            one => vec![place(one)],
        })
    }

    fn score_rolling(&self, document: &Document, filtered: &[Value]) -> Part<Values> {
        let sum = filtered.first().cloned().unwrap_or_default();
        let text = self.target_text(document)?;
        // Python splits at runs of blanks and counts the empty parts at either end.
        let words = 1 + super::regex::find_all(&super::regex::compile(r"\s+")?, &text)?.len();
        let pair = |n: usize| Value::Array(vec![sum.clone(), n.into()]);
        Ok(self.asked([
            ("word_perplexity", pair(words)),
            ("byte_perplexity", pair(text.len())),
            ("bits_per_byte", pair(text.len())),
        ]))
    }
}

/// A column or a template, such as `gen_prefix` and `description`; none when it is not set.
pub(super) fn optional(document: &Document, text: Option<&str>) -> Part<Option<String>> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => match document.get(text) {
            Some(value) => Ok(Some(python::text(value))),
            None => template::render(text, document).map(Some),
        },
    }
}
