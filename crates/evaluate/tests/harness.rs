//! Task files of lm-evaluation-harness: its own output reproduced, and runs on a tiny model with random weights.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use evaluate::harness::ask::Overrides;
use evaluate::harness::export;
use evaluate::harness::header::Header;
use evaluate::harness::open::{self, Opened, Sources};
use evaluate::harness::units::Writing;
use model::config::Architecture;
use model::{Config, Device, Model, Tokenizer};
use serde_json::{Map, Value, json};
use store::tables::Sample;
use store::{Provenance, read_table};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/lmeval")
        .join(name)
}

/// A model that reads and writes single characters: the printable ones and the line end.
fn model(to: &Path) {
    let mut tokens: Vec<String> = ["<end>".to_owned(), "\n".to_owned()].into();
    tokens.extend((b' '..=b'~').map(|byte| char::from(byte).to_string()));
    let config = Config {
        architecture: Architecture::Qwen2,
        vocab: tokens.len(),
        d_model: 16,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        d_head: 8,
        d_mlp: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_positions: 512,
        windows: vec![None; 2],
        qkv_bias: true,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        tied: true,
        form: model::config::Form::default(),
    };
    let vocab: Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"},
        "added_tokens": [{"id": 0, "content": "<end>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<end>"},
    });
    let weights = Model::random(config.clone(), 7, &Device::Cpu).unwrap();
    fs::create_dir_all(to).unwrap();
    fs::write(
        to.join("model.safetensors"),
        weights.serialized_weights().unwrap(),
    )
    .unwrap();
    fs::write(
        to.join("config.json"),
        config.to_json(None, Some(0)).to_string(),
    )
    .unwrap();
    fs::write(to.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let template = "{% for m in messages %}[{{m.role}}]{{m.content}}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
    let settings = json!({"eos_token": "<end>", "chat_template": template});
    fs::write(to.join("tokenizer_config.json"), settings.to_string()).unwrap();
}

/// The golden tasks, opened where their data lie.
fn golden_tasks() -> Opened {
    let files = [golden("tasks/my_gen.yaml"), golden("tasks/my_group.yaml")];
    open::open(Sources {
        tasks: &files,
        include: &[],
        data: &[golden("")],
        preset: None,
        n_fewshot: None,
    })
    .unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Rows as a run leaves them, with the golden answers.
fn golden_samples() -> Vec<Sample> {
    let row = |task: &str, line: &Value, number: usize| Sample {
        model: "dummy".into(),
        arm: "none".into(),
        task: task.into(),
        doc_id: line["doc_id"].to_string(),
        sample: number as u32,
        finish_reason: "stop".into(),
        ..Sample::default()
    };
    let mut samples = Vec::new();
    for line in lines(&golden("samples_my_gen.jsonl")).iter().take(3) {
        for (number, text) in line["resps"][0].as_array().unwrap().iter().enumerate() {
            samples.push(Sample {
                completion: text.as_str().unwrap().into(),
                ..row("my_gen", line, number)
            });
        }
    }
    for line in &lines(&golden("samples_my_mc.jsonl")) {
        let choice = |one: &Value| {
            let logprob: f64 = one[0][0].as_str().unwrap().parse().unwrap();
            json!({"text": "", "logprob": logprob, "greedy": one[0][1] == "True"})
        };
        let choices: Vec<Value> = line["resps"]
            .as_array()
            .unwrap()
            .iter()
            .map(choice)
            .collect();
        samples.push(Sample {
            readings: Some(json!({"choices": choices}).to_string()),
            ..row("my_mc", line, 0)
        });
    }
    samples
}

/// The files written for the golden answers: results, and samples by task.
fn written(folder: &Path) -> (String, Value, [String; 2]) {
    model(&folder.join("m"));
    let tokenizer = Tokenizer::load(&folder.join("m")).unwrap();
    let provenance = Provenance::new("evaluate run", &()).unwrap();
    let header = Header {
        model: Path::new("m"),
        writing: Writing {
            tokenizer: &tokenizer,
            chat: false,
            multiturn: true,
            system: None,
        },
        overrides: &Overrides::default(),
        limit: None,
        batch: 1,
        device: "cpu",
        date: Duration::from_secs(1_795_188_477),
        time: "T".into(),
        seconds: 5.5,
        provenance: &provenance,
    };
    let path = export::write(
        &golden_tasks(),
        &golden_samples(),
        &header,
        &folder.join("out"),
    )
    .unwrap();
    let text = fs::read_to_string(path).unwrap();
    let samples = ["my_gen", "my_mc"].map(|task| {
        fs::read_to_string(folder.join(format!("out/m/samples_{task}_T.jsonl"))).unwrap()
    });
    (text.clone(), serde_json::from_str(&text).unwrap(), samples)
}

#[test]
fn samples_files_are_those_of_the_harness_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (_, _, samples) = written(folder.path());
    for (task, text) in ["my_gen", "my_mc"].into_iter().zip(samples) {
        let expected = fs::read_to_string(golden(&format!("samples_{task}.jsonl"))).unwrap();
        for (line, expected) in text.lines().zip(expected.lines()) {
            assert_eq!(line, expected);
        }
        assert_eq!(text, expected);
    }
}

#[test]
fn results_have_the_keys_the_figures_and_the_hashes_of_the_harness() {
    let folder = tempfile::tempdir().unwrap();
    let (text, found, _) = written(folder.path());
    let expected: Value =
        serde_json::from_str(&fs::read_to_string(golden("results.json")).unwrap()).unwrap();
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    // Facts of the tokenizer, which the dummy model of the golden run has not, and our own key at the end.
    let extra = [
        "tokenizer_pad_token",
        "tokenizer_eos_token",
        "tokenizer_bos_token",
        "eot_token_id",
        "max_length",
        "postscope",
    ];
    let own: Vec<String> = keys(&found)
        .into_iter()
        .filter(|key| !extra.contains(&key.as_str()))
        .collect();
    assert_eq!(own, keys(&expected));
    for key in [
        "results",
        "groups",
        "group_subtasks",
        "versions",
        "n-shot",
        "higher_is_better",
        "n-samples",
        "git_hash",
        "transformers_version",
        "lm_eval_version",
        "upper_git_hash",
        "task_hashes",
        "system_instruction",
        "system_instruction_sha",
        "fewshot_as_multiturn",
        "chat_template",
        "chat_template_sha",
    ] {
        assert_eq!(found[key].to_string(), expected[key].to_string(), "{key}");
    }
    assert_eq!(keys(&found["config"]), keys(&expected["config"]));
    let mut configs = found["configs"].clone();
    for task in ["my_gen", "my_mc"] {
        let source = configs[task]["metadata"]["config_source"].as_str().unwrap();
        assert!(source.ends_with(&format!("tasks/{task}.yaml")), "{source}");
        configs[task]["metadata"]["config_source"] = format!("tasks/{task}.yaml").into();
    }
    assert_eq!(configs.to_string(), expected["configs"].to_string());
    assert!(
        text.starts_with("{\n  \"results\": {\n    \"my_gen\": {\n      \"name\": \"my_gen\","),
        "{text}"
    );
}

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
