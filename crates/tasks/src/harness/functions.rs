//! Python functions that task files name, written here: a file's `!function utils.process_docs` means what the data set's own
//! file in lm-evaluation-harness does. Any other name is an error: Python is not run.
//!
//! `!function grade.NAME` is ours: it grades what the model wrote with the grader of that name.

use serde_json::{Value, json};

use super::config::Config;
use super::documents::Document;
use super::hendrycks;
use super::random::Random;
use crate::Grader;

/// Values of one document by metric, in order.
pub type Values = Vec<(String, Value)>;

type Rows = fn(Vec<Document>) -> Result<Vec<Document>, String>;
type Column = fn(&Document) -> Result<Value, String>;
type Results = fn(&Document, &[Value]) -> Result<Values, String>;

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub enum Native {
    /// Makes documents of rows.
    Rows(Rows),
    /// The rows of one category, which the name ends in.
    Category,
    /// A part of the prompt of a document.
    Column(Column),
    /// Values of metrics of a document and the filtered responses to it.
    Results(Results),
    /// The same by one of our graders.
    Grade(Grader),
    /// The mean over the items of every document's list.
    MeanOfItems,
}

/// What a file's function stands for, told by the data set it is used with.
pub fn native(name: &str, config: &Config) -> Result<Native, String> {
    let (module, function) = name.rsplit_once('.').unwrap_or(("", name));
    if module == "grade" {
        let grader = serde_json::from_value(function.into());
        return grader.map(Native::Grade).map_err(|_| unknown(name, config));
    }
    let found = match (family(module, config), function) {
        ("gpqa", "process_docs") => Native::Rows(gpqa),
        ("math", "process_docs") => Native::Rows(math),
        ("math", "process_results") => Native::Results(math_results),
        ("aime", "process_results") => Native::Results(aime_results),
        ("mmlu_pro", "doc_to_text" | "fewshot_to_text") => Native::Column(mmlu_pro_text),
        ("mmlu_pro", "fewshot_to_target") => Native::Column(mmlu_pro_target),
        ("mmlu_pro", function) if function.starts_with("process_") => Native::Category,
        ("truthful_qa", "process_results_mc2") => Native::Results(truthfulqa_mc2),
        ("logiqa", "doc_to_text") => Native::Column(logiqa_text),
        ("logiqa", "doc_to_target") => Native::Column(logiqa_target),
        ("hellaswag", "process_docs") => Native::Rows(hellaswag),
        ("winogrande", "doc_to_text") => Native::Column(winogrande_text),
        ("winogrande", "doc_to_target") => Native::Column(winogrande_target),
        ("winogrande", "doc_to_choice") => Native::Column(winogrande_choice),
        ("ifeval", "process_results") => Native::Results(ifeval_results),
        ("ifeval", "agg_inst_level_acc") => Native::MeanOfItems,
        _ => return Err(unknown(name, config)),
    };
    Ok(found)
}

fn unknown(name: &str, config: &Config) -> String {
    format!(
        "the Python function {name} is not known here (data set {}): write it as a template, or use grade.math, grade.mcq, … for results",
        config.dataset_path.as_deref().unwrap_or("without a name")
    )
}

/// The data set a task uses: named by the function's module, by the data set's path, or by the task's name.
fn family(module: &str, config: &Config) -> &'static str {
    const FAMILIES: [(&str, &str); 14] = [
        ("gpqa", "gpqa"),
        ("math_500", "math"),
        ("math500", "math"),
        ("hendrycks_math", "math"),
        ("competition_math", "math"),
        ("aime", "aime"),
        ("mmlu_pro", "mmlu_pro"),
        ("truthful_qa", "truthful_qa"),
        ("truthfulqa", "truthful_qa"),
        ("logiqa", "logiqa"),
        ("hellaswag", "hellaswag"),
        ("winogrande", "winogrande"),
        ("ifeval", "ifeval"),
        ("minerva_math", "math"),
    ];
    let path = config.dataset_path.as_deref().unwrap_or_default();
    for place in [module, path, &config.task] {
        let place = place.to_lowercase().replace('-', "_");
        if let Some((_, family)) = FAMILIES.iter().find(|(name, _)| place.contains(name)) {
            return family;
        }
    }
    ""
}

/// The subject of `process_computer_science`, as the category is called.
pub fn category(name: &str) -> String {
    name.rsplit('.')
        .next()
        .unwrap_or_default()
        .trim_start_matches("process_")
        .replace('_', " ")
}

