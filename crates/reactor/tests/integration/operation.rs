//! Tests of operation: commands, reports, events; and that the node's accounts are correct after
//! misbehaving clients have disconnected.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use martlet_broker::{
    Answer, Command, Counters, Event, EventInterest, Limits, ListenerPolicy, Settings, ShardId,
    SysTopic, TenantId,
};
use martlet_codec::ReasonCode;

/// The sum of the counters of all shards, each of which must balance.
fn counters(node: &Node) -> Counters {
    let reports = node.running.reports();
    let mut sum = Counters::default();
    for shard in 0..node.running.shard_count() {
        let request = u64::from(shard) + 100;
        node.running
            .command(ShardId(shard), Command::Snapshot { request });
        let report = reports.recv_timeout(PATIENCE).unwrap();
        assert_eq!(report.request, request);
        match report.answer {
            Answer::Snapshot(counters) => {
                assert!(counters.balanced(), "shard {shard}: {counters:?}");
                sum.add(&counters);
            }
            other => panic!("not asked for: {other:?}"),
        }
    }
    sum
}

#[test]
fn commands_reach_their_shard_and_are_answered() {
    let node = node(3);
    let mut clients: Vec<Client> = (0..9)
        .map(|number| node.tcp().connect(&format!("client-{number}")))
        .collect();
    assert_eq!(counters(&node).connections, 9);
    for shard in 0..3 {
        let (tenant, client_id) = (TenantId(0), "client-4".to_owned());
        let reason = ReasonCode::AdministrativeAction;
        node.running.command(
            ShardId(shard),
            Command::Disconnect {
                request: u64::from(shard),
                tenant,
                client_id,
                reason,
            },
        );
    }
    clients[4].expect_closed();
    let reports = node.running.reports();
    let mut found = 0;
    for _ in 0..3 {
        let report = reports.recv_timeout(PATIENCE).unwrap();
        found += u32::from(matches!(report.answer, Answer::Disconnect(true)));
    }
    assert_eq!(found, 1, "it lives on one shard");
    await_that("the session is gone", || counters(&node).connections == 8);
}

#[test]
fn statistics_published_on_one_shard_reach_subscribers_on_all() {
    let node = node(3);
    let mut clients: Vec<Client> = (0..9)
        .map(|number| {
            let mut client = node.tcp().connect(&format!("client-{number}"));
            client.subscribe("$SYS/#", 0);
            client
        })
        .collect();
    let topic = SysTopic {
        topic: "$SYS/broker/uptime".into(),
        payload: "1".into(),
    };
    node.running
        .command(ShardId(1), Command::PublishSys(vec![topic]));
    for client in &mut clients {
        client.expect(&publish("$SYS/broker/uptime", b"1"));
    }
}

/// A client of the node itself, whose bytes this process carries.
fn attached(node: &Node) -> Client {
    let own = Arc::new(ListenerPolicy::own(TenantId(0)));
    let socket = node.running.carry(own, None).unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    Client::over(Box::new(socket))
}

