//! How ΔO and the gradient of an edge are found: the methods, and the runs each of them needs.

use clap::ValueEnum;
use model::Rules;
use serde::Serialize;

/// How edges are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Zero ablation, gradient on the sequence itself (arXiv 2509.21044)
    EapZero,
    /// Gradient on the clean run (edge attribution patching, arXiv 2310.10348)
    Eap,
    /// Gradient on the run with the ablated input: denoising, as nnsight and `TransformerLens` define it
    EapAtCorrupted,
    /// Mean of the gradients on the clean run and on the one with the ablated input
    CleanCorrupted,
    /// Mean gradient over inputs between the ablated and the clean one (EAP-IG, arXiv 2403.17806)
    EapIgInputs,
    /// Mean gradient over every node's output held between ablated and clean, as the EAP-IG library has it
    EapIgActivations,
    /// Each edge by the gradients of its own source's interpolation only: the integral along that source
    EapIgActivationsOwn,
    /// Gradient by the rules of `RelP` (arXiv 2508.21258): norms constant, activations linear, gated products halved
    Relp,
    /// Share of each source in what a target reads, without a loss (information flow routes, arXiv 2403.00824)
    #[value(alias = "information-flow-routes")]
    Ifr,
    /// What the loss becomes when this edge alone is ablated, minus what it was
    Exact,
}

/// What an ablated source writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ablation {
    /// Nothing
    Zero,
    /// Its mean over all positions of all clean sequences of the run
    Mean,
    /// Its mean over all clean sequences, position by position: they must be equally long
    MeanPositional,
    /// What it writes on the corrupted sequence
    #[value(alias = "patching")]
    Corrupted,
}

/// Which interpolations are averaged, of M steps from ablated (0) to clean (1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoints {
    /// 0, 1/M, …, (M−1)/M: the ablated end, not the clean one (EAP-IG today)
    Left,
    /// 1/M, …, 1: the clean end, not the ablated one (EAP-IG 0.1 and 0.2)
    Right,
    /// Midpoints ½/M, …: the most exact of the three
    Mid,
    /// 0, 1/M, …, 1: both ends, M+1 runs
    Both,
}

/// Where a gradient is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Point {
    /// On the clean run.
    Clean,
    /// With a block's output (0 the embedding, then attention and MLP layer by layer) at this share of the way from
    /// ablated to clean; held there, when `held`.
    Between {
        /// The block.
        block: usize,
        /// 0 ablated, 1 clean.
        share: f64,
        /// Whether no gradient flows back through the block.
        held: bool,
    },
}

impl Point {
    /// Whether it is the run with the ablated input.
    pub fn is_ablated_input(self) -> bool {
        matches!(
            self,
            Self::Between {
                block: 0,
                share: 0.0,
                held: false
            }
        )
    }
}

/// A method with what it leaves open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// The method.
    pub method: Method,
    /// What ablated sources write.
    pub ablation: Ablation,
    /// Interpolations.
    pub steps: usize,
    /// Which ones.
    pub endpoints: Endpoints,
    /// `relp`: attention patterns are constant as well.
    pub constant_attention: bool,
}

impl Plan {
    /// A method with its usual ablation, and 5 steps with the endpoints EAP-IG has for it.
    pub fn new(method: Method) -> Self {
        let ablation = match method {
            Method::EapZero | Method::Ifr => Ablation::Zero,
            _ => Ablation::Corrupted,
        };
        let endpoints = match method {
            Method::EapIgActivations | Method::EapIgActivationsOwn => Endpoints::Right,
            _ => Endpoints::Left,
        };
        Self {
            method,
            ablation,
            steps: 5,
            endpoints,
            constant_attention: false,
        }
    }

    /// The rules of the reverse pass.
    pub fn rules(self) -> Rules {
        if self.method != Method::Relp {
            return Rules::default();
        }
        Rules {
            attention_constant: self.constant_attention,
            ..Rules::RELP
        }
    }

