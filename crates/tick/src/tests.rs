//! Tests of the limits of a tick: a tick processes a part of what arrives at once, and later ticks
//! process the rest. Each test calls the ticks itself, and fails without the limit that it covers.

use std::sync::Arc;

use martlet_broker::{
    Command, ListenerPolicy, MessageId, Peer, Record, RecordNumber, Settings, ShardMessage,
    WorkLimits,
};

use super::*;
use crate::LocalNode;
use crate::input::{LAYERS_WORK_MAX, READS_PER_LOOK};
use crate::local::{Link, Parts, Wire, World};
use crate::outside::Mail as _;
use crate::read_sockets::GROUP;
use crate::time_limits::WRITING_LAST_PART;

/// Limit of ticks in which a node must finish the work of a test.
const TICKS_MAX: usize = 2_000;

/// A long time, for limits that a test does not examine.
const LONG: Duration = Duration::from_secs(60);

/// A store that keeps nothing.
struct Nothing(LocalNode);

impl Parts for Nothing {
    type Node = LocalNode;

    fn node(&self) -> &LocalNode {
        &self.0
    }

    fn append(
        &mut self,
        _: ShardId,
        _: &[Record],
        last: RecordNumber,
        _: Now,
    ) -> Option<RecordNumber> {
        Some(last)
    }
}

/// A node whose ticks are called by the test.
struct Node(World<Nothing>);

impl Node {
    fn new(shards: u16, work: WorkLimits) -> Self {
        let settings = Arc::new(Settings {
            work,
            ..Settings::default()
        });
        let states =
            (0..shards).map(|id| Shard::new(Arc::clone(&settings), ShardId(id), shards, 1));
        let now = Now {
            mono_ms: 1000,
            ..Now::default()
        };
        let mut world = World::new(Nothing(LocalNode::new(1, 0)), states.collect(), now);
        let (_, drivers) = world.lend();
        for driver in drivers {
            driver.times = TimeLimits {
                reading: LONG,
                writing: LONG,
                reading_last: LONG,
                writing_last: LONG,
                writing_last_part: u32::MAX,
            };
        }
        Self(world)
    }

    /// One shard with the default limits of a turn.
    fn usual() -> Self {
        Self::new(1, WorkLimits::default())
    }

    fn driver(&mut self, number: usize) -> &mut Driver<Wire> {
        &mut self.0.lend().1[number]
    }

    fn first(&mut self) -> &mut Driver<Wire> {
        self.driver(0)
    }

    /// Runs one tick of the first shard.
    fn tick(&mut self) {
        self.0.tick(0);
    }

