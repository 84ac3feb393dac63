//! Units against each other and against the definition.

use super::pack::Side;
use super::unit::Portable;
use super::*;
use proptest::prelude::*;

pub(super) fn values(n: usize, seed: u32) -> Vec<f32> {
    let mixed = |i: u32| {
        (i ^ (i >> 13))
            .wrapping_mul(2_654_435_761)
            .wrapping_add(seed.wrapping_mul(40_503))
    };
    (0..n as u32)
        .map(|i| (mixed(i.wrapping_mul(2_246_822_519)) >> 8) as f32 / 8_388_608.0 - 1.0)
        .collect()
}

/// A weight in each of its forms.
struct Forms {
    f32: Vec<f32>,
    bf16: Vec<bf16>,
    int8: Int8Matrix,
}

impl Forms {
    fn new(rows: usize, columns: usize, seed: u32) -> Self {
        let f32 = values(rows * columns, seed);
        let bf16 = f32.iter().map(|value| bf16::from_f32(*value)).collect();
        let int8 = Int8Matrix::new(&f32, columns);
        Self { f32, bf16, int8 }
    }

    fn views(&self) -> [Matrix<'_>; 3] {
        [
            Matrix::F32(&self.f32),
            Matrix::Bf16(&self.bf16),
            self.int8.view(),
        ]
    }
}

/// The weight's values, whatever it is stored as.
pub(super) fn plain(weight: Matrix<'_>, columns: usize) -> Vec<f32> {
    match weight {
        Matrix::F32(values) => values.to_vec(),
        Matrix::Bf16(values) => values.iter().map(|value| value.to_f32()).collect(),
        Matrix::Int8(values, scales) => values
            .iter()
            .enumerate()
            .map(|(i, value)| f32::from(*value) * scales[i / columns])
            .collect(),
    }
}

/// The definition, in f64: `(product, sum of absolute products)`, the second to measure errors by.
pub(super) fn wanted(
    x: &[f32],
    w: &[f32],
    (d_in, d_out): (usize, usize),
    side: Side,
) -> Vec<(f64, f64)> {
    let (width, outputs) = if side == Side::Rows {
        (d_in, d_out)
    } else {
        (d_out, d_in)
    };
    let at = |o: usize, i: usize| {
        if side == Side::Rows {
            w[o * d_in + i]
        } else {
            w[i * d_in + o]
        }
    };
    let value = |token: usize, o: usize| {
        let terms = (0..width).map(|i| f64::from(x[token * width + i]) * f64::from(at(o, i)));
        terms.fold((0.0, 0.0), |(sum, size), term| {
            (sum + term, size + term.abs())
        })
    };
    (0..x.len() / width * outputs)
        .map(|i| value(i / outputs, i % outputs))
        .collect()
}

fn by(
    precision: Precision,
    x: &[f32],
    (d_in, d_out): (usize, usize),
    weight: Matrix<'_>,
    side: Side,
) -> Vec<f32> {
    if side == Side::Rows {
        let mut y = vec![f32::NAN; x.len() / d_in * d_out];
        linear(
            &mut [&mut y],
            x,
            d_in,
            &[Layer { weight, bias: None }],
            precision,
        );
        y
    } else {
        let mut dx = vec![f32::NAN; x.len() / d_out * d_in];
        linear_backward(&mut dx, x, d_out, weight, precision);
        dx
    }
}

fn by_twin(x: &[f32], (d_in, d_out): (usize, usize), weight: Matrix<'_>, side: Side) -> Vec<f32> {
    let (width, outputs) = if side == Side::Rows {
        (d_in, d_out)
    } else {
        (d_out, d_in)
    };
    let mut y = vec![f32::NAN; x.len() / width * outputs];
    by_unit(
        Portable,
        &mut [&mut y],
        (x, width),
        &[Layer { weight, bias: None }],
        side,
    );
    y
}

