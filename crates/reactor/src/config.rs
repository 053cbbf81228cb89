//! What a node's reactors are started with.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use martlet_broker::{ListenerPolicy, RuleBook, Settings};

use crate::authenticate::{Authenticator, NoAuthenticator};
use crate::store::{MemoryStore, Store};
use crate::tls::TlsSettings;

/// How a node is to be started. Begin with [`ReactorConfig::new`] and change what is to differ.
#[derive(Debug)]
pub struct ReactorConfig {
    /// Reactors, and so shards: 1 to 64. The natural number is that of the cores.
    pub threads: usize,
    /// What the shards are configured with.
    pub settings: Arc<Settings>,
    /// Where connections are accepted; may be empty.
    pub listeners: Vec<ListenerConfig>,
    /// Batches that wait for one shard before those who send to it hold back their publishers.
    pub mailbox_batches: usize,
    /// Messages in one batch at most. With `mailbox_batches` it bounds what waits for a shard.
    pub batch_messages: usize,
    /// Events that wait to be taken from [`Running::events`](crate::Running::events); further
    /// ones are dropped and counted.
    pub event_capacity: usize,
    /// What all shards together may borrow for buffers, queues and retained messages, in bytes.
    pub memory_bytes: usize,
    /// Where records go.
    pub store: Box<dyn Store>,
    /// The authenticator that listeners ask.
    pub authenticator: Arc<dyn Authenticator>,
    /// Where the rules of those who authenticate are looked up, if not in the answers.
    pub rules: Option<Arc<dyn RuleBook>>,
    /// Asked where a client's certificate was found not to be good, at once and on the same thread:
    /// whom it says to be about, if the verifier has noted that.
    pub refused_name: fn() -> Option<String>,
    /// Listeners are bound, and connections wait in the system's queue until
    /// [`Running::open_listeners`](crate::Running::open_listeners): for parts that are attached
    /// first.
    pub opens_later: bool,
}

impl ReactorConfig {
    /// One reactor with default limits and no listener, which stores in memory.
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

/// A place where connections are accepted.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Where connections come to.
    pub address: ListenAddress,
    /// Connections accepted per second at most; more wait outside. 0 is no limit.
    pub accept_rate: u32,
    /// Connections come by a proxy that says in the PROXY protocol, version 1 or 2, where they
    /// come from: only these networks' word is taken, and who else connects is refused. Empty:
    /// nobody says it.
    pub proxies: Vec<IpNet>,
    /// What is spoken below MQTT.
    pub transport: Transport,
    /// Settings of TLS; none: connections are not encrypted.
    pub tls: Option<TlsSettings>,
    /// What clients that come this way may do.
    pub policy: Arc<ListenerPolicy>,
    /// Names the listener in errors and in
    /// [`Running::local_addresses`](crate::Running::local_addresses).
    pub name: String,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// Address and port; port 0 lets the system choose, see
    /// [`Running::local_addresses`](crate::Running::local_addresses). `[::]` takes IPv4 as well,
    /// every other IPv6 address takes IPv6 alone.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its file, which is made at the start and removed at the end.
        path: PathBuf,
        /// Mode of the file: who may write to it may connect.
        mode: u32,
    },
}

impl ListenAddress {
    /// Address and port, if it has them.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }

    /// Only this machine comes there.
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

/// What carries the bytes of MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP alone, or a Unix socket.
    Tcp,
    /// WebSocket over it [MQTT-6.0.0-3].
    WebSocket {
        /// The path of the request, such as `/mqtt`; any other is answered with 404. [`ANY_PATH`]
        /// is every path.
        path: String,
        /// Origins whose pages may connect.
        origins: Origins,
    },
}

/// Every path of a request for a WebSocket.
pub const ANY_PATH: &str = "/*";

/// Origins whose pages may open a WebSocket. Clients that name none, as devices do, are not asked
/// for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// All.
    #[default]
    All,
    /// Pages that this machine serves: those of `localhost` and of loopback addresses. A browser
    /// names what its user has typed, so a foreign name that leads here is none of them.
    Local,
    /// These, such as `https://panel.example`.
    Listed(Vec<String>),
}
