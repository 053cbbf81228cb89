//! Filters of events.

use std::net::IpAddr;
use std::ops::Range;

use martlet_broker::{EventGroup, EventInterest, TenantId, matches_shown};
use martlet_codec::{TopicFilter, TopicName};

use crate::event::NodeEvent;
use crate::event_kind::EventKind;
use crate::feed::BlockPart;
use crate::feed::entry::{FeedEntry, Happened};
use crate::journal;

/// A set of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u32);

/// A name that no kind has.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a kind of event; expected one of {names}", names = names())]
pub struct NoKind(String);

fn names() -> String {
    let names = EventKind::ALL.iter().map(|kind| kind.name());
    names.chain(["all"]).collect::<Vec<_>>().join(", ")
}

fn bit(kind: EventKind) -> u32 {
    1 << kind as u32
}

impl Kinds {
    /// Everything but packets, and messages one by one that are counted together.
    pub fn usual() -> Self {
        Self(!bit(EventKind::Packet) & !bit(EventKind::DroppedMessage))
    }

    /// Everything.
    pub fn all() -> Self {
        Self(!0)
    }

    /// These alone.
    pub fn of(kinds: &[EventKind]) -> Self {
        Self(kinds.iter().fold(0, |set, kind| set | bit(*kind)))
    }

    /// From names with commas between them; `all` is all.
    ///
    /// # Errors
    /// A name that is none.
    pub fn parse(text: &str) -> Result<Self, NoKind> {
        let mut set = 0;
        for name in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            set |= match name {
                "all" => !0,
                name => {
                    let kind = EventKind::from_name(name);
                    bit(kind.ok_or_else(|| NoKind(name.to_owned()))?)
                }
            };
        }
        Ok(Self(set))
    }

    /// Whether it is one of them.
    pub fn has(self, kind: EventKind) -> bool {
        self.0 & bit(kind) != 0
    }

    fn any(self, kinds: &[EventKind]) -> bool {
        kinds.iter().any(|kind| self.has(*kind))
    }
}

/// Sampling of a kind of events: one in this number is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    kind: EventKind,
    one_in: u32,
    seen: u32,
}

impl Sample {
    /// From `kind:N` with commas between them.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let parts = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let all = parts.map(|part| {
            let found = part.split_once(':').and_then(|(kind, one_in)| {
                let one_in = one_in.parse().ok().filter(|one_in| *one_in > 0)?;
                let kind = EventKind::from_name(kind)?;
                let seen = 0;
                Some(Self { kind, one_in, seen })
            });
            found.ok_or_else(|| format!("{part:?}: expected KIND:N, such as packet:100"))
        });
        all.collect()
    }
}

/// Filter of a reader; an event has to match all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// In this tenant; none: in all.
    pub tenant: Option<TenantId>,
    /// Only events of these kinds.
    pub kinds: Kinds,
    /// Only events of this client.
    pub client: Option<String>,
    /// Only events of clients whose identifier begins so.
    pub client_prefix: Option<String>,
    /// Only events of this user.
    pub user: Option<String>,
    /// With a topic that this Topic Filter matches.
    pub topic: Option<String>,
    /// Topic Filters: an event that has a topic has one that some of them matches; none: any.
    pub topics: Vec<String>,
    /// Only events of a connection from this address.
    pub address: Option<IpAddr>,
    /// Only what was refused or lost.
    pub trouble: bool,
    /// Sampling, for each kind.
    pub samples: Vec<Sample>,
    /// Bytes of each payload that are shown.
    pub payload_bytes: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            tenant: None,
            kinds: Kinds::usual(),
            client: None,
            client_prefix: None,
            user: None,
            topic: None,
            topics: Vec::new(),
            address: None,
            trouble: false,
            samples: Vec::new(),
            payload_bytes: 0,
        }
    }
}

impl Filter {
    /// This can stand in `topic`.
    pub fn is_topic(text: &str) -> bool {
        TopicFilter::new(text).is_ok()
    }

    /// The events that shards have to report for it.
    pub fn interest(&self) -> EventInterest {
        let mut interest = EventInterest {
            payload_bytes_max: match self.kinds.has(EventKind::Published) && !self.trouble {
                true => self.payload_bytes,
                false => 0,
            },
            ..EventInterest::default()
        };
        if let Some(client) = &self.client {
            interest.traced.clients = vec![(TenantId(0), client.as_str().into())];
            return interest;
        }
        if let Some(address) = self.address {
            interest.traced.addresses = vec![address];
            return interest;
        }
        let by_topic = [
            EventKind::Published,
            EventKind::Delivered,
            EventKind::Dropped,
        ];
        if let Some(topic) = &self.topic
            && self.kinds.any(&by_topic)
        {
            interest.traced.topics = vec![topic.as_str().into()];
        }
        let wanted = EventKind::ALL.iter().filter(|kind| self.kinds.has(**kind));
        for group in wanted.filter_map(|kind| kind.group()) {
            let is_left_out =
                self.topic.is_some() && is_of_messages(group) || self.trouble && is_routine(group);
            if !is_left_out {
                interest.want(group);
            }
        }
        interest
    }

    /// Messages are wanted one by one that were dropped together: by their topics they are.
    pub(super) fn wants_each(&self) -> bool {
        let by_topic = self.topic.is_some() && self.kinds.has(EventKind::Dropped);
        self.kinds.has(EventKind::DroppedMessage) || by_topic
    }

