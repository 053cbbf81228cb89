//! Connections to the target of a webhook, kept between requests: HTTP/1.1 by hyper.
//!
//! Each sink has its own connections: a general HTTP pool for many targets, with redirects and
//! proxies, would double the cost of each request.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use martlet_certificates::{ClientFiles, client_config};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, Error as TlsError, InvalidMessage};
use url::Url;

use super::answer::Body;
use crate::networks::AllowedNetworks;
use crate::words::error_words;

/// Bytes of an answer that are shown.
const TOLD_BYTES_MAX: usize = 1_024;
/// Bytes of an answer that are read so that the connection can be reused.
const READ_BYTES_MAX: usize = 64 * 1_024;
/// Time limit for reading them.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// Time limit of a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Longest time for which an idle connection is kept. A firewall may drop it after that.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// A request of a webhook.
pub(super) type WebhookRequest = Request<Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// There is no connection, for this reason.
    NotConnected(String),
    /// The time limit has expired.
    Late,
    /// The connection was closed, or the data is not valid HTTP.
    Broken(hyper::Error),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected(why) => write!(f, "the target cannot be reached: {why}"),
            Self::Late => f.write_str("the target did not answer in time (`timeout_secs`)"),
            Self::Broken(error) => write!(
                f,
                "the target ended the connection, or its answer is not HTTP: {}",
                error_words(error)
            ),
        }
    }
}

/// An answer: its head, and the beginning of its body unless the status is a success.
pub(super) struct WebhookResponse {
    pub(super) head: hyper::http::response::Parts,
    pub(super) body: Body,
}

/// Connections to one host.
pub(super) struct Connections {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    allowed: AllowedNetworks,
    timeout: Duration,
    /// Idle connections, the one used last at the end.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: SendRequest<Full<Bytes>>,
    since: Instant,
}

impl Connections {
    /// Connections to the host of a URL. Does not connect yet.
    ///
    /// # Errors
    /// The address is not permitted, or TLS cannot be used; the reason.
    pub(super) fn new(
        url: &Url,
        allowed: &AllowedNetworks,
        timeout: Duration,
    ) -> Result<Self, String> {
        let is_encrypted = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err("`url` must begin with http:// or https://".to_owned()),
        };
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // An address needs no lookup.
        if let Ok(address) = host.parse::<IpAddr>() {
            allowed.check(address)?;
        }
        Ok(Self {
            host: host.to_owned(),
            port: url.port_or_known_default().unwrap_or_default(),
            tls: is_encrypted.then(|| tls(host)).transpose()?,
            allowed: allowed.clone(),
            timeout,
            idle: Mutex::default(),
        })
    }

    /// Sends a request, and waits for its answer.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn send(&self, request: WebhookRequest) -> Result<WebhookResponse, NoAnswer> {
        let until = Instant::now() + self.timeout;
        let exchanged = timeout_at(until, self.exchange(request)).await;
        let (connection, response) = exchanged.map_err(|_| NoAnswer::Late)??;
        let (head, mut incoming) = response.into_parts();
        if head.status.is_success() {
            let body = Body::default();
            if incoming.is_end_stream() || ends_soon(&mut incoming).await {
                self.keep(connection);
            }
            return Ok(WebhookResponse { head, body });
        }
        let (body, is_over) = beginning(&mut incoming, until).await;
        if is_over {
            self.keep(connection);
        }
        Ok(WebhookResponse { head, body })
    }

    async fn exchange(
        &self,
        mut request: WebhookRequest,
    ) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), NoAnswer> {
        while let Some(mut connection) = self.take() {
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((connection, response)),
                // The target closed the connection before the request was written.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(NoAnswer::Broken(failed.into_error())),
                },
            }
        }
        let mut connection = self.connect().await?;
        let sent = connection.send_request(request).await;
        let response = sent.map_err(NoAnswer::Broken)?;
        Ok((connection, response))
    }

    /// Takes an idle connection.
    fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let last = idle.pop()?;
        if last.since.elapsed() < IDLE_MAX {
            return Some(last.connection);
        }
        // The connections before it were used earlier.
        idle.clear();
        None
    }

    fn keep(&self, connection: SendRequest<Full<Bytes>>) {
        let since = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(Idle { connection, since });
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, NoAnswer> {
        let within = CONNECT_WITHIN.min(self.timeout);
        let connecting = async {
            let stream = self.allowed.connect_to(&self.host, self.port).await?;
            // Without it, a body waits for the acknowledgement of its head.
            stream
                .set_nodelay(true)
                .map_err(|error| error.to_string())?;
            match &self.tls {
                None => start(TokioIo::new(stream)).await,
                Some((connector, name)) => {
                    let encrypted = connector.connect(name.clone(), stream).await;
                    let encrypted = encrypted.map_err(|error| tls_words(&error))?;
                    start(TokioIo::new(encrypted)).await
                }
            }
        };
        match timeout(within, connecting).await {
            Ok(connected) => connected.map_err(NoAnswer::NotConnected),
            Err(_) => {
                let secs = within.as_secs_f32();
                let why = format!("no connection within {secs} s");
                Err(NoAnswer::NotConnected(why))
            }
        }
    }
}

fn tls(host: &str) -> Result<(TlsConnector, ServerName<'static>), String> {
    let files = ClientFiles {
        system_cas: true,
        ..ClientFiles::default()
    };
    let config = client_config(&files).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host.to_owned());
    let name =
        name.map_err(|_| "the host of `url` is not a name that a certificate can have".to_owned())?;
    Ok((TlsConnector::from(Arc::clone(&config)), name))
}

/// The text of a TLS error, for the operator of the target.
fn tls_words(error: &std::io::Error) -> String {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref());
    match cause {
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the certificate of the target is of no authority that the node trusts: name a file of \
             authorities with that one in the variable SSL_CERT_FILE of the node, and restart it"
                .to_owned()
        }
        Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the target does not speak TLS on that port: its URL may begin with http:// instead of \
             https://"
                .to_owned()
        }
        _ => error_words(error),
    }
}

/// Starts HTTP on a connection.
async fn start(
    stream: impl Read + Write + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let started = handshake(stream).await;
    let (sender, connection) = started.map_err(|error| error_words(&error))?;
    // Requests report how the connection ended.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Whether the rest of an answer arrives soon and is short.
async fn ends_soon(incoming: &mut Incoming) -> bool {
    let rest = async {
        let mut bytes = 0;
        while let Some(frame) = incoming.frame().await {
            let Ok(frame) = frame else { return false };
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > READ_BYTES_MAX {
                return false;
            }
        }
        true
    };
    timeout(READ_WITHIN, rest).await.unwrap_or(false)
}

/// The beginning of an answer, and whether more follows.
async fn beginning(incoming: &mut Incoming, until: Instant) -> (Body, bool) {
    let mut bytes = Vec::new();
    let (mut is_over, mut is_broken) = (false, false);
    while bytes.len() <= TOLD_BYTES_MAX && !is_over && !is_broken {
        match timeout_at(until, incoming.frame()).await {
            Ok(Some(Ok(frame))) => {
                bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            }
            Ok(None) => is_over = true,
            Ok(Some(Err(_))) | Err(_) => is_broken = true,
        }
    }
    let is_cut = is_broken || bytes.len() > TOLD_BYTES_MAX;
    bytes.truncate(TOLD_BYTES_MAX);
    (Body { bytes, is_cut }, is_over)
}
