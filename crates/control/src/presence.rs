//! Who is connected, since when, and why not any more: from the sessions themselves.
//!
//! It is kept in memory for all who are connected and for the last who were, written to a
//! [`PresenceStore`] in batches, and published where that is asked for. After a restart nobody is
//! online who has not come again: who was is offline since the node was last alive.
//!
//! * `alive`: when that was
//! * `keep`: what has changed is carried to the store and the topics
//! * `publish`: the topics

mod alive;
mod keep;
mod publish;

pub use alive::Alive;
pub use keep::Keeper;
pub use publish::PresenceTopics;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use martlet_broker::{Event, TenantId, UserName};
use serde::{Deserialize, Serialize};

use crate::wall_clock::now_ms;

/// So many who are not connected are remembered.
const OFFLINE_MAX: usize = 100_000;

/// Who a client is, and where.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Its user; none is anonymous.
    pub user: Option<UserName>,
    /// Where from; none on a Unix socket.
    pub address: Option<(IpAddr, u16)>,
    /// The same as it is shown, many times; empty where there is none.
    pub address_text: Box<str>,
    /// The listener that it came by.
    pub listener: String,
    /// The URL of that.
    pub listener_url: String,
}

/// Whether a client is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ClientPresence)]
pub struct ClientPresence {
    /// Its tenant; 0 is the common one.
    pub tenant: u32,
    /// Client Identifier.
    pub client_id: String,
    /// It is connected.
    pub online: bool,
    /// Since when it is, or is not: milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When it was last heard of, as far as events tell of it; who is online is there now.
    pub last_seen_ms: u64,
    /// Why it is not connected.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub why: String,
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

/// Something that is being written or read.
pub type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Where it is kept beyond the end of the node.
pub trait PresenceStore: Send + Sync + 'static {
    /// It is there, or is made when something is written. Until then nothing is.
    fn is_there(&self) -> bool;
    /// Writes what has become of clients; the last that is said of one holds.
    fn write<'a>(&'a self, clients: &'a [Noted]) -> Stored<'a, ()>;
    /// All who are online by what was written are offline since then, and why; they are the answer,
    /// with those whose status topics may say otherwise.
    fn all_offline<'a>(&'a self, since_ms: u64, why: &'a str) -> Stored<'a, Vec<ClientPresence>>;
    /// Makes room, as far as that is needed.
    fn tidy(&self) -> Stored<'_, ()>;
}

/// What is written of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// How it is.
    pub client: ClientPresence,
    /// Its status topics say the same, or are not asked for.
    pub is_told: bool,
}

/// Keeps it as long as it lives itself.
#[derive(Clone, Debug, Default)]
pub struct PresenceInMemory(Arc<Mutex<HashMap<String, Noted>>>);

