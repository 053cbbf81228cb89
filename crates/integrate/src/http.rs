//! Connections to one host, kept between requests: HTTP/1.1 by hyper.
//!
//! Each sink has its own connections: a general HTTP pool for many targets, with redirects and
//! proxies, would double the cost of each request.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use martlet_certificates::{ClientFiles, client_config};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, Error as TlsError, InvalidMessage};
use tokio_util::io::InspectReader;
use url::{Position, Url};

use crate::networks::AllowedNetworks;
use crate::words::error_words;

/// Bytes of an answer that are shown.
const TOLD_BYTES_MAX: usize = 1_024;
/// Bytes that a target may send from one request to the next, heads included. Without this bound,
/// heads of 1xx answers, or the digits of the length of a chunk, could come without end.
const RECEIVED_BYTES_MAX: u64 = 4 << 20;
/// Bytes of an answer that are read so that the connection can be reused.
const READ_BYTES_MAX: usize = 64 * 1_024;
/// Time limit for reading them.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// Time limit of a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Longest time for which an idle connection is kept. A firewall may drop it after that.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// A request.
pub type HttpRequest = Request<Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// There is no connection, for this reason.
    NotConnected(String),
    /// The time limit has expired.
    Late,
    /// The connection was closed, or the data is not valid HTTP.
    Broken(hyper::Error),
    /// The target has sent more than an answer may have.
    Endless,
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
            Self::Endless => write!(
                f,
                "the target has sent {} MiB, and its answer has no end",
                RECEIVED_BYTES_MAX >> 20
            ),
        }
    }
}

/// The beginning of an answer.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// The bytes read.
    pub(crate) bytes: Vec<u8>,
    /// Whether the answer is or may be longer.
    pub(crate) is_cut: bool,
}

/// An answer: its head, and the beginning of its body unless the status is a success.
pub(crate) struct Answer {
    pub(crate) head: Parts,
    pub(crate) body: Body,
}

/// Requests to one URL, over kept connections.
pub struct HttpTarget {
    host: String,
    port: u16,
    /// Path and query.
    place: Uri,
    /// The host, and the credentials of the URL.
    headers: HeaderMap,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    allowed: AllowedNetworks,
    timeout: Duration,
    /// Idle connections, the one used last at the end.
    idle: Mutex<Vec<Idle>>,
}

impl fmt::Debug for HttpTarget {
    /// Without path and credentials, which may have secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpTarget").field(&self.host).finish()
    }
}

struct Idle {
    connection: Connection,
    since: Instant,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    received: Arc<Received>,
}

impl Connection {
    /// Why there is no answer, after an error.
    fn no_answer(&self, error: hyper::Error) -> NoAnswer {
        match self.received.is_too_much() {
            true => NoAnswer::Endless,
            false => NoAnswer::Broken(error),
        }
    }
}

/// Bytes that a target has sent.
#[derive(Default)]
struct Received {
    all: AtomicU64,
    /// How many there were when the last request was sent.
    at_request: AtomicU64,
}

impl Received {
    fn begin_request(&self) {
        let all = self.all.load(Ordering::Relaxed);
        self.at_request.store(all, Ordering::Relaxed);
    }

    /// Bytes since the last request.
    fn of_answer(&self) -> u64 {
        let at_request = self.at_request.load(Ordering::Relaxed);
        self.all.load(Ordering::Relaxed).saturating_sub(at_request)
    }

    fn is_too_much(&self) -> bool {
        self.of_answer() > RECEIVED_BYTES_MAX
    }
}

impl HttpTarget {
    /// Requests to a URL. Does not connect yet.
    ///
    /// # Errors
    /// The URL is invalid or its address not permitted, or TLS cannot be used; the reason.
    pub fn new(url: &str, allowed: &AllowedNetworks, timeout: Duration) -> Result<Self, String> {
        let invalid = |error: String| format!("`url` is not a valid URL: {error}");
        let url = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
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
        let place = Uri::try_from(&url[Position::BeforePath..Position::AfterQuery]);
        let with_port = HeaderValue::from_str(&url[Position::BeforeHost..Position::BeforePath])
            .map_err(|_| "`url` has a host that cannot be sent".to_owned())?;
        let mut headers = HeaderMap::from_iter([(HOST, with_port)]);
        headers.extend(credentials_of(&url).map(|credentials| (AUTHORIZATION, credentials)));
        Ok(Self {
            host: host.to_owned(),
            port: url.port_or_known_default().unwrap_or_default(),
            place: place.map_err(|error| invalid(error.to_string()))?,
            headers,
            tls: is_encrypted.then(|| tls(host)).transpose()?,
            allowed: allowed.clone(),
            timeout,
            idle: Mutex::default(),
        })
    }

