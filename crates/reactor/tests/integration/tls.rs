//! Tests of MQTT over TLS and secure WebSocket on real sockets, with rustls as the client, or with
//! handmade input for misbehaving clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::*;
use martlet_broker::{
    Authenticated, Authentication, Event, Identity, ListenerPolicy, RefusalCause, Settings,
    TlsFault,
};
use martlet_reactor::{Authenticator, ListenAddress, ListenerConfig, LoginAnswer, TlsSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

/// A CA for signing certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    fn sign(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        (vec![certificate.der().clone()], key)
    }

    fn server(&self) -> Arc<ServerConfig> {
        let (chain, key) = self.sign("localhost");
        let config = ServerConfig::builder().with_no_client_auth();
        Arc::new(config.with_single_cert(chain, key).unwrap())
    }

    fn client(&self) -> ClientConfig {
        let config = ClientConfig::builder().with_root_certificates(self.roots());
        config.with_no_client_auth()
    }
}

struct Secure {
    node: Node,
    settings: TlsSettings,
    tls: SocketAddr,
    web: SocketAddr,
}

/// A node with a TLS listener and a secure WebSocket listener in addition to the usual ones.
fn secure(threads: usize, config: Arc<ServerConfig>, limits: Settings) -> Secure {
    let mut node = crate::common::config(threads, limits);
    let settings = TlsSettings::new(config, None);
    add_listeners(&mut node, &settings, &Arc::default());
    let node = run(node);
    let addresses = node.running.local_addresses();
    let of = |listener: usize| addresses[listener].1.socket().unwrap();
    let (tls, web) = (of(2), of(3));
    Secure {
        node,
        settings,
        tls,
        web,
    }
}

fn add_listeners(
    node: &mut martlet_reactor::ReactorConfig,
    settings: &TlsSettings,
    policy: &Arc<ListenerPolicy>,
) {
    for (name, of) in [("tls", 0), ("wss", 1)] {
        let transport = node.listeners[of].transport.clone();
        node.listeners.push(ListenerConfig {
            address: ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()),
            accept_rate: 0,
            proxies: Vec::new(),
            transport,
            tls: Some(settings.clone()),
            policy: Arc::clone(policy),
            name: name.into(),
        });
    }
}

fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn dial(address: SocketAddr, config: ClientConfig) -> Box<dyn ReadWrite> {
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    Box::new(StreamOwned::new(connection, connected(address)))
}

#[test]
fn mqtt_goes_over_tls_and_secure_websocket_between_shards_in_large_and_small_pieces() {
    let authority = Authority::new();
    for threads in [1, 3] {
        let secure = secure(threads, authority.server(), Settings::default());
        let mut plain = secure.node.tcp().connect("plain");
        plain.subscribe("t", 1);
        let mut tls = Client::over(dial(secure.tls, authority.client())).connect("tls");
        tls.subscribe("t", 0);
        let web = Client::web_over(dial(secure.web, authority.client()));
        let mut web = web.connect("web");
        web.subscribe("t", 0);
        for len in [1, 100, 20_000, 300_000, 1_000_000] {
            let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let packet = publish("t", &payload);
            for sender in 0..3 {
                [&mut plain, &mut tls, &mut web][sender].send(&packet);
                for receiver in [&mut plain, &mut tls, &mut web] {
                    let got = receiver.packet().unwrap();
                    assert!(got == packet, "{} of {} bytes", got.len(), packet.len());
                }
            }
        }
        for client in [&mut tls, &mut web] {
            client.send(&DISCONNECT);
            client.expect_closed();
        }
        secure.node.await_connections(1);
    }
}

/// A connected client with its TLS state.
fn secure_client(
    secure: &Secure,
    authority: &Authority,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = "localhost".try_into().unwrap();
    let config = Arc::new(authority.client());
    let connection = ClientConnection::new(config, name).unwrap();
    let mut client = StreamOwned::new(connection, connected(secure.tls));
    client.write_all(&connect("renews", 2, None)).unwrap();
    let mut connack = [0; 4];
    client.read_exact(&mut connack).unwrap();
    client
}

