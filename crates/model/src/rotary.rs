//! Where tokens stand: the rotation that each position gets.

use crate::config::Rotation;
use crate::ops::Rope;
use crate::{Batch, Config, Error, Result};
use candle_core::{DType, Device};

/// Longest sequence for which tables are made up front; those of longer ones are made for each pass.
const MAX_TABLE: usize = 1 << 15;

/// The rotations of a model.
#[derive(Debug, Clone)]
pub(crate) struct Rotary {
    tables: Tables,
    /// Longest sequence whose tokens the tables hold.
    positions: usize,
    dtype: DType,
    device: Device,
}

/// Cosines and sines for blocks that see everything, and for windowed ones where they have their own.
#[derive(Debug, Clone)]
struct Tables {
    all: Rope,
    windowed: Option<Rope>,
}

/// The rotations of the tokens of one pass.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    tables: Tables,
    /// `[batch * seq]`: every token's row of the tables.
    pub(crate) rows: Vec<u32>,
}

impl Placed {
    /// The tables of a block.
    pub(crate) fn rope(&self, windowed: bool) -> &Rope {
        match &self.tables.windowed {
            Some(own) if windowed => own,
            _ => &self.tables.all,
        }
    }

    /// The same for the positions from `tail` on of every one of `batch` rows.
    pub(crate) fn behind(&self, batch: usize, tail: usize) -> Self {
        let seq = self.rows.len() / batch.max(1);
        let rows = self.rows.chunks(seq.max(1)).flat_map(|row| &row[tail..]);
        Self {
            tables: self.tables.clone(),
            rows: rows.copied().collect(),
        }
    }
}

impl Rotary {
    pub(crate) fn new(config: &Config, dtype: DType, device: &Device) -> Result<Self> {
        let limit = config.rotation_changes_after().unwrap_or(usize::MAX);
        let positions = config.max_positions.min(MAX_TABLE).min(limit);
        let table = |rotation: &Rotation| {
            Rope::new((0..positions).map(|p| (p as u32, rotation)), dtype, device)
        };
        let tables = Tables {
            all: table(&config.rotation(positions))?,
            windowed: config.local_rotation().as_ref().map(table).transpose()?,
        };
        Ok(Self {
            tables,
            positions,
            dtype,
            device: device.clone(),
        })
    }

    /// The rotations of a batch whose first position is number `offset` in its rows.
    ///
    /// Where the rotation depends on the length of a sequence (`dynamic`, `longrope`), every row counts by itself: what
    /// stands beside it changes nothing.
    pub(crate) fn place(&self, config: &Config, batch: &Batch, offset: usize) -> Result<Placed> {
        let lengths: Vec<usize> = (0..batch.batch)
            .map(|row| (offset + batch.ends[row]).saturating_sub(batch.starts[row]))
            .collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if let Some(limit) = config.position_limit().filter(|limit| longest > *limit) {
            return Err(Error::Argument(format!(
                "{longest} positions are more than the model's {limit}"
            )));
        }
        let rows = positions(batch, offset);
        if longest <= self.positions && rows.iter().all(|row| (*row as usize) < self.positions) {
            let tables = self.tables.clone();
            return Ok(Placed { tables, rows });
        }
        self.placed_apart(config, &rows, &lengths)
    }

    /// Tables with one row for every token.
    fn placed_apart(
        &self,
        config: &Config,
        positions: &[u32],
        lengths: &[usize],
    ) -> Result<Placed> {
        let seq = positions.len() / lengths.len();
        let rotations: Vec<Rotation> = lengths.iter().map(|n| config.rotation(*n)).collect();
        let tokens = positions.iter().enumerate();
        let own = tokens.map(|(token, p)| (*p, &rotations[token / seq]));
        let all = Rope::new(own, self.dtype, &self.device)?;
        let local = config.local_rotation();
        let windowed = local.as_ref().map(|local| {
            let tokens = positions.iter().map(|p| (*p, local));
            Rope::new(tokens, self.dtype, &self.device)
        });
        let windowed = windowed.transpose()?;
        let tables = Tables { all, windowed };
        let rows = (0..positions.len() as u32).collect();
        Ok(Placed { tables, rows })
    }
}

/// Position of every token in its own sequence, from 0; padding counts as position 0.
fn positions(batch: &Batch, offset: usize) -> Vec<u32> {
    let row = |start: usize| (0..batch.seq).map(move |i| (offset + i).saturating_sub(start) as u32);
    batch.starts.iter().flat_map(|&start| row(start)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Turn, rope};
    use candle_core::Tensor;
    use std::path::Path;

    fn config(name: &str) -> Config {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        Config::load(&golden.join(name)).unwrap()
    }

    fn rotary(config: &Config) -> Rotary {
        Rotary::new(config, DType::F64, &Device::Cpu).unwrap()
    }

    /// What a row of ones becomes at every token, in blocks with and without a window.
    fn turned(config: &Config, placed: &Placed) -> Vec<Vec<f64>> {
        let shape = (placed.rows.len(), 1, config.d_head);
        let ones = Tensor::ones(shape, DType::F64, &Device::Cpu).unwrap();
        let turned = [false, true].map(|windowed| {
            let y = rope(&ones, &placed.rows, placed.rope(windowed), Turn::Forward).unwrap();
            y.flatten_all().unwrap().to_vec1().unwrap()
        });
        turned.into()
    }

    #[test]
    fn tables_made_for_a_pass_turn_as_those_made_up_front() {
        for name in ["llama3", "gemma3", "olmo3", "phi3-longrope", "llama-yarn"] {
            let config = config(name);
            let rotary = rotary(&config);
            let batch = Batch::left_padded(&[vec![0; 9], vec![0; 4]], 0);
            let placed = rotary.place(&config, &batch, 3).unwrap();
            let apart = rotary
                .placed_apart(&config, &placed.rows, &[12, 7])
                .unwrap();
            assert_ne!(placed.rows, apart.rows);
            assert_eq!(turned(&config, &placed), turned(&config, &apart), "{name}");
        }
    }

    #[test]
    fn a_row_is_rotated_by_its_own_length() {
        for name in ["phi3-longrope", "llama-dynamic"] {
            let config = config(name);
            let rotary = rotary(&config);
            let of = |rows: &[Vec<u32>]| {
                let placed = rotary
                    .place(&config, &Batch::right_padded(rows, 0), 0)
                    .unwrap();
                turned(&config, &placed)
            };
            let (long, short) = (vec![0; 20], vec![0; 6]);
            let both = of(&[long.clone(), short.clone()]);
            let (long, short) = (of(&[long]), of(&[short]));
            assert_eq!(both[0][..long[0].len()], long[0], "{name}");
            assert_eq!(
                both[0][long[0].len()..][..short[0].len()],
                short[0],
                "{name}"
            );
            assert_ne!(
                long[0][..short[0].len()],
                short[0],
                "{name}: the length changes nothing"
            );
        }
    }

    #[test]
    fn only_rotation_that_stretches_goes_beyond_the_models_positions() {
        let place = |name: &str, length: usize| {
            let config = config(name);
            let batch = Batch::right_padded(&[vec![0; length]], 0);
            rotary(&config)
                .place(&config, &batch, 0)
                .map(|placed| placed.rows.len())
        };
        assert_eq!(place("llama-dynamic", 300).unwrap(), 300);
        assert_eq!(place("phi3-longrope", 64).unwrap(), 64);
        let error = place("phi3-longrope", 65).unwrap_err().to_string();
        assert_eq!(error, "65 positions are more than the model's 64");
    }
}
