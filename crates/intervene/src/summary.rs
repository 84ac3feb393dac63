//! What a run says at its end: accuracy of every arm on every task.

use store::tables::Sample;

/// Tab-separated lines in the order of the samples: arm, task, answers, right ones, accuracy with its Wilson interval.
pub fn text(samples: &[Sample]) -> String {
    let mut groups: Vec<(&str, &str, u64, u64)> = Vec::new();
    for sample in samples {
        let key = (sample.arm.as_str(), sample.task.as_str());
        let known = groups.iter().rposition(|group| (group.0, group.1) == key);
        let place = known.unwrap_or_else(|| {
            groups.push((key.0, key.1, 0, 0));
            groups.len() - 1
        });
        groups[place].2 += 1;
        groups[place].3 += u64::from(sample.correct);
    }
    let mut lines = vec!["arm\ttask\tn\tright\taccuracy\tlow\thigh".to_owned()];
    for (arm, task, n, right) in groups {
        let share = stats::wilson(right, n);
        lines.push(format!(
            "{arm}\t{task}\t{n}\t{right}\t{:.4}\t{:.4}\t{:.4}",
            share.value, share.low, share.high
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(arm: &str, task: &str, correct: bool) -> Sample {
        Sample {
            model: "rl".into(),
            arm: arm.into(),
            task: task.into(),
            doc_id: "1".into(),
            sample: 0,
            prompt: String::new(),
            completion: String::new(),
            extracted: None,
            target: String::new(),
            correct,
            n_tokens: 1,
            finish_reason: "stop".into(),
            ..Sample::default()
        }
    }

    #[test]
    fn every_arm_and_task_has_its_line() {
        let samples = [
            sample("disable", "a", true),
            sample("disable", "b", false),
            sample("disable", "a", false),
            sample("disable/random-00", "a", true),
        ];
        let text = text(&samples);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("disable\ta\t2\t1\t0.5000\t"));
        assert!(lines[2].starts_with("disable\tb\t1\t0\t0.0000\t"));
        assert!(lines[3].starts_with("disable/random-00\ta\t1\t1\t1.0000\t"));
    }
}
