//! A task's keys as lm-evaluation-harness writes them into its results.

use serde_json::{Map, Value, json};

use super::config::Config;
use super::yaml::FUNCTION;

/// The keys of a task in the order in which lm-evaluation-harness writes them into its results.
const ORDER: [&str; 33] = [
    "task",
    "task_alias",
    "tag",
    "custom_dataset",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "process_docs",
    "doc_to_text",
    "doc_to_target",
    "doc_to_image",
    "doc_to_audio",
    "unsafe_code",
    "doc_to_choice",
    "process_results",
    "use_prompt",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "fewshot_config",
    "num_fewshot",
    "metric_list",
    "output_type",
    "generation_kwargs",
    "repeats",
    "filter_list",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "gen_prefix",
];

/// The keys of its examples, likewise, with the key of the task that stands in where one is not set.
const FEWSHOT_ORDER: [(&str, &str); 11] = [
    ("sampler", ""),
    ("split", "fewshot_split"),
    ("process_docs", "process_docs"),
    ("fewshot_indices", ""),
    ("samples", ""),
    ("doc_to_text", "doc_to_text"),
    ("doc_to_choice", "doc_to_choice"),
    ("doc_to_target", "doc_to_target"),
    ("gen_prefix", "gen_prefix"),
    ("fewshot_delimiter", "fewshot_delimiter"),
    ("target_delimiter", "target_delimiter"),
];

impl Config {
    /// The task as lm-evaluation-harness writes it into its results; `n_fewshot` examples were asked for, and it was read
    /// from `source`.
    pub fn dump(&self, raw: &Map<String, Value>, n_fewshot: usize, source: &str) -> Value {
        let defaults = json!({
            "unsafe_code": self.unsafe_code, "description": self.description.clone().unwrap_or_default(),
            "target_delimiter": self.target_delimiter, "fewshot_delimiter": self.fewshot_delimiter,
            "num_fewshot": n_fewshot, "output_type": self.output_type.as_str(), "repeats": self.repeats.unwrap_or(1),
            "should_decontaminate": self.should_decontaminate,
        });
        let mut dump = Map::new();
        for key in ORDER {
            let value = match key {
                "fewshot_config" => dumped_fewshot(raw),
                "generation_kwargs" => self.generation().map_or(Value::Null, Value::Object),
                "num_fewshot" => n_fewshot.into(),
                _ => match raw.get(key) {
                    Some(value) if !value.is_null() => named(value),
                    _ => defaults[key].clone(),
                },
            };
            if !value.is_null() {
                dump.insert(key.to_owned(), value);
            }
        }
        let mut metadata = self.metadata.clone().unwrap_or_default();
        metadata.insert("config_source".to_owned(), source.into());
        dump.insert("metadata".to_owned(), Value::Object(metadata));
        Value::Object(dump)
    }
}

fn dumped_fewshot(raw: &Map<String, Value>) -> Value {
    let own = raw.get("fewshot_config").cloned().unwrap_or_default();
    let inherited = |key: &str| match key {
        "fewshot_delimiter" => raw.get(key).cloned().unwrap_or_else(|| "\n\n".into()),
        "target_delimiter" => raw.get(key).cloned().unwrap_or_else(|| " ".into()),
        _ => raw.get(key).cloned().unwrap_or_default(),
    };
    let value = |(key, from): (&str, &str)| match own.get(key) {
        Some(value) => named(value),
        None if key == "sampler" => "default".into(),
        None => named(&inherited(from)),
    };
    let pairs = FEWSHOT_ORDER.map(|(key, from)| (key.to_owned(), value((key, from))));
    Value::Object(pairs.into_iter().collect())
}

/// Code as the text `!function name`: its source is Python that is not run here.
fn named(value: &Value) -> Value {
    match value {
        Value::Object(map) => match map.get(FUNCTION).and_then(Value::as_str) {
            Some(name) => format!("{FUNCTION} {name}").into(),
            None => Value::Object(
                map.iter()
                    .map(|(key, value)| (key.clone(), named(value)))
                    .collect(),
            ),
        },
        Value::Array(items) => items.iter().map(named).collect(),
        other => other.clone(),
    }
}
