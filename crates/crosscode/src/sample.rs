//! What is decided before training from a sample of the rows: which tokens take part, what an outlying norm is, and the
//! normalisation.

use crate::args::NormalizeName;
use crate::source::Source;
use anyhow::ensure;
use dict::{Filter, Moments, Normalizer};

/// Rows of the sample, about: of stores, and of models that must compute them.
const ROWS: [usize; 2] = [65_536, 8192];

/// Rows that take part, and what is known of them.
#[derive(Debug, Clone)]
pub struct Sampled {
    /// Rows that the token filters leave, ascending; those of outlying norm are left out when they are read.
    pub rows: Vec<u32>,
    /// Largest norm of each model that is not outlying.
    pub limits: Vec<f64>,
    /// Rows before, left out as special tokens, and as the first of their document.
    pub counts: [usize; 3],
    tokens_known: bool,
    /// Means and variances of the sample.
    moments: Vec<Moments>,
    /// Mean norms of the sample.
    mean_norms: Vec<f64>,
}

impl Sampled {
    /// Decides on the tokens, and reads the sample: blocks spread evenly over the rows.
    pub fn new(source: &Source, filter: Filter) -> anyhow::Result<Self> {
        let (rows, counts, tokens_known) = by_token(source, filter)?;
        ensure!(
            !rows.is_empty(),
            "cannot train: every row is left out: {} special, {} at the beginning of their document",
            counts[1],
            counts[2]
        );
        let x = read_sample(source, &rows)?;
        let widths = source.widths();
        let norms: Vec<Vec<f64>> = x
            .iter()
            .zip(widths)
            .map(|(x, &width)| norms(x, width))
            .collect();
        let limit = |norms: &Vec<f64>| match filter.max_norm {
            max if max > 0.0 => max * median(norms.clone()),
            _ => f64::INFINITY,
        };
        let limits: Vec<f64> = norms.iter().map(limit).collect();
        let mut moments: Vec<Moments> = widths.iter().map(|&width| Moments::new(width)).collect();
        let mut sums = vec![0.0; widths.len()];
        let mut n = 0usize;
        for row in 0..norms[0].len() {
            if norms
                .iter()
                .zip(&limits)
                .any(|(norms, limit)| norms[row] > *limit)
            {
                continue;
            }
            n += 1;
            for (model, &width) in widths.iter().enumerate() {
                moments[model].add(&x[model][row * width..][..width]);
                sums[model] += norms[model][row];
            }
        }
        Ok(Self {
            rows,
            limits,
            counts,
            tokens_known,
            moments,
            mean_norms: sums.iter().map(|sum| sum / n.max(1) as f64).collect(),
        })
    }

    /// One normaliser per model.
    pub fn normalizers(&self, what: NormalizeName, size: f32) -> Vec<Normalizer> {
        let moments = self.moments.iter().zip(&self.mean_norms);
        moments
            .map(|(moments, &norm)| {
                let variance = moments.normalizer(size);
                match what {
                    NormalizeName::Variance => variance,
                    NormalizeName::Norm => Normalizer {
                        scale: (f64::from(size) / norm.max(f64::MIN_POSITIVE)) as f32,
                        ..Normalizer::identity(variance.mean.len())
                    },
                    NormalizeName::None => Normalizer::identity(variance.mean.len()),
                }
            })
            .collect()
    }

    /// Whether a row of every model is of ordinary norm.
    pub fn is_ordinary(&self, row: &[&[f32]]) -> bool {
        row.iter()
            .zip(&self.limits)
            .all(|(row, limit)| norm(row) <= *limit)
    }

    /// What the token filters leave out, in one sentence; norms are judged as rows are read.
    pub fn report(&self) -> String {
        let [before, special, first] = self.counts;
        let known = if self.tokens_known {
            ""
        } else {
            " (the file does not say which tokens are special)"
        };
        format!(
            "{} of {before} rows take part; left out: {special} special, {first} at the beginning{known}",
            self.rows.len()
        )
    }
}

/// Rows left by the token filters; rows before, special, first; whether the source knows its tokens.
fn by_token(source: &Source, filter: Filter) -> anyhow::Result<(Vec<u32>, [usize; 3], bool)> {
    let n_rows = source.n_rows();
    let Some(tokens) = source.tokens()? else {
        return Ok(((0..n_rows as u32).collect(), [n_rows, 0, 0], false));
    };
    let (mut rows, mut special, mut first) = (Vec::new(), 0, 0);
    for (row, token) in tokens.iter().enumerate() {
        if token.special && !filter.keep_special {
            special += 1;
        } else if token.pos < filter.skip_first {
            first += 1;
        } else {
            rows.push(row as u32);
        }
    }
    Ok((rows, [n_rows, special, first], true))
}

/// Activations of blocks spread over the rows: all of them where there are few.
fn read_sample(source: &Source, rows: &[u32]) -> anyhow::Result<Vec<Vec<f32>>> {
    let blocks = source.blocks(rows);
    let n_blocks = blocks.len() - 1;
    let wanted = match source {
        Source::Store(_) => ROWS[0],
        Source::Models(_) => ROWS[1],
    };
    let stride = (rows.len().div_ceil(wanted)).clamp(1, n_blocks);
    let mut x = vec![Vec::new(); source.labels().len()];
    for block in (0..n_blocks).step_by(stride) {
        source.append(&rows[blocks[block]..blocks[block + 1]], &mut x)?;
    }
    Ok(x)
}

/// ‖x‖₂, summed in lanes: one sum after the other would keep the reader waiting for each addition.
fn norm(row: &[f32]) -> f64 {
    let (chunks, rest) = row.as_chunks::<16>();
    let mut lanes = [0f64; 16];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    let rest: f64 = rest.iter().map(|&value| f64::from(value).powi(2)).sum();
    (lanes.iter().sum::<f64>() + rest).sqrt()
}

fn norms(x: &[f32], width: usize) -> Vec<f64> {
    x.chunks_exact(width).map(norm).collect()
}

/// The upper median.
fn median(mut values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}
