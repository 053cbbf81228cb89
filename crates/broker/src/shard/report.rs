//! Reports of a shard about itself: counters, gauges, sessions, and whether its accounts balance.

use smallvec::SmallVec;

use crate::counters::Counters;
use crate::id::{SessionId, ShardId};
use crate::node::{Cx, Node};
use crate::report::ClientInfo;
use crate::session::Session;
use crate::shard::Shard;

impl Shard {
    /// Counters and gauges as of now; messages that are held are counted where they lie. Slow: for
    /// tests.
    pub fn snapshot<N: Node>(&self, cx: &Cx<'_, N>) -> Counters {
        let mut counters = self.counters_now(cx, self.full_queues());
        counters.held = self.held();
        counters
    }

    /// Counters and gauges as of now, without a look at each session: there may be a million.
    /// `queues_full` is what was counted last.
    pub(crate) fn counters_now<N: Node>(&self, cx: &Cx<'_, N>, queues_full: usize) -> Counters {
        let mut counters = self.counters.clone();
        let parts = self.accepted_parts();
        counters.connections = self.connections.accepted.saturating_sub(parts) as u64;
        counters.parts = parts as u64;
        counters.lobby_connections = self.lobby.len() as u64;
        counters.sessions = (self.sessions.len() - self.sessions.of_parts()) as u64;
        counters.subscriptions = self.subscribers.count() as u64;
        counters.share_groups = self.groups.len() as u64;
        counters.queues_full = queues_full as u64;
        let settled = counters.delivered + counters.dropped_total() + counters.expired;
        counters.held = counters.matched.saturating_sub(settled);
        counters.memory_bytes = self.used_bytes() as u64;
        counters.route_cache_bytes = self.router.cache.memory_bytes() as u64;
        counters.records_appended = self.store.records.last().0;
        if self.id == ShardId(0) {
            let (count, bytes) = cx.node.retained(|store| (store.len(), store.bytes()));
            counters.retained_messages = count as u64;
            counters.retained_bytes = bytes as u64;
        }
        counters
    }

    /// Sessions and share groups whose queue is full.
    fn full_queues(&self) -> usize {
        let limits = &self.settings.limits;
        let (count_max, bytes_max) = (limits.queued_messages, limits.queued_bytes);
        let dropping = self.sessions.dropping.iter();
        let full = dropping.filter(|id| {
            let session = self.sessions.get(**id);
            session.is_some_and(|found| self.is_queue_full(**id, found.outbound.queue()))
        });
        let groups = 0..self.groups.places();
        full.count() + self.groups.full_queues(groups, count_max, bytes_max)
    }

    /// The equation of idea 6 holds for each session, each share group and the whole shard. Slow:
    /// for tests.
    pub fn accounts_balance(&self) -> bool {
        let in_output = self.qos0_in_output();
        let sessions = self.sessions.iter().all(|(index, session)| {
            let owner = self.sessions.id_of(index);
            let of_session = in_output.iter().filter(|(id, _)| *id == owner);
            let qos0: u64 = of_session.map(|(_, count)| u64::from(*count)).sum();
            let held = session.outbound.held() as u64 + qos0;
            let sums = &session.accounting;
            sums.matched == sums.delivered + sums.dropped() + sums.expired() + held
        });
        let mut counters = self.counters.clone();
        counters.held = self.held();
        let answers = self.answers_balance();
        sessions && answers && self.groups.balanced() && counters.balanced()
    }

    pub(super) fn held(&self) -> u64 {
        let sessions: usize = self
            .sessions
            .iter()
            .map(|(_, session)| session.outbound.held())
            .sum();
        let output: u64 = self
            .connections
            .iter()
            .map(|found| u64::from(found.qos0_in_output()))
            .sum();
        (sessions + self.groups.held()) as u64 + output
    }

    /// Sessions whose QoS 0 messages lie in output buffers, and how many. Nearly always few: tests
    /// that count allocations check the accounts as well.
    fn qos0_in_output(&self) -> SmallVec<[(SessionId, u32); 32]> {
        let holding = self
            .connections
            .iter()
            .filter(|found| found.qos0_in_output() > 0);
        holding
            .filter_map(|found| Some((found.owner()?, found.qos0_in_output())))
            .collect()
    }

    pub(crate) fn info(&self, session: &Session) -> ClientInfo {
        let id = session
            .connection()
            .map(|connection| self.connections.id_of(connection));
        let connection = id.and_then(|id| self.connections.get(id));
        ClientInfo {
            tenant: session.tenant,
            client_id: session.client_id.to_string(),
            connected: connection.is_some(),
            // Of a client that is away, the user that it has proved to be.
            user_name: match connection {
                Some(found) => found.user_name().map(|name| name.to_string()),
                None => session
                    .permit
                    .as_deref()
                    .and_then(|permit| permit.user_name())
                    .map(str::to_owned),
            },
            version: session.version,
            address: connection.and_then(|found| found.address()),
            keep_alive_secs: connection.map_or(0, |found| found.client().keep_alive_secs),
            session_expiry_secs: session.expiry_secs,
            connected_at_ms: session.connected_at_wall_ms(),
            subscriptions: session.subscriptions.len() + self.count_of_lane(session),
            queued: session.outbound.queue().len(),
            in_flight: session.outbound.in_flight.len(),
            matched: session.accounting.matched,
            delivered: session.accounting.delivered,
            dropped: session.accounting.dropped(),
            expired: session.accounting.expired(),
        }
    }
}
