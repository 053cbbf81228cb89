//! Why a network connection failed or ended.

use std::io;

use tokio_rustls::rustls::InvalidMessage;

use crate::session::SessionError;

/// Why a network connection failed or ended.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The host name has no address.
    #[error("{0}: no such host")]
    Lookup(String),
    /// An error of the system: connection refused, reset, and so on.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The TLS handshake failed, or a record cannot be decrypted.
    #[error("{}", in_words(.0))]
    Tls(tokio_rustls::rustls::Error),
    /// The server answered with HTTP instead of MQTT.
    #[error("the server answered with HTTP, not with MQTT")]
    Http,
    /// The server did not accept the WebSocket handshake: its HTTP status, if it answered with
    /// HTTP.
    #[error("WebSocket: {}", .0.map_or_else(no_answer, |status| format!("HTTP status {status}")))]
    Handshake(Option<u16>),
    /// The WebSocket handshake is wrong, or a frame was invalid.
    #[error("WebSocket: {0}")]
    WebSocket(String),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The session requires that the connection is closed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// There is no connection.
    #[error("not connected")]
    NotConnected,
}

fn no_answer() -> String {
    "the server did not answer the handshake".to_owned()
}

/// A TLS error, where the text of the library does not name the usual cause.
fn in_words(error: &tokio_rustls::rustls::Error) -> String {
    match error {
        tokio_rustls::rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS on that port".to_owned()
        }
        error => format!("TLS: {error}"),
    }
}
