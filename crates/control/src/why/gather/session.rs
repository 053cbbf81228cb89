//! The session of a client.

use martlet_broker::{ClientDetail, RetainedAtSubscribe};

use crate::why::facts::Session;

/// Since when the first message waits for the acknowledgement of others, of a connected client.
fn waiting_since_ms(found: &ClientDetail) -> Option<u64> {
    let info = &found.info;
    let received_ms = found.queue.first()?.head.as_ref()?.received_wall_ms;
    let waits = info.connected && info.in_flight > 0;
    waits.then(|| received_ms.max(info.connected_at_ms))
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
        session_expiry_secs: info.session_expiry_secs,
        queued: info.queued,
        in_flight: info.in_flight,
        waiting_since_ms: waiting_since_ms(&found),
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
