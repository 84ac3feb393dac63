//! Target and completion, a line each, graded in every way: nothing may panic, hang, or take without bound.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tasks::{Grader, grade};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (target, completion) = text.split_once('\n').unwrap_or(("12", &text));
    for grader in [Grader::Math, Grader::Gsm8k, Grader::Mcq, Grader::Ifeval] {
        grade(grader, completion, target);
    }
    grade(Grader::Math, &format!("\\boxed{{{completion}}}"), target);
});