    /// Returns how many reads and writes a tick of the first shard does.
    fn in_a_tick(&mut self) -> (u64, u64) {
        let (reads, writes) = self.0.reads_and_writes();
        self.tick();
        let (reads_now, writes_now) = self.0.reads_and_writes();
        (reads_now - reads, writes_now - writes)
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

    /// Opens connections that have sent nothing, in the lobby of the first shard.
    fn newcomers(&mut self, count: usize) -> Vec<Link> {
        self.newcomers_by(count, World::open)
    }

    fn newcomers_by(
        &mut self,
        count: usize,
        open: fn(&mut World<Nothing>, usize, Peer) -> Link,
    ) -> Vec<Link> {
        let newcomers = (0..count).map(|number| {
            let mut entropy = [0; 16];
            entropy[8..].copy_from_slice(&(number as u64).to_be_bytes());
            let peer = Peer {
                address: None,
                listener: Arc::<ListenerPolicy>::default(),
                entropy,
            };
            open(&mut self.0, 0, peer)
        });
        let newcomers: Vec<Link> = newcomers.collect();
        let mut opened = 0;
        while opened < newcomers.len() {
            self.tick();
            opened = newcomers
                .iter()
                .filter(|link| self.0.shard_of(**link).is_some())
                .count();
        }
        newcomers
    }

    /// Closes the first `count` sockets of the first shard, as the shard may request.
    fn close(&mut self, count: usize) {
        self.0.with_outside(0, |driver, outside| {
            (0..count as SocketKey).for_each(|key| driver.close(outside, key));
        });
    }

    fn send(&mut self, link: Link, bytes: &[u8]) {
        self.0.send(link, bytes);
    }

    /// Whether a client has received this number of bytes.
    fn has(&self, link: Link, length: usize) -> bool {
        self.0.received(link).len() >= length
    }

    fn have_all(&self, links: &[Link], length: usize) -> bool {
        links.iter().all(|link| self.has(*link, length))
    }

    /// Connects clients. Each subscribes to the topic equal to its Client Identifier, or all
    /// subscribe to `topic`.
    fn clients(&mut self, name: &str, count: usize, topic: Option<&str>) -> Vec<Link> {
        let clients = self.newcomers(count);
        for (number, client) in clients.iter().enumerate() {
            let client_id = format!("{name}{number:04}");
            self.send(*client, &connect(&client_id));
            let topic = topic.unwrap_or(&client_id).as_bytes();
            self.send(*client, &[b"\x82\x0a\0\x01\0\x05", topic, b"\0"].concat());
        }
        self.tick_until(|node| node.have_all(&clients, 9));
        for client in &clients {
            self.0.take(*client);
        }
        clients
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

/// Checks that output for these clients is written over several ticks, each limited in time.
fn writing_ends(node: &mut Node, receivers: &[Link], length: usize) {
    let mut ticks = 0;
    while !node.have_all(receivers, length) {
        let writes = node.in_a_tick().1;
        assert!(writes <= 8, "{writes} writes in one tick");
        ticks += 1;
        assert!(ticks < TICKS_MAX);
    }
}

/// Sends each client its own message.
fn writing_of_own_ends(payload: usize) {
    let mut node = Node::usual();
    let clients = node.clients("r", CLIENTS, None);
    node.first().times.writing = Duration::ZERO;
    for (number, client) in clients.iter().copied().enumerate() {
        node.send(client, &publish(&format!("r{number:04}"), payload));
    }
    let length = publish(ALL, payload).len();
    writing_ends(&mut node, &clients, length);
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
        let mut node = Node::new(1, work);
        let receivers = node.clients("r", CLIENTS, Some(ALL));
        let publisher = node.clients("p", 1, None).pop().unwrap();
        node.first().times.writing_last = Duration::ZERO;
        let packet = publish(ALL, 200);
        node.send(publisher, &packet);
        writing_ends(&mut node, &receivers, packet.len());
    }
}

/// With a message for many clients and an answer for one client, the answer is written first.
#[test]
fn an_answer_is_written_before_a_message_for_many() {
    let mut node = Node::usual();
    let receivers = node.clients("r", CLIENTS, Some(ALL));
    let others = node.clients("p", 2, None);
    let times = &mut node.first().times;
    (times.writing, times.writing_last) = (Duration::ZERO, Duration::ZERO);
    let packet = publish(ALL, 200);
    node.send(others[0], &packet);
    node.tick();
    assert!(!node.have_all(&receivers, 1));
    node.send(others[1], &PINGREQ);
    node.tick();
    assert!(node.has(others[1], 2), "it does not wait for the others");
    assert!(!node.have_all(&receivers, 1));
    node.tick_until(|node| node.have_all(&receivers, packet.len()));
}

/// The rest of a message for many clients is written, even with much output for other clients.
#[test]
fn a_message_for_many_has_a_part_of_the_time_for_writing() {
    const OTHERS: usize = 10 * CLIENTS;
    let mut node = Node::usual();
    let receivers = node.clients("r", CLIENTS, Some(ALL));
    let others = node.clients("p", OTHERS, None);
    let times = &mut node.first().times;
    (times.writing_last, times.writing_last_part) = (Duration::ZERO, WRITING_LAST_PART);
    others
        .iter()
        .for_each(|client| node.send(*client, &PINGREQ));
    let packet = publish(ALL, 200);
    node.send(others[0], &packet);
    node.tick();
    assert!(node.have_all(&others, 2));
    let reached = receivers
        .iter()
        .filter(|client| node.has(**client, packet.len()));
    let count = reached.count();
    assert!(count > CLIENTS / 2, "{count} in a tick with much else");
}

/// Clients that always have more to be read do not keep another client from its turn.
#[test]
fn a_client_has_its_turn_beside_clients_that_always_send() {
    let mut node = Node::usual();
    let senders = node.clients("s", 3 * READS_PER_LOOK, None);
    let quiet = node.clients("q", 1, None).pop().unwrap();
    node.first().times.reading = Duration::ZERO;
    let packet = publish(ALL, 16_000);
    let go_on = |node: &mut Node| {
        senders
            .iter()
            .for_each(|sender| node.send(*sender, &packet));
        node.tick();
    };
    go_on(&mut node);
    node.send(quiet, &PINGREQ);
    // Each tick reads from a part of the senders.
    (0..3 * READS_PER_LOOK).for_each(|_| go_on(&mut node));
    assert!(node.has(quiet, 2));
}

/// Clients whose bytes cost their layers much work, for example tiny frames, do not delay another
/// client.
#[test]
fn what_takes_the_layers_long_is_read_after_others() {
    let mut node = Node::usual();
    let senders = node.newcomers_by(4 * GROUP, World::open_layered);
    for (number, sender) in senders.iter().enumerate() {
        node.send(*sender, &connect(&format!("s{number:04}")));
    }
    node.tick_until(|node| node.have_all(&senders, 4));
    let quiet = node.clients("q", 1, None).pop().unwrap();
    let pings = PINGREQ.repeat(LAYERS_WORK_MAX as usize);
    let flood = |node: &mut Node| {
        for sender in &senders {
            node.0.take(*sender);
            node.send(*sender, &pings);
        }
    };
    flood(&mut node);
    node.tick_until(|node| node.have_all(&senders, pings.len()));
    node.first().times.reading = Duration::ZERO;
    flood(&mut node);
    node.send(quiet, &PINGREQ);
    node.tick();
    assert!(node.has(quiet, 2), "it does not wait for the senders");
    assert!(!node.have_all(&senders, 2));
    node.tick_until(|node| node.have_all(&senders, pings.len()));
}

/// Thousands of clients that answer a message for many do not delay another client.
#[test]
fn answers_to_a_message_for_many_are_read_after_others() {
    let mut node = Node::usual();
    let receivers = node.clients("r", 4 * GROUP, Some(ALL));
    let others = node.clients("p", 2, None);
    let packet = publish(ALL, 200);
    node.send(others[0], &packet);
    node.tick_until(|node| node.have_all(&receivers, packet.len()));
    node.first().times.reading = Duration::ZERO;
    for receiver in &receivers {
        node.0.take(*receiver);
        node.send(*receiver, &PINGREQ);
    }
    node.send(others[1], &PINGREQ);
    node.tick();
    assert!(node.has(others[1], 2), "it does not wait for the receivers");
    assert!(!node.have_all(&receivers, 2));
    node.tick_until(|node| node.have_all(&receivers, 2));
}

#[test]
fn a_tick_stops_reading_when_its_time_is_over() {
    let mut node = Node::usual();
    let clients = node.clients("c", 3 * GROUP, None);
    node.first().times.reading = Duration::ZERO;
    clients
        .iter()
        .for_each(|client| node.send(*client, &PINGREQ));
    let mut ticks = 0;
    while !node.have_all(&clients, 2) {
        let reads = node.in_a_tick().0;
        assert!(reads <= GROUP as u64, "{reads} reads in one tick");
        ticks += 1;
        assert!(ticks < TICKS_MAX);
    }
}

/// The sockets of a group share a read buffer, and some of them fill it.
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
    let clients = node.clients("g", sent.len(), Some(ALL));
    for (client, payloads) in clients.iter().zip(sent) {
        let packets: Vec<Vec<u8>> = payloads.iter().map(|len| publish(ALL, *len)).collect();
        node.send(*client, &packets.concat());
    }
    let all: usize = sent
        .concat()
        .iter()
        .map(|len| publish(ALL, *len).len())
        .sum();
    node.tick_until(|node| node.have_all(&clients, all));
}

#[test]
fn connected_clients_do_not_wait_for_all_new_connections() {
    let short = WorkLimits {
        turn: 1,
        ..WorkLimits::default()
    };
    let mut node = Node::new(1, short);
    let newcomers = node.newcomers(CLIENTS);
    for (number, client) in newcomers.iter().copied().enumerate() {
        node.send(client, &connect(&format!("n{number:04}")));
    }
    let mut ticks = 0;
    while !node.have_all(&newcomers, 4) {
        let reads = node.in_a_tick().0;
        // The first of these sockets is read before the turn is over.
        assert!(reads <= 17, "{reads} reads in one tick");
        ticks += 1;
        assert!(ticks < TICKS_MAX);
    }
}

#[test]
fn the_control_lane_ends_with_the_turn() {
    const COMMANDS: usize = 1_000;
    let mut node = Node::usual();
    node.tick();
    for request in 0..COMMANDS as u64 {
        let command = Control::Command(Command::Snapshot { request });
        node.0.control(0, command);
    }
    let mut all = 0;
    while all < COMMANDS {
        node.tick();
        let some = node.0.take_reports().len();
        // One step of each client takes hundreds of the 16,384 units of work.
        assert!((1..100).contains(&some), "{some} in one tick");
        all += some;
    }
}

#[test]
fn connections_of_other_lobbies_are_let_in_until_the_turn_is_over() {
    let short = WorkLimits {
        turn: 1,
        ..WorkLimits::default()
    };
    let mut node = Node::new(2, short);
    let clients = node.newcomers(CLIENTS);
    for (number, client) in clients.iter().copied().enumerate() {
        node.send(client, &connect(&format!("m{number:04}")));
    }
    for _ in 0..CLIENTS {
        node.tick();
    }
    let moved = CLIENTS - node.first().sockets.len();
    assert!(
        moved > CLIENTS / 4,
        "{moved} of {CLIENTS} live on the other"
    );
    while node.driver(1).arrivals.len() < moved {
        node.0.tick(1);
    }
    let mut ticks = 0;
    while !node.have_all(&clients, 4) {
        let before = node.driver(1).sockets.len();
        node.0.tick(1);
        let let_in = node.driver(1).sockets.len() - before;
        assert!(let_in <= 1, "{let_in} in one tick");
        ticks += 1;
        assert!(ticks < TICKS_MAX);
    }
}

/// Runs ticks until the first shard has no sockets left. Each tick drops 1 to 128 sockets.
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
    let driver = node.first();
    for key in 0..BROKEN as SocketKey {
        let id = driver.sockets.get(key).unwrap().id;
        driver.broken.push_back((key, id));
    }
    assert_sockets_are_dropped_over_ticks(&mut node);
}

