//! A relay to a server: the node handles TLS, and checks the data that the server sends (`guard`).
//!
//! A server may choose its certificate by the host name (SNI). The client library uses its
//! connection target as the name in the handshake, and resolves names itself. So it would send no
//! name, or connect to an unchecked address. Therefore the node handles TLS, and the client
//! connects to a local port that accepts one connection: the one that presents a secret word known
//! only in this process. Before that, nothing is sent to the server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::rustls::ClientConfig;
use aws_lc_rs::rand;
use serde_json::{Map, Value};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
    split,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::guard::{Excess, Guard, LINE_BYTES_MAX, LastSubscription, Outgoing};
use crate::words::error_words;

/// Time limit for the client to present the word.
const FIRST_LINE_WITHIN: Duration = Duration::from_secs(1);
/// Bytes per read.
const COPIED_BYTES: usize = 64 << 10;
/// Bytes that are read from the server while something is written to it.
const UNANSWERED_BYTES_MAX: usize = 256 << 10;
/// Lines that bring no message of a subscription in this time, above which reading pauses.
const OTHER_LINES_MAX: u32 = 1_000;
const OTHER_LINES_WITHIN: Duration = Duration::from_secs(1);

/// A relay to a server, for one connection of the client.
pub(super) struct Relay {
    /// Address that the client connects to.
    pub(super) address: SocketAddr,
    /// The word that the client adds to its name.
    pub(super) word: String,
    trouble: Arc<std::sync::Mutex<Option<String>>>,
    /// The excess for which the server was cut off.
    pub(super) excess: Arc<OnceLock<Excess>>,
}

impl Relay {
    /// Connects to a server at this address, and waits for the client. Uses TLS if it is
    /// configured or the server requires it: then `host` is its name. `None`: there is no TLS
    /// configuration.
    ///
    /// # Errors
    /// There is no connection, or TLS fails.
    pub(super) async fn open(
        to: SocketAddr,
        host: &str,
        config: Option<&ClientConfig>,
        requires_tls: bool,
        within: Duration,
    ) -> io::Result<Option<Self>> {
        let connected = async {
            let (info, stream) = first_line(to).await?;
            if !requires_tls && !asks_for_tls(&info) {
                return Ok(Some((info, Way::Plain(stream))));
            }
            let Some(config) = config else {
                return Ok(None);
            };
            let (info, stream) = with_tls(info, stream, host, config.clone()).await?;
            Ok(Some((info, Way::Tls(stream))))
        };
        let connected: io::Result<_> = timeout(within, connected)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let relay = match connected? {
            Some((info, Way::Plain(stream))) => Self::start(&info, stream, within).await?,
            Some((info, Way::Tls(stream))) => Self::start(&info, stream, within).await?,
            None => return Ok(None),
        };
        Ok(Some(relay))
    }

    /// Waits for the client of a server that sent this first line.
    async fn start<S>(info: &[u8], server: S, within: Duration) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let guard = Guard::of(info).map_err(io::Error::other)?;
        let info = info.to_vec();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let relay = Self {
            address: listener.local_addr()?,
            word: word()?,
            trouble: Arc::default(),
            excess: Arc::default(),
        };
        let (word, trouble) = (relay.word.clone(), Arc::clone(&relay.trouble));
        let excess = Arc::clone(&relay.excess);
        tokio::spawn(async move {
            let client = timeout(within, accepted(&listener, &info, &word)).await;
            drop(listener);
            let Ok(Ok((first, client))) = client else {
                return;
            };
            if let Err(error) = carry(first, client, server, guard, &trouble, &excess).await {
                tracing::debug!(%error, "a connection to NATS has ended");
            }
        });
        Ok(relay)
    }

    /// Why the server has closed the connection, if it has.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A word that cannot be guessed.
