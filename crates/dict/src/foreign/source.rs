//! A dictionary of another program on disk: one file of tensors, and a configuration beside it.

use super::torch_file::TorchFile;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use store::{Error, Result, TensorFile, read_text};

/// Files of tensors by the name their program gives them; those in one line are two forms of the same dictionary, the
/// first is read.
const KNOWN: [&[&str]; 6] = [
    &["model.safetensors", "model_final.pt"],
    &["sae_weights.safetensors", "sae_weights.pt"],
    &["sae.safetensors"],
    &["cc_weights.pt"],
    &["ae.pt"],
    &["model.pt"],
];
/// Endings of files of tensors.
const ENDINGS: [&str; 4] = ["safetensors", "pt", "pth", "bin"];
/// Configurations, of which a folder has one.
const CONFIGURATIONS: [&str; 3] = ["cfg.json", "config.json", "model_cfg.yaml"];
/// What wrappers of a model put before the names of its tensors.
const PREFIXES: [&str; 2] = ["_orig_mod.", "module."];

/// Tensors and settings.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: File,
    /// Name without a wrapper's prefix → name in the file.
    names: BTreeMap<String, String>,
    /// Where the settings come from, and they themselves; empty without a configuration.
    config_path: PathBuf,
    config: Map<String, Json>,
}

#[derive(Debug)]
enum File {
    Safetensors(Box<TensorFile>),
    Torch(TorchFile),
}

impl Source {
    /// Opens a folder or a file of tensors.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let path = if path.is_dir() {
            choose(path)?
        } else {
            path.to_owned()
        };
        let is_safetensors = path
            .extension()
            .is_some_and(|ending| ending == "safetensors");
        let file = if is_safetensors {
            File::Safetensors(Box::new(TensorFile::open(&path)?))
        } else {
            File::Torch(TorchFile::open(&path)?)
        };
        let stored = match &file {
            File::Safetensors(file) => file.names(),
            File::Torch(file) => file.names(),
        };
        let names = stored
            .into_iter()
            .map(|name| (unwrapped(&name), name))
            .collect();
        let (config_path, config) = configuration(&path)?;
        Ok(Self {
            path,
            file,
            names,
            config_path,
            config,
        })
    }

    /// The files a dictionary is read from: its tensors, and its configuration where there is one.
    pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>> {
        let tensors = if path.is_dir() {
            choose(path)?
        } else {
            path.to_owned()
        };
        let config = configuration_path(&tensors);
        Ok(std::iter::once(tensors).chain(config).collect())
    }

    /// The file of tensors.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the tensors, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Dimensions of a tensor.
    pub(super) fn shape(&self, name: &str) -> Result<&[usize]> {
        let stored = self.stored(name)?;
        match &self.file {
            File::Safetensors(file) => file.shape(stored),
            File::Torch(file) => file.shape(stored),
        }
    }

    /// Number of dimensions; none where there is no such tensor.
    pub(super) fn dimensions(&self, name: &str) -> Option<usize> {
        self.shape(name).ok().map(<[usize]>::len)
    }

    /// Dimensions of a tensor that must have `N` of them, none of them 0.
    pub(super) fn sizes<const N: usize>(&self, name: &str, meaning: &str) -> Result<[usize; N]> {
        let shape = self.shape(name)?;
        match <[usize; N]>::try_from(shape) {
            Ok(sizes) if !sizes.contains(&0) => Ok(sizes),
            _ => Err(self.fault(format!("`{name}` of shape {shape:?} is not {meaning}"))),
        }
    }

    /// Values of a tensor of exactly this shape, all of them finite.
    pub(super) fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values = self.f32_any(name, shape)?;
        if values.iter().all(|value| value.is_finite()) {
            return Ok(values);
        }
        Err(self.fault(format!("`{name}` holds a NaN or an infinity")))
    }

    /// The same where a NaN or an infinity has a meaning.
    pub(super) fn f32_any(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let found = self.shape(name)?;
        if found != shape {
            let cause = format!("`{name}` has shape {found:?}, the other tensors need {shape:?}");
            return Err(self.fault(cause));
        }
        let stored = self.stored(name)?;
        match &self.file {
            File::Safetensors(file) => file.f32_any(stored),
            File::Torch(file) => file.f32(stored),
        }
    }

    /// The same, zeros where there is no such tensor.
    pub(super) fn f32_or_zeros(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        if self.contains(name) {
            self.f32(name, shape)
        } else {
            Ok(vec![0.0; shape.iter().product()])
        }
    }

    /// The only number of a tensor, of any format.
    pub(super) fn scalar(&self, name: &str) -> Result<f32> {
        let shape = self.shape(name)?.to_vec();
        if shape.iter().product::<usize>() != 1 {
            return Err(self.fault(format!("`{name}` of shape {shape:?} is not one number")));
        }
        let values = self.f32_any(name, &shape);
        let values = values.or_else(|_| {
            Ok(self
                .whole(name)?
                .iter()
                .map(|&v| v as f32)
                .collect::<Vec<_>>())
        });
        values.map(|values| values[0])
    }

    /// Values of a tensor of whole numbers or booleans.
    pub(super) fn whole(&self, name: &str) -> Result<Vec<i64>> {
        let stored = self.stored(name)?;
        match &self.file {
            File::Safetensors(file) => file.i64(stored),
            File::Torch(file) => file.i64(stored),
        }
    }

    /// A value of the file that is no tensor.
    pub(super) fn plain(&self, name: &str) -> Option<&Json> {
        match &self.file {
            File::Safetensors(_) => None,
            File::Torch(file) => file.plain().get(name),
        }
    }

    /// A setting; null is none.
    pub(super) fn setting(&self, name: &str) -> Option<&Json> {
        self.config.get(name).filter(|value| !value.is_null())
    }

    /// A setting one object down, as `trainer.k`.
    pub(super) fn setting_in(&self, object: &str, name: &str) -> Option<&Json> {
        self.setting(object)?
            .get(name)
            .filter(|value| !value.is_null())
    }

    /// The configuration, for messages.
    pub(super) fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// What is wrong with the tensors.
    pub(super) fn fault(&self, cause: String) -> Error {
        Error::Invalid {
            path: self.path.clone(),
            cause,
        }
    }

    fn stored(&self, name: &str) -> Result<&str> {
        let missing = || self.fault(format!("there is no tensor `{name}`"));
        self.names.get(name).map(String::as_str).ok_or_else(missing)
    }
}