#[test]
fn a_tick_drops_a_part_of_the_sockets_whose_time_is_over() {
    const CLOSED: usize = 400;
    let mut node = Node::usual();
    let clients = node.clients("o", CLOSED, None);
    clients.iter().for_each(|client| node.0.hang(*client));
    node.close(CLOSED);
    let driver = node.first();
    let deadlines = std::mem::take(&mut driver.deadlines).into_iter();
    let over = deadlines.map(|Reverse(mut deadline)| {
        deadline.due_ms = 0;
        Reverse(deadline)
    });
    driver.deadlines = over.collect();
    assert_sockets_are_dropped_over_ticks(&mut node);
}

#[test]
fn a_tick_takes_a_part_of_the_batches_that_wait() {
    const BATCHES: usize = 1_000;
    let mut node = Node::usual();
    for _ in 0..BATCHES {
        node.0.mail(0, ShardId(0), Vec::new());
    }
    let mut left = BATCHES;
    while left > 0 {
        node.tick();
        let now = node.0.batch_count(0);
        assert!((1..=BATCHES_PER_TICK).contains(&(left - now)));
        left = now;
    }
}

/// A shard's outbox, and the mailbox that receives its batches.
struct Pair {
    outbox: Outbox,
    world: World<Nothing>,
}

const TO: usize = 1;

