//! Joins token tables into one on stdout: what the tests of `-` run, and how reading and writing look.
//!
//! ```text
//! tokens acts/tokens.parquet - < more.parquet > all.parquet
//! ```

use std::path::{Path, PathBuf};
use store::tables::Token;
use store::{Provenance, read_table, write_table};

fn main() -> store::Result<()> {
    let inputs: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let rows: Vec<Token> = read_table(&inputs)?;
    let provenance = Provenance::new("tokens", &())?.inputs(&inputs)?;
    write_table(Path::new("-"), &rows, &provenance)
}