fn text<'a>(document: &'a Document, column: &str) -> Result<&'a str, String> {
    match document.get(column) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("the column `{column}` is no text but {other}")),
        None => Err(format!("there is no column `{column}`")),
    }
}

fn list<'a>(document: &'a Document, column: &str) -> Result<&'a [Value], String> {
    match document.get(column) {
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(format!("the column `{column}` is no list but {other}")),
        None => Err(format!("there is no column `{column}`")),
    }
}

/// Text of the only response.
fn response(results: &[Value]) -> Result<&str, String> {
    let first = results.first().and_then(Value::as_str);
    first.ok_or_else(|| "the filters leave several responses: end them with take_first".to_owned())
}

fn set(document: &mut Document, column: &str, value: impl Into<Value>) {
    document.insert(column.to_owned(), value.into());
}

/// Choices in the order Python's generator of seed 0 gives them, from the first row on, whatever split or limit is asked.
fn gpqa(rows: Vec<Document>) -> Result<Vec<Document>, String> {
    let mut random = Random::new(0);
    let clean = |text: &Value| match text.as_str() {
        Some(text) => text.trim().replace(" [title]", ". ").replace("  ", " "),
        None => " ".to_owned(),
    };
    let mut documents = Vec::new();
    for mut row in rows {
        let names = [
            "Incorrect Answer 1",
            "Incorrect Answer 2",
            "Incorrect Answer 3",
            "Correct Answer",
        ];
        let mut choices = Vec::new();
        for name in names {
            choices.push(clean(
                row.get(name)
                    .ok_or_else(|| format!("there is no column `{name}`"))?,
            ));
        }
        let right = choices[3].clone();
        random.shuffle(&mut choices);
        let place = choices
            .iter()
            .position(|choice| *choice == right)
            .unwrap_or(0);
        for (number, choice) in (1..).zip(&choices) {
            set(&mut row, &format!("choice{number}"), choice.as_str());
        }
        set(&mut row, "choices", choices);
        set(
            &mut row,
            "answer",
            format!("({})", char::from(b'A' + place as u8)),
        );
        documents.push(row);
    }
    Ok(documents)
}

/// The answer is what the solution boxes last.
fn math(rows: Vec<Document>) -> Result<Vec<Document>, String> {
    let one = |mut row: Document| {
        let boxed = hendrycks::last_boxed(text(&row, "solution")?);
        let answer = boxed
            .as_deref()
            .and_then(hendrycks::unboxed)
            .ok_or("a solution boxes no answer")?
            .to_owned();
        set(&mut row, "answer", answer);
        Ok(row)
    };
    rows.into_iter().map(one).collect()
}

fn math_results(document: &Document, results: &[Value]) -> Result<Values, String> {
    let boxed = hendrycks::last_boxed(text(document, "solution")?);
    let right = boxed
        .as_deref()
        .and_then(hendrycks::unboxed)
        .ok_or("the solution boxes no answer")?;
    let answer = hendrycks::between_dollars(response(results)?);
    Ok(vec![(
        "exact_match".to_owned(),
        u8::from(hendrycks::is_equal(answer, right)).into(),
    )])
}

fn aime_results(document: &Document, results: &[Value]) -> Result<Values, String> {
    let target = document
        .iter()
        .find(|(name, _)| name.to_lowercase() == "answer");
    let target = super::python::text(target.ok_or("there is no column `answer`")?.1);
    let response = response(results)?;
    let boxed = hendrycks::last_boxed(response);
    let boxed = boxed.as_deref().and_then(hendrycks::unboxed);
    let answer = boxed.unwrap_or_else(|| hendrycks::between_dollars(response));
    Ok(vec![(
        "exact_match".to_owned(),
        u8::from(hendrycks::is_equal(answer, &target)).into(),
    )])
}

fn mmlu_pro_text(document: &Document) -> Result<Value, String> {
    let mut prompt = format!("Question:\n{}\nOptions:\n", text(document, "question")?);
    for (option, letter) in list(document, "options")?.iter().zip('A'..='J') {
        prompt.push(letter);
        prompt.extend([". ", option.as_str().unwrap_or_default().trim(), "\n"]);
    }
    Ok((prompt + "Answer: Let's think step by step.").into())
}

fn mmlu_pro_target(document: &Document) -> Result<Value, String> {
    Ok(text(document, "cot_content")?
        .replace("A: Let's think step by step. ", "")
        .into())
}

