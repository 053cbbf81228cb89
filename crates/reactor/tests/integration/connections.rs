//! Tests of connections over TCP: delivery within and across shards, slow and broken peers, the
//! ends of connections, limits of the node.

use std::io::Read;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::common::*;
use martlet_broker::Settings;
use martlet_reactor::{DelayedStore, StartError, start};

// TCP is a transport that fulfils the requirements [MQTT-4.2.0-1].
#[test]
fn a_message_reaches_its_subscribers_on_all_shards() {
    for threads in [1, 2, 4] {
        let node = node(threads);
        // With near certainty, sixteen clients have sessions on more than one shard.
        let mut subscribers: Vec<Client> = (0..16)
            .map(|number| {
                let mut client = node.tcp().connect(&format!("subscriber-{number}"));
                client.subscribe("room/+", (number % 2) as u8);
                client
            })
            .collect();
        for number in 0..8 {
            let mut publisher = node.tcp().connect(&format!("publisher-{number}"));
            publisher.send(&publish("room/1", b"warm"));
            publisher.send(&publish_qos1("room/2", 7, b"cold"));
            publisher.expect(&[0x40, 2, 0, 7]);
        }
        for (number, client) in subscribers.iter_mut().enumerate() {
            for _ in 0..8 {
                client.expect(&publish("room/1", b"warm"));
                let got = client.packet().unwrap();
                if number % 2 == 1 {
                    let packet_id = u16::from_be_bytes([got[10], got[11]]);
                    assert_eq!(got, publish_qos1("room/2", packet_id, b"cold"));
                    client.send(&[0x40, 2, got[10], got[11]]);
                } else {
                    assert_eq!(got, publish("room/2", b"cold"));
                }
            }
        }
        if threads > 1 {
            assert!(
                node.running.stats().moved > 0,
                "sessions live where their hash says"
            );
        }
    }
}

// No other event would make the reactor continue.
#[test]
fn one_message_reaches_more_clients_than_are_written_to_at_once() {
    let node = node(1);
    let mut subscribers: Vec<Client> = (0..300)
        .map(|number| {
            let mut client = node.tcp().connect(&format!("subscriber-{number}"));
            client.subscribe("room/1", 0);
            client
        })
        .collect();
    let mut publisher = node.tcp().connect("publisher");
    for payload in [b"first", b"other"] {
        publisher.send(&publish("room/1", payload));
        for client in &mut subscribers {
            client.expect(&publish("room/1", payload));
        }
    }
}

#[test]
fn packets_right_behind_connect_are_worked_off_after_the_move_to_another_shard() {
    let node = node(4);
    for number in 0..32 {
        let mut client = node.tcp();
        let id = format!("eager-{number}");
        client.send(
            &[
                connect(&id, 0x02, None),
                subscribe(&id, 0),
                publish(&id, b"x"),
                PINGREQ.to_vec(),
            ]
            .concat(),
        );
        client.expect(&[0x20, 2, 0, 0]);
        client.expect(&[0x90, 3, 0, 1, 0]);
        client.expect(&publish(&id, b"x"));
        client.expect(&PINGRESP);
    }
}

#[test]
fn a_packet_may_come_byte_by_byte() {
    let node = node(2);
    let mut client = node.tcp();
    let all = [
        connect("drip", 0x02, None),
        subscribe("a", 0),
        publish("a", b"payload"),
    ]
    .concat();
    for byte in all {
        client.send(&[byte]);
    }
    client.expect(&[0x20, 2, 0, 0]);
    client.expect(&[0x90, 3, 0, 1, 0]);
    client.expect(&publish("a", b"payload"));
}

#[test]
fn of_two_connections_with_one_client_identifier_the_later_stays() {
    let node = node(2);
    let mut first = node.tcp().connect("same");
    let mut second = node.tcp().connect("same");
    first.expect_closed();
    second.send(&PINGREQ);
    second.expect(&PINGRESP);
}

