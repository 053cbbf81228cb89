//! Which events are wanted.

use std::net::IpAddr;

use martlet_codec::{TopicFilter, TopicName};
use martlet_permission::TenantId;

/// Which events are wanted; others are never built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventInterest {
    /// Authenticated, connected, refused, taken over, disconnected, the ends of sessions, refused
    /// publishes and subscriptions, full queues.
    pub connections: bool,
    /// Dropped messages.
    pub drops: bool,
    /// Subscribed, unsubscribed.
    pub subscriptions: bool,
    /// Published messages.
    pub published: bool,
    /// Delivered messages.
    pub delivered: bool,
    /// Packets, in and out.
    pub packets: bool,
    /// Bytes of a payload to include, at most; 0 is none.
    pub payload_bytes_max: usize,
    /// Clients and topics for which all events are wanted.
    pub traced: Traced,
}

/// Group of kinds of events. Events are wanted by group, see
/// [`EventInterest`](crate::EventInterest), and events that were not read are counted by group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventGroup {
    /// Clients that came and went, refusals, and messages that wait or were lost.
    Connection,
    /// Subscriptions made and ended.
    Subscription,
    /// Messages dropped, one by one.
    Dropped,
    /// Messages published.
    Published,
    /// Messages delivered.
    Delivered,
    /// Packets.
    Packet,
}

impl EventInterest {
    /// All events of this group are wanted too.
    pub fn want(&mut self, group: EventGroup) {
        match group {
            EventGroup::Connection => self.connections = true,
            EventGroup::Subscription => self.subscriptions = true,
            EventGroup::Dropped => self.drops = true,
            EventGroup::Published => self.published = true,
            EventGroup::Delivered => self.delivered = true,
            EventGroup::Packet => self.packets = true,
        }
    }
}

/// Clients and topics for which all events are wanted; each of these lists is short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// Clients.
    pub clients: Vec<(TenantId, Box<str>)>,
    /// Connections from there.
    pub addresses: Vec<IpAddr>,
    /// Messages whose topic matches: published, delivered and dropped, for all clients.
    pub topics: Vec<Box<str>>,
}

impl Traced {
    /// Everything is wanted of this client.
    pub(crate) fn has(&self, tenant: TenantId, client_id: &str, address: Option<IpAddr>) -> bool {
        let mut clients = self.clients.iter();
        clients.any(|(of, name)| *of == tenant && **name == *client_id)
            || address.is_some_and(|address| self.addresses.contains(&address))
    }

    /// Messages of this topic are wanted.
    pub(crate) fn has_topic(&self, topic: &str) -> bool {
        let Ok(topic) = TopicName::new(topic) else {
            return false;
        };
        let mut filters = self.topics.iter();
        filters.any(|filter| TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic)))
    }
}

/// Wanted events in one word, which the way of a message asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants(u8);

impl Wants {
    pub(crate) const CONNECTIONS: Self = Self(1);
    pub(crate) const DROPS: Self = Self(1 << 1);
    pub(crate) const SUBSCRIPTIONS: Self = Self(1 << 2);
    pub(crate) const PUBLISHED: Self = Self(1 << 3);
    pub(crate) const DELIVERED: Self = Self(1 << 4);
    pub(crate) const PACKETS: Self = Self(1 << 5);
    /// Some clients or addresses are traced.
    pub(crate) const CLIENTS: Self = Self(1 << 6);
    /// Some topics are.
    pub(crate) const TOPICS: Self = Self(1 << 7);

    pub(crate) fn of(interest: &EventInterest) -> Self {
        let traced = &interest.traced;
        let clients = !traced.clients.is_empty() || !traced.addresses.is_empty();
        [
            (interest.connections, Self::CONNECTIONS),
            (interest.drops, Self::DROPS),
            (interest.subscriptions, Self::SUBSCRIPTIONS),
            (interest.published, Self::PUBLISHED),
            (interest.delivered, Self::DELIVERED),
            (interest.packets, Self::PACKETS),
            (clients, Self::CLIENTS),
            (!traced.topics.is_empty(), Self::TOPICS),
        ]
        .into_iter()
        .filter(|(on, _)| *on)
        .fold(Self(0), |all, (_, one)| all.and(one))
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Any of these.
    #[inline]
    pub(crate) const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}