    /// Headers that each request needs: the host, and the credentials of the URL.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    /// A request to this target.
    #[must_use]
    pub fn request(&self, method: Method, headers: HeaderMap, body: Vec<u8>) -> HttpRequest {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.place.clone();
        *request.headers_mut() = headers;
        request
    }

    /// Sends a request, and waits for its answer. The body of a success is not read.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) async fn send(&self, request: HttpRequest) -> Result<Answer, NoAnswer> {
        let until = Instant::now() + self.timeout;
        let (connection, response) = self.exchange(request, until).await?;
        let (head, mut incoming) = response.into_parts();
        if head.status.is_success() {
            let body = Body::default();
            if incoming.is_end_stream() || ends_soon(&mut incoming).await {
                self.keep(connection);
            }
            return Ok(Answer { head, body });
        }
        let (body, is_over) = beginning(&mut incoming, TOLD_BYTES_MAX, until).await;
        if is_over {
            self.keep(connection);
        }
        Ok(Answer { head, body })
    }

    /// Sends a request, and reads its answer with its whole body, which has at most `bytes_max`
    /// bytes; `None`: it is longer, or ended early.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn fetch(
        &self,
        request: HttpRequest,
        bytes_max: usize,
    ) -> Result<(Parts, Option<Vec<u8>>), NoAnswer> {
        let until = Instant::now() + self.timeout;
        let (connection, response) = self.exchange(request, until).await?;
        let (head, mut incoming) = response.into_parts();
        let (body, is_over) = beginning(&mut incoming, bytes_max, until).await;
        if is_over {
            self.keep(connection);
        } else if Instant::now() >= until {
            return Err(NoAnswer::Late);
        }
        Ok((head, (!body.is_cut).then_some(body.bytes)))
    }

    async fn exchange(
        &self,
        request: HttpRequest,
        until: Instant,
    ) -> Result<(Connection, Response<Incoming>), NoAnswer> {
        let exchanged = timeout_at(until, self.exchange_in_time(request)).await;
        exchanged.map_err(|_| NoAnswer::Late)?
    }

    async fn exchange_in_time(
        &self,
        request: HttpRequest,
    ) -> Result<(Connection, Response<Incoming>), NoAnswer> {
        while let Some(mut connection) = self.take() {
            if connection.sender.ready().await.is_err() {
                continue;
            }
            connection.received.begin_request();
            let sent = connection.sender.try_send_request(request.clone()).await;
            let failed = match sent {
                Ok(response) => return Ok((connection, response)),
                Err(failed) => failed,
            };
            // The target closed the connection before the request was written.
            if failed.message().is_some() {
                continue;
            }
            // Or meanwhile, as it was idle for too long: RFC 9112, 9.3.1. A target that is down
            // gets the request twice at most.
            if connection.received.of_answer() == 0 {
                break;
            }
            return Err(connection.no_answer(failed.into_error()));
        }
        let mut connection = self.connect().await?;
        let sent = connection.sender.send_request(request).await;
        let response = sent.map_err(|error| connection.no_answer(error))?;
        Ok((connection, response))
    }

    /// Takes an idle connection.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let last = idle.pop()?;
        if last.since.elapsed() < IDLE_MAX {
            return Some(last.connection);
        }
        // The connections before it were used earlier.
        idle.clear();
        None
    }

    fn keep(&self, connection: Connection) {
        let since = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(Idle { connection, since });
    }

    async fn connect(&self) -> Result<Connection, NoAnswer> {
        let within = CONNECT_WITHIN.min(self.timeout);
        let connecting = async {
            let stream = self.allowed.connect_to(&self.host, self.port).await?;
            // Without it, a body waits for the acknowledgement of its head.
            stream
                .set_nodelay(true)
                .map_err(|error| error.to_string())?;
            match &self.tls {
                None => start(stream).await,
                Some((connector, name)) => {
                    let encrypted = connector.connect(name.clone(), stream).await;
                    let encrypted = encrypted.map_err(|error| tls_words(&error))?;
                    start(encrypted).await
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
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Connection, String> {
    let received = Arc::<Received>::default();
    let count = Arc::clone(&received);
    let stream = InspectReader::new(stream, move |bytes: &[u8]| {
        let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        count.all.fetch_add(bytes, Ordering::Relaxed);
    });
    let started = handshake(TokioIo::new(stream)).await;
    let (sender, mut connection) = started.map_err(|error| error_words(&error))?;
    let bound = Arc::clone(&received);
    // Requests report how the connection ended.
    tokio::spawn(poll_fn(move |cx| match bound.is_too_much() {
        true => Poll::Ready(()),
        false => Pin::new(&mut connection).poll(cx).map(drop),
    }));
    Ok(Connection { sender, received })
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

/// The beginning of an answer, and whether nothing follows.
async fn beginning(incoming: &mut Incoming, bytes_max: usize, until: Instant) -> (Body, bool) {
    let mut bytes = Vec::new();
    let (mut is_over, mut is_broken) = (false, false);
    while bytes.len() <= bytes_max && !is_over && !is_broken {
        match timeout_at(until, incoming.frame()).await {
            Ok(Some(Ok(frame))) => {
                bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            }
            Ok(None) => is_over = true,
            Ok(Some(Err(_))) | Err(_) => is_broken = true,
        }
    }
    let is_cut = is_broken || bytes.len() > bytes_max;
    bytes.truncate(bytes_max);
    (Body { bytes, is_cut }, is_over)
}

/// The Authorization header for the user name and password of a URL.
fn credentials_of(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut credentials: Vec<u8> = percent_decode_str(url.username()).collect();
    credentials.push(b':');
    credentials.extend(percent_decode_str(url.password().unwrap_or_default()));
    let value = format!("Basic {}", STANDARD.encode(credentials));
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// A server that answers the requests of each connection with these bytes, and then closes it.
    /// It counts requests.
    async fn server(answers: &'static [&'static [u8]]) -> (HttpTarget, Arc<AtomicUsize>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1_024];
                for answer in answers {
                    if stream.read(&mut request).await.unwrap() == 0 {
                        break;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    stream.write_all(answer).await.unwrap();
                }
            }
        });
        let target = HttpTarget::new(&url, &AllowedNetworks::all(), Duration::from_secs(30));
        (target.unwrap(), requests)
    }

    async fn ask(target: &HttpTarget) -> Result<Option<Vec<u8>>, NoAnswer> {
        let request = target.request(Method::POST, target.headers(), Vec::new());
        target.fetch(request, 64).await.map(|(_, body)| body)
    }

    #[tokio::test]
    async fn a_request_on_a_reused_connection_that_ends_is_sent_once_more() {
        let (target, requests) = server(&[ANSWER, b""]).await;
        for _ in 0..3 {
            assert_eq!(ask(&target).await.unwrap().unwrap(), b"ok");
        }
        // The second and third were sent twice.
        assert_eq!(requests.load(Ordering::Relaxed), 5);
    }

    #[tokio::test]
    async fn a_request_on_a_new_connection_that_ends_is_not_sent_again() {
        let (target, requests) = server(&[b""]).await;
        assert!(matches!(ask(&target).await, Err(NoAnswer::Broken(_))));
        assert_eq!(requests.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_given_up() {
        let endless: [(&[u8], &[u8]); 3] = [
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (b"HTTP/1.1 200 OK\r\nA: ", b"aaaaaaaaaaaaaaaa"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"0000000000000000",
            ),
        ];
        for (begin, piece) in endless {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let pieces = piece.repeat(4_096);
            let sending = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut sent = begin.len();
                stream.write_all(begin).await.unwrap();
                while stream.write_all(&pieces).await.is_ok() {
                    sent += pieces.len();
                }
                sent
            });
            let within = Duration::from_secs(600);
            let target = HttpTarget::new(&url, &AllowedNetworks::all(), within).unwrap();
            let answer = ask(&target).await;
            assert!(!matches!(answer, Ok(Some(_)) | Err(NoAnswer::Late)));
            drop(target);
            // What the system's buffers hold comes on top.
            assert!(sending.await.unwrap() < 64 << 20, "{piece:?}");
        }
    }

    #[tokio::test]
    async fn a_request_whose_answer_has_begun_is_not_sent_again() {
        let (target, requests) = server(&[ANSWER, b"HTTP/1.1 2"]).await;
        assert_eq!(ask(&target).await.unwrap().unwrap(), b"ok");
        assert!(matches!(ask(&target).await, Err(NoAnswer::Broken(_))));
        assert_eq!(requests.load(Ordering::Relaxed), 2);
    }
}
