//! Task files of lm-evaluation-harness: runs on a tiny model with random weights.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

mod tiny;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use model::{Device, Model, Tokenizer};
use serde_json::{Value, json};
use store::read_table;
use store::tables::Sample;
use tiny::{lines, model};

/// A folder with a model, tasks and data.
struct Folder(tempfile::TempDir);

const TASKS: &str = "gen.yaml mc.yaml ll.yaml roll.yaml";

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        model(&folder.path("m"));
        let row = |i: usize| {
            let question = format!("{}+{i}{}?", i * 7 % 10, " so".repeat(i % 4));
            json!({"question": question, "answer": format!("{i}"), "choices": [format!("{i}"), format!("not {i}"), "9"], "gold": i % 3}).to_string()
        };
        fs::write(
            folder.path("data.jsonl"),
            (0..14).map(row).collect::<Vec<_>>().join("\n"),
        )
        .unwrap();
        let common = "dataset_path: json\ndataset_kwargs: {data_files: {test: data.jsonl, dev: data.jsonl}}\ntest_split: test\nfewshot_split: dev\ndoc_to_text: \"Q: {{question}}\\nA:\"\n";
        let write = |name: &str, text: &str| {
            fs::write(folder.path(name), format!("{common}{text}")).unwrap();
        };
        write(
            "gen.yaml",
            "task: gen\ndoc_to_target: answer\ngeneration_kwargs: {until: ['7', 'ab'], do_sample: true, temperature: 1.5, max_gen_toks: 24}\nrepeats: 3\n",
        );
        write(
            "mc.yaml",
            "task: mc\noutput_type: multiple_choice\nnum_fewshot: 3\nfewshot_config: {sampler: first_n}\ndoc_to_choice: choices\ndoc_to_target: gold\nmetric_list: [{metric: acc}, {metric: acc_norm}, {metric: acc_bytes}, {metric: exact_match}]\n",
        );
        write(
            "mutual.yaml",
            "task: mutual\noutput_type: multiple_choice\ndoc_to_choice: choices\ndoc_to_target: gold\nmetric_list: [{metric: acc}, {metric: acc_mutual_info}]\n",
        );
        write(
            "ll.yaml",
            "task: ll\noutput_type: loglikelihood\ndoc_to_target: \" {{answer}}\"\nnum_fewshot: 2\n",
        );
        write(
            "roll.yaml",
            "task: roll\noutput_type: loglikelihood_rolling\ndoc_to_target: question\n",
        );
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn evaluate(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path());
        command.env("SOURCE_DATE_EPOCH", "0").output().unwrap()
    }

    fn well(&self, line: &str) -> String {
        let output = self.evaluate(line);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{line}: {said}");
        said
    }

    fn samples(&self, name: &str) -> Vec<Sample> {
        read_table(&[self.path(name)]).unwrap()
    }

    /// A results file of the harness, and the samples file of one task.
    fn exported(&self, directory: &str, task: &str) -> (Value, Vec<Value>) {
        let folder = self.path(directory).join("m");
        let time = "1970-01-01T00-00-00.000000";
        let results = fs::read_to_string(folder.join(format!("results_{time}.json"))).unwrap();
        (
            serde_json::from_str(&results).unwrap(),
            lines(&folder.join(format!("samples_{task}_{time}.jsonl"))),
        )
    }
}

#[test]
fn texts_end_before_their_stop_strings_and_are_counted() {
    let folder = Folder::new();
    folder.well("run -q --model m=m --tasks gen.yaml -o a.parquet --results a.json --lm-eval out");
    let samples = folder.samples("a.parquet");
    assert_eq!(samples.len(), 42);
    let stopped = samples
        .iter()
        .filter(|sample| sample.finish_reason == "stop")
        .count();
    assert!(stopped > 10 && stopped < 42, "{stopped}");
    for sample in &samples {
        assert!(
            !sample.completion.contains('7') && !sample.completion.contains("ab"),
            "{sample:?}"
        );
        assert!(
            sample.n_tokens <= 24 && sample.completion.chars().count() <= sample.n_tokens as usize
        );
        assert!(sample.finish_reason == "stop" || sample.n_tokens == 24);
    }
    let (results, lines) = folder.exported("out", "gen");
    assert_eq!(lines.len(), 14);
    assert_eq!(lines[3]["resps"][0].as_array().unwrap().len(), 3);
    assert_eq!(results["results"]["gen"]["sample_len"], 14);
    assert!(
        fs::read_to_string(folder.path("a.json"))
            .unwrap()
            .contains("pass_at")
    );
}

