//! The clients that are known, one small row each: there may be a million of them. A row shares the
//! contents of its CONNECT event with the feed, and is found by a table of numbers.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foldhash::quality::FixedState;
use martlet_broker::{
    Arena, Event, PlaceTable, RefusalCause, SharedClient, TenantId, UserRef, WillNotice,
};
use martlet_codec::ReasonCode;
use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::event::{NodeEvent, NodeNotice};
use crate::wall_clock::now_ms;

/// Clients that are not connected and are remembered, at most.
pub(super) const OFFLINE_MAX: usize = 100_000;
/// Clients that left last whose Wills are compared with a topic.
const LEFT_LOOKED_AT: usize = 1_000;

/// Bytes that each of them takes beside its names, approximately, and bytes of all of them at most.
const OFFLINE_BYTES: usize = 400;
const OFFLINE_BYTES_MAX: usize = 64 << 20;

/// Number of the oldest disconnected clients among which one is removed: one without changes, if
/// there is any.
const CHANGED_LEFT: usize = 16;

/// Changes for which room is kept, at least.
const CHANGES_KEPT: usize = 1_024;

/// A client's identity and address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientSource {
    /// From its CONNECT in this run of the node.
    Connected(SharedClient),
    /// As the store of presence has it from the run before.
    Stored(Arc<StoredClient>),
}

/// See [`ClientSource::Stored`].
#[derive(Debug, PartialEq, Eq)]
pub struct StoredClient {
    client_id: Box<str>,
    address: Box<str>,
    listener: Box<str>,
    listener_url: Box<str>,
}

impl ClientSource {
    /// User of the client; none is anonymous, or not known any more.
    pub(crate) fn user(&self) -> Option<UserRef<'_>> {
        match self {
            Self::Connected(client) => UserRef::of(client),
            Self::Stored(_) => None,
        }
    }

    /// Where from; none on a Unix socket.
    pub(crate) fn address(&self) -> Option<(IpAddr, u16)> {
        match self {
            Self::Connected(client) => client.address,
            Self::Stored(client) => {
                let address: SocketAddr = client.address.parse().ok()?;
                Some((address.ip(), address.port()))
            }
        }
    }
}

/// All known clients.
#[derive(Debug)]
pub(crate) struct ClientTable {
    clients: Arena<Client>,
    /// Places by tenant and Client Identifier.
    by_name: PlaceTable,
    hasher: FixedState,
    /// Clients that are not connected, with the time of their disconnect, in that order; some have
    /// connected again.
    offline: VecDeque<(u32, u64)>,
    /// Bytes of clients that are not connected, approximately.
    offline_bytes: usize,
    /// Bytes of clients that are not connected, at most; none: [`OFFLINE_BYTES_MAX`].
    offline_bytes_max: Option<usize>,
    /// Changes since they were last taken; none if they are not taken.
    changed: Option<Vec<u32>>,
    /// Where the node listens, by the listener's number.
    listeners: Vec<String>,
}

#[derive(Debug)]
struct Client {
    /// As its CONNECT had it in this run of the node; none: it is known from the run before.
    who: Option<SharedClient>,
    /// How its last connection ended; none: it has had one connection alone, which is open.
    departure: Option<Box<Departure>>,
    since_ms: u64,
    tenant: TenantId,
    online: bool,
    /// Whether it is in `changed`.
    is_changed: bool,
    /// Whether it counts among those that are not connected.
    is_counted: bool,
}

/// How the last connection of a client ended, and how often it connected and disconnected normally.
#[derive(Debug)]
struct Departure {
    /// Record of the store of presence from the run before; none: it has connected in this run.
    stored: Option<Arc<StoredClient>>,
    /// Why it is not connected, or was not before it came again.
    why: Going,
    /// The Will that it had then.
    will: Option<Box<WillNotice>>,
    /// When its last event was.
    last_seen_ms: u64,
    came: Times,
    went: Times,
}

