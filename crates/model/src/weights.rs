//! Hugging Face directories in and out: `config.json` with `model.safetensors`, whole or sharded.

use crate::storage::Weight;
use crate::{Config, Error, Hook, Loading, Model, Result, Site, hub, reading};
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

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

impl Model {
    /// Loads a Hugging Face directory, or a Hub name ([`hub::directory`]); weights of any floating dtype are computed in
    /// `dtype`.
    ///
    /// # Errors
    /// When a file is missing or damaged, the architecture is unknown, or a tensor is missing, of another shape than
    /// `config.json` says, or not of floating numbers; each with the file's name.
    pub fn load(directory: &Path, device: &Device, dtype: DType) -> Result<Self> {
        Self::load_with(directory, device, Loading::new(dtype))
    }

    /// [`Self::load`] with weights kept, and multiplied, in another way than activations.
    pub fn load_with(directory: &Path, device: &Device, loading: Loading) -> Result<Self> {
        Self::load_until(directory, device, loading, Hook::new(Site::Logits, 0))
    }

    /// [`Self::load_with`] of the blocks that a pass up to `last` runs, and no others: a pass that goes on is refused.
    pub fn load_until(
        directory: &Path,
        device: &Device,
        loading: Loading,
        last: Hook,
    ) -> Result<Self> {
        let directory = &*hub::directory(directory)?;
        let config = Config::load(directory)?;
        let n_layers = last.blocks(config.n_layers);
        let stored = Stored::open(directory)?;
        // A head stored although the configuration says it is tied is a contradiction that transformers settles in favour
        // of the configuration; so does this.
        let mut source = |name: String, shape: &[usize]| stored.load(&name, shape, device, loading);
        Self::build(config, n_layers, device, loading, &mut source)
    }

    /// A model with random weights: embeddings N(0, 0.02²), projections `N(0, 1/d_in)`, those that write to the residual
    /// stream further divided by `√(2·n_layers)`; γ of every norm 1, biases 0.
    pub fn random(config: Config, seed: u64, device: &Device) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let gamma = if config.form.norm_offset { 0.0 } else { 1.0 };
        let residual = 1.0 / (2.0 * config.n_layers as f64).sqrt();
        let mut source = |name: String, shape: &[usize]| {
            let n: usize = shape.iter().product();
            let values: Vec<f32> = if name.contains("norm") {
                vec![gamma; n]
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
        let (n_layers, loading) = (config.n_layers, Loading::new(DType::F32));
        Self::build(config, n_layers, device, loading, &mut source)
    }

    /// Bytes that the weights' matrices take in memory.
    pub fn matrix_bytes(&self) -> usize {
        let layers = self.layers.iter().flat_map(|layer| {
            [
                &layer.q,
                &layer.k,
                &layer.v,
                &layer.o,
                &layer.gate,
                &layer.up,
                &layer.down,
            ]
        });
        let heads = [Some(&self.embed), self.unembed.as_ref()];
        let linears = layers.map(|linear| linear.weight.bytes()).sum::<usize>();
        linears
            + heads
                .into_iter()
                .flatten()
                .map(Weight::bytes)
                .sum::<usize>()
    }

    /// Every weight with its Hugging Face name, in a fixed order.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        let mut copy = self.clone();
        copy.parameters_mut()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.clone()))
            .collect()
    }

    /// Every weight with its Hugging Face name, to be replaced: in a fixed order. From here on all are kept as computed.
    ///
    /// Phi-3's fused tensors are apart here, with the names that the other architectures give the parts.
    pub fn parameters_mut(&mut self) -> Vec<(String, &mut Tensor)> {
        let names = self.config.form.norms.names();
        let dtype = self.dtype;
        let floats = "a matrix in memory is converted";
        let embed = self.embed.widened(dtype).expect(floats);
        let mut all = vec![("model.embed_tokens.weight".to_owned(), embed)];
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.push_parameters(&format!("model.layers.{index}"), (names, dtype), &mut all);
        }
        all.push(("model.norm.weight".to_owned(), &mut self.final_norm.weight));
        if let Some(unembed) = &mut self.unembed {
            all.push((
                "lm_head.weight".to_owned(),
                unembed.widened(dtype).expect(floats),
            ));
        }
        all
    }

    /// The bytes of a `model.safetensors` as transformers reads it, in the model's dtype. They depend on the weights alone.
    pub fn serialized_weights(&self) -> Result<Vec<u8>> {
        // One key only: several would be written in hash order.
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(self.stored_parameters()?, Some(metadata))
            .map_err(|e| Error::Argument(format!("cannot serialise the weights: {e}")))
    }

    /// Every weight as its architecture's files have it: parts joined where they are stored as one.
    fn stored_parameters(&self) -> Result<Vec<(String, Tensor)>> {
        const JOINED: [(&str, &str, usize); 2] = [
            ("q_proj.", "qkv_proj.", 3),
            ("gate_proj.", "gate_up_proj.", 2),
        ];
        let all = self.parameters();
        if !self.config.form.fused {
            return Ok(all);
        }
        let mut stored = Vec::new();
        for (name, tensor) in &all {
            // The parts stand in the order in which the file joins them, with a bias each or none.
            let joined = JOINED
                .iter()
                .find(|(first, ..)| name.contains(&format!(".{first}")));
            if let Some((first, whole, n)) = joined {
                let kind = name.rsplit('.').next().unwrap_or_default();
                let scope = name.split(first).next().unwrap_or_default();
                let parts = all.iter().filter(|(other, _)| {
                    other.starts_with(scope) && other.ends_with(kind) && !is_alone(other)
                });
                let parts: Vec<&Tensor> = parts.map(|(_, part)| part).take(*n).collect();
                stored.push((name.replace(first, whole), Tensor::cat(&parts, 0)?));
            } else if is_alone(name) {
                stored.push((name.clone(), tensor.clone()));
            }
        }
        Ok(stored)
    }
}

