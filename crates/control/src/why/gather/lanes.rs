//! The sessions of the lanes of an integration as one.

use martlet_broker::LossTimes;

use super::Inquirer;
use crate::control::{Control, ControlError};
use crate::integrations::Integrations;
use crate::journal::Run;
use crate::why::asked::Asked;
use crate::why::session::Session;

impl Control {
    /// The integration that is asked about, with the sessions and the recent events of all of its
    /// lanes. A publisher's messages are in one of them alone.
    pub(super) async fn asked_of_integration(
        &self,
        all: &Integrations,
        who: &Inquirer<'_>,
    ) -> Result<Asked, ControlError> {
        let (tenant, part) = (who.question.tenant, &*who.question.name);
        let (mut sessions, mut runs) = (Vec::new(), Vec::<Run>::new());
        for lane in all.lanes_of(tenant, part).await? {
            let session = self.session(tenant, &lane).await?;
            sessions.extend(session.map(Session::from));
            runs.extend(self.journal.runs_of(tenant, &lane, &self.presence));
        }
        runs.sort_by_key(|run| (run.last.at_ms, run.last.seq));
        let asked = Asked {
            session: as_one(sessions),
            is_integration: true,
            ..self.asked_of(who, part, None, runs).await?
        };
        Ok(asked.derived())
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
