//! Facts that several parts see in events of a client, and in the counters of share groups.

use martlet_broker::{DropReason, GroupDetail, Limit, LossTimes};

use super::Finding;
use super::found::uncapitalized;
use crate::cause::Cause;
use crate::event_kind::EventKind;
use crate::event_words;
use crate::journal::{Run, remedy_of_limit};

/// A client was refused because its device has as many sessions as the type permits. The client has
/// proved that it is the device's.
pub(crate) fn is_one_too_many(run: &Run) -> bool {
    run.last.what == EventKind::Refused
        && run.last.limit.as_deref() == Some(Limit::UserSessions.option())
}

/// The client that was refused was another one: this one was connected then, and went later. Of a
/// client that has come again since, it is not known whether it was connected then.
pub(crate) fn was_there_then(runs: &[Run], run: &Run) -> bool {
    let refused_ms = run.last.at_ms;
    let last_ms = |what: EventKind| {
        let times = runs
            .iter()
            .filter(|other| other.last.what == what && other.last.client_id == run.last.client_id);
        times.map(|other| other.last.at_ms).max()
    };
    !run.last.client_id.is_empty()
        && last_ms(EventKind::Connected).is_some_and(|came_ms| came_ms < refused_ms)
        && last_ms(EventKind::Disconnected).is_some_and(|went_ms| went_ms >= refused_ms)
}

/// A connection ended because a packet of the client broke a rule or a limit.
pub(crate) fn is_of_packets(run: &Run) -> bool {
    matches!(
        run.cause,
        Some(Cause::ProtocolError | Cause::LimitReached | Cause::TooLarge | Cause::TooFast)
    )
}

/// How many messages a share group has dropped for one reason, since when and by which limit.
/// `whose`: words for the group.
pub(crate) fn lost_by_group(
    group: &GroupDetail,
    (reason, count, at): &(DropReason, u64, LossTimes),
    whose: &str,
) -> Finding {
    let is_queue = *reason == DropReason::QueueFull;
    let limit = group.queue_full.filter(|_| is_queue);
    let why = match limit {
        Some(limit) => limit.words(),
        None => uncapitalized(reason.meaning()),
    };
    let again = match is_queue && limit.is_none() {
        true => "; there is room again",
        false => "",
    };
    let sentence = event_words::dropped(*count, whose, &why, *reason) + again;
    let finding = Finding::of_drop(*reason, sentence).lost(*count, *at);
    match limit {
        Some(limit) => finding.remedy(remedy_of_limit(limit.limit)),
        None => finding,
    }
}
