//! The gradients against their definitions, and training against data whose features are known.

mod gradients;
mod parity;
mod tensors;
mod training;

use super::compute::Compute;
use super::kernels::Kernels;
use super::{Subject, Trainer};
use crate::normalizer::Normalizer;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Values between −1 and 1.
fn uniform(random: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| random.random_range(-1.0f32..1.0)).collect()
}

/// Models that are not normalised.
fn subject(widths: &[usize]) -> Subject {
    Subject {
        labels: (0..widths.len()).map(|model| format!("m{model}")).collect(),
        widths: widths.to_vec(),
        normalizer: widths
            .iter()
            .map(|&width| Normalizer::identity(width))
            .collect(),
        hook: String::new(),
        tokenizer_digest: String::new(),
    }
}

/// The kernels of a trainer that has them.
fn kernels(trainer: &mut Trainer) -> &mut Kernels {
    match &mut trainer.compute {
        Compute::Kernels(kernels) => kernels,
        Compute::Tensors(_) => panic!("this trainer computes with tensors"),
    }
}

/// Whether two trainers that compute with kernels go on alike.
fn same_bits(a: &Trainer, b: &Trainer) -> bool {
    let (Compute::Kernels(one), Compute::Kernels(other)) = (&a.compute, &b.compute) else {
        return false;
    };
    a.history == b.history
        && one.parameters == other.parameters
        && one.moments == other.moments
        && one.ages == other.ages
}
