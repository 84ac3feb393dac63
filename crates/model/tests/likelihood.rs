//! The loss that keeps no logits is the loss.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

use model::loss::Scored;
use model::{Batch, DType, Device, Model, Tensor};
use std::path::Path;

fn largest(difference: &Tensor) -> f64 {
    let values = difference
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap()
        .max(0)
        .unwrap();
    values.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

#[test]
fn loss_and_gradient_are_those_of_whole_logits() {
    for (name, dtype) in [
        ("qwen2", DType::F32),
        ("gemma2", DType::F64),
        ("gemma2", DType::F32),
    ] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(name);
        let model = Model::load(&directory, &Device::Cpu, dtype).unwrap();
        let row = |seed: u32| {
            (0..60)
                .map(|i| (i * i * 3 + i + seed) % 60)
                .collect::<Vec<u32>>()
        };
        let batch = Batch::right_padded(&[row(1), row(20), row(33)], 0);
        // More positions than one portion, not in order, with some left out.
        let scored: Vec<Scored> = (0..59)
            .rev()
            .flat_map(|position| [2, 0, 1].map(|row| (row, position)))
            .filter(|(row, position)| (row + position) % 7 != 0)
            .map(|(row, position)| Scored {
                row,
                position,
                token: batch.token_ids[row * 60 + position + 1],
                weight: 0.01 * (1 + position % 3) as f64,
            })
            .collect();
        assert!(scored.len() > 128);
        let (logits, trace) = model.forward_trace(&batch, &mut ()).unwrap();
        let whole = model::nll(&logits, &scored).unwrap();
        let wanted = model
            .backward(&trace, &whole.d_logits, &mut (), None)
            .unwrap();
        let ours = model.likelihood(&batch, &scored, &mut ()).unwrap();
        assert!(
            (ours.total - whole.total).abs() < 1e-5,
            "{} {}",
            ours.total,
            whole.total
        );
        for (ours, wanted) in ours.tokens.iter().zip(&whole.tokens) {
            assert!((ours - wanted).abs() < 1e-5);
        }
        let gradient = ours.backward(&model, &mut ()).unwrap();
        let error = largest(&(&gradient - &wanted).unwrap()) / largest(&wanted);
        assert!(error < 1e-5, "{name} {dtype:?}: {error}");
        let outside = Scored {
            row: 5,
            position: 0,
            token: 1,
            weight: 1.0,
        };
        assert!(model.likelihood(&batch, &[outside], &mut ()).is_err());
    }
}
