//! Where and how to connect.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;

/// Transport of packets over the Network Connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Directly over TCP.
    Tcp,
    /// In binary WebSocket frames, subprotocol `mqtt`. MQTT 5.0 §6.
    WebSocket {
        /// Path of the request, beginning with `/`.
        path: String,
    },
}

/// Where and how to connect.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Resolved addresses of `host`, tried in turn; `None`: `host` is resolved. For callers that
    /// decide which addresses may be connected to.
    pub resolved: Option<Vec<SocketAddr>>,
    /// Connect to this Unix socket instead; host and port are then only names.
    pub unix: Option<PathBuf>,
    /// The protocol over TCP.
    pub transport: Transport,
    /// Local address to connect from.
    pub bind: Option<IpAddr>,
    /// Whether to disable Nagle's algorithm.
    pub no_delay: bool,
    /// TLS settings; `None` without encryption.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Endpoint {
    /// An endpoint over TCP with default options; small packets are sent at once.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        let (transport, bind) = (Transport::Tcp, None);
        Self {
            host: host.into(),
            port,
            resolved: None,
            unix: None,
            transport,
            bind,
            no_delay: true,
            tls: None,
        }
    }
}
