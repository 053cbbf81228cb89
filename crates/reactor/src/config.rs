//! Settings with which a node's reactors are started.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use martlet_broker::{ListenerPolicy, RuleBook, Settings};

use crate::authenticate::{Authenticator, NoAuthenticator};
use crate::store::{MemoryStore, Store};
use crate::tls::TlsSettings;

/// Settings of a node's reactors. Begin with [`ReactorConfig::new`] and change fields as needed.
#[derive(Debug)]
pub struct ReactorConfig {
    /// Number of reactors and shards: 1 to 64. The natural value is the number of cores.
    pub threads: usize,
    /// Settings of the shards.
    pub settings: Arc<Settings>,
    /// Listeners of the node; may be empty.
    pub listeners: Vec<ListenerConfig>,
    /// Batches that may wait for one shard before its senders hold back their publishers.
    pub mailbox_batches: usize,
    /// Most messages in one batch. With `mailbox_batches` it limits what waits for a shard.
    pub batch_messages: usize,
    /// Capacity of the queue of events behind [`Running::events`](crate::Running::events). Further
    /// events are dropped and counted.
    pub event_capacity: usize,
    /// Memory in bytes that all shards together may borrow for buffers, queues and retained
    /// messages.
    pub memory_bytes: usize,
    /// Store for the records.
    pub store: Box<dyn Store>,
    /// The authenticator of the listeners.
    pub authenticator: Arc<dyn Authenticator>,
    /// Rule book for authenticated clients, if the authenticator's answers contain no rules.
    pub rules: Option<Arc<dyn RuleBook>>,
    /// Called on the same thread right after a client's certificate was found invalid. Returns the
    /// name in the certificate, if the verifier has stored it.
    pub refused_name: fn() -> Option<String>,
    /// Whether listeners are bound but do not accept yet. Connections wait in the system's queue
    /// until [`Running::open_listeners`](crate::Running::open_listeners), so that parts can be
    /// attached first.
    pub opens_later: bool,
}

impl ReactorConfig {
    /// One reactor with default limits, no listener, and a store in memory.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            threads: 1,
            settings,
            listeners: Vec::new(),
            mailbox_batches: 1024,
            batch_messages: 1024,
            event_capacity: 65_536,
            memory_bytes: usize::MAX,
            store: Box::new(MemoryStore),
            authenticator: Arc::new(NoAuthenticator),
            rules: None,
            refused_name: || None,
            opens_later: false,
        }
    }
}

/// Settings of a listener.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Where it listens.
    pub address: ListenAddress,
    /// Most connections accepted per second; further ones wait in the system's queue. 0 means no
    /// limit.
    pub accept_rate: u32,
    /// Networks of proxies that send the source address in the PROXY protocol, version 1 or 2.
    /// Connections from other addresses are refused. If empty, the PROXY protocol is not used.
    pub proxies: Vec<IpNet>,
    /// The layer below MQTT.
    pub transport: Transport,
    /// Settings of TLS; `None` without encryption.
    pub tls: Option<TlsSettings>,
    /// Policy for clients of this listener.
    pub policy: Arc<ListenerPolicy>,
    /// Name of the listener in errors and in
    /// [`Running::local_addresses`](crate::Running::local_addresses).
    pub name: String,
}

/// Address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// Address and port. With port 0 the system chooses the port, see
    /// [`Running::local_addresses`](crate::Running::local_addresses). `[::]` includes IPv4; every
    /// other IPv6 address accepts IPv6 only.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// File of the socket, created at the start and removed at the end.
        path: PathBuf,
        /// Mode of the file. Clients need write access to connect.
        mode: u32,
    },
}

impl ListenAddress {
    /// Address and port, if there are any.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }

    /// Whether only this machine can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => true,
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => path.display().fmt(f),
        }
    }
}

/// The transport of MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP or a Unix socket, without a further layer.
    Tcp,
    /// WebSocket over TCP or a Unix socket [MQTT-6.0.0-3].
    WebSocket {
        /// Path of the request, such as `/mqtt`; other paths are answered with 404. [`ANY_PATH`]
        /// accepts every path.
        path: String,
        /// Origins of pages that may connect.
        origins: Origins,
    },
}

/// Accepts every path of a request for a WebSocket.
pub const ANY_PATH: &str = "/*";

/// Origins of pages that may open a WebSocket. Clients that send no origin, such as devices, are
/// always accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// All origins.
    #[default]
    All,
    /// Origins on this machine: `localhost` and loopback addresses. A browser sends the origin that
    /// its user has typed, so a foreign name that resolves to this machine is not accepted.
    Local,
    /// These origins, such as `https://panel.example`.
    Listed(Vec<String>),
}
