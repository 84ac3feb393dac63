//! Samples of lighteval: a row for every document, with what was asked, what was answered, and every metric.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use store::tables::Sample;
use tasks::harness::documents;

use super::Reader;
use super::discover::Found;

/// The parts of a row; each a nested object.
struct Row<'a> {
    number: usize,
    doc: &'a Map<String, Value>,
    response: &'a Map<String, Value>,
    metrics: Vec<(&'a str, f64)>,
}

/// The samples of one file, and how many answers have no verdict.
pub(super) fn read(file: &Found, reader: &Reader) -> Result<(Vec<Sample>, usize)> {
    let rows = documents::read(&file.path)?;
    let mut samples = Vec::new();
    let mut left_out = 0;
    for (number, row) in rows.iter().enumerate() {
        let context = || format!("row {number}");
        let row = Row::new(number, row).with_context(context)?;
        let texts = row.texts();
        if texts.is_empty() {
            samples.push(row.choice(file, reader).with_context(context)?);
            continue;
        }
        // A metric over several answers is the verdict of none of them.
        let known = reader.grader.is_some() || texts.len() == 1;
        if !known {
            left_out += texts.len();
            continue;
        }
        for answer in 0..texts.len() {
            samples.push(row.generated(answer, file, reader).with_context(context)?);
        }
    }
    Ok((samples, left_out))
}

fn object<'a>(row: &'a Map<String, Value>, name: &str) -> Result<&'a Map<String, Value>> {
    let value = row.get(&format!("__{name}__")).or_else(|| row.get(name));
    value
        .and_then(Value::as_object)
        .with_context(|| format!("there is no column __{name}__: not details of lighteval"))
}

fn list<'a>(object: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    object
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

impl<'a> Row<'a> {
    fn new(number: usize, row: &'a Map<String, Value>) -> Result<Self> {
        let metrics = object(row, "metric")?.iter();
        let metrics = metrics.filter_map(|(name, value)| {
            let value = value
                .as_f64()
                .or_else(|| value.as_bool().map(|is| f64::from(u8::from(is))));
            Some((name.as_str(), value?))
        });
        Ok(Self {
            number,
            doc: object(row, "doc")?,
            response: object(row, "model_response")?,
            metrics: metrics.collect(),
        })
    }

    fn texts(&self) -> Vec<&'a str> {
        list(self.response, "text")
            .iter()
            .filter_map(Value::as_str)
            .collect()
    }

    fn blank(&self, file: &Found, reader: &Reader) -> Sample {
        let name = self
            .doc
            .get("task_name")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty());
        let input = self.response.get("input").and_then(Value::as_str);
        let query = self.doc.get("query").and_then(Value::as_str);
        Sample {
            model: reader.label.clone(),
            arm: "none".to_owned(),
            task: name.unwrap_or(&file.task).to_owned(),
            doc_id: self.number.to_string(),
            prompt: input.or(query).unwrap_or_default().to_owned(),
            ..Sample::default()
        }
    }

    /// Places of the right choices.
    fn gold(&self) -> Vec<usize> {
        match self.doc.get("gold_index") {
            Some(Value::Array(places)) => places
                .iter()
                .filter_map(Value::as_u64)
                .map(|place| place as usize)
                .collect(),
            Some(place) => place
                .as_u64()
                .map(|place| place as usize)
                .into_iter()
                .collect(),
            None => Vec::new(),
        }
    }

    fn target(&self) -> String {
        let choices = list(self.doc, "choices");
        let right = self
            .gold()
            .into_iter()
            .filter_map(|place| choices.get(place)?.as_str());
        right.map(str::trim).collect::<Vec<_>>().join(" | ")
    }

    /// The verdict of the metric asked for, or of the first: right from one half on.
    fn verdict(&self, metric: Option<&str>) -> Result<bool> {
        let found = self
            .metrics
            .iter()
            .find(|(name, _)| metric.is_none_or(|metric| metric == *name));
        let (_, value) = found.with_context(|| {
            let names: Vec<&str> = self.metrics.iter().map(|(name, _)| *name).collect();
            format!(
                "there is no metric {}, only: {}",
                metric.unwrap_or("with a number"),
                names.join(", ")
            )
        })?;
        Ok(*value >= 0.5)
    }

    fn readings(&self) -> Map<String, Value> {
        let reading = |(name, value): &(&str, f64)| {
            (
                (*name).to_owned(),
                json!({"extracted": null, "correct": *value >= 0.5, "value": value}),
            )
        };
        self.metrics.iter().map(reading).collect()
    }

    fn generated(&self, answer: usize, file: &Found, reader: &Reader) -> Result<Sample> {
        let texts = self.texts();
        let completion = texts[answer];
        let tokens = list(self.response, "output_tokens")
            .get(answer)
            .and_then(Value::as_array)
            .map(Vec::len);
        let budget = self.doc.get("generation_size").and_then(Value::as_u64);
        let unfinished = tokens
            .zip(budget)
            .is_some_and(|(tokens, budget)| tokens as u64 >= budget);
        let reasoning = list(self.response, "reasonings")
            .get(answer)
            .and_then(Value::as_str);
        let n_tokens = match tokens {
            Some(tokens) => tokens as u32,
            None => reader.length(completion)?,
        };
        let sample = Sample {
            sample: answer as u32,
            completion: completion.to_owned(),
            target: self.target(),
            correct: reader.grader.is_none() && self.verdict(reader.metric)? && !unfinished,
            n_tokens,
            finish_reason: if unfinished { "length" } else { "stop" }.to_owned(),
            reasoning: reasoning
                .filter(|reasoning| !reasoning.is_empty())
                .map(str::to_owned),
            readings: (texts.len() == 1).then(|| Value::Object(self.readings()).to_string()),
            ..self.blank(file, reader)
        };
        reader.graded(sample)
    }

    /// A choice by likelihood: the completion is the likeliest choice.
    fn choice(&self, file: &Found, reader: &Reader) -> Result<Sample> {
        ensure!(
            reader.grader.is_none(),
            "choices by likelihood are no texts to grade: leave --preset out"
        );
        let choices: Vec<&str> = list(self.doc, "choices")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let likelihoods: Vec<f64> = list(self.response, "logprobs")
            .iter()
            .filter_map(Value::as_f64)
            .collect();
        ensure!(
            !likelihoods.is_empty(),
            "it holds neither texts nor log-likelihoods"
        );
        let best = (0..likelihoods.len())
            .max_by(|a, b| likelihoods[*a].total_cmp(&likelihoods[*b]).then(b.cmp(a)))
            .filter(|best| *best < choices.len());
        let mut readings = self.readings();
        let listed = choices
            .iter()
            .zip(&likelihoods)
            .map(|(text, logprob)| json!({"text": text, "logprob": logprob}));
        readings.insert("choices".to_owned(), listed.collect());
        let completion = best.map_or("", |best| choices[best]);
        Ok(Sample {
            completion: completion.to_owned(),
            extracted: Some(completion.trim().to_owned()),
            target: self.target(),
            correct: self.verdict(reader.metric)?,
            n_tokens: reader.length(completion)?.saturating_sub(1),
            finish_reason: "choice".to_owned(),
            readings: Some(Value::Object(readings).to_string()),
            ..self.blank(file, reader)
        })
    }
}