#[test]
fn a_slow_reader_gets_everything_in_order_once_it_reads() {
    const COUNT: u32 = 1500;
    const PAYLOAD_LEN: usize = 16 * 1024;
    let node = node(2);
    let mut reader = node.tcp().connect("slow");
    reader.subscribe("bulk", 1);
    let mut writer = node.tcp().connect("fast");
    let mut payload = vec![0x55; PAYLOAD_LEN];
    for number in 0..COUNT {
        payload[..4].copy_from_slice(&number.to_be_bytes());
        writer.send(&publish_qos1(
            "bulk",
            1 + (number % 60_000) as u16,
            &payload,
        ));
        writer.packet().expect("PUBACK");
    }
    for number in 0..COUNT {
        let got = reader.packet().unwrap();
        let at = got.len() - PAYLOAD_LEN;
        assert_eq!(got[at..at + 4], number.to_be_bytes(), "message {number}");
        reader.send(&[0x40, 2, got[at - 2], got[at - 1]]);
    }
    reader.send(&PINGREQ);
    reader.expect(&PINGRESP);
}

#[test]
fn full_mailboxes_between_shards_lose_and_reorder_nothing() {
    const COUNT: u32 = 20_000;
    let mut config = config(4, Settings::default());
    config.mailbox_batches = 1;
    config.batch_messages = 2;
    let node = run(config);
    let mut readers: Vec<Client> = (0..6)
        .map(|number| {
            let mut client = node.tcp().connect(&format!("reader-{number}"));
            client.subscribe("flood", 1);
            client
        })
        .collect();
    let mut writer = node.tcp().connect("writer");
    let writing = std::thread::spawn(move || {
        for first in (0..COUNT).step_by(100) {
            let numbers = first..first + 100;
            let all: Vec<u8> = numbers
                .flat_map(|n| publish_qos1("flood", 1 + (n % 100) as u16, &n.to_be_bytes()))
                .collect();
            writer.send(&all);
            for _ in 0..100 {
                writer.packet().expect("PUBACK");
            }
        }
    });
    for number in 0..COUNT {
        for reader in &mut readers {
            let got = reader.packet().expect("PUBLISH");
            let at = got.len() - 4;
            assert_eq!(got[at..], number.to_be_bytes());
            reader.send(&[0x40, 2, got[at - 2], got[at - 1]]);
        }
    }
    writing.join().unwrap();
}

#[test]
fn connect_must_be_whole_before_its_deadline_however_it_drips() {
    let mut settings = Settings::default();
    settings.limits.connect_timeout_secs = 1;
    let node = run(config(2, settings));
    let begin = Instant::now();
    let mut dripping = node.tcp();
    let mut silent = node.tcp();
    let packet = connect(&"x".repeat(200), 0x02, None);
    for byte in packet {
        if !dripping.try_send(&[byte]) {
            break;
        }
        // This test is about slow byte-by-byte input.
        std::thread::sleep(Duration::from_millis(50));
    }
    dripping.expect_closed();
    silent.expect_closed();
    assert!(begin.elapsed() >= Duration::from_millis(900));
    node.await_connections(0);
}

#[test]
fn a_reset_is_a_lost_connection_and_its_will_is_sent() {
    let node = node(2);
    let mut watcher = node.tcp().connect("watcher");
    watcher.subscribe("will/+", 0);
    let mut doomed = node.tcp();
    doomed.send(&connect("doomed", 0x02, Some(("will/reset", "gone"))));
    doomed.expect(&[0x20, 2, 0, 0]);
    socket2::SockRef::from(doomed.stream())
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(doomed);
    watcher.expect(&publish("will/reset", b"gone"));

    let mut ended = node.tcp();
    ended.send(&connect("ended", 0x02, Some(("will/end", "gone"))));
    ended.expect(&[0x20, 2, 0, 0]);
    drop(ended);
    watcher.expect(&publish("will/end", b"gone"));
    node.await_connections(1);
}

