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
