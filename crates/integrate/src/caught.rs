//! Panics of sinks. A panic ends the process, so that nothing goes on in a state that nobody
//! expects; the service manager starts it again. A sink is the exception: its panic is an error of
//! that sink, because the message at fault would come again with each start.
//!
//! Where panics unwind, as in tests, [`catch`] catches them. The program is built with `panic =
//! "abort"`, which makes a message cheaper by 2 to 5 %: there the panic hook calls [`end_thread`],
//! and the thread of the sink stands still for ever.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

thread_local! {
    /// Calls of [`catch`] that this thread is in: each with who is told.
    static CALLS: RefCell<Vec<Option<Arc<PanicTold>>>> = const { RefCell::new(Vec::new()) };
}

/// Where the hook tells a panic that is not unwound.
#[derive(Debug, Default)]
pub(crate) struct PanicTold {
    text: Mutex<Option<String>>,
    told: Notify,
}

impl PanicTold {
    fn tell(&self, text: &str) {
        let mut told = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        *told = Some(text.to_owned());
        self.told.notify_waiters();
    }

    /// Waits for a panic: its text.
    pub(crate) async fn wait(&self) -> String {
        loop {
            // Before the look: what is told after it is not missed.
            let told = self.told.notified();
            if let Some(text) = self.text() {
                return text;
            }
            told.await;
        }
    }

    fn text(&self) -> Option<String> {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone()
    }
}

/// Calls something whose panic is an error: its text.
///
/// # Errors
/// It panicked.
pub fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_or_tell(None, call)
}

/// The same; a panic that is not unwound is told there.
pub(crate) fn catch_or_tell<T>(
    told: Option<&Arc<PanicTold>>,
    call: impl FnOnce() -> T,
) -> Result<T, String> {
    CALLS.with_borrow_mut(|calls| calls.push(told.cloned()));
    let called = catch_unwind(AssertUnwindSafe(call));
    CALLS.with_borrow_mut(|calls| drop(calls.pop()));
    called.map_err(|panic| text_of(&*panic))
}

/// Whether a panic of this thread is an error of a sink.
pub fn is_caught() -> bool {
    CALLS.with_borrow(|calls| !calls.is_empty())
}

/// For the panic hook of a program whose panics are not unwound, if [`is_caught`]: tells the panic
/// and never returns, so that the process goes on without this thread.
pub fn end_thread(panic: &(dyn Any + Send)) -> ! {
    let text = text_of(panic);
    CALLS.with_borrow(|calls| {
        let told = calls.iter().flatten();
        told.for_each(|told| told.tell(&text));
    });
    loop {
        std::thread::park();
    }
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

    #[tokio::test]
    async fn a_panic_that_is_not_unwound_is_told_and_ends_its_thread_alone() {
        let told = Arc::<PanicTold>::default();
        let teller = Arc::clone(&told);
        std::thread::spawn(move || catch_or_tell(Some(&teller), || end_thread(&"at 7")));
        assert_eq!(told.wait().await, "at 7");
    }
}
