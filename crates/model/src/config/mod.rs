//! What a Hugging Face `config.json` says about an architecture, as data.
//!
//! candle-transformers' own `Config` types leave out rope scaling, windows per block, biases and, for Qwen2, the head width;
//! so the file is read here.
//!
//! # Layout
//! - `architecture`: what each architecture does whatever its configuration says
//! - `file`: the keys of `config.json`, with the values `transformers` takes for those left out
//! - `rope`: the rotation of the heads, and its rescaling for long contexts
//! - `write`: back to a `config.json`

mod architecture;
mod file;
mod rope;
mod write;

pub(crate) use architecture::NormNames;
pub use architecture::{Activation, Architecture, Norms};
pub use rope::{RopeScaling, Rotation};

use crate::{Error, Result, hub};
use std::path::Path;

/// Everything the forward pass needs to know besides the weights.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in config.json"
)]
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which of the known layouts.
    pub architecture: Architecture,
    /// Tokens in the vocabulary (rows of the embedding).
    pub vocab: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Width of the MLP.
    pub d_mlp: usize,
    /// ε of every RMS norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Rescaling of the rotary frequencies.
    pub rope_scaling: Option<RopeScaling>,
    /// Longest sequence in tokens.
    pub max_positions: usize,
    /// Positions a query sees, its own included; all when absent. Per layer.
    pub windows: Vec<Option<usize>>,
    /// Bias on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the attention's output projection.
    pub output_bias: bool,
    /// Bias on the MLP's projections.
    pub mlp_bias: bool,
    /// RMS norm on queries and keys.
    pub qk_norm: bool,
    /// Whether the unembedding is the embedding.
    pub tied: bool,
    /// Where the blocks depart from Llama's.
    pub form: Form,
}

/// Where the blocks depart from Llama's; the default is Llama's own form.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Form {
    /// Where the norms of a block stand.
    pub norms: Norms,
    /// γ of every norm is 1 + weight.
    pub norm_offset: bool,
    /// The norm on queries and keys is over all heads together.
    pub qk_norm_whole: bool,
    /// The file stores q, k, v as one tensor, and gate, up as another.
    pub fused: bool,
    /// The gate's nonlinearity.
    pub activation: Activation,
    /// Attention scores are divided by its square root; `d_head` when absent.
    pub query_scalar: Option<f64>,
    /// Attention scores s become cap·tanh(s/cap).
    pub attention_softcap: Option<f64>,
    /// Logits y become cap·tanh(y/cap).
    pub logit_softcap: Option<f64>,
    /// Factor on the embeddings.
    pub embedding_scale: Option<f64>,
    /// How many of a head's dimensions are rotated; all when absent.
    pub rotary_width: Option<usize>,
    /// Base of the windowed blocks' rotary frequencies, which are not rescaled; that of the others when absent.
    pub local_rope_theta: Option<f64>,
    /// Context of pretraining in tokens, where `longrope` changes its divisors.
    pub original_positions: Option<usize>,
}

impl Config {
    /// Reads `config.json` of a model directory, or of a Hub name ([`hub::directory`]).
    pub fn load(directory: &Path) -> Result<Self> {
        let directory = hub::directory(directory)?;
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let config = file::read(&text).map_err(|cause| Error::invalid(&path, cause))?;
        config
            .check()
            .map_err(|cause| Error::invalid(&path, cause))?;
        Ok(config)
    }

    /// Numbers in the matrices of the embeddings and of so many blocks.
    pub fn numbers(&self, blocks: usize) -> usize {
        let embeddings = self.vocab * if self.tied { 1 } else { 2 };
        let attention = 2 * (self.n_heads + self.n_kv_heads) * self.d_head;
        self.d_model * (embeddings + blocks * (attention + 3 * self.d_mlp))
    }

    /// Factor on the attention scores.
    pub fn attention_scale(&self) -> f64 {
        1.0 / self.form.query_scalar.unwrap_or(self.d_head as f64).sqrt()
    }

    fn check(&self) -> std::result::Result<(), String> {
        let sizes = [
            self.vocab,
            self.d_model,
            self.n_layers,
            self.d_head,
            self.d_mlp,
        ];
        if sizes.contains(&0) {
            return Err("a size is 0".into());
        }
        if self.n_heads == 0
            || self.n_kv_heads == 0
            || !self.n_heads.is_multiple_of(self.n_kv_heads)
        {
            return Err(format!(
                "{} query heads do not divide into {} key heads",
                self.n_heads, self.n_kv_heads
            ));
        }
        let width = self.rotary_width();
        if !width.is_multiple_of(2) || width == 0 || width > self.d_head {
            return Err(format!(
                "{width} dimensions of heads of width {} cannot be rotated in pairs",
                self.d_head
            ));
        }
        if self.windows.contains(&Some(0)) {
            return Err("a sliding window of 0 positions".into());
        }
        match &self.rope_scaling {
            Some(scaling) => scaling.check(width),
            None => Ok(()),
        }
    }
}
