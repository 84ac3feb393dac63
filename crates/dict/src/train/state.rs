//! What a stopped run needs to go on to the same final bytes.

use super::compute::{Compute, DeviceError};
use super::kernels::Kernels;
use super::trainer::Trainer;
use std::mem::take;
use std::path::Path;
use store::{Error, Result, TensorData, TensorFile};

/// Name and values of a tensor.
type Named = (String, TensorData);

/// Values that a state holds.
enum Slot<'a> {
    F32(&'a mut Vec<f32>),
    U16(&'a mut Vec<u16>),
    U8(&'a mut Vec<u8>),
}

impl Slot<'_> {
    /// Moves the values out.
    fn take(self) -> TensorData {
        match self {
            Self::F32(values) => TensorData::F32 {
                shape: vec![values.len()],
                values: take(values),
            },
            Self::U16(values) => TensorData::U16 {
                shape: vec![values.len()],
                values: take(values),
            },
            Self::U8(values) => TensorData::U8 {
                shape: vec![values.len()],
                values: take(values),
            },
        }
    }

    /// Puts back what [`Slot::take`] gave.
    fn put(self, data: TensorData) {
        match (self, data) {
            (Self::F32(slot), TensorData::F32 { values, .. }) => *slot = values,
            (Self::U16(slot), TensorData::U16 { values, .. }) => *slot = values,
            (Self::U8(slot), TensorData::U8 { values, .. }) => *slot = values,
            _ => unreachable!("the tensor came from this slot"),
        }
    }

    /// Reads the tensor of this name, as long as what is there.
    fn read(self, file: &TensorFile, name: &str) -> Result<()> {
        match self {
            Self::F32(slot) => *slot = same_length(file, name, file.f32(name)?, slot.len())?,
            Self::U16(slot) => *slot = same_length(file, name, file.u16(name)?, slot.len())?,
            Self::U8(slot) => *slot = same_length(file, name, file.u8(name)?, slot.len())?,
        }
        Ok(())
    }
}

impl Kernels {
    /// Everything of a size that matters.
    fn slots(&mut self) -> Vec<(String, Slot<'_>)> {
        let mut slots = Vec::new();
        let weights = self.parameters.parts().map(|(name, _)| name);
        for (name, values) in weights.into_iter().zip(self.parameters.parts_mut()) {
            slots.push((format!("weights.{name}"), Slot::F32(values)));
        }
        let moments = &mut self.moments;
        for (name, moments) in [
            ("encoder", &mut moments.encoder),
            ("decoder", &mut moments.decoder),
        ] {
            for (order, plane) in [
                ("first", &mut moments.first),
                ("second", &mut moments.second),
            ] {
                slots.push((format!("{order}.{name}.high"), Slot::U16(&mut plane.high)));
                slots.push((format!("{order}.{name}.low"), Slot::U8(&mut plane.low)));
            }
        }
        let names = ["encoder_bias", "decoder_bias", "thresholds"];
        for (name, orders) in names.into_iter().zip(&mut moments.small) {
            for (order, values) in ["first", "second"].into_iter().zip(orders) {
                slots.push((format!("{order}.{name}"), Slot::F32(values)));
            }
        }
        slots
    }
}

impl Trainer {
    /// Hands weights, moments and counters to `write`, bit for bit, with `more` behind them. The kernels' tensors are lent,
    /// not copied.
    ///
    /// # Errors
    /// When a device does not give its tensors.
    pub fn with_state<R>(
        &mut self,
        more: Vec<Named>,
        write: impl FnOnce(&[Named]) -> R,
    ) -> std::result::Result<R, DeviceError> {
        let mut tensors = match &mut self.compute {
            Compute::Kernels(kernels) => {
                let slots = kernels.slots().into_iter();
                slots.map(|(name, slot)| (name, slot.take())).collect()
            }
            Compute::Tensors(tensors) => tensors.state()?,
        };
        let n_lent = tensors.len();
        tensors.extend(self.counters());
        tensors.push((
            "ages".into(),
            whole_numbers(self.ages().iter().map(|&age| i64::from(age)).collect()),
        ));
        tensors.extend(more);
        let written = write(&tensors);
        if let Compute::Kernels(kernels) = &mut self.compute {
            let lent = tensors.into_iter().take(n_lent);
            for ((_, slot), (_, data)) in kernels.slots().into_iter().zip(lent) {
                slot.put(data);
            }
        }
        Ok(written)
    }

    fn ages(&self) -> &[u32] {
        match &self.compute {
            Compute::Kernels(kernels) => &kernels.ages,
            Compute::Tensors(_) => &[],
        }
    }

    fn counters(&self) -> [Named; 2] {
        let history = &self.history;
        let silent = history.silent.iter().map(|&rows| rows as i64).collect();
        let bits = |average: &Option<f32>| average.map_or(-1, |value| i64::from(value.to_bits()));
        let mut counters = vec![history.steps_done as i64, history.rows_seen as i64];
        counters.extend(history.averages.iter().map(bits));
        [
            ("silent".into(), whole_numbers(silent)),
            ("counters".into(), whole_numbers(counters)),
        ]
    }

    /// Takes up a state that [`Trainer::with_state`] gave; settings, subject and device must be those of the stopped run.
    ///
    /// # Errors
    /// When the file does not hold such a state.
    pub fn restore(&mut self, file: &TensorFile) -> Result<()> {
        match &mut self.compute {
            Compute::Kernels(kernels) => {
                for (name, slot) in kernels.slots() {
                    slot.read(file, &name)?;
                }
                let ages = file
                    .i64("ages")?
                    .into_iter()
                    .map(|age| age as u32)
                    .collect();
                kernels.ages = same_length(file, "ages", ages, kernels.ages.len())?;
            }
            Compute::Tensors(tensors) => tensors.restore(file)?,
        }
        let history = &mut self.history;
        let silent = file.i64("silent")?.into_iter().map(|rows| rows as u64);
        history.silent = same_length(file, "silent", silent.collect(), history.silent.len())?;
        let n_counters = 2 + history.averages.len();
        let counters = same_length(file, "counters", file.i64("counters")?, n_counters)?;
        history.steps_done = counters[0] as u64;
        history.rows_seen = counters[1] as u64;
        let average = |&bits: &i64| u32::try_from(bits).ok().map(f32::from_bits);
        history.averages = counters[2..].iter().map(average).collect();
        Ok(())
    }
}

fn whole_numbers(values: Vec<i64>) -> TensorData {
    TensorData::I64 {
        shape: vec![values.len()],
        values,
    }
}

/// The values, if they are as many as wanted.
pub(super) fn same_length<T>(
    file: &TensorFile,
    name: &str,
    values: Vec<T>,
    wanted: usize,
) -> Result<Vec<T>> {
    if values.len() == wanted {
        return Ok(values);
    }
    Err(refused(
        file.path(),
        format!(
            "`{name}` has {} values, this run needs {wanted}",
            values.len()
        ),
    ))
}

/// A state that cannot be taken up.
pub(super) fn refused(path: &Path, cause: String) -> Error {
    Error::Invalid {
        path: path.to_owned(),
        cause,
    }
}
