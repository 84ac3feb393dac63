//! From named tensors to a model.

use crate::config::NormNames;
use crate::norm::Norm;
use crate::rotary::Rotary;
use crate::storage::{Linear, Loading, Weight};
use crate::transformer::Layer;
use crate::{Config, Model, Result};
use candle_core::{DType, Device, Tensor};

/// Where a weight comes from: its name and shape to a tensor.
pub(crate) type Source<'a> = dyn FnMut(String, &[usize]) -> Result<Tensor> + 'a;

impl Model {
    /// A model with its first `n_layers` blocks.
    pub(crate) fn build(
        config: Config,
        n_layers: usize,
        device: &Device,
        loading: Loading,
        source: &mut Source<'_>,
    ) -> Result<Self> {
        let dtype = loading.dtype;
        let embed = source(
            "model.embed_tokens.weight".into(),
            &[config.vocab, config.d_model],
        )?;
        let layers = (0..n_layers)
            .map(|index| Layer::build(&config, index, loading, source))
            .collect::<Result<_>>()?;
        let weight = source("model.norm.weight".into(), &[config.d_model])?;
        let final_norm = Norm::new(weight, &config);
        let head = [config.vocab, config.d_model];
        // Rows of an embedding that is not the head as well are only looked up: rounding them saves no time.
        let (embed, unembed) = if config.tied {
            (loading.kept(embed)?, None)
        } else {
            let unembed = loading.kept(source("lm_head.weight".into(), &head)?)?;
            (Weight::Float(embed), Some(unembed))
        };
        let rotary = Rotary::new(&config, dtype, device)?;
        Ok(Self {
            config,
            device: device.clone(),
            dtype,
            embed,
            layers,
            final_norm,
            unembed,
            rotary,
            precision: loading.precision,
        })
    }
}

/// The tensors of one block.
struct Parts<'a, 'b> {
    prefix: String,
    loading: Loading,
    source: &'a mut Source<'b>,
}

impl Parts<'_, '_> {
    fn tensor(&mut self, part: &str, shape: &[usize]) -> Result<Tensor> {
        (self.source)(format!("{}.{part}", self.prefix), shape)
    }

    fn linear(&mut self, part: &str, d_out: usize, d_in: usize, bias: bool) -> Result<Linear> {
        let weight = Weight::Float(self.tensor(&format!("{part}.weight"), &[d_out, d_in])?);
        let bias = if bias {
            Some(self.tensor(&format!("{part}.bias"), &[d_out])?)
        } else {
            None
        };
        let precision = self.loading.precision;
        Ok(Linear {
            weight,
            bias,
            precision,
        })
    }

    /// Linear layers that read the same, with their `d_out`: each a tensor, or rows of the one that `fused` names.
    fn linears<const N: usize>(
        &mut self,
        fused: Option<&str>,
        parts: [(&str, usize); N],
        (d_in, bias): (usize, bool),
    ) -> Result<[Linear; N]> {
        let mut all = Vec::with_capacity(N);
        if let Some(fused) = fused {
            let whole = self.linear(fused, parts.iter().map(|part| part.1).sum(), d_in, bias)?;
            let mut start = 0;
            for (_, d_out) in parts {
                all.push(whole.part(start, d_out)?);
                start += d_out;
            }
        } else {
            for (part, d_out) in parts {
                all.push(self.linear(part, d_out, d_in, bias)?);
            }
        }
        for linear in &mut all {
            linear.weight = self.loading.kept(linear.weight.tensor()?.clone())?;
        }
        Ok(all.try_into().expect("one layer was pushed for each part"))
    }

    /// Norms of the queries and keys, of which there are so many numbers a token, where the architecture has them.
    fn qk_norm(
        &mut self,
        config: &Config,
        (q_width, kv_width): (usize, usize),
    ) -> Result<Option<(Norm, Norm)>> {
        if !config.qk_norm {
            return Ok(None);
        }
        let whole = config.form.qk_norm_whole;
        let width = |all: usize| if whole { all } else { config.d_head };
        let q = self.tensor("self_attn.q_norm.weight", &[width(q_width)])?;
        let k = self.tensor("self_attn.k_norm.weight", &[width(kv_width)])?;
        Ok(Some((Norm::new(q, config), Norm::new(k, config))))
    }
}

impl Layer {
    fn build(
        config: &Config,
        index: usize,
        loading: Loading,
        source: &mut Source<'_>,
    ) -> Result<Self> {
        let (d_model, d_mlp) = (config.d_model, config.d_mlp);
        let (q_width, kv_width) = (
            config.n_heads * config.d_head,
            config.n_kv_heads * config.d_head,
        );
        let mut parts = Parts {
            prefix: format!("model.layers.{index}"),
            loading,
            source,
        };
        let fused = |name| config.form.fused.then_some(name);
        let [q, k, v] = parts.linears(
            fused("self_attn.qkv_proj"),
            [
                ("self_attn.q_proj", q_width),
                ("self_attn.k_proj", kv_width),
                ("self_attn.v_proj", kv_width),
            ],
            (d_model, config.qkv_bias),
        )?;
        let [o] = parts.linears(
            None,
            [("self_attn.o_proj", d_model)],
            (q_width, config.output_bias),
        )?;
        let [gate, up] = parts.linears(
            fused("mlp.gate_up_proj"),
            [("mlp.gate_proj", d_mlp), ("mlp.up_proj", d_mlp)],
            (d_model, config.mlp_bias),
        )?;
        let [down] = parts.linears(None, [("mlp.down_proj", d_model)], (d_mlp, config.mlp_bias))?;
        let qk_norm = parts.qk_norm(config, (q_width, kv_width))?;
        let names = config.form.norms.names();
        let mut norm = |name: Option<&str>| -> Result<Option<Norm>> {
            let weight = name
                .map(|name| parts.tensor(name, &[d_model]))
                .transpose()?;
            Ok(weight.map(|weight| Norm::new(weight, config)))
        };
        Ok(Self {
            attention_norm: norm(names.attention)?,
            attention_after: norm(names.attention_after)?,
            mlp_norm: norm(names.mlp)?,
            mlp_after: norm(names.mlp_after)?,
            q,
            k,
            v,
            qk_norm,
            o,
            gate,
            up,
            down,
        })
    }

    pub(crate) fn push_parameters<'a>(
        &'a mut self,
        prefix: &str,
        (names, dtype): (NormNames, DType),
        all: &mut Vec<(String, &'a mut Tensor)>,
    ) {
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
            let weight = linear
                .weight
                .widened(dtype)
                .expect("a matrix in memory is converted");
            all.push((format!("{prefix}.{part}.weight"), weight));
            all.extend(
                linear
                    .bias
                    .as_mut()
                    .map(|bias| (format!("{prefix}.{part}.bias"), bias)),
            );
        }
        if let Some((q_norm, k_norm)) = &mut self.qk_norm {
            all.push((
                format!("{prefix}.self_attn.q_norm.weight"),
                &mut q_norm.weight,
            ));
            all.push((
                format!("{prefix}.self_attn.k_norm.weight"),
                &mut k_norm.weight,
            ));
        }
        let norms = [
            (names.attention, &mut self.attention_norm),
            (names.attention_after, &mut self.attention_after),
            (names.mlp, &mut self.mlp_norm),
            (names.mlp_after, &mut self.mlp_after),
        ];
        for (name, norm) in norms {
            let named = name.zip(norm.as_mut());
            all.extend(named.map(|(name, norm)| (format!("{prefix}.{name}"), &mut norm.weight)));
        }
    }
}
