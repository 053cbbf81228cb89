//! `martlet cert check HOST:PORT`: what a server shows, and whether it is to be trusted.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use martlet_certificates::{ClientFiles, Facts, ServerCheck, client_config, handshake_failure};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{facts_text, json, now_secs};

/// How long the server may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Options of `martlet cert check`.
#[derive(Args, Debug)]
pub(crate) struct CheckOptions {
    /// The server; port 8883 if none is named
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
    /// Name that the certificate has to be for [default: HOST]
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
            eprintln!("martlet: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn check(options: &CheckOptions) -> anyhow::Result<bool> {
    let (host, port) = host_and_port(&options.server)?;
    let name = options.servername.as_deref().unwrap_or(&host);
    // First whatever it shows, then whether that is to be trusted.
    let (seen, refused) = handshake(options, (&host, port), name, ServerCheck::Nothing)?;
    let trusted = handshake(options, (&host, port), name, ServerCheck::Full)?.1;
    let first = seen.chain.first();
    let why = refused.or(trusted);
    if options.json {
        let certificate = first.map(|facts| json(options.server.as_ref(), facts));
        let value = serde_json::json!({
            "server": options.server, "version": seen.version, "cipher": seen.cipher,
            "certificate": certificate, "chain": seen.chain.len(), "trusted": why.is_none(), "why": why,
        });
        println!("{value}");
        return Ok(why.is_none());
    }
    let mut text = format!("{}: {}, {}\n", options.server, seen.version, seen.cipher);
    for facts in &seen.chain {
        text.push_str(&facts_text(facts));
    }
    if let Some(facts) = first {
        let days = (facts.not_after_secs - now_secs()).div_euclid(86_400);
        text.push_str(&format!("{days} days left\n"));
    }
    match &why {
        None => text.push_str(&format!("trusted, and for {name}\n")),
        Some(why) => text.push_str(&format!("NOT trusted: {why}\n")),
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(why.is_none())
}

#[derive(Default)]
struct Seen {
    version: String,
    cipher: String,
    chain: Vec<Facts>,
}

/// What was seen, and why there was no connection if there was none.
fn handshake(
    options: &CheckOptions,
    (host, port): (&str, u16),
    name: &str,
    check: ServerCheck,
) -> anyhow::Result<(Seen, Option<String>)> {
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
            let inner = error.get_ref();
            let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let why = tls.map_or_else(|| error.to_string(), handshake_failure);
            return Ok((seen(&stream.conn), Some(why)));
        }
    }
    stream.conn.send_close_notify();
    let _ = stream.conn.complete_io(&mut stream.sock);
    Ok((seen(&stream.conn), None))
}

fn seen(connection: &ClientConnection) -> Seen {
    let chain = connection.peer_certificates().unwrap_or_default();
    Seen {
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
