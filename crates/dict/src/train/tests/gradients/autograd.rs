//! The gradients against autograd over dense tensors.

use super::{Case, D_TOTAL, N_FEATURES, N_ROWS, SHARE, WIDTHS, small};
use crate::train::parameters::Layout;
use crate::train::settings::Penalty;
use candle_core::{Device, Tensor, Var};

#[test]
fn gradients_agree_with_autograd_over_dense_tensors() -> candle_core::Result<()> {
    let case = Case {
        penalty: Some(Penalty::Linear),
        ..Case::default()
    };
    let (parameters, x) = small(&case);
    let mask = case
        .parts(&parameters, &x)
        .remove(0)
        .codes
        .to_dense(N_FEATURES);
    let mask: Vec<f32> = mask.iter().map(|&value| f32::from(value > 0.0)).collect();
    let gradients = case.by_hand(&parameters, &x);
    let device = Device::Cpu;
    let tensor = |values: &[f32], columns: usize| {
        Tensor::from_slice(values, (values.len() / columns, columns), &device)
    };
    let (x, mask) = (tensor(&x, D_TOTAL)?, tensor(&mask, N_FEATURES)?);
    let encoder = Var::from_tensor(&tensor(&parameters.encoder, D_TOTAL)?)?;
    let encoder_bias = Var::from_tensor(&tensor(&parameters.encoder_bias, N_FEATURES)?)?;
    let decoder = Var::from_tensor(&tensor(&parameters.decoder, D_TOTAL)?)?;
    let decoder_bias = Var::from_tensor(&tensor(&parameters.decoder_bias, D_TOTAL)?)?;
    let f = x
        .matmul(&encoder.t()?)?
        .broadcast_add(&encoder_bias)?
        .relu()?
        .mul(&mask)?;
    let error = (f.matmul(&decoder)?.broadcast_add(&decoder_bias)? - &x)?;
    let mut loss = Tensor::zeros((), candle_core::DType::F32, &device)?;
    for model in Layout::new(&WIDTHS).models {
        let norms = |rows: &Tensor| {
            rows.narrow(1, model.start, model.len())?
                .sqr()?
                .sum(1)?
                .sqrt()
        };
        loss = (loss + (norms(&error)?.sum_all()? / (N_ROWS * WIDTHS.len()) as f64)?)?;
        let sums = f.sum(0)?.mul(&norms(&decoder)?)?;
        loss = (loss + (sums.sum_all()? * f64::from(SHARE))?)?;
    }
    let store = loss.backward()?;
    let theirs = |var: &Var| store.get(var).unwrap().flatten_all()?.to_vec1::<f32>();
    let close = |name: &str, ours: &[f32], theirs: &[f32]| {
        let pairs = ours.iter().zip(theirs);
        pairs.for_each(|(a, b)| {
            assert!((a - b).abs() < 2e-6, "{name}: {a} by hand, {b} by autograd");
        });
    };
    close(
        "encoder bias",
        &gradients.encoder_bias,
        &theirs(&encoder_bias)?,
    );
    close(
        "decoder bias",
        &gradients.decoder_bias,
        &theirs(&decoder_bias)?,
    );
    close("encoder", &gradients.encoder, &theirs(&encoder)?);
    close("decoder", &gradients.decoder, &theirs(&decoder)?);
    Ok(())
}
