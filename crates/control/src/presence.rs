//! Which clients are connected, since when, and why others disconnected: from events of the
//! sessions.
//!
//! It is kept in memory for all connected clients and the last disconnected ones, written to a
//! [`PresenceStore`] in batches, and published if that is configured. After a restart clients are
//! offline until they connect again, since the time when the node was last alive.
//!
//! * `alive`: when that was
//! * `keep`: what has changed is carried to the store and the topics
//! * `known`: the clients, one small row each
//! * `publish`: the topics

mod alive;
mod keep;
mod known;
mod publish;
mod why;

pub use alive::Alive;
pub(crate) use alive::node_of;
pub use keep::Keeper;
pub use known::{ClientPresence, ClientSource};
pub(crate) use known::{ClientTable, QuietClient};
pub use publish::PresenceTopics;
pub(crate) use why::{AbsentWill, Silence, with_will};
#[cfg(test)]
pub(crate) use why::{NamedInTopic, NamedStanding, SilenceFacts, WillBeside};

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use martlet_broker::{TenantId, WillNotice};

use crate::event::NodeNotice;

/// Something that is being written or read.
pub type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Where it is kept beyond the end of the node.
pub trait PresenceStore: Send + Sync + 'static {
    /// Whether it is there, or is made when something is written. Until then nothing is.
    fn is_there(&self) -> bool;
    /// Writes states of clients. The last state of a client counts.
    fn write<'a>(&'a self, clients: &'a [StoredPresence]) -> Stored<'a, ()>;
    /// Sets all clients that were written as online to offline since then, with this reason.
    /// Returns them, and those whose status topics may have another state.
    fn all_offline<'a>(&'a self, since_ms: u64, why: &'a str) -> Stored<'a, Vec<ClientPresence>>;
    /// Makes room, as far as that is needed.
    fn tidy(&self) -> Stored<'_, ()>;
}

/// State of a client as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPresence {
    /// How it is.
    pub client: ClientPresence,
    /// Whether its status topics have the same state, or are not configured.
    pub is_reported: bool,
}

/// Keeps it as long as it lives itself.
#[derive(Clone, Debug, Default)]
pub struct PresenceInMemory(Arc<Mutex<HashMap<String, StoredPresence>>>);

impl PresenceInMemory {
    /// Record that was written of a client.
    pub fn find(&self, client_id: &str) -> Option<StoredPresence> {
        self.lock().get(client_id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, StoredPresence>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PresenceStore for PresenceInMemory {
    fn is_there(&self) -> bool {
        true
    }

    fn write<'a>(&'a self, clients: &'a [StoredPresence]) -> Stored<'a, ()> {
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
            client.sent_disconnect = false;
            noted.is_reported = false;
        }
        let unreported = all.values().filter(|noted| !noted.is_reported);
        let unreported = unreported.map(|noted| noted.client.clone()).collect();
        Box::pin(std::future::ready(Ok(unreported)))
    }

    fn tidy(&self) -> Stored<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The clients that are connected.
#[derive(Debug, Default)]
pub struct Presence {
    known: Mutex<ClientTable>,
    /// Bytes of what is yet to be written to the store.
    unwritten_bytes: AtomicUsize,
}

impl Presence {
    /// The presence at a node that listens at these URLs, in the order of its listeners. Clients
    /// that are not connected take about `bytes_max` at most; none: a limit of its own.
    pub(crate) fn new(listeners: &[String], bytes_max: Option<usize>) -> Self {
        Self {
            known: Mutex::new(ClientTable::new(listeners, bytes_max)),
            unwritten_bytes: AtomicUsize::new(0),
        }
    }

    /// State of a client, as far as known.
    pub fn of(&self, tenant: TenantId, client_id: &str) -> Option<ClientPresence> {
        self.lock().of(tenant, client_id)
    }

    /// User of a client that is or was connected, as far as known.
    pub(crate) fn user_of(&self, tenant: TenantId, client_id: &str) -> Option<String> {
        let who = self.lock().who(tenant, client_id)?;
        who.user().map(|user| user.name.to_owned())
    }

    /// The client that an event is about, as far as known.
    pub(crate) fn source_of(&self, notice: &NodeNotice) -> Option<ClientSource> {
        let head = &notice.head;
        self.lock().who(head.tenant, &head.client_id)
    }

    /// From where a client is, or was.
    pub(crate) fn address_of(&self, tenant: TenantId, client_id: &str) -> Option<IpAddr> {
        let (address, _) = self.lock().who(tenant, client_id)?.address()?;
        Some(address)
    }

    /// The Will of a client that left since the node was started, and whether it was discarded.
    pub(crate) fn will_of(&self, tenant: TenantId, client_id: &str) -> Option<WillNotice> {
        self.lock().will_of(tenant, client_id)
    }

    /// The client that left last, of those of a tenant that are away and whose published Will has
    /// a topic that is meant; and that topic. The latest ones are looked at.
    pub(crate) fn left_with_will(
        &self,
        tenant: TenantId,
        is_meant: impl Fn(&str) -> bool,
    ) -> Option<(String, Box<str>)> {
        self.lock().left_with_will(tenant, is_meant)
    }

    /// The Will Topic of a client that is connected and whose Will was published when it left last.
    pub(crate) fn past_will_of(&self, tenant: TenantId, client_id: &str) -> Option<Box<str>> {
        self.lock().past_will_of(tenant, client_id)
    }

    /// How a client came and went, as far as it did in this run.
    pub(crate) fn calm(&self, tenant: TenantId, client_id: &str) -> Option<QuietClient> {
        self.lock().calm(tenant, client_id)
    }

    /// Restores the clients that were connected when the node was last alive; clients that are
    /// connected again are left as they are.
    pub fn restore(&self, ended: &[ClientPresence]) {
        self.lock().restore(ended);
    }

    /// Approximate number of bytes of clients that are not connected, and of what is yet to be
    /// written of clients.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.lock().memory_bytes() + self.unwritten_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_unwritten_bytes(&self, bytes: usize) {
        self.unwritten_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn begin(&self) -> MutexGuard<'_, ClientTable> {
        self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, ClientTable> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
