//! TLS to a server that may choose its certificate by the name of the host (SNI).
//!
//! The client library names in the handshake what it connects to, and looks a name up by itself. So
//! it would show no name, or connect to an address that nobody has checked. Therefore the node
//! speaks TLS, and the client connects to a port of this machine that takes one connection: that
//! which shows a word that is known in this process alone. Until then nothing is sent to the
//! server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::rustls::ClientConfig;
use aws_lc_rs::rand;
use serde_json::{Map, Value};
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
    copy_bidirectional_with_sizes,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::words::error_words;

/// Longest first line of the server or of the client: it may have a JWT.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Time in which the client shows the word.
const FIRST_LINE_WITHIN: Duration = Duration::from_secs(1);
/// Bytes that are read at once.
const COPIED_BYTES: usize = 64 << 10;

/// A way to a server, for one connection of the client.
pub(super) struct Relay {
    /// Where the client connects to.
    pub(super) address: SocketAddr,
    /// What the client says besides its name.
    pub(super) word: String,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Relay {
    /// Connects to a server at this address, whose name is `host`, and waits for the client.
    ///
    /// # Errors
    /// There is no connection, or none with TLS.
    pub(super) async fn open(
        to: SocketAddr,
        (host, config): (&str, ClientConfig),
        within: Duration,
    ) -> io::Result<Self> {
        let connected = timeout(within, connected(to, (host, config))).await;
        let (info, server) = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let relay = Self {
            address: listener.local_addr()?,
            word: word()?,
            trouble: Arc::default(),
        };
        let (word, trouble) = (relay.word.clone(), Arc::clone(&relay.trouble));
        tokio::spawn(async move {
            let client = timeout(within, accepted(&listener, &info, &word)).await;
            drop(listener);
            let Ok(Ok((first, client))) = client else {
                return;
            };
            if let Err(error) = carry((first, client), server, &trouble).await {
                tracing::debug!(%error, "a connection to NATS has ended");
            }
        });
        Ok(relay)
    }

    /// Why the server has ended the connection, if it has.
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

/// The first line of the server, as the client is to see it, and the connection with TLS.
async fn connected(
    to: SocketAddr,
    (host, config): (&str, ClientConfig),
) -> io::Result<(Vec<u8>, TlsStream<TcpStream>)> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let info = line(&mut stream).await?;
    let info = without_tls(&info).ok_or_else(|| io::Error::other("this is not a NATS server"))?;
    if !stream.buffer().is_empty() {
        return Err(io::Error::other("it does not wait for TLS"));
    }
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| io::Error::other("the host of `url` is not a valid name"))?;
    let connector = TlsConnector::from(Arc::new(config));
    let server = connector.connect(name, stream.into_inner()).await?;
    Ok((info, server))
}

/// A line with its end.
async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)
        .await?;
    match line.last() {
        Some(b'\n') => Ok(line),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// INFO of a server that does not ask for TLS.
fn without_tls(info: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(info).ok()?;
    let mut facts: Map<String, Value> = serde_json::from_str(text.strip_prefix("INFO ")?).ok()?;
    for key in ["tls_required", "tls_verify", "tls_available"] {
        facts.remove(key);
    }
    let facts = serde_json::to_string(&facts).ok()?;
    Some(format!("INFO {facts}\r\n").into_bytes())
}

/// The client's connection and its first line. Others who connect are shown what every server tells
/// everybody, and are sent away.
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

/// Carries bytes in both directions until one side ends.
async fn carry(
    (first, mut client): (Vec<u8>, BufReader<TcpStream>),
    mut server: TlsStream<TcpStream>,
    trouble: &Mutex<Option<String>>,
) -> io::Result<()> {
    let carried = async {
        server.write_all(&first).await?;
        let sizes = (COPIED_BYTES, COPIED_BYTES);
        copy_bidirectional_with_sizes(&mut client, &mut server, sizes.0, sizes.1).await
    };
    let carried = carried.await;
    if let Err(error) = &carried {
        let mut told = trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *told = Some(error_words(error));
    }
    carried.map(drop)
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
