//! The HTTP servers: listeners on TCP, with TLS or without, and the connections of each.
//!
//! A connection is bounded in all that its other end decides: how long a header may take and be,
//! how long it may rest, how long it may leave an answer unread; and there are only so many.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use martlet_api::{Connection, Door};
use martlet_reactor::TlsSettings;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::stalling::Stalling;
use crate::config::HttpListener;

/// A header has to be there so long after the connection, or after the request before it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// A TLS handshake has to be done after so long.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer of which nothing is taken for so long is broken off.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// What is read of a request before it is understood, and how many fields its header may have. The
/// API's own bounds are lower and answer in words.
const BUFFER_BYTES: usize = 32 * 1024;
const HEADER_FIELDS: usize = 100;
/// How long nothing is accepted when the system has no more sockets.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener that is open, and what it is encrypted with.
#[derive(Debug)]
pub(crate) struct Open {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsSettings>,
}

impl Open {
    /// As an address that can be typed into a browser.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

/// Opens a listener.
pub(crate) async fn bind(wanted: &HttpListener) -> anyhow::Result<Open> {
    let address = wanted.address;
    let listener = TcpListener::bind(address).await.with_context(|| {
        let owner = martlet_reactor::port_owner(address);
        let owner = owner.map_or_else(String::new, |owner| format!(" (in use by {owner})"));
        format!(
            "http: cannot listen on {address}{owner}; choose another --http ADDR, or --http off"
        )
    })?;
    Ok(Open {
        address: listener.local_addr().unwrap_or(address),
        listener,
        tls: wanted.tls.clone(),
    })
}

/// Serves until the process ends; with `places`, so many connections at once, of all listeners.
pub(crate) async fn serve(open: Open, routes: Router, places: Arc<Semaphore>) {
    loop {
        // One that finds no place waits outside.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match open.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "HTTP: a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Answers are written whole.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            door: Door::Tcp {
                is_loopback: open.address.ip().is_loopback(),
                is_secure: open.tls.is_some(),
            },
            peer: Some(peer.ip()),
        };
        let (routes, tls) = (routes.clone(), open.tls.clone());
        tokio::spawn(async move {
            match tls {
                None => talk(stream, routes, connection, place).await,
                Some(tls) => {
                    let acceptor = TlsAcceptor::from(tls.config());
                    let shaking = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
                    match shaking.await {
                        Ok(Ok(stream)) => talk(stream, routes, connection, place).await,
                        Ok(Err(error)) => debug!(%error, %peer, "HTTP: no TLS handshake"),
                        Err(_) => debug!(%peer, "HTTP: the TLS handshake took too long"),
                    }
                }
            }
        });
    }
}

/// The requests of a connection, one after the other.
async fn talk<S>(stream: S, routes: Router, connection: Connection, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = routes.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection);
        request.map(axum::body::Body::new)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADER_FIELDS)
        .serve_connection(
            TokioIo::new(Stalling::new(stream, WRITE_PATIENCE)),
            TowerToHyperService::new(routes),
        )
        // For WebSockets; their place is taken until they end.
        .with_upgrades();
    if let Err(error) = served.await {
        debug!(%error, "HTTP: a connection ended");
    }
    drop(place);
}
