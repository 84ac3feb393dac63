//! What one task file says, with the defaults of lm-evaluation-harness.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// How a model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    /// It writes until a stop string.
    GenerateUntil,
    /// The likeliest of several continuations is its answer.
    MultipleChoice,
    /// The log-likelihood of one continuation.
    Loglikelihood,
    /// The log-likelihood of a whole text.
    LoglikelihoodRolling,
}

impl OutputType {
    /// As task files spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GenerateUntil => "generate_until",
            Self::MultipleChoice => "multiple_choice",
            Self::Loglikelihood => "loglikelihood",
            Self::LoglikelihoodRolling => "loglikelihood_rolling",
        }
    }
}

/// A name of Python code, which stands for code of ours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// `module.function`
    #[serde(rename = "!function")]
    pub name: String,
}

/// How a part of the prompt comes from a document.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Field {
    /// A column where there is one of that name, else a template.
    Text(String),
    /// The same number for every document.
    Number(i64),
    /// The same choices for every document.
    List(Vec<Value>),
    /// Code.
    Function(Function),
    /// Choices with names, of which the values count.
    Named(Map<String, Value>),
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Metric {
    /// `acc`, `exact_match`, …
    pub metric: Value,
    /// How the documents' values become one.
    #[serde(default)]
    pub aggregation: Option<Value>,
    /// Which direction is better.
    #[serde(default)]
    pub higher_is_better: Option<bool>,
    /// What the metric is told, such as `ignore_case`.
    #[serde(flatten)]
    pub options: Map<String, Value>,
}

/// One pipeline of filters.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Its name in the results.
    pub name: String,
    /// Its steps.
    #[serde(rename = "filter")]
    pub steps: Vec<Step>,
}

/// One filter of a pipeline.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Step {
    /// `regex`, `take_first`, …
    pub function: String,
    /// What it is told.
    #[serde(flatten)]
    pub options: Map<String, Value>,
}

/// Where examples come from and how they are written; what is not set is as for the question itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fewshot {
    /// `default` draws with Python's `Random(1234)`, `first_n` takes the first.
    pub sampler: Option<String>,
    /// Split the examples come from.
    pub split: Option<String>,
    /// Code that makes documents of rows.
    pub process_docs: Option<Function>,
    /// Rows of the split that may be examples.
    pub fewshot_indices: Option<Vec<usize>>,
    /// The examples themselves, or code that gives them.
    pub samples: Option<Value>,
    /// The example's question.
    pub doc_to_text: Option<Field>,
    /// The example's choices.
    pub doc_to_choice: Option<Field>,
    /// The example's answer.
    pub doc_to_target: Option<Field>,
    /// What the answer begins with.
    pub gen_prefix: Option<String>,
    /// Between examples.
    pub fewshot_delimiter: Option<String>,
    /// Between question and answer.
    pub target_delimiter: Option<String>,
}

/// One task file. Keys are those of lm-evaluation-harness 0.4; an unknown one is an error.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the keys are documented by the format they come from"
)]
pub struct Config {
    pub task: String,
    #[serde(default)]
    pub task_alias: Option<String>,
    #[serde(default)]
    pub tag: Option<Value>,
    #[serde(default)]
    pub custom_dataset: Option<Value>,
    #[serde(default)]
    pub dataset_path: Option<String>,
    #[serde(default)]
    pub dataset_name: Option<String>,
    #[serde(default)]
    pub dataset_kwargs: Option<Map<String, Value>>,
    #[serde(default)]
    pub training_split: Option<String>,
    #[serde(default)]
    pub validation_split: Option<String>,
    #[serde(default)]
    pub test_split: Option<String>,
    #[serde(default)]
    pub fewshot_split: Option<String>,
    #[serde(default)]
    pub process_docs: Option<Function>,
    #[serde(default)]
    pub doc_to_text: Option<Field>,
    #[serde(default)]
    pub doc_to_target: Option<Field>,
    #[serde(default)]
    pub doc_to_image: Option<Value>,
    #[serde(default)]
    pub doc_to_audio: Option<Value>,
    #[serde(default)]
    pub unsafe_code: bool,
    #[serde(default)]
    pub doc_to_choice: Option<Field>,
    #[serde(default)]
    pub process_results: Option<Function>,
    #[serde(default)]
    pub use_prompt: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default = "space")]
    pub target_delimiter: String,
    #[serde(default = "blank_line")]
    pub fewshot_delimiter: String,
    #[serde(default)]
    pub fewshot_config: Option<Fewshot>,
    #[serde(default)]
    pub num_fewshot: Option<usize>,
    #[serde(default)]
    pub metric_list: Option<Vec<Metric>>,
    #[serde(default = "generate_until")]
    pub output_type: OutputType,
    #[serde(default)]
    pub generation_kwargs: Option<Map<String, Value>>,
    #[serde(default)]
    pub repeats: Option<u32>,
    #[serde(default)]
    pub filter_list: Option<Vec<Pipeline>>,
    #[serde(default)]
    pub should_decontaminate: bool,
    #[serde(default)]
    pub doc_to_decontamination_query: Option<String>,
    #[serde(default)]
    pub gen_prefix: Option<String>,
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
}

fn space() -> String {
    " ".to_owned()
}

