//! Published recipes by name.

use crate::args::{NormalizeName, RuleName};

/// Names of the recipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// arXiv 2604.25011: l1 with λ 2, 32,768 features, 400 M tokens, batch 1,024, rate 1e-4, first token dropped
    Shi2026,
    /// arXiv 2504.02922: batch-topk, 73,728 features, k 100 annealed from 2,048, 200 M tokens, batch 2,048, rate 1e-4
    Minder2025,
    /// Defaults of diffing-toolkit: batch-topk, 32 features per dimension, k 100 annealed from 1,024, 300 M tokens
    Diffing,
    /// arXiv 2609.35210: batch-topk, 32,768 features, k 50, 400 M tokens, batch 4,096, rate 2e-4/√2
    Opd2026,
}

/// What a recipe says; `None` and 0 where it leaves our default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Rule.
    pub rule: RuleName,
    /// Features.
    pub features: u64,
    /// Features per dimension of the widest model, where the number is not fixed.
    pub features_per_width: u64,
    /// Features kept per row.
    pub k: u64,
    /// The same at the first step, and the steps over which it falls.
    pub k_start: Option<(u64, u64)>,
    /// Rows in all.
    pub tokens: u64,
    /// Rows of a step.
    pub batch: u64,
    /// Learning rate.
    pub lr: Option<f32>,
    /// Steps over which it rises.
    pub warmup_steps: Option<u64>,
    /// Share of the run over which it falls.
    pub decay: Option<f32>,
    /// What is normalised, and to which size.
    pub normalize: (NormalizeName, Option<f32>),
    /// Positions left out at the beginning of every document.
    pub skip_first: u32,
}

impl Recipe {
    /// Without a preset.
    pub const USUAL: Self = Self {
        rule: RuleName::BatchTopk,
        features: 4096,
        features_per_width: 0,
        k: 32,
        k_start: None,
        tokens: 5_000_000,
        batch: 1024,
        lr: None,
        warmup_steps: None,
        decay: None,
        normalize: (NormalizeName::Variance, None),
        skip_first: 0,
    };
}

impl Preset {
    /// The recipe of this name.
    pub fn recipe(self) -> Recipe {
        let long = Recipe {
            tokens: 400_000_000,
            features: 32_768,
            warmup_steps: Some(1000),
            decay: Some(0.0),
            ..Recipe::USUAL
        };
        match self {
            Self::Shi2026 => Recipe {
                rule: RuleName::L1,
                lr: Some(1e-4),
                warmup_steps: Some(0),
                decay: Some(0.2),
                normalize: (NormalizeName::Norm, None),
                skip_first: 1,
                ..long
            },
            Self::Minder2025 => Recipe {
                features: 73_728,
                k: 100,
                k_start: Some((2048, 2000)),
                tokens: 200_000_000,
                batch: 2048,
                lr: Some(1e-4),
                normalize: (NormalizeName::None, None),
                ..long
            },
            Self::Diffing => Recipe {
                features_per_width: 32,
                k: 100,
                k_start: Some((1024, 2000)),
                tokens: 300_000_000,
                batch: 2048,
                lr: Some(1e-4),
                normalize: (NormalizeName::Variance, Some(100.0)),
                ..long
            },
            Self::Opd2026 => Recipe {
                k: 50,
                batch: 4096,
                lr: Some(2e-4 / std::f32::consts::SQRT_2),
                ..long
            },
        }
    }
}
