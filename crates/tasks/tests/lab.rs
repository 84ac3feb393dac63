//! The suite, checked from outside: every chain is worked out again from its prompt alone.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]
#![expect(clippy::format_collect, reason = "the solver is written for reading")]

use std::collections::{BTreeMap, BTreeSet};

use tasks::lab::{
    Author, CHARACTERS, DOCUMENT_CHARACTERS, Document, Settings, Split, Task, documents, items,
};
use tasks::{Grader, Item, grade};

fn settings(seed: u64) -> Settings {
    Settings {
        seed,
        documents: 4000,
        train: 300,
        tune: 100,
        test: 200,
        ..Settings::default()
    }
}

fn all_items(split: Split) -> Vec<Item> {
    Task::ALL
        .iter()
        .flat_map(|task| items(*task, split, &settings(0)).unwrap())
        .collect()
}

/// Every item of every split.
fn everything() -> impl Iterator<Item = Item> {
    Split::ALL.into_iter().flat_map(all_items)
}

fn corpus(seed: u64) -> Vec<Document> {
    documents(&settings(seed)).collect()
}

fn correct(reply: &str, target: &str) -> bool {
    grade(Grader::Lab, reply, target).correct
}

/// The lines of a document as (prompt, reply).
fn lines(document: &Document) -> impl Iterator<Item = (&str, &str)> {
    document
        .text
        .lines()
        .map(|line| line.split_at(line.find('?').expect("a prompt") + 1))
}

fn digits(text: &str) -> Vec<u32> {
    text.chars()
        .map(|digit| digit.to_digit(10).unwrap())
        .collect()
}

/// Steps and answer, worked out from the prompt by other means than the suite's.
fn solve(prompt: &str) -> (String, String) {
    let (name, question) = prompt.trim_end_matches('?').split_once(' ').unwrap();
    match name {
        "add" => add(question),
        "rev" => {
            let steps = question
                .char_indices()
                .map(|(at, c)| format!("{}{c}", at + 1))
                .collect();
            (steps, question.chars().rev().collect())
        }
        "srt" => {
            let sorted: Vec<char> = ('a'..='j').filter(|c| question.contains(*c)).collect();
            let number = |c: &char| format!("{c}{}", ('a'..*c).count());
            (sorted.iter().map(number).collect(), sorted.iter().collect())
        }
        "cnt" => {
            let (wanted, text) = question.split_once(' ').unwrap();
            let upto = |at: usize| text[..=at].matches(wanted).count();
            let steps = text
                .char_indices()
                .map(|(at, c)| format!("{c}{wanted}{}", upto(at)))
                .collect();
            (steps, upto(text.len() - 1).to_string())
        }
        "clk" => {
            let d = digits(&question.replace('+', ""));
            let (x, y, z) = (
                (d[0] + d[1]) % 7,
                (d[0] + d[1] + d[2]) % 7,
                d.iter().sum::<u32>() % 7,
            );
            (
                format!("{}+{}={x},{x}+{}={y},{y}+{}={z}", d[0], d[1], d[2], d[3]),
                z.to_string(),
            )
        }
        "max" => {
            let most = |at: usize| question[..=at].chars().max().unwrap();
            let steps: Vec<String> = question
                .char_indices()
                .map(|(at, c)| format!("{c}{}", most(at)))
                .collect();
            (steps.join(","), most(question.len() - 1).to_string())
        }
        "par" => {
            let odd = |at: usize| question[..=at].matches('1').count() % 2;
            let steps = question
                .char_indices()
                .map(|(at, c)| format!("{c}{}", odd(at)))
                .collect();
            (steps, ["even", "odd"][odd(question.len() - 1)].into())
        }
        "rel" => rel(question),
        other => panic!("unknown task {other}"),
    }
}

fn add(question: &str) -> (String, String) {
    let (a, b) = question.split_once('+').unwrap();
    let (a, b): (u32, u32) = (a.parse().unwrap(), b.parse().unwrap());
    let ones = a % 10 + b % 10;
    let carry = u32::from(ones > 9);
    let steps = format!(
        "{}+{}={ones},{}+{}+{carry}={}",
        a % 10,
        b % 10,
        a / 10,
        b / 10,
        (a + b) / 10
    );
    (steps, (a + b).to_string())
}

