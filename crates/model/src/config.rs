//! What a Hugging Face `config.json` says about an architecture, as data.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The architectures this crate computes: each is a setting of one transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Qwen2 and Qwen2.5: bias on q, k and v.
    Qwen2,
    /// Qwen3: RMS norm on every query and key head, no bias.
    Qwen3,
    /// Llama 2, 3.x and everything written in its layout.
    Llama,
    /// Mistral: Llama with a sliding window.
    Mistral,
}

/// Long-context rescaling of the rotary frequencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RopeScaling {
    /// `default`, `linear` or `llama3`.
    #[serde(alias = "type")]
    pub rope_type: String,
    /// Factor by which low frequencies are divided.
    #[serde(default = "one")]
    pub factor: f64,
    /// Wavelengths longer than the original context / this are fully rescaled (`llama3`).
    #[serde(default = "one")]
    pub low_freq_factor: f64,
    /// Wavelengths shorter than the original context / this are kept (`llama3`).
    #[serde(default = "one")]
    pub high_freq_factor: f64,
    /// Context length of pretraining in tokens (`llama3`).
    #[serde(default)]
    pub original_max_position_embeddings: usize,
}

fn one() -> f64 {
    1.0
}

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
    /// RMS norm on every query and key head.
    pub qk_norm: bool,
    /// Whether the unembedding is the embedding.
    pub tied: bool,
}

/// The keys of `config.json` that matter here.
#[derive(Debug, Deserialize)]
struct File {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeScaling>,
    /// Where transformers 5 keeps both of the above.
    rope_parameters: Option<RopeParameters>,
    max_position_embeddings: usize,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    layer_types: Option<Vec<String>>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    #[serde(flatten)]
    scaling: RopeScaling,
}

