//! Tests of what a listener accepts: by socket, address, number and rate.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{
    Client, Node, PATIENCE, PINGREQ, PINGRESP, config, connect, publish, publish_qos1,
};
use martlet_broker::{Event, EventInterest, Limits, RateExceeded, Settings};
use martlet_codec::ReasonCode;
use martlet_reactor::{ListenAddress, ListenerConfig, ReactorConfig};

fn with_events(limits: Limits) -> Settings {
    Settings {
        limits,
        events: EventInterest {
            connections: true,
            drops: true,
            ..EventInterest::default()
        },
        ..Settings::default()
    }
}

/// A node with a change to its first listener, for MQTT over TCP.
fn with(settings: Settings, change: impl FnOnce(&mut ListenerConfig)) -> Node {
    let mut config: ReactorConfig = config(1, settings);
    change(&mut config.listeners[0]);
    crate::common::run(config)
}

/// The cause of the next refusal, and the address in its event.
fn refused(node: &Node) -> (String, Option<String>) {
    let events = node.running.events();
    loop {
        let told = events.recv_timeout(PATIENCE).unwrap();
        if let Event::Refused { why, .. } = told.event {
            return (
                why.into_detail().into_owned(),
                told.head.ip().map(|ip| ip.to_string()),
            );
        }
    }
}

fn connected_from(node: &Node) -> String {
    let events = node.running.events();
    loop {
        if let Event::Connected(client) = events.recv_timeout(PATIENCE).unwrap().event {
            return client
                .address
                .map_or("here".to_owned(), |(ip, port)| format!("{ip}:{port}"));
        }
    }
}

const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

#[test]
fn a_unix_socket_carries_mqtt_and_its_clients_have_no_address() {
    let path = std::env::temp_dir().join(format!("martlet-doors-{}", std::process::id()));
    let mut config = config(2, with_events(Limits::default()));
    config.listeners[0].address = ListenAddress::Unix {
        path: path.clone(),
        mode: 0o600,
    };
    let running = martlet_reactor::start(config).unwrap();
    let mut clients = Vec::new();
    for name in ["one", "two", "three", "four"] {
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(&connect(name, 0x02, None)).unwrap();
        client.write_all(&PINGREQ).unwrap();
        let mut answers = [0; 6];
        client.read_exact(&mut answers).unwrap();
        assert_eq!(answers, [0x20, 2, 0, 0, 0xD0, 0]);
        let event = running.events().recv_timeout(PATIENCE).unwrap().event;
        let Event::Connected(connected) = event else {
            panic!("{event:?}");
        };
        assert_eq!(connected.address, None);
        clients.push(client);
    }
    assert!(running.shutdown(Duration::from_secs(5)));
    assert!(!path.exists(), "the file goes with the node");
}

