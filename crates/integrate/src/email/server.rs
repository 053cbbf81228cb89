//! Connections to an SMTP server.
//!
//! The library reads an answer until its end, however long. Here a server that sends much more than
//! an answer has is cut off before its bytes are kept.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::words::error_words;

/// Bytes that a server may send without getting anything: an answer, or its part of a handshake.
const ANSWER_BYTES_MAX: usize = 24 << 10;
/// Lines that a server may send without getting anything: the library looks at all of an answer
/// again for each of its lines. Bytes of a handshake may look like this many ends of lines, too.
const ANSWER_LINES_MAX: usize = 512;

/// How the connection is encrypted.
#[derive(Clone)]
pub(super) enum Encryption {
    StartTls(TlsParameters),
    Tls(TlsParameters),
    None,
}

/// A server, and how mails are handed to it.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) encryption: Encryption,
    pub(super) credentials: Option<Credentials>,
    /// Time limit for connecting and logging in.
    pub(super) connect_within: Duration,
}

/// Why a mail was not handed over.
#[derive(Debug)]
pub(super) enum SendError {
    /// There is no connection.
    Connection(String),
    /// The server's answer, or an error of the library.
    Smtp(lettre::transport::smtp::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(why) => f.write_str(why),
            Self::Smtp(error) => f.write_str(&error_words(error)),
        }
    }
}

impl From<lettre::transport::smtp::Error> for SendError {
    fn from(error: lettre::transport::smtp::Error) -> Self {
        Self::Smtp(error)
    }
}

impl SendError {
    /// The server refuses the mail or the receiver for good.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Self::Smtp(error) if error.is_permanent())
    }
}

impl Server {
    /// Hands over a mail, by a connection of its own.
    ///
    /// # Errors
    /// The server cannot be reached, or does not accept the mail.
    pub(super) async fn send(&self, envelope: &Envelope, mail: &[u8]) -> Result<(), SendError> {
        let mut connection = self.connect().await?;
        connection.send(envelope, mail).await?;
        connection.abort().await;
        Ok(())
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// It cannot be reached, or refuses the login.
    pub(super) async fn test(&self) -> Result<bool, SendError> {
        let mut connection = self.connect().await?;
        let is_connected = connection.test_connected().await;
        connection.abort().await;
        Ok(is_connected)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let connected = timeout(self.connect_within, self.connect_at_leisure()).await;
        connected.unwrap_or_else(|_| {
            let secs = self.connect_within.as_secs();
            Err(SendError::Connection(format!("no answer within {secs} s")))
        })
    }

    async fn connect_at_leisure(&self) -> Result<AsyncSmtpConnection, SendError> {
        let stream = TcpStream::connect(self.address).await;
        let stream = stream.map_err(|error| SendError::Connection(error.to_string()))?;
        let stream: Box<dyn AsyncTokioStream> = Box::new(Limited::new(stream));
        let hello = ClientId::default();
        let mut connection = match &self.encryption {
            Encryption::None => AsyncSmtpConnection::connect_with_transport(stream, &hello).await?,
            Encryption::StartTls(parameters) => {
                let connecting = AsyncSmtpConnection::connect_with_transport(stream, &hello);
                let mut connection = connecting.await?;
                connection.starttls(parameters.clone(), &hello).await?;
                connection
            }
            Encryption::Tls(parameters) => {
                let stream = encrypted(stream, parameters.clone()).await?;
                let stream = Box::new(Limited::new(stream));
                AsyncSmtpConnection::connect_with_transport(stream, &hello).await?
            }
        };
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

/// A connection that is encrypted from the beginning.
#[expect(
    deprecated,
    reason = "the library has no other way to encrypt a connection that it did not open"
)]
async fn encrypted(
    stream: Box<dyn AsyncTokioStream>,
    parameters: TlsParameters,
) -> Result<Encrypted, SendError> {
    use lettre::transport::smtp::client::AsyncNetworkStream;
    let mut stream = AsyncNetworkStream::use_existing_tokio1(stream);
    stream.upgrade_tls(parameters).await?;
    Ok(Encrypted(stream))
}

/// A connection whose server sends a limited number of bytes and lines between what it gets.
#[derive(Debug)]
struct Limited<S> {
    stream: S,
    /// Bytes that may still come.
    bytes_left: usize,
    /// Lines that may still come.
    lines_left: usize,
}

impl<S> Limited<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            bytes_left: ANSWER_BYTES_MAX,
            lines_left: ANSWER_LINES_MAX,
        }
    }
}

impl<S: AsyncTokioStream> AsyncTokioStream for Limited<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        AsyncTokioStream::peer_addr(&self.stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.bytes_left == 0 || self.lines_left == 0 {
            let why = format!(
                "the server sends an answer of more than {ANSWER_BYTES_MAX} bytes or \
                 {ANSWER_LINES_MAX} lines"
            );
            return Poll::Ready(Err(io::Error::other(why)));
        }
        let end = to.remaining().min(self.bytes_left);
        let mut part = ReadBuf::new(to.initialize_unfilled_to(end));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let (count, lines) = (part.filled().len(), lines_in(part.filled()));
        self.bytes_left -= count;
        self.lines_left = self.lines_left.saturating_sub(lines);
        to.advance(count);
        Poll::Ready(Ok(()))
    }
}

fn lines_in(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.bytes_left = ANSWER_BYTES_MAX;
        self.lines_left = ANSWER_LINES_MAX;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// An encrypted connection of the library, in the form in which it takes connections of others.
#[derive(Debug)]
#[expect(deprecated, reason = "see `encrypted`")]
struct Encrypted(lettre::transport::smtp::client::AsyncNetworkStream);

impl AsyncTokioStream for Encrypted {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = ready!(Pin::new(&mut self.0).poll_read(context, to.initialize_unfilled()))?;
        to.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// Why a test of a server that sends this again and again fails, and the bytes that it sent.
    async fn flooded(with: &[u8]) -> (String, usize) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let server = Server {
            address: listener.local_addr().expect("an address"),
            encryption: Encryption::None,
            credentials: None,
            connect_within: Duration::from_secs(60),
        };
        let flood = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut sent = 0;
            while stream.write_all(with).await.is_ok() {
                sent += with.len();
            }
            sent
        };
        let (tested, sent) = tokio::join!(server.test(), flood);
        (tested.expect_err("it is cut off").to_string(), sent)
    }

    #[tokio::test]
    async fn a_greeting_without_an_end_is_cut_off() {
        for with in [&[b'2'; 4096][..], &b"220-hello\r\n".repeat(400)] {
            let (why, sent) = flooded(with).await;
            assert!(why.contains("more than 24576 bytes or 512 lines"), "{why}");
            // The buffers of the system hold some more.
            assert!(sent < 64 << 20, "{sent}");
        }
    }
}
