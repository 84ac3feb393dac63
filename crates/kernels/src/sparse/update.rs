//! One step of Adam on the rows that sparse codes touch.

use super::{PANEL, Panels};
use crate::adam::AdamStep;
use crate::vector::vectorised;
use rayon::prelude::*;

/// Rows updated by one task.
const UPDATE_ROWS: usize = 16;

/// Which rows one step of Adam reaches, and how long each has had no gradient.
#[derive(Debug, Clone, Copy)]
pub struct Reach<'a> {
    /// Rows with a gradient.
    pub touched: &'a [bool],
    /// Steps since a row's moments were last written.
    pub ages: &'a [u32],
    /// Age from which a row without a gradient rests: what momentum would still move is below the precision of a weight.
    pub rest: u32,
}

/// One step of Adam on rows `[rows, columns]`, with the effect of an update of all of them.
///
/// A row with a gradient is updated after its moments have decayed for the steps it missed. A row without one coasts on its
/// momentum; its moments stay as they are and count as decayed. The caller counts the ages. No weight decay.
///
/// # Panics
/// When the shapes disagree.
pub fn adam_rows(
    [weights, first, second]: [&mut [f32]; 3],
    gradient: &Panels,
    reach: Reach<'_>,
    options: AdamStep,
) {
    let columns = gradient.columns;
    assert!([weights.len(), first.len(), second.len()] == [gradient.rows * columns; 3]);
    assert!(reach.touched.len() == gradient.rows && reach.ages.len() == gradient.rows);
    let size = UPDATE_ROWS * columns.max(1);
    let moments = first.par_chunks_mut(size).zip(second.par_chunks_mut(size));
    let tasks = weights.par_chunks_mut(size).zip(moments).enumerate();
    tasks.for_each(|(block, (weights, (first, second)))| {
        vectorised(|| {
            update_block(
                [weights, first, second],
                (block * UPDATE_ROWS, gradient),
                reach,
                options,
            );
        });
    });
}

#[inline(always)]
fn update_block(
    [weights, first, second]: [&mut [f32]; 3],
    (start, gradient): (usize, &Panels),
    reach: Reach<'_>,
    options: AdamStep,
) {
    let columns = gradient.columns;
    for place in 0..weights.len() / columns {
        let (row, range) = (start + place, place * columns..(place + 1) * columns);
        let factors = Factors::new(options, reach.ages[row]);
        let (weights, first, second) = (
            &mut weights[range.clone()],
            &mut first[range.clone()],
            &mut second[range],
        );
        if reach.touched[row] {
            for (panel, weights) in weights.chunks_mut(PANEL).enumerate() {
                let width = weights.len();
                let from = panel * PANEL * gradient.rows + row * width;
                let moments = (
                    &mut first[panel * PANEL..][..width],
                    &mut second[panel * PANEL..][..width],
                );
                factors.update(weights, moments, &gradient.values[from..from + width]);
            }
        } else if reach.ages[row] < reach.rest {
            factors.coast(weights, first, second);
        }
    }
}

/// What one row's step multiplies by.
#[derive(Debug, Clone, Copy)]
struct Factors {
    options: AdamStep,
    /// Decay of the moments since they were written, this step included.
    decay: [f32; 2],
    /// Learning rate over the bias of the first moment, and one over that of the second.
    scale: [f32; 2],
}

impl Factors {
    #[inline(always)]
    fn new(options: AdamStep, age: u32) -> Self {
        let power = |beta: f32, n: u32| f64::from(beta).powi(n as i32);
        Self {
            options,
            decay: [options.beta1, options.beta2].map(|beta| power(beta, age + 1) as f32),
            scale: [
                (f64::from(options.learning_rate) / (1.0 - power(options.beta1, options.step)))
                    as f32,
                (1.0 / (1.0 - power(options.beta2, options.step))) as f32,
            ],
        }
    }

    #[inline(always)]
    fn update(
        self,
        weights: &mut [f32],
        (first, second): (&mut [f32], &mut [f32]),
        gradient: &[f32],
    ) {
        let Self {
            options,
            decay: [decay1, decay2],
            scale: [rate, scale],
        } = self;
        let (new1, new2) = (1.0 - options.beta1, 1.0 - options.beta2);
        for (((weight, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(gradient) {
            let g = g * options.gradient_scale;
            *m = decay1 * *m + new1 * g;
            *v = decay2 * *v + new2 * g * g;
            *weight -= rate * *m / ((*v * scale).sqrt() + options.epsilon);
        }
    }

    #[inline(always)]
    fn coast(self, weights: &mut [f32], first: &[f32], second: &[f32]) {
        let Self {
            options,
            decay: [decay1, decay2],
            scale: [rate, scale],
        } = self;
        for ((weight, m), v) in weights.iter_mut().zip(first).zip(second) {
            *weight -= rate * (decay1 * m) / ((decay2 * v * scale).sqrt() + options.epsilon);
        }
    }
}