/// Why a client is not connected.
#[derive(Clone, Debug)]
enum Going {
    /// The client wished it so.
    Wished(ReasonCode, RefusalCause),
    /// The client did not wish it; in words.
    Otherwise(Cow<'static, str>),
    /// The client went in the run before; in words, and whether it sent DISCONNECT.
    Before(Cow<'static, str>, bool),
}

impl Going {
    fn words(&self) -> &str {
        match self {
            Self::Wished(_, cause) => cause.text(),
            Self::Otherwise(why) | Self::Before(why, _) => why,
        }
    }

    /// The client sent DISCONNECT.
    fn is_goodbye(&self) -> bool {
        match self {
            Self::Wished(_, cause) => is_goodbye(cause),
            Self::Otherwise(_) => false,
            Self::Before(_, sent_disconnect) => *sent_disconnect,
        }
    }
}

/// Since when, how often, and when last.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    first_ms: u64,
    last_ms: u64,
    count: u32,
}

impl Times {
    fn note(&mut self, at_ms: u64) {
        if self.count == 0 {
            self.first_ms = at_ms;
        }
        self.last_ms = at_ms;
        self.count = self.count.saturating_add(1);
    }
}

/// A client that connected, and perhaps disconnected, by itself: nothing else is reported of it.
#[derive(Debug)]
pub(crate) struct QuietClient {
    /// When it came first, how often, and when it did last.
    pub(crate) came: (u64, u64, u64),
    /// Times of its going, likewise, as it went last; none: it has not gone yet.
    pub(crate) went: Option<(u64, u64, u64, ReasonCode, RefusalCause)>,
    /// Whether it is there.
    pub(crate) online: bool,
    /// As it came last.
    pub(crate) client: SharedClient,
}

impl Default for ClientTable {
    fn default() -> Self {
        Self {
            clients: Arena::default(),
            by_name: PlaceTable::default(),
            // Clients choose their names, but not the seed.
            hasher: FixedState::with_seed(RandomState::new().hash_one(0)),
            offline: VecDeque::new(),
            offline_bytes: 0,
            offline_bytes_max: None,
            changed: None,
            listeners: Vec::new(),
        }
    }
}

/// The hash of the client at this place.
fn hash_of_client(clients: &Arena<Client>, hasher: &FixedState, index: u32) -> u64 {
    let client = &clients[index];
    hasher.hash_one((client.tenant, client.client_id()))
}

impl ClientTable {
    /// Clients that are not connected take about `bytes_max` at most; none:
    /// [`OFFLINE_BYTES_MAX`].
    pub(super) fn new(listeners: &[String], bytes_max: Option<usize>) -> Self {
        let least = 1_000 * OFFLINE_BYTES;
        Self {
            listeners: listeners.to_vec(),
            offline_bytes_max: bytes_max.map(|bytes| bytes.clamp(least, OFFLINE_BYTES_MAX)),
            ..Self::default()
        }
    }

    pub(super) fn of(&self, tenant: TenantId, client_id: &str) -> Option<ClientPresence> {
        let index = self.find(tenant, client_id)?;
        Some(self.shown(&self.clients[index]))
    }

    pub(super) fn who(&self, tenant: TenantId, client_id: &str) -> Option<ClientSource> {
        let index = self.find(tenant, client_id)?;
        self.clients[index].who()
    }

    /// The Will of a client that left since the node was started, and whether it was discarded.
    pub(super) fn will_of(&self, tenant: TenantId, client_id: &str) -> Option<WillNotice> {
        let client = &self.clients[self.find(tenant, client_id)?];
        let departure = client.departure.as_ref().filter(|_| !client.online)?;
        departure.will.as_deref().cloned()
    }

