//! From sparse features per row to one mean activation per document, feature and model.

use crate::documents::{Documents, Means, Tokens};
use crate::keys::{Models, TaskKeys};
use crate::stores::store_of;
use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use store::Features;
use store::tables::Token;

/// Whose text both models read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Text {
    /// Both models read the answers of the model after: the same tokens
    After,
    /// Each model reads its own answers
    Own,
}

/// How a key sample is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The two models.
    pub models: &'a Models,
    /// Tokens averaged.
    pub tokens: Tokens,
    /// Text read.
    pub text: Text,
}

/// How often and how strongly one feature fires.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Activity {
    /// Rows on which it fires, both models together.
    pub fires: u64,
    /// Sum of its activations.
    pub sum: f64,
}

/// Everything the features files say about the key samples.
#[derive(Debug, Default)]
pub struct Readings {
    /// Means of the model before, by document; a document that was not captured is absent.
    pub before: BTreeMap<String, Means>,
    /// Means of the model after.
    pub after: BTreeMap<String, Means>,
    /// By feature, over all rows of both models, key sample or not.
    pub activity: Vec<Activity>,
    /// Rows behind `activity`, both models together.
    pub n_rows: u64,
    /// Activation stores the rows belong to.
    pub stores: Vec<PathBuf>,
}

/// One of the two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

impl Readings {
    /// Reads every features file, each with the tokens of the store it was encoded from.
    pub fn read(
        features: &[PathBuf],
        acts: &[PathBuf],
        keys: &[TaskKeys],
        reading: Reading,
    ) -> anyhow::Result<Self> {
        let mut readings = Self::default();
        for path in store::expand(features, "parquet")? {
            let blocks = store::read_features(&path)?;
            let (directory, store) = store_of(&path, &blocks, acts)?;
            let tokens = store.tokens()?;
            for block in &blocks {
                readings
                    .add(block, &tokens, keys, reading)
                    .with_context(|| format!("cannot use {}", path.display()))?;
            }
            if !readings.stores.contains(&directory) {
                readings.stores.push(directory);
            }
        }
        readings.check(reading.models)?;
        Ok(readings)
    }

    /// Adds one model's features of one store.
    fn add(
        &mut self,
        block: &Features,
        tokens: &[Token],
        keys: &[TaskKeys],
        reading: Reading,
    ) -> anyhow::Result<()> {
        let Some(model) = &block.model else {
            bail!("it holds one code for all models: encode with --readout swap or self");
        };
        let Some(side) = side_of(model, reading.models) else {
            return Ok(());
        };
        ensure!(
            block.n_rows as usize == tokens.len(),
            "it has {} rows, its activation store {}",
            block.n_rows,
            tokens.len()
        );
        self.add_activity(block)?;
        let role = match reading.text {
            Text::Own => model,
            Text::After => &reading.models.after,
        };
        let documents = Documents::of(tokens, role, keys, reading.tokens);
        let means = match side {
            Side::Before => &mut self.before,
            Side::After => &mut self.after,
        };
        for (document, mean) in documents.names.iter().zip(documents.means(block)) {
            ensure!(
                means.insert((*document).clone(), mean).is_none(),
                "document {document} was read by `{model}` twice"
            );
        }
        Ok(())
    }

    fn add_activity(&mut self, block: &Features) -> anyhow::Result<()> {
        if self.activity.is_empty() {
            self.activity = vec![Activity::default(); block.n_features as usize];
        }
        ensure!(
            self.activity.len() == block.n_features as usize,
            "it has {} features, the files before it {}",
            block.n_features,
            self.activity.len()
        );
        for (&feature, &activation) in block.feature.iter().zip(&block.activation) {
            let activity = &mut self.activity[feature as usize];
            activity.fires += 1;
            activity.sum += f64::from(activation);
        }
        self.n_rows += u64::from(block.n_rows);
        Ok(())
    }