impl Config {
    /// Reads `config.json` of a model directory.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let file: File = serde_json::from_str(&text).map_err(|e| Error::invalid(&path, e))?;
        let config = Self::from_file(file).map_err(|cause| Error::invalid(&path, cause))?;
        config
            .check()
            .map_err(|cause| Error::invalid(&path, cause))?;
        Ok(config)
    }

    fn from_file(mut file: File) -> std::result::Result<Self, String> {
        let architecture = match file.model_type.as_str() {
            "qwen2" => Architecture::Qwen2,
            "qwen3" => Architecture::Qwen3,
            "llama" => Architecture::Llama,
            "mistral" => Architecture::Mistral,
            other => {
                return Err(format!(
                    "unknown architecture `{other}` (known: qwen2, qwen3, llama, mistral)"
                ));
            }
        };
        if let Some(act) = file.hidden_act.as_deref().filter(|act| *act != "silu") {
            return Err(format!("unknown activation `{act}` (known: silu)"));
        }
        let rope = file.rope_parameters.take();
        let rope_theta = file
            .rope_theta
            .or(rope.as_ref().and_then(|r| r.rope_theta))
            .unwrap_or(10_000.0);
        let rope_scaling = file.rope_scaling.take().or(rope.map(|r| r.scaling));
        let bias = file.attention_bias.unwrap_or(false);
        Ok(Self {
            architecture,
            windows: windows(&file, architecture),
            vocab: file.vocab_size,
            d_model: file.hidden_size,
            n_layers: file.num_hidden_layers,
            n_heads: file.num_attention_heads,
            n_kv_heads: file.num_key_value_heads.unwrap_or(file.num_attention_heads),
            d_head: file
                .head_dim
                .unwrap_or(file.hidden_size / file.num_attention_heads.max(1)),
            d_mlp: file.intermediate_size,
            rms_norm_eps: file.rms_norm_eps,
            rope_theta,
            rope_scaling: rope_scaling.filter(|scaling| scaling.rope_type != "default"),
            max_positions: file.max_position_embeddings,
            qkv_bias: architecture == Architecture::Qwen2 || bias,
            output_bias: architecture != Architecture::Qwen2 && bias,
            mlp_bias: file.mlp_bias.unwrap_or(false),
            qk_norm: architecture == Architecture::Qwen3,
            tied: file.tie_word_embeddings.unwrap_or(false),
        })
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.n_heads == 0
            || self.n_kv_heads == 0
            || !self.n_heads.is_multiple_of(self.n_kv_heads)
        {
            return Err(format!(
                "{} query heads do not divide into {} key heads",
                self.n_heads, self.n_kv_heads
            ));
        }
        if !self.d_head.is_multiple_of(2) {
            return Err(format!(
                "a head width of {} cannot be rotated in pairs",
                self.d_head
            ));
        }
        match self
            .rope_scaling
            .as_ref()
            .map(|scaling| scaling.rope_type.as_str())
        {
            None | Some("linear" | "llama3") => Ok(()),
            Some(other) => Err(format!(
                "unknown rope scaling `{other}` (known: default, linear, llama3)"
            )),
        }
    }

    /// The same as a `config.json` that `transformers` reads.
    pub fn to_json(&self, bos: Option<u32>, eos: Option<u32>) -> serde_json::Value {
        let class = match self.architecture {
            Architecture::Qwen2 => "Qwen2ForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Mistral => "MistralForCausalLM",
        };
        serde_json::json!({
            "architectures": [class],
            "model_type": self.architecture,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "vocab_size": self.vocab,
            "hidden_size": self.d_model,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.d_head,
            "intermediate_size": self.d_mlp,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling,
            "max_position_embeddings": self.max_positions,
            "sliding_window": self.windows.iter().flatten().next(),
            "use_sliding_window": self.windows.iter().any(Option::is_some),
            "attention_bias": self.qkv_bias && self.architecture != Architecture::Qwen2,
            "mlp_bias": self.mlp_bias,
            "tie_word_embeddings": self.tied,
            "torch_dtype": "float32",
        })
    }

    /// Inverse frequencies of the rotation, `[d_head / 2]`, rescaled as the configuration says.
    pub fn inverse_frequencies(&self) -> Vec<f64> {
        let half = self.d_head / 2;
        let plain = (0..half).map(|i| self.rope_theta.powf(-(2.0 * i as f64) / self.d_head as f64));
        match &self.rope_scaling {
            None => plain.collect(),
            Some(scaling) if scaling.rope_type == "linear" => {
                plain.map(|f| f / scaling.factor).collect()
            }
            Some(scaling) => plain.map(|f| scaling.llama3(f)).collect(),
        }
    }
}

impl RopeScaling {
    /// Keeps high frequencies, divides low ones, blends between (Llama 3.1).
    fn llama3(&self, frequency: f64) -> f64 {
        let context = self.original_max_position_embeddings as f64;
        let wavelength = std::f64::consts::TAU / frequency;
        if wavelength < context / self.high_freq_factor {
            frequency
        } else if wavelength > context / self.low_freq_factor {
            frequency / self.factor
        } else {
            let kept = (context / wavelength - self.low_freq_factor)
                / (self.high_freq_factor - self.low_freq_factor);
            (1.0 - kept) * frequency / self.factor + kept * frequency
        }
    }
}

/// The window of every layer: Qwen switches it by a flag and by layer, Mistral has it everywhere.
fn windows(file: &File, architecture: Architecture) -> Vec<Option<usize>> {
    let qwen = matches!(architecture, Architecture::Qwen2 | Architecture::Qwen3);
    let used = !qwen || file.use_sliding_window.unwrap_or(false);
    let window = file.sliding_window.filter(|_| used);
    match &file.layer_types {
        Some(kinds) if kinds.len() == file.num_hidden_layers => kinds
            .iter()
            .map(|kind| window.filter(|_| kind == "sliding_attention"))
            .collect(),
        _ => vec![window; file.num_hidden_layers],
    }
}
