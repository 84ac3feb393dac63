//! Answers as rows of the samples table, and back: all that the harness' files need is in them.

use serde_json::{Map, Value, json};
use store::tables::Sample;
use tasks::harness::{Document, Request, Task, filter, python};
use tasks::thinking;

use super::score::Likelihood;
use super::units::{Tokens, Unit};
use super::until::Written;

/// The key of a sample's readings that holds the likelihood of every continuation.
const CHOICES: &str = "choices";

/// What a model answered.
#[derive(Debug)]
pub enum Answer<'a> {
    /// A text.
    Text(&'a Written),
    /// Likelihoods of continuations.
    Likelihoods(&'a [Likelihood]),
}

type Judged = Result<Sample, String>;

/// Fills in a generated answer: what every pipeline of the task found in it, and the verdict of the one that counts: the one
/// named, else the last. An answer that did not come to an end is never right.
pub fn text(
    task: &Task,
    document: usize,
    written: &Written,
    filter: Option<&str>,
    blank: Sample,
) -> Judged {
    let document = &task.documents[document];
    let (reasoning, answer) = thinking::split(&written.text);
    let (mut readings, mut verdict) = (Map::new(), (None, false));
    for pipeline in &task.pipelines {
        let (extracted, correct, own) = reading(task, pipeline, answer, document)?;
        if filter.is_none_or(|name| name == pipeline.name) {
            verdict = (extracted.clone(), correct);
        }
        readings.insert(
            pipeline.name.clone(),
            json!({"extracted": extracted, "correct": correct}),
        );
        readings.extend(own);
    }
    let finished = written.finish.as_str() == "stop";
    Ok(Sample {
        completion: written.text.clone(),
        extracted: verdict.0,
        target: target(task, document)?,
        correct: verdict.1 && finished,
        n_tokens: written.n_tokens as u32,
        finish_reason: written.finish.as_str().to_owned(),
        reasoning: reasoning.map(str::to_owned),
        readings: Some(Value::Object(readings).to_string()),
        ..blank
    })
}

/// What a pipeline found in an answer, whether it is right, and what a grader's own ways of reading found.
type Reading = (Option<String>, bool, Map<String, Value>);

/// Sends an answer through one pipeline.
fn reading(
    task: &Task,
    pipeline: &tasks::harness::config::Pipeline,
    answer: &str,
    document: &Document,
) -> Result<Reading, String> {
    let filtered = filter::apply_one(pipeline, answer.into(), document)?;
    if let Some(grader) = task.grader() {
        let verdict = task.graded(grader, document, std::slice::from_ref(&filtered))?;
        let own = verdict
            .readings_json()
            .and_then(|text| serde_json::from_str(&text).ok());
        return Ok((verdict.extracted, verdict.correct, own.unwrap_or_default()));
    }
    let values = task.score(document, std::slice::from_ref(&filtered))?;
    let extracted = python::text(&filtered);
    let found = !filtered.is_null() && extracted != "[invalid]";
    Ok((
        found.then_some(extracted),
        is_right(values.first().map(|(_, value)| value)),
        Map::new(),
    ))
}

/// A value counts as right from one half on: it is 0 or 1 but for shares of probability.
fn is_right(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(is)) => *is,
        Some(value) => value.as_f64().is_some_and(|value| value >= 0.5),
        None => false,
    }
}

/// The expected answer as a text: of choices, the right one rather than its number.
fn target(task: &Task, document: &Document) -> Result<String, String> {
    if task.config().doc_to_choice.is_some() {
        let choices = task.choices(document)?;
        let gold = task.gold(document, &choices)?;
        let right: Vec<&str> = gold
            .iter()
            .flatten()
            .filter_map(|place| choices.get(*place).map(String::as_str))
            .collect();
        if !right.is_empty() {
            return Ok(right.join(" | "));
        }
    }
    task.target_text(document)
}

