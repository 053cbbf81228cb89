//! The retained store: the last message of each topic that was published with RETAIN 1.
//!
//! Ordered by topic, so that a reader with a wildcard filter takes a page, remembers the last topic
//! and goes on from there; whole parts of the tree that cannot match are skipped by seeking.
//! Each change gets a revision from one counter, so that recovery can keep the highest.

#![expect(
    clippy::mutable_key_type,
    reason = "entries are compared by their topics, which do not change"
)]

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use martlet_permission::{Limit, Share, TenantId};

use crate::fault::{self, Fault};
use crate::gauge::CountedBytes;
use crate::hash::ClientKey;
use crate::id::MessageId;
use crate::message::Message;

/// All retained messages of a node.
#[derive(Debug)]
pub struct Retained {
    tenants: BTreeMap<TenantId, BTreeSet<RetainedEntry>>,
    revision: u64,
    totals: AllTotals,
    /// Clearings that are kept for a while, by their revisions: oldest first.
    cleared: BTreeMap<u64, Cleared>,
    expiring: Expiring,
}

/// Sums of what clients have retained; the node's own topics and clearings do not count.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    count: usize,
    bytes: usize,
}

impl Totals {
    /// As it will be with `message` in its topic's place.
    fn with(mut self, message: &Message) -> Self {
        if counts(message) {
            self.count += 1;
            self.bytes += entry_bytes(message);
        }
        self
    }

    /// As it will be without what was in a topic's place.
    fn without(mut self, message: &Message) -> Self {
        if counts(message) {
            self.count -= 1;
            self.bytes -= entry_bytes(message);
        }
        self
    }
}

/// The totals of the node, and of each tenant but the common one.
#[derive(Clone, Debug, Default)]
struct AllTotals {
    all: Totals,
    of_tenants: BTreeMap<TenantId, Totals>,
}

impl AllTotals {
    fn of(&self, tenant: TenantId) -> Totals {
        self.of_tenants.get(&tenant).copied().unwrap_or_default()
    }

    /// `message` is in its topic's place.
    fn add(&mut self, message: &Message) {
        self.all = self.all.with(message);
        self.change_own(None, Some(message));
    }

    /// `message` is no longer in its topic's place.
    fn remove(&mut self, message: &Message) {
        self.all = self.all.without(message);
        self.change_own(Some(message), None);
    }

    /// The totals of the tenant of a topic in whose place `after` is, where `before` was.
    fn change_own(&mut self, before: Option<&Message>, after: Option<&Message>) {
        let Some(tenant) = after.or(before).map(Message::tenant) else {
            return;
        };
        if tenant == TenantId::default() {
            return;
        }
        let own = self.of_tenants.entry(tenant).or_default();
        *own = before.map_or(*own, |before| own.without(before));
        *own = after.map_or(*own, |after| own.with(after));
    }
}

/// Whether the sweep has to look for messages that expire.
#[derive(Clone, Copy, Debug, Default)]
struct Expiring {
    /// There may be some.
    may: bool,
    /// The sweep has seen one since it began anew.
    seen: bool,
}

impl Expiring {
    /// The sweep does not rest while something expires, wherever it has got to.
    fn notice(&mut self, message: &Message) {
        if message.expires_at_ms() != u64::MAX {
            self.may = true;
            self.seen = true;
        }
    }
}

/// Entry of a topic. Entries are compared by their topics alone, which are those of the messages.
#[derive(Debug)]
struct RetainedEntry {
    /// Empty where the topic was cleared not long ago.
    message: Message,
    /// The client that published it, for No Local; none is the node.
    publisher: Option<ClientKey>,
    revision: u64,
    /// Memory that it takes beside the message.
    #[expect(dead_code, reason = "it counts until it is dropped")]
    counted: CountedBytes,
}

/// Memory that an entry takes beside its message, in a tree that is two thirds full, bytes.
const ENTRY_BYTES: usize = 3 * size_of::<RetainedEntry>() / 2;

