//! Events that happened recently to clients, kept in memory, each with a remedy where there is one.
//!
//! Bounded by number and by bytes. Refusals and losses have a list of their own, so that clients
//! that connect and disconnect often do not push them out. The last outcome of each name is kept
//! for longer (`runs`). Events are kept as they came, but for long names, which are cut, and put
//! into words for readers. The data plane never waits for it.

mod commands;
mod entry;
mod kind;
mod lacking;
mod otherwise;
mod refused;
mod remedy;
mod runs;
mod texts;
mod worded_remedy;

pub(crate) use commands::{AclFileOfListener, Commands, TablesNow, restoring};
pub(crate) use lacking::Lacking;
pub use runs::Run;
pub(crate) use texts::{by_drop as remedy_of_drop, by_limit as remedy_of_limit};
pub use worded_remedy::WordedRemedy;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use martlet_broker::{DropReason, Event, RefusalCause, TenantId, is_of_name};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::cause::Cause;
use crate::event::{NodeEvent, NodeNotice};
use crate::event_kind::EventKind;
use crate::facts::KeyVariables;
use crate::presence::{ClientTable, Presence};
use crate::wall_clock::now_ms;
pub use entry::Entry;
use entry::NotedEvent;
use runs::Runs;

/// Entries about what was refused or lost, at most.
const TROUBLES: usize = 8_192;

/// Entries about connects and disconnects, at most.
const COMINGS: usize = 512;

/// Bytes of all entries, approximately, at most; the oldest make room.
const BYTES_MAX: usize = 16 << 20;

/// Refused connections: entries that are shown, and entries that are looked at.
const CONNECTS: usize = 8;
const CONNECTS_LOOKED_AT: usize = 1_024;

/// Refused publishes that are looked at, at most.
const REFUSED_LOOKED_AT: usize = 256;

/// The last HTTP request with an API key that was refused.
#[derive(Clone, Debug)]
pub(crate) struct RefusedOfKey {
    /// Request that was refused.
    pub(crate) entry: Entry,
    /// The scope that the key lacks; none: it was refused for something else.
    pub(crate) lacking: Option<&'static str>,
    /// The device that the path names, if the request was refused for that.
    pub(crate) device: Option<String>,
}

/// Entries behind a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EventPage)]
pub struct Page {
    /// In order.
    pub items: Vec<Entry>,
    /// Number to ask for next.
    pub next: u64,
    /// Number of entries that were asked for and are no longer kept.
    pub gone: u64,
}

/// The entries.
#[derive(Debug)]
pub struct Journal {
    /// For what is to be typed.
    commands: Commands,
    kept: Mutex<JournalEntries>,
    /// The number of the last entry, for those that wait for new ones.
    last: watch::Sender<u64>,
}

#[derive(Debug)]
struct JournalEntries {
    troubles: Entries,
    comings: Entries,
    runs: Runs,
    last: u64,
    /// Number of the last trouble that is no longer kept.
    removed: u64,
}

impl Default for JournalEntries {
    fn default() -> Self {
        let mut kept = Self {
            troubles: Entries::new(TROUBLES),
            comings: Entries::new(COMINGS),
            runs: Runs::default(),
            last: 0,
            removed: 0,
        };
        kept.set_bytes_max(BYTES_MAX);
        kept
    }
}

/// Entries in order; the oldest make room.
#[derive(Debug)]
struct Entries {
    written: VecDeque<Arc<NotedEvent>>,
    count_max: usize,
    /// Bytes of all entries, approximately, and at most.
    bytes: usize,
    bytes_max: usize,
}

impl Entries {
    fn new(count_max: usize) -> Self {
        Self {
            written: VecDeque::new(),
            count_max,
            bytes: 0,
            bytes_max: usize::MAX,
        }
    }

    /// Appends an entry; the number of the last one that had to go for it.
    fn push(&mut self, written: Arc<NotedEvent>) -> Option<u64> {
        self.bytes += written.memory_bytes();
        self.written.push_back(written);
        self.make_room()
    }

    fn make_room(&mut self) -> Option<u64> {
        let mut last = None;
        while self.written.len() > self.count_max || self.bytes > self.bytes_max {
            let oldest = self.written.pop_front()?;
            self.bytes -= oldest.memory_bytes();
            last = Some(oldest.seq);
        }
        last
    }
}