/// Fills in an answer by likelihood: the likeliest continuation is the completion, the value of the first metric the
/// verdict. Every continuation is kept with its likelihood.
pub fn likelihoods(task: &Task, unit: &Unit, scored: &[Likelihood], blank: Sample) -> Judged {
    let document = &task.documents[unit.document];
    let responses = responses(&unit.request, scored);
    let values = task.score(document, &responses)?;
    let mut readings = Map::new();
    let chosen = chosen(task, document, scored)?;
    for (name, value) in values.iter().filter(|(_, value)| value.is_number()) {
        let extracted = chosen
            .iter()
            .find(|(metric, _)| metric == name)
            .map(|(_, choice)| choice.as_str());
        readings.insert(
            name.clone(),
            json!({"extracted": extracted, "correct": is_right(Some(value)), "value": value}),
        );
    }
    let texts = continuations(&unit.request);
    let listed = texts.iter().zip(&responses).map(|(text, response)| {
        let [logprob, greedy] = parts(response);
        json!({"text": text, "logprob": logprob, "greedy": greedy})
    });
    readings.insert(CHOICES.to_owned(), listed.collect());
    let sums: Vec<f64> = responses
        .iter()
        .filter_map(|one| parts(one)[0].as_f64())
        .collect();
    let n_choices = task
        .choices(document)
        .map_or(sums.len(), |choices| choices.len().min(sums.len()));
    let best = tasks::harness::metric::largest(&sums[..n_choices]).unwrap_or(0);
    Ok(Sample {
        completion: texts.get(best).cloned().unwrap_or_default(),
        extracted: chosen.first().map(|(_, choice)| choice.clone()),
        target: target(task, document)?,
        correct: is_right(values.first().map(|(_, value)| value)),
        n_tokens: length(unit, best) as u32,
        finish_reason: "choice".to_owned(),
        readings: Some(Value::Object(readings).to_string()),
        ..blank
    })
}

/// The choice each metric prefers: by sum, by character, by byte.
fn chosen(
    task: &Task,
    document: &Document,
    scored: &[Likelihood],
) -> Result<Vec<(String, String)>, String> {
    if task.config().doc_to_choice.is_none() {
        return Ok(Vec::new());
    }
    let choices = task.choices(document)?;
    let sums: Vec<f64> = scored.iter().take(choices.len()).map(|one| one.0).collect();
    let by = |length: &dyn Fn(&String) -> usize| {
        let values: Vec<f64> = sums
            .iter()
            .zip(&choices)
            .map(|(sum, choice)| sum / length(choice) as f64)
            .collect();
        tasks::harness::metric::largest(&values)
            .map(|place| choices[place].clone())
            .unwrap_or_default()
    };
    Ok(vec![
        ("acc".to_owned(), by(&|_| 1)),
        ("acc_norm".to_owned(), by(&|choice| choice.chars().count())),
        ("acc_bytes".to_owned(), by(&|choice| choice.len())),
    ])
}

fn continuations(request: &Request) -> Vec<String> {
    match request {
        Request::Score { pairs } => pairs.iter().map(|pair| pair.1.clone()).collect(),
        Request::Roll { text } => vec![text.clone()],
        Request::Generate { .. } => Vec::new(),
    }
}

fn length(unit: &Unit, best: usize) -> usize {
    match &unit.tokens {
        Tokens::Sequences(all) => all.get(best).map_or(0, |one| one.tokens.len() - one.start),
        Tokens::Prompt(_) => 0,
    }
}

/// What the filters are given: `[log-likelihood, greedy]` of every continuation; of a whole text the sum over its windows.
fn responses(request: &Request, scored: &[Likelihood]) -> Vec<Value> {
    match request {
        Request::Roll { .. } => vec![scored.iter().map(|one| one.0).sum::<f64>().into()],
        _ => scored.iter().map(|one| json!([one.0, one.1])).collect(),
    }
}

/// Log-likelihood of a response, and whether it is what greedy decoding would write; null of a whole text.
fn parts(response: &Value) -> [Value; 2] {
    match response {
        Value::Array(pair) if pair.len() == 2 => [pair[0].clone(), pair[1].clone()],
        sum => [sum.clone(), Value::Null],
    }
}

/// The responses to a document as the filters are given them, from its rows in the order of their numbers: the answers
/// without their reasoning, or the likelihoods of all continuations.
pub fn stored(samples: &[&Sample]) -> Result<Vec<Vec<Value>>, String> {
    let listed = samples
        .first()
        .and_then(|sample| sample.readings.as_deref());
    let listed: Value = listed
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    if let Some(choices) = listed[CHOICES].as_array() {
        let pair = |one: &Value| match &one["greedy"] {
            Value::Null => one["logprob"].clone(),
            greedy => json!([one["logprob"], greedy]),
        };
        return Ok(choices.iter().map(|one| vec![pair(one)]).collect());
    }
    let answer = |sample: &&Sample| Value::from(thinking::split(&sample.completion).1);
    Ok(vec![samples.iter().map(answer).collect()])
}