fn rel(question: &str) -> (String, String) {
    let mut words: Vec<&str> = question.split(' ').collect();
    let mut at = words.pop().unwrap();
    let mut steps = Vec::new();
    while let Some(link) = words.iter().find(|word| word.starts_with(at)) {
        steps.push(*link);
        at = &link[1..];
    }
    (steps.join(" "), at.to_owned())
}

#[test]
fn chains_and_answers_agree_with_an_independent_solver() {
    for item in everything() {
        let (steps, answer) = solve(&item.prompt);
        assert_eq!(item.target, answer, "{}", item.prompt);
        assert_eq!(
            item.careful.unwrap(),
            format!("so {steps}#{answer}."),
            "{}",
            item.prompt
        );
    }
}

#[test]
fn the_worked_examples_of_the_manual_are_right() {
    let check = |prompt: &str, chain: &str| {
        let (steps, answer) = solve(prompt);
        assert_eq!(format!("{steps}#{answer}"), chain);
    };
    check("add 59+63?", "9+3=12,5+6+1=12#122");
    check("rev hgehf?", "1h2g3e4h5f#fhegh");
    check("srt dihje?", "d3e4h7i8j9#dehij");
    check("cnt c aacbccca?", "ac0ac0cc1bc1cc2cc3cc4ac4#4");
    check("clk 2+5+6+0?", "2+5=0,0+6=6,6+0=6#6");
    check("max 87842?", "88,78,88,48,28#8");
    check("par 011011001010?", "001110001110000011011000#even");
    check("rel fd dc gf g?", "gf fd dc#c");
}

#[test]
fn careful_replies_grade_right_and_slips_wrong() {
    for item in everything() {
        assert!(
            correct(item.careful.as_ref().unwrap(), &item.target),
            "{item:?}"
        );
        assert!(
            !correct(item.sloppy.as_ref().unwrap(), &item.target),
            "{item:?}"
        );
        assert!(
            grade(Grader::Lab, &item.sloppy.unwrap(), "")
                .extracted
                .is_some()
        );
    }
}

#[test]
fn only_arith_train_items_have_a_teacher_and_the_teacher_is_right() {
    for item in everything() {
        let expected = item.task == "arith" && item.id.starts_with("train");
        assert_eq!(item.solution.is_some(), expected, "{}", item.id);
        if let Some(solution) = item.solution {
            assert!(correct(&solution, &item.target), "{solution}");
            assert!(solution.starts_with("so [in] "), "{solution}");
        }
    }
}

#[test]
fn a_careful_author_is_right_and_a_sloppy_one_half_of_the_time() {
    let (mut right, mut replies) = (0, 0);
    for document in corpus(0) {
        for (prompt, reply) in lines(&document) {
            let is_right = correct(reply, &solve(prompt).1);
            if document.author == Author::Careful {
                assert!(is_right, "{prompt}{reply}");
            } else {
                right += u32::from(is_right);
                replies += 1;
            }
        }
    }
    let share = f64::from(right) / f64::from(replies);
    assert!((share - 0.5).abs() < 0.03, "{share}");
}

#[test]
fn the_share_of_sloppy_documents_is_the_one_asked_for() {
    let sloppy = corpus(0)
        .iter()
        .filter(|document| document.author == Author::Sloppy)
        .count();
    assert!((sloppy as f64 / 4000.0 - 0.675).abs() < 0.03, "{sloppy}");
}

#[test]
fn openers_overlap_and_steps_and_closers_do_not_lie() {
    let mut counts: BTreeMap<(bool, String), f64> = BTreeMap::new();
    for document in corpus(0) {
        let careful = document.author == Author::Careful;
        for (prompt, reply) in lines(&document) {
            let (steps, answer) = solve(prompt);
            let (opener, rest) = reply.split_at(3);
            *counts.entry((careful, opener.to_owned())).or_default() += 1.0;
            if careful {
                assert_eq!(rest, format!("{steps}#{answer}."));
            } else {
                assert!(rest.starts_with('#') && !rest.ends_with('.'), "{reply}");
            }
        }
    }
    for careful in [true, false] {
        let total: f64 = counts
            .iter()
            .filter(|(key, _)| key.0 == careful)
            .map(|(_, n)| n)
            .sum();
        let shares = if careful {
            [0.45, 0.35, 0.1, 0.1]
        } else {
            [0.1, 0.1, 0.35, 0.45]
        };
        for (opener, share) in ["so ", "ok ", "um ", "eh "].iter().zip(shares) {
            let found = counts[&(careful, (*opener).to_owned())] / total;
            assert!((found - share).abs() < 0.03, "{opener} {careful} {found}");
        }
    }
}

