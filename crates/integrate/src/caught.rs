//! Panics of sinks and of expressions. Normally a panic ends the process, so that it does not
//! continue in an unexpected state; the service manager restarts it. Sinks are an exception: a
//! panic is an error of that sink, because the message that caused it would come again after each
//! start. The same applies to a panic of a call on a separate thread ([`apart`]), which parses
//! text written by users.
//!
//! Where panics unwind, as in tests, [`catch`] catches them. The program is built with `panic =
//! "abort"`, which makes a message cheaper by 2 to 5 %. There the panic hook calls [`end_thread`],
//! which parks the thread of the sink for ever.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

thread_local! {
    /// Active calls of [`catch`] on this thread, each with the receiver of a panic.
    static CALLS: RefCell<Vec<Option<Arc<PanicTold>>>> = const { RefCell::new(Vec::new()) };
}

/// Receives the text of a panic that is not unwound.
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

    /// Waits for a panic; returns its text.
    pub(crate) async fn wait(&self) -> String {
        loop {
            // Before the check, so that no notification is missed.
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

/// Runs a call; a panic becomes an error with its text.
///
/// # Errors
/// It panicked.
pub fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_or_tell(None, call)
}

/// Runs a call as [`catch`]; `told` receives a panic that is not unwound.
pub(crate) fn catch_or_tell<T>(
    told: Option<&Arc<PanicTold>>,
    call: impl FnOnce() -> T,
) -> Result<T, String> {
    CALLS.with_borrow_mut(|calls| calls.push(told.cloned()));
    let called = catch_unwind(AssertUnwindSafe(call));
    CALLS.with_borrow_mut(|calls| drop(calls.pop()));
    called.map_err(|panic| text_of(&*panic))
}

/// Threads that [`apart`] may lose by panics that are not unwound: each is parked until the
/// process ends.
const LOST_MAX: usize = 16;
/// Interval of checks for a panic that is not unwound.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Stack of a thread of [`apart`], bytes. The called code may recurse once per nesting level of a
/// user's text.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Threads that [`apart`] has lost.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// Runs a call on a separate thread, and waits for its end. A panic becomes an error, also where
/// panics are not unwound: then that thread is lost.
///
/// # Errors
/// It panicked: the text of the panic. Or no thread can be created, or too many threads are lost.
pub fn apart<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let lost = LOST.load(Ordering::Relaxed);
    if lost >= LOST_MAX {
        return Err(format!(
            "{lost} threads of the node stand still after panics: restart the node"
        ));
    }
    let told = Arc::<PanicTold>::default();
    let (sender, receiver) = sync_channel(1);
    let teller = Arc::clone(&told);
    let run = move || {
        // If the caller has stopped waiting, the result is dropped.
        let _ = sender.send(catch_or_tell(Some(&teller), call));
    };
    let started = std::thread::Builder::new()
        .name("apart".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(run);
    started.map_err(|error| format!("no thread can be started: {error}"))?;
    loop {
        match receiver.recv_timeout(LOOK_EVERY) {
            Ok(called) => return called,
            Err(RecvTimeoutError::Disconnected) => return Err("without a message".to_owned()),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(text) = told.text() {
                    LOST.fetch_add(1, Ordering::Relaxed);
                    return Err(text);
                }
            }
        }
    }
}

/// Whether a panic of this thread is handled as an error of a sink.
pub fn is_caught() -> bool {
    CALLS.with_borrow(|calls| !calls.is_empty())
}

/// For the panic hook of a program without unwinding, if [`is_caught`]: reports the panic and
/// never returns, so that the process continues without this thread.
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

    #[test]
    fn a_call_apart_returns_its_result_or_the_text_of_its_panic() {
        assert_eq!(apart(|| 7), Ok(7));
        let number = 7;
        let caught = apart(move || assert!(number < 7, "at {number}"));
        assert_eq!(caught, Err("at 7".to_owned()));
        // As in the program, where panics are not unwound.
        let lost = apart::<()>(|| end_thread(&"at 8"));
        assert_eq!(lost, Err("at 8".to_owned()));
    }

    #[tokio::test]
    async fn a_panic_that_is_not_unwound_is_told_and_ends_its_thread_alone() {
        let told = Arc::<PanicTold>::default();
        let teller = Arc::clone(&told);
        std::thread::spawn(move || catch_or_tell(Some(&teller), || end_thread(&"at 7")));
        assert_eq!(told.wait().await, "at 7");
    }
}
