//! The ready task files: every one is read, and asks and judges two documents written by hand.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tasks::harness::{Library, OutputType, Request, Selection, Style, Task, is_task_file};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tasks")
}

fn library() -> Library {
    let mut library = Library::default();
    library.scan(&examples()).unwrap();
    library
}

fn select(name: &str) -> Selection {
    library().select(&[name.to_owned()]).unwrap()
}

#[expect(clippy::too_many_lines, reason = "a line for every task")]
/// Where the rows of a task go, as its comment says, and two of them; the split they are for.
fn rows(name: &str) -> (&'static str, &'static str, Value) {
    let choices =
        json!({"text": ["x", "it's y", "z", "w", "v"], "label": ["A", "B", "C", "D", "E"]});
    match name {
        "math500" => (
            "MATH-500",
            "test",
            json!([{"problem": "1+1?", "solution": "\\boxed{2}", "answer": "2"}, {"problem": "Half?", "solution": "\\boxed{\\frac12}", "answer": "\\frac{1}{2}"}]),
        ),
        "gsm8k" => (
            "gsm8k/main",
            "test",
            json!([{"question": "1+1?", "answer": "So it is #### 2"}, {"question": "999+1?", "answer": "#### 1,000"}]),
        ),
        "aime24" => (
            "AIME_2024",
            "train",
            json!([{"Problem": "1+1?", "Answer": 2}, {"Problem": "2+2?", "Answer": 4}]),
        ),
        "aime25" => (
            "aime25",
            "test",
            json!([{"problem": "1+1?", "answer": "2"}, {"problem": "2+2?", "answer": "4"}]),
        ),
        "gpqa_diamond" => (
            "gpqa/gpqa_diamond",
            "train",
            json!([
            {"Question": "?", "Correct Answer": " right ", "Incorrect Answer 1": "a", "Incorrect Answer 2": "b", "Incorrect Answer 3": "c"},
            {"Question": "??", "Correct Answer": "good", "Incorrect Answer 1": "d", "Incorrect Answer 2": "e", "Incorrect Answer 3": "f"}]),
        ),
        "mmlu_anatomy" => (
            "mmlu/anatomy",
            "test",
            json!([{"question": " ? ", "choices": ["p", "q", "r", "s"], "answer": 2}, {"question": "??", "choices": ["p", "q", "r", "s"], "answer": 0}]),
        ),
        "mmlu_pro_math" => (
            "MMLU-Pro",
            "test",
            json!([{"question": "?", "options": ["p", "q"], "answer": "B", "cot_content": "A: Let's think step by step. The answer is (B).", "category": "math"}, {"question": "!", "options": ["p", "q"], "answer": "A", "cot_content": "", "category": "math"}, {"question": "law", "options": [], "answer": "A", "cot_content": "", "category": "law"}]),
        ),
        "openbookqa" => (
            "openbookqa/main",
            "test",
            json!([{"question_stem": "?", "choices": choices, "answerKey": " B"}, {"question_stem": "??", "choices": choices, "answerKey": "D"}]),
        ),
        "commonsense_qa" => (
            "commonsense_qa",
            "validation",
            json!([{"question": " ? ", "choices": choices, "answerKey": "B"}, {"question": "??", "choices": choices, "answerKey": "E"}]),
        ),
        "headqa_en" => (
            "headqa/en",
            "test",
            json!([{"qtext": "?", "answers": [{"aid": 1, "atext": "p"}, {"aid": 2, "atext": "it's q"}], "ra": 2}, {"qtext": "??", "answers": [{"aid": 1, "atext": "p"}, {"aid": 2, "atext": "q"}], "ra": 1}]),
        ),
        "sciq" => (
            "sciq",
            "test",
            json!([{"question": "?", "support": " S.", "correct_answer": "r", "distractor1": "p", "distractor2": "\"q\"", "distractor3": "s"}, {"question": "??", "support": "", "correct_answer": "r", "distractor1": "p", "distractor2": "q", "distractor3": "s"}]),
        ),
        "arc_challenge" => (
            "ai2_arc/ARC-Challenge",
            "test",
            json!([{"question": "?", "choices": choices, "answerKey": "C"}, {"question": "??", "choices": {"text": ["p", "q"], "label": ["1", "2"]}, "answerKey": "2"}]),
        ),
        "logiqa" => (
            "logiqa/logiqa",
            "test",
            json!([{"context": "C.", "question": "?", "options": ["p", "q", "r", "s"], "label": "b\n"}, {"context": "D.", "question": "??", "options": ["p", "q", "r", "s"], "label": "d"}]),
        ),
        "piqa" => (
            "piqa",
            "validation",
            json!([{"goal": "g", "sol1": "p", "sol2": "q", "label": 1}, {"goal": "h", "sol1": "p", "sol2": "q", "label": 0}]),
        ),
        "truthfulqa_mc1" | "truthfulqa_mc2" => {
            let targets = json!({"choices": ["true", "false", "also true"], "labels": [1, 0, 1]});
            (
                "truthful_qa/multiple_choice",
                "validation",
                json!([{"question": "?", "mc1_targets": targets, "mc2_targets": targets}, {"question": "??", "mc1_targets": targets, "mc2_targets": targets}]),
            )
        }
        "ifeval" => (
            "IFEval",
            "train",
            json!([
            {"key": 1, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
            {"key": 2, "prompt": "Say banana.", "instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["banana"]}]}]),
        ),
        other => panic!("no rows for {other}"),
    }
}

/// A task with its rows, in the place its comment names; examples come from the same rows.
fn open(name: &str) -> Task {
    let (place, split, rows) = rows(name);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join(place);
    fs::create_dir_all(&place).unwrap();
    let lines: Vec<String> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    let selection = select(name);
    let config = &selection.tasks[0].config;
    for split in [
        Some(split),
        config.fewshot_split.as_deref(),
        config.training_split.as_deref(),
    ]
    .into_iter()
    .flatten()
    {
        fs::write(place.join(format!("{split}.jsonl")), lines.join("\n")).unwrap();
    }
    // Two rows are too few for five examples; one will do.
    let shots = config.num_fewshot.map(|n| n.min(1));
    Task::open(&selection.tasks[0], shots, &[folder.path().to_owned()]).unwrap()
}

/// What a task makes of a response: the value of its first metric under each filter.
fn values(task: &Task, document: usize, responses: &[Value]) -> Vec<f64> {
    let document = &task.documents[document];
    let value = |pipeline| {
        let filtered: Vec<Value> = responses
            .iter()
            .map(|one| {
                tasks::harness::filter::apply(pipeline, vec![one.clone()], document).unwrap()
            })
            .collect();
        let values = task.score(document, &filtered).unwrap();
        match &values[0].1 {
            Value::Bool(is) => f64::from(u8::from(*is)),
            value => value.as_f64().unwrap(),
        }
    };
    task.pipelines.iter().map(value).collect()
}

#[test]
fn every_file_says_where_its_data_comes_from_and_is_read() {
    let mut n = 0;
    for entry in fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if !is_task_file(&path) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("# ") && text.contains("Data"),
            "{}",
            path.display()
        );
        let names = Library::default().add(&path).unwrap();
        for task in &library().select(&names).unwrap().tasks {
            assert!(task.config.test_split.is_some() || task.config.validation_split.is_some());
        }
        n += 1;
    }
    assert!(n >= 17, "{n} files");
    let mmlu = select("mmlu");
    assert_eq!((mmlu.tasks.len(), mmlu.groups[0].leaves.len()), (57, 57));
    assert_eq!(select("mmlu_pro").tasks.len(), 14);
}

#[test]
fn generated_answers_are_judged_on_two_documents() {
    for (name, right, wrong) in [
        ("math500", ["so \\boxed{2}.", "\\boxed{0.5}"], "\\boxed{3}"),
        ("gsm8k", ["It is 2.\n#### 2", "#### 1000"], "#### 3"),
        ("aime24", ["\\boxed{2}", "\\boxed{4}"], "\\boxed{7}"),
        ("aime25", ["\\boxed{2}", "\\boxed{4}"], "\\boxed{7}"),
        (
            "mmlu_pro_math",
            ["so the answer is (B).", "the answer is A"],
            "the answer is (C)",
        ),
    ] {
        let task = open(name);
        assert_eq!(task.documents.len(), 2, "{name}");
        let requests = task.requests(Style::default(), usize::MAX).unwrap();
        for (number, request) in requests.iter().enumerate() {
            assert!(matches!(request, Request::Generate { context } if !context.is_empty()));
            let all = values(&task, number, &[right[number].into()]);
            assert!(
                all.iter().all(|value| *value > 0.5),
                "{name} {number}: {all:?}"
            );
            assert!(
                values(&task, number, &[wrong.into()])
                    .iter()
                    .all(|value| *value < 0.5),
                "{name}"
            );
        }
    }
}

#[test]
fn gpqas_choices_are_shuffled_and_its_letters_found() {
    let task = open("gpqa_diamond");
    // random.Random(0).shuffle twice over four choices each.
    let answers: Vec<&Value> = task
        .documents
        .iter()
        .map(|document| &document["answer"])
        .collect();
    for (number, answer) in answers.iter().enumerate() {
        let letter = &answer.as_str().unwrap()[1..2];
        for text in [
            format!("The answer is ({letter})."),
            format!("(A)? No. **Answer: {letter}**, so ({letter})"),
        ] {
            assert_eq!(
                values(&task, number, &[text.clone().into()]),
                [1.0, 1.0],
                "{text}"
            );
        }
        assert_eq!(values(&task, number, &["I cannot say".into()]), [0.0, 0.0]);
    }
}

#[test]
fn choices_are_judged_on_two_documents() {
    for (name, gold, n) in [
        ("mmlu_anatomy", [2, 0], 4),
        ("openbookqa", [1, 3], 5),
        ("commonsense_qa", [1, 4], 5),
        ("headqa_en", [1, 0], 2),
        ("sciq", [3, 3], 4),
        ("arc_challenge", [2, 1], 0),
        ("logiqa", [1, 3], 4),
        ("piqa", [1, 0], 2),
        ("truthfulqa_mc1", [0, 0], 3),
    ] {
        let task = open(name);
        assert_eq!(task.config().output_type, OutputType::MultipleChoice);
        let requests = task.requests(Style::default(), usize::MAX).unwrap();
        for (number, request) in requests.iter().enumerate() {
            let Request::Score { pairs } = request else {
                panic!("{name}: {request:?}");
            };
            assert!(n == 0 || pairs.len() == n, "{name}: {pairs:?}");
            let likelihood = |best: usize| -> Vec<Value> {
                (0..pairs.len())
                    .map(|place| json!([if place == best { -1.0 } else { -90.0 }, false]))
                    .collect()
            };
            assert_eq!(
                values(&task, number, &likelihood(gold[number])),
                [1.0],
                "{name} {number}"
            );
            assert_eq!(
                values(&task, number, &likelihood((gold[number] + 1) % pairs.len())),
                [0.0],
                "{name} {number}"
            );
        }
    }
}

#[test]
fn truth_is_a_share_of_probability() {
    let task = open("truthfulqa_mc2");
    let likelihoods = [0.5_f64, 0.25, 0.125].map(|p| json!([p.ln(), false]));
    let value = values(&task, 0, &likelihoods)[0];
    assert!((value - 0.625 / 0.875).abs() < 1e-12, "{value}");
}

#[test]
fn prompts_are_those_of_the_benchmarks() {
    let prompt = |name: &str| match open(name).requests(Style::default(), 1).unwrap().remove(0) {
        Request::Generate { context } => context,
        Request::Score { pairs } => pairs[0].0.clone() + "|" + &pairs[0].1,
        Request::Roll { text } => text,
    };
    assert_eq!(
        prompt("mmlu_anatomy"),
        "The following are multiple choice questions (with answers) about anatomy.\n\n?\nA. p\nB. q\nC. r\nD. s\nAnswer: C\n\n?\nA. p\nB. q\nC. r\nD. s\nAnswer:| A"
    );
    assert_eq!(
        prompt("commonsense_qa"),
        "Question: ?\nA. x\nB. it's y\nC. z\nD. w\nE. v\nAnswer:| A"
    );
    assert_eq!(
        prompt("logiqa"),
        "Passage: C.\nQuestion: ?\nChoices:\nA. p\nB. q\nC. r\nD. s\nAnswer:| p"
    );
    assert_eq!(prompt("sciq"), "S.\nQuestion: ?\nAnswer:| p");
    let truthful = prompt("truthfulqa_mc1");
    assert!(
        truthful.starts_with("Q: What is human life expectancy in the United States?\nA: Human"),
        "{truthful}"
    );
    assert!(
        truthful.ends_with("held in Barcelona, Spain.\n\nQ: ?\nA:| true"),
        "{truthful}"
    );
    let pro = prompt("mmlu_pro_math");
    assert!(pro.contains("Answer: Let's think step by step. The answer is (B).\n\nQuestion:\n?\nOptions:\nA. p\nB. q\nAnswer: Let's think"), "{pro}");
}

#[test]
fn instructions_are_judged_on_two_documents() {
    let task = open("ifeval");
    assert_eq!(values(&task, 0, &["No comma here".into()]), [1.0]);
    assert_eq!(values(&task, 0, &["One, two".into()]), [0.0]);
    assert_eq!(values(&task, 1, &["A banana".into()]), [1.0]);
    assert_eq!(values(&task, 1, &["A plum".into()]), [0.0]);
}

/// Prompts of a task written here, over rows `{"q": "0"}`, `{"q": "1"}`, ….
fn prompts(keys: &str, limit: usize) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..12)
        .map(|i| json!({"q": i.to_string(), "a": i}).to_string())
        .collect();
    fs::write(folder.path().join("rows.jsonl"), rows.join("\n")).unwrap();
    let text = format!(
        "task: t\ndataset_path: json\ndataset_kwargs: {{data_files: rows.jsonl}}\ntest_split: test\ndoc_to_text: q\ndoc_to_target: '{{{{a}}}}'\n{keys}"
    );
    let file = folder.path().join("t.yaml");
    fs::write(&file, text).unwrap();
    let mut library = Library::default();
    library.add(&file).unwrap();
    let selection = library.select(&["t".to_owned()]).unwrap();
    let task = Task::open(&selection.tasks[0], None, &[]).unwrap();
    let requests = task.requests(Style::default(), limit).unwrap();
    let context = |request| match request {
        Request::Generate { context } => context,
        other => panic!("{other:?}"),
    };
    requests.into_iter().map(context).collect()
}

