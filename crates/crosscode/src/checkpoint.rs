//! `dict.state.safetensors`: what a stopped training run left, beside the dictionary it will become.
//!
//! Weights, moments, counters, the place of reading and the curve so far. Its provenance is that of the dictionary, so a run with other settings
//! or other activations is refused with the difference named.

use crate::curve::Curve;
use crate::reader::Position;
use dict::Trainer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use store::{Provenance, TensorData, TensorFile, write_tensors};

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
    pub fn save(
        &self,
        trainer: &mut Trainer,
        curve: &Curve,
        position: Position,
    ) -> anyhow::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let numbers = [
            ("reader", position.to_numbers()),
            ("curve", curve.to_numbers()),
        ];
        let numbers = numbers.map(|(name, values)| {
            let shape = vec![values.len()];
            (name.to_owned(), TensorData::I64 { shape, values })
        });
        let write =
            |tensors: &[_]| write_tensors(path, tensors, &BTreeMap::new(), &self.provenance);
        Ok(trainer.with_state(numbers.into(), write)??)
    }

    /// Takes up a state left by the same run; returns the place of reading, or `None` when there is no state.
    pub fn resume(
        &self,
        trainer: &mut Trainer,
        curve: &mut Curve,
    ) -> anyhow::Result<Option<Position>> {
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
        curve.take_up(&file.i64("curve")?);
        Ok(Some(Position::of_numbers(&file.i64("reader")?)?))
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
}
