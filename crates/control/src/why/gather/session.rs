//! The session of a client.

use martlet_broker::{ClientDetail, DeliveryState, GroupDetail, RetainedAtSubscribe};

use crate::wall_clock::now_ms;
use crate::why::facts::{Backlog, Session};

/// Since when the first message waits for the acknowledgement of others, of a connected client.
fn waiting_since_ms(found: &ClientDetail) -> Option<u64> {
    let info = &found.info;
    let received_ms = found.queue.first()?.head.as_ref()?.received_wall_ms;
    let waits = info.connected && info.in_flight > 0;
    waits.then(|| received_ms.max(info.connected_at_ms))
}

/// Since when a connected client takes no more messages, as it has acknowledged none of as many as
/// it takes at once.
fn full_since_ms(found: &ClientDetail) -> Option<u64> {
    let connection = found.connection.as_ref()?;
    let is_full = found.info.in_flight >= usize::from(connection.receive_maximum);
    let mut all = found.in_flight.iter();
    if !is_full || all.any(|one| one.state == DeliveryState::Unsent) {
        return None;
    }
    let ages = found.in_flight.iter().filter_map(|one| one.sent_age_ms);
    Some(now_ms().saturating_sub(ages.min()?))
}

/// What waits until a subscriber acknowledges what was sent to it: in its queue or, of a Shared
/// Subscription, in that of its group.
pub(super) fn backlog_of(
    found: &ClientDetail,
    filter: &str,
    groups: &[GroupDetail],
) -> Option<Backlog> {
    let sent = found.info.in_flight;
    if let Some(since_ms) = waiting_since_ms(found) {
        let waiting = found.info.queued;
        return Some(Backlog {
            sent,
            waiting,
            since_ms,
        });
    }
    let full_ms = full_since_ms(found)?;
    let group = groups.iter().find(|group| *group.filter == *filter)?;
    Some(Backlog {
        sent,
        waiting: group.queued,
        since_ms: full_ms.max(group.waiting_since_ms?),
    })
}

pub(super) fn session_of(found: ClientDetail) -> Session {
    let subscriptions = found.subscriptions.iter();
    let subscriptions = subscriptions.map(|one| (one.filter.to_string(), one.qos as u8));
    let all = found.subscriptions.iter();
    let no_local = all.filter(|one| one.no_local);
    let no_local = no_local.map(|one| one.filter.to_string());
    let all = found.subscriptions.iter();
    let without_retained = all.filter(|one| one.retained != RetainedAtSubscribe::Sent);
    let without_retained = without_retained.map(|one| (one.filter.to_string(), one.retained));
    let info = &found.info;
    let left_ms = found.left_ms;
    Session {
        client_id: info.client_id.clone(),
        connected: info.connected,
        since_ms: match info.connected {
            true => Some(info.connected_at_ms),
            false => left_ms,
        },
        keep_alive_secs: info.keep_alive_secs,
        listener: found
            .connection
            .as_ref()
            .map_or_else(String::new, |connection| connection.listener.clone()),
        last_packet_ms: found
            .connection
            .as_ref()
            .and_then(|connection| connection.last_packet_ms),
        session_expiry_secs: info.session_expiry_secs,
        queued: info.queued,
        in_flight: info.in_flight,
        waiting_since_ms: waiting_since_ms(&found),
        full_since_ms: full_since_ms(&found),
        clean_start: found
            .connection
            .as_ref()
            .is_some_and(|connection| connection.clean_start),
        expired: info.expired,
        has_published: found.has_published,
        waits_for_store: found
            .connection
            .as_ref()
            .is_some_and(|connection| connection.waits_for_store || connection.answers_gated > 0),
        queue_full: found.queue_full,
        drops: found.drops.clone(),
        dropped_at: found.dropped_at.clone(),
        expired_at: found.expired_at,
        subscriptions: subscriptions.collect(),
        no_local: no_local.collect(),
        without_retained: without_retained.collect(),
    }
}