    /// Where gradients are taken and how often each counts, group by group of a model of `n_layers`.
    ///
    /// The groups of `eap-ig-activations-own` belong to one source block each, in order; other methods have one group.
    pub fn groups(self, n_layers: usize) -> Vec<Vec<(Point, f64)>> {
        let input = |share| Point::Between {
            block: 0,
            share,
            held: false,
        };
        match self.method {
            Method::EapZero | Method::Eap | Method::Relp => vec![vec![(Point::Clean, 1.0)]],
            Method::EapAtCorrupted => vec![vec![(input(0.0), 1.0)]],
            Method::CleanCorrupted => vec![vec![(Point::Clean, 0.5), (input(0.0), 0.5)]],
            Method::EapIgInputs => vec![weighted(self.shares().map(input), 1.0)],
            Method::EapIgActivations => {
                let points = (0..=2 * n_layers).flat_map(|block| self.held(block, true));
                vec![weighted(points, 1.0)]
            }
            // What reads the embedding still reads it: only blocks that come after others are cut off from them.
            Method::EapIgActivationsOwn => (0..=2 * n_layers)
                .map(|block| weighted(self.held(block, block > 0), 1.0))
                .collect(),
            Method::Ifr | Method::Exact => Vec::new(),
        }
    }

    fn held(self, block: usize, held: bool) -> impl Iterator<Item = Point> {
        self.shares()
            .map(move |share| Point::Between { block, share, held })
    }

    /// Shares of the clean end that are averaged.
    fn shares(self) -> impl Iterator<Item = f64> {
        let (n, offset) = match self.endpoints {
            Endpoints::Left => (self.steps, 0.0),
            Endpoints::Right => (self.steps, 1.0),
            Endpoints::Mid => (self.steps, 0.5),
            Endpoints::Both => (self.steps + 1, 0.0),
        };
        (0..n).map(move |step| (step as f64 + offset) / self.steps as f64)
    }

    /// The method with the same ablation whose gradient is that of the clean run alone: what finite differences test.
    #[must_use]
    pub fn at_the_clean_point(self) -> Self {
        Self {
            method: Method::Eap,
            ..self
        }
    }

    /// Whether it averages over steps between ablated and clean.
    pub fn interpolates(self) -> bool {
        use Method::{EapIgActivations, EapIgActivationsOwn, EapIgInputs};
        matches!(
            self.method,
            EapIgInputs | EapIgActivations | EapIgActivationsOwn
        )
    }

    /// Whether every example needs a corrupted sequence.
    pub fn needs_corrupted(self) -> bool {
        self.ablation == Ablation::Corrupted
    }

    /// Whether the gradient is that of the clean run alone, where a divergence from that run is flat.
    pub fn is_flat_for_divergence(self) -> bool {
        matches!(self.method, Method::EapZero | Method::Eap | Method::Relp)
    }
}

/// Points that count equally and together `total`.
fn weighted(points: impl Iterator<Item = Point>, total: f64) -> Vec<(Point, f64)> {
    let points: Vec<Point> = points.collect();
    let weight = total / points.len() as f64;
    points.into_iter().map(|point| (point, weight)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(endpoints: Endpoints) -> Vec<f64> {
        let plan = Plan {
            endpoints,
            steps: 2,
            ..Plan::new(Method::EapIgInputs)
        };
        plan.shares().collect()
    }

    #[test]
    fn endpoints_are_where_they_say() {
        assert_eq!(shares(Endpoints::Left), [0.0, 0.5]);
        assert_eq!(shares(Endpoints::Right), [0.5, 1.0]);
        assert_eq!(shares(Endpoints::Mid), [0.25, 0.75]);
        assert_eq!(shares(Endpoints::Both), [0.0, 0.5, 1.0]);
    }

    #[test]
    fn the_gradients_of_a_group_count_once_together() {
        for method in Method::value_variants() {
            for group in Plan::new(*method).groups(3) {
                let total: f64 = group.iter().map(|(_, weight)| weight).sum();
                assert!((total - 1.0).abs() < 1e-12, "{method:?}");
            }
        }
        assert_eq!(Plan::new(Method::EapIgActivationsOwn).groups(3).len(), 7);
        assert_eq!(Plan::new(Method::EapIgActivations).groups(3)[0].len(), 35);
    }
}