pub(super) fn close(
    ours: &[f32],
    wanted: &[(f64, f64)],
    relative: f64,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.len(), wanted.len());
    for (ours, (exact, size)) in ours.iter().zip(wanted) {
        prop_assert!(
            (f64::from(*ours) - exact).abs() <= relative * size + 1e-30,
            "{} is not {}",
            ours,
            exact
        );
    }
    Ok(())
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_form_and_side_is_the_definition_and_its_twin_to_the_bit(
        tokens in 1usize..120, d_in in 1usize..90, d_out in 1usize..90, round in any::<bool>(), seed in 0u32..1000,
    ) {
        let (d_in, d_out) = if round { (d_in.div_ceil(32) * 32, d_out.div_ceil(32) * 32) } else { (d_in, d_out) };
        let forms = Forms::new(d_out, d_in, seed);
        for side in [Side::Rows, Side::Columns] {
            let x = values(tokens * if side == Side::Rows { d_in } else { d_out }, seed + 1);
            for weight in forms.views() {
                let ours = by(Precision::F32, &x, (d_in, d_out), weight, side);
                close(&ours, &wanted(&x, &plain(weight, d_in), (d_in, d_out), side), 1e-6)?;
                prop_assert_eq!(bits(&ours), bits(&by_twin(&x, (d_in, d_out), weight, side)));
                let three = by(Precision::Bf16x3, &x, (d_in, d_out), weight, side);
                close(&three, &wanted(&x, &plain(weight, d_in), (d_in, d_out), side), tiled::tests::TWO_PARTS)?;
                let rough = by(Precision::Bf16, &x, (d_in, d_out), weight, side);
                close(&rough, &wanted(&x, &plain(weight, d_in), (d_in, d_out), side), 8.1e-3)?;
            }
        }
    }

    #[test]
    fn bf16_products_of_bf16_numbers_are_exact_but_for_the_sum(
        tokens in 1usize..9, d_in in 1usize..200, d_out in 1usize..20, seed in 0u32..1000,
    ) {
        let forms = Forms::new(d_out, d_in, seed);
        let x: Vec<f32> = values(tokens * d_in, seed + 1).iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
        let ours = by(Precision::Bf16, &x, (d_in, d_out), Matrix::Bf16(&forms.bf16), Side::Rows);
        let exact = wanted(&x, &plain(Matrix::Bf16(&forms.bf16), d_in), (d_in, d_out), Side::Rows);
        close(&ours, &exact, 1e-6)?;
    }

    #[test]
    fn a_token_has_the_same_bits_alone_and_in_a_batch(
        tokens in 2usize..200, lines in 1usize..70, d_out in 1usize..40, seed in 0u32..1000,
    ) {
        let d_in = lines * 32;
        let forms = Forms::new(d_out, d_in, seed);
        let x = values(tokens * d_in, seed + 1);
        let token = seed as usize % tokens;
        for weight in forms.views() {
            for precision in [Precision::F32, Precision::Bf16x3, Precision::Bf16] {
                let together = by(precision, &x, (d_in, d_out), weight, Side::Rows);
                let alone = by(precision, &x[token * d_in..][..d_in], (d_in, d_out), weight, Side::Rows);
                prop_assert_eq!(bits(&together[token * d_out..][..d_out]), bits(&alone));
            }
        }
    }
}

#[test]
fn several_layers_of_one_input_are_each_of_them_with_its_bias() {
    let (x, a, b) = (values(5 * 64, 1), values(70 * 64, 2), values(8 * 64, 3));
    let (bias, mut ys) = (values(8, 4), [vec![0.0; 5 * 70], vec![0.0; 5 * 8]]);
    let layers = [
        Layer {
            weight: Matrix::F32(&a),
            bias: None,
        },
        Layer {
            weight: Matrix::F32(&b),
            bias: Some(&bias),
        },
    ];
    let [first, second] = &mut ys;
    linear(&mut [first, second], &x, 64, &layers, Precision::F32);
    assert_eq!(
        ys[0],
        by(Precision::F32, &x, (64, 70), Matrix::F32(&a), Side::Rows)
    );
    let without = by(Precision::F32, &x, (64, 8), Matrix::F32(&b), Side::Rows);
    for (i, (with, without)) in ys[1].iter().zip(&without).enumerate() {
        assert_eq!(*with, without + bias[i % 8]);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (x, w) = (values(100 * 96, 1), values(300 * 96, 2));
    let product = || by(Precision::F32, &x, (96, 300), Matrix::F32(&w), Side::Rows);
    let pool = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads start")
    };
    assert_eq!(
        bits(&pool(1).install(product)),
        bits(&pool(5).install(product))
    );
}

#[test]
fn integers_are_within_half_a_step() {
    let w = values(3 * 50, 7);
    let rounded = Int8Matrix::new(&w, 50);
    for row in 0..3 {
        let largest = w[row * 50..][..50].iter().fold(0f32, |a, b| a.max(b.abs()));
        for (ours, exact) in rounded.row(row).zip(&w[row * 50..]) {
            assert!((ours - exact).abs() <= largest / 127.0 * 0.501);
        }
    }
    assert_eq!(Int8Matrix::new(&[0.0; 4], 4).row(0).sum::<f32>(), 0.0);
    let short: Vec<bf16> = w.iter().map(|value| bf16::from_f32(*value)).collect();
    let long: Vec<f32> = short.iter().map(|value| value.to_f32()).collect();
    assert_eq!(Int8Matrix::of_bf16(&short, 50), Int8Matrix::new(&long, 50));
    assert_eq!((rounded.shape(), rounded.bytes()), ((3, 50), 150 + 12));
}

#[test]
#[ignore = "a measurement: cargo test --release -p kernels --lib twin -- --ignored --nocapture"]
fn speed_of_the_twin() {
    let w = values(4864 * 896, 2);
    let milliseconds = |product: &dyn Fn() -> Vec<f32>| {
        let start = std::time::Instant::now();
        std::hint::black_box(product());
        start.elapsed().as_secs_f64() * 1e3
    };
    for tokens in [1, 1, 128, 128] {
        let x = values(tokens * 896, 1);
        let (shape, weight) = ((896, 4864), Matrix::F32(&w));
        let twin = milliseconds(&|| by_twin(&x, shape, weight, Side::Rows));
        let unit = milliseconds(&|| by(Precision::F32, &x, shape, weight, Side::Rows));
        eprintln!("{tokens} tokens: twin {twin:.2} ms, unit {unit:.2} ms");
    }
}
