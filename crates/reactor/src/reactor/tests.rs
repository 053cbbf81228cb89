//! Tests of what a reactor adds to the loop of its shard: handshakes and simultaneous connects are
//! spread over many ticks, and a reactor rests if other clients benefit. Each test calls the ticks
//! itself.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use crossbeam_channel::unbounded;
use martlet_tick::{CROWD, TimeLimits};

use super::*;
use crate::config::{ListenerConfig, ReactorConfig, Transport};
use crate::listen;
use crate::listeners::ACCEPTS_PER_TICK;
use crate::mailbox::Control;
use crate::stats::ReactorStats;
use crate::store::MemoryStore;
use crate::tls::TlsSettings;

/// Limit of ticks in which a node must finish the work of a test.
const TICKS_MAX: usize = 2_000;

/// A long time, for limits that a test does not examine.
const LONG: Duration = Duration::from_secs(60);

const LONG_TIMES: TimeLimits = TimeLimits {
    reading: LONG,
    writing: LONG,
    reading_last: LONG,
    writing_last: LONG,
    writing_last_part: u32::MAX,
};

/// The one reactor of a node, without a thread.
struct Node {
    reactor: Reactor,
    mailboxes: Arc<Mailboxes>,
    counters: Arc<Counters>,
}

impl Node {
    fn new(listeners: &[ListenerConfig]) -> Self {
        let config = ReactorConfig::new(Arc::new(Settings::default()));
        crate::sys::raise_open_files_limit();
        let poller = Poller::new().unwrap();
        let wakeup = poller.waker().unwrap();
        let wakeups = [Arc::clone(&wakeup)];
        let (mailboxes, mut boxes) = Mailboxes::new(&wakeups, config.mailbox_batches);
        let (events, _) = crate::events::events(config.event_capacity);
        let (reports, _) = unbounded();
        let common = Common {
            settings: Arc::clone(&config.settings),
            node: Arc::new(SharedNode::new(1, usize::MAX, listeners.len())),
            clock: Clock::start(),
            mailboxes: Arc::clone(&mailboxes),
            entrances: listeners.iter().map(Entrance::new).collect(),
            sockets: Arc::new(SocketCount::new(Arc::clone(&wakeups[0]))),
            sockets_max: usize::MAX,
            events,
            reports,
            batch_messages: config.batch_messages,
            authenticator: config.authenticator,
            refused_name: || None,
        };
        let counters = Arc::<Counters>::default();
        let mailbox = boxes.pop().unwrap();
        let (store, counted) = (&mut MemoryStore, Arc::clone(&counters));
        let mut reactor =
            Reactor::new(ShardId(0), &common, poller, wakeup, mailbox, store, counted).unwrap();
        reactor.driver.set_times(LONG_TIMES);
        Self {
            reactor,
            mailboxes,
            counters,
        }
    }

    /// Runs one tick, which never sleeps.
    fn tick(&mut self) {
        self.mailboxes.control(ShardId(0), Control::StoreState);
        self.reactor.tick();
    }

    fn count(&self, read: impl Fn(&ReactorStats) -> u64) -> u64 {
        let mut stats = ReactorStats::default();
        stats += &*self.counters;
        read(&stats)
    }

    /// Returns how much a tick of the first reactor adds to a counter.
    fn in_a_tick(&mut self, read: impl Fn(&ReactorStats) -> u64) -> u64 {
        let before = self.count(&read);
        self.tick();
        self.count(&read) - before
    }

    /// Runs ticks until the condition is true.
    fn tick_until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..TICKS_MAX {
            if is_so(self) {
                return;
            }
            self.tick();
        }
        panic!("it does not come to be so");
    }

    /// Opens connections that have sent nothing.
    fn newcomers(&mut self, count: usize) -> Vec<Client> {
        let newcomers = (0..count).map(|_| {
            let (own, other) = UnixStream::pair().unwrap();
            own.set_nonblocking(true).unwrap();
            other.set_nonblocking(true).unwrap();
            let Reactor {
                driver, outside, ..
            } = &mut self.reactor;
            outside.socket_count.raise();
            let newcomer = outside.carried(Stream::unix(own), None, Arc::default());
            driver.open(outside, newcomer.unwrap());
            Client {
                stream: other,
                received: Vec::new(),
            }
        });
        newcomers.collect()
    }

    /// Connects clients. Each subscribes to the topic equal to its Client Identifier, or all
    /// subscribe to `topic`.
    fn clients(&mut self, name: &str, count: usize, topic: Option<&str>) -> Vec<Client> {
        let mut clients = self.newcomers(count);
        for (number, client) in clients.iter_mut().enumerate() {
            let client_id = format!("{name}{number:04}");
            client.send(&connect(&client_id));
            let topic = topic.unwrap_or(&client_id).as_bytes();
            client.send(&[b"\x82\x0a\0\x01\0\x05", topic, b"\0"].concat());
        }
        self.tick_until(|_| clients.iter_mut().all(|client| client.has(9)));
        clients
            .iter_mut()
            .for_each(|client| client.received.clear());
        clients
    }
}

/// A client's end of a connection.
struct Client {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Whether the client has received this number of bytes.
    fn has(&mut self, length: usize) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.received.len() >= length
    }
}

