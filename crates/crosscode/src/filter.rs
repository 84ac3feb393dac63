//! The flags that leave rows out of training and evaluation.

use dict::Filter;
use serde::Serialize;

/// Which rows to leave out.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
pub struct FilterArgs {
    /// Keep special tokens (BOS, EOS, padding); by default they are left out
    #[arg(long)]
    pub keep_special: bool,
    /// Leave out the first N positions of every document [default: 0]
    #[arg(long, value_name = "N")]
    pub skip_first: Option<u32>,
    /// Leave out rows whose norm exceeds X times their model's median in any model; 0 keeps them
    #[arg(long, value_name = "X", default_value_t = 10.0)]
    pub max_norm: f64,
}

impl FilterArgs {
    /// The filter these flags mean, where `skip_first` positions are left out unless they say otherwise.
    pub fn filter(&self, skip_first: u32) -> Filter {
        Filter {
            keep_special: self.keep_special,
            skip_first: self.skip_first.unwrap_or(skip_first),
            max_norm: self.max_norm,
        }
    }
}
