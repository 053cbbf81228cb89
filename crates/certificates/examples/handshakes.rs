//! CPU time in µs that the TLS library needs on the server for one full TLS 1.3 handshake with
//! P-256, without resumption and without sockets. Compares the library's default settings with
//! those of the node. Read it together with `bench/compare --scenario tls-connects`.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_certificates::authority::{Authority, KeyKind, Purpose};
use martlet_certificates::{ClientFiles, ServerFiles, client_config, server_config};
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

const WARM_UP: usize = 200;
const COUNTED: usize = 2_000;

fn main() {
    let directory = std::env::temp_dir().join(format!("martlet-handshakes-{}", std::process::id()));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now = now.as_secs() as i64;
    Authority::create(&directory, "CA", 2, KeyKind::EcP256, now, |_| ()).unwrap();
    let authority = Authority::open(&directory, |_| ()).unwrap();
    let purpose = Purpose::Server(vec!["localhost".to_owned()]);
    let made = authority
        .issue("server", "localhost", &purpose, 2, KeyKind::EcP256, now)
        .unwrap();
    let files = ServerFiles {
        certificate: made.certificate,
        key: made.key,
        ..ServerFiles::default()
    };
    let server = server_config(&files).unwrap().config;
    let trust = ClientFiles {
        ca_file: Some(PathBuf::from(&directory).join("ca.crt")),
        ..ClientFiles::default()
    };
    let mut client = ClientConfig::clone(&*client_config(&trust).unwrap());
    client.resumption = Resumption::disabled();
    let client = Arc::new(client);
    let mut default = ServerConfig::clone(&server);
    let fresh = ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&server.cert_resolver));
    default.ignore_client_order = fresh.ignore_client_order;
    default.send_tls13_tickets = fresh.send_tls13_tickets;
    default.session_storage = Arc::clone(&fresh.session_storage);
    default.ticketer = Arc::clone(&fresh.ticketer);
    let settings = [
        ("by default", Arc::new(default)),
        ("as the node sets it", server),
    ];
    // Alternating, so that changes of the machine's speed affect both.
    let mut taken = [Vec::new(), Vec::new()];
    for number in 0..WARM_UP + COUNTED {
        for ((_, server), taken) in settings.iter().zip(&mut taken) {
            let one = handshake(&client, server);
            if number >= WARM_UP {
                taken.push(one);
            }
        }
    }
    for ((how, _), mut taken) in settings.iter().zip(taken) {
        taken.sort_unstable();
        let median = taken[taken.len() / 2].as_secs_f64() * 1e6;
        println!("{median:.1} µs of the server for a full handshake, {how}: median of {COUNTED}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

/// Time spent on the server's side.
fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Duration {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let began = Instant::now();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let mut taken = began.elapsed();
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let began = Instant::now();
        let mut unread = &wire[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        taken += began.elapsed();
        let mut unread = &answer[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    taken
}
