//! The architectures as data: what each does whatever its `config.json` says.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The architectures this crate computes: each is a setting of one transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Qwen2 and Qwen2.5: bias on q, k and v.
    Qwen2,
    /// Qwen3: RMS norm on every query and key head.
    Qwen3,
    /// Llama 2, 3.x and everything written in its layout.
    Llama,
    /// Mistral: Llama with a sliding window.
    Mistral,
    /// Gemma-2: norms around both sublayers, soft-capped scores and logits, every other block windowed.
    Gemma2,
    /// Gemma-3, the text half: norm on query and key heads, five windowed blocks to each full one.
    #[serde(rename = "gemma3_text")]
    Gemma3,
    /// Phi-3 and Phi-4-mini: q, k, v and gate, up stored as one tensor each, partial rotation.
    Phi3,
    /// OLMo-2: norms behind the sublayers only, and over all query or key heads together.
    Olmo2,
    /// OLMo-3: OLMo-2 with three windowed blocks to each full one.
    Olmo3,
}

/// Where a block's norms stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Norms {
    /// On what a sublayer reads.
    #[default]
    Before,
    /// On what a sublayer reads and on what it adds.
    Around,
    /// On what a sublayer adds.
    After,
}

/// What the norms of a block are called in a file, after `model.layers.N.`; none where there is no such norm.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NormNames<T = &'static str> {
    /// Of what attention reads.
    pub(crate) attention: Option<T>,
    /// Of what attention adds.
    pub(crate) attention_after: Option<T>,
    /// Of what the MLP reads.
    pub(crate) mlp: Option<T>,
    /// Of what the MLP adds.
    pub(crate) mlp_after: Option<T>,
}

impl<T> NormNames<T> {
    pub(crate) fn map<U>(self, to: impl Fn(T) -> U) -> NormNames<U> {
        NormNames {
            attention: self.attention.map(&to),
            attention_after: self.attention_after.map(&to),
            mlp: self.mlp.map(&to),
            mlp_after: self.mlp_after.map(&to),
        }
    }
}

impl Norms {
    pub(crate) fn names(self) -> NormNames {
        let after = NormNames {
            attention_after: Some("post_attention_layernorm.weight"),
            mlp_after: Some("post_feedforward_layernorm.weight"),
            ..NormNames::default()
        };
        match self {
            Self::Before => NormNames {
                attention: Some("input_layernorm.weight"),
                mlp: Some("post_attention_layernorm.weight"),
                ..NormNames::default()
            },
            Self::Around => NormNames {
                attention: Some("input_layernorm.weight"),
                mlp: Some("pre_feedforward_layernorm.weight"),
                ..after
            },
            Self::After => after,
        }
    }
}

/// The gate's nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// x·σ(x)
    #[default]
    Silu,
    /// ½x·(1 + tanh(√(2/π)·(x + 0.044715x³)))
    GeluTanh,
}

impl Activation {
    /// Reads the names that `transformers` gives it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "silu" | "swish" => Some(Self::Silu),
            "gelu_pytorch_tanh" | "gelu_new" => Some(Self::GeluTanh),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_pytorch_tanh",
        }
    }
}

/// Whether linear layers have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bias {
    Never,
    /// Where `config.json` says so.
    Asked,
    Always,
}

impl Bias {
    pub(super) fn is_on(self, asked: bool) -> bool {
        match self {
            Self::Never => false,
            Self::Asked => asked,
            Self::Always => true,
        }
    }
}

/// Which norm stands on queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QkNorm {
    None,
    PerHead,
    /// Over all heads together.
    Whole,
}

/// Which blocks are windowed when `layer_types` does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Windowed {
    None,
    All,
    /// From block `max_window_layers` on, and only with `use_sliding_window`.
    FromMaxWindowLayers,
    /// All but every n-th.
    AllButEvery(usize),
}

/// What an architecture does whatever its configuration says.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Debug, Clone, Copy)]
pub(super) struct Traits {
    /// `model_type` of a `config.json`.
    pub(super) model_type: &'static str,
    /// The class of `transformers`.
    pub(super) class: &'static str,
    pub(super) norms: Norms,
    /// γ is 1 + weight, and embeddings are multiplied by √`d_model`.
    pub(super) gemma: bool,
    pub(super) qk_norm: QkNorm,
    pub(super) qkv_bias: Bias,
    pub(super) output_bias: Bias,
    pub(super) mlp_bias: Bias,
    pub(super) windowed: Windowed,
    /// Scores are soft-capped.
    pub(super) caps_scores: bool,
    pub(super) fused: bool,
    /// Windowed blocks rotate with a base of their own, unscaled.
    pub(super) local_rope: bool,
}

