//! Handles signals, from before any slow operation until the process ends.
//!
//! A separate thread waits for them, so that a hanging file or database does not keep a node from
//! being stopped. A second signal to stop ends the process at once. Systemd (`Type=notify`) is told
//! that the node is ready, reloads or stops.

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tracing::{error, info};

/// Time in which further signals count as the same request. One request to stop may cause several
/// signals: `timeout` signals its child and then the child's process group.
const ONE_WISH: Duration = Duration::from_secs(1);
/// Time limit for the last log line, which may hang too.
const LAST_LINE: Duration = Duration::from_millis(200);

/// "File size limit exceeded"; the number is the same on all supported systems.
const SIGXFSZ: i32 = 25;

/// Received signals.
#[derive(Clone, Debug)]
pub(super) struct Signals(Arc<SignalState>);

#[derive(Debug)]
struct SignalState {
    /// Name of the received signal to stop; empty if there is none.
    stop: watch::Sender<&'static str>,
    /// SIGHUP. Stored if it arrives before a task waits for it.
    hangup: Notify,
    phase: Mutex<Phase>,
}

/// Effect of a signal to stop.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Files are being read and nothing is open yet: the signal ends the process.
    Reading,
    /// The signal requests the node to stop.
    Running,
    /// The node was requested to stop at this time: another signal ends the process.
    Stopping(Instant),
}

impl Signals {
    /// Handles SIGTERM, SIGINT, SIGHUP and SIGXFSZ from now on.
    ///
    /// # Errors
    /// The system has no thread or descriptor for it.
    pub(super) fn handle() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot wait for signals")?;
        let _entered = runtime.enter();
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        // With a handler, a write beyond the limit of file sizes fails and does not end the
        // process: the store then waits for room, as on any full disk.
        let beyond_limit =
            signal(SignalKind::from_raw(SIGXFSZ)).context("cannot handle SIGXFSZ")?;
        drop(_entered);
        let signals = Self(Arc::new(SignalState {
            stop: watch::Sender::new(""),
            hangup: Notify::new(),
            phase: Mutex::new(Phase::Reading),
        }));
        let asked = signals.clone();
        let wait = move || {
            let _beyond_limit = beyond_limit;
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => asked.stop("SIGTERM"),
                        _ = interrupt.recv() => asked.stop("SIGINT"),
                        _ = hangup.recv() => asked.0.hangup.notify_one(),
                    }
                }
            });
        };
        let thread = std::thread::Builder::new().name("martlet-signals".to_owned());
        thread.spawn(wait).context("cannot wait for signals")?;
        Ok(signals)
    }

    /// Call this before the node opens its data: from now on a signal stops it in order.
    pub(super) fn set_running(&self) {
        self.set(Phase::Running);
    }

    /// Call this when the node stops, for whatever reason: the next signal ends the process.
    pub(super) fn set_stopping(&self) {
        let mut phase = self.0.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*phase, Phase::Stopping(_)) {
            *phase = Phase::Stopping(Instant::now());
        }
    }

    /// Waits for a signal to stop, and returns its name.
    pub(super) async fn stop_asked(&self) -> &'static str {
        let mut stop = self.0.stop.subscribe();
        // The sender lives as long as `self`.
        let found = stop.wait_for(|name| !name.is_empty()).await;
        found.map_or("", |name| *name)
    }

    /// Waits for a SIGHUP. Several signals are combined; an earlier one is not lost.
    pub(super) async fn hangup(&self) {
        self.0.hangup.notified().await;
    }

    fn set(&self, phase: Phase) {
        *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    fn stop(&self, name: &'static str) {
        let phase = *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner);
        match phase {
            Phase::Reading => end(0, move || info!("{name} during the start: exiting")),
            Phase::Running => {
                self.set_stopping();
                self.0.stop.send_replace(name);
            }
            Phase::Stopping(since) if since.elapsed() >= ONE_WISH => {
                end(1, || error!("a second signal: exiting at once"));
            }
            Phase::Stopping(_) => {}
        }
    }
}

/// Ends the process even if something hangs, including the log.
fn end(code: i32, tell: impl FnOnce() + Send + 'static) -> ! {
    let told = std::thread::spawn(tell);
    let until = Instant::now() + LAST_LINE;
    while !told.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::process::exit(code)
}

/// The node is ready for clients.
pub(super) fn notify_ready() {
    notify("READY=1");
}

/// Files are being reloaded, for `Type=notify-reload`; [`notify_ready`] ends it.
pub(super) fn notify_reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The node is stopping.
pub(super) fn notify_stopping() {
    notify("STOPPING=1");
}

fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    // Errors are ignored: the service manager may not listen.
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(state.as_bytes(), path);
    }
}
