//! Clean and corrupted sequences from a JSON file.
//!
//! `{"pairs": [{"clean": …, "corrupted": …, "label": [better, worse], "targets": [[position, token], …]}, …]}`, or the list
//! alone. Sequences are token ids or text, labels token ids or texts of one token; for `prob-diff` also lists of them.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use model::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::example::{Example, Objective};

/// The loss whose change is attributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Mean negative log-likelihood of the target tokens, in nats
    #[value(alias = "ce")]
    Nll,
    /// Logit of the wrong label minus that of the right one, at the last position
    LogitDiff,
    /// Probability of the wrong labels minus that of the right ones, at the last position
    ProbDiff,
    /// Divergence of the run from the clean one, KL(clean ‖ run) in nats, at the last position
    Kl,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum File {
    Object { pairs: Vec<Pair> },
    List(Vec<Pair>),
}

#[derive(Debug, Deserialize)]
struct Pair {
    clean: Text,
    corrupted: Option<Text>,
    label: Option<[Labels; 2]>,
    targets: Option<Vec<(usize, u32)>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Text {
    Ids(Vec<u32>),
    Text(String),
}

/// One label or several that count alike.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Labels {
    One(Label),
    Several(Vec<Label>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Label {
    Id(u32),
    Text(String),
}

/// Reads the pairs; the tokenizer of `model_directory` is opened only when there is text among them.
pub fn read(path: &Path, metric: Metric, model_directory: &Path) -> anyhow::Result<Vec<Example>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let pairs = match serde_json::from_str(&text)
        .with_context(|| format!("cannot read pairs from {}", path.display()))?
    {
        File::Object { pairs } | File::List(pairs) => pairs,
    };
    ensure!(
        !pairs.is_empty(),
        "cannot read pairs from {}: it holds none",
        path.display()
    );
    let mut reader = Reader {
        model_directory,
        tokenizer: None,
    };
    let examples = pairs.into_iter().enumerate().map(|(number, pair)| {
        let example = reader
            .example(pair, metric)
            .and_then(|example| example.check().map(|()| example));
        example.with_context(|| format!("cannot use pair {number} of {}", path.display()))
    });
    examples.collect()
}

struct Reader<'a> {
    model_directory: &'a Path,
    tokenizer: Option<Tokenizer>,
}

impl Reader<'_> {
    fn example(&mut self, pair: Pair, metric: Metric) -> anyhow::Result<Example> {
        let objective = match metric {
            Metric::Nll => Objective::Likelihood(
                pair.targets
                    .context("it has no `targets` for the metric nll")?,
            ),
            Metric::LogitDiff => {
                let (better, worse) = self.labels(pair.label, "logit-diff")?;
                let (&[better], &[worse]) = (better.as_slice(), worse.as_slice()) else {
                    bail!(
                        "its labels are several tokens: logit-diff takes one each (prob-diff takes more)"
                    )
                };
                Objective::LogitDifference { better, worse }
            }
            Metric::ProbDiff => {
                let (better, worse) = self.labels(pair.label, "prob-diff")?;
                Objective::ProbabilityDifference { better, worse }
            }
            Metric::Kl => Objective::Divergence,
        };
        let corrupted = pair
            .corrupted
            .map(|corrupted| self.tokens(corrupted))
            .transpose()?;
        Ok(Example {
            doc_id: None,
            tokens: self.tokens(pair.clean)?,
            corrupted,
            objective,
        })
    }

    /// Right and wrong labels as tokens.
    fn labels(
        &mut self,
        labels: Option<[Labels; 2]>,
        metric: &str,
    ) -> anyhow::Result<(Vec<u32>, Vec<u32>)> {
        let [better, worse] =
            labels.with_context(|| format!("it has no `label` for the metric {metric}"))?;
        let mut tokens = |labels| -> anyhow::Result<Vec<u32>> {
            match labels {
                Labels::One(label) => Ok(vec![self.token(label)?]),
                Labels::Several(labels) => {
                    labels.into_iter().map(|label| self.token(label)).collect()
                }
            }
        };
        Ok((tokens(better)?, tokens(worse)?))
    }

    fn tokens(&mut self, text: Text) -> anyhow::Result<Vec<u32>> {
        match text {
            Text::Ids(ids) => Ok(ids),
            Text::Text(text) => Ok(self.tokenizer()?.text_ids(&text)?),
        }
    }

    fn token(&mut self, label: Label) -> anyhow::Result<u32> {
        let text = match label {
            Label::Id(id) => return Ok(id),
            Label::Text(text) => text,
        };
        match self.tokenizer()?.encode(&text, false)?.as_slice() {
            &[id] => Ok(id),
            ids => bail!("the label {text:?} is {} tokens, not one", ids.len()),
        }
    }

    fn tokenizer(&mut self) -> anyhow::Result<&Tokenizer> {
        let tokenizer = match self.tokenizer.take() {
            Some(tokenizer) => tokenizer,
            None => Tokenizer::load(self.model_directory)?,
        };
        Ok(self.tokenizer.insert(tokenizer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, metric: Metric) -> anyhow::Result<Vec<Example>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pairs.json");
        std::fs::write(&path, text).unwrap();
        read(&path, metric, directory.path())
    }

    const PAIR: &str =
        r#"{"clean": [4, 7], "corrupted": [4, 8], "label": [2, 3], "targets": [[0, 7]]}"#;

    #[test]
    fn both_layouts_and_both_metrics_are_read() {
        let objects = read_text(&format!(r#"{{"pairs": [{PAIR}]}}"#), Metric::LogitDiff).unwrap();
        assert_eq!(
            objects[0].objective,
            Objective::LogitDifference {
                better: 2,
                worse: 3
            }
        );
        let list = read_text(&format!("[{PAIR}]"), Metric::Nll).unwrap();
        assert_eq!(list[0].objective, Objective::Likelihood(vec![(0, 7)]));
        assert_eq!(
            (&list[0].tokens, &list[0].corrupted),
            (&vec![4, 7], &Some(vec![4, 8]))
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let refuses = |text: &str, metric, word: &str| {
            let error = format!("{:#}", read_text(text, metric).unwrap_err());
            assert!(
                error.contains(word) && error.contains("pairs.json"),
                "{error}"
            );
        };
        refuses("[]", Metric::Nll, "none");
        refuses("{", Metric::Nll, "cannot read pairs");
        refuses(r#"[{"clean": [1]}]"#, Metric::Nll, "no `targets`");
        refuses(r#"[{"clean": [1]}]"#, Metric::LogitDiff, "no `label`");
        refuses(
            r#"[{"clean": [1], "corrupted": [1, 2], "label": [0, 1]}]"#,
            Metric::LogitDiff,
            "corrupted",
        );
        refuses(
            r#"[{"clean": "text", "label": [0, 1]}]"#,
            Metric::LogitDiff,
            "token",
        );
    }
}
