//! Softmax attention with grouped key/value heads: causal, sliding-window, left-padded, over a key/value cache.
//!
//! Scores are made for a few queries at a time and never kept; the reverse pass makes them again.
//!
//! In the forward pass a query's result has the same bits whatever stands beside it: sums over keys start at the first
//! real key of the sequence, not at the padding before it.

mod backward;
mod forward;
mod panels;

pub use backward::attention_backward;
pub use forward::attention;

/// Gradients by keys and values that several query heads share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyGradients {
    /// Summed over the query heads that share them, `n_kv_heads` of them.
    Summed,
    /// Every query head's own, `n_heads` of them.
    Apart,
}

/// Query rows whose scores are made together.
const BLOCK: usize = 64;

/// Shapes and masks of one attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention<'a> {
    /// Query positions per row of the batch.
    pub seq: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Key position of the first query: how many positions the cache held before.
    pub offset: usize,
    /// Positions for which keys and values have room, per row of the batch.
    pub capacity: usize,
    /// Factor on the scores, `1/√d_head` as a rule.
    pub scale: f32,
    /// A query sees the last `window` positions including its own; all when absent.
    pub window: Option<usize>,
    /// `[batch]`: first real key position of each row (left padding).
    pub starts: &'a [usize],
    /// Scores s become cap·tanh(s/cap) before the softmax (Gemma-2); in the forward pass alone.
    pub softcap: Option<f32>,
}