/// A topic that was cleared: its record stays until no older record of the topic can follow, else
/// recovery would bring the older message back.
#[derive(Debug)]
struct Cleared {
    due_ms: u64,
    tenant: TenantId,
    topic: Box<str>,
    /// Memory that it takes.
    #[expect(dead_code, reason = "it counts until it is dropped")]
    counted: CountedBytes,
}

/// How long a clearing is kept. Other shards append what they changed before within a tick.
const CLEARED_MS: u64 = 10_000;
/// Memory that a clearing takes beside its topic, in a tree that is half full, bytes.
const CLEARED_BYTES: usize = 2 * (size_of::<u64>() + size_of::<Cleared>());

/// Result of a retained PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetainedChange {
    /// The message is the topic's retained message now.
    Stored {
        /// Number of the change.
        revision: u64,
        /// Name of what was retained, or cleared, before.
        replaced: Option<MessageId>,
    },
    /// The topic has no retained message any more.
    Cleared {
        /// Number of the change.
        revision: u64,
        /// Name of what was retained, or cleared, before.
        replaced: Option<MessageId>,
    },
    /// An empty payload for a topic without retained message: nothing changed, nothing is kept.
    Absent,
    /// The store is full: which bound it has reached.
    Full(Limit),
}

/// One page of retained messages.
#[derive(Debug)]
pub struct Page {
    /// Messages, in topic order.
    pub messages: Vec<Message>,
    /// Where to go on; none when all have been seen.
    pub next: Option<Box<str>>,
    /// Topics that were looked at. A long one counts for more, and so does one that had to be
    /// looked for.
    pub steps: usize,
}

/// Steps of one page at most, so that a filter that matches little delays no client.
const STEPS_MAX: usize = 512;
/// Expired messages that one sweep takes away at most: each has to be looked for.
pub(crate) const EXPIRED_PER_SWEEP: usize = 128;
/// Bytes of the topics looked at for one page, about.
const BYTES_MAX: usize = 64 * 1024;
/// Bytes of topics that are looked at in one step.
const BYTES_PER_STEP: usize = 1024;

impl Default for Retained {
    fn default() -> Self {
        Self::new()
    }
}

impl Retained {
    /// Nothing is retained.
    pub fn new() -> Self {
        Self {
            tenants: BTreeMap::new(),
            revision: 0,
            totals: AllTotals::default(),
            cleared: BTreeMap::new(),
            expiring: Expiring::default(),
        }
    }

    /// There may be something for [`Retained::sweep`].
    pub fn needs_sweep(&self) -> bool {
        self.expiring.may || !self.cleared.is_empty()
    }

    /// Retained messages of clients.
    pub fn len(&self) -> usize {
        self.totals.all.count
    }

    /// Clients have nothing retained.
    pub fn is_empty(&self) -> bool {
        self.totals.all.count == 0
    }

    /// Their bytes, overhead included.
    pub fn bytes(&self) -> usize {
        self.totals.all.bytes
    }

    /// Bytes of memory that all of it takes, approximately: the node's own topics are left out.
    pub fn memory_bytes(&self) -> usize {
        let entries = (self.totals.all.count + self.cleared.len()) * ENTRY_BYTES;
        self.totals.all.bytes + entries + self.cleared.len() * CLEARED_BYTES
    }

    /// Tenants with retained messages, but the common one: how many, and their bytes.
    pub(crate) fn of_tenants(&self) -> impl Iterator<Item = (TenantId, usize, usize)> {
        let tenants = self.totals.of_tenants.iter();
        tenants.map(|(tenant, own)| (*tenant, own.count, own.bytes))
    }

    /// The share that the tenant of a message would exceed with it: of `count_max` messages, or of
    /// `bytes_max` bytes. The common tenant has no share.
    pub fn exceeded_share(
        &self,
        message: &Message,
        share: Share,
        count_max: usize,
        bytes_max: usize,
    ) -> Option<Limit> {
        let tenant = message.tenant();
        if tenant == TenantId::default() || !counts(message) {
            return None;
        }
        let own = self.totals.of(tenant);
        let topics = self.tenants.get(&tenant);
        let before = topics.and_then(|topics| topics.get(message.topic_bytes()));
        let others = before.map_or(own, |before| own.without(&before.message));
        let totals = others.with(message);
        let has_grown = totals.bytes > own.bytes;
        let all = &self.totals.all;
        let share_of_count = share.size_beside(all.count - own.count, count_max);
        let share_of_bytes = share.size_beside(all.bytes - own.bytes, bytes_max);
        if totals.count > share_of_count && totals.count > own.count {
            Some(Limit::TeamRetained)
        } else if has_grown && totals.bytes > share_of_bytes {
            Some(Limit::TeamRetainedBytes)
        } else {
            None
        }
    }