fn renew_keys(client: &mut StreamOwned<ClientConnection, TcpStream>) -> std::io::Result<()> {
    client.conn.refresh_traffic_keys().unwrap();
    client.flush()
}

/// A key update costs the node as much as ten records with data, and is rarely needed. If there is
/// no data in between, the TLS library limits them.
#[test]
fn a_client_may_renew_its_keys_and_not_without_end() {
    let authority = Authority::new();
    let settings = Settings {
        events: martlet_broker::EventInterest {
            connections: true,
            ..martlet_broker::EventInterest::default()
        },
        ..Settings::default()
    };
    let secure = secure(1, authority.server(), settings);
    let mut client = secure_client(&secure, &authority);
    let mut pingresp = [0; 2];
    for _ in 0..10 {
        renew_keys(&mut client).unwrap();
        client.write_all(&PINGREQ).unwrap();
        client.read_exact(&mut pingresp).unwrap();
        assert_eq!(pingresp, PINGRESP);
    }
    let mut some = || {
        (0..20).try_for_each(|_| renew_keys(&mut client))?;
        client.write_all(&PINGREQ)?;
        client.read_exact(&mut pingresp)
    };
    assert!((0..100).any(|_| some().is_err()));
    let events = secure.node.running.events();
    loop {
        let told = events.recv_timeout(PATIENCE).unwrap();
        if let Event::Disconnected { why, .. } = told.event {
            assert_eq!(why.cause, RefusalCause::Tls(TlsFault::EmptyRecords));
            break;
        }
    }
}

#[test]
fn many_clients_at_once_get_through_the_handshake() {
    let authority = Authority::new();
    let secure = secure(2, authority.server(), Settings::default());
    let clients: Vec<_> = (0..60)
        .map(|number| {
            let (address, config) = (secure.tls, authority.client());
            std::thread::spawn(move || {
                let client = Client::over(dial(address, config));
                let mut client = client.connect(&format!("c{number}"));
                client.send(&PINGREQ);
                client.expect(&PINGRESP);
                client
            })
        })
        .collect();
    let clients: Vec<Client> = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .collect();
    assert_eq!(secure.node.running.open_connections(), clients.len());
}

#[test]
fn a_client_that_reads_nothing_is_bounded_and_then_gets_all() {
    let authority = Authority::new();
    let secure = secure(1, authority.server(), Settings::default());
    let mut slow = Client::over(dial(secure.tls, authority.client())).connect("slow");
    slow.subscribe("t", 1);
    let mut publisher = secure.node.tcp().connect("publisher");
    let payload = vec![7; 50_000];
    for id in 1..=200_u16 {
        publisher.send(&publish_qos1("t", id, &payload));
        let [high, low] = id.to_be_bytes();
        publisher.expect(&[0x40, 2, high, low]);
    }
    for _ in 0..200 {
        let packet = slow.packet().unwrap();
        assert_eq!(packet[0], 0x32);
        let id = packet.len() - payload.len() - 2;
        slow.send(&[0x40, 2, packet[id], packet[id + 1]]);
    }
}

#[test]
fn plain_mqtt_at_a_tls_listener_is_recognised_and_logged() {
    let authority = Authority::new();
    let settings = Settings {
        events: martlet_broker::EventInterest {
            connections: true,
            drops: false,
            ..martlet_broker::EventInterest::default()
        },
        ..Settings::default()
    };
    let secure = secure(1, authority.server(), settings);
    let mut plain = connected(secure.tls);
    plain.write_all(&connect("a", 2, None)).unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest);
    // A TLS alert, and no CONNACK.
    assert!(rest.first().is_none_or(|first| *first == 0x15), "{rest:?}");
    let events = secure.node.running.events();
    let event = events.recv_timeout(PATIENCE).unwrap().event;
    let Event::Refused { why, .. } = event else {
        panic!("{event:?}");
    };
    assert_eq!(why.cause, RefusalCause::Tls(TlsFault::PlainMqtt));
    assert!(why.detail().contains("expects TLS"), "{}", why.detail());
    secure.node.await_connections(0);
}

