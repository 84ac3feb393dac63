//! Tiles against the definition, and machines with them against the twin. The loops run on the twin, on any machine.

use super::unit::Portable;
use super::*;
use crate::linear::Int8Matrix;
use crate::linear::tests::{bits, close, plain, values, wanted};
use half::bf16;
use proptest::prelude::*;

/// Rounding to `bf16` errs by at most u = 2⁻⁸: once on either side, and the sums in `f32`.
const ONE_PART: f64 = 2.0 * 3.91e-3 + 1e-4;
/// What is left of either side after two parts, and low·low: u² each, and the sums in `f32`.
pub(in crate::linear) const TWO_PARTS: f64 = 3.0 * 1.53e-5 + 1e-6;

fn product<U: Tiles, const X: usize>(
    unit: U,
    x: &[f32],
    width: usize,
    weight: Matrix<'_>,
    side: Side,
) -> Vec<f32> {
    let outputs = weight.len() / width;
    let mut y = vec![f32::NAN; x.len() / width * outputs];
    let layer = Layer { weight, bias: None };
    run::<U, X>(unit, &mut [&mut y], (x, width), &[layer], side);
    y
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn one_part_is_bf16_and_two_are_nearly_f32(
        tokens in 1usize..70, d_in in 1usize..140, d_out in 1usize..90, seed in 0u32..1000,
    ) {
        let f32 = values(d_in * d_out, seed);
        let bf16: Vec<bf16> = f32.iter().map(|value| bf16::from_f32(*value)).collect();
        let int8 = Int8Matrix::new(&f32, d_in);
        for side in [Side::Rows, Side::Columns] {
            let width = if side == Side::Rows { d_in } else { d_out };
            let x = values(tokens * width, seed + 1);
            for weight in [Matrix::F32(&f32), Matrix::Bf16(&bf16), int8.view()] {
                let exact = wanted(&x, &plain(weight, d_in), (d_in, d_out), side);
                close(&product::<_, 1>(Portable, &x, width, weight, side), &exact, ONE_PART)?;
                close(&product::<_, 2>(Portable, &x, width, weight, side), &exact, TWO_PARTS)?;
            }
        }
    }

    #[test]
    fn a_token_has_the_same_bits_alone_and_in_a_batch(
        tokens in 2usize..80, width in 1usize..140, outputs in 1usize..40, seed in 0u32..1000,
    ) {
        let (w, x) = (values(width * outputs, seed), values(tokens * width, seed + 1));
        let token = seed as usize % tokens;
        let of = |x: &[f32]| product::<_, 2>(Portable, x, width, Matrix::F32(&w), Side::Rows);
        let alone = of(&x[token * width..][..width]);
        prop_assert_eq!(bits(&of(&x)[token * outputs..][..outputs]), bits(&alone));
    }
}

#[test]
fn a_long_contraction_is_summed_chunk_by_chunk() {
    let width = CHUNK * DEPTH + 70;
    let (w, x) = (values(width * 40, 1), values(3 * width, 2));
    let exact = wanted(&x, &w, (width, 40), Side::Rows);
    let ours = product::<_, 2>(Portable, &x, width, Matrix::F32(&w), Side::Rows);
    close(&ours, &exact, TWO_PARTS).expect("the product by its definition");
    let rough = product::<_, 1>(Portable, &x, width, Matrix::F32(&w), Side::Rows);
    close(&rough, &exact, ONE_PART).expect("the product by its definition");
}

#[test]
fn factor_and_bias_come_after_the_last_chunk() {
    let (w, x) = (values(50 * 40, 1), values(3 * 50, 2));
    let (int8, bias) = (Int8Matrix::new(&w, 50), values(40, 3));
    let (mut with, mut without) = (vec![0.0; 120], vec![0.0; 120]);
    let (weight, unit) = (int8.view(), Portable);
    for (y, bias) in [(&mut with, Some(bias.as_slice())), (&mut without, None)] {
        let layer = Layer { weight, bias };
        run::<_, 1>(unit, &mut [y], (&x, 50), &[layer], Side::Rows);
    }
    for (i, (with, without)) in with.iter().zip(&without).enumerate() {
        assert_eq!(*with, without + bias[i % 40]);
    }
}

/// Every combination of parts on this machine's tiles: sums are those of the twin to the bit.
#[cfg(target_arch = "x86_64")]
#[test]
fn tiles_of_this_machine_are_their_twin() {
    let Some(amx) = amx::Amx::new() else {
        eprintln!("no matrix tiles on this machine: not compared");
        return;
    };
    for (width, outputs, tokens) in [
        (32, 32, 32),
        (70, 33, 5),
        (CHUNK * DEPTH + 40, 300, 1),
        (512, 64, 90),
    ] {
        let (w, x) = (values(width * outputs, 7), values(tokens * width, 8));
        let bf16: Vec<bf16> = w.iter().map(|value| bf16::from_f32(*value)).collect();
        for weight in [Matrix::F32(&w), Matrix::Bf16(&bf16)] {
            for side in [Side::Rows, Side::Columns] {
                let one = product::<_, 1>(amx, &x, width, weight, side);
                assert_eq!(
                    bits(&one),
                    bits(&product::<_, 1>(Portable, &x, width, weight, side))
                );
                let two = product::<_, 2>(amx, &x, width, weight, side);
                assert_eq!(
                    bits(&two),
                    bits(&product::<_, 2>(Portable, &x, width, weight, side))
                );
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn rows_are_turned_as_the_twin_turns_them() {
    if crate::isa::Isa::detected() < crate::isa::Isa::Avx512 {
        return;
    }
    let lines =
        std::array::from_fn(|i| std::array::from_fn(|j| bf16::from_bits((i * 100 + j) as u16)));
    let (mut ours, mut twin) = ([bf16::ZERO; 512], [bf16::ZERO; 512]);
    amx::turned(&lines, &mut ours);
    Portable.turn(&lines, &mut twin);
    assert_eq!(ours, twin);
}
