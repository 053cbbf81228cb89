//! Why a network connection failed or ended.

use std::io;

use crate::session::SessionError;

/// Why a network connection failed or ended.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The host name has no address.
    #[error("{0}: no such host")]
    Lookup(String),
    /// The system refused: no connection, reset, and so on.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No encrypted connection came about, or what came cannot be decrypted.
    #[error("TLS: {0}")]
    Tls(tokio_rustls::rustls::Error),
    /// The WebSocket handshake failed, or a frame was not valid.
    #[error("WebSocket: {0}")]
    WebSocket(String),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The session asked to close the connection.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// There is no connection.
    #[error("not connected")]
    NotConnected,
}