#[test]
fn disconnect_right_before_the_end_of_the_stream_keeps_the_will_back() {
    let node = node(2);
    let mut watcher = node.tcp().connect("watcher");
    watcher.subscribe("#", 0);
    for number in 0..20 {
        let mut client = node.tcp();
        client.send(&connect(
            &format!("orderly-{number}"),
            0x02,
            Some(("will", "gone")),
        ));
        client.expect(&[0x20, 2, 0, 0]);
        client.send(&[publish("last", b"word"), DISCONNECT.to_vec()].concat());
        drop(client);
        watcher.expect(&publish("last", b"word"));
    }
    watcher.send(&PINGREQ);
    watcher.expect(&PINGRESP);
}

#[test]
#[cfg(target_os = "linux")]
fn what_a_client_sent_before_it_reset_the_connection_still_counts() {
    const COUNT: usize = 300;
    let node = node(3);
    let mut watcher = node.tcp().connect("watcher");
    watcher.subscribe("#", 0);
    for number in 0..COUNT {
        let mut client = node.tcp();
        let hello = connect(&format!("hasty-{number}"), 0x02, Some(("will", "gone")));
        if number % 2 == 0 {
            client.send(&[hello, publish("last", b"word"), DISCONNECT.to_vec()].concat());
        } else {
            client.send(&hello);
            client.send(&[publish("last", b"word"), DISCONNECT.to_vec()].concat());
        }
        // CONNACK is never read, so the kernel may answer it with a reset.
    }
    for _ in 0..COUNT {
        watcher.expect(&publish("last", b"word"));
    }
    watcher.send(&PINGREQ);
    watcher.expect(&PINGRESP);
}

#[test]
fn the_last_packet_is_not_lost_to_a_reset() {
    let node = node(2);
    for number in 0..20 {
        let mut client = node.tcp();
        client.send(&connect_v5(&format!("wrong-{number}")));
        assert_eq!(client.packet().unwrap()[0], 0x20);
        // A reserved packet type, followed by many bytes that are never read.
        let mut junk = vec![0x00, 0x00];
        junk.resize(300_000, 0xFF);
        client.try_send(&junk);
        let last = client.packet().expect("DISCONNECT comes before the end");
        assert_eq!((last[0], last[2]), (0xE0, 0x81));
        client.expect_closed();
    }
    node.await_connections(0);
}

#[test]
fn a_client_that_never_ends_its_side_is_dropped() {
    let node = node(1);
    let mut client = node.tcp().connect("lingering");
    client.send(&DISCONNECT);
    client.expect_closed();
    node.await_connections(0);
}

#[test]
fn a_half_closed_connection_has_ended() {
    let node = node(1);
    let client = node.tcp().connect("half");
    client.stream().shutdown(Shutdown::Write).unwrap();
    node.await_connections(0);
    drop(client);
}

#[test]
fn acknowledgements_wait_for_the_store() {
    let delay = Duration::from_millis(300);
    let mut config = config(2, Settings::default());
    config.store = Box::new(DelayedStore { delay });
    let node = run(config);
    // A session that outlives its connection: messages for it must be kept.
    let mut keeper = node.tcp();
    keeper.send(&connect("keeper", 0x00, None));
    keeper.expect(&[0x20, 2, 0, 0]);
    keeper.send(&subscribe("kept", 1));
    keeper.expect(&[0x90, 3, 0, 1, 1]);
    drop(keeper);
    let mut publisher = node.tcp().connect("publisher");
    publisher.send(&publish_qos1("nobody", 1, b"x"));
    publisher.expect(&[0x40, 2, 0, 1]);
    let begin = Instant::now();
    publisher.send(&publish_qos1("kept", 2, b"x"));
    publisher.expect(&[0x40, 2, 0, 2]);
    assert!(
        begin.elapsed() >= delay,
        "a promise only when it can be kept"
    );
}

