//! Forwards reports, events and pauses of the reactors.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use martlet_control::Control;
use martlet_control::event::NodeEvent;
use martlet_control::event_kind::EventKind;
use martlet_reactor::Running;
#[cfg(target_os = "linux")]
use rustix::process::setpriority_process;
#[cfg(target_os = "linux")]
use rustix::thread::gettid;
use tracing::warn;

use super::standard::Standard;

/// Time between two reads of events. Meanwhile the shards wake no reader, and readers get the
/// events in few large batches.
const EVENTS_PAUSE: Duration = Duration::from_millis(10);

/// Nice value of a thread that gets a third of the CPU time of others.
#[cfg(target_os = "linux")]
pub(super) const NICE: i32 = 5;

/// Forwards reports from the reactors to the control plane. Ends with the reactors.
pub(super) fn pump_reports(running: &Running, control: &Arc<Control>) {
    let (reports, control) = (running.reports(), Arc::clone(control));
    std::thread::spawn(move || {
        for report in reports {
            control.report_received(report);
        }
    });
}

/// Forwards events to the log, the journal and the feed. Ends with the reactors.
pub(super) fn pump_events(
    running: &Running,
    control: &Arc<Control>,
    logs_connections: bool,
    standard: Standard,
) -> std::io::Result<JoinHandle<()>> {
    let (events, control) = (running.events(), Arc::clone(control));
    let pump = move || {
        may_wait();
        let is_drop = |event: &NodeEvent| {
            matches!(event.kind(), EventKind::Dropped | EventKind::RateExceeded)
        };
        let mut lost_before = 0;
        let mut batch = Vec::new();
        while events.recv_some(&mut batch) {
            let lost = control.events_dropped();
            let is_logged = |event: &NodeEvent| logs_connections || is_drop(event);
            let since = lost - lost_before;
            standard.gather(|| control.events_received(&mut batch, since, is_logged));
            lost_before = lost;
            if events.is_empty() {
                std::thread::sleep(EVENTS_PAUSE);
            }
        }
    };
    let thread = std::thread::Builder::new().name("martlet-events".to_owned());
    thread.spawn(pump)
}

/// Logs that accepting pauses, at most once a second.
pub(super) async fn tell_pauses(control: Arc<Control>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = 0;
    loop {
        ticks.tick().await;
        let pauses = control.accept_pauses();
        if pauses > told {
            warn!(
                times = pauses - told,
                open = control.sockets_open(),
                at_most = control.info.connections_max,
                "accepting paused: no descriptors were left for more connections; raise the limit of \
                 open files (ulimit -n, LimitNOFILE)"
            );
            told = pauses;
        }
    }
}

/// Ends the streams of events.
pub(super) async fn end_streams(control: &Control) {
    control.feed.close();
    let until = Instant::now() + Duration::from_millis(500);
    while control.feed.readers() > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Lowers the priority of this thread: if all cores are busy, threads that handle messages run
/// first.
#[cfg(target_os = "linux")]
fn may_wait() {
    // Without permission, the thread keeps its priority.
    let _ = setpriority_process(Some(gettid()), NICE);
}

/// Not supported for single threads on other systems.
#[cfg(not(target_os = "linux"))]
fn may_wait() {}
