//! The HTTP servers: listeners on TCP, with TLS or without, and the connections of each.
//!
//! All resources that a client controls are limited: time and length of a header, idle time, the
//! time that an answer may stay unread, and the number of connections per address and in total
//! (`connection_slots`).

use std::convert::Infallible;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use martlet_api::{HttpConnection, ListenerKind, RouteSettings};
use martlet_broker::{EventHead, TenantId};
use martlet_control::Control;
use martlet_control::event::{NodeEvent, NodeNotice};
use martlet_control::http_cause::HttpCause;
use martlet_reactor::TlsSettings;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::accept_failures::AcceptFailures;
use super::connection_slots::{ConnectionSlots, Entered, Seat};
use super::stalling::Stalling;
use crate::config::{HttpListener, key};

/// Time without a byte from a peer after which the system asks whether it is still there.
#[cfg(target_os = "linux")]
const PROBE_AFTER: Duration = Duration::from_secs(300);
/// Time limit for a complete header, from the beginning of the connection or the previous request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which a response is aborted if the client reads nothing of it.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// Size of the buffer for a request before it is parsed, and most fields of its header. The limits
/// of the API are lower and lead to an error message.
const BUFFER_BYTES: usize = 32 * 1024;
const HEADER_FIELDS: usize = 100;
/// Pause in accepting when no descriptors are left.
const PAUSE: Duration = Duration::from_millis(100);

/// An open listener with its TLS settings.
#[derive(Debug)]
pub(crate) struct OpenListener {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsSettings>,
    /// The routes that it serves.
    pub(crate) routes: RouteSettings,
}

impl OpenListener {
    /// The URL for a browser.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

/// Opens a listener. Returns `None` if it is optional and its address is in use.
pub(crate) async fn bind(wanted: &HttpListener) -> anyhow::Result<Option<OpenListener>> {
    let address = wanted.address;
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) if wanted.is_optional && error.kind() == ErrorKind::AddrInUse => {
            warn!(
                "the default address of HTTP, {address}, is in use{}: the node starts without this \
                 listener; to choose another address, set http.listen, or -info of the panel's \
                 broker",
                by_owner(address)
            );
            return Ok(None);
        }
        Err(error) => {
            let by = by_owner(address);
            const LISTEN: &str = key!(http.listen);
            let remedy = match &*wanted.source {
                LISTEN => "choose another --http ADDR, or --http off",
                _ => "choose another address",
            };
            let low = martlet_reactor::low_port(Some(address), error.kind());
            let what = format!(
                "{}: cannot listen on {address}{by}{low}; {remedy}",
                wanted.source
            );
            return Err(anyhow::Error::new(error).context(what));
        }
    };
    Ok(Some(OpenListener {
        address: listener.local_addr().unwrap_or(address),
        listener,
        tls: wanted.tls.clone(),
        routes: wanted.routes.clone(),
    }))
}

fn by_owner(address: SocketAddr) -> String {
    let owner = martlet_reactor::port_owner(address);
    owner.map_or_else(String::new, |owner| format!(" (in use by {owner})"))
}

/// Serves connections until the process ends. `slots` are shared by all listeners.
pub(crate) async fn serve(
    open: OpenListener,
    routes: Router,
    slots: ConnectionSlots,
    failures: Arc<AcceptFailures>,
    control: Arc<Control>,
) {
    loop {
        let opening = slots.opening().await;
        let (stream, peer) = match open.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(times) = failures.count(Instant::now()) {
                    warn!(%error, times, "HTTP: connections could not be accepted");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Responses are written in one piece.
        let _ = stream.set_nodelay(true);
        // Streams of events may be idle for long.
        let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, PROBE_AFTER);
        let connection = HttpConnection {
            listener: ListenerKind::Tcp {
                is_loopback: open.address.ip().is_loopback(),
                is_secure: open.tls.is_some(),
            },
            peer: Some(peer.ip()),
        };
        let (routes, tls) = (routes.clone(), open.tls.clone());
        let (seat, closed) = slots.seat(peer.ip());
        let seat = Arc::new(seat);
        let of_seat = Arc::clone(&seat);
        let control = Arc::clone(&control);
        let talking = async move {
            match tls {
                None => match first_byte(&stream).await {
                    None => debug!(%peer, "HTTP: nothing came"),
                    Some(first) => {
                        let other = match first {
                            CONNECT => Some(HttpCause::MqttToHttp),
                            TLS_HANDSHAKE => Some(HttpCause::TlsToHttp),
                            _ => None,
                        };
                        if let Some(cause) = other {
                            control.report_event(other_came(peer, cause));
                        }
                        // A client that does not use HTTP gets an error response.
                        talk(stream, routes, connection, of_seat).await;
                    }
                },
                Some(tls) => {
                    let acceptor = TlsAcceptor::from(tls.config());
                    let shaking = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
                    match shaking.await {
                        Ok(Ok(stream)) => talk(stream, routes, connection, of_seat).await,
                        Ok(Err(error)) => debug!(%error, %peer, "HTTP: no TLS handshake"),
                        Err(_) => debug!(%peer, "HTTP: the TLS handshake took too long"),
                    }
                }
            }
        };
        tokio::spawn(async move {
            unless_closed(talking, seat, closed).await;
            drop(opening);
        });
    }
}

