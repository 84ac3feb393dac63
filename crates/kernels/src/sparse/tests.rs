//! Sparse products and updates against their definitions.

use super::*;
use crate::adam::{AdamStep, adam};
use proptest::prelude::*;

fn value(i: usize) -> f32 {
    ((i as u32).wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5
}

fn panels(rows: usize, columns: usize, seed: usize) -> (Vec<f32>, Panels) {
    let values: Vec<f32> = (0..rows * columns).map(|i| value(i + seed)).collect();
    let mut panels = Panels::default();
    panels.fill(&values, rows, columns, columns);
    (values, panels)
}

proptest! {
    #[test]
    fn gathering_is_the_transposed_product(rows in 1usize..9, columns in 1usize..7, width in 1usize..200, kept in prop::collection::vec(any::<bool>(), 64)) {
        let (source, source_panels) = panels(rows, width, 3);
        let (mut starts, mut entry_rows, mut values) = (vec![0], Vec::new(), Vec::new());
        for column in 0..columns {
            for row in (0..rows).filter(|row| kept[(row * 7 + column) % 64]) {
                entry_rows.push(row as u32);
                values.push(value(row * columns + column + 999));
            }
            starts.push(values.len());
        }
        let entries = Sparse { starts: &starts, rows: &entry_rows, values: &values };
        let mut out = Panels::zeros(columns, width);
        let square = gather(&mut out, entries, &source_panels, &vec![true; columns], false);
        let mut wanted_square = 0.0;
        for column in 0..columns {
            let mut wanted = vec![0.0; width];
            for entry in starts[column]..starts[column + 1] {
                let row = entry_rows[entry] as usize;
                wanted.iter_mut().zip(&source[row * width..]).for_each(|(sum, x)| *sum += values[entry] * x);
            }
            prop_assert_eq!(out.row(column), wanted.clone());
            wanted_square += wanted.iter().map(|x| f64::from(x * x)).sum::<f64>();
        }
        prop_assert!((square - wanted_square).abs() < 1e-5 * (1.0 + wanted_square));
        let counted = out.sum_of_squares(&vec![true; columns]);
        prop_assert!((counted - wanted_square).abs() < 1e-5 * (1.0 + wanted_square));
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

#[test]
fn panels_hold_the_rows_they_were_given() {
    let (values, mut panels) = panels(3, 150, 0);
    assert_eq!(panels.row(1), values[150..300]);
    panels.change_rows(&[false, true, true], |number, row| row[149] = number as f32);
    assert_eq!((panels.row(0)[149], panels.row(2)[149]), (values[149], 2.0));
}

#[test]
fn parts_of_rows_are_added_and_cleared() {
    let (values, mut panels) = panels(2, 100, 0);
    let ones = vec![1.0; 200];
    panels.add_rows(&ones, &[0..70, 70..100], &[true, false], |row, part| {
        (10 * row + part + 1) as f32
    });
    assert_eq!(
        [panels.row(0)[69], panels.row(0)[70]],
        [values[69] + 1.0, values[70] + 2.0]
    );
    assert_eq!(panels.row(1), values[100..]);
    panels.keep_columns(&(60..71));
    let kept: Vec<bool> = panels.row(1).iter().map(|x| *x != 0.0).collect();
    assert!(
        kept.iter()
            .enumerate()
            .all(|(column, kept)| *kept
                == ((60..71).contains(&column) && values[100 + column] != 0.0))
    );
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one run, dense and sparse side by side"
)]
fn rows_without_a_gradient_move_as_a_dense_update_moves_them() {
    const COLUMNS: usize = 70;
    const ROWS: usize = 5;
    let start: Vec<f32> = (0..ROWS * COLUMNS).map(value).collect();
    let mut dense = [
        start.clone(),
        vec![0.0; start.len()],
        vec![0.0; start.len()],
    ];
    let mut sparse = dense.clone();
    let mut ages = [0u32; ROWS];
    for step in 1..=900u32 {
        // Row 0 always, row 1 every third step, row 2 until step 20, row 3 at steps 5 and 700, row 4 never.
        let touched = [
            true,
            step % 3 == 0,
            step < 20,
            step == 5 || step == 700,
            false,
        ];
        let mut gradient: Vec<f32> = (0..start.len())
            .map(|i| value(i + 77 * step as usize))
            .collect();
        for (row, gradient) in gradient.chunks_mut(COLUMNS).enumerate() {
            if !touched[row] {
                gradient.fill(0.0);
            }
        }
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
        adam(w, m, v, &gradient, options);
        let mut panels = Panels::default();
        panels.fill(&gradient, ROWS, COLUMNS, COLUMNS);
        let [w, m, v] = &mut sparse;
        let reach = Reach {
            touched: &touched,
            ages: &ages,
            rest: 192,
        };
        adam_rows([w, m, v], &panels, reach, options);
        for (age, touched) in ages.iter_mut().zip(touched) {
            *age = if touched { 0 } else { *age + 1 };
        }
        for (place, (a, b)) in sparse[0].iter().zip(&dense[0]).enumerate() {
            assert!(
                (a - b).abs() < 1e-6,
                "step {step}, row {}: {a}, not {b}",
                place / COLUMNS
            );
        }
    }
    assert!(
        ages[2] > 192 && ages[3] > 192,
        "the test should cover rows at rest"
    );
}
