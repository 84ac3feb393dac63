//! Sparse products and updates against their definitions.

use super::*;
use crate::adam::{AdamStep, adam};
use proptest::prelude::*;
use std::ops::Range;

fn value(i: usize) -> f32 {
    ((i as u32).wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5
}

/// A matrix row by row, of which nothing outside `reach` is seen.
struct Matrix {
    values: Vec<f32>,
    columns: usize,
    reach: Range<usize>,
}

impl Source for Matrix {
    fn n_rows(&self) -> usize {
        self.values.len() / self.columns
    }

    fn reaches(&self, columns: &Range<usize>) -> bool {
        columns.start < self.reach.end && self.reach.start < columns.end
    }

    fn copy(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        for (out, column) in out.iter_mut().zip(columns) {
            let seen = self.reach.contains(&column);
            *out = if seen {
                self.values[row * self.columns + column]
            } else {
                0.0
            };
        }
    }
}

/// Entries by column.
#[derive(Default)]
struct Entries {
    starts: Vec<usize>,
    rows: Vec<u32>,
    values: Vec<f32>,
}

impl Entries {
    fn new(rows: usize, columns: usize, kept: impl Fn(usize, usize) -> bool) -> Self {
        let mut entries = Self {
            starts: vec![0],
            ..Self::default()
        };
        for column in 0..columns {
            for row in (0..rows).filter(|&row| kept(row, column)) {
                entries.rows.push(row as u32);
                entries.values.push(value(row * columns + column + 999));
            }
            entries.starts.push(entries.values.len());
        }
        entries
    }

    fn sparse(&self) -> Sparse<'_> {
        Sparse {
            starts: &self.starts,
            rows: &self.rows,
            values: &self.values,
        }
    }
}

proptest! {
    #[test]
    fn a_gradient_is_the_sum_of_transposed_products(
        rows in 1usize..9, features in 1usize..7, width in 1usize..200,
        kept in prop::collection::vec(any::<bool>(), 64), cut in 0usize..200,
    ) {
        let matrix = |seed: usize, reach: Range<usize>| Matrix {
            values: (0..rows * width).map(|i| value(i + seed)).collect(),
            columns: width,
            reach,
        };
        let sources = [matrix(3, 0..width), matrix(70_000, cut.min(width)..width)];
        let all = [Entries::new(rows, features, |row, column| kept[(row * 7 + column) % 64]), Entries::new(rows, features, |row, column| kept[(row * 5 + column) % 64])];
        let touched: Vec<bool> = (0..features).map(|column| column != 2).collect();
        let weights: Vec<f32> = (0..features * width).map(|i| value(i + 55)).collect();
        let finish = |row: usize, columns: Range<usize>, weights: &[f32], out: &mut [f32]| {
            for ((out, weight), column) in out.iter_mut().zip(weights).zip(columns) {
                *out = if column == 70 { 0.0 } else { *out + row as f32 * weight };
            }
        };
        let gradient = Gradient {
            touched: &touched,
            columns: width,
            terms: all.iter().zip(&sources).map(|(entries, source)| Term { entries: entries.sparse(), source }).collect(),
            finish: Some(&finish),
        };
        let share: Vec<f32> = (0..features).map(|column| 1.0 / (1.0 + column as f32)).collect();
        let (found, mut square) = (gradient.to_rows(&weights), 0.0);
        for column in 0..features {
            let mut wanted = vec![0f32; width];
            for (entries, source) in all.iter().zip(&sources) {
                for entry in entries.starts[column]..entries.starts[column + 1] {
                    let mut row = vec![0.0; width];
                    source.copy(entries.rows[entry] as usize, 0..width, &mut row);
                    wanted.iter_mut().zip(row).for_each(|(sum, x)| *sum += entries.values[entry] * x);
                }
            }
            finish(column, 0..width, &weights[column * width..][..width], &mut wanted);
            if !touched[column] {
                wanted.fill(0.0);
            }
            prop_assert_eq!(&found[column * width..][..width], &wanted[..]);
            square += f64::from(share[column]) * wanted.iter().map(|x| f64::from(x * x)).sum::<f64>();
        }
        let counted = gradient.sum_of_squares(&weights, Some(&share));
        prop_assert!((counted - square).abs() < 1e-5 * (1.0 + square));
    }

    #[test]
    fn scanning_finds_what_a_filter_finds(n in 1usize..150, floor in -0.5f32..0.7) {
        let [product, bias, scale] = [1, 2, 3].map(|seed| (0..n).map(|i| value(i + 1000 * seed)).collect::<Vec<f32>>());
        let mut found = Vec::new();
        scan(&product, (&bias, &scale), floor, 40, &mut found);
        let wanted: Vec<(u32, f32)> = (0..n)
            .filter(|&i| (product[i] + bias[i]) * scale[i] >= floor)
            .map(|i| (40 + i as u32, product[i] + bias[i]))
            .collect();
        prop_assert_eq!(found, wanted);
    }
}

const COLUMNS: usize = 70;
const ROWS: usize = 5;
const STEPS: u32 = 900;

/// Row 0 always, row 1 every third step, row 2 until step 20, row 3 at steps 5 and 700, row 4 never.
fn touched(step: u32) -> [bool; ROWS] {
    [
        true,
        step.is_multiple_of(3),
        step < 20,
        step == 5 || step == 700,
        false,
    ]
}

/// One entry of value 1 for each row.
fn identity() -> Entries {
    Entries {
        starts: (0..=ROWS).collect(),
        rows: (0..ROWS as u32).collect(),
        values: vec![1.0; ROWS],
    }
}

/// Weights after every step of a dense update, and after one of the touched rows.
fn both_ways(mut compare: impl FnMut(u32, &[f32], &[f32])) {
    let mut dense: [Vec<f32>; 3] = [0; 3].map(|_| vec![0.0; ROWS * COLUMNS]);
    dense[0] = (0..ROWS * COLUMNS).map(value).collect();
    let (mut weights, mut moments) = (dense[0].clone(), Moments::zeros(ROWS, COLUMNS));
    let mut ages = [0u32; ROWS];
    let identity = identity();
    for step in 1..=STEPS {
        let touched = touched(step);
        let each = |i: usize| {
            if touched[i / COLUMNS] {
                value(i + 77 * step as usize)
            } else {
                0.0
            }
        };
        let rows = Matrix {
            values: (0..ROWS * COLUMNS).map(each).collect(),
            columns: COLUMNS,
            reach: 0..COLUMNS,
        };
        let options = AdamStep {
            step,
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            gradient_scale: 0.7,
        };
        let [w, m, v] = &mut dense;
        adam(w, m, v, &rows.values, options);
        let gradient = Gradient {
            touched: &touched,
            columns: COLUMNS,
            terms: vec![Term {
                entries: identity.sparse(),
                source: &rows,
            }],
            finish: None,
        };
        update(
            &mut weights,
            &mut moments,
            &gradient,
            Reach {
                ages: &ages,
                rest: 192,
            },
            options,
        );
        for (age, touched) in ages.iter_mut().zip(touched) {
            *age = if touched { 0 } else { *age + 1 };
        }
        compare(step, &weights, &dense[0]);
    }
    assert!(
        ages[2] > 192 && ages[3] > 192,
        "the test should cover rows at rest"
    );
}

#[test]
fn rows_without_a_gradient_move_as_a_dense_update_moves_them() {
    both_ways(|step, sparse, dense| {
        for (place, (a, b)) in sparse.iter().zip(dense).enumerate() {
            let row = place / COLUMNS;
            assert!((a - b).abs() < 1e-6, "step {step}, row {row}: {a}, not {b}");
        }
    });
}
