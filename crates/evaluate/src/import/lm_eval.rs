//! Samples of lm-evaluation-harness: a line for every document and filter.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use store::tables::Sample;

use super::Reader;
use super::discover::Found;

type Line = Map<String, Value>;

/// The samples of one file, and how many answers have no verdict.
pub(super) fn read(file: &Found, reader: &Reader) -> Result<(Vec<Sample>, usize)> {
    let documents = by_document(&store::read_text(&file.path)?)?;
    let mut samples = Vec::new();
    let mut left_out = 0;
    for (doc_id, lines) in &documents {
        let blank = Sample {
            model: reader.label.clone(),
            arm: "none".to_owned(),
            task: file.task.clone(),
            doc_id: doc_id.clone(),
            ..Sample::default()
        };
        let context = || format!("document {doc_id}");
        let line = chosen(lines, reader.filter).with_context(context)?;
        if let Some(likelihoods) = likelihoods(line) {
            samples.push(choice(line, &likelihoods, reader, blank).with_context(context)?);
        } else {
            let texts = texts(line).with_context(context)?;
            let known = if reader.grader.is_some() {
                texts.len()
            } else {
                texts.len().min(1)
            };
            left_out += texts.len() - known;
            for (number, text) in texts[..known].iter().enumerate() {
                let answer = generated((lines, line), (number, text), reader, blank.clone());
                samples.push(answer.with_context(context)?);
            }
        }
    }
    Ok((samples, left_out))
}

/// Lines of the same document together, in the order of the file.
fn by_document(text: &str) -> Result<Vec<(String, Vec<Line>)>> {
    let mut documents: Vec<(String, Vec<Line>)> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(line).with_context(|| format!("line {number}"))?;
        let doc_id = match line.get("doc_id") {
            Some(Value::Number(id)) => id.to_string(),
            Some(Value::String(id)) => id.clone(),
            _ => bail!("line {number}: `doc_id` is missing: not samples of lm-evaluation-harness"),
        };
        let place = *places.entry(doc_id.clone()).or_insert_with(|| {
            documents.push((doc_id, Vec::new()));
            documents.len() - 1
        });
        documents[place].1.push(line);
    }
    ensure!(!documents.is_empty(), "it holds no sample");
    Ok(documents)
}

/// The line of the filter asked for, or the first.
fn chosen<'a>(lines: &'a [Line], filter: Option<&str>) -> Result<&'a Line> {
    let Some(name) = filter else {
        return lines.first().context("it has no line");
    };
    let names: Vec<&str> = lines.iter().map(filter_name).collect();
    let found = lines.iter().find(|line| filter_name(line) == name);
    found.with_context(|| format!("there is no filter {name}, only {}", names.join(", ")))
}

fn filter_name(line: &Line) -> &str {
    line.get("filter").and_then(Value::as_str).unwrap_or("none")
}

/// Metric values of a line, in their order; lists, such as of several instructions, are passed over.
fn metrics(line: &Line) -> Vec<(String, f64)> {
    let names: Vec<String> = match line.get("metrics") {
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        // Before 0.4.9 metrics were not listed: they are what is left.
        _ => line
            .keys()
            .filter(|key| !KEYS.contains(&key.as_str()))
            .cloned()
            .collect(),
    };
    let value = |name: &String| match line.get(name)? {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        value => value.as_f64(),
    };
    names
        .into_iter()
        .filter_map(|name| Some((value(&name)?, name)))
        .map(|(value, name)| (name, value))
        .collect()
}

/// Keys of a line that are no metric.
const KEYS: [&str; 11] = [
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
];

/// The verdict of the metric asked for, or of the first: right from one half on.
fn verdict(line: &Line, metric: Option<&str>) -> Result<bool> {
    let metrics = metrics(line);
    let found = metrics
        .iter()
        .find(|(name, _)| metric.is_none_or(|metric| metric == name));
    let (_, value) = found.with_context(|| {
        let names: Vec<&str> = metrics.iter().map(|(name, _)| name.as_str()).collect();
        format!(
            "there is no metric {}, only: {}",
            metric.unwrap_or("with a number"),
            names.join(", ")
        )
    })?;
    Ok(*value >= 0.5)
}