    /// The client that left last, of those of a tenant that are away and whose published Will has
    /// a topic that is meant; and that topic.
    pub(super) fn left_with_will(
        &self,
        tenant: TenantId,
        is_meant: impl Fn(&str) -> bool,
    ) -> Option<(String, Box<str>)> {
        let mut latest = self.offline.iter().rev().take(LEFT_LOOKED_AT);
        latest.find_map(|departure| {
            let client = self.gone_since(departure.0, departure.1)?;
            let will = client.departure.as_ref()?.will.as_ref()?;
            let is_it = client.tenant == tenant && !will.is_discarded && is_meant(&will.topic);
            is_it.then(|| (client.client_id().to_owned(), will.topic.clone()))
        })
    }

    /// The Will Topic of a client that is connected and whose Will was published when it left last.
    pub(super) fn past_will_of(&self, tenant: TenantId, client_id: &str) -> Option<Box<str>> {
        let client = &self.clients[self.find(tenant, client_id)?];
        let departure = client.departure.as_ref().filter(|_| client.online)?;
        let will = departure.will.as_ref().filter(|will| !will.is_discarded)?;
        Some(will.topic.clone())
    }

    /// When a client connected and disconnected since the node was started.
    pub(crate) fn calm(&self, tenant: TenantId, client_id: &str) -> Option<QuietClient> {
        let client = &self.clients[self.find(tenant, client_id)?];
        let who = client.who.as_ref()?;
        let triple = |times: Times| (times.first_ms, u64::from(times.count), times.last_ms);
        let departure = client.departure.as_deref();
        let mut came = departure.map_or(Times::default(), |departure| departure.came);
        if client.online {
            came.note(client.since_ms);
        }
        let went = departure
            .filter(|departure| departure.went.count > 0)
            .and_then(|departure| {
                let (first_ms, count, last_ms) = triple(departure.went);
                match departure.why {
                    Going::Wished(reason, cause) => Some((first_ms, count, last_ms, reason, cause)),
                    Going::Otherwise(_) | Going::Before(..) => None,
                }
            });
        Some(QuietClient {
            came: triple(came),
            went,
            online: client.online,
            client: SharedClient::clone(who),
        })
    }

    /// Applies an event. Returns the client that it is about, unless the event has all of that.
    pub(crate) fn note(&mut self, notice: &NodeNotice, at_ms: u64) -> Option<ClientSource> {
        let NodeNotice { head, event } = notice;
        match event {
            NodeEvent::Shard(Event::Connected(client)) => {
                let index = self.put(head.tenant, client, at_ms);
                self.clients[index].online = true;
                self.change(index);
                None
            }
            NodeEvent::Shard(Event::Disconnected { reason, why, will }) => {
                let index = self.find(head.tenant, &head.client_id)?;
                let why = match Cause::of_end(*reason, why.cause) {
                    None => Going::Wished(*reason, why.cause),
                    Some(_) => Going::Otherwise(why.clone().into_detail()),
                };
                let client = &mut self.clients[index];
                client.go(at_ms, why, will.clone());
                let who = client.who();
                self.is_offline(index, at_ms);
                self.change(index);
                who
            }
            NodeEvent::Shard(
                Event::Authenticated { .. } | Event::Refused { .. } | Event::QueueFull { .. },
            )
            | NodeEvent::ProvisioningRefused { .. }
            | NodeEvent::RequestRefused { .. }
            | NodeEvent::ConnectionRefused { .. } => None,
            _ => {
                let index = self.find(head.tenant, &head.client_id)?;
                self.clients[index].who()
            }
        }
    }

    /// Clients connected when the node was last alive; those that are back already stay.
    pub(super) fn restore(&mut self, ended: &[ClientPresence]) {
        for one in ended {
            let tenant = TenantId(one.tenant);
            if self.find(tenant, &one.client_id).is_some() {
                continue;
            }
            let stored = StoredClient {
                client_id: one.client_id.as_str().into(),
                address: one.address.as_str().into(),
                listener: one.listener.as_str().into(),
                listener_url: one.listener_url.as_str().into(),
            };
            let departure = Departure {
                stored: Some(Arc::new(stored)),
                why: Going::Before(one.why.clone().into(), one.sent_disconnect),
                will: None,
                last_seen_ms: one.last_seen_ms,
                came: Times::default(),
                went: Times::default(),
            };
            let hash = self.hash(tenant, &one.client_id);
            let index = self.insert(hash, tenant, one.since_ms, None, Some(departure));
            self.is_offline(index, one.since_ms);
            self.change(index);
        }
    }

