//! Facts about what the node was set up with, as far as operators may know: listeners,
//! certificates, the configuration.

use std::collections::BTreeMap;

use martlet_broker::Realm;
use serde::Serialize;

/// All of it, as it is in force.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Where it listens.
    pub listeners: Vec<ListenerFacts>,
    /// Certificates of the node, and the authorities that it trusts.
    pub certificates: Vec<CertificateFacts>,
    /// The values of the configuration.
    pub configuration: Configuration,
}

/// A listener.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ListenerFacts {
    /// Address, as a URL.
    #[schema(example = "mqtts://0.0.0.0:8883")]
    pub url: String,
    /// Protocol that is spoken there: `mqtt` or `http`.
    pub protocol: &'static str,
    /// Whether it is encrypted.
    pub is_secure: bool,
    /// Clients must authenticate there.
    pub needs_credentials: bool,
    /// Clients that are connected by it now; none where it is not for MQTT.
    pub connections: Option<u32>,
    /// The realm whose credentials and rules apply there.
    #[serde(skip)]
    #[schema(ignore)]
    pub realm: Realm,
}

/// A certificate in use.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct CertificateFacts {
    /// The file that it was read from.
    pub file: String,
    /// Use of the certificate: `server`, or `client_ca`, by which certificates of clients are good.
    pub used_as: &'static str,
    /// The client that it is about.
    pub subject: String,
    /// Issuer of the certificate.
    pub issuer: String,
    /// DNS names, addresses, URIs and mail addresses that it is for.
    pub names: Vec<String>,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// SHA-256 over all of it, hexadecimal with colons.
    pub fingerprint: String,
    /// Valid from, seconds since the Unix epoch.
    pub not_before_secs: i64,
    /// Valid until, likewise.
    pub not_after_secs: i64,
}

/// Every value in force, and where it came from.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Configuration {
    /// Every key, set or not.
    pub values: Vec<ConfigurationValue>,
    /// Configured listeners; without any, loopback is listened on.
    pub listeners: Vec<BTreeMap<String, ListenerValue>>,
    /// Further listeners of the HTTP server, beside `http.listen`.
    pub http_listeners: Vec<BTreeMap<String, ListenerValue>>,
    /// Rules of telemetry.
    pub telemetry_rules: Vec<BTreeMap<String, ListenerValue>>,
    /// How long telemetry of types of devices is kept.
    pub telemetry_retention: Vec<BTreeMap<String, ListenerValue>>,
    /// Configured sinks.
    pub sinks: Vec<ConfiguredSink>,
}

/// A configured sink.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ConfiguredSink {
    /// Kind, such as `file`.
    #[schema(example = "file")]
    pub kind: String,
    /// Keys of the entry, with their values.
    pub values: BTreeMap<String, ListenerValue>,
}

/// A value of the configuration.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ConfigurationValue {
    /// Key of the configuration.
    #[schema(example = "limits.in_flight")]
    pub key: String,
    /// As it is shown: what is secret is `***`.
    pub value: serde_json::Value,
    /// Where it came from.
    #[schema(example = "default")]
    pub source: String,
}

/// A value of a configured listener or sink.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ListenerValue {
    /// As it is shown: what is secret is `***`.
    pub value: serde_json::Value,
    /// Where it came from.
    pub source: String,
}
