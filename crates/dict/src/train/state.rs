//! What a stopped run needs to go on to the same final bytes.

use super::trainer::Trainer;
use std::path::Path;
use store::{Error, Result, TensorData, TensorFile};

/// Names of the three sets of parameters in a state file.
const SETS: [&str; 3] = ["weights", "first", "second"];

impl Trainer {
    /// Weights, moments and counters as tensors, bit for bit.
    pub fn state(&self) -> Vec<(String, TensorData)> {
        let mut tensors = Vec::new();
        for (set, parameters) in SETS
            .iter()
            .zip([&self.parameters, &self.first, &self.second])
        {
            for (name, values) in parameters.parts() {
                let data = TensorData::F32 {
                    shape: vec![values.len()],
                    values: values.clone(),
                };
                tensors.push((format!("{set}.{name}"), data));
            }
        }
        let silent = self.silent.iter().map(|&rows| rows as i64).collect();
        let bits = |average: &Option<f32>| average.map_or(-1, |value| i64::from(value.to_bits()));
        let mut counters = vec![self.steps_done as i64, self.rows_seen as i64];
        counters.extend(self.averages.iter().map(bits));
        let ages = self.ages.iter().map(|&age| i64::from(age)).collect();
        tensors.push((
            "ages".into(),
            TensorData::I64 {
                shape: vec![self.ages.len()],
                values: ages,
            },
        ));
        tensors.push((
            "silent".into(),
            TensorData::I64 {
                shape: vec![self.silent.len()],
                values: silent,
            },
        ));
        tensors.push((
            "counters".into(),
            TensorData::I64 {
                shape: vec![counters.len()],
                values: counters,
            },
        ));
        tensors
    }

    /// Takes up a state that [`Trainer::state`] gave; settings and subject must be those of the stopped run.
    pub fn restore(&mut self, file: &TensorFile) -> Result<()> {
        for (set, parameters) in
            SETS.iter()
                .zip([&mut self.parameters, &mut self.first, &mut self.second])
        {
            let names = parameters.parts().map(|(name, _)| name);
            for (name, values) in names.iter().zip(parameters.parts_mut()) {
                let read = file.f32(&format!("{set}.{name}"))?;
                *values = same_length(file.path(), name, read, values.len())?;
            }
        }
        let silent = same_length(
            file.path(),
            "silent",
            file.i64("silent")?,
            self.silent.len(),
        )?;
        self.silent = silent.into_iter().map(|rows| rows as u64).collect();
        let ages = same_length(file.path(), "ages", file.i64("ages")?, self.ages.len())?;
        self.ages = ages.into_iter().map(|age| age as u32).collect();
        let n_counters = 2 + self.averages.len();
        let counters = same_length(file.path(), "counters", file.i64("counters")?, n_counters)?;
        self.steps_done = counters[0] as u64;
        self.rows_seen = counters[1] as u64;
        let average = |&bits: &i64| u32::try_from(bits).ok().map(f32::from_bits);
        self.averages = counters[2..].iter().map(average).collect();
        Ok(())
    }
}

/// The values, if they are as many as wanted.
fn same_length<T>(path: &Path, name: &str, values: Vec<T>, wanted: usize) -> Result<Vec<T>> {
    if values.len() == wanted {
        return Ok(values);
    }
    let cause = format!(
        "`{name}` has {} values, this run needs {wanted}",
        values.len()
    );
    Err(Error::Invalid {
        path: path.to_owned(),
        cause,
    })
}
