//! The transport of one connection of the load generator: TCP, or TLS over TCP.

use std::io::{self, Read, Write};
use std::sync::Arc;

use anyhow::Context as _;
use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::target::Target;

/// Non-blocking input and output of bytes.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Creates the transport for a new connection.
    pub(super) fn new(stream: TcpStream, target: &Target) -> anyhow::Result<Self> {
        let Some(config) = &target.tls else {
            return Ok(Self::Plain(stream));
        };
        let name = ServerName::try_from(target.host.clone());
        let name = name.with_context(|| format!("{}: no host name", target.host))?;
        let connection = ClientConnection::new(Arc::clone(config), name)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    /// The socket.
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &mut stream.sock,
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer).map_err(told),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes).map_err(told),
        }
    }

    /// Writes encrypted bytes, as far as the system accepts them.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Self::Tls(stream) = self else {
            return Ok(());
        };
        match stream.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            flushed => flushed.map_err(told),
        }
    }

    /// Whether encrypted bytes are not yet written.
    pub(super) fn holds_output(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.conn.wants_write(),
        }
    }

    /// Whether a short read means that no bytes are left. Not with TLS, which returns records.
    pub(super) fn short_is_all(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

/// Unwraps a TLS error from an I/O error, because its text contains the remedy.
fn told(error: io::Error) -> io::Error {
    let inner = error.get_ref();
    let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(tls) => io::Error::other(martlet_certificates::handshake_failure(tls)),
        None => error,
    }
}
