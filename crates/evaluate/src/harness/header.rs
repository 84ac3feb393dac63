//! What a results file says of the run, beside its figures.

use std::path::Path;
use std::time::{Duration, SystemTime};

use model::Tokenizer;
use serde_json::{Map, Value, json};
use store::Provenance;
use tasks::harness::{Group, OutputType, Task, python};

use super::ask::Overrides;
use super::export::sha256;
use super::figures::{DRAWS, Figures};
use super::open::Opened;
use super::units::Writing;

/// The version of lm-evaluation-harness whose files these are.
const FORMAT: &str = "0.4.13";

/// The run, as its results file describes it.
#[derive(Debug)]
pub struct Header<'a> {
    /// The model's directory, as given.
    pub model: &'a Path,
    /// How prompts are written.
    pub writing: Writing<'a>,
    /// What is set in place of what tasks say.
    pub overrides: &'a Overrides,
    /// Documents asked of every task at most.
    pub limit: Option<usize>,
    /// Documents asked together.
    pub batch: usize,
    /// Device by name.
    pub device: &'a str,
    /// When the run began, since 1970.
    pub date: Duration,
    /// The same as it stands in the names of the files.
    pub time: String,
    /// How long it took.
    pub seconds: f64,
    /// Where the answers come from.
    pub provenance: &'a Provenance,
}

/// When a run began: `SOURCE_DATE_EPOCH` where it is set, for files that are the same every time.
pub fn now() -> Duration {
    let fixed = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok());
    let clock = || {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    };
    fixed.map_or_else(clock, Duration::from_secs)
}

/// `2026-11-20T15-27-58.038369`: the time in UTC as it stands in the names of files.
pub fn stamp(date: Duration) -> String {
    let seconds = date.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days as i64);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let micros = date.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{micros:06}")
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar: years begin in March, so that the day that
/// comes and goes is their last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

impl Header<'_> {
    /// The model's directory as a name of a folder.
    pub fn model_name_sanitized(&self) -> String {
        let mut name = String::new();
        let mut gap = false;
        for c in self.model.display().to_string().chars() {
            let special = "\"<>:/|\\?*[]".contains(c);
            match (special, gap) {
                (true, false) => name.push_str("__"),
                (true, true) => {}
                (false, _) => name.push(c),
            }
            gap = special;
        }
        name
    }

    /// Answers per document of a task, as its file or the user says.
    pub fn repeats(&self, task: &Task) -> u32 {
        match task.config().output_type {
            OutputType::GenerateUntil => self.overrides.samples_of(task),
            _ => task.config().repeats.unwrap_or(1).max(1),
        }
    }

    /// The whole results file, its keys in the harness' order; what is ours stands under one key at the end.
    pub fn results(
        &self,
        opened: &Opened,
        figures: &Figures,
        task_hashes: Map<String, Value>,
    ) -> Map<String, Value> {
        let groups = from_above(&opened.groups);
        let mut results = Map::new();
        let mut set = |key: &str, value: Value| {
            results.insert(key.to_owned(), value);
        };
        set("results", Value::Object(figures.results.clone()));
        if !figures.groups.is_empty() {
            set("groups", Value::Object(figures.groups.clone()));
        }
        let subtasks = groups
            .iter()
            .map(|group| (group.name.clone(), json!(group.children)));
        set("group_subtasks", Value::Object(subtasks.collect()));
        set(
            "configs",
            sorted(
                opened
                    .tasks
                    .iter()
                    .map(|task| (task.name().to_owned(), self.config(task))),
            ),
        );
        let versions = opened
            .tasks
            .iter()
            .map(|task| (task.name().to_owned(), version(task)));
        let versions = versions.chain(
            groups
                .iter()
                .map(|group| (group.name.clone(), group.version.as_str().into())),
        );
        set("versions", sorted(versions));
        set("n-shot", shots(&opened.tasks, &groups));
        set("higher_is_better", directions(&opened.tasks, &groups));
        let counts = opened.tasks.iter().map(|task| {
            let effective = &figures.results[task.name()]["sample_len"];
            (
                task.name().to_owned(),
                json!({"original": task.documents.len(), "effective": effective}),
            )
        });
        set("n-samples", Value::Object(counts.collect()));
        set("config", self.run());
        set("git_hash", Value::Null);
        set("date", self.date.as_secs_f64().into());
        let machine = format!(
            "postscope {} on {} {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        );
        set("pretty_env_info", machine.into());
        set("transformers_version", "N/A".into());
        set("lm_eval_version", FORMAT.into());
        set("upper_git_hash", Value::Null);
        results.extend(self.tokenizer());
        results.insert("task_hashes".to_owned(), Value::Object(task_hashes));
        results.extend(self.model());
        results
    }

    fn config(&self, task: &Task) -> Value {
        let definition = &task.definition;
        let source = definition.path.display().to_string();
        let mut dump = definition
            .config
            .dump(&definition.raw, task.n_fewshot, &source);
        if definition.config.output_type == OutputType::GenerateUntil {
            dump["generation_kwargs"] = Value::Object(self.overrides.generation(task));
        }
        dump["repeats"] = self.repeats(task).into();
        dump
    }

    fn run(&self) -> Value {
        let given = serde_json::to_value(self.overrides).unwrap_or_default();
        let given = given.as_object().into_iter().flatten();
        let given: Map<String, Value> = given
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        json!({
            "model": "evaluate", "model_args": {"pretrained": self.model.display().to_string()}, "batch_size": self.batch,
            "batch_sizes": [], "device": self.device, "use_cache": null, "limit": self.limit, "bootstrap_iters": DRAWS,
            "gen_kwargs": given, "random_seed": 0, "numpy_seed": 1234, "torch_seed": 1234, "fewshot_seed": 1234,
        })
    }

    /// What the directory says of its tokenizer.
    fn tokenizer(&self) -> Map<String, Value> {
        let settings = json_of(&self.model.join("tokenizer_config.json"));
        let config = json_of(&self.model.join("config.json"));
        let tokenizer: &Tokenizer = self.writing.tokenizer;
        let token = |name: &str, id: Option<u32>| {
            let named = &settings[name];
            let text = named.as_str().or_else(|| named["content"].as_str());
            let id = if text.is_some() {
                id.map_or_else(|| "None".to_owned(), |id| id.to_string())
            } else {
                "None".to_owned()
            };
            json!([text, id])
        };
        let end = tokenizer.eos_ids().first().copied();
        let pairs = [
            (
                "tokenizer_pad_token",
                token("pad_token", Some(tokenizer.pad_id())),
            ),
            ("tokenizer_eos_token", token("eos_token", end)),
            (
                "tokenizer_bos_token",
                token("bos_token", tokenizer.bos_id()),
            ),
            ("eot_token_id", json!(end)),
            ("max_length", config["max_position_embeddings"].clone()),
        ];
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    fn model(&self) -> Map<String, Value> {
        let chat = self.writing.chat;
        let template = if chat { template(self.model) } else { None };
        let hash = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(sha256);
        let pairs = [
            ("model_source", "evaluate".into()),
            ("model_name", self.model.display().to_string().into()),
            ("model_name_sanitized", self.model_name_sanitized().into()),
            ("system_instruction", json!(self.writing.system)),
            ("system_instruction_sha", json!(hash(self.writing.system))),
            (
                "fewshot_as_multiturn",
                if chat {
                    self.writing.multiturn.into()
                } else {
                    Value::Null
                },
            ),
            ("chat_template", json!(template)),
            ("chat_template_sha", json!(hash(template.as_deref()))),
            (
                "total_evaluation_time_seconds",
                python::float(self.seconds).into(),
            ),
            ("postscope", json!({"provenance": self.provenance})),
        ];
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }
}

fn json_of(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).ok();
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// The text of the model's chat template.
fn template(model: &Path) -> Option<String> {
    let own = std::fs::read_to_string(model.join("chat_template.jinja")).ok();
    own.or_else(|| {
        json_of(&model.join("tokenizer_config.json"))["chat_template"]
            .as_str()
            .map(str::to_owned)
    })
}

fn sorted(pairs: impl Iterator<Item = (String, Value)>) -> Value {
    let mut pairs: Vec<(String, Value)> = pairs.collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Object(pairs.into_iter().collect())
}

/// Groups with those they hold behind them.
fn from_above(groups: &[Group]) -> Vec<&Group> {
    fn visit<'a>(group: &'a Group, groups: &'a [Group], ordered: &mut Vec<&'a Group>) {
        if ordered.iter().any(|other| other.name == group.name) {
            return;
        }
        ordered.push(group);
        for child in &group.children {
            if let Some(child) = groups.iter().find(|other| other.name == *child) {
                visit(child, groups, ordered);
            }
        }
    }
    let mut ordered = Vec::new();
    let is_inner = |group: &Group| {
        groups
            .iter()
            .any(|other| other.children.contains(&group.name))
    };
    for group in groups.iter().filter(|group| !is_inner(group)) {
        visit(group, groups, &mut ordered);
    }
    ordered
}

