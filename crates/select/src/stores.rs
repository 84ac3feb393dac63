//! Which activation store a features file was encoded from.

use anyhow::bail;
use std::path::{Path, PathBuf};
use store::{ActivationStore, Features};

/// The activation store a features file was encoded from: among `--acts`, or else the folder of the file itself, or else
/// what its provenance names. The tokens must be the same, whatever the path says.
pub fn store_of(
    path: &Path,
    blocks: &[Features],
    acts: &[PathBuf],
) -> anyhow::Result<(PathBuf, ActivationStore)> {
    let digest = token_digest(path, blocks)?;
    let candidates = if acts.is_empty() {
        likely_stores(path)?
    } else {
        acts.to_vec()
    };
    for directory in &candidates {
        let store = ActivationStore::open(directory)?;
        if store.token_digest() == digest {
            return Ok((directory.clone(), store));
        }
    }
    let looked = candidates.iter().map(|path| path.display().to_string());
    bail!(
        "cannot find the tokens of {}: {}",
        path.display(),
        match looked.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "give its activation store with --acts".into(),
            some => format!("the tokens of {some} are others; give its store with --acts"),
        }
    )
}

/// The tokens a features file belongs to.
fn token_digest<'a>(path: &Path, blocks: &'a [Features]) -> anyhow::Result<&'a str> {
    match blocks.first().map(|block| block.token_digest.as_str()) {
        None | Some("") => bail!(
            "cannot use {}: it does not say which tokens its rows are (it was encoded from a bare tensor file)",
            path.display()
        ),
        Some(digest) => Ok(digest),
    }
}

/// Where the store of a features file lies when nobody says: around the file, or where its provenance saw it.
fn likely_stores(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let around = path.parent().map(Path::to_owned);
    let recorded = store::table_provenance(path)?.inputs;
    let recorded = recorded.into_iter().map(|input| PathBuf::from(input.path));
    let stores = around.into_iter().chain(recorded);
    Ok(stores
        .map(|store| match store.file_name() {
            Some(name) if name == "manifest.json" => store.with_file_name(""),
            _ => store,
        })
        .filter(|store| store.join("manifest.json").is_file())
        .collect())
}