    /// Replaces the topic's retained message [MQTT-3.3.1-5], unless that would make more than
    /// `count_max` messages or `bytes_max` bytes.
    pub fn store(
        &mut self,
        message: Message,
        publisher: Option<ClientKey>,
        count_max: usize,
        bytes_max: usize,
    ) -> RetainedChange {
        let tenant = message.tenant();
        let topics = self.tenants.entry(tenant).or_default();
        let revision = self.revision + 1;
        let stored = message.clone();
        // There is nearly always room, so the place is looked for once.
        let before = topics.replace(RetainedEntry::new(message, publisher, revision));
        let others = match &before {
            Some(before) => self.totals.all.without(&before.message),
            None => self.totals.all,
        };
        let totals = others.with(&stored);
        let grows = totals.bytes > self.totals.all.bytes;
        let full = match totals.count > count_max {
            true => Some(Limit::RetainedMessages),
            false => (totals.bytes > bytes_max && grows).then_some(Limit::RetainedBytes),
        };
        let replaced = before.as_ref().map(|before| before.message.id());
        if let Some(limit) = full.filter(|_| counts(&stored)) {
            Self::put_back(topics, &stored, before);
            return RetainedChange::Full(limit);
        }
        self.revision = revision;
        if before.is_some() && fault::is(Fault::RetainedOlderStays) {
            Self::put_back(topics, &stored, before);
            return RetainedChange::Stored { revision, replaced };
        }
        self.totals.all = totals;
        let replaced_message = before.as_ref().map(|before| &before.message);
        self.totals.change_own(replaced_message, Some(&stored));
        self.expiring.notice(&stored);
        if let Some(before) = before.filter(RetainedEntry::is_cleared) {
            self.cleared.remove(&before.revision);
        }
        RetainedChange::Stored { revision, replaced }
    }

    /// A topic's place is again as it was before.
    fn put_back(
        topics: &mut BTreeSet<RetainedEntry>,
        stored: &Message,
        before: Option<RetainedEntry>,
    ) {
        match before {
            Some(before) => drop(topics.replace(before)),
            None => drop(topics.take(stored.topic_bytes())),
        }
    }

    /// Takes the topic's retained message away [MQTT-3.3.1-6], [MQTT-3.3.1-7]. `clearing`, with its
    /// empty payload, stands in its place for a while.
    pub fn clear(&mut self, clearing: Message, now_ms: u64) -> RetainedChange {
        if fault::is(Fault::RetainedNotCleared) {
            return RetainedChange::Absent;
        }
        let topics = self.tenants.get_mut(&clearing.tenant());
        let Some(topics) = topics.filter(|topics| topics.contains(clearing.topic_bytes())) else {
            return RetainedChange::Absent;
        };
        self.revision += 1;
        let revision = self.revision;
        let cleared = Cleared::of(&clearing, now_ms);
        let before = topics.replace(RetainedEntry::new(clearing, None, revision));
        if let Some(before) = &before {
            self.totals.remove(&before.message);
            self.cleared.remove(&before.revision);
        }
        self.cleared.insert(revision, cleared);
        RetainedChange::Cleared {
            revision,
            replaced: before.map(|before| before.message.id()),
        }
    }

