//! Drives a session over a network connection with tokio.
//!
//! Responsible for opening connections over TCP, TLS and WebSocket, for transferring bytes, and for
//! advancing the session's time. It does not inspect packets, and never reconnects by itself.

mod carrier;
mod endpoint;
mod error;
mod stream;

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};

use crate::options::ConnectOptions;
use crate::session::{Event, Session, SessionError};
use carrier::Carrier;
pub use endpoint::{Endpoint, Transport};
pub use error::NetError;
use stream::Stream;

/// Bytes that wait to be written, above which nothing is read.
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// A session with at most one network connection at a time.
pub struct Client {
    session: Session,
    stream: Option<Stream>,
    /// Origin of the session's time.
    epoch: Instant,
    timer: Pin<Box<Sleep>>,
    read_buffer: Vec<u8>,
    is_paused: bool,
}

impl Client {
    /// Creates a client without a connection.
    pub fn new(session: Session) -> Self {
        Self {
            session,
            stream: None,
            epoch: Instant::now(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            read_buffer: Vec::with_capacity(64 * 1024),
            is_paused: false,
        }
    }

    /// Opens a network connection and sends CONNECT; drops an open connection first. The answer is
    /// [`Event::Connected`] or [`Event::Refused`].
    ///
    /// # Errors
    /// The host is unknown, the connection is refused, or the WebSocket handshake fails.
    pub async fn connect(
        &mut self,
        endpoint: &Endpoint,
        options: &ConnectOptions,
    ) -> Result<(), NetError> {
        self.close();
        self.is_paused = false;
        let carrier = Carrier::open(open(endpoint).await?, endpoint).await?;
        self.stream = Some(match &endpoint.transport {
            Transport::Tcp => Stream::Plain(carrier),
            Transport::WebSocket { path } => Stream::web_socket(carrier, endpoint, path).await?,
        });
        let now = self.now();
        self.session.connect(options, now);
        Ok(())
    }

    /// Returns the next event. Cancellation-safe.
    ///
    /// # Errors
    /// The connection has ended. The session is notified, and [`Self::connect`] may be called
    /// again. Events from before the end are returned first.
    pub async fn next_event(&mut self) -> Result<Event, NetError> {
        poll_fn(|context| self.poll_event(context)).await
    }

    /// Returns the next event, or `None` as soon as all pending output has been written.
    /// Cancellation-safe.
    ///
    /// # Errors
    /// The same as for [`Self::next_event`].
    pub async fn next_event_or_written(&mut self) -> Result<Option<Event>, NetError> {
        let waited = !self.session.output_mut().is_empty();
        poll_fn(|context| match self.poll_event(context) {
            Poll::Ready(event) => Poll::Ready(event.map(Some)),
            Poll::Pending => match waited && self.session.output_mut().is_empty() {
                true => Poll::Ready(Ok(None)),
                false => Poll::Pending,
            },
        })
        .await
    }

    /// Writes all pending output. Events that arrive meanwhile are queued.
    ///
    /// # Errors
    /// The same as for [`Self::next_event`].
    pub async fn flush(&mut self) -> Result<(), NetError> {
        let result = poll_fn(|context| match &mut self.stream {
            Some(stream) => stream.poll_write(context, self.session.output_mut()),
            None => Poll::Ready(Err(NetError::NotConnected)),
        })
        .await;
        result.inspect_err(|_| self.close())
    }

    /// Closes the connection in order; the session's DISCONNECT must be its last output. Errors
    /// while closing are ignored.
    pub async fn finish(&mut self) {
        if self.flush().await.is_ok()
            && let Some(stream) = &mut self.stream
        {
            let _ = poll_fn(|context| stream.poll_close(context)).await;
        }
        self.close();
    }

    /// Drops the connection at once and notifies the session.
    pub fn close(&mut self) {
        if self.stream.take().is_some() {
            self.session.connection_lost();
        }
    }

    /// Sets whether reading from the server is paused. Requests are still written. PINGREQ packets
    /// keep the connection alive, and missing answers to them are ignored.
    pub fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// The session, for requests. Its output is sent by the next [`Self::next_event`] or
    /// [`Self::flush`].
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The session's time, for its methods that take one.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<Event, NetError>> {
        loop {
            if let Some(event) = self.session.poll_event() {
                return Poll::Ready(Ok(event));
            }
            let Some(stream) = &mut self.stream else {
                return Poll::Ready(Err(NetError::NotConnected));
            };
            if let Poll::Ready(Err(error)) = stream.poll_write(context, self.session.output_mut()) {
                return Poll::Ready(Err(self.lost(error)));
            }
            // A server that reads nothing must not make the session keep answers without end. If it
            // stays like that, the Keep Alive ends the connection.
            let is_blocked = self.session.output_mut().len() > UNSENT_BYTES_MAX;
            let read = match self.is_paused || is_blocked {
                true => Poll::Pending,
                false => stream.poll_read(context, &mut self.read_buffer),
            };
            match read {
                Poll::Ready(Ok(())) => {
                    let now = self.now();
                    let result = self.session.receive(&self.read_buffer, now);
                    // A packet that begins like this is malformed.
                    let is_http = self.read_buffer.starts_with(b"HTTP/");
                    self.read_buffer.clear();
                    if let Err(error) = result {
                        let failed = self.failed(error, context);
                        return Poll::Ready(Err(if is_http { NetError::Http } else { failed }));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.lost(error))),
                Poll::Pending => match self.poll_timer(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(self.failed(error, context)));
                    }
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    /// Ready when the session has been advanced to a time that it waited for.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        let Some(wake_at) = self.session.wake_at() else {
            return Poll::Pending;
        };
        let deadline = self.epoch + wake_at;
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let now = self.now();
        if self.is_paused {
            self.session.unread();
        }
        Poll::Ready(self.session.advance(now))
    }

