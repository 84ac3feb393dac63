//! Hugging Face directories in and out: `config.json` with `model.safetensors`, whole or sharded.

use crate::ops::{self, Rope};
use crate::transformer::Layer;
use crate::{Config, Error, Model, Result};
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// A linear layer: y = x·wᵀ + b.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// `[d_out, d_in]`
    pub(crate) weight: Tensor,
    /// `[d_out]`
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }
}

/// Longest sequence for which rotary tables are made up front: 32 Ki positions of a long-context model.
const MAX_TABLE: usize = 1 << 15;

/// Reads `f32`, `f16`, `bf16` or `f64`.
pub fn parse_dtype(name: &str) -> Option<DType> {
    match name {
        "f32" => Some(DType::F32),
        "f16" => Some(DType::F16),
        "bf16" => Some(DType::BF16),
        "f64" => Some(DType::F64),
        _ => None,
    }
}

/// Where a weight comes from: its name and shape to a tensor.
type Source<'a> = dyn FnMut(String, &[usize]) -> Result<Tensor> + 'a;

impl Model {
    /// Loads a Hugging Face directory; weights of any floating dtype are computed in `dtype`.
    pub fn load(directory: &Path, device: &Device, dtype: DType) -> Result<Self> {
        let config = Config::load(directory)?;
        let files = weight_files(directory)?;
        let mapped = map_files(&files)?;
        let names: BTreeSet<String> = mapped.tensors().into_iter().map(|(name, _)| name).collect();
        // A head stored although the configuration says it is tied, or missing although it does not, is a contradiction
        // that transformers settles in favour of the configuration; so does this.
        let mut source = |name: String, shape: &[usize]| {
            if !names.contains(&name) {
                return Err(Error::invalid(
                    directory,
                    format!("tensor `{name}` is missing"),
                ));
            }
            let tensor = mapped
                .load(&name, device)
                .map_err(|e| Error::invalid(directory, format!("tensor `{name}`: {e}")))?;
            if tensor.dims() != shape {
                let found = tensor.dims();
                return Err(Error::invalid(
                    directory,
                    format!("tensor `{name}` is {found:?}, not {shape:?} as config.json says"),
                ));
            }
            Ok(tensor.to_dtype(dtype)?)
        };
        Self::build(config, device, dtype, &mut source)
    }

    /// A model with random weights: embeddings N(0, 0.02²), projections `N(0, 1/d_in)`, those that write to the residual
    /// stream further divided by `√(2·n_layers)`; norms 1, biases 0.
    pub fn random(config: Config, seed: u64, device: &Device) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let residual = 1.0 / (2.0 * config.n_layers as f64).sqrt();
        let mut source = |name: String, shape: &[usize]| {
            let n: usize = shape.iter().product();
            let values: Vec<f32> = if name.contains("norm") {
                vec![1.0; n]
            } else if shape.len() == 1 {
                vec![0.0; n]
            } else {
                let writes = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
                let narrow = name.contains("embed_tokens") || name.contains("lm_head");
                let scale = if narrow {
                    0.02
                } else {
                    (shape[1] as f64).powf(-0.5) * if writes { residual } else { 1.0 }
                };
                (0..n).map(|_| (normal(&mut rng) * scale) as f32).collect()
            };
            Ok(Tensor::from_vec(values, shape, device)?)
        };
        Self::build(config, device, DType::F32, &mut source)
    }

    fn build(
        config: Config,
        device: &Device,
        dtype: DType,
        source: &mut Source<'_>,
    ) -> Result<Self> {
        let embed = source(
            "model.embed_tokens.weight".into(),
            &[config.vocab, config.d_model],
        )?;
        let layers = (0..config.n_layers)
            .map(|index| Layer::build(&config, index, source))
            .collect::<Result<_>>()?;
        let final_norm = source("model.norm.weight".into(), &[config.d_model])?;
        let head = [config.vocab, config.d_model];
        let unembed = (!config.tied)
            .then(|| source("lm_head.weight".into(), &head))
            .transpose()?;
        let rope = Rope::new(&config, config.max_positions.min(MAX_TABLE), dtype, device)?;
        Ok(Self {
            config,
            device: device.clone(),
            dtype,
            embed,
            layers,
            final_norm,
            unembed,
            rope,
        })
    }

    /// Every weight with its Hugging Face name, in a fixed order.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        let mut copy = self.clone();
        copy.parameters_mut()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.clone()))
            .collect()
    }

    /// Every weight with its Hugging Face name, to be replaced: in a fixed order.
    pub fn parameters_mut(&mut self) -> Vec<(String, &mut Tensor)> {
        let mut all = vec![("model.embed_tokens.weight".to_owned(), &mut self.embed)];
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.push_parameters(&format!("model.layers.{index}"), &mut all);
        }
        all.push(("model.norm.weight".to_owned(), &mut self.final_norm));
        if let Some(unembed) = &mut self.unembed {
            all.push(("lm_head.weight".to_owned(), unembed));
        }
        all
    }

    /// The bytes of a `model.safetensors` as transformers reads it, in the model's dtype. They depend on the weights alone.
    pub fn serialized_weights(&self) -> Result<Vec<u8>> {
        // One key only: several would be written in hash order.
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(self.parameters(), Some(metadata))
            .map_err(|e| Error::Argument(format!("cannot serialise the weights: {e}")))
    }
}