    /// Brings back what was retained, or cleared, before a restart; the highest revision of a topic
    /// wins. Answers which message is not needed any more.
    pub fn restore(
        &mut self,
        message: Message,
        publisher: Option<ClientKey>,
        revision: u64,
        now_ms: u64,
    ) -> Option<MessageId> {
        self.revision = self.revision.max(revision);
        let topics = self.tenants.entry(message.tenant()).or_default();
        let found = topics.get(message.topic_bytes());
        if let Some(found) = found.filter(|found| found.revision >= revision) {
            let same = found.message.id() == message.id();
            return (!same).then(|| message.id());
        }
        self.expiring.notice(&message);
        self.totals.add(&message);
        if is_clearing(&message) {
            self.cleared.insert(revision, Cleared::of(&message, now_ms));
        }
        let before = topics.replace(RetainedEntry::new(message, publisher, revision));
        let before = before?;
        if before.is_cleared() {
            self.cleared.remove(&before.revision);
        }
        let before = &before.message;
        self.totals.remove(before);
        Some(before.id())
    }

    /// Whether the topic has a retained message, or had one a short time ago.
    pub fn has_topic(&self, tenant: TenantId, topic: &str) -> bool {
        let topics = self.tenants.get(&tenant);
        topics.is_some_and(|topics| topics.contains(topic.as_bytes()))
    }

    /// The topic's retained message, if it has expired and was not taken away yet.
    pub fn expired(&self, tenant: TenantId, topic: &str, now_ms: u64) -> Option<Message> {
        let entry = self.tenants.get(&tenant)?.get(topic.as_bytes())?;
        let has_expired = entry.message.expired(now_ms) && !entry.is_cleared();
        has_expired.then(|| entry.message.clone())
    }

    /// The revision of the topic's retained message.
    pub fn revision(&self, tenant: TenantId, topic: &str) -> Option<u64> {
        let entry = self.tenants.get(&tenant)?.get(topic.as_bytes())?;
        (!entry.is_cleared()).then_some(entry.revision)
    }

    /// The next at most `count_max` messages that match `filter`, behind the topic `after`.
    /// Those that expired at `now_ms` are left out, and those that the client `except` published.
    pub fn page(
        &self,
        tenant: TenantId,
        filter: &str,
        except: Option<ClientKey>,
        after: Option<&str>,
        count_max: usize,
        now_ms: u64,
    ) -> Page {
        let mut page = Page {
            messages: Vec::new(),
            next: None,
            steps: 1,
        };
        let mut topics = self.tenants.get(&tenant);
        if fault::is(Fault::RetainedOfOtherTenant) {
            topics = self.tenants.values().next();
        }
        let Some(topics) = topics else {
            return page;
        };
        let seek_steps = seek_steps(topics.len());
        page.steps += seek_steps;
        if !filter.contains(['+', '#']) {
            let entry = topics.get(filter.as_bytes()).filter(|_| after.is_none());
            let entry = entry.filter(|entry| entry.is_for(except, now_ms));
            page.messages
                .extend(entry.map(|entry| entry.message.clone()));
            return page;
        }
        let first = match after {
            Some(topic) => Bound::Excluded(topic.as_bytes()),
            None => Bound::Included(literal_prefix(filter).as_bytes()),
        };
        let mut entries = topics.range::<[u8], _>((first, Bound::Unbounded));
        let mut bytes = 0;
        loop {
            let Some(entry) = entries.next() else {
                return page;
            };
            let topic = entry.message.topic();
            page.steps += 1 + (bytes + topic.len()) / BYTES_PER_STEP - bytes / BYTES_PER_STEP;
            bytes += topic.len();
            match compare(filter, topic) {
                Step::Matches => {
                    if entry.is_for(except, now_ms) {
                        page.messages.push(entry.message.clone());
                    }
                    if page.messages.len() == count_max {
                        page.next = Some(topic.into());
                        return page;
                    }
                }
                Step::Next => {}
                Step::Seek(to) => {
                    // Often the next topic is there already, and need not be looked for.
                    let next = entries.clone().next();
                    if next.is_some_and(|next| next.message.topic_bytes() < to.as_bytes()) {
                        let from = (Bound::Included(to.as_bytes()), Bound::Unbounded);
                        entries = topics.range::<[u8], _>(from);
                        page.steps += seek_steps;
                    }
                }
                Step::End => return page,
            }
            if page.steps >= STEPS_MAX || bytes >= BYTES_MAX {
                page.next = Some(topic.into());
                return page;
            }
        }
    }

