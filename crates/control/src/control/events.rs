//! Handling of the events of shards: lines in the log, entries in the journal and in the feed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use martlet_broker::{Event, EventGroup, EventNotice, Realm, TenantId, UserName};

use super::Control;
use crate::event::{NodeEvent, NodeNotice};
use crate::event_kind::EventKind;
use crate::event_log;
use crate::feed::{self};
use crate::lock::lock;
use crate::log_limit::LeftOut;
use crate::logging::Subject;
use crate::presence::ClientTable;

/// Time that events take to arrive, at most, unless there are more than can be processed.
const SETTLED_WITHIN: Duration = Duration::from_millis(500);

impl Control {
    /// An event of which everything is logged: of its client, its address or its topic. `arrived`
    /// are clients whose presence is not known yet, with their addresses.
    fn is_traced(&self, notice: &NodeNotice, arrived: &HashMap<(TenantId, &str), IpAddr>) -> bool {
        let event = &notice.event;
        let Some(logging) = self.logging.as_ref() else {
            return false;
        };
        logging.is_traced(|subject| match subject {
            Subject::Client(tenant, client_id) => {
                *tenant == notice.head.tenant && notice.head.is_of_client(client_id)
            }
            Subject::Address(address) => {
                let own = notice.head.ip();
                let known = || {
                    let (tenant, client_id) = (notice.head.tenant, notice.head.whole_client_id()?);
                    let arrived = arrived.get(&(tenant, client_id)).copied();
                    arrived.or_else(|| self.presence.address_of(tenant, client_id))
                };
                own.or_else(known) == Some(*address)
            }
            Subject::Topic(filter) => {
                event.kind().group() != Some(EventGroup::Subscription)
                    && feed::has_topic(event, filter)
            }
        })
    }

    /// Takes events of the shards: into the log, the journal and the feed. `is_logged` decides
    /// which have a line at the level of the log.
    pub fn events_received(
        &self,
        events: &mut Vec<EventNotice>,
        lost: u64,
        is_logged: impl Fn(&NodeEvent) -> bool,
    ) {
        let mut taken: Vec<NodeNotice> = events.drain(..).map(NodeNotice::from).collect();
        taken
            .iter_mut()
            .for_each(|notice| self.settle_claim(notice));
        let count = taken.len() as u64;
        self.take_events(&mut taken, lost, is_logged);
        self.events_taken.send_modify(|taken| *taken += count);
    }

    /// Reports an event of the control plane itself.
    pub fn report_event(&self, notice: NodeNotice) {
        self.take_events(&mut vec![notice], 0, |_| true);
    }

    fn take_events(
        &self,
        events: &mut Vec<NodeNotice>,
        lost: u64,
        is_logged: impl Fn(&NodeEvent) -> bool,
    ) {
        let has_traces = self.logging().is_some_and(|logging| logging.has_traces());
        let mut arrived = HashMap::new();
        let logs_drops = self.feed.logs_drops();
        let mut log_limit = lock(&self.log_limit);
        let now = Instant::now();
        for (at, notice) in events.iter().enumerate() {
            let event = &notice.event;
            // Its CONNECT and its authentication are events before it.
            for notice in events[at..].iter().take(3).filter(|_| has_traces) {
                if notice.event.kind() == EventKind::Connected {
                    let who = (notice.head.tenant, &*notice.head.client_id);
                    arrived.extend(notice.head.ip().map(|ip| (who, ip)));
                }
            }
            let is_traced = has_traces && self.is_traced(notice, &arrived);
            // Shards report drops for other readers too. The log does not depend on those readers.
            let is_for_log = logs_drops || !matches!(event.shard(), Some(Event::Dropped { .. }));
            // Of traced clients all events are wanted.
            let left_out = match is_traced {
                true => Some(LeftOut::default()),
                false if is_for_log && is_logged(event) => log_limit.take(notice, now),
                false => None,
            };
            if let Some(left_out) = left_out {
                let worded = self.journal.commands().remedy(notice);
                event_log::write(notice, worded.as_ref(), is_traced, left_out);
            }
        }
        drop(log_limit);
        let journal = |known: &ClientTable, notice: &NodeNotice| {
            if logs_drops || !matches!(notice.event.shard(), Some(Event::Dropped { .. })) {
                self.journal.write(notice, known);
            }
        };
        self.feed.write(events, lost, &self.presence, journal);
        self.journal.announce();
    }

    /// A client that is refused before it has logged in, as in the TLS handshake, may have shown a
    /// name: the refusal is reported to the team of that name.
    fn settle_claim(&self, notice: &mut NodeNotice) {
        let (head, is_refused) = (&mut notice.head, notice.event.kind() == EventKind::Refused);
        let Some(UserName::Claimed(name)) = &mut head.user else {
            return;
        };
        let is_open = head.is_tenant_open || head.client_id.is_empty();
        if !is_refused || !is_open || head.tenant != TenantId::default() {
            return;
        }
        head.is_tenant_open = false;
        if let Some(policy) = self.policy() {
            let (realm, own) = policy.tenant_of(Realm::COMMON, name);
            (head.tenant, *name) = (realm.tenant(), own.into());
        }
    }

    /// Waits until what has happened up to now is in the journal and the feed, where it comes a few
    /// milliseconds later. After that time it returns anyway.
    pub async fn settle_events(&self) {
        // A shard that answers has reported its earlier events.
        self.wait_until_all_reported().await;
        let notice = self.shards.events_reported();
        let mut taken = self.events_taken.subscribe();
        let waiting = taken.wait_for(|taken| *taken >= notice);
        let _ = tokio::time::timeout(SETTLED_WITHIN, waiting).await;
    }
}