/// Llama, from which the others differ.
const PLAIN: Traits = Traits {
    model_type: "llama",
    class: "LlamaForCausalLM",
    norms: Norms::Before,
    gemma: false,
    qk_norm: QkNorm::None,
    qkv_bias: Bias::Asked,
    output_bias: Bias::Asked,
    mlp_bias: Bias::Asked,
    windowed: Windowed::None,
    caps_scores: false,
    fused: false,
    local_rope: false,
};

const QWEN3: Traits = Traits {
    model_type: "qwen3",
    class: "Qwen3ForCausalLM",
    qk_norm: QkNorm::PerHead,
    mlp_bias: Bias::Never,
    windowed: Windowed::FromMaxWindowLayers,
    ..PLAIN
};

const MISTRAL: Traits = Traits {
    model_type: "mistral",
    class: "MistralForCausalLM",
    qkv_bias: Bias::Never,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    windowed: Windowed::All,
    ..PLAIN
};

const GEMMA2: Traits = Traits {
    model_type: "gemma2",
    class: "Gemma2ForCausalLM",
    norms: Norms::Around,
    gemma: true,
    mlp_bias: Bias::Never,
    windowed: Windowed::AllButEvery(2),
    caps_scores: true,
    ..PLAIN
};

const OLMO2: Traits = Traits {
    model_type: "olmo2",
    class: "Olmo2ForCausalLM",
    norms: Norms::After,
    qk_norm: QkNorm::Whole,
    mlp_bias: Bias::Never,
    ..PLAIN
};

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 9] = [
        Self::Qwen2,
        Self::Qwen3,
        Self::Llama,
        Self::Mistral,
        Self::Gemma2,
        Self::Gemma3,
        Self::Phi3,
        Self::Olmo2,
        Self::Olmo3,
    ];

    /// Reads the `model_type` of a `config.json`.
    pub fn parse(model_type: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.model_type() == model_type)
    }

    /// The `model_type` of a `config.json`.
    pub fn model_type(self) -> &'static str {
        self.traits().model_type
    }

    pub(super) const fn traits(self) -> Traits {
        match self {
            Self::Llama => PLAIN,
            Self::Qwen2 => Traits {
                model_type: "qwen2",
                class: "Qwen2ForCausalLM",
                qk_norm: QkNorm::None,
                qkv_bias: Bias::Always,
                output_bias: Bias::Never,
                ..QWEN3
            },
            Self::Qwen3 => QWEN3,
            Self::Mistral => MISTRAL,
            Self::Gemma2 => GEMMA2,
            Self::Gemma3 => Traits {
                model_type: "gemma3_text",
                class: "Gemma3ForCausalLM",
                qk_norm: QkNorm::PerHead,
                windowed: Windowed::AllButEvery(6),
                caps_scores: false,
                local_rope: true,
                ..GEMMA2
            },
            Self::Phi3 => Traits {
                model_type: "phi3",
                class: "Phi3ForCausalLM",
                fused: true,
                ..MISTRAL
            },
            Self::Olmo2 => OLMO2,
            Self::Olmo3 => Traits {
                model_type: "olmo3",
                class: "Olmo3ForCausalLM",
                windowed: Windowed::AllButEvery(4),
                local_rope: true,
                ..OLMO2
            },
        }
    }

    /// What `transformers` takes for keys that a `config.json` leaves out and that matter here.
    pub(super) fn defaults(self) -> Value {
        match self {
            Self::Llama => json!({"max_position_embeddings": 2048}),
            Self::Qwen2 => {
                json!({"max_position_embeddings": 32_768, "sliding_window": 4096, "max_window_layers": 28})
            }
            Self::Qwen3 => json!({
                "max_position_embeddings": 32_768, "sliding_window": 4096, "max_window_layers": 28, "head_dim": 128,
            }),
            Self::Mistral => {
                json!({"max_position_embeddings": 131_072, "sliding_window": 4096, "num_key_value_heads": 8})
            }
            Self::Gemma2 => json!({
                "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
                "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 8192,
                "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": true, "query_pre_attn_scalar": 256,
                "sliding_window": 4096, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0,
            }),
            Self::Gemma3 => json!({
                "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
                "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
                "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": true, "query_pre_attn_scalar": 256,
                "sliding_window": 4096, "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0,
            }),
            Self::Phi3 => json!({
                "max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
            }),
            Self::Olmo2 => json!({"max_position_embeddings": 2048, "rms_norm_eps": 1e-5}),
            Self::Olmo3 => {
                json!({"max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "sliding_window": 4096})
            }
        }
    }
}
