//! The target of the load.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;

/// The target of the load.
#[derive(Clone)]
pub struct Target {
    /// The broker's host.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// TLS settings; `None` without encryption.
    pub tls: Option<Arc<ClientConfig>>,
    /// User name of all connections.
    pub username: Option<String>,
    /// Password of all connections.
    pub password: Option<Vec<u8>>,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 1883,
            tls: None,
            username: None,
            password: None,
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password is omitted.
        f.debug_struct("Target")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
