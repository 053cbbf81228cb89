//! The session of a client, and those of the lanes of an integration as one.

use martlet_broker::{ClientDetail, DeliveryState, GroupDetail, LossTimes, RetainedAtSubscribe};

use crate::control::{Control, ControlError};
use crate::integrations::Integrations;
use crate::journal::Run;
use crate::telemetry::Telemetry;
use crate::wall_clock::now_ms;
use crate::why::Question;
use crate::why::facts::{Backlog, Facts, Session};

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

impl Control {
    /// The facts of an integration, with the sessions and the recent events of all of its lanes. A
    /// publisher's messages are in one of them alone.
    pub(super) async fn facts_of_integration(
        &self,
        all: &Integrations,
        telemetry: Option<&Telemetry>,
        question: &Question,
    ) -> Result<Facts, ControlError> {
        let (tenant, part) = (question.tenant, &*question.name);
        let lanes = all.lanes_of(tenant, part).await?;
        let (mut sessions, mut runs) = (Vec::new(), Vec::<Run>::new());
        for lane in &lanes {
            let session = self.session(tenant, lane).await?;
            sessions.extend(session.map(session_of));
            runs.extend(self.journal.runs_of(tenant, lane, &self.presence));
        }
        runs.sort_by_key(|run| (run.last.at_ms, run.last.seq));
        let facts = self.facts_of(telemetry, question, part, None, runs).await?;
        Ok(Facts {
            session: as_one(sessions),
            is_integration: true,
            // It has no address: those are of strangers.
            nameless: Vec::new(),
            ..facts
        })
    }
}

/// The sessions of all lanes of an integration as one; none if it has none.
fn as_one(lanes: impl IntoIterator<Item = Session>) -> Option<Session> {
    let mut lanes = lanes.into_iter();
    let mut all = lanes.next()?;
    for lane in lanes {
        all.connected &= lane.connected;
        all.since_ms = all.since_ms.into_iter().chain(lane.since_ms).min();
        all.queued += lane.queued;
        all.in_flight += lane.in_flight;
        all.waits_for_store |= lane.waits_for_store;
        all.queue_full = all.queue_full.or(lane.queue_full);
        if lane.expired > 0 {
            all.expired_at = match all.expired {
                0 => lane.expired_at,
                _ => both(all.expired_at, lane.expired_at),
            };
            all.expired += lane.expired;
        }
        for ((reason, count), at) in lane.drops.into_iter().zip(lane.dropped_at) {
            let known = all.drops.iter().position(|(known, _)| *known == reason);
            match known {
                Some(index) => {
                    all.drops[index].1 += count;
                    all.dropped_at[index] = both(all.dropped_at[index], at);
                }
                None => {
                    all.drops.push((reason, count));
                    all.dropped_at.push(at);
                }
            }
        }
    }
    Some(all)
}

/// When messages were lost on either of two lanes. A time of 0 is unknown.
fn both(one: LossTimes, other: LossTimes) -> LossTimes {
    let firsts = [one.first_ms, other.first_ms];
    let known = firsts.into_iter().filter(|ms| *ms > 0);
    LossTimes {
        first_ms: known.min().unwrap_or(0),
        last_ms: one.last_ms.max(other.last_ms),
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::DropReason;

    use super::*;

    const QUEUE_FULL: DropReason = DropReason::QueueFull;

    fn lane(drops: &[(DropReason, u64, u64, u64)], expired: u64) -> Session {
        Session {
            connected: true,
            queued: 2,
            in_flight: 1,
            drops: drops.iter().map(|drop| (drop.0, drop.1)).collect(),
            dropped_at: drops
                .iter()
                .map(|drop| LossTimes {
                    first_ms: drop.2,
                    last_ms: drop.3,
                })
                .collect(),
            expired,
            expired_at: LossTimes {
                first_ms: expired * 100,
                last_ms: expired * 200,
            },
            ..Session::default()
        }
    }

    #[test]
    fn losses_of_all_lanes_are_counted_together() {
        let lanes = [
            lane(&[], 0),
            lane(&[(QUEUE_FULL, 3, 500, 900)], 2),
            lane(
                &[(DropReason::TooOld, 1, 600, 600), (QUEUE_FULL, 4, 400, 700)],
                1,
            ),
        ];
        let all = as_one(lanes).unwrap();
        assert_eq!((all.queued, all.in_flight, all.expired), (6, 3, 3));
        assert_eq!(all.drops, [(QUEUE_FULL, 7), (DropReason::TooOld, 1)]);
        let at = |first_ms, last_ms| LossTimes { first_ms, last_ms };
        assert_eq!(all.dropped_at, [at(400, 900), at(600, 600)]);
        assert_eq!(all.expired_at, at(100, 400));
    }
}