impl PresenceInMemory {
    /// What was written of a client.
    pub fn find(&self, client_id: &str) -> Option<Noted> {
        self.lock().get(client_id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PresenceStore for PresenceInMemory {
    fn is_there(&self) -> bool {
        true
    }

    fn write<'a>(&'a self, clients: &'a [Noted]) -> Stored<'a, ()> {
        let mut all = self.lock();
        for noted in clients {
            all.insert(noted.client.client_id.clone(), noted.clone());
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn all_offline<'a>(&'a self, since_ms: u64, why: &'a str) -> Stored<'a, Vec<ClientPresence>> {
        let mut all = self.lock();
        for noted in all.values_mut().filter(|noted| noted.client.online) {
            let client = &mut noted.client;
            client.online = false;
            client.since_ms = client.last_seen_ms.max(since_ms);
            client.last_seen_ms = client.since_ms;
            why.clone_into(&mut client.why);
            noted.is_told = false;
        }
        let untold = all.values().filter(|noted| !noted.is_told);
        let untold = untold.map(|noted| noted.client.clone()).collect();
        Box::pin(std::future::ready(Ok(untold)))
    }

    fn tidy(&self) -> Stored<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Who is connected.
#[derive(Debug, Default)]
pub struct Presence {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By tenant.
    clients: HashMap<TenantId, HashMap<Box<str>, Client>>,
    /// Who is not connected, by the time of that; some have come again since.
    offline: VecDeque<(TenantId, Box<str>, u64)>,
    /// What has changed since it was last asked for; only where somebody asks.
    changed: Option<Vec<(TenantId, Box<str>)>>,
    /// Where the node listens, by the listener's number.
    listeners: Vec<String>,
}

#[derive(Debug)]
struct Client {
    online: bool,
    since_ms: u64,
    last_seen_ms: u64,
    why: Box<str>,
    who: Arc<Who>,
    /// It stands in `changed`.
    is_changed: bool,
}

impl Presence {
    /// Of a node that listens at these URLs, in the order of its listeners.
    pub fn new(listeners: &[String]) -> Self {
        let this = Self::default();
        listeners.clone_into(&mut this.lock().listeners);
        this
    }

    /// What is known of a client.
    pub fn of(&self, tenant: TenantId, client_id: &str) -> Option<ClientPresence> {
        let known = self.lock();
        let client = known.clients.get(&tenant)?.get(client_id)?;
        Some(client.shown(tenant, client_id))
    }

    /// From where a client is, or was.
    pub(crate) fn address_of(&self, tenant: TenantId, client_id: &str) -> Option<IpAddr> {
        let known = self.lock();
        let (address, _) = known.clients.get(&tenant)?.get(client_id)?.who.address?;
        Some(address)
    }

    /// Who was connected when the node was last alive; who is again already is not touched.
    pub fn restore(&self, ended: &[ClientPresence]) {
        let mut known = self.lock();
        for one in ended {
            let tenant = TenantId(one.tenant);
            let of_tenant = known.clients.entry(tenant).or_default();
            if of_tenant.contains_key(&*one.client_id) {
                continue;
            }
            let client_id: Box<str> = one.client_id.as_str().into();
            let client = Client {
                online: false,
                since_ms: one.since_ms,
                last_seen_ms: one.last_seen_ms,
                why: one.why.as_str().into(),
                who: Arc::new(Who {
                    user: None,
                    address: address_of(&one.address),
                    address_text: one.address.as_str().into(),
                    listener: one.listener.clone(),
                    listener_url: one.listener_url.clone(),
                }),
                is_changed: false,
            };
            of_tenant.insert(client_id.clone(), client);
            known.is_offline(tenant, client_id.clone(), one.since_ms);
            known.change(tenant, client_id);
        }
    }

    pub(crate) fn begin(&self) -> MutexGuard<'_, Known> {
        self.lock()
    }

    /// From now on changes are kept until they are taken.
    fn keep_changes(&self) {
        self.lock().changed.get_or_insert_default();
    }

    /// Everybody who is known counts as changed.
    fn change_all(&self) {
        let mut known = self.lock();
        let all = known.clients.iter().flat_map(|(tenant, clients)| {
            let names = clients.keys();
            names.map(|client_id| (*tenant, client_id.clone()))
        });
        let all: Vec<(TenantId, Box<str>)> = all.collect();
        for (tenant, client_id) in all {
            known.change(tenant, client_id);
        }
    }

    /// These have to be told once more.
    fn change_again(&self, clients: &[ClientPresence]) {
        let mut known = self.lock();
        for client in clients {
            known.change(TenantId(client.tenant), client.client_id.as_str().into());
        }
    }

    /// Nobody is connected any more.
    fn end_all(&self, at_ms: u64, why: &str) {
        let mut known = self.lock();
        let mut ended = Vec::new();
        for (tenant, clients) in &mut known.clients {
            for (client_id, client) in clients.iter_mut().filter(|(_, client)| client.online) {
                client.online = false;
                (client.since_ms, client.last_seen_ms) = (at_ms, at_ms);
                client.why = why.into();
                ended.push((*tenant, client_id.clone()));
            }
        }
        for (tenant, client_id) in ended {
            known.is_offline(tenant, client_id.clone(), at_ms);
            known.change(tenant, client_id);
        }
    }

    /// Who has changed since this was asked, as it is now.
    fn take_changes(&self) -> Vec<ClientPresence> {
        let mut known = self.lock();
        let known = &mut *known;
        let Some(changed) = &mut known.changed else {
            return Vec::new();
        };
        let changed = std::mem::take(changed);
        let clients = changed.iter().filter_map(|(tenant, client_id)| {
            let client = known.clients.get_mut(tenant)?.get_mut(client_id)?;
            client.is_changed = false;
            Some(client.shown(*tenant, client_id))
        });
        clients.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Takes an event in; the answer is who it is about.
    pub(crate) fn note(&mut self, tenant: TenantId, event: &Event, at_ms: u64) -> Option<Arc<Who>> {
        let client_id = event.client_id();
        match event {
            Event::Connected {
                user,
                address,
                listener,
                ..
            } => {
                let who = Arc::new(Who {
                    user: user.clone(),
                    address: *address,
                    address_text: address_text(*address).into(),
                    listener: listener.name.to_string(),
                    listener_url: self
                        .listeners
                        .get(usize::from(listener.number))
                        .cloned()
                        .unwrap_or_default(),
                });
                let of_tenant = self.clients.entry(tenant).or_default();
                let is_changed = of_tenant.get(client_id).is_some_and(|old| old.is_changed);
                let client = Client {
                    online: true,
                    since_ms: at_ms,
                    last_seen_ms: at_ms,
                    why: "".into(),
                    who: Arc::clone(&who),
                    is_changed,
                };
                of_tenant.insert(client_id.into(), client);
                self.change(tenant, client_id.into());
                Some(who)
            }
            Event::Disconnected { why, .. } => {
                let client = self.clients.get_mut(&tenant)?.get_mut(client_id)?;
                client.online = false;
                client.since_ms = at_ms;
                client.last_seen_ms = at_ms;
                client.why = why.as_ref().into();
                let who = Arc::clone(&client.who);
                self.is_offline(tenant, client_id.into(), at_ms);
                self.change(tenant, client_id.into());
                Some(who)
            }
            Event::Authenticated { .. } | Event::Refused { .. } | Event::QueueFull { .. } => None,
            _ => {
                let client = self.clients.get_mut(&tenant)?.get_mut(client_id)?;
                if client.online {
                    client.last_seen_ms = client.last_seen_ms.max(at_ms);
                }
                Some(Arc::clone(&client.who))
            }
        }
    }

    fn change(&mut self, tenant: TenantId, client_id: Box<str>) {
        let Some(changed) = &mut self.changed else {
            return;
        };
        let of_tenant = self.clients.entry(tenant).or_default();
        if let Some(client) = of_tenant.get_mut(&client_id)
            && !std::mem::replace(&mut client.is_changed, true)
        {
            changed.push((tenant, client_id));
        }
    }

    fn is_offline(&mut self, tenant: TenantId, client_id: Box<str>, since_ms: u64) {
        self.offline.push_back((tenant, client_id, since_ms));
        while self.offline.len() > OFFLINE_MAX {
            let Some((tenant, oldest, since_ms)) = self.offline.pop_front() else {
                return;
            };
            let is_over = |client: &Client| {
                !client.online && client.since_ms == since_ms && !client.is_changed
            };
            let of_tenant = self.clients.entry(tenant).or_default();
            if of_tenant.get(&oldest).is_some_and(is_over) {
                of_tenant.remove(&oldest);
            }
        }
    }
}

impl Client {
    fn shown(&self, tenant: TenantId, client_id: &str) -> ClientPresence {
        ClientPresence {
            tenant: tenant.0,
            client_id: client_id.to_owned(),
            online: self.online,
            since_ms: self.since_ms,
            last_seen_ms: match self.online {
                true => now_ms().max(self.last_seen_ms),
                false => self.last_seen_ms,
            },
            why: self.why.to_string(),
            address: self.who.address_text.to_string(),
            listener: self.who.listener.clone(),
            listener_url: self.who.listener_url.clone(),
        }
    }
}

fn address_text(address: Option<(IpAddr, u16)>) -> String {
    address.map_or_else(String::new, |(ip, port)| {
        std::net::SocketAddr::new(ip, port).to_string()
    })
}

fn address_of(text: &str) -> Option<(IpAddr, u16)> {
    let address: std::net::SocketAddr = text.parse().ok()?;
    Some((address.ip(), address.port()))
}

#[cfg(test)]
mod tests;