impl Attention<'_> {
    /// Key positions that query `i` of batch row `row` sees. A padding query sees itself, so that nothing divides by zero.
    fn seen(&self, row: usize, i: usize) -> std::ops::Range<usize> {
        let own = self.offset + i;
        let first = self
            .window
            .map_or(0, |window| (own + 1).saturating_sub(window));
        first.max(self.starts[row]).min(own)..own + 1
    }

    /// Key positions that some query of a block sees.
    fn seen_by_block(&self, row: usize, block: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let start = block
            .clone()
            .map(|i| self.seen(row, i).start)
            .min()
            .unwrap_or(0);
        start..self.offset + block.end
    }

    fn q_width(&self) -> usize {
        self.n_heads * self.d_head
    }

    fn kv_width(&self) -> usize {
        self.n_kv_heads * self.d_head
    }

    fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| {
                (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 16) as f32 / 32_768.0
                    - 1.0
            })
            .collect()
    }

    /// The definition, in f64.
    fn plain(q: &[f32], k: &[f32], v: &[f32], shape: Attention<'_>) -> Vec<f64> {
        let (d, qw, kw) = (shape.d_head, shape.q_width(), shape.kv_width());
        let batch = shape.starts.len();
        let mut z = vec![0.0; batch * shape.seq * qw];
        for row in 0..batch {
            for i in 0..shape.seq {
                for head in 0..shape.n_heads {
                    let key = |j: usize, c: usize| {
                        (row * shape.capacity + j) * kw + head / shape.group() * d + c
                    };
                    let query = |c: usize| (row * shape.seq + i) * qw + head * d + c;
                    let score = |j: usize| {
                        (0..d)
                            .map(|c| f64::from(q[query(c)]) * f64::from(k[key(j, c)]))
                            .sum::<f64>()
                            * f64::from(shape.scale)
                    };
                    let seen = shape.seen(row, i);
                    let total: f64 = seen.clone().map(|j| score(j).exp()).sum();
                    for j in seen {
                        for c in 0..d {
                            z[query(c)] += score(j).exp() / total * f64::from(v[key(j, c)]);
                        }
                    }
                }
            }
        }
        z
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_beside_longer_ones() {
        let (seq, pad, d_head, window) = (150, 37, 32, Some(70));
        for decoding in [false, true] {
            let (offset, queries) = if decoding { (seq - 1, 1) } else { (0, seq) };
            let shape = |starts, offset, seq, capacity| Attention {
                seq,
                n_heads: 4,
                n_kv_heads: 2,
                d_head,
                offset,
                capacity,
                scale: 0.3,
                window,
                starts,
                softcap: None,
            };
            let starts = [0, pad];
            let beside = shape(&starts, offset, queries, seq);
            let (q_width, kv_width) = (beside.q_width(), beside.kv_width());
            let (q, k, v) = (
                values(2 * queries * q_width, 1),
                values(2 * seq * kv_width, 2),
                values(2 * seq * kv_width, 3),
            );
            let mut z = vec![0.0; q.len()];
            attention(&mut z, &q, &k, &v, beside);
            // The second row again, by itself and without its padding.
            let skip = if decoding { 0 } else { pad };
            let alone = shape(
                &[0],
                offset - if decoding { pad } else { 0 },
                queries - skip,
                seq - pad,
            );
            let q = &q[(queries + skip) * q_width..];
            let (k, v) = (&k[(seq + pad) * kv_width..], &v[(seq + pad) * kv_width..]);
            let mut again = vec![0.0; q.len()];
            attention(&mut again, q, k, v, alone);
            assert_eq!(
                bits(&z[(queries + skip) * q_width..]),
                bits(&again),
                "{decoding}"
            );
        }
    }

    #[test]
    fn a_soft_cap_bounds_the_scores() {
        let shape = Attention {
            seq: 1,
            n_heads: 1,
            n_kv_heads: 1,
            d_head: 1,
            offset: 1,
            capacity: 2,
            scale: 1.0,
            window: None,
            starts: &[0],
            softcap: Some(2.0),
        };
        let mut z = [0.0];
        attention(&mut z, &[3.0], &[1.0, -1.0], &[1.0, 0.0], shape);
        let (a, b) = ((2.0 * 1.5f64.tanh()).exp(), (-2.0 * 1.5f64.tanh()).exp());
        assert!((f64::from(z[0]) - a / (a + b)).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn the_twin_gives_the_same_bits(seq in 1usize..40, group in 1usize..8, pad in 0usize..3, window in 0usize..30, lines in 1usize..6) {
            let starts = [pad.min(seq - 1), 0];
            let shape = Attention {
                seq, n_heads: group * 2, n_kv_heads: 2, d_head: lines * 16, offset: 0, capacity: seq, scale: 0.2,
                window: (window > 0).then_some(window), starts: &starts, softcap: (window > 20).then_some(5.0),
            };
            let q = values(2 * seq * shape.q_width(), 1);
            let (k, v) = (values(2 * seq * shape.kv_width(), 2), values(2 * seq * shape.kv_width(), 3));
            let (mut ours, mut twin) = (vec![0.0; q.len()], vec![0.0; q.len()]);
            attention(&mut ours, &q, &k, &v, shape);
            forward::run(crate::linear::unit::Portable, &mut twin, (&q, &k, &v), shape);
            prop_assert_eq!(bits(&ours), bits(&twin));
        }

        #[test]
        fn the_twin_gives_the_same_gradients(seq in 1usize..140, group in 1usize..4, offset in 0usize..70, window in 0usize..90, d_head in 1usize..80) {
            let starts = [offset.min(2), 0];
            let shape = Attention {
                seq, n_heads: group * 2, n_kv_heads: 2, d_head, offset, capacity: offset + seq, scale: 0.2,
                window: (window > 20).then_some(window), starts: &starts, softcap: None,
            };
            let (q, dz) = (values(2 * seq * shape.q_width(), 1), values(2 * seq * shape.q_width(), 4));
            let (k, v) = (values(2 * shape.capacity * shape.kv_width(), 2), values(2 * shape.capacity * shape.kv_width(), 3));
            let ours = attention_backward(&dz, (&q, &k, &v), shape, KeyGradients::Summed);
            let twin = backward::run(crate::linear::unit::Portable, &dz, (&q, &k, &v), shape, KeyGradients::Summed);
            prop_assert_eq!(bits(&ours.0), bits(&twin.0));
            prop_assert_eq!(bits(&ours.1), bits(&twin.1));
            prop_assert_eq!(bits(&ours.2), bits(&twin.2));
        }

        #[test]
        fn attention_is_its_definition(seq in 1usize..90, group in 1usize..4, kv in 1usize..3, pad in 0usize..3, window in 0usize..9, offset in 0usize..5) {
            let starts = [0, pad.min(offset + seq - 1)];
            let shape = Attention {
                seq, n_heads: group * kv, n_kv_heads: kv, d_head: 6, offset, capacity: offset + seq + 2, scale: 0.4,
                window: (window > 0).then_some(window), starts: &starts, softcap: None,
            };
            let q = values(2 * seq * shape.q_width(), 1);
            let (k, v) = (values(2 * shape.capacity * shape.kv_width(), 2), values(2 * shape.capacity * shape.kv_width(), 3));
            let mut z = vec![0.0; q.len()];
            attention(&mut z, &q, &k, &v, shape);
            for (ours, wanted) in z.iter().zip(plain(&q, &k, &v, shape)) {
                prop_assert!((f64::from(*ours) - wanted).abs() < 1e-5);
            }
        }

        #[test]
        fn the_gradients_are_the_slopes(seq in 1usize..140, group in 1usize..3, window in 0usize..90, offset in 0usize..9, probe in 0usize..1000) {
            let starts = [0, 1.min(seq - 1)];
            let keys = offset + seq;
            let shape = Attention {
                seq, n_heads: 2 * group, n_kv_heads: 2, d_head: 4, offset, capacity: keys, scale: 0.5,
                window: (window > 0).then_some(window), starts: &starts, softcap: None,
            };
            let inputs = [values(2 * seq * shape.q_width(), 1), values(2 * keys * shape.kv_width(), 2), values(2 * keys * shape.kv_width(), 3)];
            let dz = values(inputs[0].len(), 4);
            let all = (&inputs[0][..], &inputs[1][..], &inputs[2][..]);
            let (dq, dk, dv) = attention_backward(&dz, all, shape, KeyGradients::Summed);
            let apart = attention_backward(&dz, all, shape, KeyGradients::Apart);
            prop_assert_eq!(&apart.0, &dq);
            for (sums, apart) in [(&dk, &apart.1), (&dv, &apart.2)] {
                let groups = apart.chunks(group * shape.d_head).zip(sums.chunks(shape.d_head));
                for (members, sums) in groups {
                    for (column, sum) in sums.iter().enumerate() {
                        let total: f32 = members.iter().skip(column).step_by(shape.d_head).sum();
                        prop_assert!((total - sum).abs() < 1e-4);
                    }
                }
            }
            for (which, gradient) in [dq, dk, dv].iter().enumerate() {
                let at = probe % gradient.len();
                let value = |h: f32| {
                    let mut moved = inputs.clone();
                    moved[which][at] += h;
                    let z = plain(&moved[0], &moved[1], &moved[2], shape);
                    z.iter().zip(&dz).map(|(z, d)| z * f64::from(*d)).sum::<f64>()
                };
                let slope = (value(1e-2) - value(-1e-2)) / 2e-2;
                prop_assert!((slope - f64::from(gradient[at])).abs() < 2e-3, "{which}: {slope} {}", gradient[at]);
            }
        }
    }
}
