//! A polite request to stop: finish the batch, leave what is done, exit 3.

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

/// Raised by the first signal. Shared with the handlers, which can only own it through an `Arc`.
static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(false)));

/// Whether SIGTERM, SIGINT or SIGUSR1 arrived: ask between batches, then return [`Stopped`].
pub fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// What is returned when a signal ended the run early and running again goes on from there: exit code 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// What is already done, for people: `3 of 8 parts`.
    pub done: String,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "stopped early, {} done: run the same command again to go on",
            self.done
        )
    }
}

impl std::error::Error for Stopped {}

/// Installs the handlers. A second Ctrl-C ends the program at once: by then somebody is impatient.
pub(crate) fn install() -> anyhow::Result<()> {
    // Handlers run in the order of registration: the first signal finds the flag down and raises it.
    signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&STOP))?;
    for signal in [SIGTERM, SIGINT, SIGUSR1] {
        signal_hook::flag::register(signal, Arc::clone(&STOP))?;
    }
    Ok(())
}