fn word() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("there is no random number"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A connection to a server.
enum Way {
    Plain(BufReader<TcpStream>),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The first line of the server, rewritten for the client, and the TLS connection.
async fn with_tls(
    info: Vec<u8>,
    stream: BufReader<TcpStream>,
    host: &str,
    config: ClientConfig,
) -> io::Result<(Vec<u8>, Box<TlsStream<TcpStream>>)> {
    let info = without_tls(&info).ok_or_else(|| io::Error::other("this is not a NATS server"))?;
    if !stream.buffer().is_empty() {
        return Err(io::Error::other("it does not wait for TLS"));
    }
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| io::Error::other("the host of `url` is not a valid name"))?;
    let connector = TlsConnector::from(Arc::new(config));
    let server = connector.connect(name, stream.into_inner()).await?;
    Ok((info, Box::new(server)))
}

/// The first line of the server, and the connection.
async fn first_line(to: SocketAddr) -> io::Result<(Vec<u8>, BufReader<TcpStream>)> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let info = line(&mut stream).await?;
    Ok((info, stream))
}

/// Reads a line with its end. The client's line may have a JWT.
async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream
        .take(LINE_BYTES_MAX as u64)
        .read_until(b'\n', &mut line)
        .await?;
    match line.last() {
        Some(b'\n') => Ok(line),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Whether INFO requires TLS.
fn asks_for_tls(info: &[u8]) -> bool {
    let json = info.strip_prefix(b"INFO ").unwrap_or_default();
    let facts: Option<Map<String, Value>> = serde_json::from_slice(json).ok();
    facts.is_some_and(|facts| facts.get("tls_required").and_then(Value::as_bool) == Some(true))
}

/// INFO of the server without the TLS requirement.
fn without_tls(info: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(info).ok()?;
    let mut facts: Map<String, Value> = serde_json::from_str(text.strip_prefix("INFO ")?).ok()?;
    for key in ["tls_required", "tls_verify", "tls_available"] {
        facts.remove(key);
    }
    let facts = serde_json::to_string(&facts).ok()?;
    Some(format!("INFO {facts}\r\n").into_bytes())
}

/// The client's connection and its first line. Other connections get only an INFO that every
/// server sends, and are closed.
async fn accepted(
    listener: &TcpListener,
    info: &[u8],
    word: &str,
) -> io::Result<(Vec<u8>, BufReader<TcpStream>)> {
    let suffix = format!(" {word}\"");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        if stream.write_all(info).await.is_err() {
            continue;
        }
        let Ok(Ok(first)) = timeout(FIRST_LINE_WITHIN, line(&mut stream)).await else {
            continue;
        };
        let first = String::from_utf8_lossy(&first).into_owned();
        if first.starts_with("CONNECT ") && first.contains(&suffix) {
            return Ok((first.replacen(&suffix, "\"", 1).into_bytes(), stream));
        }
    }
}

/// Copies bytes in both directions until one side ends.
async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    first: Vec<u8>,
    client: BufReader<TcpStream>,
    mut server: S,
    mut guard: Guard,
    trouble: &std::sync::Mutex<Option<String>>,
    excess: &OnceLock<Excess>,
) -> io::Result<()> {
    let carried = async {
        server.write_all(&first).await?;
        let (mut from_server, mut to_server) = split(server);
        let (mut from_client, mut to_client) = split(client);
        let writing = Mutex::new(());
        let (mut outgoing, last) = (Outgoing::default(), LastSubscription::default());
        let note = |bytes: &[u8]| outgoing.look(bytes, &last).map_err(io::Error::other);
        let out = copy_out(&mut from_client, &mut to_server, &writing, note);
        let look = |bytes: &[u8]| {
            let looked = guard.look(bytes, &last).map_err(|why| {
                tracing::warn!(%why, "a connection to NATS is ended");
                io::Error::other(*excess.get_or_init(|| why))
            });
            looked.map(|()| guard.take_other_lines())
        };
        let back = copy_back(&mut from_server, &mut to_client, &writing, look);
        tokio::try_join!(out, back)
    };
    let carried = carried.await;
    if let Err(error) = &carried {
        let mut told = trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *told = Some(error_words(error));
    }
    carried.map(drop)
}

/// Copies what the client sends until the end, after `note` has read it. `writing` is locked while
/// it is written.
async fn copy_out(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    writing: &Mutex<()>,
    mut note: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; COPIED_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        let bytes = buffer.get(..count).unwrap_or_default();
        note(bytes)?;
        let _locked = writing.lock().await;
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(bytes).await?;
        to.flush().await?;
    }
}

