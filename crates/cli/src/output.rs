//! Where words go: messages to stderr, data to stdout.

use indicatif::MultiProgress;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static QUIET: AtomicBool = AtomicBool::new(false);

/// The bars on screen: a line printed while one is drawn must go above it.
pub(crate) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// `-q`.
pub(crate) fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether `-q` was given.
pub(crate) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Says one line on stderr, unless `-q`.
pub fn say(message: &str) {
    if !is_quiet() {
        complain(message);
    }
}

/// Says one line on stderr, whatever was asked. A closed stderr is nobody listening, not a failure.
pub(crate) fn complain(message: &str) {
    BARS.suspend(|| writeln!(io::stderr().lock(), "{message}").ok());
}

/// Writes text to stdout and ends it with a newline when it has none.
///
/// The error of a broken pipe is kept as it is: [`crate::main`] makes it a success.
pub fn data(text: &str) -> anyhow::Result<()> {
    BARS.suspend(|| write_text(&mut io::stdout().lock(), text))?;
    Ok(())
}

fn write_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_with_exactly_one_newline() {
        for text in ["a", "a\n"] {
            let mut out = Vec::new();
            write_text(&mut out, text).unwrap();
            assert_eq!(out, b"a\n");
        }
    }
}