/// Argument `number` of request `request`: of `{"gen_args_0": {"arg_0": …}}`, or of lists, as it was once written.
fn argument(line: &Line, request: usize, number: usize) -> Option<&Value> {
    match line.get("arguments")? {
        Value::Object(requests) => requests
            .get(&format!("gen_args_{request}"))?
            .get(format!("arg_{number}")),
        Value::Array(requests) => requests.get(request)?.get(number),
        _ => None,
    }
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// The generated texts of a document.
fn texts(line: &Line) -> Result<Vec<String>> {
    let first = line.get("resps").and_then(|resps| resps.get(0));
    let texts: Option<Vec<String>> = match first {
        Some(Value::Array(texts)) => texts
            .iter()
            .map(|text| text.as_str().map(str::to_owned))
            .collect(),
        Some(Value::String(text)) => Some(vec![text.clone()]),
        _ => None,
    };
    texts
        .filter(|texts| !texts.is_empty())
        .context("`resps` holds neither texts nor log-likelihoods")
}

/// What a filter made of the first response; `[invalid]` is nothing.
fn filtered(line: &Line) -> Option<String> {
    let mut found = line.get("filtered_resps")?.get(0)?;
    while let Value::Array(values) = found {
        found = values.first()?;
    }
    let found = text_of(Some(found));
    (found != "[invalid]" && !found.is_empty()).then_some(found)
}

fn generated(
    (lines, line): (&[Line], &Line),
    (number, text): (usize, &String),
    reader: &Reader,
    blank: Sample,
) -> Result<Sample> {
    let mut readings = Map::new();
    if number == 0 {
        for line in lines {
            let values: Map<String, Value> = metrics(line)
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect();
            let correct = verdict(line, reader.metric).ok();
            readings.insert(
                filter_name(line).to_owned(),
                json!({"extracted": filtered(line), "correct": correct, "metrics": values}),
            );
        }
    }
    let n_tokens = reader.length(text)?;
    let budget = argument(line, 0, 1)
        .and_then(|settings| settings.get("max_gen_toks"))
        .and_then(Value::as_u64);
    let unfinished = budget.is_some_and(|budget| u64::from(n_tokens) > budget);
    let sample = Sample {
        sample: number as u32,
        prompt: text_of(argument(line, 0, 0)),
        completion: text.clone(),
        extracted: if number == 0 { filtered(line) } else { None },
        target: text_of(line.get("target")),
        correct: number == 0
            && reader.grader.is_none()
            && verdict(line, reader.metric)?
            && !unfinished,
        n_tokens: if unfinished { n_tokens - 1 } else { n_tokens },
        finish_reason: if unfinished { "length" } else { "stop" }.to_owned(),
        readings: (!readings.is_empty()).then(|| Value::Object(readings).to_string()),
        ..blank
    };
    reader.graded(sample)
}

/// Log-likelihood of every continuation and whether it is the likeliest text, when that is what was asked.
fn likelihoods(line: &Line) -> Option<Vec<(f64, bool)>> {
    let requests = line.get("resps")?.as_array()?;
    let number = |value: &Value| {
        value
            .as_f64()
            .or_else(|| value.as_str()?.trim().parse().ok())
    };
    let truth = |value: &Value| value.as_bool().unwrap_or(value == "True");
    let one = |response: &Value| {
        // `[["-0.58", "False"]]`, the first of perhaps several repeats.
        let pair = response.get(0)?.as_array()?;
        Some((number(pair.first()?)?, truth(pair.get(1)?)))
    };
    requests
        .iter()
        .map(one)
        .collect::<Option<Vec<_>>>()
        .filter(|all| !all.is_empty())
}

/// A choice by likelihood: the completion is the likeliest continuation.
fn choice(
    line: &Line,
    likelihoods: &[(f64, bool)],
    reader: &Reader,
    blank: Sample,
) -> Result<Sample> {
    ensure!(
        reader.grader.is_none(),
        "choices by likelihood are no texts to grade: leave --preset out"
    );
    let choices: Vec<String> = (0..likelihoods.len())
        .map(|number| text_of(argument(line, number, 1)))
        .collect();
    let best_by = |length: &dyn Fn(&str) -> usize| {
        let score = |at: &usize| likelihoods[*at].0 / length(&choices[*at]).max(1) as f64;
        (0..choices.len())
            .max_by(|a, b| score(a).total_cmp(&score(b)).then(b.cmp(a)))
            .unwrap_or(0)
    };
    let best = best_by(&|_| 1);
    let mut readings = Map::new();
    for (name, value) in metrics(line) {
        let place = match name.as_str() {
            "acc" | "exact_match" => Some(best),
            "acc_norm" => Some(best_by(&|choice| choice.trim_start().chars().count())),
            "acc_bytes" => Some(best_by(&|choice| choice.trim_start().len())),
            _ => None,
        };
        let extracted = place.map(|place| choices[place].trim());
        readings.insert(
            name,
            json!({"extracted": extracted, "correct": value >= 0.5, "value": value}),
        );
    }
    let listed = choices.iter().zip(likelihoods).map(
        |(text, (logprob, greedy))| json!({"text": text, "logprob": logprob, "greedy": greedy}),
    );
    readings.insert("choices".to_owned(), listed.collect());
    let target = text_of(line.get("target"));
    let gold = target
        .parse()
        .ok()
        .and_then(|place: usize| choices.get(place));
    Ok(Sample {
        prompt: text_of(argument(line, 0, 0)),
        completion: choices[best].clone(),
        extracted: Some(choices[best].trim().to_owned()),
        target: gold.map_or(target.clone(), |choice| choice.trim().to_owned()),
        correct: verdict(line, reader.metric)?,
        n_tokens: reader.length(&choices[best])?.saturating_sub(1),
        finish_reason: "choice".to_owned(),
        readings: Some(Value::Object(readings).to_string()),
        ..blank
    })
}
