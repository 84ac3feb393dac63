//! Where a file came from: one JSON string under the metadata key `provenance` of every file.

use crate::error::{Error, Result};
use crate::expand::matches;
use crate::input::open_input;
use crate::{parquet_file, tensor_file};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The metadata key, in safetensors and Parquet alike.
pub const KEY: &str = "provenance";

/// Which program made a file, from what, how. No clock and no machine in it: the same run gives the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Program, with its subcommand: `crosscode train`.
    pub program: String,
    /// Version of the workspace.
    pub version: String,
    /// Arguments that can change the result, as the program declares them (not the output's name, not `--threads`).
    pub settings: Value,
    /// Seed of every random choice; null when there is none.
    pub seed: Option<u64>,
    /// Files read.
    pub inputs: Vec<Input>,
}

/// One file, model directory or activation store that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// As the user gave it.
    pub path: String,
    /// Length: of the file, of the manifest of an activation store, of all files of a model directory together.
    pub bytes: u64,
    /// SHA-256 of the same, in hexadecimal; of several files, of the list of their names and digests.
    pub sha256: String,
    /// [`Provenance::id`] of the input itself; null when it does not say.
    pub provenance_id: Option<String>,
}

impl Provenance {
    /// Begins the provenance of a file about to be written. `settings` is usually the program's `Args`.
    pub fn new(program: &str, settings: &impl Serialize) -> Result<Self> {
        let settings = serde_json::to_value(settings)
            .map_err(|error| Error::unwritable(Path::new(program), error.to_string()))?;
        Ok(Self {
            program: program.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            settings,
            seed: None,
            inputs: Vec::new(),
        })
    }

    /// Adds the seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Adds one input: a file, a directory, or `-` for what stdin gave.
    pub fn input(mut self, path: &Path) -> Result<Self> {
        self.inputs.push(Input::of(path)?);
        Ok(self)
    }

    /// Adds inputs as the user wrote them: files, directories, globs, `-`.
    pub fn inputs(mut self, paths: &[PathBuf]) -> Result<Self> {
        for path in paths {
            if path == Path::new("-") || path.exists() {
                self = self.input(path)?;
            } else {
                self = matches(path)?
                    .iter()
                    .try_fold(self, |all, found| all.input(found))?;
            }
        }
        Ok(self)
    }

    /// Short name of exactly this provenance: 16 hexadecimal digits.
    pub fn id(&self) -> String {
        hex(&Sha256::digest(self.to_json().as_bytes()))[..16].to_owned()
    }

    /// The JSON string files carry.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and JSON values are always JSON")
    }

    /// Reads the JSON string of a file. Keys it does not know (such as the `metadata` of tensors) are left aside.
    pub fn from_json(text: &str) -> std::result::Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl Input {
    /// Digests a file, a model directory or an activation store.
    pub fn of(path: &Path) -> Result<Self> {
        let (bytes, sha256, provenance) = if path.is_dir() {
            directory(path)?
        } else {
            let (bytes, sha256) = digest(path)?;
            (bytes, sha256, of_file(path))
        };
        Ok(Self {
            path: path.display().to_string(),
            bytes,
            sha256,
            provenance_id: provenance.map(|found| found.id()),
        })
    }
}

/// An activation store is its manifest, a model directory what decides its output, another directory all its files.
fn directory(path: &Path) -> Result<(u64, String, Option<Provenance>)> {
    let manifest = path.join("manifest.json");
    if manifest.is_file() {
        let (bytes, sha256) = digest(&manifest)?;
        return Ok((bytes, sha256, of_file(&manifest)));
    }
    let is_model = path.join("config.json").is_file();
    let files: Vec<_> = files(path)?
        .into_iter()
        .filter(|name| !is_model || is_model_file(name))
        .collect();
    if files.is_empty() {
        return Err(Error::invalid(path, "this directory holds no file"));
    }
    let (mut bytes, mut list) = (0, String::new());
    for name in &files {
        let (length, sha256) = digest(&path.join(name))?;
        bytes += length;
        writeln!(list, "{sha256}  {name}").expect("a String takes any text");
    }
    let provenance = files.iter().find_map(|name| of_file(&path.join(name)));
    Ok((bytes, hex(&Sha256::digest(list.as_bytes())), provenance))
}

/// Names of the plain files of a directory, sorted, hidden ones apart.
fn files(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::read(path))? {
        let entry = entry.map_err(Error::read(path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Files that decide what a model writes: weights, shape, tokenizer, chat template, end tokens.
fn is_model_file(name: &str) -> bool {
    const NAMED: [&str; 5] = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    name.ends_with(".safetensors") || NAMED.contains(&name)
}

/// What a file says about itself; nothing when it is foreign, or damaged (its reader will say so).
fn of_file(path: &Path) -> Option<Provenance> {
    let json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    if json {
        let value: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
        return serde_json::from_value(value.get(KEY)?.clone()).ok();
    }
    let mut magic = [0; 9];
    open_input(path).ok()?.read_exact(&mut magic).ok()?;
    if magic.starts_with(parquet_file::MAGIC) {
        parquet_file::provenance(path).ok()
    } else if magic[8] == b'{' {
        tensor_file::TensorFile::open(path)
            .ok()?
            .provenance()
            .cloned()
    } else {
        None
    }
}

/// Length and SHA-256 of a file, or of what stdin gave.
pub(crate) fn digest(path: &Path) -> Result<(u64, String)> {
    let mut file = open_input(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, hex(&hash.finalize()))),
            Ok(n) => {
                bytes += n as u64;
                hash.update(&buffer[..n]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::read(path)(error)),
        }
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes any text");
    }
    text
}
