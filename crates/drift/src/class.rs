//! The name of what happened to a feature.

use crate::norms::Norms;
use serde::Serialize;

/// Where the classes begin and end (METHODS §A).
#[derive(Debug, Clone, Copy, PartialEq, clap::Args, Serialize)]
pub struct Limits {
    /// Δnorm below which a feature is base-only, and above 1 − X tuned-only
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    pub exclusive: f64,
    /// Distance of Δnorm from 0.5 within which a feature is shared
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    pub shared: f64,
    /// Cosine below which a shared feature is rotated
    #[arg(long, value_name = "COSINE", default_value_t = 0.7)]
    pub rotated: f64,
    /// ν on the error that a tuned-only feature must stay below
    #[arg(long, value_name = "ν", default_value_t = 0.2)]
    pub nu_error: f64,
    /// ν on the reconstruction that a tuned-only feature must stay below
    #[arg(long, value_name = "ν", default_value_t = 0.5)]
    pub nu_reconstruction: f64,
}

impl Limits {
    /// `dead`, `base-only`, `tuned-only`, `rotated`, `shared` or `other`.
    ///
    /// A feature whose norms say tuned-only while latent scaling finds it in the base after all is `other`. `fires` is none
    /// when nobody looked.
    pub fn class(&self, norms: &Norms, fires: Option<bool>, nu: [Option<f64>; 2]) -> &'static str {
        let delta = norms.delta_norm();
        let refuted = nu[0].is_some_and(|nu| nu >= self.nu_error)
            || nu[1].is_some_and(|nu| nu >= self.nu_reconstruction);
        let empty = norms.l1_all == 0.0;
        match delta {
            _ if fires == Some(false) || empty => "dead",
            _ if delta < self.exclusive => "base-only",
            _ if delta > 1.0 - self.exclusive && !refuted => "tuned-only",
            _ if (delta - 0.5).abs() > self.shared => "other",
            _ if norms.cosine < self.rotated => "rotated",
            _ => "shared",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        exclusive: 0.1,
        shared: 0.1,
        rotated: 0.7,
        nu_error: 0.2,
        nu_reconstruction: 0.5,
    };

    fn norms(base: f64, tuned: f64, cosine: f64) -> Norms {
        Norms {
            l1_base: base,
            l1_tuned: tuned,
            l2_base: base,
            l2_tuned: tuned,
            l1_all: base + tuned,
            cosine,
        }
    }

    #[test]
    fn every_class_has_its_place() {
        let class = |base, tuned, cosine| {
            LIMITS.class(
                &norms(base, tuned, cosine),
                Some(true),
                [Some(0.0), Some(0.0)],
            )
        };
        assert_eq!(class(1.0, 0.0, 0.0), "base-only");
        assert_eq!(class(0.0, 1.0, 0.0), "tuned-only");
        assert_eq!(class(1.0, 1.0, 0.95), "shared");
        assert_eq!(class(1.0, 1.0, 0.2), "rotated");
        assert_eq!(class(1.0, 0.5, 1.0), "other");
        assert_eq!(
            LIMITS.class(&norms(1.0, 1.0, 1.0), Some(false), [None, None]),
            "dead"
        );
    }

    #[test]
    fn latent_scaling_refutes_a_tuned_only_feature() {
        let norms = norms(0.0, 1.0, 0.0);
        assert_eq!(
            LIMITS.class(&norms, Some(true), [Some(0.9), Some(0.1)]),
            "other"
        );
        assert_eq!(
            LIMITS.class(&norms, Some(true), [Some(0.1), Some(0.8)]),
            "other"
        );
        assert_eq!(LIMITS.class(&norms, None, [None, None]), "tuned-only");
    }
}
