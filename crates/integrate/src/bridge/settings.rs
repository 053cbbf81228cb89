//! Settings of a bridge.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use martlet_certificates::ServerCheck;

use super::address::Address;
use super::brokers::BrokerAddresses;
use super::connection::NamedConnection;
use super::protocol::Protocol;
use super::topics::Topics;
use crate::networks::AllowedNetworks;
use crate::secret::Template;

/// When a bridge connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Always.
    Automatic,
    /// When a message waits, until none has arrived for this time.
    Lazy(Duration),
    /// Once at the start of the node.
    Once,
    /// At its first use, and always from then on: a named connection.
    OnUse,
}

/// Notifications of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notifications {
    /// Topic Name, at both brokers.
    pub topic: Box<str>,
    /// Whether the other broker gets them too.
    pub remote: bool,
}

/// Settings of a bridge.
#[derive(Clone, Debug)]
pub struct BridgeSettings {
    /// Name of the bridge.
    pub name: Box<str>,
    /// The team whose messages it carries; empty: the common tenant.
    pub tenant: Arc<str>,
    /// Addresses of the other broker, tried in turn.
    pub addresses: Vec<Address>,
    /// Topics that it carries.
    pub topics: Topics,
    /// The named connection, if it is one.
    pub connection: Option<Arc<NamedConnection>>,
    /// The other broker, for comparison with those of other bridges.
    pub broker: BrokerAddresses,
    /// Version of MQTT.
    pub protocol: Protocol,
    /// Client Identifier.
    pub client_id: Box<str>,
    /// User name.
    pub user: Option<Box<str>>,
    /// Password.
    pub password: Option<Template>,
    /// Whether the other broker drops the session (Clean Session).
    pub clean_session: bool,
    /// Keep Alive, seconds.
    pub keep_alive_secs: u16,
    /// Files of TLS.
    pub tls: TlsFiles,
    /// When it connects.
    pub start: Start,
    /// Shortest and longest pause before it connects again.
    pub pauses: (Duration, Duration),
    /// Notifications of its state.
    pub notifications: Option<Notifications>,
    /// Whether it identifies itself as a bridge.
    pub try_private: bool,
    /// Whether outgoing messages keep the RETAIN flag.
    pub outgoing_retain: bool,
    /// Maximum number of messages in flight to the other broker.
    pub in_flight: u16,
    /// Whether nothing is sent after a refused message: `on_reject` is `stop`.
    pub stops_at_refusal: bool,
    /// Private networks that it may connect to.
    pub allowed: AllowedNetworks,
}

/// Files of TLS of a bridge.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// CA certificates.
    pub ca_file: Option<PathBuf>,
    /// Directory of CA certificates.
    pub ca_directory: Option<PathBuf>,
    /// Client certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Checks of the other broker's certificate.
    pub check: ServerCheck,
}

impl TlsFiles {
    /// Files that a connection reads.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let certificate = self.certificate.iter();
        let certificate = certificate.flat_map(|(certificate, key)| [certificate, key]);
        let all = self.ca_file.iter().chain(&self.ca_directory);
        all.chain(certificate).cloned().collect()
    }
}