/// Whether a weight is stored by itself where others are joined.
fn is_alone(name: &str) -> bool {
    let parts = ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"];
    !parts.iter().any(|part| name.contains(&format!(".{part}.")))
}

/// A standard normal number (Box–Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (a, b): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// What the weights of the language model start with, where a file holds more than it or less than its head.
const PREFIXES: [&str; 4] = [
    "model.",
    "language_model.model.",
    "model.language_model.",
    "",
];

/// The weights of a directory, mapped and not yet read.
struct Stored<'a> {
    directory: &'a Path,
    mapped: MmapedSafetensors,
    names: BTreeSet<String>,
    prefix: &'static str,
}

impl<'a> Stored<'a> {
    fn open(directory: &'a Path) -> Result<Self> {
        let mapped = map_files(&weight_files(directory)?)?;
        let names: BTreeSet<String> = mapped.tensors().into_iter().map(|(name, _)| name).collect();
        let is_there = |prefix: &&str| names.contains(&format!("{prefix}embed_tokens.weight"));
        let prefix = PREFIXES.into_iter().find(is_there).unwrap_or(PREFIXES[0]);
        Ok(Self {
            directory,
            mapped,
            names,
            prefix,
        })
    }

    /// The name that a weight has in the files.
    fn name(&self, name: &str) -> String {
        match name.strip_prefix("model.") {
            Some(rest) => format!("{}{rest}", self.prefix),
            None if self.names.contains(name) => name.into(),
            None => format!("language_model.{name}"),
        }
    }

    fn load(
        &self,
        name: &str,
        shape: &[usize],
        device: &Device,
        loading: Loading,
    ) -> Result<Tensor> {
        let stored = self.name(name);
        let refuse =
            |cause: String| Error::invalid(self.directory, format!("tensor `{name}` {cause}"));
        if !self.names.contains(&stored) {
            return Err(refuse("is missing".into()));
        }
        let view = self.mapped.get(&stored)?;
        if view.shape() != shape {
            let found = view.shape();
            return Err(refuse(format!(
                "is {found:?}, not {shape:?} as config.json says"
            )));
        }
        let kind = view.dtype();
        if !matches!(kind, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(refuse(format!(
                "is stored as {kind:?}: only F64, F32, F16 and BF16 are read"
            )));
        }
        let kept = loading.read_as(DType::try_from(kind)?, shape.len(), device);
        let parallel = device.is_cpu().then(|| reading::on_cpu(&view, kept));
        let tensor = parallel.flatten().unwrap_or_else(|| {
            let tensor = self.mapped.load(&stored, device)?;
            tensor.to_dtype(kept)
        });
        give_back(view.data());
        tensor.map_err(|e| refuse(format!("cannot be read: {e}")))
    }
}

/// Takes a mapped part of a file out of this process's memory: it has been copied, and would count twice.
#[cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "advice about pages, by their addresses")
)]
fn give_back(mapped: &[u8]) {
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{Advice, madvise};
        let page = rustix::param::page_size();
        let start = mapped.as_ptr().align_offset(page).min(mapped.len());
        let whole = (mapped.len() - start) / page * page;
        let at = mapped[start..].as_ptr().cast_mut().cast();
        // SAFETY: whole pages of a map of a file that nobody writes: read again, they come from the file again.
        // Advice that is not taken changes nothing.
        let _ = unsafe { madvise(at, whole, Advice::LinuxDontNeed) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = mapped;
}

/// `model.safetensors`, or the shards that `model.safetensors.index.json` names.
pub(crate) fn weight_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let whole = directory.join("model.safetensors");
    if whole.exists() {
        return Ok(vec![whole]);
    }
    let index = directory.join("model.safetensors.index.json");
    if !index.exists() {
        let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
        let found = pickled
            .into_iter()
            .find(|name| directory.join(name).exists());
        let beside = found.map_or(String::new(), |name| {
            format!(" ({name} is: save the model again with `safe_serialization=True`)")
        });
        return Err(Error::invalid(
            directory,
            format!("neither model.safetensors nor model.safetensors.index.json is there{beside}"),
        ));
    }
    let text = std::fs::read_to_string(&index).map_err(Error::io(&index))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Error::invalid(&index, e))?;
    let map = json["weight_map"]
        .as_object()
        .ok_or_else(|| Error::invalid(&index, "there is no `weight_map`"))?;
    let names: BTreeSet<&str> = map.values().filter_map(serde_json::Value::as_str).collect();
    if names.is_empty() {
        return Err(Error::invalid(&index, "its `weight_map` names no file"));
    }
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

fn map_files(files: &[PathBuf]) -> Result<MmapedSafetensors> {
    for path in files {
        // One at a time first, so that a shard that is missing or damaged is named.
        std::fs::metadata(path).map_err(Error::io(path))?;
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
