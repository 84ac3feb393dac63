//! How the heads are rotated: frequencies, and their rescaling for long contexts.
//!
//! Formulas as in `transformers` (`modeling_rope_utils`), in f64.

use super::Config;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// Long-context rescaling of the rotary frequencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RopeScaling {
    /// `linear`, `dynamic`, `llama3`, `yarn` or `longrope`.
    pub rope_type: String,
    /// Factor by which low frequencies are divided.
    #[serde(default = "one")]
    pub factor: f64,
    /// Wavelengths longer than the original context / this are fully rescaled (`llama3`).
    #[serde(default = "one")]
    pub low_freq_factor: f64,
    /// Wavelengths shorter than the original context / this are kept (`llama3`).
    #[serde(default = "one")]
    pub high_freq_factor: f64,
    /// Context length of pretraining in tokens (`llama3`, `yarn`); the configuration's own where it is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub original_max_position_embeddings: usize,
    /// Factor on cosines and sines (`yarn`, `longrope`); worked out from `factor` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// Turns over the original context above which a frequency is kept (`yarn`, 32).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_fast: Option<f64>,
    /// Turns over the original context below which a frequency is divided (`yarn`, 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_slow: Option<f64>,
    /// Weight of ln `factor` in the attention factor's numerator (`yarn`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale: Option<f64>,
    /// Weight of ln `factor` in the attention factor's denominator (`yarn`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale_all_dim: Option<f64>,
    /// Whether the ends of the blend are whole pairs (`yarn`, true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<bool>,
    /// Divisors of the frequencies up to the original context (`longrope`), one a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_factor: Option<Vec<f64>>,
    /// Divisors of the frequencies beyond it (`longrope`), one a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_factor: Option<Vec<f64>>,
}

fn one() -> f64 {
    1.0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// How heads are rotated: pair i of position p turns by `p · frequencies[i]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// Radians per position of every pair, `[rotary_width / 2]`.
    pub frequencies: Vec<f64>,
    /// What cosines and sines are multiplied by.
    pub factor: f64,
}

impl Config {
    /// How many of a head's dimensions are rotated.
    pub fn rotary_width(&self) -> usize {
        self.form.rotary_width.unwrap_or(self.d_head)
    }

    /// Rotation of a sequence of `length` positions.
    pub fn rotation(&self, length: usize) -> Rotation {
        let plain = plain(self.rope_theta, self.rotary_width());
        let unscaled = |frequencies| Rotation {
            frequencies,
            factor: 1.0,
        };
        let Some(scaling) = &self.rope_scaling else {
            return unscaled(plain);
        };
        match scaling.rope_type.as_str() {
            "linear" => unscaled(plain.iter().map(|f| f / scaling.factor).collect()),
            "llama3" => unscaled(plain.iter().map(|f| scaling.llama3(*f)).collect()),
            "dynamic" => unscaled(self.dynamic(scaling, length)),
            "yarn" => self.yarn(scaling, &plain),
            "longrope" => self.longrope(scaling, &plain, length),
            _ => unscaled(plain),
        }
    }

    /// Rotation of the windowed blocks where they have one of their own.
    pub fn local_rotation(&self) -> Option<Rotation> {
        self.form.local_rope_theta.map(|theta| Rotation {
            frequencies: plain(theta, self.rotary_width()),
            factor: 1.0,
        })
    }

    /// The longest sequence whose rotation does not depend on its length; none when no length matters.
    pub fn rotation_changes_after(&self) -> Option<usize> {
        match self.rope_scaling.as_ref()?.rope_type.as_str() {
            "dynamic" => Some(self.max_positions),
            "longrope" => Some(self.original_positions()),
            _ => None,
        }
    }

    /// The longest sequence the model can read; any when absent: `dynamic` stretches to what it is given.
    pub fn position_limit(&self) -> Option<usize> {
        let stretches = |scaling: &RopeScaling| scaling.rope_type == "dynamic";
        let dynamic = self.rope_scaling.as_ref().is_some_and(stretches);
        (!dynamic).then_some(self.max_positions)
    }

    /// Context of pretraining as `longrope` counts it.
    fn original_positions(&self) -> usize {
        self.form.original_positions.unwrap_or(self.max_positions)
    }

    /// The base grows with the length beyond the context (NTK-aware scaling).
    fn dynamic(&self, scaling: &RopeScaling, length: usize) -> Vec<f64> {
        let (width, context) = (self.rotary_width() as f64, self.max_positions as f64);
        let stretch =
            scaling.factor * (length as f64).max(context) / context - (scaling.factor - 1.0);
        let theta = self.rope_theta * stretch.powf(width / (width - 2.0));
        plain(theta, self.rotary_width())
    }

