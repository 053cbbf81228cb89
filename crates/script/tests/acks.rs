//! A sequence of acknowledgements has the same effect as each of them alone.

use martlet_broker::{EventInterest, ListenerPolicy, Settings};
use martlet_script::{Harness, Wiring};

mod raw;

use raw::{CLEAN, connect, packet, subscribe, text};

/// Clean Session 0: the session outlives its connection.
const LASTING: u8 = 0x00;

/// A node that processes acknowledgements in sequences; or one by one, since each packet must be
/// reported.
fn node(one_by_one: bool) -> Harness {
    let settings = Settings {
        events: EventInterest {
            packets: one_by_one,
            ..EventInterest::default()
        },
        ..Settings::default()
    };
    Harness::new(settings, ListenerPolicy::default(), Wiring::default())
}

fn publish(topic: &str, qos: u8, id: u16) -> Vec<u8> {
    let body = [text(topic), id.to_be_bytes().to_vec(), b"x".to_vec()].concat();
    packet(0x30 | qos << 1, &body)
}

fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// Pseudo-random numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// Packets that a client sends at once: PUBACK, PUBREC, PUBREL and PUBCOMP for identifiers that may
/// or may not be in flight, with some PUBLISH and PINGREQ in between.
fn burst(numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + numbers.below(12) {
        let id = 1 + numbers.below(10) as u16;
        bytes.extend(match numbers.below(32) {
            0..12 => ack(0x50, id),
            12..20 => ack(0x62, id),
            20..22 => ack(0x70, id),
            22 => ack(0x40, id),
            23..28 => publish("to/others", 2, id),
            28..31 => publish("to/others", 1, id),
            _ => vec![0xc0, 0],
        });
    }
    bytes
}

/// Compares two nodes: what each client receives, whether it stays connected, and each counter. A
/// client that violates a rule reconnects.
fn compare(flags: u8, seed: u64) {
    let mut numbers = Numbers(seed);
    let mut nodes = [node(false), node(true)];
    let mut clients = nodes.each_mut().map(|node| {
        let clients = [connect(node, "a", flags), connect(node, "b", CLEAN)];
        subscribe(node, clients[0], "to/a", 2);
        subscribe(node, clients[1], "to/others", 2);
        clients
    });
    for round in 0..60 {
        let messages: Vec<u8> = (0..numbers.below(6))
            .flat_map(|number| publish("to/a", 2, (round * 8 + number) as u16 + 1))
            .collect();
        let burst = burst(&mut numbers);
        for (node, [a, b]) in nodes.iter_mut().zip(clients) {
            node.send(b, &messages);
            node.send(a, &burst);
        }
        let [left, right] = nodes.each_mut();
        let context = format!("seed {seed}, round {round}, {burst:02x?}");
        for (in_a_row, one_by_one) in clients[0].into_iter().zip(clients[1]) {
            assert_eq!(left.take(in_a_row), right.take(one_by_one), "{context}");
            let is_closed = left.is_closed(in_a_row);
            assert_eq!(is_closed, right.is_closed(one_by_one), "{context}");
        }
        if left.is_closed(clients[0][0]) {
            for (node, clients) in nodes.iter_mut().zip(&mut clients) {
                clients[0] = connect(node, "a", flags);
                subscribe(node, clients[0], "to/a", 2);
            }
        }
        let counters = nodes
            .each_mut()
            .map(|node| format!("{:?}", node.counters()));
        assert_eq!(counters[0], counters[1], "seed {seed}, round {round}");
    }
}

#[test]
fn a_session_that_ends_with_its_connection_is_acknowledged_in_a_row_as_one_by_one() {
    (0..200).for_each(|seed| compare(CLEAN, seed));
}

#[test]
fn a_lasting_session_is_acknowledged_in_a_row_as_one_by_one() {
    (0..200).for_each(|seed| compare(LASTING, seed));
}
