//! Every program's allocator: activations come and go by the megabyte, and the system's gives their pages back each time.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc's `mi_option_e`, which its crate does not name.
const PURGE_DELAY: mi_option_t = 15;
/// Pages that nothing uses never go back to the system: a pass of a large model takes longer than any delay, and asking for
/// pages again costs a few percent of it.
const NEVER: i64 = -1;

/// Keeps freed memory for what comes next. `MIMALLOC_PURGE_DELAY` in the environment says otherwise.
#[expect(unsafe_code, reason = "a setting of a library written in C")]
pub fn keep_pages() {
    // SAFETY: sets a number that the allocator reads; the option exists in both of its versions.
    unsafe { mi_option_set_default(PURGE_DELAY, NEVER) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "a setting of a library written in C")]
    fn the_option_is_the_one_that_takes_a_second_unless_told_otherwise() {
        let value = || {
            // SAFETY: reads a number.
            unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }
        };
        assert_eq!(value(), 1000);
        keep_pages();
        assert_eq!(value(), NEVER);
    }
}