    /// Approximate number of bytes of disconnected clients and of pending changes. Connected
    /// clients are counted with their connections.
    pub(super) fn memory_bytes(&self) -> usize {
        let changed = self.changed.as_ref().map_or(0, Vec::capacity);
        let places = changed * size_of::<u32>() + self.offline.capacity() * size_of::<(u32, u64)>();
        self.offline_bytes + places
    }

    /// From now on changes are kept until they are taken.
    pub(super) fn keep_changes(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// All known clients count as changed.
    pub(super) fn change_all(&mut self) {
        let all: Vec<u32> = self.clients.iter().map(|(index, _)| index).collect();
        all.into_iter().for_each(|index| self.change(index));
    }

    /// These have to be reported once more.
    pub(super) fn change_again(&mut self, clients: &[ClientPresence]) {
        for client in clients {
            if let Some(index) = self.find(TenantId(client.tenant), &client.client_id) {
                self.change(index);
            }
        }
    }

    /// No client is connected any more.
    pub(super) fn end_all(&mut self, at_ms: u64, why: &'static str) {
        let online = self.clients.iter().filter(|(_, client)| client.online);
        let online: Vec<u32> = online.map(|(index, _)| index).collect();
        for index in online {
            self.clients[index].go(at_ms, Going::Otherwise(why.into()), None);
            self.is_offline(index, at_ms);
            self.change(index);
        }
    }

    /// Takes at most `most` clients that have changed since the last call, in their present state.
    pub(super) fn take_changes(&mut self, most: usize) -> Vec<ClientPresence> {
        let taken = self.take_changed(most);
        let shown = taken.into_iter().filter_map(|index| {
            // It may have been forgotten meanwhile.
            let client = self.clients.get_mut(index)?;
            let is_changed = std::mem::replace(&mut client.is_changed, false);
            is_changed.then(|| self.shown(&self.clients[index]))
        });
        shown.collect()
    }

    /// Changes are not wanted.
    pub(super) fn forget_changes(&mut self) {
        for index in self.take_changed(usize::MAX) {
            if let Some(client) = self.clients.get_mut(index) {
                client.is_changed = false;
            }
        }
    }

    fn take_changed(&mut self, most: usize) -> Vec<u32> {
        let Some(changed) = &mut self.changed else {
            return Vec::new();
        };
        let taken = changed.drain(..most.min(changed.len())).collect();
        changed.shrink_to(CHANGES_KEPT);
        taken
    }

    fn find(&self, tenant: TenantId, client_id: &str) -> Option<u32> {
        self.find_by(self.hash(tenant, client_id), tenant, client_id)
    }

    fn find_by(&self, hash: u64, tenant: TenantId, client_id: &str) -> Option<u32> {
        self.by_name.find(hash, |index| {
            let client = &self.clients[index];
            client.tenant == tenant && client.client_id() == client_id
        })
    }

    fn hash(&self, tenant: TenantId, client_id: &str) -> u64 {
        self.hasher.hash_one((tenant, client_id))
    }

    /// The row of a client that comes, which may have been known.
    fn put(&mut self, tenant: TenantId, client: &SharedClient, since_ms: u64) -> u32 {
        let hash = self.hash(tenant, &client.client_id);
        let who = Some(SharedClient::clone(client));
        let Some(index) = self.find_by(hash, tenant, &client.client_id) else {
            return self.insert(hash, tenant, since_ms, who, None);
        };
        self.uncount(index);
        let known = &mut self.clients[index];
        (known.who, known.since_ms) = (who, since_ms);
        if let Some(departure) = &mut known.departure {
            departure.stored = None;
        }
        index
    }

    /// Adds a client that was not known.
    fn insert(
        &mut self,
        hash: u64,
        tenant: TenantId,
        since_ms: u64,
        who: Option<SharedClient>,
        departure: Option<Departure>,
    ) -> u32 {
        let index = self.clients.insert(Client {
            who,
            departure: departure.map(Box::new),
            since_ms,
            tenant,
            online: false,
            is_changed: false,
            is_counted: false,
        });
        let (clients, hasher) = (&self.clients, &self.hasher);
        let hash_of = |other| hash_of_client(clients, hasher, other);
        self.by_name.insert(hash, index, hash_of);
        index
    }

    fn remove(&mut self, index: u32) {
        self.uncount(index);
        let (clients, hasher) = (&self.clients, &self.hasher);
        let hash_of = |other| hash_of_client(clients, hasher, other);
        self.by_name.remove(hash_of(index), index);
        self.by_name.shrink(hash_of);
        self.clients.remove(index);
    }

    fn change(&mut self, index: u32) {
        let Some(changed) = &mut self.changed else {
            return;
        };
        if std::mem::replace(&mut self.clients[index].is_changed, true) {
            return;
        }
        // Some may have been removed before they were taken.
        if changed.len() > 2 * self.by_name.len() + CHANGES_KEPT {
            let mut seen = HashSet::new();
            let clients = &self.clients;
            let is_there = |index: u32| clients.get(index).is_some_and(|client| client.is_changed);
            changed.retain(|index| is_there(*index) && seen.insert(*index));
            if seen.contains(&index) {
                return;
            }
        }
        changed.push(index);
    }

    /// Takes a client in among those that are not connected. Those that have gone first are
    /// forgotten while there are too many; one that has changed since that was last taken is left
    /// for now if another may go.
    fn is_offline(&mut self, index: u32, since_ms: u64) {
        self.offline.push_back((index, since_ms));
        self.count(index);
        while self.offline.len() > OFFLINE_MAX
            || self.offline_bytes > self.offline_bytes_max.unwrap_or(OFFLINE_BYTES_MAX)
        {
            let mut oldest = self.offline.iter().take(CHANGED_LEFT);
            let place = oldest.position(|departure| {
                let client = self.gone_since(departure.0, departure.1);
                client.is_none_or(|client| !client.is_changed)
            });
            let Some(departure) = self.offline.remove(place.unwrap_or(0)) else {
                return;
            };
            if self.gone_since(departure.0, departure.1).is_some() {
                self.remove(departure.0);
            }
        }
    }

    /// The client at this place, if it has been away since then.
    fn gone_since(&self, index: u32, since_ms: u64) -> Option<&Client> {
        let client = self.clients.get(index);
        client.filter(|client| !client.online && client.since_ms == since_ms)
    }

    fn count(&mut self, index: u32) {
        if !std::mem::replace(&mut self.clients[index].is_counted, true) {
            self.offline_bytes += self.clients[index].bytes();
        }
    }

    fn uncount(&mut self, index: u32) {
        if std::mem::replace(&mut self.clients[index].is_counted, false) {
            self.offline_bytes -= self.clients[index].bytes();
        }
    }

    fn shown(&self, client: &Client) -> ClientPresence {
        let stored = client
            .departure
            .as_deref()
            .and_then(|departure| departure.stored.as_ref());
        let (address, listener, listener_url) = match (&client.who, stored) {
            (Some(who), _) => {
                let url = self.listeners.get(usize::from(who.listener.number));
                let (name, url) = (&who.listener.name, url.cloned());
                (
                    address_text(who.address),
                    name.to_string(),
                    url.unwrap_or_default(),
                )
            }
            (None, Some(stored)) => (
                stored.address.to_string(),
                stored.listener.to_string(),
                stored.listener_url.to_string(),
            ),
            (None, None) => <_>::default(),
        };
        let departure = client.departure.as_deref().filter(|_| !client.online);
        ClientPresence {
            tenant: client.tenant.0,
            client_id: client.client_id().to_owned(),
            online: client.online,
            since_ms: client.since_ms,
            last_seen_ms: departure.map_or_else(
                || now_ms().max(client.since_ms),
                |departure| departure.last_seen_ms,
            ),
            why: departure.map_or_else(String::new, |departure| departure.why.words().to_owned()),
            sent_disconnect: departure.is_some_and(|departure| departure.why.is_goodbye()),
            address,
            listener,
            listener_url,
        }
    }
}

impl Client {
    fn client_id(&self) -> &str {
        let stored = || Some(&*self.departure.as_ref()?.stored.as_ref()?.client_id);
        let who = self.who.as_ref().map(|who| &*who.client_id);
        who.or_else(stored).unwrap_or_default()
    }