#[test]
fn half_a_handshake_ends_at_the_deadline_and_bytes_may_drip() {
    let authority = Authority::new();
    let mut limits = Settings::default();
    limits.limits.connect_timeout_secs = 2;
    let secure = secure(1, authority.server(), limits);
    let mut half = connected(secure.tls);
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    let mut alert = Vec::new();
    let _ = half.read_to_end(&mut alert);
    assert!(
        alert.first().is_none_or(|first| *first == 0x15),
        "{alert:?}"
    );
    // One byte at a time.
    let name = "localhost".try_into().unwrap();
    let config = Arc::new(authority.client());
    let mut connection = ClientConnection::new(config, name).unwrap();
    let mut stream = connected(secure.tls);
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    for byte in hello {
        stream.write_all(&[byte]).unwrap();
    }
    let mut client = Client::over(Box::new(StreamOwned::new(connection, stream)));
    client = client.connect("drip");
    client.send(&PINGREQ);
    client.expect(&PINGRESP);
}

#[test]
fn settings_that_are_replaced_hold_for_new_connections_and_end_none() {
    let (old, new) = (Authority::new(), Authority::new());
    let secure = secure(1, old.server(), Settings::default());
    let mut before = Client::over(dial(secure.tls, old.client())).connect("before");
    secure
        .settings
        .replace(&TlsSettings::new(new.server(), None));
    let mut after = Client::over(dial(secure.tls, new.client())).connect("after");
    for client in [&mut before, &mut after] {
        client.send(&PINGREQ);
        client.expect(&PINGRESP);
    }
    let mut wrong = dial(secure.tls, old.client());
    assert!(
        wrong
            .write_all(&PINGREQ)
            .and_then(|()| wrong.flush())
            .is_err()
    );
}

/// Accepts all clients and records their credentials.
#[derive(Debug, Default)]
struct Witness(Mutex<Vec<Authentication>>);

impl Authenticator for Witness {
    fn ask(&self, authentication: Authentication, answer: LoginAnswer) {
        self.0.lock().unwrap().push(authentication);
        // Answered from another thread, after a delay.
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            let identity = Identity::anyone();
            answer.give(Authenticated::Accepted {
                identity,
                last_revocation: 0,
                data: None,
            });
        });
    }
}

#[test]
fn a_client_certificate_is_asked_for_checked_and_shown_to_who_authenticates() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let verifier = WebPkiClientVerifier::builder(authority.roots())
        .build()
        .unwrap();
    let (chain, key) = authority.sign("localhost");
    let config = ServerConfig::builder().with_client_cert_verifier(verifier);
    let config = Arc::new(config.with_single_cert(chain, key).unwrap());
    let witness = Arc::new(Witness::default());
    let mut node = crate::common::config(3, Settings::default());
    node.authenticator = Arc::clone(&witness) as _;
    let policy = ListenerPolicy {
        authenticate: true,
        ..ListenerPolicy::default()
    };
    add_listeners(
        &mut node,
        &TlsSettings::new(config, None),
        &Arc::new(policy),
    );
    let node = run(node);
    let addresses = node.running.local_addresses();
    let with = |of: &Authority| {
        let (chain, key) = of.sign("device");
        let config = ClientConfig::builder().with_root_certificates(authority.roots());
        (
            config.with_client_auth_cert(chain.clone(), key).unwrap(),
            chain,
        )
    };
    for (listener, name) in [(2, "over-tls"), (3, "over-wss")] {
        let address = addresses[listener].1.socket().unwrap();
        let (config, chain) = with(&authority);
        let stream = dial(address, config);
        let client = match listener {
            2 => Client::over(stream),
            _ => Client::web_over(stream),
        };
        let mut client = client.connect(name);
        client.send(&PINGREQ);
        client.expect(&PINGRESP);
        let asked = witness.0.lock().unwrap().pop().unwrap();
        assert_eq!(&*asked.client_id, name);
        assert_eq!(asked.certificate.as_deref(), Some(&*chain[0]));
        // Without a certificate, or with one of another CA, no client gets this far.
        for config in [authority.client(), with(&stranger).0] {
            let mut stream = dial(address, config);
            let _ = stream.write_all(&connect("x", 2, None));
            assert!(stream.read(&mut [0; 64]).is_err());
        }
        assert!(witness.0.lock().unwrap().is_empty());
    }
}
