//! A damaged file must be an error, also where the library that decodes it asserts instead.

use crate::error::{Error, Result};
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside [`decode`], where a panic is a message about the file.
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder over a file; a panic in it becomes an error that names the file, and prints nothing.
///
/// Nothing it was working on may be used afterwards: pass what it makes out through its result.
pub(crate) fn decode<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    keep_quiet_while_decoding();
    let outer = DECODING.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(read));
    DECODING.set(outer);
    outcome.unwrap_or_else(|_| Err(Error::invalid(path, "damaged: it contradicts itself")))
}

/// Puts a filter before the process's panic hook, once; panics elsewhere are told as ever.
fn keep_quiet_while_decoding() {
    static FILTER: Once = Once::new();
    FILTER.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !DECODING.get() {
                tell(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_names_the_file() {
        let path = Path::new("a.parquet");
        let result = decode(path, || -> Result<()> { panic!("negative length") });
        let line = result.unwrap_err().to_string();
        assert_eq!(
            line,
            "cannot read a.parquet: damaged: it contradicts itself"
        );
        assert!(decode(path, || Ok(1)).is_ok_and(|one| one == 1));
    }
}