impl JournalEntries {
    /// In the order of their numbers, from this one on.
    fn from(&self, from: u64) -> impl Iterator<Item = &Arc<NotedEvent>> {
        let part =
            |all: &VecDeque<Arc<NotedEvent>>| all.partition_point(|written| written.seq < from);
        let (troubles, comings) = (&self.troubles.written, &self.comings.written);
        let mut troubles = troubles.range(part(troubles)..).peekable();
        let mut comings = comings.range(part(comings)..).peekable();
        std::iter::from_fn(move || match (troubles.peek(), comings.peek()) {
            (Some(trouble), Some(coming)) if coming.seq < trouble.seq => comings.next(),
            (Some(_), _) => troubles.next(),
            (None, _) => comings.next(),
        })
    }

    fn latest_first(&self) -> impl Iterator<Item = &Arc<NotedEvent>> {
        let mut troubles = self.troubles.written.iter().rev().peekable();
        let mut comings = self.comings.written.iter().rev().peekable();
        std::iter::from_fn(move || match (troubles.peek(), comings.peek()) {
            (Some(trouble), Some(coming)) if coming.seq > trouble.seq => comings.next(),
            (Some(_), _) => troubles.next(),
            (None, _) => comings.next(),
        })
    }

    /// Three quarters are for what was refused or lost.
    fn set_bytes_max(&mut self, bytes: usize) {
        self.comings.bytes_max = bytes / 4;
        self.troubles.bytes_max = bytes - self.comings.bytes_max;
        self.comings.make_room();
        self.removed = self.troubles.make_room().unwrap_or(self.removed);
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            commands: Commands::default(),
            kept: Mutex::default(),
            last: watch::Sender::new(0),
        }
    }
}

impl Journal {
    /// A journal of the node to which these options lead commands, as they are typed. `tables` have
    /// which team owns a tenant, and where the rules of a name are; none: not known. `bytes_max`
    /// bounds what is kept, if that is less than what it takes anyhow.
    pub(crate) fn of_node(
        options: &str,
        variables: KeyVariables,
        tables: Option<TablesNow>,
        bytes_max: Option<usize>,
    ) -> Self {
        let journal = Self {
            commands: Commands {
                node: options.to_owned(),
                variables,
                tables,
                ..Commands::default()
            },
            ..Self::default()
        };
        if let Some(bytes) = bytes_max {
            journal.bound(bytes);
        }
        journal
    }

    /// Remedies for this node.
    pub(crate) fn commands(&self) -> &Commands {
        &self.commands
    }

    /// Whether the journal keeps it: connects, disconnects, refusals and losses. There are too many
    /// other events.
    pub fn keeps(event: &NodeEvent) -> bool {
        event.kind().journal_name().is_some()
    }

    /// Writes one event down, unless it is one of those of which there are too many. `before` is
    /// what presence knew before it.
    pub(crate) fn write(&self, notice: &NodeNotice, before: &ClientTable) {
        if !Self::keeps(&notice.event) {
            return;
        }
        let cause = Cause::of(&notice.event);
        let at_ms = now_ms();
        let is_trouble = is_trouble(&notice.event);
        let mut kept = self.lock();
        kept.last += 1;
        let seq = kept.last;
        let written = Arc::new(NotedEvent {
            seq,
            at_ms,
            notice: notice.shown().into_owned(),
        });
        let calm = |name: &str| before.calm(notice.head.tenant, name);
        kept.runs
            .note(&written, cause, notice.head.whole_client_id(), calm);
        if is_trouble {
            kept.removed = kept.troubles.push(written).unwrap_or(kept.removed);
        } else {
            kept.comings.push(written);
        }
    }

    /// Wakes the readers that wait for entries, once for many events.
    pub(crate) fn announce(&self) {
        let last = self.lock().last;
        self.last
            .send_if_modified(|number| std::mem::replace(number, last) != last);
    }

    /// Entries from number `from` on, `limit` at most, of those that `is_match`.
    pub fn page(&self, from: u64, limit: usize, is_match: impl Fn(&Entry) -> bool) -> Page {
        let kept = self.lock();
        let from = from.max(1);
        let mut page = Page {
            next: kept.last + 1,
            gone: (kept.removed + 1).saturating_sub(from),
            ..Page::default()
        };
        for written in kept.from(from) {
            if page.items.len() == limit {
                page.next = written.seq;
                break;
            }
            let entry = written.entry(&self.commands);
            if is_match(&entry) {
                page.items.push(entry.with_remedies());
            }
        }
        page
    }

