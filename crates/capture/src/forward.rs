//! One part of one model: batches through the blocks that are needed, kept positions out.

use crate::plan::{Piece, batches};
use model::{Batch, DType, Hook, Model, Recorder, Site, Tensor};

/// The rows of one hook, row-major `[n_rows, width]`.
pub type Rows = Vec<f32>;

/// Computes the rows of a part at every hook, or nothing when somebody asked to stop.
pub fn part(
    model: &Model,
    hooks: &[Hook],
    pieces: &[Piece],
    batch_tokens: usize,
    pad: u32,
) -> anyhow::Result<Option<Vec<Rows>>> {
    let n_rows: usize = pieces.iter().map(|piece| piece.positions.len()).sum();
    let mut rows: Vec<Rows> = hooks
        .iter()
        .map(|&hook| vec![0.0; n_rows * width(model, hook)])
        .collect();
    for batch in batches(pieces, batch_tokens) {
        if cli::stop_requested() {
            return Ok(None);
        }
        let pieces: Vec<&Piece> = batch.iter().map(|&piece| &pieces[piece]).collect();
        let seen = run(model, hooks, &pieces, pad)?;
        for ((rows, activation), &hook) in rows.iter_mut().zip(&seen).zip(hooks) {
            scatter(rows, activation, &pieces, width(model, hook))?;
        }
    }
    Ok(Some(rows))
}

/// Values per row at a hook.
pub fn width(model: &Model, hook: Hook) -> usize {
    width_of(&model.config, hook)
}

/// The same, before the weights are read.
pub fn width_of(config: &model::Config, hook: Hook) -> usize {
    match hook.site {
        Site::Logits => config.vocab,
        Site::Z => config.n_heads * config.d_head,
        _ => config.d_model,
    }
}

/// One forward pass; the activation `[batch, seq, width]` of every hook.
fn run(model: &Model, hooks: &[Hook], pieces: &[&Piece], pad: u32) -> anyhow::Result<Vec<Tensor>> {
    let sequences: Vec<Vec<u32>> = pieces.iter().map(|p| p.token_ids.to_vec()).collect();
    let mut recorder = Recorder::new(hooks.iter().copied());
    model.forward_until(
        &Batch::right_padded(&sequences, pad),
        last(hooks),
        &mut recorder,
    )?;
    let taken = hooks.iter().map(|hook| recorder.activations[hook].clone());
    Ok(taken.collect())
}

/// The hook the forward pass meets last.
pub fn last(hooks: &[Hook]) -> Hook {
    let order = |hook: &&Hook| (hook.site == Site::Logits, **hook);
    *hooks
        .iter()
        .max_by_key(order)
        .expect("a capture has at least one hook")
}

/// Copies the kept positions of `[batch, seq, width]` to their rows.
fn scatter(
    rows: &mut [f32],
    activation: &Tensor,
    pieces: &[&Piece],
    width: usize,
) -> anyhow::Result<()> {
    let (batch, seq, found) = activation.dims3()?;
    anyhow::ensure!(
        (batch, found) == (pieces.len(), width),
        "a hook gave {batch} sequences of width {found} instead of {} of width {width}",
        pieces.len()
    );
    let values = activation.to_dtype(DType::F32)?.flatten_all()?;
    let values = values.to_vec1::<f32>()?;
    for (sequence, piece) in pieces.iter().enumerate() {
        for (offset, &position) in piece.positions.iter().enumerate() {
            let from = (sequence * seq + position) * width;
            let to = (piece.row + offset) * width;
            rows[to..to + width].copy_from_slice(&values[from..from + width]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Device;

    #[test]
    fn the_last_hook_is_the_one_the_pass_meets_last() {
        let hook = |name| Hook::parse(name, 4).unwrap();
        let hooks = ["logits", "embed", "resid_post.2", "attn_out.2"].map(hook);
        assert_eq!(last(&hooks), hook("logits"));
        assert_eq!(last(&hooks[1..]), hook("resid_post.2"));
    }

    #[test]
    fn kept_positions_go_to_their_rows_and_padding_nowhere() {
        // Two sequences of three positions, two values each: value = 10·sequence + position (+ 0.5).
        let values: Vec<f32> = (0..2)
            .flat_map(|s| (0..3).flat_map(move |p| [0.0, 0.5].map(|v| (10 * s + p) as f32 + v)))
            .collect();
        let activation = Tensor::from_vec(values, (2, 3, 2), &Device::Cpu).unwrap();
        let pieces = [
            Piece {
                token_ids: &[1, 2, 3],
                positions: &[0, 2],
                row: 1,
            },
            Piece {
                token_ids: &[1, 2],
                positions: &[1],
                row: 0,
            },
        ];
        let mut rows = vec![0.0; 6];
        scatter(&mut rows, &activation, &pieces.each_ref(), 2).unwrap();
        assert_eq!(rows, [11.0, 11.5, 0.0, 0.5, 2.0, 2.5]);
    }
}