fn version(task: &Task) -> Value {
    let metadata = task.config().metadata.as_ref();
    metadata
        .and_then(|metadata| metadata.get("version"))
        .cloned()
        .unwrap_or_else(|| "Yaml".into())
}

/// Examples per task, and per group whose tasks all have the same number.
fn shots(tasks: &[Task], groups: &[&Group]) -> Value {
    let mut shots: Vec<(String, Value)> = tasks
        .iter()
        .map(|task| (task.name().to_owned(), task.n_fewshot.into()))
        .collect();
    for group in groups {
        let below = shots
            .iter()
            .filter(|(name, _)| group.children.contains(name));
        let mut values: Vec<Value> = below.map(|(_, n)| n.clone()).collect();
        values.dedup();
        if let [n] = values.as_slice() {
            shots.push((group.name.clone(), n.clone()));
        }
    }
    sorted(shots.into_iter())
}

/// Whether more is better, per task and metric; of a group whose tasks do not agree, null.
fn directions(tasks: &[Task], groups: &[&Group]) -> Value {
    let of_task = |task: &Task| {
        let measures = task
            .measures
            .iter()
            .map(|measure| (measure.name.clone(), measure.higher_is_better.into()));
        Value::Object(measures.collect())
    };
    let mut all: Vec<(String, Value)> = tasks
        .iter()
        .map(|task| (task.name().to_owned(), of_task(task)))
        .collect();
    for group in groups {
        let mut joint = Map::new();
        for child in &group.children {
            let found = all
                .iter()
                .find(|(name, _)| name == child)
                .and_then(|(_, value)| value.as_object());
            for (metric, better) in found.into_iter().flatten() {
                match joint.get(metric) {
                    Some(known) if known != better => joint.insert(metric.clone(), Value::Null),
                    _ => joint.insert(metric.clone(), better.clone()),
                };
            }
        }
        if !joint.is_empty() {
            all.push((group.name.clone(), Value::Object(joint)));
        }
    }
    sorted(all.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        assert_eq!(
            stamp(Duration::new(1_795_188_478, 38_369_000)),
            "2026-11-20T15-27-58.038369"
        );
        assert_eq!(
            stamp(Duration::from_hours(264_384)),
            "2000-02-29T00-00-00.000000"
        );
        assert_eq!(stamp(Duration::ZERO), "1970-01-01T00-00-00.000000");
    }
}