    /// The number of the first of the last `count` entries that are wanted.
    pub fn tail(&self, count: usize, is_match: impl Fn(&Entry) -> bool) -> u64 {
        let kept = self.lock();
        let wanted = kept
            .latest_first()
            .filter(|written| is_match(&written.entry(&self.commands)));
        let first = wanted.take(count).last();
        first.map_or(kept.last + 1, |written| written.seq)
    }

    /// Sets the number of bytes that it takes, approximately, at most: half of them for entries,
    /// half for the history of names.
    fn bound(&self, bytes: usize) {
        let mut kept = self.lock();
        kept.set_bytes_max(BYTES_MAX.min(bytes / 2));
        kept.runs.set_bytes_max(bytes / 2);
    }

    /// Approximate number of bytes of what is kept.
    pub(crate) fn memory_bytes(&self) -> usize {
        let kept = self.lock();
        kept.troubles.bytes + kept.comings.bytes + kept.runs.memory_bytes()
    }

    /// Number of the last entry.
    pub fn last(&self) -> u64 {
        self.lock().last
    }

    /// Finds something in the latest problems, as long as they are recent: `most` at most, the
    /// latest first.
    fn latest<T>(
        &self,
        most: usize,
        is_recent: impl Fn(&NotedEvent) -> bool,
        found: impl Fn(&NotedEvent) -> Option<T>,
    ) -> Vec<T> {
        let kept = self.lock();
        let recent = kept.troubles.written.iter().rev();
        let recent = recent.take_while(|written| is_recent(written));
        recent
            .filter_map(|written| found(written))
            .take(most)
            .collect()
    }

    /// The last refusal of a message to this topic, behind an entry of this number.
    pub fn publish_refused(&self, behind: u64, tenant: TenantId, topic: &str) -> Option<Entry> {
        let found = |written: &NotedEvent| match written.notice.event.shard()? {
            Event::PublishRefused { topic: to, .. }
                if written.notice.head.tenant == tenant && is_of_name(to, topic) =>
            {
                Some(written.entry(&self.commands))
            }
            _ => None,
        };
        self.latest(1, |written| written.seq > behind, found).pop()
    }

    /// Publishes of a tenant since a time that were refused, or dropped for their rate, to topics
    /// that are wanted; the latest first.
    pub(crate) fn publishes_refused(
        &self,
        tenant: TenantId,
        since_ms: u64,
        is_match: impl Fn(&str) -> bool,
    ) -> Vec<Entry> {
        let found = |written: &NotedEvent| match written.notice.event.shard()? {
            event @ (Event::PublishRefused { .. } | Event::RateExceeded { .. })
                if written.notice.head.tenant == tenant && event.topic().is_some_and(&is_match) =>
            {
                Some(written.entry(&self.commands))
            }
            _ => None,
        };
        self.latest(
            REFUSED_LOOKED_AT,
            |written| written.at_ms >= since_ms,
            found,
        )
    }

    /// Clients of a tenant whose queues dropped messages since then, the latest first; `most` of
    /// them.
    pub(crate) fn queues_full(&self, tenant: TenantId, since_ms: u64, most: usize) -> Vec<String> {
        let found = |written: &NotedEvent| {
            let is_full = match written.notice.event.shard()? {
                Event::QueueFull { .. } => true,
                Event::MessagesLost { reason, .. } => *reason == DropReason::QueueFull,
                _ => false,
            };
            let head = &written.notice.head;
            (is_full && head.tenant == tenant).then(|| head.client_id.to_string())
        };
        let mut clients: Vec<String> = Vec::new();
        for client in self.latest(usize::MAX, |written| written.at_ms >= since_ms, found) {
            if clients.len() < most && !clients.contains(&client) {
                clients.push(client);
            }
        }
        clients
    }

    /// Runs of what happened to a name of a tenant recently, the latest last.
    pub(crate) fn runs_of(&self, tenant: TenantId, name: &str, presence: &Presence) -> Vec<Run> {
        let entry = |written: &NotedEvent| written.entry(&self.commands);
        // Before the lock: writers take the lock of presence first.
        let calm = presence.calm(tenant, name);
        self.lock().runs.of(tenant, name, calm, entry)
    }

    /// The last refusals of connections without a name, in order: from an address, or from any. The
    /// tenants of those clients are not known.
    pub fn nameless_from(&self, host: Option<&str>) -> Vec<Entry> {
        self.refused(|written| {
            let entry = written.bare_entry();
            let is_nameless = entry.client_id.is_empty() && entry.user_name.is_none();
            is_refusal(written) && is_nameless && host.is_none_or(|host| is_from(&entry, host))
        })
    }