    fn check(&self, models: &Models) -> anyhow::Result<()> {
        for (label, means) in [(&models.before, &self.before), (&models.after, &self.after)] {
            ensure!(
                !means.is_empty(),
                "no features of `{label}` on any key sample: capture the answers of `{}` (capture --samples) and encode \
                 them with --readout swap",
                models.after
            );
        }
        Ok(())
    }
}

fn side_of(model: &str, models: &Models) -> Option<Side> {
    if model == models.before {
        Some(Side::Before)
    } else if model == models.after {
        Some(Side::After)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(doc_id: &str, doc_index: u32, role: &str, phase: &str) -> Token {
        Token {
            row: 0,
            doc_id: doc_id.into(),
            doc_index,
            pos: 0,
            token_id: 0,
            role: role.into(),
            phase: phase.into(),
            special: false,
        }
    }

    /// A document nobody asked for, then prompt, prompt, answer, answer of `t/a/0` by rl, then the same by base.
    fn tokens() -> Vec<Token> {
        let mut tokens = vec![token("t/x/0", 0, "rl", "completion")];
        for (index, role) in [(1, "rl"), (2, "base")] {
            for phase in ["prompt", "prompt", "completion", "completion"] {
                tokens.push(token("t/a/0", index, role, phase));
            }
        }
        tokens
    }

    fn keys() -> Vec<TaskKeys> {
        vec![TaskKeys {
            task: "t".into(),
            documents: vec!["t/a/0".into()],
        }]
    }

    fn models() -> Models {
        Models {
            before: "base".into(),
            after: "rl".into(),
        }
    }

    fn features(model: &str) -> Features {
        Features {
            model: Some(model.into()),
            n_rows: 9,
            n_features: 4,
            token_digest: "d".into(),
            row: vec![0, 2, 3, 4, 4, 7],
            feature: vec![3, 0, 1, 0, 1, 2],
            activation: vec![1.0, 8.0, 2.0, 4.0, 1.0, 6.0],
        }
    }

    fn read(which: Tokens, text: Text, model: &str) -> Readings {
        let models = models();
        let reading = Reading {
            models: &models,
            tokens: which,
            text,
        };
        let mut readings = Readings::default();
        readings
            .add(&features(model), &tokens(), &keys(), reading)
            .unwrap();
        readings
    }

    #[test]
    fn a_mean_is_over_the_tokens_asked_for() {
        let means = |which| read(which, Text::After, "rl").after["t/a/0"].clone();
        assert_eq!(means(Tokens::Answer), [(0, 2.0), (1, 1.5)].into());
        assert_eq!(means(Tokens::All), [(0, 3.0), (1, 0.75)].into());
        assert_eq!(means(Tokens::Last), [(0, 4.0), (1, 1.0)].into());
        assert_eq!(means(Tokens::LastPrompt), [(0, 8.0)].into());
    }

    #[test]
    fn both_models_read_the_answers_after_unless_each_reads_its_own() {
        let same = read(Tokens::Answer, Text::After, "base");
        assert_eq!(same.before["t/a/0"], [(0, 2.0), (1, 1.5)].into());
        let own = read(Tokens::Answer, Text::Own, "base");
        assert_eq!(own.before["t/a/0"], [(2, 3.0)].into());
        assert!(own.after.is_empty());
    }

    #[test]
    fn activity_counts_every_row_of_both_models() {
        let readings = read(Tokens::Answer, Text::After, "rl");
        assert_eq!(readings.n_rows, 9);
        assert_eq!(readings.activity[1], Activity { fires: 2, sum: 3.0 });
    }

    #[test]
    fn a_shared_code_another_model_and_a_document_twice_are_told_apart() {
        let models = models();
        let reading = Reading {
            models: &models,
            tokens: Tokens::Answer,
            text: Text::After,
        };
        let mut readings = Readings::default();
        let mut add = |features: &Features| readings.add(features, &tokens(), &keys(), reading);
        let shared = Features {
            model: None,
            ..features("rl")
        };
        assert!(add(&shared).unwrap_err().to_string().contains("--readout"));
        add(&features("sft")).unwrap();
        add(&features("rl")).unwrap();
        assert!(
            add(&features("rl"))
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
    }
}
