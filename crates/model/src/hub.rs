//! Model directories by path or by their name on the Hugging Face Hub.

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The directory that `name` means: itself where it exists, else the snapshot of a Hub model `org/name` or
/// `org/name@revision`, fetched once into the cache that `transformers` uses as well.
///
/// # Errors
/// When a Hub name cannot be fetched, or the program was built without the feature `hub`. A path that is not there is
/// returned as it is: who reads it says what is missing.
pub fn directory(name: &Path) -> Result<PathBuf> {
    match hub_name(name).filter(|_| !name.exists()) {
        Some((model, revision)) => fetched(name, model, revision),
        None => Ok(name.to_path_buf()),
    }
}

/// Organisation and name, and the revision after an `@`, of what can be a Hub name.
fn hub_name(path: &Path) -> Option<(&str, &str)> {
    let text = path.to_str()?;
    let (model, revision) = text.split_once('@').unwrap_or((text, "main"));
    let (organisation, name) = model.split_once('/')?;
    let plain = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(known)
    };
    (plain(organisation) && plain(name) && plain(revision)).then_some((model, revision))
}

#[cfg(not(feature = "hub"))]
fn fetched(path: &Path, model: &str, _: &str) -> Result<PathBuf> {
    Err(Error::invalid(
        path,
        format!(
            "there is no such directory, and this program was built without the feature `hub`, which fetches {model}"
        ),
    ))
}

#[cfg(feature = "hub")]
fn fetched(path: &Path, model: &str, revision: &str) -> Result<PathBuf> {
    fetched_into(hf_hub::Cache::from_env(), path, model, revision)
}

/// Fetches what this crate reads of a model: configuration, tokenizer, weights. Nothing is asked of the Hub when all of it
/// is in the cache.
#[cfg(feature = "hub")]
fn fetched_into(cache: hf_hub::Cache, path: &Path, model: &str, revision: &str) -> Result<PathBuf> {
    use hf_hub::api::sync::ApiBuilder;
    use hf_hub::{Repo, RepoType};
    let fail = |e: hf_hub::api::sync::ApiError| {
        let words = e.to_string();
        let words: Vec<&str> = words.split_whitespace().collect();
        Error::invalid(path, format!("the Hub: {}", words.join(" ")))
    };
    let token = cache.token();
    let builder = ApiBuilder::from_cache(cache).with_token(token);
    let api = builder.with_progress(false).build().map_err(fail)?;
    let repo = Repo::with_revision(model.into(), RepoType::Model, revision.into());
    let remote = api.repo(repo);
    let config = remote.get("config.json").map_err(fail)?;
    let snapshot = config.parent().unwrap_or(path).to_path_buf();
    if is_whole(&snapshot) {
        return Ok(snapshot);
    }
    let listing = remote.info().map_err(fail)?;
    let names: Vec<String> = listing
        .siblings
        .into_iter()
        .map(|file| file.rfilename)
        .collect();
    let sharded = names
        .iter()
        .any(|name| name == "model.safetensors.index.json");
    for name in names.iter().filter(|name| is_read(name, sharded)) {
        remote.get(name).map_err(fail)?;
    }
    Ok(snapshot)
}

/// Whether everything that this crate needs of a snapshot is in the cache already.
#[cfg(feature = "hub")]
fn is_whole(snapshot: &Path) -> bool {
    snapshot.join("tokenizer.json").exists()
        && crate::weights::weight_files(snapshot)
            .is_ok_and(|files| files.iter().all(|file| file.exists()))
}

/// Whether this crate reads a file of that name; weights are `model.safetensors`, or shards where there is an index.
#[cfg(any(test, feature = "hub"))]
fn is_read(name: &str, sharded: bool) -> bool {
    const READ: [&str; 7] = [
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "chat_template.json",
        "model.safetensors.index.json",
    ];
    let shard = || name.starts_with("model-") && name.ends_with(".safetensors");
    READ.contains(&name) || (sharded && shard()) || (!sharded && name == "model.safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_name_has_two_plain_parts() {
        let parts = |text: &'static str| hub_name(Path::new(text));
        assert_eq!(parts("Qwen/Qwen2.5-7B"), Some(("Qwen/Qwen2.5-7B", "main")));
        assert_eq!(parts("a/b@step-3"), Some(("a/b", "step-3")));
        for path in [
            "out/models/base",
            "/a/b",
            "./a",
            "../a",
            "base",
            "a/",
            "a/b c",
        ] {
            assert_eq!(parts(path), None, "{path}");
        }
    }

    #[test]
    fn a_directory_is_itself_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(directory(folder.path()).unwrap(), folder.path());
        assert_eq!(
            directory(Path::new("out/a/b")).unwrap(),
            Path::new("out/a/b")
        );
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn a_hub_name_without_the_feature_is_refused_in_one_line() {
        let error = directory(Path::new("no-such/model"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no-such/model") && error.contains("`hub`"),
            "{error}"
        );
        assert!(!error.contains('\n'));
    }

    #[cfg(feature = "hub")]
    #[test]
    fn a_snapshot_in_the_cache_is_read_without_the_network() {
        let folder = tempfile::tempdir().unwrap();
        let repo = folder.path().join("models--no-such--model");
        let snapshot = repo.join("snapshots/abc123");
        for directory in [&snapshot, &repo.join("refs")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        std::fs::write(repo.join("refs/main"), "abc123").unwrap();
        for name in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::write(snapshot.join(name), "{}").unwrap();
        }
        let cache = hf_hub::Cache::new(folder.path().to_path_buf());
        let found = fetched_into(cache, Path::new("no-such/model"), "no-such/model", "main");
        assert_eq!(found.unwrap(), snapshot);
    }

    #[test]
    fn only_what_is_read_is_fetched() {
        assert!(is_read("model-00001-of-00002.safetensors", true));
        assert!(!is_read("model-00001-of-00002.safetensors", false));
        assert!(is_read("model.safetensors", false) && is_read("tokenizer.json", false));
        for other in [
            "pytorch_model.bin",
            "consolidated.safetensors",
            "README.md",
            "original/params.json",
        ] {
            assert!(!is_read(other, true) && !is_read(other, false), "{other}");
        }
    }
}
