//! `martlet cert check HOST:PORT`: shows a server's certificate, and whether it is trusted.

use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use martlet_certificates::{ClientFiles, Facts, ServerCheck, client_config, handshake_failure};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConnection, StreamOwned};

use super::shown::{facts_text, json};
use super::time::now_secs;
use crate::cmd::print::{errln, out, outln};

/// Time limit for the server.
const DEADLINE: Duration = Duration::from_secs(10);

/// Time limit for its answer to the end.
const ANSWER: Duration = Duration::from_secs(2);

/// Options of `martlet cert check`.
#[derive(Args, Debug)]
pub(crate) struct CheckOptions {
    /// The server; the default port is 8883
    #[arg(value_name = "HOST:PORT")]
    server: String,
    /// File of CAs to trust [default: those that the system trusts]
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// The client's own certificate
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of that certificate
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Name that the certificate must be valid for [default: HOST]
    #[arg(long, value_name = "NAME")]
    servername: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(options: &CheckOptions) -> ExitCode {
    match check(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            errln!("martlet: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn check(options: &CheckOptions) -> anyhow::Result<bool> {
    let (host, port) = host_and_port(&options.server)?;
    let name = options.servername.as_deref().unwrap_or(&host);
    // First without verification, to see the certificate; then with verification.
    let (seen, refused) = handshake(options, &host, port, name, ServerCheck::Nothing)?;
    let checked = handshake(options, &host, port, name, ServerCheck::Full)?.1;
    let first = seen.chain.first();
    let is_trusted = first.is_some() && !matches!(&checked, Some(Failure::Untrusted(_)));
    let why = checked.or(refused).map(Failure::into_words);
    if options.json {
        let certificate = first.map(|facts| json(options.server.as_ref(), facts));
        let value = serde_json::json!({
            "server": options.server, "version": seen.version, "cipher": seen.cipher,
            "certificate": certificate, "chain": seen.chain.len(), "trusted": is_trusted,
            "accepted": why.is_none(), "why": why,
        });
        outln!("{value}");
        return Ok(why.is_none());
    }
    let mut text = match seen.version.is_empty() {
        true => format!("{}: no TLS\n", options.server),
        false => format!("{}: {}, {}\n", options.server, seen.version, seen.cipher),
    };
    for facts in &seen.chain {
        text.push_str(&facts_text(facts));
    }
    if let Some(facts) = first {
        let days = (facts.not_after_secs - now_secs()).div_euclid(86_400);
        text.push_str(&format!("{days} days left\n"));
    }
    match (&why, is_trusted) {
        (None, _) => text.push_str(&format!("trusted, and for {name}\n")),
        (Some(why), true) => text.push_str(&format!(
            "trusted and valid for {name}, but the server refuses this client: {why}\n"
        )),
        (Some(why), false) => text.push_str(&format!("NOT trusted: {why}\n")),
    }
    out!("{text}");
    Ok(why.is_none())
}

#[derive(Default)]
struct HandshakeFacts {
    version: String,
    cipher: String,
    chain: Vec<Facts>,
}

/// Why the handshake failed.
enum Failure {
    /// The server's certificate is not trusted.
    Untrusted(String),
    /// Another error.
    Other(String),
}

impl Failure {
    fn from_io_error(error: &io::Error, options: &CheckOptions, is_tls: bool) -> Self {
        let inner = error.get_ref();
        match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error @ rustls::Error::InvalidCertificate(_)) => {
                Self::Untrusted(handshake_failure(error))
            }
            // TLS 1.2 servers have no more specific alert for it.
            Some(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure))
                if is_tls && options.cert.is_none() =>
            {
                let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
                Self::Other(handshake_failure(&alert))
            }
            Some(error) => Self::Other(handshake_failure(error)),
            None if !is_tls && is_end(error) => Self::Other(
                "the server closed the connection before the TLS handshake: check that this is its \
                 TLS port"
                    .to_owned(),
            ),
            None => Self::Other(error.to_string()),
        }
    }

    fn into_words(self) -> String {
        match self {
            Self::Untrusted(why) | Self::Other(why) => why,
        }
    }
}

/// Whether the other side has closed the connection.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Returns the certificate seen, and the error if the connection failed.
fn handshake(
    options: &CheckOptions,
    host: &str,
    port: u16,
    name: &str,
    check: ServerCheck,
) -> anyhow::Result<(HandshakeFacts, Option<Failure>)> {
    let files = ClientFiles {
        ca_file: options.cafile.clone(),
        system_cas: options.cafile.is_none(),
        certificate: options.cert.clone(),
        key: options.key.clone(),
        check,
        ..ClientFiles::default()
    };
    let config = client_config(&files)?;
    let name =
        ServerName::try_from(name.to_owned()).with_context(|| format!("{name}: no host name"))?;
    let socket = TcpStream::connect((host, port));
    let socket = socket.with_context(|| format!("no connection to {host}:{port}"))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_write_timeout(Some(DEADLINE))?;
    let connection = ClientConnection::new(Arc::clone(&config), name)?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
            let seen = seen(&stream.conn);
            let why = Failure::from_io_error(&error, options, !seen.version.is_empty());
            return Ok((seen, Some(why)));
        }
    }
    // In TLS 1.3 the client's handshake completes before the server has verified the client's
    // certificate. After close_notify the server closes the connection, unless it has rejected the
    // client before.
    stream.conn.send_close_notify();
    stream.sock.set_read_timeout(Some(ANSWER))?;
    let mut refused = None;
    loop {
        match stream.conn.complete_io(&mut stream.sock) {
            Ok((0, 0)) => break,
            Ok(_) => {}
            Err(error) => {
                let is_tls = error
                    .get_ref()
                    .is_some_and(|inner| inner.is::<rustls::Error>());
                refused = is_tls.then(|| Failure::from_io_error(&error, options, true));
                break;
            }
        }
    }
    Ok((seen(&stream.conn), refused))
}

fn seen(connection: &ClientConnection) -> HandshakeFacts {
    let chain = connection.peer_certificates().unwrap_or_default();
    HandshakeFacts {
        version: connection
            .protocol_version()
            .map_or_else(String::new, |version| {
                format!("{version:?}").replace('_', ".")
            }),
        cipher: connection
            .negotiated_cipher_suite()
            .map_or_else(String::new, |suite| format!("{:?}", suite.suite())),
        chain: chain.iter().filter_map(|der| Facts::of(der)).collect(),
    }
}

fn host_and_port(text: &str) -> anyhow::Result<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port))
            if !port.contains(']') && (!host.contains(':') || host.ends_with(']')) =>
        {
            let port = port
                .parse()
                .with_context(|| format!("{text}: expected HOST:PORT"))?;
            (host, port)
        }
        _ => (text, 8883),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), port))
}
