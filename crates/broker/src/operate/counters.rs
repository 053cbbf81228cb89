//! The counters of a shard. Queues that are full are counted over turns: as many sessions may drop
//! messages as there are.

use core::ops::Bound;

use crate::id::{RecordNumber, SessionId};
use crate::node::{Cx, Node};
use crate::operate::jobs::CountersScan;
use crate::operate::step::Step;
use crate::report::Answer;
use crate::shard::Shard;

/// Queues that a step looks at.
const QUEUES_PER_STEP: usize = 1024;

impl Shard {
    /// Goes on counting; sessions that have room again are not looked at by the next scan.
    pub(super) fn scan_counters<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        scan: &mut CountersScan,
    ) -> Step {
        let limits = &self.settings.limits;
        let (count_max, bytes_max) = (limits.queued_messages, limits.queued_bytes);
        if !scan.has_sessions {
            let after = scan.after.map_or(Bound::Unbounded, Bound::Excluded);
            let all = self.sessions.dropping.range((after, Bound::Unbounded));
            let some: Vec<SessionId> = all.take(QUEUES_PER_STEP).copied().collect();
            for id in &some {
                let session = self.sessions.get(*id);
                let queue = session.map(|session| session.outbound.queue());
                if queue.is_none_or(|queue| !queue.is_dropping()) {
                    self.sessions.dropping.remove(id);
                } else if queue.is_some_and(|queue| self.is_queue_full(*id, queue)) {
                    scan.full += 1;
                }
            }
            scan.after = some.last().copied();
            scan.has_sessions = some.len() < QUEUES_PER_STEP;
            return match scan.has_sessions {
                true => self.scan_counters(cx, scan),
                false => Step::More,
            };
        }
        let end = (scan.next_group + QUEUES_PER_STEP).min(self.groups.places());
        let places = scan.next_group..end;
        scan.full += self.groups.full_queues(places, count_max, bytes_max);
        scan.next_group = end;
        if end < self.groups.places() {
            return Step::More;
        }
        let counters = self.counters_now(cx, scan.full);
        Step::Done(Answer::Snapshot(Box::new(counters)), RecordNumber(0))
    }
}
