//! The bounds of a tick: whatever comes at once, a tick does a part of it, and later ticks do the
//! rest. Each test calls the ticks of a reactor itself, and fails without the bound that it is for.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use crossbeam_channel::{Receiver, unbounded};
use martlet_broker::WorkLimits;

use super::input::{GROUP, READS_PER_LOOK};
use super::*;
use crate::config::ReactorConfig;
use crate::door::ACCEPTS_PER_TICK;
use crate::listen;
use crate::mailbox::Batch;
use crate::stats::ReactorStats;
use crate::store::MemoryStore;

/// Ticks in which everything is done that the tests bring about.
const TICKS_MAX: usize = 2_000;

/// A long time, for the bounds that a test is not about.
const LONG: Duration = Duration::from_secs(60);

/// Reactors of one node, without threads.
struct Node {
    reactors: Vec<Reactor>,
    mailboxes: Arc<Mailboxes>,
    counters: Vec<Arc<Counters>>,
    reports: Receiver<Report>,
}

impl Node {
    fn new(shards: usize, work: WorkLimits, listeners: &[ListenerConfig]) -> Self {
        let settings = Settings {
            work,
            ..Settings::default()
        };
        let config = ReactorConfig::new(Arc::new(settings));
        crate::sys::raise_open_files_limit();
        let pollers: Vec<Poller> = (0..shards).map(|_| Poller::new().unwrap()).collect();
        let wakeups: Vec<_> = pollers
            .iter()
            .map(|poller| poller.waker().unwrap())
            .collect();
        let (mailboxes, boxes) = Mailboxes::new(&wakeups, config.mailbox_batches);
        let (events, _) = crate::events::events(config.event_capacity);
        let (reports_in, reports) = unbounded();
        let common = Common {
            settings: Arc::clone(&config.settings),
            node: Arc::new(SharedNode::new(1, usize::MAX, listeners.len())),
            clock: Clock::start(),
            mailboxes: Arc::clone(&mailboxes),
            entrances: listeners.iter().map(Entrance::new).collect(),
            sockets: Arc::new(SocketCount::new(Arc::clone(&wakeups[0]))),
            sockets_max: usize::MAX,
            events,
            reports: reports_in,
            batch_messages: config.batch_messages,
            authenticator: config.authenticator,
            refused_name: || None,
        };
        let counters: Vec<Arc<Counters>> = (0..shards).map(|_| Arc::default()).collect();
        let parts = pollers.into_iter().zip(boxes).zip(wakeups).enumerate();
        let reactors = parts.map(|(number, ((poller, mailbox), wakeup))| {
            let parts = (poller, wakeup, mailbox);
            let counted = Arc::clone(&counters[number]);
            let shard = ShardId(number as u16);
            let mut reactor =
                Reactor::new(shard, &common, parts, &mut MemoryStore, counted).unwrap();
            reactor.times = TimeLimits {
                reading: LONG,
                writing: LONG,
                reading_last: LONG,
                writing_last: LONG,
                writing_last_part: u32::MAX,
            };
            reactor
        });
        Self {
            reactors: reactors.collect(),
            mailboxes,
            counters,
            reports,
        }
    }

    /// One shard with turns as they are.
    fn usual() -> Self {
        Self::new(1, WorkLimits::default(), &[])
    }

    fn first(&mut self) -> &mut Reactor {
        &mut self.reactors[0]
    }

    /// A tick of the first reactor, which never sleeps.
    fn tick(&mut self) {
        self.tick_of(0);
    }

    fn tick_of(&mut self, number: usize) {
        let shard = ShardId(number as u16);
        self.mailboxes.control(shard, Control::StoreState);
        self.reactors[number].tick();
    }

    fn count(&self, read: impl Fn(&ReactorStats) -> u64) -> u64 {
        let mut stats = ReactorStats::default();
        self.counters.iter().for_each(|counters| stats += counters);
        read(&stats)
    }

    /// What a tick of the first reactor adds to a counter.
    fn in_a_tick(&mut self, read: impl Fn(&ReactorStats) -> u64) -> u64 {
        let before = self.count(&read);
        self.tick();
        self.count(&read) - before
    }