fn pair(capacity: usize, batch_messages: usize) -> Pair {
    let Node(mut world) = Node::new(2, WorkLimits::default());
    world.limit_mailboxes(capacity);
    Pair {
        outbox: Outbox::new(ShardId(0), 2, batch_messages),
        world,
    }
}

impl Pair {
    fn send(&mut self, numbers: std::ops::Range<u64>) {
        let message = |number| ShardMessage::Routed(MessageId(number));
        let mut messages: Vec<ShardMessage> = numbers.map(message).collect();
        let (outbox, to) = (&mut self.outbox, ShardId(TO as u16));
        self.world.with_outside(0, |_, outside| {
            outbox.send(outside, to, Duration::ZERO, &mut messages);
        });
        assert!(messages.is_empty());
    }

    fn retry(&mut self) {
        let outbox = &mut self.outbox;
        self.world
            .with_outside(0, |_, outside| outbox.retry(outside));
    }

    /// Numbers of the messages of the next batch.
    fn receive(&mut self) -> Option<Vec<u64>> {
        let mut batch = None;
        self.world
            .with_outside(TO, |_, outside| batch = outside.next_batch());
        let number = |message: &ShardMessage| match message {
            ShardMessage::Routed(id) => id.0,
            other => panic!("not sent: {other:?}"),
        };
        Some(batch?.messages.iter().map(number).collect())
    }
}