    /// The last refusals of connections and requests from an address, in order.
    pub(crate) fn refused_from(&self, host: &str) -> Vec<Entry> {
        self.refused(|written| {
            let is_request = written.notice.event.kind() == EventKind::RequestRefused;
            (is_request || is_refusal(written)) && is_from(&written.bare_entry(), host)
        })
    }

    /// The last HTTP request with this API key that was refused, and the scope that the key lacks,
    /// if it was refused for that.
    pub(crate) fn refused_to_key(&self, id: &str) -> Option<RefusedOfKey> {
        let kept = self.lock();
        let mut troubles = kept.troubles.written.iter().rev().take(CONNECTS_LOOKED_AT);
        troubles.find_map(|written| match &written.notice.event {
            NodeEvent::RequestRefused {
                key: Some(key),
                why,
            } if *key.id == *id => Some(RefusedOfKey {
                entry: written.entry(&self.commands),
                lacking: key.lacking,
                device: why.subject().map(str::to_owned),
            }),
            _ => None,
        })
    }

    /// The last refusals of clients of a tenant whose token names another client, this one, in
    /// order.
    pub(crate) fn token_shown_by(&self, tenant: TenantId, client_id: &str) -> Vec<Entry> {
        self.refused(|written| {
            let is_it = is_refused_for(written, tenant, RefusalCause::TokenOfOther);
            is_it.is_some_and(|subject| subject == Some(client_id))
        })
    }

    /// The last client of a tenant that was refused because its Client Identifier, which is wanted,
    /// is not the id of a device of its team.
    pub(crate) fn client_id_refused(
        &self,
        tenant: TenantId,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Option<Entry> {
        let refused = self.refused(|written| {
            let is_it = is_refused_for(written, tenant, RefusalCause::NotItsClientId);
            is_it == Some(None) && is_wanted(&written.notice.head.client_id)
        });
        refused.into_iter().next_back()
    }

    /// The last device that was not added by a provisioning key of a team.
    pub(crate) fn refused_by_key(&self, team: &str, name: &str) -> Option<Entry> {
        let refused = self.refused(|written| match &written.notice.event {
            NodeEvent::ProvisioningRefused { key: Some(key), .. } => {
                *key.name == *name && *key.team == *team
            }
            _ => false,
        });
        refused.into_iter().next_back()
    }

    /// The last problems that are wanted, in order.
    fn refused(&self, is_wanted: impl Fn(&NotedEvent) -> bool) -> Vec<Entry> {
        let kept = self.lock();
        let troubles = kept.troubles.written.iter().rev().take(CONNECTS_LOOKED_AT);
        let wanted = troubles.filter(|written| is_wanted(written)).take(CONNECTS);
        let mut found: Vec<Entry> = wanted
            .map(|written| written.entry(&self.commands))
            .collect();
        found.reverse();
        found
    }

    /// Waits until there is an entry with this number, or the time is over.
    pub async fn wait(&self, from: u64, timeout: Duration) {
        let mut last = self.last.subscribe();
        let arrived = last.wait_for(|last| *last >= from);
        // Late is no error.
        let _ = tokio::time::timeout(timeout, arrived).await;
    }

    fn lock(&self) -> MutexGuard<'_, JournalEntries> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host of an address, which may have a port.
pub(crate) fn host(address: &str) -> Option<&str> {
    match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(host),
        _ => Some(address),
    }
}

/// The event is the refusal of a connection or a registration.
fn is_refusal(written: &NotedEvent) -> bool {
    let kind = written.notice.event.kind();
    matches!(kind, EventKind::Refused | EventKind::ProvisioningRefused)
}

/// Subject of the refusal of a connection of a tenant for this cause; none: it is another event.
fn is_refused_for(
    written: &NotedEvent,
    tenant: TenantId,
    cause: RefusalCause,
) -> Option<Option<&str>> {
    match written.notice.event.shard()? {
        Event::Refused { why, .. }
            if written.notice.head.tenant == tenant && why.cause == cause =>
        {
            Some(why.subject())
        }
        _ => None,
    }
}

/// The client came from that host.
fn is_from(entry: &Entry, from: &str) -> bool {
    entry.address.as_deref().and_then(host) == Some(from)
}

pub(crate) fn is_trouble(event: &NodeEvent) -> bool {
    match event.shard() {
        Some(Event::Connected(_)) => false,
        Some(Event::MessagesLost { reason, .. }) => !reason.is_expected(),
        Some(Event::Disconnected { reason, why, .. }) => {
            Cause::is_trouble_at_end(*reason, why.cause)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