    /// Ticks until it is so.
    fn tick_until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..TICKS_MAX {
            if is_so(self) {
                return;
            }
            self.tick();
        }
        panic!("it does not come to be so");
    }

    /// Connections that have sent nothing.
    fn newcomers(&mut self, count: usize) -> Vec<Client> {
        let newcomers = (0..count).map(|_| {
            let (own, other) = UnixStream::pair().unwrap();
            own.set_nonblocking(true).unwrap();
            other.set_nonblocking(true).unwrap();
            self.first().socket_count.raise();
            self.first().attach(Stream::unix(own), Arc::default());
            Client {
                stream: other,
                received: Vec::new(),
            }
        });
        newcomers.collect()
    }

    /// Clients that are connected; each subscribes to the topic that is its Client Identifier, or
    /// all to this one.
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

    /// Sends as much of the packet, over and over, as the system takes; `sent` bytes of it were
    /// sent before.
    fn send_always(&mut self, packet: &[u8], sent: &mut usize) {
        loop {
            match self.stream.write(&packet[*sent..]) {
                Ok(count) => *sent = (*sent + count) % packet.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Whether it has received this number of bytes.
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

/// CONNECT of 3.1.1, of a client identifier with five bytes.
fn connect(client_id: &str) -> Vec<u8> {
    assert_eq!(client_id.len(), 5);
    [
        b"\x10\x11\0\x04MQTT\x04\x02\0\0\0\x05",
        client_id.as_bytes(),
    ]
    .concat()
}

/// PUBLISH with QoS 0, with a topic of five bytes and a payload of 121 bytes or more.
fn publish(topic: &str, payload: usize) -> Vec<u8> {
    assert_eq!(topic.len(), 5);
    let length = payload + 7;
    let low = (length % 128) as u8 | 0x80;
    let mut bytes = vec![0x30, low, (length / 128) as u8, 0, 5];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.resize(bytes.len() + payload, b'x');
    bytes
}

/// The topic of a message for all.
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

/// What these clients are sent goes out over ticks that each write for as long as they may.
fn writing_ends(node: &mut Node, receivers: &mut [Client], length: usize) {
    let mut ticks = 0;
    while !receivers.iter_mut().all(|client| client.has(length)) {
        let writes = node.in_a_tick(|stats| stats.writes);
        assert!(writes <= 8, "{writes} writes in one tick");
        ticks += 1;
        assert!(ticks < TICKS_MAX);
    }
}

/// Each client is sent a message of its own.
fn writing_of_own_ends(payload: usize) {
    let mut node = Node::usual();
    let mut clients = node.clients("r", CLIENTS, None);
    node.first().times.writing = Duration::ZERO;
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&publish(&format!("r{number:04}"), payload));
    }
    let length = publish(ALL, payload).len();
    writing_ends(&mut node, &mut clients, length);
}

#[test]
fn a_tick_stops_writing_when_its_time_is_over() {
    writing_of_own_ends(200);
}

#[test]
fn a_tick_stops_writing_long_output_when_its_time_is_over() {
    writing_of_own_ends(4_000);
}

#[test]
fn a_tick_stops_writing_what_messages_for_many_have_left() {
    for matches in [4, 1024] {
        let work = WorkLimits {
            matches,
            ..WorkLimits::default()
        };
        let mut node = Node::new(1, work, &[]);
        let mut receivers = node.clients("r", CLIENTS, Some(ALL));
        let mut publisher = node.clients("p", 1, None).pop().unwrap();
        node.first().times.writing_last = Duration::ZERO;
        let packet = publish(ALL, 200);
        publisher.send(&packet);
        writing_ends(&mut node, &mut receivers, packet.len());
    }
}

/// A message for many and an answer for one: that leaves first, however many there are.
#[test]
fn an_answer_is_written_before_a_message_for_many() {
    let mut node = Node::usual();
    let mut receivers = node.clients("r", CLIENTS, Some(ALL));
    let mut others = node.clients("p", 2, None);
    let times = &mut node.first().times;
    (times.writing, times.writing_last) = (Duration::ZERO, Duration::ZERO);
    let packet = publish(ALL, 200);
    others[0].send(&packet);
    node.tick();
    assert!(receivers.iter_mut().any(|client| !client.has(1)));
    others[1].send(&PINGREQ);
    node.tick();
    assert!(others[1].has(2), "it does not wait for the others");
    assert!(receivers.iter_mut().any(|client| !client.has(1)));
    node.tick_until(|_| receivers.iter_mut().all(|client| client.has(packet.len())));
}

/// What messages for many have left goes out however much there is to be written for others.
#[test]
fn a_message_for_many_has_a_part_of_the_time_for_writing() {
    const OTHERS: usize = 10 * CLIENTS;
    let mut node = Node::usual();
    let mut receivers = node.clients("r", CLIENTS, Some(ALL));
    let mut others = node.clients("p", OTHERS, None);
    let times = &mut node.first().times;
    (times.writing_last, times.writing_last_part) = (Duration::ZERO, WRITING_LAST_PART);
    others.iter_mut().for_each(|client| client.send(&PINGREQ));
    let packet = publish(ALL, 200);
    others[0].send(&packet);
    node.tick();
    assert!(others.iter_mut().all(|client| client.has(2)));
    let reached = receivers
        .iter_mut()
        .filter_map(|client| client.has(packet.len()).then_some(()));
    let count = reached.count();
    assert!(count > CLIENTS / 2, "{count} in a tick with much else");
}

/// Those that always have more to be read do not keep another one from its turn.
#[test]
fn a_client_has_its_turn_beside_clients_that_always_send() {
    let mut node = Node::usual();
    let mut senders = node.clients("s", 3 * READS_PER_LOOK, None);
    let mut quiet = node.clients("q", 1, None).pop().unwrap();
    node.first().times.reading = Duration::ZERO;
    let packet = publish(ALL, 16_000);
    let mut sent = vec![0; senders.len()];
    let mut go_on = |node: &mut Node| {
        let each = senders.iter_mut().zip(&mut sent);
        each.for_each(|(sender, sent)| sender.send_always(&packet, sent));
        node.tick();
    };
    go_on(&mut node);
    quiet.send(&PINGREQ);
    // Each tick reads from a part of the senders.
    (0..3 * READS_PER_LOOK).for_each(|_| go_on(&mut node));
    assert!(quiet.has(2));
}

/// Thousands that answer a message for many do not keep another one waiting.
#[test]
fn answers_to_a_message_for_many_are_read_after_others() {
    let mut node = Node::usual();
    let mut receivers = node.clients("r", 4 * GROUP, Some(ALL));
    let mut others = node.clients("p", 2, None);
    let packet = publish(ALL, 200);
    others[0].send(&packet);
    node.tick_until(|_| receivers.iter_mut().all(|client| client.has(packet.len())));
    node.first().times.reading = Duration::ZERO;
    for receiver in &mut receivers {
        receiver.received.clear();
        receiver.send(&PINGREQ);
    }
    others[1].send(&PINGREQ);
    node.tick();
    assert!(others[1].has(2), "it does not wait for the receivers");
    assert!(receivers.iter_mut().any(|client| !client.has(2)));
    node.tick_until(|_| receivers.iter_mut().all(|client| client.has(2)));
}

#[test]
fn a_tick_stops_reading_when_its_time_is_over() {
    let mut node = Node::usual();
    let mut clients = node.clients("c", 3 * GROUP, None);
    node.first().times.reading = Duration::ZERO;
    clients.iter_mut().for_each(|client| client.send(&PINGREQ));
    let mut ticks = 0;
    while !clients.iter_mut().all(|client| client.has(2)) {
        let reads = node.in_a_tick(|stats| stats.reads);
        assert!(reads <= GROUP as u64, "{reads} reads in one tick");
        ticks += 1;
        assert!(ticks < TICKS_MAX);
    }
}

/// The sockets of a group share a buffer, and some of them fill it.
#[test]
fn sockets_that_are_read_in_a_group_keep_their_bytes_apart() {
    let mut node = Node::usual();
    let sent: [&[usize]; 6] = [
        &[10_000],
        &[200],
        &[15_000; 4],
        &[15_500; 4],
        &[16_000; 2],
        &[300],
    ];
    let mut clients = node.clients("g", sent.len(), Some(ALL));
    for (client, payloads) in clients.iter_mut().zip(sent) {
        let packets: Vec<Vec<u8>> = payloads.iter().map(|len| publish(ALL, *len)).collect();
        client.send(&packets.concat());
    }
    let all: usize = sent
        .concat()
        .iter()
        .map(|len| publish(ALL, *len).len())
        .sum();
    node.tick_until(|_| {
        let complete = clients
            .iter_mut()
            .filter_map(|client| client.has(all).then_some(()));
        complete.count() == sent.len()
    });
}

#[test]
fn connected_clients_do_not_wait_for_all_new_connections() {
    let short = WorkLimits {
        turn: 1,
        ..WorkLimits::default()
    };
    let mut node = Node::new(1, short, &[]);
    let mut newcomers = node.newcomers(CLIENTS);
    for (number, client) in newcomers.iter_mut().enumerate() {
        client.send(&connect(&format!("n{number:04}")));
    }
    let mut ticks = 0;
    while !newcomers.iter_mut().all(|client| client.has(4)) {
        let reads = node.in_a_tick(|stats| stats.reads);
        // The first of them is read before the turn is over.
        assert!(reads <= 17, "{reads} reads in one tick");
        ticks += 1;
        assert!(ticks < TICKS_MAX);
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
    let mut node = Node::new(1, WorkLimits::default(), &[listener]);
    let mut clients: Vec<UnixStream> = (0..CLIENTS)
        .map(|_| {
            let (own, other) = UnixStream::pair().unwrap();
            own.set_nonblocking(true).unwrap();
            node.first().socket_count.raise();
            node.first().open(Stream::unix(own), None, 0);
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
fn the_control_lane_ends_with_the_turn() {
    const COMMANDS: usize = 1_000;
    let mut node = Node::usual();
    node.tick();
    for request in 0..COMMANDS as u64 {
        let command = Control::Command(Command::Snapshot { request });
        node.mailboxes.control(ShardId(0), command);
    }
    let mut all = 0;
    while all < COMMANDS {
        node.tick();
        let some = node.reports.try_iter().count();
        // A step of each takes hundreds of units of work, of 16,384.
        assert!((1..100).contains(&some), "{some} in one tick");
        all += some;
    }
}

#[test]
fn a_tick_accepts_a_part_of_the_connections_that_wait() {
    const WAITING: usize = 3 * ACCEPTS_PER_TICK;
    let listener = tcp(None);
    let (bound, address) = listen::bind(&listener).unwrap();
    let mut node = Node::new(1, WorkLimits::default(), &[listener]);
    let descriptors = Descriptors::of_process();
    node.first()
        .open_door(vec![(bound, 0)], descriptors)
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

#[test]
fn connections_of_other_lobbies_are_let_in_until_the_turn_is_over() {
    let short = WorkLimits {
        turn: 1,
        ..WorkLimits::default()
    };
    let mut node = Node::new(2, short, &[]);
    let mut clients = node.newcomers(CLIENTS);
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&connect(&format!("m{number:04}")));
    }
    for _ in 0..CLIENTS {
        node.tick();
    }
    let moved = node.count(|stats| stats.moved) as usize;
    assert!(
        moved > CLIENTS / 4,
        "{moved} of {CLIENTS} live on the other"
    );
    while node.reactors[1].arrivals.len() < moved {
        node.tick_of(1);
    }
    let mut ticks = 0;
    while !clients.iter_mut().all(|client| client.has(4)) {
        let before = node.reactors[1].sockets.len();
        node.tick_of(1);
        let let_in = node.reactors[1].sockets.len() - before;
        assert!(let_in <= 1, "{let_in} in one tick");
        ticks += 1;
        assert!(ticks < TICKS_MAX);
    }
}

/// Ticks until the first reactor has no sockets left; each tick drops at least one and at most 128.
fn assert_sockets_are_dropped_over_ticks(node: &mut Node) {
    let mut left = node.first().sockets.len();
    while left > 0 {
        node.tick();
        let now = node.first().sockets.len();
        let dropped = left - now;
        assert!((1..=128).contains(&dropped), "{dropped} in one tick");
        left = now;
    }
}

#[test]
fn a_tick_drops_a_part_of_the_sockets_that_are_broken() {
    const BROKEN: usize = 400;
    let mut node = Node::usual();
    let _clients = node.clients("b", BROKEN, None);
    let reactor = node.first();
    for key in 0..BROKEN as SocketKey {
        let id = reactor.sockets.get(key).unwrap().id;
        reactor.broken.push_back((key, id));
    }
    assert_sockets_are_dropped_over_ticks(&mut node);
}

#[test]
fn a_tick_drops_a_part_of_the_sockets_whose_time_is_over() {
    const CLOSED: usize = 400;
    let mut node = Node::usual();
    let _clients = node.clients("o", CLOSED, None);
    let reactor = node.first();
    (0..CLOSED as SocketKey).for_each(|key| reactor.close(key));
    let deadlines = std::mem::take(&mut reactor.deadlines).into_iter();
    let over = deadlines.map(|Reverse(mut deadline)| {
        deadline.due_ms = 0;
        Reverse(deadline)
    });
    reactor.deadlines = over.collect();
    assert_sockets_are_dropped_over_ticks(&mut node);
}

#[test]
fn a_tick_takes_a_part_of_the_batches_that_wait() {
    const BATCHES: usize = 1_000;
    let mut node = Node::usual();
    for _ in 0..BATCHES {
        let batch = Batch {
            from: ShardId(0),
            at: Instant::now(),
            messages: Vec::new(),
        };
        node.mailboxes.send(ShardId(0), batch).unwrap();
    }
    let mut left = BATCHES;
    while left > 0 {
        node.tick();
        let now = node.first().mailbox.batch_count();
        assert!((1..=BATCHES_PER_TICK).contains(&(left - now)));
        left = now;
    }
}

#[test]
fn certificates_are_looked_at_again_over_ticks() {
    const SOCKETS: usize = 2 * RECHECK_PLACES_PER_TICK;
    let mut node = Node::usual();
    let _clients = node.newcomers(SOCKETS);
    node.tick();
    node.mailboxes
        .control(ShardId(0), Control::RecheckCertificates);
    let mut ticks = 0;
    node.tick();
    while node.first().next_recheck.is_some() {
        node.tick();
        ticks += 1;
    }
    assert_eq!(ticks, SOCKETS / RECHECK_PLACES_PER_TICK - 1);
}

/// The shortest of some ticks: the machine has other things to do.
fn shortest_tick(node: &mut Node, mut before: impl FnMut(&mut Node)) -> Duration {
    let ticks = (0..20).map(|_| {
        before(node);
        let began = Instant::now();
        node.tick();
        began.elapsed()
    });
    ticks.min().unwrap()
}

/// While messages for thousands go out, a reactor that was suspended rests after each tick, but
/// not while a client waits for something of its own.
#[test]
fn a_reactor_that_was_suspended_rests_unless_a_client_waits() {
    let mut node = Node::usual();
    let count = RESTS_FROM + 32;
    let _clients = node.clients("s", count + 2 * GROUP, None);
    // There is always more to be written last than a tick writes.
    node.first().times.writing_last = Duration::ZERO;
    let suspend = |node: &mut Node| {
        let reactor = node.first();
        (0..count as SocketKey).for_each(|key| reactor.sockets.write_last(key));
        let (now, ran) = (Instant::now(), time_run());
        reactor.contention.rested(now - REST * 10, ran);
        reactor.contention.should_rest(now, ran);
    };
    let rested = shortest_tick(&mut node, suspend);
    assert!(rested >= REST, "{rested:?}");
    // Some of the others are read from by a later tick.
    node.first().times.reading = Duration::ZERO;
    let waited = shortest_tick(&mut node, |node| {
        suspend(node);
        let reactor = node.first();
        let others = (count..count + 2 * GROUP).map(|key| key as SocketKey);
        reactor.sockets.read_first(&mut others.collect());
    });
    assert!(waited < REST, "{waited:?}");
}