/// A CONNECT of MQTT 3.1.1 for a Client Identifier with five bytes.
fn connect(client_id: &str) -> Vec<u8> {
    assert_eq!(client_id.len(), 5);
    [
        b"\x10\x11\0\x04MQTT\x04\x02\0\0\0\x05",
        client_id.as_bytes(),
    ]
    .concat()
}

/// A PUBLISH with QoS 0, a topic of five bytes and a payload of at least 121 bytes.
fn publish(topic: &str, payload: usize) -> Vec<u8> {
    assert_eq!(topic.len(), 5);
    let length = payload + 7;
    let low = (length % 128) as u8 | 0x80;
    let mut bytes = vec![0x30, low, (length / 128) as u8, 0, 5];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.resize(bytes.len() + payload, b'x');
    bytes
}

/// Topic of messages for all clients.
const ALL: &str = "topic";

const PINGREQ: [u8; 2] = [0xC0, 0];
const CLIENTS: usize = 100;

fn tcp(tls: Option<TlsSettings>) -> ListenerConfig {
    ListenerConfig {
        address: "127.0.0.1:0".parse::<SocketAddr>().unwrap().into(),
        accept_rate: 0,
        proxies: Vec::new(),
        transport: Transport::Tcp,
        tls,
        policy: Arc::default(),
        name: "tcp".into(),
    }
}

#[test]
fn a_tick_goes_on_with_few_handshakes() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key);
    let listener = tcp(Some(TlsSettings::new(Arc::new(config.unwrap()), None)));
    let mut node = Node::new(&[listener]);
    let mut clients: Vec<UnixStream> = (0..CLIENTS)
        .map(|_| {
            let (own, other) = UnixStream::pair().unwrap();
            own.set_nonblocking(true).unwrap();
            let Reactor {
                driver, outside, ..
            } = &mut node.reactor;
            outside.socket_count.raise();
            let newcomer = outside.newcomer(Stream::unix(own), None, 0);
            driver.open(outside, newcomer.unwrap());
            other
        })
        .collect();
    node.tick();
    for client in &mut clients {
        // The beginning of a ClientHello.
        client.write_all(b"\x16\x03\x01").unwrap();
    }
    let mut all = 0;
    for _ in 0..CLIENTS {
        let reads = node.in_a_tick(|stats| stats.reads);
        assert!(reads <= 8, "{reads} reads in one tick");
        all += reads;
    }
    assert_eq!(all, CLIENTS as u64);
}

#[test]
fn a_tick_accepts_a_part_of_the_connections_that_wait() {
    const WAITING: usize = 3 * ACCEPTS_PER_TICK;
    let listener = tcp(None);
    let (bound, address) = listen::bind(&listener, None).unwrap();
    let mut node = Node::new(&[listener]);
    let descriptors = Descriptors::of_process();
    node.reactor
        .open_listeners(vec![(bound, 0)], descriptors, true)
        .unwrap();
    let address = address.socket().unwrap();
    let waiting: Vec<TcpStream> = (0..WAITING)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let mut all = 0;
    while all < waiting.len() as u64 {
        let accepted = node.in_a_tick(|stats| stats.accepted);
        let most = ACCEPTS_PER_TICK as u64;
        assert!((1..=most).contains(&accepted), "{accepted} in one tick");
        all += accepted;
    }
}

/// Runs some ticks and returns the shortest duration, because the machine runs other programs too.
fn shortest_tick(node: &mut Node, mut before: impl FnMut(&mut Node)) -> Duration {
    let ticks = (0..20).map(|_| {
        before(node);
        let began = Instant::now();
        node.tick();
        began.elapsed()
    });
    ticks.min().unwrap()
}

/// While a message for thousands of clients is written, a reactor whose thread was suspended rests
/// after each tick, unless a client waits for other work.
#[test]
fn a_reactor_that_was_suspended_rests_unless_a_client_waits() {
    let mut node = Node::new(&[]);
    // A tick writes to eight of these clients.
    let _receivers = node.clients("r", CROWD + 1024, Some(ALL));
    let mut others = node.clients("o", 256, None);
    node.reactor.driver.set_times(TimeLimits {
        writing_last: Duration::ZERO,
        ..LONG_TIMES
    });
    others[0].send(&publish(ALL, 200));
    node.tick_until(|node| node.reactor.driver.last_count() > CROWD);
    let suspend = |node: &mut Node| {
        let (now, ran) = (Instant::now(), time_run());
        let contention = &mut node.reactor.contention;
        contention.rested(now - REST * 10, ran);
        contention.should_rest(now, ran);
    };
    let rested = shortest_tick(&mut node, suspend);
    assert!(rested >= REST, "{rested:?}");
    // A tick reads from some of the other clients.
    node.reactor.driver.set_times(TimeLimits {
        reading: Duration::ZERO,
        writing_last: Duration::ZERO,
        ..LONG_TIMES
    });
    others.iter_mut().for_each(|client| client.send(&PINGREQ));
    let waited = shortest_tick(&mut node, suspend);
    assert!(waited < REST, "{waited:?}");
    assert!(node.reactor.driver.serves_crowd());
}