    fn lost(&mut self, error: NetError) -> NetError {
        self.close();
        error
    }

    /// Sends the session's DISCONNECT for its error (MQTT 5.0 only), as far as possible without
    /// waiting.
    fn failed(&mut self, error: SessionError, context: &mut Context<'_>) -> NetError {
        if let Some(stream) = &mut self.stream {
            let _ = stream.poll_write(context, self.session.output_mut());
        }
        self.lost(error.into())
    }
}

async fn open(endpoint: &Endpoint) -> Result<TcpStream, NetError> {
    if let Some(path) = &endpoint.unix {
        return Ok(of_unix(UnixStream::connect(path).await?.into_std()?)?);
    }
    let tcp = open_tcp(endpoint).await?;
    tcp.set_nodelay(endpoint.no_delay)?;
    Ok(tcp)
}

/// For reading and writing, a Unix socket is the same as a TCP socket.
fn of_unix(socket: std::os::unix::net::UnixStream) -> io::Result<TcpStream> {
    TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(socket)))
}

/// Tries each address of the host in turn.
async fn open_tcp(endpoint: &Endpoint) -> Result<TcpStream, NetError> {
    let addresses = match &endpoint.resolved {
        Some(addresses) => addresses.clone(),
        None => {
            let lookup = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
            let found = lookup.map_err(|_| NetError::Lookup(endpoint.host.clone()))?;
            found.collect()
        }
    };
    let mut last_error = None;
    for address in addresses {
        if endpoint
            .bind
            .is_some_and(|bind| bind.is_ipv4() != address.is_ipv4())
        {
            continue;
        }
        match open_address(address, endpoint.bind).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last_error = Some(error),
        }
    }
    Err(last_error.map_or_else(|| NetError::Lookup(endpoint.host.clone()), NetError::Io))
}

async fn open_address(address: SocketAddr, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    if let Some(bind) = bind {
        socket.bind(SocketAddr::new(bind, 0))?;
    }
    socket.connect(address).await
}
