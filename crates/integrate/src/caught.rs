//! Panics of sinks. A panic ends the process, so that nothing goes on in a state that nobody
//! expects; the service manager starts it again. A sink is the exception: its panic is an error of
//! that sink, because the message at fault would come again with each start.
//!
//! The program's panic hook ends the process unless [`is_caught`].

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(panic = "abort")]
compile_error!("panics of sinks are caught: build with panic = \"unwind\"");

thread_local! {
    /// Calls of [`catch`] that this thread is in.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// Calls something whose panic is an error: its text.
///
/// # Errors
/// It panicked.
pub fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    CALLS.with(|calls| calls.set(calls.get() + 1));
    let called = catch_unwind(AssertUnwindSafe(call));
    CALLS.with(|calls| calls.set(calls.get() - 1));
    called.map_err(|panic| text_of(&*panic))
}

/// Whether a panic of this thread is caught now.
pub fn is_caught() -> bool {
    CALLS.with(|calls| calls.get() > 0)
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_text() {
        assert!(!is_caught());
        assert_eq!(catch(is_caught), Ok(true));
        let number = 7;
        let caught = catch(|| assert!(number < 7, "at {number}"));
        assert_eq!(caught, Err("at 7".to_owned()));
        assert!(!is_caught());
    }
}
