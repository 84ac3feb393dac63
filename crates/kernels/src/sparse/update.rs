//! One step of Adam on the rows that sparse codes touch.

use super::PANEL;
use super::gradient::{Gradient, Panel, ROWS};
use super::moments::{Moments, Short, set_signed, set_unsigned, signed, unsigned};
use crate::adam::AdamStep;
use crate::vector::{Body, vectorised};
use rayon::prelude::*;

/// Rows ahead of which weights are asked for.
const AHEAD: usize = 6;
/// Values of a line of the cache.
const LINE: usize = 16;

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
            vectorised(Block {
                step: &step,
                panel,
                first_row: block * ROWS,
                weights,
                columns,
                moments,
            });
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

    #[inline(always)]
    fn factors(&self, row: usize) -> Factors {
        Factors {
            options: self.options,
            decay: self.decays[row],
            scale: self.scale,
        }
    }
}

/// The panel's columns of a block of rows.
struct Block<'a> {
    step: &'a Step<'a>,
    panel: &'a Panel<'a>,
    first_row: usize,
    /// `[rows, columns]`.
    weights: &'a mut [f32],
    columns: usize,
    /// `[rows, width]` each.
    moments: [Short<'a>; 2],
}

impl Body for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (width, start) = (self.panel.columns.len(), self.panel.columns.start);
        let [first, second] = self.moments;
        let mut room = [0.0; PANEL];
        for place in 0..self.weights.len() / self.columns {
            let row = self.first_row + place;
            let (touched, age) = (self.panel.touches(row), self.step.reach.ages[row]);
            let later = (place + AHEAD) * self.columns + start;
            if let Some(later) = self.weights.get(later..later + width) {
                fetch(later);
            }
            if !touched && age >= self.step.reach.rest {
                continue;
            }
            let weights = &mut self.weights[place * self.columns + start..][..width];
            let piece = place * width..(place + 1) * width;
            let first = (&mut first.0[piece.clone()], &mut first.1[piece.clone()]);
            let second = (&mut second.0[piece.clone()], &mut second.1[piece]);
            let factors = self.step.factors(row);
            if touched {
                let gradient = &mut room[..width];
                self.panel.sum(row, weights, gradient);
                factors.update(weights, [first, second], gradient);
            } else {
                factors.coast(weights, [first, second]);
            }
        }
    }
}

/// Asks for values that are needed soon. Rows lie too far apart for the machine to guess.
#[inline(always)]
fn fetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(unsafe_code, reason = "there is no safe way to ask for memory")]
        // SAFETY: it reads nothing, and SSE is on every machine of this architecture.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
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