    /// Packets come whole, for each client that comes at all.
    pub(super) fn has_all_packets(&self) -> bool {
        self.kinds.has(EventKind::Packet)
            && self.topic.is_none()
            && !self.trouble
            && self.samples.is_empty()
    }

    /// Leaves of a part what is wanted.
    pub(super) fn pass(&mut self, part: &mut BlockPart) {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for at in part.runs.iter().cloned().flatten() {
            let entry = part.block.entry(at);
            if !entry.is_some_and(|entry| self.passes(&entry)) {
                continue;
            }
            match runs.last_mut().filter(|run| run.end == at) {
                Some(run) => run.end = at + 1,
                None => runs.push(at..at + 1),
            }
        }
        part.runs = runs;
    }

    /// Whether it is wanted.
    fn passes(&mut self, entry: &FeedEntry<'_>) -> bool {
        let event = match entry.what() {
            Happened::Connected(_) => None,
            Happened::Event(notice) => Some(&notice.event),
            Happened::Lost => return true,
        };
        let is_of_kind = match (entry.kind, &self.topic) {
            (EventKind::DroppedMessage, Some(_)) => self.wants_each(),
            (EventKind::Dropped, Some(_)) if entry.together().is_some() => false,
            (kind, _) => self.kinds.has(kind),
        };
        let passes = self.tenant.is_none_or(|tenant| tenant == entry.tenant)
            && is_of_kind
            && self.is_of_client(entry.client_id())
            && self.user.as_deref().is_none_or(|user| {
                entry
                    .user()
                    .is_some_and(|found| matches_shown(found.name, user))
            })
            && self
                .address
                .is_none_or(|address| entry.ip() == Some(address))
            && self
                .topic
                .as_deref()
                .is_none_or(|topic| event.is_some_and(|event| has_topic(event, topic)))
            && event.is_none_or(|event| self.is_about_topics(event))
            && (!self.trouble || event.is_some_and(|event| is_trouble(entry.kind, event)));
        passes && self.is_sampled(entry.kind)
    }

    fn is_about_topics(&self, event: &NodeEvent) -> bool {
        let mut topics = self.topics.iter();
        self.topics.is_empty()
            || event.topic().is_none()
            || topics.any(|filter| has_topic(event, filter))
    }

    fn is_of_client(&self, client_id: &str) -> bool {
        self.client
            .as_deref()
            .is_none_or(|client| matches_shown(client_id, client))
            && self
                .client_prefix
                .as_deref()
                .is_none_or(|prefix| client_id.starts_with(prefix))
    }

    fn is_sampled(&mut self, kind: EventKind) -> bool {
        let mut samples = self.samples.iter_mut();
        let Some(sample) = samples.find(|sample| sample.kind == kind) else {
            return true;
        };
        sample.seen += 1;
        if sample.seen >= sample.one_in {
            sample.seen = 0;
        }
        sample.seen == 1 % sample.one_in
    }
}

/// Whether shards report single messages or packets.
fn is_of_messages(group: EventGroup) -> bool {
    group == EventGroup::Dropped
        || matches!(
            group,
            EventGroup::Published | EventGroup::Delivered | EventGroup::Packet
        )
}

/// Nothing in it was refused or lost.
fn is_routine(group: EventGroup) -> bool {
    group == EventGroup::Subscription || is_of_messages(group) && group != EventGroup::Dropped
}

fn is_trouble(kind: EventKind, event: &NodeEvent) -> bool {
    match kind {
        EventKind::Authenticated
        | EventKind::Packet
        | EventKind::Published
        | EventKind::Delivered => false,
        EventKind::TakenOver
        | EventKind::DeviceActive
        | EventKind::TwinChanged
        | EventKind::SessionEnded
        | EventKind::Subscribed
        | EventKind::Unsubscribed => false,
        _ => journal::is_trouble(event),
    }
}

/// Whether it is about this topic, or one that this Topic Filter matches.
pub(crate) fn has_topic(event: &NodeEvent, filter: &str) -> bool {
    let Some(topic) = event.topic() else {
        return false;
    };
    matches_shown(topic, filter)
        || match (TopicFilter::new(filter), TopicName::new(topic)) {
            (Ok(filter), Ok(topic)) => filter.matches(topic),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(kinds: &str, trouble: bool) -> EventInterest {
        let filter = Filter {
            kinds: Kinds::parse(kinds).unwrap(),
            trouble,
            ..Filter::default()
        };
        filter.interest()
    }

    /// Shards report them with connects and disconnects, see the group of each kind.
    #[test]
    fn messages_of_a_publisher_that_is_too_fast_are_wanted_without_each_drop() {
        let connections = EventInterest {
            connections: true,
            ..EventInterest::default()
        };
        for kinds in ["rate_exceeded", "publishes_delayed", "queue_full,refused"] {
            assert_eq!(interest(kinds, false), connections, "{kinds}");
            assert_eq!(interest(kinds, true), connections, "{kinds}");
        }
        assert_eq!(interest("gone", false), EventInterest::default());
        assert!(interest("dropped_message", false).drops);
        assert_eq!(interest("published,packet", true), EventInterest::default());
    }
}
