//! One step of Adam on the rows that sparse codes touch.

use super::PANEL;
use super::gradient::{Gradient, Panel, ROWS};
use super::moments::{Moments, Short, set_signed, set_unsigned, signed, unsigned};
use crate::adam::AdamStep;
use crate::vector::vectorised;
use rayon::prelude::*;

/// How long each row has had no gradient.
#[derive(Debug, Clone, Copy)]
pub struct Reach<'a> {
    /// Steps since a row's moments were last written.
    pub ages: &'a [u32],
    /// Age from which a row without a gradient rests: what momentum would still move is below the precision of a weight.
    pub rest: u32,
}

/// One step of Adam on weights `[n_rows, columns]`, with the effect of an update of all rows.
///
/// A row with a gradient is updated after its moments have decayed for the steps it missed. A row without one coasts on its
/// momentum; its moments stay as they are and count as decayed. The caller counts the ages. No weight decay.
///
/// # Panics
/// When the shapes disagree.
pub fn update(
    weights: &mut [f32],
    moments: &mut Moments,
    gradient: &Gradient<'_>,
    reach: Reach<'_>,
    options: AdamStep,
) {
    let [n_rows, columns] = moments.shape();
    assert!(weights.len() == n_rows * columns && gradient.columns == columns);
    assert!(gradient.touched.len() == n_rows && reach.ages.len() == n_rows);
    let step = Step::new(reach, options);
    gradient.each_panel(|panel| {
        let blocks = moments.blocks((panel.columns.start, panel.columns.len()), ROWS);
        let tasks = weights.par_chunks_mut(ROWS * columns).zip(blocks);
        tasks.enumerate().for_each(|(block, (weights, moments))| {
            vectorised(|| step.block(panel, (block * ROWS, weights), columns, moments));
        });
    });
}

/// What all rows share.
struct Step<'a> {
    reach: Reach<'a>,
    options: AdamStep,
    /// Learning rate over the bias of the first moment, and one over that of the second.
    scale: [f32; 2],
    /// Decay of each row's moments since they were written, this step included.
    decays: Vec<[f32; 2]>,
}

impl<'a> Step<'a> {
    fn new(reach: Reach<'a>, options: AdamStep) -> Self {
        let power = |beta: f32, n: u32| f64::from(beta).powi(n as i32);
        let betas = [options.beta1, options.beta2];
        let decay = |&age: &u32| betas.map(|beta| power(beta, age + 1) as f32);
        let [first, second] = betas.map(|beta| 1.0 - power(beta, options.step));
        Self {
            reach,
            options,
            scale: [
                (f64::from(options.learning_rate) / first) as f32,
                (1.0 / second) as f32,
            ],
            decays: reach.ages.iter().map(decay).collect(),
        }
    }

    /// The panel's columns of a block of rows.
    #[inline(always)]
    fn block(
        &self,
        panel: &Panel<'_>,
        (first_row, weights): (usize, &mut [f32]),
        columns: usize,
        [first, second]: [Short<'_>; 2],
    ) {
        let width = panel.columns.len();
        let mut room = [0.0; PANEL];
        let lines = weights.chunks_exact_mut(columns).enumerate();
        for (place, line) in lines {
            let row = first_row + place;
            let (touched, age) = (panel.touches(row), self.reach.ages[row]);
            if !touched && age >= self.reach.rest {
                continue;
            }
            let weights = &mut line[panel.columns.clone()];
            let piece = place * width..(place + 1) * width;
            let first = (&mut first.0[piece.clone()], &mut first.1[piece.clone()]);
            let second = (&mut second.0[piece.clone()], &mut second.1[piece]);
            let factors = self.factors(row);
            if touched {
                let gradient = &mut room[..width];
                panel.sum(row, weights, gradient);
                factors.update(weights, [first, second], gradient);
            } else {
                factors.coast(weights, [first, second]);
            }
        }
    }

    #[inline(always)]
    fn factors(&self, row: usize) -> Factors {
        Factors {
            options: self.options,
            decay: self.decays[row],
            scale: self.scale,
        }
    }
}

/// What one row's step multiplies by.
#[derive(Debug, Clone, Copy)]
struct Factors {
    options: AdamStep,
    decay: [f32; 2],
    scale: [f32; 2],
}

impl Factors {
    #[inline(always)]
    fn update(self, weights: &mut [f32], [first, second]: [Short<'_>; 2], gradient: &[f32]) {
        let (mut m, mut v) = ([0.0; PANEL], [0.0; PANEL]);
        let (m, v) = (&mut m[..weights.len()], &mut v[..weights.len()]);
        signed((first.0, first.1), m);
        unsigned((second.0, second.1), v);
        let Self {
            options,
            decay: [decay1, decay2],
            scale: [rate, scale],
        } = self;
        let (new1, new2) = (1.0 - options.beta1, 1.0 - options.beta2);
        let moments = m.iter_mut().zip(v.iter_mut());
        for ((weight, (m, v)), g) in weights.iter_mut().zip(moments).zip(gradient) {
            let g = g * options.gradient_scale;
            *m = decay1 * *m + new1 * g;
            *v = decay2 * *v + new2 * g * g;
            *weight -= rate * *m / ((*v * scale).sqrt() + options.epsilon);
        }
        set_signed(first, m);
        set_unsigned(second, v);
    }

    #[inline(always)]
    fn coast(self, weights: &mut [f32], [first, second]: [Short<'_>; 2]) {
        let (mut m, mut v) = ([0.0; PANEL], [0.0; PANEL]);
        let (m, v) = (&mut m[..weights.len()], &mut v[..weights.len()]);
        signed((first.0, first.1), m);
        unsigned((second.0, second.1), v);
        let Self {
            options,
            decay: [decay1, decay2],
            scale: [rate, scale],
        } = self;
        for ((weight, m), v) in weights.iter_mut().zip(m).zip(v) {
            *weight -= rate * (decay1 * *m) / ((decay2 * *v * scale).sqrt() + options.epsilon);
        }
    }
}