fn unwrapped(name: &str) -> String {
    PREFIXES
        .iter()
        .fold(name, |name, prefix| {
            name.strip_prefix(prefix).unwrap_or(name)
        })
        .to_owned()
}

/// The file of tensors of a folder.
fn choose(folder: &Path) -> Result<PathBuf> {
    let found: Vec<&str> = KNOWN
        .iter()
        .filter_map(|names| {
            names
                .iter()
                .find(|name| folder.join(name).is_file())
                .copied()
        })
        .collect();
    match found.as_slice() {
        [name] => return Ok(folder.join(name)),
        [] => {}
        several => return Err(undecided(folder, several)),
    }
    let files = files_of_tensors(folder)?;
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    match names.as_slice() {
        [name] => Ok(folder.join(name)),
        [] => Err(Error::Invalid {
            path: folder.to_owned(),
            cause: "it holds no file of tensors (.safetensors, .pt, .pth, .bin)".into(),
        }),
        several => Err(undecided(folder, several)),
    }
}

fn undecided(folder: &Path, names: &[&str]) -> Error {
    let first: Vec<&str> = names.iter().take(6).copied().collect();
    Error::Invalid {
        path: folder.to_owned(),
        cause: format!(
            "it holds several dictionaries ({}): name the file",
            first.join(", ")
        ),
    }
}

fn files_of_tensors(folder: &Path) -> Result<Vec<String>> {
    let read = |source| Error::Read {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let ending = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_file() && ENDINGS.contains(&ending.as_str()) {
            names.push(
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
    names.sort();
    Ok(names)
}

/// `3_cfg.json` of `3.pt`, or the configuration of the folder.
fn configuration_path(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let own = format!("{stem}_cfg.json");
    let names = std::iter::once(own.as_str()).chain(CONFIGURATIONS);
    names
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

/// Settings beside a file of tensors.
fn configuration(path: &Path) -> Result<(PathBuf, Map<String, Json>)> {
    let Some(found) = configuration_path(path) else {
        return Ok((path.with_file_name(CONFIGURATIONS[0]), Map::new()));
    };
    let text = read_text(&found)?;
    let settings = if found.extension().is_some_and(|ending| ending == "yaml") {
        Ok(yaml_scalars(&text))
    } else {
        serde_json::from_str(&text)
    };
    match settings {
        Ok(settings) => Ok((found, settings)),
        Err(error) => Err(Error::Invalid {
            path: found,
            cause: error.to_string(),
        }),
    }
}

/// The scalars of a YAML file by their own key, whatever they are nested in: enough for a configuration in which no key
/// comes twice.
fn yaml_scalars(text: &str) -> Map<String, Json> {
    let scalar = |line: &str| {
        let (key, value) = line.trim().split_once(':')?;
        let value = value.trim();
        if value.is_empty() {
            return None;
        }
        let parsed = serde_json::from_str(value)
            .unwrap_or_else(|_| Json::String(value.trim_matches(['\'', '"']).into()));
        Some((key.trim().to_owned(), parsed))
    };
    text.lines().filter_map(scalar).collect()
}