    /// Takes away at most `count_max` clearings that have stood long enough. `ended` gets their
    /// names. Answers whether there are more.
    pub fn sweep_cleared(
        &mut self,
        count_max: usize,
        now_ms: u64,
        ended: &mut Vec<MessageId>,
    ) -> bool {
        for _ in 0..count_max {
            let Some(first) = self.cleared.first_entry() else {
                return false;
            };
            if first.get().due_ms > now_ms {
                return false;
            }
            let (revision, cleared) = first.remove_entry();
            if let Some(topics) = self.tenants.get_mut(&cleared.tenant)
                && let Some(entry) = topics.get(cleared.topic.as_bytes())
                && entry.revision == revision
                && let Some(entry) = topics.take(cleared.topic.as_bytes())
            {
                ended.push(entry.message.id());
            }
        }
        true
    }

    /// Removes expired messages among the next `steps` topics behind `after`, at most
    /// `EXPIRED_PER_SWEEP` of them, and puts them into `ended`. Answers where to go on, none when
    /// the end is reached.
    pub fn sweep(
        &mut self,
        after: Option<(TenantId, Box<str>)>,
        steps: usize,
        now_ms: u64,
        ended: &mut Vec<Message>,
    ) -> Option<(TenantId, Box<str>)> {
        if after.is_none() {
            self.expiring.seen = false;
        }
        let next = self.sweep_topics(after, steps, now_ms, ended);
        if next.is_none() {
            self.expiring.may = self.expiring.seen;
        }
        next
    }

    fn sweep_topics(
        &mut self,
        after: Option<(TenantId, Box<str>)>,
        steps: usize,
        now_ms: u64,
        ended: &mut Vec<Message>,
    ) -> Option<(TenantId, Box<str>)> {
        let first = after.as_ref().map_or(TenantId(0), |(tenant, _)| *tenant);
        let (&tenant, topics) = self.tenants.range_mut(first..).next()?;
        let from = match &after {
            Some((at, topic)) if *at == tenant => Bound::Excluded(topic.as_bytes()),
            _ => Bound::Unbounded,
        };
        let mut last = None;
        let mut expired_messages = Vec::new();
        for entry in topics
            .range::<[u8], _>((from, Bound::Unbounded))
            .take(steps)
        {
            if entry.message.expired(now_ms) && !entry.is_cleared() {
                expired_messages.push(entry.message.clone());
            }
            self.expiring.seen |= entry.message.expires_at_ms() != u64::MAX;
            last = Some(&entry.message);
            if expired_messages.len() >= EXPIRED_PER_SWEEP {
                break;
            }
        }
        let last = last.map(|message| message.topic().into());
        for message in expired_messages {
            if let Some(entry) = topics.take(message.topic_bytes()) {
                self.totals.remove(&entry.message);
                ended.push(entry.message);
            }
        }
        match last {
            Some(topic) => Some((tenant, topic)),
            None => {
                let (&next, _) = self
                    .tenants
                    .range(TenantId(tenant.0.checked_add(1)?)..)
                    .next()?;
                Some((next, Box::default()))
            }
        }
    }
}

impl Borrow<[u8]> for RetainedEntry {
    fn borrow(&self) -> &[u8] {
        self.message.topic_bytes()
    }
}

impl PartialEq for RetainedEntry {
    fn eq(&self, other: &Self) -> bool {
        self.message.topic_bytes() == other.message.topic_bytes()
    }
}

impl Eq for RetainedEntry {}

impl PartialOrd for RetainedEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RetainedEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.message.topic_bytes().cmp(other.message.topic_bytes())
    }
}

impl RetainedEntry {
    fn new(message: Message, publisher: Option<ClientKey>, revision: u64) -> Self {
        let counted = CountedBytes::of(message.gauge(), ENTRY_BYTES);
        Self {
            message,
            publisher,
            revision,
            counted,
        }
    }

    fn is_cleared(&self) -> bool {
        is_clearing(&self.message)
    }

