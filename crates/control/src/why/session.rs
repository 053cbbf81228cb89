//! The session of a client, as far as it matters for `why`.

use martlet_broker::{
    ClientDetail, DeliveryState, DropReason, GroupDetail, LossTimes, ReachedLimit,
    RetainedAtSubscribe,
};

use super::topic::matches;
use crate::wall_clock::now_ms;

/// A session, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) client_id: String,
    pub(crate) connected: bool,
    /// Since when it is so, as far as known.
    pub(crate) since_ms: Option<u64>,
    /// Seconds; 0 is none.
    pub(crate) keep_alive_secs: u16,
    /// URL of the listener that it came by; empty: it is away.
    pub(crate) listener: String,
    /// When its last packet arrived; none: it is not connected.
    pub(crate) last_packet_ms: Option<u64>,
    /// Seconds that it outlives its connection.
    pub(crate) session_expiry_secs: u32,
    pub(crate) queued: usize,
    /// Messages sent and not acknowledged.
    pub(crate) in_flight: usize,
    /// Since when the first message of the queue waits for those on this connection, milliseconds
    /// since the Unix epoch; none: none waits, or it is not known.
    pub(crate) waiting_since_ms: Option<u64>,
    /// Since when as many messages are sent to it and not acknowledged as it takes at once,
    /// milliseconds since the Unix epoch; none: it takes more.
    pub(crate) full_since_ms: Option<u64>,
    /// The last CONNECT had Clean Start.
    pub(crate) clean_start: bool,
    /// Messages for it that were dropped since the node was started, by reason.
    pub(crate) drops: Vec<(DropReason, u64)>,
    /// When that was, in the same order.
    pub(crate) dropped_at: Vec<LossTimes>,
    /// When messages expired.
    pub(crate) expired_at: LossTimes,
    /// Tells that what it has published waits until the message store takes it.
    pub(crate) waits_for_store: bool,
    /// The bound that its queue is at, if it has dropped messages and has no room since.
    pub(crate) queue_full: Option<ReachedLimit>,
    /// Messages for it that expired.
    pub(crate) expired: u64,
    /// Messages that matched its subscriptions since the node was started.
    pub(crate) matched: u64,
    /// The device has published since it logged in; none: that is not known.
    pub(crate) has_published: Option<bool>,
    pub(crate) subscriptions: Vec<(String, u8)>,
    /// The ones of them with No Local.
    pub(crate) no_local: Vec<String>,
    /// The ones of them that brought no retained messages when they were last asked for, and why.
    pub(crate) without_retained: Vec<(String, RetainedAtSubscribe)>,
}

impl Session {
    /// Messages for it that were dropped, by reason, and when.
    pub(crate) fn losses(&self) -> impl Iterator<Item = (DropReason, u64, LossTimes)> {
        let all = self.drops.iter().enumerate();
        let all = all.filter(|(_, (_, count))| *count > 0);
        all.map(|(index, (reason, count))| {
            let at = self.dropped_at.get(index).copied().unwrap_or_default();
            (*reason, *count, at)
        })
    }

    /// The subscriptions that a topic matches, each with its QoS; of a Topic Filter, that one.
    pub(crate) fn matching(&self, topic: &str) -> Vec<(&str, u8)> {
        let own = self.subscriptions.iter();
        let own = own.filter(|(filter, _)| filter == topic || matches(filter, topic));
        own.map(|(filter, qos)| (&**filter, *qos)).collect()
    }
}

impl From<ClientDetail> for Session {
    fn from(found: ClientDetail) -> Self {
        let info = &found.info;
        let connection = found.connection.as_ref();
        let all = || found.subscriptions.iter();
        let no_local = all().filter(|one| one.no_local);
        let without_retained = all().filter(|one| one.retained != RetainedAtSubscribe::Sent);
        Self {
            client_id: info.client_id.clone(),
            connected: info.connected,
            since_ms: match info.connected {
                true => Some(info.connected_at_ms),
                false => found.left_ms,
            },
            keep_alive_secs: info.keep_alive_secs,
            listener: connection.map_or_else(String::new, |of| of.listener.clone()),
            last_packet_ms: connection.and_then(|of| of.last_packet_ms),
            session_expiry_secs: info.session_expiry_secs,
            queued: info.queued,
            in_flight: info.in_flight,
            waiting_since_ms: waiting_since_ms(&found),
            full_since_ms: full_since_ms(&found),
            clean_start: connection.is_some_and(|of| of.clean_start),
            waits_for_store: connection
                .is_some_and(|of| of.waits_for_store || of.answers_gated > 0),
            subscriptions: all()
                .map(|one| (one.filter.to_string(), one.qos as u8))
                .collect(),
            no_local: no_local.map(|one| one.filter.to_string()).collect(),
            without_retained: without_retained
                .map(|one| (one.filter.to_string(), one.retained))
                .collect(),
            expired: info.expired,
            matched: info.matched,
            expired_at: found.expired_at,
            has_published: found.has_published,
            queue_full: found.queue_full,
            drops: found.drops,
            dropped_at: found.dropped_at,
        }
    }
}

/// Messages that wait until a client acknowledges those that were sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Messages that were sent to it and are not acknowledged.
    pub(crate) sent: usize,
    /// Messages that wait, in its queue or for any member of its share group.
    pub(crate) waiting: usize,
    /// Since when it is so.
    pub(crate) since_ms: u64,
}

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

/// Messages that wait until a subscriber acknowledges what was sent to it: in its queue or, of a
/// Shared Subscription, in that of its group.
pub(crate) fn backlog_of(
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
