//! How a request came in.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

/// How a request came in. The listener puts it into the request's extensions. A request without one
/// is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpConnection {
    /// The listener that it came by.
    pub listener: ListenerKind,
    /// From where; none on a Unix socket.
    pub peer: Option<IpAddr>,
}

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// `admin.sock`: its file mode is its lock.
    Socket {
        /// Id of the system user that has connected.
        uid: u32,
    },
    /// A listener on TCP.
    Tcp {
        /// Whether it can be reached from this machine alone.
        is_loopback: bool,
        /// Whether it uses TLS.
        is_secure: bool,
    },
}

impl HttpConnection {
    pub(crate) const UNKNOWN: Self = Self {
        listener: ListenerKind::Tcp {
            is_loopback: false,
            is_secure: false,
        },
        peer: None,
    };

    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.listener, ListenerKind::Socket { .. })
    }

    pub(crate) fn is_loopback(&self) -> bool {
        matches!(self.listener, ListenerKind::Tcp { is_loopback, .. } if is_loopback)
    }

    /// Whether its other end is a program on this machine.
    pub(crate) fn comes_from_loopback(&self) -> bool {
        self.peer
            .is_some_and(|peer| peer.to_canonical().is_loopback())
    }

    pub(crate) fn is_secure(&self) -> bool {
        matches!(self.listener, ListenerKind::Tcp { is_secure, .. } if is_secure)
    }
}

/// The request is one for MQTT over WebSocket.
pub(crate) fn is_mqtt(headers: &HeaderMap) -> bool {
    let protocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut protocols = protocols.filter_map(|value| value.to_str().ok());
    protocols.any(|names| names.contains("mqtt"))
}
