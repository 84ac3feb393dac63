//! The arms of a run: the intervention itself, and beside it the same thing done to features or directions that should not
//! matter.

use crate::edit::{Amount, Edit, Source};
use anyhow::{bail, ensure};
use dict::Crosscoder;
use std::collections::BTreeMap;
use std::path::Path;
use store::tables::Selection;

/// One intervention and its name in the column `arm`: `disable`, `amplify-2`, `amplify-2/random-00`.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// Name.
    pub name: String,
    /// What is done.
    pub edit: Edit,
}

/// What is done to a set of features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operation {
    /// α = 0.
    Disable,
    /// Activations multiplied by α.
    Amplify(f64),
    /// A constant multiple of every decoder row is added.
    Steer(f64),
}

impl Operation {
    /// `disable`, `amplify-2`, `steer-0.5`.
    pub fn name(self) -> String {
        match self {
            Self::Disable => "disable".into(),
            Self::Amplify(alpha) => format!("amplify-{alpha}"),
            Self::Steer(strength) => format!("steer-{strength}"),
        }
    }

    /// How far it is from changing nothing.
    pub fn distance(self) -> f64 {
        match self {
            Self::Disable => 1.0,
            Self::Amplify(alpha) => (alpha - 1.0).abs(),
            Self::Steer(strength) => strength.abs(),
        }
    }
}

/// Where activations come from, as the user names it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// Read at every position.
    Live(Source),
    /// The mean over the rows on which the feature fires, from the selection.
    Constant,
}

/// Features of one set with their mean activations, in the order of their rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    /// Features.
    pub features: Vec<u32>,
    /// Mean activation of each over the rows on which it fires.
    pub means: Vec<f64>,
    /// 1, or −1 for a feature that fires less in the model after: what is done to it is the reverse.
    pub signs: Vec<f32>,
}

/// How many control arms stand beside every operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Controls {
    /// Matched random sets of the selection.
    pub random_sets: usize,
    /// Random directions of the same length in place of the decoder rows.
    pub random_directions: usize,
    /// The edit with its sign turned round.
    pub flip: bool,
    /// Seed of the random directions.
    pub seed: u64,
}

/// The sets of a selection by name. Features must be the dictionary's.
pub fn sets(
    path: &Path,
    rows: &[Selection],
    dictionary: &Crosscoder,
) -> anyhow::Result<BTreeMap<String, Set>> {
    let mut sets: BTreeMap<String, Vec<&Selection>> = BTreeMap::new();
    for row in rows {
        ensure!(
            (row.feature as usize) < dictionary.n_features,
            "cannot use {}: it names feature {}, the dictionary has {}",
            path.display(),
            row.feature,
            dictionary.n_features
        );
        sets.entry(row.set.clone()).or_default().push(row);
    }
    let set = |mut rows: Vec<&Selection>| {
        rows.sort_by_key(|row| row.rank);
        Set {
            features: rows.iter().map(|row| row.feature).collect(),
            means: rows.iter().map(|row| row.mean_activation).collect(),
            signs: rows
                .iter()
                .map(|row| if row.lowered { -1.0 } else { 1.0 })
                .collect(),
        }
    };
    Ok(sets
        .into_iter()
        .map(|(name, rows)| (name, set(rows)))
        .collect())
}

/// What all arms of a run have in common.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The dictionary.
    pub dictionary: &'a Crosscoder,
    /// Slot of the model.
    pub slot: usize,
    /// Where activations come from.
    pub reading: Reading,
    /// Sets of the selection by name.
    pub sets: &'a BTreeMap<String, Set>,
    /// The set that is the intervention.
    pub set: &'a str,
}