    /// Whether it is there, and not to be kept from the client that published it.
    fn is_for(&self, except: Option<ClientKey>, now_ms: u64) -> bool {
        let own = except.is_some() && self.publisher == except;
        !own && !self.is_cleared() && !self.message.expired(now_ms)
    }
}

impl Cleared {
    fn of(clearing: &Message, now_ms: u64) -> Self {
        let bytes = CLEARED_BYTES + clearing.topic_bytes().len();
        Self {
            due_ms: now_ms + CLEARED_MS,
            tenant: clearing.tenant(),
            topic: clearing.topic().into(),
            counted: CountedBytes::of(clearing.gauge(), bytes),
        }
    }
}

/// Whether it stands where a topic was cleared.
fn is_clearing(message: &Message) -> bool {
    message.payload().is_empty()
}

/// Whether it is one of a client's, not the node's own and not a clearing.
fn counts(message: &Message) -> bool {
    !message.topic_bytes().starts_with(OWN) && !is_clearing(message)
}

/// Beginning of the node's own topics.
const OWN: &[u8] = b"$SYS/";

/// The node's own topics, such as `$SYS/…`, count against no client's limit.
pub(crate) fn is_own(topic: &str) -> bool {
    topic.as_bytes().starts_with(OWN)
}

fn entry_bytes(message: &Message) -> usize {
    message.bytes() + message.topic_bytes().len() + 48
}

/// Steps that it takes to look for a topic among this number: each level of the tree is a few
/// topics that lie anywhere in memory, where the next topic is mostly near.
fn seek_steps(topics: usize) -> usize {
    topics
        .checked_ilog2()
        .map_or(0, |levels| levels as usize / 2)
}

fn literal_prefix(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    // `a/#` matches `a`, which sorts before `a/`.
    filter[..end].strip_suffix('/').unwrap_or(&filter[..end])
}

enum Step {
    Matches,
    /// Go on with the next topic.
    Next,
    /// Nothing before this can match.
    Seek(String),
    /// Nothing that follows can match.
    End,
}

/// Compares a topic with a filter, and returns where the next candidate is.
fn compare(filter: &str, topic: &str) -> Step {
    let mut filter_levels = filter.split('/');
    // Offset in `topic` of the level that comes next; past the end when all are used up.
    let mut offset = 0;
    let mut seen_wildcard = false;
    loop {
        let Some(level) = filter_levels.next() else {
            // The filter is used up: the topic has to be as well.
            return if offset > topic.len() {
                Step::Matches
            } else {
                skip_below(topic, offset, seen_wildcard)
            };
        };
        let wildcard = matches!(level, "+" | "#");
        if wildcard && offset == 0 && topic.starts_with('$') {
            // [MQTT-4.7.2-1]; '%' follows '$'.
            return Step::Seek("%".to_owned());
        }
        if level == "#" {
            return Step::Matches;
        }
        if offset > topic.len() {
            return Step::Next;
        }
        let rest = &topic[offset..];
        let length = rest.find('/').unwrap_or(rest.len());
        if level != "+" && rest[..length] != *level {
            return seek_literal(topic, offset, level, seen_wildcard);
        }
        seen_wildcard |= level == "+";
        offset += length + 1;
    }
}

/// The topic's level at `offset` should have been `level`: where topics that have it begin.
fn seek_literal(topic: &str, offset: usize, level: &str, seen_wildcard: bool) -> Step {
    let mut target = topic[..offset].to_owned();
    target.push_str(level);
    if topic < target.as_str() {
        return Step::Seek(target);
    }
    // Between `a/b` and `a/b/` lie topics such as `a/b!`.
    target.push('/');
    if topic < target.as_str() {
        return Step::Seek(target);
    }
    skip_below(topic, offset, seen_wildcard)
}

/// Nothing more below the levels that end at `offset` can match: the first topic behind them.
fn skip_below(topic: &str, offset: usize, seen_wildcard: bool) -> Step {
    if offset == 0 || !seen_wildcard {
        return Step::End;
    }
    let mut target = topic[..offset - 1].to_owned();
    target.push('0'); // follows '/'
    Step::Seek(target)
}

#[cfg(test)]
#[path = "retained_tests.rs"]
mod tests;
