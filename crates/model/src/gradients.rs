//! Gradients of the weights, collected where training asks for them.

use crate::norm::Read;
use crate::storage::Linear;
use crate::{Result, ops};
use candle_core::Tensor;
use std::collections::BTreeMap;

/// Gradients of the weights by their Hugging Face names.
#[derive(Debug, Default)]
pub struct Gradients {
    values: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// The gradient of one weight, shaped as the weight.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.values.get(name)
    }

    /// Every gradient, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.values.iter()
    }

    /// Norm of all gradients together.
    pub fn norm(&self) -> Result<f64> {
        let squares = self
            .values
            .values()
            .map(ops::sum_of_squares)
            .collect::<candle_core::Result<Vec<f64>>>()?;
        Ok(squares.iter().sum::<f64>().sqrt())
    }

    fn add(&mut self, name: String, gradient: Tensor) -> Result<()> {
        let sum = match self.values.remove(&name) {
            Some(before) => ops::add(&before, &gradient)?,
            None => gradient,
        };
        self.values.insert(name, sum);
        Ok(())
    }
}

/// Collects weight gradients, or does nothing.
pub(crate) struct Collector<'a>(pub(crate) Option<&'a mut Gradients>);

impl Collector<'_> {
    pub(crate) fn add(
        &mut self,
        name: impl FnOnce() -> String,
        gradient: impl FnOnce() -> candle_core::Result<Tensor>,
    ) -> Result<()> {
        match &mut self.0 {
            Some(gradients) => gradients.add(name(), gradient()?),
            None => Ok(()),
        }
    }

    /// Gradients of a linear layer from its input `x` and `dy`.
    pub(crate) fn linear(
        &mut self,
        name: &str,
        layer: &Linear,
        x: &Tensor,
        dy: &Tensor,
    ) -> Result<()> {
        self.add(|| format!("{name}.weight"), || ops::weight_gradient(dy, x))?;
        if layer.bias.is_some() {
            self.add(|| format!("{name}.bias"), || ops::bias_gradient(dy))?;
        }
        Ok(())
    }

    /// Gradient of a norm's weight, where the block has that norm.
    pub(crate) fn norm(
        &mut self,
        name: Option<String>,
        (x, scale): Read<'_>,
        dy: &Tensor,
    ) -> Result<()> {
        match name.zip(scale) {
            Some((name, scale)) => self.add(|| name, || ops::rms_norm_gamma_gradient(dy, x, scale)),
            None => Ok(()),
        }
    }

    pub(crate) fn wanted(&self) -> bool {
        self.0.is_some()
    }
}
