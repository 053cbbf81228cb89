//! State of the presence of a client.

use serde::{Deserialize, Serialize};

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
