//! Adam with decoupled weight decay (arXiv 1711.05101).

use crate::vector::vectorised;
use rayon::prelude::*;

/// Values handled by one task.
const VALUES: usize = 1 << 14;

/// What one step of Adam needs besides the numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Step number, from 1.
    pub step: u32,
    /// Learning rate.
    pub learning_rate: f32,
    /// Decay of the first moment, 0 to 1.
    pub beta1: f32,
    /// Decay of the second moment, 0 to 1.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Weight decay, applied as `weight -= learning_rate * weight_decay * weight`.
    pub weight_decay: f32,
    /// Factor on the gradient (clipping).
    pub gradient_scale: f32,
}

/// Updates `weights` and the moments in place; all slices have one length.
pub fn adam(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    options: AdamStep,
) {
    let AdamStep {
        step,
        learning_rate,
        beta1,
        beta2,
        epsilon,
        weight_decay,
        gradient_scale,
    } = options;
    let first_scale = learning_rate / (1.0 - beta1.powi(step as i32));
    let second_scale = 1.0 / (1.0 - beta2.powi(step as i32));
    let decay = 1.0 - learning_rate * weight_decay;
    let moments = first
        .par_chunks_mut(VALUES)
        .zip(second.par_chunks_mut(VALUES));
    let tasks = weights
        .par_chunks_mut(VALUES)
        .zip(moments)
        .zip(gradient.par_chunks(VALUES));
    tasks.for_each(|((weights, (first, second)), gradient)| {
        vectorised(
            #[inline(always)]
            || {
                for (((weight, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(gradient)
                {
                    let g = g * gradient_scale;
                    *m = beta1 * *m + (1.0 - beta1) * g;
                    *v = beta2 * *v + (1.0 - beta2) * g * g;
                    *weight =
                        *weight * decay - first_scale * *m / ((*v * second_scale).sqrt() + epsilon);
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_has_the_length_of_the_learning_rate() {
        let (mut w, mut m, mut v) = ([1.0f32], [0.0], [0.0]);
        let options = AdamStep {
            step: 1,
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 0.0,
            weight_decay: 0.5,
            gradient_scale: 1.0,
        };
        adam(&mut w, &mut m, &mut v, &[7.0], options);
        assert!((w[0] - (1.0 - 0.05 - 0.1)).abs() < 1e-6);
    }
}