/// The probability that goes to the true answers, of all given ones together.
fn truthfulqa_mc2(document: &Document, results: &[Value]) -> Result<Values, String> {
    let labels = document
        .get("mc2_targets")
        .and_then(|targets| targets["labels"].as_array());
    let labels = labels.ok_or("there is no list `mc2_targets.labels`")?;
    let probabilities: Vec<f64> = results
        .iter()
        .map(|one| one[0].as_f64().unwrap_or(f64::NAN).exp())
        .collect();
    let all: f64 = probabilities.iter().sum();
    let is_true = |(_, label): &(&f64, &Value)| label.as_f64() == Some(1.0);
    let right: f64 = probabilities
        .iter()
        .zip(labels)
        .filter(is_true)
        .map(|(p, _)| p / all)
        .sum();
    Ok(vec![("acc".to_owned(), right.into())])
}

fn logiqa_text(document: &Document) -> Result<Value, String> {
    let (context, question) = (text(document, "context")?, text(document, "question")?);
    let mut prompt = format!("Passage: {context}\nQuestion: {question}\nChoices:\n");
    for (option, letter) in list(document, "options")?.iter().zip('A'..='D') {
        prompt.push(letter);
        prompt.extend([". ", option.as_str().unwrap_or_default(), "\n"]);
    }
    Ok((prompt + "Answer:").into())
}

fn logiqa_target(document: &Document) -> Result<Value, String> {
    let label = text(document, "label")?.trim();
    let place = ["a", "b", "c", "d"]
        .iter()
        .position(|letter| *letter == label);
    place
        .map(Value::from)
        .ok_or_else(|| format!("the label `{label}` is none of a to d"))
}

fn hellaswag(rows: Vec<Document>) -> Result<Vec<Document>, String> {
    let brackets = super::regex::compile(r"\[.*?\]")?;
    let clean = |text: &str| {
        let text = text.trim().replace(" [title]", ". ");
        super::regex::replace(&brackets, &text, "", 0).map(|text| text.replace("  ", " "))
    };
    let mut documents = Vec::new();
    for mut row in rows {
        let second = text(&row, "ctx_b")?.to_lowercase();
        let mut letters = second.chars();
        let first = letters
            .next()
            .map(|letter| letter.to_uppercase().to_string())
            .unwrap_or_default();
        let query = format!(
            "{}: {} {first}{}",
            text(&row, "activity_label")?,
            text(&row, "ctx_a")?,
            letters.as_str()
        );
        let endings = list(&row, "endings")?
            .iter()
            .map(|ending| clean(ending.as_str().unwrap_or_default()));
        let endings: Vec<String> = endings.collect::<Result<_, _>>()?;
        let gold = super::python::text(row.get("label").ok_or("there is no column `label`")?);
        set(&mut row, "query", clean(&query)?);
        set(&mut row, "choices", endings);
        set(
            &mut row,
            "gold",
            gold.trim().parse::<i64>().map_or(Value::Null, Value::from),
        );
        documents.push(row);
    }
    Ok(documents)
}

fn winogrande_text(document: &Document) -> Result<Value, String> {
    match text(document, "answer")? {
        "1" => Ok(0.into()),
        "2" => Ok(1.into()),
        other => Err(format!("the answer `{other}` is neither 1 nor 2")),
    }
}

fn winogrande_target(document: &Document) -> Result<Value, String> {
    let (_, rest) = text(document, "sentence")?
        .split_once('_')
        .ok_or("the sentence has no `_`")?;
    Ok(rest.trim().into())
}

fn winogrande_choice(document: &Document) -> Result<Value, String> {
    let (start, _) = text(document, "sentence")?
        .split_once('_')
        .ok_or("the sentence has no `_`")?;
    let choice = |name| Ok::<_, String>(format!("{start}{}", text(document, name)?));
    Ok(json!([choice("option1")?, choice("option2")?]))
}

fn ifeval_results(document: &Document, results: &[Value]) -> Result<Values, String> {
    let judgement = crate::ifeval::judge(document, response(results)?)?;
    let all = |kept: &[bool]| Value::from(kept.iter().all(|kept| *kept));
    let each = |kept: &[bool]| {
        kept.iter()
            .map(|kept| Value::from(*kept))
            .collect::<Value>()
    };
    let (strict, loose) = (&judgement.strict, &judgement.loose);
    let values = [
        ("prompt_level_strict_acc", all(strict)),
        ("inst_level_strict_acc", each(strict)),
        ("prompt_level_loose_acc", all(loose)),
        ("inst_level_loose_acc", each(loose)),
    ];
    Ok(values.map(|(name, value)| (name.to_owned(), value)).into())
}