fn blank_line() -> String {
    "\n\n".to_owned()
}

fn generate_until() -> OutputType {
    OutputType::GenerateUntil
}

impl Config {
    /// Reads a task from its keys, those of included files among them.
    pub fn new(raw: &Map<String, Value>) -> Result<Self, String> {
        let mut raw = raw.clone();
        raw.remove("include");
        // `key: null` is the same as no key.
        raw.retain(|_, value| !value.is_null());
        let config: Self =
            serde_json::from_value(Value::Object(raw)).map_err(|error| error.to_string())?;
        config.refuse_unsupported()?;
        Ok(config)
    }

    fn refuse_unsupported(&self) -> Result<(), String> {
        let media = self.doc_to_image.is_some() || self.doc_to_audio.is_some();
        let unsupported = [
            (media, "images and audio are not supported"),
            (
                self.use_prompt.is_some(),
                "`use_prompt` is not supported: write the prompt as `doc_to_text`",
            ),
            (
                self.unsafe_code,
                "`unsafe_code` would run what the model writes, which is not supported",
            ),
            (
                self.custom_dataset.is_some(),
                "`custom_dataset` needs Python: give its rows with --data",
            ),
        ];
        match unsupported.into_iter().find(|(is, _)| *is) {
            Some((_, cause)) => Err(cause.to_owned()),
            None => Ok(()),
        }
    }

    /// How its examples are chosen and written, with what the task itself says where they do not.
    pub fn fewshot(&self) -> Fewshot {
        let own = self.fewshot_config.clone().unwrap_or_default();
        Fewshot {
            sampler: own.sampler.or_else(|| Some("default".to_owned())),
            split: own.split.or_else(|| self.fewshot_split.clone()),
            process_docs: own.process_docs.or_else(|| self.process_docs.clone()),
            fewshot_indices: own.fewshot_indices,
            samples: own.samples,
            doc_to_text: own.doc_to_text.or_else(|| self.doc_to_text.clone()),
            doc_to_choice: own.doc_to_choice.or_else(|| self.doc_to_choice.clone()),
            doc_to_target: own.doc_to_target.or_else(|| self.doc_to_target.clone()),
            gen_prefix: own.gen_prefix.or_else(|| self.gen_prefix.clone()),
            fewshot_delimiter: own
                .fewshot_delimiter
                .or_else(|| Some(self.fewshot_delimiter.clone())),
            target_delimiter: own
                .target_delimiter
                .or_else(|| Some(self.target_delimiter.clone())),
        }
    }

    /// The generation settings with their defaults: the stop strings default to the delimiter between examples.
    pub fn generation(&self) -> Option<Map<String, Value>> {
        let until = json!([self.fewshot_delimiter]);
        let Some(mut own) = self.generation_kwargs.clone() else {
            let default = json!({"temperature": 0.0, "do_sample": false, "max_gen_toks": 256, "until": until});
            let generates = self.output_type == OutputType::GenerateUntil;
            return default.as_object().filter(|_| generates).cloned();
        };
        if let Some(temperature) = own.get("temperature").and_then(Value::as_f64) {
            own.insert("temperature".to_owned(), temperature.into());
        }
        own.entry("until").or_insert(until);
        Some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::yaml;

    fn config(text: &str) -> Result<Config, String> {
        Config::new(yaml::read(text).unwrap().as_object().unwrap())
    }

    #[test]
    fn what_is_not_said_has_the_harness_default() {
        let config = config("task: t\ntest_split: test\ndoc_to_choice: null").unwrap();
        assert_eq!(config.output_type, OutputType::GenerateUntil);
        assert_eq!(
            (
                config.target_delimiter.as_str(),
                config.fewshot_delimiter.as_str()
            ),
            (" ", "\n\n")
        );
        let generation = Value::Object(config.generation().unwrap());
        assert_eq!(
            generation.to_string(),
            r#"{"temperature":0.0,"do_sample":false,"max_gen_toks":256,"until":["\n\n"]}"#
        );
        assert_eq!(config.fewshot().sampler.as_deref(), Some("default"));
    }

    #[test]
    fn a_mistyped_key_is_an_error_that_names_it() {
        assert!(
            config("task: t\ndoc_to_txt: a")
                .unwrap_err()
                .contains("doc_to_txt")
        );
        assert!(
            config("task: t\noutput_type: gen")
                .unwrap_err()
                .contains("gen")
        );
        assert!(
            config("task: t\ndoc_to_image: a")
                .unwrap_err()
                .contains("images")
        );
        assert!(config("test_split: test").unwrap_err().contains("task"));
    }

    #[test]
    fn examples_inherit_from_the_task() {
        let config = config(
            "task: t\nfewshot_split: dev\ndoc_to_text: q\ntarget_delimiter: ''\nfewshot_config: {sampler: first_n, doc_to_text: !function u.f}",
        )
        .unwrap();
        let fewshot = config.fewshot();
        assert_eq!(fewshot.split.as_deref(), Some("dev"));
        assert_eq!(fewshot.target_delimiter.as_deref(), Some(""));
        assert_eq!(
            fewshot.doc_to_text,
            Some(Field::Function(Function {
                name: "u.f".to_owned()
            }))
        );
    }
}
