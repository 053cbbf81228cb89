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
    /// When a message waits, until none has come for that time.
    Lazy(Duration),
    /// At the start of the node, and not again.
    Once,
    /// When it is used first, and always from then on: a named connection.
    OnUse,
}

/// Notifications of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notifications {
    /// Topic Name, at both brokers.
    pub topic: Box<str>,
    /// The other broker gets them too.
    pub remote: bool,
}

/// Settings of a bridge.
#[derive(Clone, Debug)]
pub struct BridgeSettings {
    /// Name of the bridge.
    pub name: Box<str>,
    /// The team whose messages it carries; empty: the common tenant.
    pub tenant: Arc<str>,
    /// The other broker, tried in turn.
    pub addresses: Vec<Address>,
    /// What it carries.
    pub topics: Topics,
    /// The named connection that it is; none: it is none.
    pub connection: Option<Arc<NamedConnection>>,
    /// The other broker, as other bridges are compared with it.
    pub broker: BrokerAddresses,
    /// Version of MQTT.
    pub protocol: Protocol,
    /// Client Identifier.
    pub client_id: Box<str>,
    /// User name.
    pub user: Option<Box<str>>,
    /// Password.
    pub password: Option<Template>,
    /// The other broker forgets the session.
    pub clean_session: bool,
    /// Keep Alive, seconds.
    pub keep_alive_secs: u16,
    /// Files of TLS.
    pub tls: TlsFiles,
    /// When it connects.
    pub start: Start,
    /// Shortest and longest pause before it connects again.
    pub pauses: (Duration, Duration),
    /// Where its state is published.
    pub notifications: Option<Notifications>,
    /// It says that it is a bridge.
    pub try_private: bool,
    /// Messages go out with RETAIN as published.
    pub outgoing_retain: bool,
    /// Messages under way to the other broker.
    pub in_flight: u16,
    /// Nothing is sent after a message that was refused: `on_reject` is `stop`.
    pub stops_at_refusal: bool,
    /// Private networks that it may connect to.
    pub allowed: AllowedNetworks,
}

/// Files of TLS of a bridge.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Authorities.
    pub ca_file: Option<PathBuf>,
    /// Directory of authorities.
    pub ca_directory: Option<PathBuf>,
    /// Client certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// What of the other broker's certificate is checked.
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
