//! `dict.state.safetensors`: what a stopped training run left, beside the dictionary it will become.
//!
//! Weights, moments, counters and the curve so far. Its provenance is that of the dictionary, so a run with other settings
//! or other activations is refused with the difference named.

use dict::Trainer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use store::tables::CrosscoderStep;
use store::{Provenance, TensorData, TensorFile, write_tensors};

/// Numbers of one step in the state file.
const COLUMNS: usize = 8;

/// The state file of one run.
#[derive(Debug)]
pub struct Checkpoint {
    path: Option<PathBuf>,
    provenance: Provenance,
}

impl Checkpoint {
    /// Beside `output`; nowhere when the output is stdout.
    pub fn beside(output: &Path, provenance: &Provenance) -> Self {
        let path = (output != Path::new("-")).then(|| output.with_extension("state.safetensors"));
        Self {
            path,
            provenance: provenance.clone(),
        }
    }

    /// Writes the state.
    pub fn save(&self, trainer: &Trainer, curve: &[CrosscoderStep]) -> anyhow::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let mut tensors = trainer.state();
        tensors.push(("curve".into(), pack(curve)));
        Ok(write_tensors(
            path,
            &tensors,
            &BTreeMap::new(),
            &self.provenance,
        )?)
    }

    /// Takes up a state left by the same run; returns the curve so far, or `None` when there is none.
    pub fn resume(&self, trainer: &mut Trainer) -> anyhow::Result<Option<Vec<CrosscoderStep>>> {
        let Some(path) = self.path.as_ref().filter(|path| path.exists()) else {
            return Ok(None);
        };
        let file = TensorFile::open(path)?;
        let found = file.provenance().map(as_json).unwrap_or_default();
        if let Some(difference) = difference("", &found, &as_json(&self.provenance)) {
            anyhow::bail!(
                "cannot continue {}: {difference}; restore the setting or remove the file",
                path.display()
            );
        }
        trainer.restore(&file)?;
        Ok(Some(unpack(&file.i64("curve")?)))
    }

    /// Removes the state of a finished run.
    pub fn remove(&self) {
        if let Some(path) = &self.path {
            // A state file that stays behind belongs to a finished run and is replaced by the next one.
            let _ = fs::remove_file(path);
        }
    }
}

fn as_json(provenance: &Provenance) -> Value {
    serde_json::to_value(provenance).expect("strings, numbers and JSON values are always JSON")
}

/// The first place where two settings differ, with both values.
fn difference(place: &str, before: &Value, now: &Value) -> Option<String> {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            let keys = before.keys().chain(now.keys());
            let inner = |key: &String| {
                let place = if place.is_empty() {
                    key.clone()
                } else {
                    format!("{place}.{key}")
                };
                difference(
                    &place,
                    before.get(key).unwrap_or(&Value::Null),
                    now.get(key).unwrap_or(&Value::Null),
                )
            };
            keys.into_iter().find_map(inner)
        }
        (Value::Array(before), Value::Array(now)) if before.len() == now.len() => {
            let pairs = before.iter().zip(now).enumerate();
            let mut found =
                pairs.map(|(place_in, (a, b))| difference(&format!("{place}[{place_in}]"), a, b));
            found.find_map(|difference| difference)
        }
        _ if before == now => None,
        _ => Some(format!("{place} was {before} and is now {now}")),
    }
}

/// The curve as bits: JSON would not give every float back.
fn pack(curve: &[CrosscoderStep]) -> TensorData {
    let bits = |value: f64| value.to_bits() as i64;
    let row = |step: &CrosscoderStep| -> [i64; COLUMNS] {
        [
            i64::from(step.step),
            step.tokens as i64,
            bits(step.loss),
            bits(step.explained_variance),
            bits(step.l0),
            bits(step.dead),
            bits(step.learning_rate),
            bits(step.k.unwrap_or(f64::NAN)),
        ]
    };
    TensorData::I64 {
        shape: vec![curve.len(), COLUMNS],
        values: curve.iter().flat_map(row).collect(),
    }
}

fn unpack(values: &[i64]) -> Vec<CrosscoderStep> {
    let value = |bits: i64| f64::from_bits(bits as u64);
    let step = |row: &[i64]| CrosscoderStep {
        step: row[0] as u32,
        tokens: row[1] as u64,
        loss: value(row[2]),
        explained_variance: value(row[3]),
        l0: value(row[4]),
        dead: value(row[5]),
        learning_rate: value(row[6]),
        k: Some(value(row[7])).filter(|k| !k.is_nan()),
    };
    values.chunks_exact(COLUMNS).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_named() {
        let before = json!({"settings": {"k": 32, "batch": 8}, "inputs": [{"sha256": "a"}]});
        let mut now = before.clone();
        assert_eq!(difference("", &before, &now), None);
        now["settings"]["k"] = json!(16);
        assert_eq!(
            difference("", &before, &now).unwrap(),
            "settings.k was 32 and is now 16"
        );
        now["settings"]["k"] = json!(32);
        now["inputs"][0]["sha256"] = json!("b");
        assert_eq!(
            difference("", &before, &now).unwrap(),
            r#"inputs[0].sha256 was "a" and is now "b""#
        );
    }

    #[test]
    fn a_curve_comes_back_to_the_last_bit() {
        let step = CrosscoderStep {
            step: 3,
            tokens: 1 << 40,
            loss: 0.1 + 0.2,
            explained_variance: -1.5,
            l0: 31.7,
            dead: 0.0,
            learning_rate: 1e-4,
            k: None,
        };
        let curve = vec![
            step.clone(),
            CrosscoderStep {
                k: Some(0.3),
                ..step
            },
        ];
        let TensorData::I64 { values, .. } = pack(&curve) else {
            panic!("the curve is whole numbers")
        };
        assert_eq!(unpack(&values), curve);
    }
}
