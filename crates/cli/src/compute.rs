//! Where and how models are computed, as flags.

use serde::Serialize;

/// Flags of programs that run models: `#[command(flatten)] compute: cli::Compute`. What the names mean, `model::Place` knows.
///
/// They change results in the last digits, so they belong in a provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, clap::Args)]
pub struct Compute {
    /// Where models are computed: cpu, cuda, cuda:1, metal
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// How weights are kept in memory: stored (bf16 where the file holds that, which loses nothing) or int8 (a factor for each
    /// row; on the CPU, half the memory of bf16 and faster to read, logits a little different)
    #[arg(long, default_value = "stored", value_parser = ["stored", "int8"], hide_possible_values = true)]
    pub weights: String,
    /// What linear layers multiply on the CPU: f32, bf16x3 (as accurate, where the machine has units for it) or bf16 (rounded,
    /// summed in f32)
    #[arg(long, default_value = "f32", value_parser = ["f32", "bf16x3", "bf16"], hide_possible_values = true)]
    pub precision: String,
}
