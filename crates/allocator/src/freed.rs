//! When memory that was freed goes back to the system.

use core::ffi::{c_int, c_long};
use core::time::Duration;

/// `mi_option_purge_delay` of mimalloc's `mimalloc.h`.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
    #[cfg(test)]
    fn mi_option_get(option: c_int) -> c_long;
}

/// Memory that was freed waits this long to be used again; then it goes back to the system. At
/// first that is one second. For large messages at full speed, a tenth of it costs a tenth more
/// CPU time; and what waits is as much as comes and goes within that time.
pub fn give_back_after(delay: Duration) {
    let millis = c_long::try_from(delay.as_millis()).unwrap_or(c_long::MAX);
    // SAFETY: mimalloc's options are set and read atomically, at any time, and this one takes any
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