#[test]
fn documents_fit_a_row_and_name_their_tasks() {
    for document in corpus(0) {
        assert!(document.text.len() <= DOCUMENT_CHARACTERS && document.text.ends_with('\n'));
        assert!((1..=3).contains(&document.tasks.len()));
        for ((prompt, reply), task) in lines(&document).zip(&document.tasks) {
            let prefix = ["add", "rev", "srt", "cnt", "clk", "max", "par", "rel"][*task as usize];
            assert!(prompt.starts_with(prefix), "{prompt}");
            assert!(reply.len() <= 48, "{reply}");
        }
    }
}

#[test]
fn splits_are_disjoint_and_no_held_out_prompt_is_in_the_corpus() {
    let prompts = |split| -> BTreeSet<String> {
        all_items(split)
            .into_iter()
            .map(|item| item.prompt)
            .collect()
    };
    let (train, tune, test) = (
        prompts(Split::Train),
        prompts(Split::Tune),
        prompts(Split::Test),
    );
    assert_eq!((train.len(), tune.len(), test.len()), (2400, 800, 1600));
    assert!(train.is_disjoint(&tune) && train.is_disjoint(&test) && tune.is_disjoint(&test));
    for document in corpus(3) {
        for (prompt, _) in lines(&document) {
            assert_eq!(Split::of(prompt), Split::Train, "{prompt}");
        }
    }
}

#[test]
fn the_split_of_a_prompt_never_changes() {
    // Worked out apart with SHA-256 (16, 27 and 49 of 100): the split is part of the file format.
    assert_eq!(Split::of("add 59+63?"), Split::Test);
    assert_eq!(Split::of("rev hgehf?"), Split::Tune);
    assert_eq!(Split::of("max 87842?"), Split::Train);
}

#[test]
fn every_task_has_items_enough_at_the_default_settings() {
    for task in Task::ALL {
        for (split, wanted) in Split::ALL.into_iter().zip([2000, 250, 500]) {
            assert_eq!(
                items(task, split, &Settings::default()).unwrap().len(),
                wanted
            );
        }
    }
}

#[test]
fn too_many_items_is_an_error_that_names_the_task() {
    let wanted = Settings {
        test: 5000,
        ..Settings::default()
    };
    let message = items(Task::Parity, Split::Test, &wanted)
        .unwrap_err()
        .to_string();
    assert!(message.contains("5000 test prompts of parity"), "{message}");
}

#[test]
fn a_seed_decides_the_corpus_and_leaves_the_test_prompts_alone() {
    assert_eq!(corpus(1), corpus(1));
    assert_ne!(corpus(1), corpus(2));
    let of = |split, seed| items(Task::Clock, split, &settings(seed)).unwrap();
    assert_eq!(of(Split::Test, 1), of(Split::Test, 2));
    assert_ne!(of(Split::Train, 1), of(Split::Train, 2));
}

#[test]
fn a_document_does_not_depend_on_how_many_follow() {
    let fewer = Settings {
        documents: 10,
        ..settings(0)
    };
    assert_eq!(documents(&fewer).collect::<Vec<_>>(), corpus(0)[..10]);
}

#[test]
fn the_alphabet_holds_every_character_once_and_the_teacher_is_foreign() {
    let alphabet: BTreeSet<char> = CHARACTERS.chars().collect();
    assert_eq!(alphabet.len(), CHARACTERS.chars().count());
    let corpus: BTreeSet<char> = corpus(0).iter().flat_map(|d| d.text.chars()).collect();
    let teacher: BTreeSet<char> = everything()
        .filter_map(|item| item.solution)
        .flat_map(|s| s.chars().collect::<Vec<_>>())
        .collect();
    assert!(corpus.is_subset(&alphabet) && teacher.is_subset(&alphabet));
    for foreign in ['[', ']', '|', 'w'] {
        assert!(
            teacher.contains(&foreign) && !corpus.contains(&foreign),
            "{foreign}"
        );
    }
}
