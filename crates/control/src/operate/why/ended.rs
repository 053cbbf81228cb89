//! Connections of a client that end repeatedly.

use crate::event_kind::EventKind;

use crate::cause::{Bearing, Cause};
use crate::journal::Run;
use crate::why::{Asked, Finding, Side, is_of_packets, times_in_words};

/// Failures within a short time that make a state of it, not an accident.
const REPEATED: u64 = 2;

/// A connection that is there, and has ended for the same reason before.
pub(super) fn again_and_again(
    asked: &Asked,
    run: &Run,
    cause: Cause,
) -> Option<(Bearing, Finding)> {
    let is_of_limit = run.last.limit.is_some();
    if run.count < REPEATED && cause != Cause::TakenOver && !is_of_limit {
        return None;
    }
    let mut finding = Finding::of_run(run, cause);
    let session = asked.session.as_ref();
    let keep_alive = session.map_or(0, |session| session.keep_alive_secs);
    let times = times_in_words(run.count);
    finding.sentence = match cause {
        Cause::TakenOver => {
            let from = run.taken_from.iter();
            let from = from.map(|(ip, count)| format!("from {ip} ({})", times_in_words(*count)));
            let from = match from.collect::<Vec<_>>().join(" and ") {
                from if from.is_empty() => from,
                from => format!("; the connections were {from}"),
            };
            format!(
                "another client with the same Client Identifier took its connection over \
                 {times}{from}"
            )
        }
        Cause::KeepAlive => format!(
            "its connection was ended {times} because no packet arrived within 1.5 times its Keep \
             Alive of {keep_alive} s"
        ),
        _ => {
            let why = run.last.why.as_deref().unwrap_or_default();
            format!("its connection was ended {times}: {why}")
        }
    };
    let is_asked = asked.question.topic.is_some() && asked.side != Side::Receiver;
    let bearing = match run.count >= REPEATED {
        // The cause is what it has published, not the receivers.
        true if is_asked && is_of_packets(run) => Bearing::Topic,
        true => Bearing::Happened,
        false => Bearing::Remark,
    };
    Some((bearing, finding))
}

/// Finding about earlier takeovers of a client that is not connected now.
pub(super) fn duel_before(asked: &Asked, run: &Run) -> Option<(Bearing, Finding)> {
    if run.count < REPEATED || run.cause != Some(Cause::TakenOver) {
        return None;
    }
    let (_, mut finding) = again_and_again(asked, run, Cause::TakenOver)?;
    finding.sentence.push_str("; it is not connected now");
    Some((Bearing::Over, finding))
}

/// Breaks within a short time that make a state of it, not an accident.
const BREAKS: u64 = 3;

/// Mean time between two of them, at most.
const BREAKS_EVERY_MS: u64 = 5 * 60 * 1000;

/// Likewise, of ends that the client wanted: many clients connect for each message, and are well.
const ENDS: u64 = 10;
const ENDS_EVERY_MS: u64 = 1_000;

/// Findings about connections that ended without a cause that the node knows.
pub(super) fn unstable(asked: &Asked, run: &Run) -> Option<(Bearing, Finding)> {
    if run.last.what != EventKind::Disconnected || !asked.is_connected {
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
    let finding = Finding::new(Cause::Unstable, sentence).when(run);
    Some((Bearing::Happened, finding.remedy(remedy)))
}