#[test]
fn examples_are_drawn_as_python_draws_them() {
    // random.Random(1234), r.sample(range(12), 3) again and again.
    let drawn = prompts(
        "fewshot_split: dev\nnum_fewshot: 3\nfewshot_delimiter: ' | '\n",
        3,
    );
    assert_eq!(
        drawn,
        [
            "7 7 | 1 1 | 0 0 | 0",
            "1 1 | 9 9 | 0 0 | 1",
            "10 10 | 1 1 | 11 11 | 2"
        ]
    );
    // Where examples come from the documents asked, one more is drawn, and the document itself left out.
    let apart = prompts(
        "fewshot_split: test\nnum_fewshot: 3\nfewshot_delimiter: ' | '\n",
        3,
    );
    assert_eq!(
        apart,
        [
            "7 7 | 1 1 | 10 10 | 0",
            "9 9 | 0 0 | 11 11 | 1",
            "5 5 | 3 3 | 0 0 | 2"
        ]
    );
    let first = prompts(
        "fewshot_split: test\nnum_fewshot: 2\nfewshot_config: {sampler: first_n}\n",
        2,
    );
    assert_eq!(first, ["1 1\n\n2 2\n\n0", "0 0\n\n2 2\n\n1"]);
    let given = prompts(
        "num_fewshot: 1\nfewshot_config: {sampler: first_n, samples: [{q: x, a: y}]}\ndescription: 'D{{q}}.'\ngen_prefix: So\n",
        1,
    );
    assert_eq!(given, ["D0.x So y\n\n0 So"]);
}