#[test]
fn connections_beyond_the_limit_are_refused_until_there_is_room() {
    let mut settings = Settings::default();
    settings.limits.connections = 2;
    let node = run(config(1, settings));
    let first = node.tcp().connect("a");
    let _second = node.tcp().connect("b");
    let mut third = node.tcp();
    third.send(&connect("c", 0x02, None));
    third.expect(&[0x20, 2, 0, 3]);
    third.expect_closed();
    drop((first, third));
    node.await_connections(1);
    node.tcp().connect("d");
}

#[test]
fn sockets_far_beyond_the_limit_are_closed_unheard() {
    let mut settings = Settings::default();
    settings.limits.connections = 2;
    let node = run(config(2, settings));
    let silent: Vec<Client> = (0..66).map(|_| node.tcp()).collect();
    node.await_connections(66);
    node.tcp().expect_closed();
    assert_eq!(node.running.stats().refused, 1);
    drop(silent);
    node.await_connections(0);
    node.tcp().connect("there is room again");
}

#[test]
fn a_port_in_use_ends_the_start_with_the_address() {
    let node = node(1);
    let mut second = config(1, Settings::default());
    second.listeners[0].address = node.tcp.into();
    let error = start(second).unwrap_err();
    assert!(matches!(error, StartError::AddressInUse { .. }));
    assert!(error.to_string().contains(&node.tcp.to_string()), "{error}");
    node.tcp().connect("the first node goes on");
}

#[test]
fn a_stop_tells_clients_and_closes_their_connections() {
    let node = node(2);
    let mut v5: Vec<Client> = (0..4)
        .map(|number| {
            let mut client = node.tcp();
            client.send(&connect_v5(&format!("v5-{number}")));
            assert_eq!(client.packet().unwrap()[0], 0x20);
            client
        })
        .collect();
    let mut v3 = node.web().connect("v3");
    let readers = std::thread::spawn(move || {
        for client in &mut v5 {
            let last = client.packet().unwrap();
            assert_eq!((last[0], last[2]), (0xE0, 0x8B), "Server shutting down");
            client.expect_closed();
        }
        drop(v5);
        v3.expect_closed();
    });
    let address = node.tcp;
    assert!(
        node.running.shutdown(PATIENCE),
        "all connections were closed in time"
    );
    readers.join().unwrap();
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "nobody listens any more"
    );
}

#[test]
fn an_idle_node_sleeps() {
    let node = node(2);
    let _clients: Vec<Client> = (0..20)
        .map(|number| node.tcp().connect(&format!("idle-{number}")))
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let before = node.running.stats().ticks;
    // Nothing must happen in this time, so there is no event to wait for.
    std::thread::sleep(Duration::from_millis(500));
    let ticks = node.running.stats().ticks - before;
    assert!(ticks < 30, "{ticks} ticks for nothing");
}

#[test]
fn a_flood_of_one_connection_does_not_starve_another() {
    let node = node(1);
    let mut flooding = node.tcp().connect("flood");
    let flood = publish("flood", &[0; 1000]).repeat(2000);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let flooder = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            flooding.send(&flood);
        }
    });
    let mut quiet = node.tcp().connect("quiet");
    for _ in 0..50 {
        quiet.send(&PINGREQ);
        quiet.expect(&PINGRESP);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    flooder.join().unwrap();
}

#[test]
fn nothing_is_left_when_all_clients_have_gone() {
    let node = node(2);
    for round in 0..3 {
        let mut clients: Vec<Client> = (0..50)
            .map(|n| node.tcp().connect(&format!("{round}-{n}")))
            .collect();
        for client in &mut clients {
            client.send(&DISCONNECT);
        }
        for mut client in clients {
            let mut rest = Vec::new();
            let _ = client.stream().read_to_end(&mut rest);
            assert!(rest.is_empty());
            client.expect_closed();
        }
        node.await_connections(0);
    }
    assert_eq!(node.running.stats().accepted, 150);
}