/// First byte of an MQTT CONNECT, and of a TLS handshake. No HTTP request begins with them.
const CONNECT: u8 = 0x10;
const TLS_HANDSHAKE: u8 = 0x16;

/// The first byte, which stays in the buffer; `None` if none arrives in time.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut first = [0];
    let peeked = tokio::time::timeout(HEADER_TIMEOUT, stream.peek(&mut first)).await;
    let [first] = first;
    matches!(peeked, Ok(Ok(1..))).then_some(first)
}

/// The event about a client of another protocol on an HTTP port. It is for operators; the client
/// would not understand a response.
fn other_came(peer: SocketAddr, cause: HttpCause) -> NodeNotice {
    let head = EventHead::new(TenantId(0), "");
    NodeNotice::new(
        head.with_address(Some((peer.ip(), peer.port()))),
        NodeEvent::ConnectionRefused { why: cause.into() },
    )
}

/// Serves a connection until it ends, or until another connection takes its place in the reserve.
async fn unless_closed(
    talking: impl Future<Output = ()>,
    seat: Arc<Seat>,
    closed: Option<oneshot::Receiver<()>>,
) {
    let Some(closed) = closed else {
        return talking.await;
    };
    let mut talking = std::pin::pin!(talking);
    tokio::select! {
        () = &mut talking => return,
        _ = closed => {}
    }
    // It has a slot now, or must be closed.
    if seat.has_slot() {
        talking.await;
    }
}

/// Answers a request, if its connection has a slot or needs none.
async fn answer(
    routes: Router,
    connection: HttpConnection,
    seat: Arc<Seat>,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let entered = seat
        .enter(martlet_api::is_probe(request.uri().path()))
        .await;
    // What is left of a body would be taken for the next request.
    let mut is_unread = false;
    let mut answer = match entered {
        Entered::Full => {
            let limits = seat.limits();
            martlet_api::no_slot(limits.of_address, limits.all)
        }
        Entered::Slot | Entered::Reserve => {
            let is_read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
            let mut request = request.map(|body| {
                let is_read = Arc::clone(&is_read);
                axum::body::Body::new(WatchedBody { body, is_read })
            });
            request.extensions_mut().insert(connection);
            let answer = routes.oneshot(request).await?;
            is_unread = !is_read.load(Ordering::Relaxed);
            answer
        }
    };
    if entered != Entered::Slot || is_unread {
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer)
}

/// The body of a request, and whether all of it was read.
struct WatchedBody {
    body: Incoming,
    is_read: Arc<AtomicBool>,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_read.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves the requests of a connection, one after the other.
async fn talk<S>(stream: S, routes: Router, connection: HttpConnection, seat: Arc<Seat>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service =
        service_fn(move |request| answer(routes.clone(), connection, Arc::clone(&seat), request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADER_FIELDS)
        .serve_connection(TokioIo::new(Stalling::new(stream, WRITE_PATIENCE)), service)
        // For WebSockets, which have separate limits in the API.
        .with_upgrades();
    if let Err(error) = served.await {
        debug!(%error, "HTTP: a connection ended");
    }
}

/// An HTTP listener in messages for users.
pub(super) struct HttpAt {
    pub(super) url: String,
    pub(super) address: SocketAddr,
    pub(super) routes: RouteSettings,
}

impl HttpAt {
    pub(super) fn of(open: &OpenListener) -> Self {
        Self {
            url: open.url(),
            address: open.address,
            routes: open.routes.clone(),
        }
    }

    /// Whether a URL with an address of this machine leads to this listener.
    pub(super) fn is_at(&self, url: &str) -> bool {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let authority = authority.replace("localhost", "127.0.0.1");
        let Ok(address) = authority.parse::<SocketAddr>() else {
            return false;
        };
        let (own, ip) = (self.address.ip(), address.ip());
        let is_here = own == ip || own.is_unspecified() && ip.is_loopback();
        is_here && address.port() == self.address.port()
    }
}
