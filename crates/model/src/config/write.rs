//! A [`Config`] as a `config.json`.

use super::architecture::{Traits, Windowed};
use super::{Architecture, Config};
use serde_json::{Value, json};

impl Config {
    /// The same as a `config.json` that `transformers` reads.
    pub fn to_json(&self, bos: Option<u32>, eos: Option<u32>) -> Value {
        let traits = self.architecture.traits();
        let mut keys = json!({
            "architectures": [traits.class],
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
            "hidden_act": self.form.activation.name(),
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.scaling_json(),
            "max_position_embeddings": self.max_positions,
            "sliding_window": self.windows.iter().flatten().next(),
            "use_sliding_window": self.windows.iter().any(Option::is_some),
            "attention_bias": self.qkv_bias && self.architecture != Architecture::Qwen2,
            "mlp_bias": self.mlp_bias,
            "tie_word_embeddings": self.tied,
            "torch_dtype": "float32",
        });
        self.add_kinds(&mut keys, &traits);
        self.add_form(&mut keys, &traits);
        keys
    }

    /// Which blocks are windowed, where the architecture reads it from a list.
    fn add_kinds(&self, keys: &mut Value, traits: &Traits) {
        let kind = |window: &Option<usize>| match window {
            Some(_) => "sliding_attention",
            None => "full_attention",
        };
        if !matches!(traits.windowed, Windowed::None | Windowed::All) {
            keys["layer_types"] = self.windows.iter().map(kind).collect();
        }
    }

    /// The keys that only some architectures have.
    fn add_form(&self, keys: &mut Value, traits: &Traits) {
        let form = &self.form;
        if traits.gemma {
            keys["hidden_activation"] = form.activation.name().into();
            keys["query_pre_attn_scalar"] = json!(form.query_scalar.unwrap_or(self.d_head as f64));
            keys["attn_logit_softcapping"] = json!(form.attention_softcap);
            keys["final_logit_softcapping"] = json!(form.logit_softcap);
        }
        if self.architecture == Architecture::Phi3 {
            // Its default is a token of the first models' vocabulary.
            keys["pad_token_id"] = Value::Null;
        }
        if self.architecture == Architecture::Gemma3 {
            keys["rope_local_base_freq"] = json!(form.local_rope_theta);
        }
        // Neither is a number that `transformers` takes null for.
        if let Some(width) = form.rotary_width {
            keys["partial_rotary_factor"] = json!(self.rotary_share(width));
        }
        if let Some(original) = form.original_positions {
            keys["original_max_position_embeddings"] = json!(original);
        }
    }

    /// The share of a head of which `width` dimensions are rotated: readers round its product with the width down.
    fn rotary_share(&self, width: usize) -> f64 {
        let share = width as f64 / self.d_head as f64;
        if (share * self.d_head as f64) < width as f64 {
            share.next_up()
        } else {
            share
        }
    }

    /// The rope scaling with the keys that the architecture's own reader wants, and no others.
    fn scaling_json(&self) -> Value {
        let mut keys = json!(self.rope_scaling);
        let (Some(scaling), Some(object)) = (&self.rope_scaling, keys.as_object_mut()) else {
            return keys;
        };
        if scaling.rope_type != "llama3" {
            object.remove("low_freq_factor");
            object.remove("high_freq_factor");
        }
        if scaling.rope_type == "longrope" && self.form.original_positions.is_some() {
            object.remove("factor");
        }
        if matches!(self.architecture, Architecture::Phi3 | Architecture::Olmo2) {
            let kind = object.remove("rope_type");
            object.insert("type".into(), kind.into());
        }
        keys
    }
}
