//! What models answered, by document.

use std::collections::BTreeMap;

use anyhow::bail;
use store::tables::Sample;

/// A document: its task and its identifier there.
pub type Document = (String, String);

/// The first answer of one model to each document.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// Label in the samples table.
    pub model: String,
    /// Answers by document.
    pub answers: BTreeMap<Document, Sample>,
}

impl Answers {
    /// Splits a samples table by model, keeping one arm and each document's sample 0.
    ///
    /// # Errors
    /// When a model answers a document twice.
    pub fn by_model(samples: &[Sample], arm: &str) -> anyhow::Result<Vec<Self>> {
        let mut models: BTreeMap<&str, BTreeMap<Document, Sample>> = BTreeMap::new();
        for sample in samples
            .iter()
            .filter(|sample| sample.arm == arm && sample.sample == 0)
        {
            let document = (sample.task.clone(), sample.doc_id.clone());
            if models
                .entry(&sample.model)
                .or_default()
                .insert(document, sample.clone())
                .is_some()
            {
                bail!(
                    "{} answers {}/{} twice",
                    sample.model,
                    sample.task,
                    sample.doc_id
                );
            }
        }
        Ok(models
            .into_iter()
            .map(|(model, answers)| Self {
                model: model.into(),
                answers,
            })
            .collect())
    }

    /// The answers of the model `label` from a table; those of the only model in it when it has another label.
    ///
    /// # Errors
    /// When the table holds several models and none is called so, or no answer at all.
    pub fn of(label: &str, mut models: Vec<Self>) -> anyhow::Result<Self> {
        let names = models
            .iter()
            .map(|answers| answers.model.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        match models.iter().position(|answers| answers.model == label) {
            Some(place) => Ok(models.swap_remove(place)),
            None if models.len() == 1 => Ok(models.swap_remove(0)),
            None if models.is_empty() => bail!("there are no answers of this arm"),
            None => bail!("there are no answers of {label}, only of {names}"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn sample(model: &str, doc_id: usize, n_tokens: u32, correct: bool) -> Sample {
        Sample {
            model: model.into(),
            arm: "none".into(),
            task: "sum".into(),
            doc_id: format!("{doc_id:03}"),
            sample: 0,
            prompt: "1+1?".into(),
            completion: "2".into(),
            extracted: None,
            target: "2".into(),
            correct,
            n_tokens,
            finish_reason: "stop".into(),
            ..Sample::default()
        }
    }

    /// Answers of these lengths and verdicts to the documents 000, 001, … of one task.
    pub(crate) fn answers(model: &str, lengths: &[(u32, bool)]) -> Answers {
        let samples = lengths
            .iter()
            .enumerate()
            .map(|(i, &(length, correct))| sample(model, i, length, correct));
        Answers::by_model(&samples.collect::<Vec<_>>(), "none")
            .unwrap()
            .remove(0)
    }

    #[test]
    fn a_table_of_one_model_serves_any_label() {
        let models = |names: &[&str]| {
            names
                .iter()
                .map(|name| answers(name, &[(10, true)]))
                .collect::<Vec<_>>()
        };
        assert_eq!(Answers::of("a", models(&["base"])).unwrap().model, "base");
        assert_eq!(
            Answers::of("rl", models(&["base", "rl"])).unwrap().model,
            "rl"
        );
        assert!(Answers::of("a", models(&["base", "rl"])).is_err());
        assert!(Answers::of("a", models(&[])).is_err());
    }

    #[test]
    fn two_answers_to_one_document_are_refused() {
        let twice = [sample("a", 0, 10, true), sample("a", 0, 12, true)];
        assert!(Answers::by_model(&twice, "none").is_err());
    }
}