#[test]
fn batch_shard_and_interruption_change_nothing() {
    let folder = Folder::new();
    folder.well(&format!(
        "run -q --model m=m --tasks {TASKS} -o a.parquet --lm-eval a"
    ));
    let samples = folder.samples("a.parquet");
    folder.well(&format!(
        "run -q --model m=m --tasks {TASKS} --batch 3 -o b.parquet --lm-eval b"
    ));
    assert_eq!(folder.samples("b.parquet"), samples);
    let mut pieces = Vec::new();
    for piece in 0..3 {
        folder.well(&format!(
            "run -q --model m=m --tasks {TASKS} --batch 5 --shard {piece}/3 -o s{piece}.parquet"
        ));
        pieces.extend(folder.samples(&format!("s{piece}.parquet")));
    }
    assert_eq!(pieces, samples);
    // The same run again has nothing to ask, and writes the same files.
    let said = folder.well(&format!(
        "run --model m=m --tasks {TASKS} -o a.parquet --lm-eval c"
    ));
    assert!(said.contains("nothing to ask"), "{said}");
    for task in ["gen", "mc", "ll", "roll"] {
        assert_eq!(folder.exported("a", task).1, folder.exported("b", task).1);
        assert_eq!(folder.exported("a", task).1, folder.exported("c", task).1);
    }
}

#[test]
fn shared_beginnings_give_the_likelihoods_of_whole_sequences() {
    let folder = Folder::new();
    folder.well("run -q --model m=m --tasks mc.yaml mutual.yaml ll.yaml roll.yaml -o a.parquet --lm-eval out");
    let weights = Model::load(&folder.path("m"), &Device::Cpu, model::DType::F32).unwrap();
    let tokenizer = Tokenizer::load(&folder.path("m")).unwrap();
    let mut n = 0;
    for task in ["mc", "mutual", "ll"] {
        for line in folder.exported("out", task).1 {
            for (number, arguments) in line["arguments"].as_object().unwrap().values().enumerate() {
                let context = arguments["arg_0"].as_str().unwrap();
                let before = if context.is_empty() { "<end>" } else { context };
                let context = tokenizer.encode(before, false).unwrap();
                let text = format!("{before}{}", arguments["arg_1"].as_str().unwrap());
                let whole = tokenizer.encode(&text, false).unwrap();
                let all = weights
                    .logprobs(std::slice::from_ref(&whole), 0, &mut ())
                    .unwrap()
                    .remove(0);
                let expected: f64 = all[context.len() - 1..].iter().map(|p| f64::from(*p)).sum();
                let found: f64 = line["resps"][number][0][0]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap();
                assert!(
                    (found - expected).abs() < 1e-4,
                    "{task}: {found} for {expected}"
                );
                n += 1;
            }
        }
    }
    assert_eq!(n, 14 * 3 + 14 * 6 + 14);
    // A whole text counts from its first token on.
    let line = &folder.exported("out", "roll").1[0];
    let whole = tokenizer
        .encode(
            &format!(
                "<end>{}",
                line["arguments"]["gen_args_0"]["arg_0"].as_str().unwrap()
            ),
            false,
        )
        .unwrap();
    let expected: f64 = weights.logprobs(&[whole], 0, &mut ()).unwrap()[0]
        .iter()
        .map(|p| f64::from(*p))
        .sum();
    assert!((line["byte_perplexity"][0].as_f64().unwrap() - expected).abs() < 1e-4);
}