#[test]
fn a_proxy_that_is_trusted_says_where_clients_come_from() {
    let node = with(with_events(Limits::default()), |listener| {
        listener.proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let mut client = node.tcp();
    client.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 1883\r\n");
    client.send(&connect("c", 0x02, None));
    client.expect(&CONNACK);
    assert_eq!(connected_from(&node), "192.0.2.7:40000");
    // In one piece with the CONNECT, and byte by byte.
    let mut client = node.tcp();
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x08".to_vec();
    bytes.extend([127, 0, 0, 1, 0x9C, 0x41, 0x07, 0x5B]);
    bytes.extend(connect("d", 0x02, None));
    bytes.iter().for_each(|byte| client.send(&[*byte]));
    client.expect(&CONNACK);
    assert_eq!(connected_from(&node), "192.0.2.8:40001");
    // Without a header no client is accepted.
    let mut client = node.tcp();
    client.send(&connect("e", 0x02, None));
    client.expect_closed();
    assert!(
        refused(&node)
            .0
            .contains("did not begin with a PROXY header")
    );
}

#[test]
fn nobody_else_is_believed_where_they_come_from() {
    let node = with(with_events(Limits::default()), |listener| {
        listener.proxies = vec!["192.0.2.0/24".parse().unwrap()];
    });
    let mut client = node.tcp();
    // The connection may have been closed before this is written.
    let _ = client.try_send(b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 1883\r\n");
    client.expect_closed();
    let (why, from) = refused(&node);
    assert!(why.contains("not one of them"), "{why}");
    assert_eq!(from.as_deref(), Some("127.0.0.1"));
}

#[test]
fn a_listener_has_so_many_places_and_each_is_free_again_when_its_client_goes() {
    let limits = Limits {
        connect_timeout_secs: 2 * PATIENCE.as_secs() as u32,
        ..Limits::default()
    };
    let node = with(with_events(limits), |listener| {
        Arc::make_mut(&mut listener.policy).connections_max = 2;
    });
    let one = node.tcp().connect("one");
    let _two = node.tcp().connect("two");
    let mut three = node.tcp();
    three.send(&connect("three", 0x02, None));
    three.expect(&[0x20, 2, 0, 3]);
    assert!(refused(&node).0.contains("max_connections"));
    // A connected client takes over its own place; another listener has separate places.
    let _two = node.tcp().connect("two");
    let mut web = node.web();
    web.send(&connect("web", 0x02, None));
    web.expect(&CONNACK);
    drop(one);
    let begin = Instant::now();
    loop {
        let mut four = node.tcp();
        four.send(&connect("four", 0x02, None));
        if four.packet().as_deref() == Some(&CONNACK) {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "the place is never free again");
    }
}

#[test]
fn beyond_its_rate_a_listener_lets_connections_wait() {
    let node = with(Settings::default(), |listener| listener.accept_rate = 5);
    let begin = Instant::now();
    let clients: Vec<Client> = (0..12)
        .map(|number| node.tcp().connect(&format!("c{number}")))
        .collect();
    assert_eq!(clients.len(), 12);
    assert!(
        begin.elapsed() > Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn an_address_may_connect_so_often_in_a_minute() {
    let limits = Limits {
        connect_rate_per_address: 3,
        ..Limits::default()
    };
    let node = with(with_events(limits), |_| {});
    let mut accepted = 0;
    // A minute may end meanwhile.
    for number in 0..8 {
        let mut client = node.tcp();
        client.send(&connect(&format!("c{number}"), 0x02, None));
        accepted += usize::from(client.packet().as_deref() == Some(&CONNACK));
    }
    assert!((3..=6).contains(&accepted), "{accepted}");
    assert!(refused(&node).0.contains("connect_rate_per_address"));
}

fn rate_limited(exceeded: RateExceeded) -> Node {
    let limits = Limits {
        publish_rate: 100,
        ..Limits::default()
    };
    let settings = Settings {
        rate_exceeded: exceeded,
        ..with_events(limits)
    };
    with(settings, |_| {})
}

#[test]
fn who_publishes_too_fast_is_read_later_and_loses_nothing() {
    let node = rate_limited(RateExceeded::Delay);
    let mut subscriber = node.tcp().connect("subscriber");
    subscriber.subscribe("t", 0);
    let mut publisher = node.tcp().connect("publisher");
    let begin = Instant::now();
    for number in 0..200_u8 {
        publisher.send(&publish("t", &[number]));
    }
    // It does not affect other clients, nor this client's pings.
    publisher.send(&PINGREQ);
    publisher.expect(&PINGRESP);
    for number in 0..200_u8 {
        subscriber.expect(&publish("t", &[number]));
    }
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(900), "{took:?}");
}

#[test]
fn who_publishes_too_fast_with_qos_0_may_have_it_dropped_and_told() {
    let node = rate_limited(RateExceeded::DropQos0);
    let mut publisher = node.tcp().connect("publisher");
    for number in 0..200_u8 {
        publisher.send(&publish("t", &[number]));
    }
    let events = node.running.events();
    let dropped = || match events.recv_timeout(PATIENCE).unwrap().event {
        Event::RateExceeded { topic, count, .. } => Some((topic, count)),
        _ => None,
    };
    // All of them in one event, except those that the rate permits meanwhile.
    let (topic, count) = std::iter::repeat_with(dropped).flatten().next().unwrap();
    assert!(
        &*topic == "t" && (50..200).contains(&count),
        "{topic} {count}"
    );
    // Messages that must be acknowledged wait.
    publisher.send(&publish_qos1("t", 7, b"x"));
    publisher.expect(&[0x40, 2, 0, 7]);
}

#[test]
fn who_publishes_too_fast_may_be_shown_out() {
    let node = rate_limited(RateExceeded::Disconnect);
    let mut publisher = node.tcp().connect("publisher");
    let mut packets = Vec::new();
    (0..200_u8).for_each(|number| packets.extend(publish("t", &[number])));
    publisher.send(&packets);
    publisher.expect_closed();
    let events = node.running.events();
    let ended = || match events.recv_timeout(PATIENCE).unwrap().event {
        Event::Disconnected { reason, .. } => Some(reason),
        _ => None,
    };
    let reason = std::iter::repeat_with(ended).flatten().next().unwrap();
    assert_eq!(reason, ReasonCode::MessageRateTooHigh);
}

#[test]
fn a_listener_may_give_less_time_for_the_connect() {
    let limits = Limits {
        connect_timeout_secs: 2 * PATIENCE.as_secs() as u32,
        ..Limits::default()
    };
    let node = with(with_events(limits), |listener| {
        Arc::make_mut(&mut listener.policy).connect_timeout_secs = 1;
    });
    let mut silent = TcpStream::connect(node.tcp).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);
}