#[test]
fn parts_of_the_node_are_clients_that_no_limit_of_connections_keeps_out() {
    let settings = Settings {
        events: EventInterest {
            connections: true,
            ..EventInterest::default()
        },
        limits: Limits {
            connections: 1,
            connect_rate: 1,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let node = run(config(3, settings));
    let mut device = node.tcp().connect("device");
    device.subscribe("ask/#", 0);
    for number in 0..9 {
        let mut part = attached(&node).connect(&format!("$part/{number}"));
        part.subscribe("answer/#", 0);
        part.send(&publish("ask/it", b"?"));
        device.expect(&publish("ask/it", b"?"));
        device.send(&publish("answer/it", b"!"));
        part.expect(&publish("answer/it", b"!"));
        part.send(&[0xE0, 0]);
        part.expect_closed();
    }
    node.await_connections(1);
    // No other client has such a name, and this client gets no other.
    let mut named = attached(&node);
    named.send(&connect("device", 0x02, None));
    named.expect(&[0x20, 2, 0, 2]);
    drop(device);
    let events = node.running.events();
    for expected in ["device connected", "refused", "device disconnected"] {
        let told = events.recv_timeout(PATIENCE).unwrap();
        let client_id = &told.head.client_id;
        let got = match &told.event {
            Event::Connected(_) => format!("{client_id} connected"),
            Event::Disconnected { .. } => format!("{client_id} disconnected"),
            Event::Refused { .. } => "refused".to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(got, expected, "parts of the node come and go untold");
    }
}

#[test]
fn events_are_handed_on_and_those_nobody_takes_are_counted() {
    let settings = Settings {
        events: EventInterest {
            connections: true,
            drops: false,
            ..EventInterest::default()
        },
        ..Settings::default()
    };
    let mut config = config(1, settings);
    config.event_capacity = 2;
    let node = run(config);
    let events = node.running.events();
    let _client = node.tcp().connect("seen");
    match events.recv_timeout(PATIENCE).unwrap().event {
        Event::Connected(client) => {
            assert_eq!(&*client.client_id, "seen");
            assert_eq!(client.address.unwrap().0.to_string(), "127.0.0.1");
        }
        other => panic!("{other:?}"),
    }
    let _clients: Vec<Client> = (0..5)
        .map(|number| node.tcp().connect(&format!("unseen-{number}")))
        .collect();
    await_that("events are dropped", || {
        node.running.stats().events_dropped == 3
    });
}

/// A small pseudo-random generator: the test must be reproducible.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }
}

/// Connects, subscribes, publishes and disconnects in one of many ways. T19.
fn misbehave(node: &Node, name: &str, dice: &mut Dice) {
    let mut client = if dice.below(3) == 0 {
        node.web()
    } else {
        node.tcp()
    };
    let will = (dice.below(2) == 0).then_some(("chaos/will", "gone"));
    let hello = connect(name, if dice.below(2) == 0 { 0x02 } else { 0 }, will);
    let whole = [
        hello,
        subscribe("chaos/+", dice.below(2) as u8),
        publish("chaos/0", &vec![b'x'; dice.below(20_000)]),
        publish_qos1("chaos/1", 9, b"one"),
    ]
    .concat();
    let sent = if dice.below(3) == 0 {
        dice.below(whole.len())
    } else {
        whole.len()
    };
    for part in whole[..sent].chunks(1 + dice.below(whole.len())) {
        if !client.try_send(part) {
            return;
        }
    }
    if sent == whole.len() && dice.below(2) == 0 {
        // CONNACK, unless another client has taken over the session meanwhile.
        let _ = client.packet();
    }
    match dice.below(6) {
        0 => {
            socket2::SockRef::from(client.stream())
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        1 => {
            let _ = client.stream().shutdown(Shutdown::Write);
        }
        2 => {
            let _ = client.stream().write_all(&vec![0xF0; dice.below(100_000)]);
        }
        3 => {
            client.try_send(&DISCONNECT);
        }
        4 => {
            client.try_send(&[&DISCONNECT[..], &[0xFF; 50_000]].concat());
        }
        _ => {}
    }
}

#[test]
fn accounts_balance_after_clients_of_every_bad_habit() {
    for threads in [1, 3] {
        let node = node(threads);
        let mut steady = node.tcp().connect("steady");
        steady.subscribe("steady/+", 1);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let node = &node;
                scope.spawn(move || {
                    let mut dice = Dice(thread + 1);
                    for number in 0..400 {
                        let name = match dice.below(4) {
                            0 => "shared".to_owned(),
                            _ => format!("chaos-{thread}-{}", number % 30),
                        };
                        misbehave(node, &name, &mut dice);
                    }
                });
            }
            for number in 0..200u16 {
                steady.send(&publish_qos1("steady/x", number + 1, &number.to_be_bytes()));
                let (mut acknowledged, mut got) = (false, false);
                while !(acknowledged && got) {
                    let packet = steady.packet().expect("the steady client is left in peace");
                    if packet[0] == 0x40 {
                        acknowledged = true;
                    } else {
                        let at = packet.len() - 2;
                        assert_eq!(packet[at..], number.to_be_bytes());
                        steady.send(&[0x40, 2, packet[at - 2], packet[at - 1]]);
                        got = true;
                    }
                }
            }
        });
        node.await_connections(1);
        let sum = counters(&node);
        assert_eq!((sum.connections, sum.lobby_connections), (1, 0));
        // All kinds of failures occurred.
        assert!(sum.connects_accepted > 500, "{sum:?}");
        assert!(sum.connects_refused > 0, "{sum:?}");
        assert!(sum.sessions_taken_over > 0, "{sum:?}");
        assert!(sum.protocol_errors > 50, "{sum:?}");
        assert!(sum.wills_sent > 50, "{sum:?}");
        assert!(sum.dropped_total() > 0, "{sum:?}");
    }
}
