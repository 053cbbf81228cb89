//! SIGINT and SIGTERM during a measurement.
//!
//! Responsible for noting the first one, so that the measurement ends with what it has. Another one
//! ends the process.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a process that SIGINT has ended.
pub const INTERRUPTED: u8 = 130;

/// How long what is on its way may still arrive after a signal.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);

/// A signal has come.
static SEEN: AtomicBool = AtomicBool::new(false);
/// Whether the measurement is to end.
static ENDS: AtomicBool = AtomicBool::new(false);

/// Whether a signal has ended the measurement.
pub fn is_interrupted() -> bool {
    SEEN.load(Ordering::Relaxed)
}

/// Whether what runs is to end.
pub(super) fn is_to_end() -> bool {
    ENDS.load(Ordering::Relaxed)
}

/// Lets the rest run, such as the removal of what was stored.
pub(super) fn go_on() {
    ENDS.store(false, Ordering::Relaxed);
}

/// Notes the first signal; the second one ends the process.
pub(super) fn watch() -> anyhow::Result<()> {
    on_each(|is_first| {
        if !is_first {
            process::exit(INTERRUPTED.into());
        }
        ENDS.store(true, Ordering::Relaxed);
        true
    })
}

/// Calls this at each signal, until it returns false. Its argument is whether it is the first one.
pub(super) fn on_each(mut call: impl FnMut(bool) -> bool + Send + 'static) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(guard);
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                let is_first = !SEEN.swap(true, Ordering::Relaxed);
                if !call(is_first) {
                    return;
                }
            }
        });
    });
    Ok(())
}