    /// Keeps fast pairs, divides slow ones, blends between (arXiv 2309.00071).
    fn yarn(&self, scaling: &RopeScaling, plain: &[f64]) -> Rotation {
        let context = match scaling.original_max_position_embeddings {
            0 => self.max_positions,
            original => original,
        } as f64;
        let width = self.rotary_width() as f64;
        let pair_of =
            |turns: f64| width * (context / (turns * TAU)).ln() / (2.0 * self.rope_theta.ln());
        let (mut low, mut high) = (
            pair_of(scaling.beta_fast.unwrap_or(32.0)),
            pair_of(scaling.beta_slow.unwrap_or(1.0)),
        );
        if scaling.truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(width - 1.0));
        if high <= low {
            high = low + 0.001;
        }
        let blend = |(i, f): (usize, &f64)| {
            let divided = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            f / scaling.factor * divided + f * (1.0 - divided)
        };
        Rotation {
            frequencies: plain.iter().enumerate().map(blend).collect(),
            factor: scaling.yarn_attention_factor(),
        }
    }

    /// A divisor for every pair, one set within the original context and one beyond (arXiv 2402.13753).
    fn longrope(&self, scaling: &RopeScaling, plain: &[f64], length: usize) -> Rotation {
        let original = self.original_positions();
        let divisors = if length > original {
            &scaling.long_factor
        } else {
            &scaling.short_factor
        };
        let divisors = divisors.as_deref().unwrap_or_default();
        let stretch = match self.form.original_positions {
            Some(original) => self.max_positions as f64 / original as f64,
            None => scaling.factor,
        };
        let worked_out = if stretch <= 1.0 {
            1.0
        } else {
            (1.0 + stretch.ln() / (original as f64).ln()).sqrt()
        };
        Rotation {
            frequencies: plain.iter().zip(divisors).map(|(f, d)| f / d).collect(),
            factor: scaling.attention_factor.unwrap_or(worked_out),
        }
    }
}

/// θ^(−2i/width) for every pair i.
fn plain(theta: f64, width: usize) -> Vec<f64> {
    (0..width / 2)
        .map(|i| theta.powf(-(2.0 * i as f64) / width as f64))
        .collect()
}

impl RopeScaling {
    /// Refuses what cannot be computed for heads of which `width` dimensions are rotated.
    pub(super) fn check(&self, width: usize) -> Result<(), String> {
        match self.rope_type.as_str() {
            "llama3" if self.original_max_position_embeddings == 0 => {
                Err("rope scaling `llama3` without original_max_position_embeddings".into())
            }
            "linear" | "dynamic" | "llama3" | "yarn" => Ok(()),
            "longrope" => self.check_divisors(width / 2),
            other => Err(format!(
                "unknown rope scaling `{other}` (known: default, linear, dynamic, llama3, yarn, longrope)"
            )),
        }
    }

    fn check_divisors(&self, pairs: usize) -> Result<(), String> {
        for (name, list) in [
            ("short_factor", &self.short_factor),
            ("long_factor", &self.long_factor),
        ] {
            let found = list.as_ref().map_or(0, Vec::len);
            if found != pairs {
                return Err(format!(
                    "`{name}` of the rope scaling has {found} numbers for {pairs} pairs"
                ));
            }
        }
        Ok(())
    }

    /// Keeps high frequencies, divides low ones, blends between (Llama 3.1).
    fn llama3(&self, frequency: f64) -> f64 {
        let context = self.original_max_position_embeddings as f64;
        let wavelength = TAU / frequency;
        if wavelength < context / self.high_freq_factor {
            frequency
        } else if wavelength > context / self.low_freq_factor {
            frequency / self.factor
        } else {
            let kept = (context / wavelength - self.low_freq_factor)
                / (self.high_freq_factor - self.low_freq_factor);
            (1.0 - kept) * frequency / self.factor + kept * frequency
        }
    }

    fn yarn_attention_factor(&self) -> f64 {
        let weighted = |weight: f64| {
            if self.factor <= 1.0 {
                1.0
            } else {
                0.1 * weight * self.factor.ln() + 1.0
            }
        };
        // A weight of 0 counts as absent, as in Python.
        let given = |weight: Option<f64>| weight.filter(|weight| *weight != 0.0);
        self.attention_factor.unwrap_or_else(|| {
            match (given(self.mscale), given(self.mscale_all_dim)) {
                (Some(above), Some(below)) => weighted(above) / weighted(below),
                _ => weighted(1.0),
            }
        })
    }
}
