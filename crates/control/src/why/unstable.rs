//! A connection that is there, and has ended again and again, though nothing of it was refused.

use martlet_broker::EventKind;

use super::Finding;
use super::facts::Facts;
use super::found::{Bearing, is_connected};
use crate::cause::Cause;
use crate::journal::Run;

/// Breaks within a short time that make a state of it, not an accident.
const BREAKS: u64 = 3;

/// Mean time between two of them, at most.
const BREAKS_EVERY_MS: u64 = 5 * 60 * 1000;

/// The same of ends that the client wanted: many clients connect for each message, and are well.
const ENDS: u64 = 10;
const ENDS_EVERY_MS: u64 = 1_000;

/// What there is to find of connections that ended without a cause that the node knows.
pub(super) fn unstable(facts: &Facts, run: &Run) -> Option<(Bearing, Finding)> {
    if run.last.what != EventKind::Disconnected || !is_connected(facts) {
        return None;
    }
    let (least, every_ms) = match run.sent_disconnect {
        true => (ENDS, ENDS_EVERY_MS),
        false => (BREAKS, BREAKS_EVERY_MS),
    };
    let between = run.count.saturating_sub(1);
    let took_ms = run.last.at_ms.saturating_sub(run.since_ms);
    if run.count < least || took_ms > between.saturating_mul(every_ms) {
        return None;
    }
    let count = run.count;
    let why = run.last.why.as_deref().unwrap_or_default();
    let (sentence, remedy) = match run.sent_disconnect {
        true => (
            format!(
                "it connects and disconnects repeatedly: it sent DISCONNECT {count} times, and is \
                 connected now"
            ),
            "have the client keep its connection; its own log shows why it sends DISCONNECT",
        ),
        false => (
            format!("its connection broke {count} times, though it is connected now: {why}"),
            "check the network between the client and the node, the power of the device, and the \
             client's own log: the client ended the connections, or the network interrupted them",
        ),
    };
    let mut finding = Finding::new(Cause::Unstable, sentence).remedy(remedy);
    (finding.count, finding.since_ms) = (Some(count), Some(run.since_ms));
    finding.last_ms = Some(run.last.at_ms);
    Some((Bearing::Happened, finding))
}