impl Plan<'_> {
    /// The arms of every operation: itself, then its controls.
    pub fn arms(&self, operations: &[Operation], controls: Controls) -> anyhow::Result<Vec<Arm>> {
        let Some(set) = self.sets.get(self.set) else {
            let names: Vec<&str> = self.sets.keys().map(String::as_str).collect();
            bail!(
                "there is no set `{}` in the selection (there are: {})",
                self.set,
                names.join(", ")
            );
        };
        let random = self.random_sets(controls.random_sets)?;
        let mut arms = Vec::new();
        for &operation in operations {
            let name = operation.name();
            let edit = self.edit(operation, set);
            arms.push(Arm {
                name: name.clone(),
                edit: edit.clone(),
            });
            for (set_name, set) in &random {
                arms.push(Arm {
                    name: format!("{name}/{set_name}"),
                    edit: self.edit(operation, set),
                });
            }
            arms.extend(directions(&name, &edit, controls));
            if controls.flip {
                arms.push(Arm {
                    name: format!("{name}/flip"),
                    edit: edit.flipped(),
                });
            }
        }
        Ok(arms)
    }

    /// The first matched random sets.
    fn random_sets(&self, wanted: usize) -> anyhow::Result<Vec<(&String, &Set)>> {
        let random = self
            .sets
            .iter()
            .filter(|(name, _)| name.starts_with("random-"));
        let random: Vec<_> = random.take(wanted).collect();
        ensure!(
            random.len() == wanted,
            "the selection holds {} random sets, not {wanted}: lower --random-arms, or select with more --random-sets",
            random.len()
        );
        Ok(random)
    }

    fn edit(&self, operation: Operation, set: &Set) -> Edit {
        let amount = match operation {
            Operation::Steer(strength) => Amount::Fixed(vec![strength as f32; set.features.len()]),
            Operation::Disable => self.scaled(0.0, set),
            Operation::Amplify(alpha) => self.scaled(alpha, set),
        };
        Edit::along_decoder(self.dictionary, self.slot, &set.features, amount).signed(&set.signs)
    }

    fn scaled(&self, alpha: f64, set: &Set) -> Amount {
        let gain = alpha - 1.0;
        match self.reading {
            Reading::Live(source) => Amount::Scaled {
                gain: gain as f32,
                source,
            },
            Reading::Constant => {
                let amounts = set.means.iter().map(|mean| (gain * mean) as f32);
                Amount::Fixed(amounts.collect())
            }
        }
    }
}

/// Arms along random directions, each with a seed of its own.
fn directions(name: &str, edit: &Edit, controls: Controls) -> Vec<Arm> {
    let arm = |number: usize| Arm {
        name: format!("{name}/direction-{number:02}"),
        edit: edit.along_random(controls.seed.wrapping_add(number as u64)),
    };
    (0..controls.random_directions).map(arm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::tests::dictionary;
    use dict::Readout;

    fn row(set: &str, feature: u32, rank: u32) -> Selection {
        Selection {
            set: set.into(),
            feature,
            rank,
            matched_to: None,
            lowered: false,
            relative_score: 1.0,
            relative_score_min: 1.0,
            q: None,
            firing_rate: 0.5,
            mean_activation: 10.0 + f64::from(feature),
            decoder_norm: 1.0,
            removal_share: None,
        }
    }

    fn selection() -> BTreeMap<String, Set> {
        let rows = [
            row("selected", 0, 1),
            row("selected", 2, 0),
            row("random-00", 1, 0),
        ];
        sets(Path::new("s"), &rows, &dictionary()).unwrap()
    }

    fn arms(
        reading: Reading,
        operations: &[Operation],
        controls: Controls,
    ) -> anyhow::Result<Vec<Arm>> {
        let dictionary = dictionary();
        let plan = Plan {
            dictionary: &dictionary,
            slot: 1,
            reading,
            sets: &selection(),
            set: "selected",
        };
        plan.arms(operations, controls)
    }

    const CONTROLS: Controls = Controls {
        random_sets: 1,
        random_directions: 1,
        flip: true,
        seed: 0,
    };
    const JOINT: Reading = Reading::Live(Source::Encoder(Readout::Joint));

    #[test]
    fn every_operation_has_its_controls_beside_it() {
        let operations = [Operation::Amplify(1.5), Operation::Amplify(2.0)];
        let arms = arms(JOINT, &operations, CONTROLS).unwrap();
        let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "amplify-1.5",
                "amplify-1.5/random-00",
                "amplify-1.5/direction-00",
                "amplify-1.5/flip",
                "amplify-2",
                "amplify-2/random-00",
                "amplify-2/direction-00",
                "amplify-2/flip"
            ]
        );
        assert_eq!(arms[0].edit.features, [2, 0]);
        assert_eq!(arms[1].edit.features, [1]);
    }

    #[test]
    fn a_constant_source_takes_the_means_of_the_selection() {
        let none = Controls {
            random_sets: 0,
            random_directions: 0,
            flip: false,
            seed: 0,
        };
        let amount = |operation| {
            arms(Reading::Constant, &[operation], none).unwrap()[0]
                .edit
                .amount
                .clone()
        };
        assert_eq!(
            amount(Operation::Disable),
            Amount::Fixed(vec![-12.0, -10.0])
        );
        assert_eq!(
            amount(Operation::Amplify(3.0)),
            Amount::Fixed(vec![24.0, 20.0])
        );
        assert_eq!(
            amount(Operation::Steer(-0.5)),
            Amount::Fixed(vec![-0.5, -0.5])
        );
    }

    #[test]
    fn more_random_arms_than_sets_and_a_strange_feature_are_refused() {
        let controls = Controls {
            random_sets: 2,
            ..CONTROLS
        };
        let message = arms(JOINT, &[Operation::Disable], controls).unwrap_err();
        assert!(message.to_string().contains("1 random sets, not 2"));
        let strange = [row("selected", 3, 0)];
        let message = sets(Path::new("s.parquet"), &strange, &dictionary()).unwrap_err();
        assert!(message.to_string().contains("feature 3"));
    }
}