#[test]
fn weights_and_products_change_likelihoods_a_little() {
    let folder = Folder::new();
    let logprobs = |flags: &str, name: &str| -> Vec<f64> {
        folder.well(&format!(
            "run -q --model m=m --tasks mc.yaml {flags} -o {name}.parquet"
        ));
        let of = |sample: &Sample| -> Vec<f64> {
            let readings: Value = serde_json::from_str(sample.readings.as_ref().unwrap()).unwrap();
            let choices = readings["choices"].as_array().unwrap();
            choices
                .iter()
                .map(|one| one["logprob"].as_f64().unwrap())
                .collect()
        };
        let samples = folder.samples(&format!("{name}.parquet"));
        samples.iter().flat_map(of).collect()
    };
    let exact = logprobs("", "a");
    assert_eq!(exact, logprobs("--weights stored --precision f32", "b"));
    for (flags, name) in [
        ("--weights int8", "c"),
        ("--precision bf16", "d"),
        ("--dtype bf16", "e"),
    ] {
        let rounded = logprobs(flags, name);
        let differences = exact.iter().zip(&rounded).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f64::max);
        assert!(largest > 0.0 && largest < 0.5, "{flags}: {largest}");
    }
    for flags in [
        "--weights int8 --dtype bf16",
        "--precision bf16 --dtype f16",
    ] {
        let output = folder.evaluate(&format!(
            "run --model m=m --tasks mc.yaml {flags} -o f.parquet"
        ));
        assert_eq!(output.status.code(), Some(2), "{flags}");
    }
}

#[test]
fn chats_hold_system_examples_and_question_as_turns() {
    let folder = Folder::new();
    let prompt = |flags: &str, name: &str| {
        folder.well(&format!(
            "run -q --model m=m --tasks ll.yaml --limit 1 {flags} -o {name}.parquet"
        ));
        folder.samples(&format!("{name}.parquet"))[0].prompt.clone()
    };
    let turns = prompt("--apply-chat-template --system-instruction Be.", "a");
    assert!(turns.starts_with("[system]Be.\n[user]Q: "), "{turns}");
    assert!(turns.ends_with("]Q: 0+0?\nA:\n[assistant]"), "{turns}");
    assert_eq!(
        (
            turns.matches("[user]").count(),
            turns.matches("[assistant]").count()
        ),
        (3, 3)
    );
    let single = prompt("--apply-chat-template --fewshot-in-one-turn", "b");
    assert_eq!(
        (
            single.matches("[user]").count(),
            single.matches("[assistant]").count()
        ),
        (1, 1)
    );
    let plain = prompt("--system-instruction Be.", "c");
    assert!(
        plain.starts_with("Be.Q: ") && plain.ends_with("\n\nQ: 0+0?\nA:"),
        "{plain}"
    );
}

#[test]
fn bare_lines_are_asked_by_a_preset() {
    let folder = Folder::new();
    folder.well("run -q --model m=m --tasks data.jsonl --preset mcq-ll -o a.parquet");
    let samples = folder.samples("a.parquet");
    assert_eq!(samples.len(), 14);
    assert_eq!(
        (samples[1].task.as_str(), samples[1].target.as_str()),
        ("data", "A")
    );
}

#[test]
fn what_cannot_be_asked_is_said() {
    let folder = Folder::new();
    fs::write(folder.path("py.yaml"), "task: py\ntest_split: test\ndataset_path: json\ndataset_kwargs: {data_files: {test: data.jsonl}}\ndoc_to_text: !function utils.f\ndoc_to_target: answer\n").unwrap();
    fs::write(folder.path("far.yaml"), "task: far\ntest_split: test\ndataset_path: someone/far\ndoc_to_text: a\ndoc_to_target: b\n").unwrap();
    for (line, cause) in [
        (
            "run --model m=m --tasks py.yaml -o x.parquet",
            "utils.f is not known",
        ),
        ("run --model m=m --tasks far.yaml -o x.parquet", "--data"),
        (
            "run --model m=m --tasks gen.yaml --filter nothing -o x.parquet",
            "nothing",
        ),
        (
            "run --model m=m --tasks absent.yaml -o x.parquet",
            "absent.yaml",
        ),
    ] {
        let output = folder.evaluate(line);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        assert!(said.contains(cause) && said.lines().count() == 1, "{said}");
    }
}