    fn who(&self) -> Option<ClientSource> {
        match &self.who {
            Some(who) => Some(ClientSource::Connected(SharedClient::clone(who))),
            None => {
                let stored = self.departure.as_ref()?.stored.as_ref()?;
                Some(ClientSource::Stored(Arc::clone(stored)))
            }
        }
    }

    /// Approximate number of bytes that it takes while it is not connected. It changes only while
    /// the client is not counted.
    fn bytes(&self) -> usize {
        let user = self.who.as_ref().and_then(|who| who.user_name.as_ref());
        OFFLINE_BYTES + self.client_id().len() + user.map_or(0, |name| name.len())
    }

    /// Notes that it has gone.
    fn go(&mut self, at_ms: u64, why: Going, will: Option<Box<WillNotice>>) {
        let departure = self.departure.get_or_insert_with(|| {
            Box::new(Departure {
                stored: None,
                why: Going::Otherwise("".into()),
                will: None,
                last_seen_ms: 0,
                came: Times::default(),
                went: Times::default(),
            })
        });
        if std::mem::replace(&mut self.online, false) {
            departure.came.note(self.since_ms);
        }
        if let Going::Wished(_, cause) = &why {
            // A DISCONNECT, and a connection that breaks, are counted by themselves.
            if let Going::Wished(_, before) = &departure.why
                && is_goodbye(before) != is_goodbye(cause)
            {
                departure.went = Times::default();
            }
            departure.went.note(at_ms);
        }
        (departure.why, departure.will) = (why, will);
        (self.since_ms, departure.last_seen_ms) = (at_ms, at_ms);
    }
}

fn is_goodbye(cause: &RefusalCause) -> bool {
    *cause == RefusalCause::Goodbye
}

fn address_text(address: Option<(IpAddr, u16)>) -> String {
    address.map_or_else(String::new, |(ip, port)| {
        SocketAddr::new(ip, port).to_string()
    })
}

/// Whether a client is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ClientPresence)]
pub struct ClientPresence {
    /// Tenant of the client; 0 is the common one.
    pub tenant: u32,
    /// Client Identifier.
    pub client_id: String,
    /// Whether it is connected.
    pub online: bool,
    /// Since when it is, or is not: milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When its last event was. Clients that are online are active now.
    pub last_seen_ms: u64,
    /// Why it is not connected.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub why: String,
    /// Whether it has sent DISCONNECT. Readers of its presence see why it is not connected.
    #[serde(skip)]
    pub sent_disconnect: bool,
    /// From where it is, or was.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub address: String,
    /// The listener that it came by, as far as known.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub listener: String,
    /// The URL of that.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub listener_url: String,
}

#[cfg(test)]
mod tests {
    use martlet_broker::ConnectedClient;

    use super::*;

    #[test]
    fn a_client_is_a_small_row() {
        assert!(size_of::<Client>() <= 32);
        // With its count of references it is a block of 80 bytes, which the feed shares.
        assert!(size_of::<ConnectedClient>() <= 72);
    }
}