/// Copies what the server sends, and what passes `look`, until the end.
///
/// The client answers a PING, and keeps the answer until it is written. So not much is read from a
/// server that reads nothing. `look` returns the number of lines that bring no message of a
/// subscription: a server does not send many of these.
async fn copy_back(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    writing: &Mutex<()>,
    mut look: impl FnMut(&[u8]) -> io::Result<u32>,
) -> io::Result<()> {
    let mut buffer = vec![0; COPIED_BYTES];
    let (mut unanswered, mut lines, mut since) = (0, 0, Instant::now());
    loop {
        let count = from.read(&mut buffer).await?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        lines += look(bytes)?;
        to.write_all(bytes).await?;
        to.flush().await?;
        unanswered += count;
        if unanswered >= UNANSWERED_BYTES_MAX {
            drop(writing.lock().await);
            unanswered = 0;
        }
        if lines > OTHER_LINES_MAX {
            sleep_until(since + OTHER_LINES_WITHIN).await;
        }
        if since.elapsed() >= OTHER_LINES_WITHIN {
            (lines, since) = (0, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_not_asked_for_tls() {
        let info = b"INFO {\"server_id\":\"a\",\"tls_required\":true} \r\n";
        let seen = without_tls(info).expect("it is one");
        let seen = String::from_utf8(seen).expect("a text");
        assert_eq!(seen, "INFO {\"server_id\":\"a\"}\r\n");
        assert_eq!(without_tls(b"HTTP/1.1 400\r\n"), None);
        assert_ne!(word().expect("a word"), word().expect("another"));
    }

    #[tokio::test]
    async fn not_much_is_read_from_a_server_that_reads_nothing() {
        let (client, mut library) = tokio::io::duplex(64);
        let (server, mut peer) = tokio::io::duplex(64);
        let (mut from_client, mut to_client) = split(client);
        let (mut from_server, mut to_server) = split(server);
        let writing = Mutex::new(());
        let out = copy_out(
            &mut from_client,
            &mut to_server,
            &writing,
            |_: &[u8]| Ok(()),
        );
        let back = copy_back(&mut from_server, &mut to_client, &writing, |_: &[u8]| Ok(0));
        let mut passed = 0;
        let flood = async {
            // The library's answer does not fit.
            library.write_all(&[b'P'; 128]).await.expect("it is taken");
            let (mut from_relay, _to_relay) = split(library);
            let mut buffer = [0; 64];
            let endless = async {
                loop {
                    peer.write_all(b"PING\r\n").await.expect("it is written");
                }
            };
            let read = async {
                loop {
                    passed += from_relay.read(&mut buffer).await.expect("it is read");
                }
            };
            tokio::join!(endless, read)
        };
        let all = async { tokio::join!(out, back, flood) };
        // All of it happens in memory, so it stands still long before.
        let _: Result<_, _> = timeout(Duration::from_secs(2), all).await;
        assert!(
            (1..=UNANSWERED_BYTES_MAX + 128).contains(&passed),
            "{passed}"
        );
    }

    #[tokio::test]
    async fn only_the_client_with_the_word_is_let_through() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let to = listener.local_addr().expect("an address");
        let connect = async |text: &'static [u8]| {
            let mut stream = TcpStream::connect(to).await.expect("a connection");
            stream.write_all(text).await.expect("it is written");
            stream
        };
        let others = async {
            drop(connect(b"CONNECT {\"name\":\"a other\"}\r\n").await);
            drop(connect(b"PING\r\n").await);
            connect(b"CONNECT {\"name\":\"a word\",\"b\":1}\r\nPING\r\n").await
        };
        let (accepted, _client) = tokio::join!(accepted(&listener, b"INFO {}\r\n", "word"), others);
        let (first, mut stream) = accepted.expect("the client");
        assert_eq!(first, b"CONNECT {\"name\":\"a\",\"b\":1}\r\n");
        assert_eq!(line(&mut stream).await.expect("a line"), b"PING\r\n");
    }
}
