//! Whether an output is already what a run would make.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;
use store::{Provenance, TensorFile, table_provenance};

/// Says so and returns true when `path` was made by exactly this run. The file gets a new time, so that `make`, which sees
/// nothing else, is content too.
pub(crate) fn already(path: &Path, provenance: &Provenance) -> bool {
    if path == Path::new("-") || !path.exists() {
        return false;
    }
    let tensors = || TensorFile::open(path).ok()?.provenance().cloned();
    let found = match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => tensors(),
        _ => table_provenance(path).ok(),
    };
    let same = found.as_ref() == Some(provenance);
    if same {
        cli::say(&format!("{} is up to date", path.display()));
        // Where the time cannot be set, nothing is lost but a rerun that does nothing.
        let _ = File::options()
            .append(true)
            .open(path)
            .and_then(|file| file.set_modified(SystemTime::now()));
    }
    same
}