#[test]
fn what_a_full_mailbox_does_not_take_waits_and_keeps_its_order() {
    let mut pair = pair(2, 4);
    for number in 0..20 {
        pair.send(number..number + 1);
    }
    assert!(pair.outbox.is_congested());
    let mut got = Vec::new();
    while let Some(batch) = pair.receive() {
        assert!(batch.len() <= 4);
        got.extend(batch);
        pair.retry();
    }
    assert_eq!(got, (0..20).collect::<Vec<u64>>());
    assert!(!pair.outbox.is_congested());
}

#[test]
fn new_messages_do_not_overtake_waiting_ones() {
    let mut pair = pair(1, 1);
    pair.send(0..3);
    assert_eq!(pair.receive(), Some(vec![0]));
    pair.send(3..4);
    assert_eq!(
        pair.receive(),
        None,
        "room is used by retry, for the oldest"
    );
    pair.retry();
    assert_eq!(pair.receive(), Some(vec![1]));
}

#[test]
fn a_large_tick_is_sent_in_batches_of_bounded_size() {
    let mut pair = pair(100, 8);
    pair.send(0..20);
    let sizes: Vec<usize> = std::iter::from_fn(|| pair.receive())
        .map(|batch| batch.len())
        .collect();
    assert_eq!(sizes, [8, 8, 4]);
}

#[test]
fn certificates_are_looked_at_again_over_ticks() {
    const SOCKETS: usize = 2 * RECHECK_PLACES_PER_TICK;
    let mut node = Node::usual();
    let _clients = node.newcomers(SOCKETS);
    node.tick();
    node.0.control(0, Control::RecheckCertificates);
    let mut ticks = 0;
    node.tick();
    while node.first().next_recheck.is_some() {
        node.tick();
        ticks += 1;
    }
    assert_eq!(ticks, SOCKETS / RECHECK_PLACES_PER_TICK - 1);
}
