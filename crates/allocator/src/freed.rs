//! When freed memory is returned to the system.

use core::ffi::{c_int, c_long};
use core::time::Duration;

/// `mi_option_purge_delay` of mimalloc's `mimalloc.h`.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
    #[cfg(test)]
    fn mi_option_get(option: c_int) -> c_long;
}

/// Sets how long freed memory is kept for reuse before it is returned to the system. The default is
/// one second. For large messages at full speed, a tenth of it costs a tenth more CPU time. The
/// kept memory is as much as is allocated and freed within that time.
pub fn give_back_after(delay: Duration) {
    let millis = c_long::try_from(delay.as_millis()).unwrap_or(c_long::MAX);
    // SAFETY: mimalloc's options are set and read atomically, at any time, and this one accepts any
    // number of milliseconds.
    unsafe { mi_option_set(PURGE_DELAY, millis) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_the_option_is_that_of_the_library() {
        // SAFETY: as above.
        let now = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(now(), 1000, "mimalloc's default; no other option has it");
        give_back_after(Duration::from_millis(100));
        assert_eq!(now(), 100);
    }
}
