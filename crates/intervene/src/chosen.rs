//! The strength that did best on other documents: chosen on one half, reported on the other.

use crate::arms::Operation;
use anyhow::{Context, ensure};
use std::path::Path;
use store::tables::Sample;

/// The operation with the highest accuracy among the answers in `path`, a samples table of `intervene run` with the same
/// strengths; of equal ones the one that changes least.
pub fn best(
    path: &Path,
    model: &str,
    operations: Vec<Operation>,
) -> anyhow::Result<Vec<Operation>> {
    let samples: Vec<Sample> = store::read_table(&[path.to_owned()])?;
    let scored: Vec<(f64, Operation)> = operations
        .into_iter()
        .map(|operation| {
            let score = accuracy(&samples, model, &operation.name());
            let missing = || {
                format!(
                    "cannot choose from {}: it has no answers of {model} under {}",
                    path.display(),
                    operation.name()
                )
            };
            Ok((score.with_context(missing)?, operation))
        })
        .collect::<anyhow::Result<_>>()?;
    let best = scored.into_iter().max_by(|a, b| {
        let nearer = b.1.distance().total_cmp(&a.1.distance());
        a.0.total_cmp(&b.0).then(nearer)
    });
    ensure!(best.is_some(), "there is no strength to choose from");
    Ok(best.map(|(_, operation)| operation).into_iter().collect())
}

/// Share of a model's answers under an arm that are right; none without answers.
fn accuracy(samples: &[Sample], model: &str, arm: &str) -> Option<f64> {
    let answers = samples
        .iter()
        .filter(|sample| sample.model == model && sample.arm == arm);
    let (n, right) = answers.fold((0, 0), |(n, right), sample| {
        (n + 1, right + u32::from(sample.correct))
    });
    (n > 0).then(|| f64::from(right) / f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Provenance;

    /// A table with the given number of right answers of four under every arm.
    fn table(arms: &[(&str, usize)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let answer = |arm: &str, correct: bool| Sample {
            model: "base".into(),
            arm: arm.into(),
            correct,
            ..Sample::default()
        };
        let rows: Vec<Sample> = arms
            .iter()
            .flat_map(|(arm, right)| (0..4).map(|i| answer(arm, i < *right)))
            .collect();
        let provenance = Provenance::new("test", &()).unwrap();
        store::write_table(file.path(), &rows, &provenance).unwrap();
        file
    }

    const STRENGTHS: [Operation; 3] = [
        Operation::Amplify(5.0),
        Operation::Amplify(3.0),
        Operation::Amplify(2.0),
    ];

    #[test]
    fn the_best_arm_is_taken_and_of_equal_ones_the_one_that_changes_least() {
        let file = table(&[
            ("amplify-2", 3),
            ("amplify-3", 3),
            ("amplify-5", 1),
            ("amplify-5/random-00", 4),
        ]);
        let best = |operations| best(file.path(), "base", operations);
        assert_eq!(best(STRENGTHS.into()).unwrap(), [Operation::Amplify(2.0)]);
        assert_eq!(
            best(STRENGTHS[..2].into()).unwrap(),
            [Operation::Amplify(3.0)]
        );
    }

    #[test]
    fn a_strength_that_was_not_tried_is_named() {
        let file = table(&[("amplify-2", 3), ("amplify-3", 3)]);
        let message = best(file.path(), "base", STRENGTHS.into()).unwrap_err();
        assert!(message.to_string().contains("of base under amplify-5"));
    }
}