impl Layer {
    fn build(config: &Config, index: usize, source: &mut Source<'_>) -> Result<Self> {
        let (d_model, d_mlp) = (config.d_model, config.d_mlp);
        let (q_width, kv_width) = (
            config.n_heads * config.d_head,
            config.n_kv_heads * config.d_head,
        );
        let mut tensor =
            |part: &str, shape: &[usize]| source(format!("model.layers.{index}.{part}"), shape);
        let mut linear = |part: &str, d_out: usize, d_in: usize, bias: bool| -> Result<Linear> {
            let weight = tensor(&format!("{part}.weight"), &[d_out, d_in])?;
            let bias = if bias {
                Some(tensor(&format!("{part}.bias"), &[d_out])?)
            } else {
                None
            };
            Ok(Linear { weight, bias })
        };
        let q = linear("self_attn.q_proj", q_width, d_model, config.qkv_bias)?;
        let k = linear("self_attn.k_proj", kv_width, d_model, config.qkv_bias)?;
        let v = linear("self_attn.v_proj", kv_width, d_model, config.qkv_bias)?;
        let o = linear("self_attn.o_proj", d_model, q_width, config.output_bias)?;
        let gate = linear("mlp.gate_proj", d_mlp, d_model, config.mlp_bias)?;
        let up = linear("mlp.up_proj", d_mlp, d_model, config.mlp_bias)?;
        let down = linear("mlp.down_proj", d_model, d_mlp, config.mlp_bias)?;
        let mut head_norm =
            |part: &str| tensor(&format!("self_attn.{part}.weight"), &[config.d_head]);
        let qk_norm = if config.qk_norm {
            Some((head_norm("q_norm")?, head_norm("k_norm")?))
        } else {
            None
        };
        let attention_norm = tensor("input_layernorm.weight", &[d_model])?;
        let mlp_norm = tensor("post_attention_layernorm.weight", &[d_model])?;
        Ok(Self {
            attention_norm,
            q,
            k,
            v,
            qk_norm,
            o,
            mlp_norm,
            gate,
            up,
            down,
        })
    }

    fn push_parameters<'a>(&'a mut self, prefix: &str, all: &mut Vec<(String, &'a mut Tensor)>) {
        let linears = [
            ("self_attn.q_proj", &mut self.q),
            ("self_attn.k_proj", &mut self.k),
            ("self_attn.v_proj", &mut self.v),
            ("self_attn.o_proj", &mut self.o),
            ("mlp.gate_proj", &mut self.gate),
            ("mlp.up_proj", &mut self.up),
            ("mlp.down_proj", &mut self.down),
        ];
        for (part, linear) in linears {
            all.push((format!("{prefix}.{part}.weight"), &mut linear.weight));
            all.extend(
                linear
                    .bias
                    .as_mut()
                    .map(|bias| (format!("{prefix}.{part}.bias"), bias)),
            );
        }
        if let Some((q_norm, k_norm)) = &mut self.qk_norm {
            all.push((format!("{prefix}.self_attn.q_norm.weight"), q_norm));
            all.push((format!("{prefix}.self_attn.k_norm.weight"), k_norm));
        }
        all.push((
            format!("{prefix}.input_layernorm.weight"),
            &mut self.attention_norm,
        ));
        all.push((
            format!("{prefix}.post_attention_layernorm.weight"),
            &mut self.mlp_norm,
        ));
    }
}

/// A standard normal number (Box–Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (a, b): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// `model.safetensors`, or the shards that `model.safetensors.index.json` names.
fn weight_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let whole = directory.join("model.safetensors");
    if whole.exists() {
        return Ok(vec![whole]);
    }
    let index = directory.join("model.safetensors.index.json");
    if !index.exists() {
        return Err(Error::invalid(
            directory,
            "neither model.safetensors nor model.safetensors.index.json is there",
        ));
    }
    let text = std::fs::read_to_string(&index).map_err(Error::io(&index))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Error::invalid(&index, e))?;
    let map = json["weight_map"]
        .as_object()
        .ok_or_else(|| Error::invalid(&index, "there is no `weight_map`"))?;
    let names: BTreeSet<&str> = map.values().filter_map(serde_json::Value::as_str).collect();
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

fn map_files(files: &[PathBuf]) -> Result<MmapedSafetensors> {
    for path in files {
        // One at a time first, so that a damaged shard is named.
        map(std::slice::from_ref(path))
            .map_err(|e| Error::invalid(path, format!("not a whole safetensors file: {e}")))?;
    }
    Ok(map(files)?)
}

#[expect(
    unsafe_code,
    reason = "mapping a file is unsafe because another program could change it while it is read"
)]
fn map(files: &[PathBuf]) -> candle_core::Result<MmapedSafetensors> {
    // SAFETY: model files are written once, under a temporary name, and renamed into place; this program never writes
    // to a mapped file, and every tensor is copied out of the map before it is used.
    unsafe { MmapedSafetensors::multi(files) }
}
