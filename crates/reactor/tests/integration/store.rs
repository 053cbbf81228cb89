//! Tests of a node over TCP with a store on a disk: restarts, a disk that fails and recovers, a
//! slow disk, reading messages back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::common::*;
use martlet_broker::Settings;
use martlet_persistence::{ClockState, put_clock};
use martlet_reactor::{
    DiskStore, Durability, StartError, StoreNotice, StoreOpenError, open_store, start,
};
use martlet_store::{Call, Engine, Failure, Fault, Options, RecordBuffer, SimDisk};

fn on_sim(disk: &SimDisk, threads: usize, durability: Durability) -> Node {
    let mut config = config(threads, Settings::default());
    let options = Options {
        segment_bytes: 8 << 20,
        ..Options::default()
    };
    config.store = Box::new(DiskStore::on(disk.clone(), options, durability, ROOM).unwrap());
    run(config)
}

fn fault(call: Option<Call>, failure: Failure) -> Fault {
    Fault {
        call,
        skip: 0,
        failure,
        once: false,
    }
}

/// A directory that is removed with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("martlet-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Creates a subscribed session that outlives its connection, and disconnects.
fn keeper(node: &Node, topic: &str) {
    let mut keeper = node.tcp();
    keeper.send(&connect("keeper", 0x00, None));
    keeper.expect(&[0x20, 2, 0, 0]);
    keeper.subscribe(topic, 1);
    keeper.send(&DISCONNECT);
    keeper.expect_closed();
}

/// The keeper reconnects. Returns the messages in its queue, acknowledged.
fn kept(node: &Node, count: usize) -> Vec<Vec<u8>> {
    let mut keeper = node.tcp();
    let payloads = take(&mut keeper, count);
    keeper.send(&PINGREQ);
    keeper.expect(&PINGRESP);
    payloads
}

/// Like [`kept`], but more messages may be queued.
fn take(keeper: &mut Client, count: usize) -> Vec<Vec<u8>> {
    keeper.send(&connect("keeper", 0x00, None));
    keeper.expect(&[0x20, 2, 1, 0]);
    let payloads = (0..count).map(|_| {
        let packet = keeper.packet().unwrap();
        assert_eq!(packet[0], 0x32, "{packet:?}");
        let header = 2 + packet[1..].iter().take_while(|byte| **byte >= 0x80).count();
        let body = &packet[header..];
        let topic = usize::from(body[1]);
        keeper.send(&[0x40, 2, body[2 + topic], body[3 + topic]]);
        body[4 + topic..].to_vec()
    });
    payloads.collect()
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = Directory::new("restart");
    for durability in [Durability::Sync, Durability::Interval { ms: 50 }] {
        let _ = std::fs::remove_dir_all(&directory.0);
        let open = |threads| {
            let mut config = config(threads, Settings::default());
            config.store = open_store(&directory.0, durability, ROOM, false).unwrap();
            run(config)
        };
        let node = open(2);
        assert_eq!(node.running.restored().unwrap().restored.sessions, 0);
        keeper(&node, "t");
        let mut publisher = node.tcp().connect("publisher");
        for number in 0..100_u16 {
            publisher.send(&publish_qos1("t", number + 1, &number.to_be_bytes()));
            let [high, low] = (number + 1).to_be_bytes();
            publisher.expect(&[0x40, 2, high, low]);
        }
        assert!(node.running.shutdown(PATIENCE));
        let node = open(3);
        let restored = node.running.restored().unwrap();
        assert_eq!(restored.restored.entries, 100);
        assert_eq!(restored.opened.replayed, 0, "it was closed in order");
        let payloads = kept(&node, 100);
        let expected: Vec<_> = (0..100_u16).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(payloads, expected);
        assert!(node.running.shutdown(PATIENCE));
        assert_eq!(open(1).running.restored().unwrap().restored.entries, 0);
    }
}

#[test]
fn the_time_of_records_goes_on_across_restarts_though_the_clock_is_set_back() {
    const DAY_MS: u64 = 86_400_000;
    let disk = SimDisk::new(10);
    let began = Instant::now();
    let record_ms = |node: &Node| node.running.restored().unwrap().restored.record_ms;
    let first = on_sim(&disk, 1, Durability::Sync);
    let start_ms = record_ms(&first);
    assert!(first.running.shutdown(PATIENCE));
    let second = on_sim(&disk, 1, Durability::Sync);
    let gone_ms = record_ms(&second) - start_ms;
    assert!(
        gone_ms <= began.elapsed().as_millis() as u64 + 1,
        "{gone_ms}"
    );
    assert!(second.running.shutdown(PATIENCE));
    // As if the clock had been a day ahead in the previous run.
    let (mut engine, _) = Engine::open(disk.clone(), Options::default()).unwrap();
    let mut records = RecordBuffer::new();
    let ahead_ms = record_ms(&second) + DAY_MS;
    let clock = ClockState {
        record_ms: ahead_ms,
        wall_ms: ahead_ms,
    };
    put_clock(clock, &mut records);
    engine.append(&records);
    engine.close().unwrap();
    let third = on_sim(&disk, 1, Durability::Sync);
    let restored = &third.running.restored().unwrap().restored;
    assert_eq!(
        restored.record_ms, ahead_ms,
        "the time between counts as none"
    );
    assert!(restored.clock_behind_ms > DAY_MS / 2, "{restored:?}");
}

#[test]
fn a_store_in_use_is_refused_and_a_memory_store_brings_nothing_back() {
    let directory = Directory::new("in-use");
    let first = DiskStore::open(&directory.0, Durability::Sync, ROOM, |disk| disk).unwrap();
    let second = DiskStore::open(&directory.0, Durability::Sync, ROOM, |disk| disk);
    assert!(
        matches!(second, Err(StoreOpenError::InUse(_))),
        "{second:?}"
    );
    drop(first);
    let mut config = config(1, Settings::default());
    config.store = open_store(&directory.0, Durability::Memory, ROOM, false).unwrap();
    let node = run(config);
    assert!(node.running.restored().is_none());
    assert!(node.running.store_health().is_none());
}

#[test]
fn nothing_listens_while_the_store_cannot_be_restored() {
    let disk = SimDisk::new(1);
    drop(on_sim(&disk, 1, Durability::Sync));
    let mut config = config(1, Settings::default());
    let store = DiskStore::on(disk.clone(), Options::default(), Durability::Sync, ROOM).unwrap();
    disk.inject(fault(Some(Call::Sync), Failure::Io));
    config.store = Box::new(store);
    let error = start(config).unwrap_err();
    assert!(matches!(error, StartError::Restore(_)), "{error}");
}

#[test]
fn acknowledgements_wait_while_the_disk_fails_and_qos_0_goes_on() {
    for (call, failure) in [
        (Call::Write, Failure::NoSpace),
        (Call::Write, Failure::ShortWrite),
        (Call::Sync, Failure::Io),
    ] {
        let disk = SimDisk::new(2);
        let node = on_sim(&disk, 2, Durability::Sync);
        keeper(&node, "t");
        let health = node.running.store_health().unwrap();
        let mut publisher = node.tcp().connect("publisher");
        let mut subscriber = node.tcp().connect("subscriber");
        subscriber.subscribe("quick", 0);
        publisher.send(&publish_qos1("t", 1, b"before"));
        publisher.expect(&[0x40, 2, 0, 1]);
        disk.inject(fault(Some(call), failure));
        publisher.send(&publish_qos1("t", 2, b"while"));
        await_that("the failure shows", || health.status().failure.is_some());
        publisher.send(&publish("quick", b"x"));
        subscriber.expect(&publish("quick", b"x"));
        publisher.send(&PINGREQ);
        // The PUBACK must not arrive.
        publisher.expect(&PINGRESP);
        await_that("it is tried again", || {
            health
                .status()
                .failure
                .is_some_and(|failure| failure.attempts > 2)
        });
        disk.lift();
        publisher.expect(&[0x40, 2, 0, 2]);
        await_that("health shows it", || health.status().failure.is_none());
        let notices: Vec<StoreNotice> = health.notices().try_iter().collect();
        assert!(
            matches!(notices[0], StoreNotice::Failing { .. }),
            "{notices:?}"
        );
        assert!(
            matches!(notices.last(), Some(StoreNotice::Recovered { .. })),
            "{notices:?}"
        );
        // Once for each kind.
        let failing = |notice: &&StoreNotice| matches!(notice, StoreNotice::Failing { .. });
        assert!(notices.iter().filter(failing).count() <= 2, "{notices:?}");
        publisher.send(&publish_qos1("t", 3, b"after"));
        publisher.expect(&[0x40, 2, 0, 3]);
        drop(node);
        disk.crash(7);
        let node = on_sim(&disk, 2, Durability::Sync);
        let expected: [&[u8]; 3] = [b"before", b"while", b"after"];
        assert_eq!(kept(&node, 3), expected);
    }
}

#[test]
fn a_store_far_behind_holds_back_who_publishes_what_must_be_stored() {
    let disk = SimDisk::new(3);
    let node = on_sim(&disk, 2, Durability::Sync);
    keeper(&node, "t");
    let health = node.running.store_health().unwrap();
    disk.inject(fault(Some(Call::Write), Failure::Io));
    let payload = vec![7; 512 << 10];
    let mut publishers: Vec<Client> = (0..4)
        .map(|n| node.tcp().connect(&format!("publisher{n}")))
        .collect();
    // More than the store's backlog and the sockets' buffers hold.
    let sender = std::thread::spawn(move || {
        for publisher in &mut publishers {
            for id in 1..=60_u16 {
                publisher.send(&publish_qos1("t", id, &payload));
            }
        }
        publishers
    });
    await_that("the store is behind", || health.status().is_behind);
    let mut other = node.tcp().connect("other");
    other.subscribe("quick", 0);
    other.send(&publish("quick", b"x"));
    other.expect(&publish("quick", b"x"));
    disk.lift();
    let mut publishers = sender.join().unwrap();
    for publisher in &mut publishers {
        for id in 1..=60_u16 {
            let [high, low] = id.to_be_bytes();
            publisher.expect(&[0x40, 2, high, low]);
        }
    }
    await_that("the store keeps up", || !health.status().is_behind);
    other.send(&publish_qos1("t", 1, b"y"));
    other.expect(&[0x40, 2, 0, 1]);
}

#[test]
fn a_long_queue_is_read_back_while_more_is_published() {
    let disk = SimDisk::new(4);
    let node = on_sim(&disk, 2, Durability::Sync);
    keeper(&node, "t");
    let mut publisher = node.tcp().connect("publisher");
    let publish = |publisher: &mut Client, numbers: std::ops::Range<u16>| {
        for number in numbers.clone() {
            publisher.send(&publish_qos1("t", number + 1, &number.to_be_bytes()));
        }
        for number in numbers {
            let [high, low] = (number + 1).to_be_bytes();
            publisher.expect(&[0x40, 2, high, low]);
        }
    };
    for begin in (0..3000).step_by(500) {
        publish(&mut publisher, begin..begin + 500);
    }
    let reader = std::thread::scope(|scope| {
        let reader = scope.spawn(|| kept(&node, 4000));
        publish(&mut publisher, 3000..3500);
        publish(&mut publisher, 3500..4000);
        reader.join().unwrap()
    });
    let expected: Vec<_> = (0..4000_u16).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(reader, expected);
    assert_eq!(node.running.store_health().unwrap().status().unreadable, 0);
}

#[test]
fn an_error_while_reading_back_is_tried_again_and_loses_nothing() {
    let disk = SimDisk::new(5);
    let node = on_sim(&disk, 1, Durability::Sync);
    keeper(&node, "t");
    let mut publisher = node.tcp().connect("publisher");
    publisher.send(&publish_qos1("t", 1, b"x"));
    publisher.expect(&[0x40, 2, 0, 1]);
    disk.inject(Fault {
        once: true,
        ..fault(Some(Call::Read), Failure::Io)
    });
    assert_eq!(kept(&node, 1), [b"x"]);
}

#[test]
fn many_wait_for_one_sync() {
    let disk = SimDisk::new(6);
    let node = on_sim(&disk, 1, Durability::Sync);
    keeper(&node, "t");
    let health = node.running.store_health().unwrap();
    let mut publisher = node.tcp().connect("publisher");
    let before = health.status();
    let mut packets = Vec::new();
    (1..=1000_u16).for_each(|id| packets.extend(publish_qos1("t", id, b"x")));
    publisher.send(&packets);
    for id in 1..=1000_u16 {
        let [high, low] = id.to_be_bytes();
        publisher.expect(&[0x40, 2, high, low]);
    }
    let after = health.status();
    assert!(after.records - before.records >= 1000);
    let syncs = after.syncs - before.syncs;
    assert!(syncs <= 500, "{syncs}");
}

#[test]
fn with_an_interval_acknowledgements_wait_for_the_write_alone_and_the_end_syncs() {
    let disk = SimDisk::new(7);
    let node = on_sim(&disk, 1, Durability::Interval { ms: 3_600_000 });
    keeper(&node, "t");
    let mut publisher = node.tcp().connect("publisher");
    disk.inject(fault(Some(Call::Sync), Failure::Io));
    publisher.send(&publish_qos1("t", 1, b"x"));
    publisher.expect(&[0x40, 2, 0, 1]);
    disk.lift();
    assert!(node.running.shutdown(PATIENCE));
    disk.crash(3);
    let node = on_sim(&disk, 1, Durability::Interval { ms: 20 });
    assert_eq!(kept(&node, 1), [b"x"]);
    // Also without a disconnect: after the interval.
    let health = node.running.store_health().unwrap();
    disk.inject(fault(Some(Call::Sync), Failure::Io));
    let mut publisher = node.tcp().connect("publisher");
    publisher.send(&publish_qos1("t", 1, b"y"));
    publisher.expect(&[0x40, 2, 0, 1]);
    await_that("it syncs by itself", || health.status().failure.is_some());
}

#[test]
fn a_full_disk_holds_publishers_back_until_a_reader_has_made_room() {
    let disk = SimDisk::new(8);
    let mut config = config(2, Settings::default());
    let options = Options {
        segment_bytes: 1 << 20,
        tail_bytes: 2 << 20,
        ..Options::default()
    };
    config.store = Box::new(DiskStore::on(disk.clone(), options, Durability::Sync, ROOM).unwrap());
    let node = run(config);
    keeper(&node, "t");
    disk.set_capacity(Some(8 << 20));
    let health = node.running.store_health().unwrap();
    let mut publisher = node.tcp().connect("publisher");
    let payload = vec![7; 4000];
    let sender = std::thread::spawn(move || {
        for id in 1..=3000_u16 {
            publisher.send(&publish_qos1("t", id, &payload));
        }
        for id in 1..=3000_u16 {
            let [high, low] = id.to_be_bytes();
            publisher.expect(&[0x40, 2, high, low]);
        }
    });
    await_that("the disk is full", || health.status().is_behind);
    let mut other = node.tcp().connect("other");
    other.subscribe("quick", 0);
    other.send(&publish("quick", b"x"));
    other.expect(&publish("quick", b"x"));
    assert_eq!(kept(&node, 3000).len(), 3000);
    sender.join().unwrap();
    await_that("there is room", || !health.status().is_behind);
    assert!(node.running.shutdown(PATIENCE));
    drop(disk);
}

/// A node on a disk of 8 MiB that is full of messages for the keeper, and their publisher.
fn filled(disk: &SimDisk, prepare: impl FnOnce(&Node)) -> (Node, Client) {
    let mut config = config(2, Settings::default());
    config.store = Box::new(DiskStore::on(disk.clone(), small(), Durability::Sync, ROOM).unwrap());
    let node = run(config);
    keeper(&node, "t");
    prepare(&node);
    disk.set_capacity(Some(8 << 20));
    let health = node.running.store_health().unwrap();
    let mut publisher = node.tcp().connect("publisher");
    // Once the publisher is held back, nothing reads its output.
    let patience = Some(Duration::from_millis(500));
    publisher.stream().set_write_timeout(patience).unwrap();
    let payload = vec![7; 4000];
    for id in 1..=3000_u16 {
        if health.status().is_low || !publisher.try_send(&publish_qos1("t", id, &payload)) {
            break;
        }
    }
    await_that("the disk is full", || health.status().is_low);
    assert_eq!(health.status().low_because, "the disk is full");
    (node, publisher)
}

fn small() -> Options {
    Options {
        segment_bytes: 1 << 20,
        tail_bytes: 2 << 20,
        ..Options::default()
    }
}

#[test]
fn what_a_full_disk_holds_can_be_taken_though_others_bring_more() {
    const REFUSED: [u8; 4] = [0x20, 2, 0, 3];
    let disk = SimDisk::new(11);
    let mut others = Vec::new();
    let (node, publisher) = filled(&disk, |node| {
        for name in ["one", "two"] {
            let mut other = node.tcp();
            other.send(&connect(name, 0x00, None));
            other.expect(&[0x20, 2, 0, 0]);
            others.push(other);
        }
    });
    // Each is many times as large as the whole reserve.
    let floods: Vec<_> = others
        .into_iter()
        .map(|mut other| {
            std::thread::spawn(move || {
                other.send(&PINGREQ);
                other.expect(&PINGRESP);
                let filter = "x".repeat(900);
                (0..9000).for_each(|n| other.send(&subscribe(&format!("{n}/{filter}"), 1)));
                for _ in 0..9000 {
                    assert_eq!(other.packet().unwrap()[0], 0x90);
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let mut new = node.tcp();
        new.send(&connect("new", 0x00, None));
        new.expect(&REFUSED);
        let mut with_will = node.tcp();
        with_will.send(&connect("with-will", 0x06, Some(("w", "gone"))));
        with_will.expect(&REFUSED);
        node.tcp().connect("passing");
    }
    drop(publisher);
    assert_eq!(take(&mut node.tcp(), 500).len(), 500);
    disk.set_capacity(None);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    let health = node.running.store_health().unwrap();
    await_that("there is room", || !health.status().is_behind);
    let mut new = node.tcp();
    new.send(&connect("new", 0x00, None));
    new.expect(&[0x20, 2, 0, 0]);
}

#[test]
fn a_store_that_gets_no_file_for_another_reason_does_not_say_that_the_disk_is_full() {
    let disk = SimDisk::new(14);
    let mut config = config(1, Settings::default());
    config.store = Box::new(DiskStore::on(disk.clone(), small(), Durability::Sync, ROOM).unwrap());
    let node = run(config);
    let health = node.running.store_health().unwrap();
    let notices = health.notices();
    keeper(&node, "t");
    let mut publisher = node.tcp().connect("publisher");
    disk.inject(fault(Some(Call::Create), Failure::Io));
    // These use the file that was prepared for the next segment.
    (1..=12).for_each(|id| publisher.send(&publish_qos1("t", id, &[b'x'; 100_000])));
    // The current write may fail as well, and succeed later.
    let next = || notices.recv_timeout(PATIENCE).unwrap();
    let lows = std::iter::repeat_with(next).filter_map(|notice| match notice {
        StoreNotice::Low { why } => Some(why),
        _ => None,
    });
    let why = { lows }.next().unwrap();
    assert!(why.contains("creating "), "{why}");
    assert!(why.contains("input/output error"), "{why}");
    assert!(!why.contains("full"), "{why}");
    assert_eq!(health.status().low_because, why);
    disk.lift();
    while next() != StoreNotice::RoomAgain {}
    assert!(node.running.shutdown(PATIENCE));
}

#[test]
fn a_node_killed_on_a_full_disk_starts_and_goes_on_when_there_is_room() {
    let disk = SimDisk::new(12);
    let (node, publisher) = filled(&disk, |_| {});
    drop((node, publisher));
    disk.crash(3);
    disk.set_capacity(Some(0));
    let open = || {
        let mut config = config(2, Settings::default());
        config.store =
            Box::new(DiskStore::on(disk.clone(), small(), Durability::Sync, ROOM).unwrap());
        run(config)
    };
    // The preallocated space is enough for a few such starts.
    for _ in 0..3 {
        drop(open());
        disk.crash(5);
    }
    let node = open();
    node.tcp().connect("passing");
    let entries = node.running.restored().unwrap().restored.entries;
    assert!(entries > 500, "{entries}");
    disk.set_capacity(None);
    assert_eq!(kept(&node, entries as usize).len() as u64, entries);
    let health = node.running.store_health().unwrap();
    await_that("there is room", || !health.status().is_behind);
    let mut publisher = node.tcp().connect("publisher");
    publisher.send(&publish_qos1("t", 1, b"x"));
    publisher.expect(&[0x40, 2, 0, 1]);
}

#[test]
fn what_is_on_the_disk_is_read_back_while_nothing_can_be_written() {
    let disk = SimDisk::new(9);
    let node = on_sim(&disk, 1, Durability::Sync);
    keeper(&node, "t");
    let mut publisher = node.tcp().connect("publisher");
    for id in 1..=300_u16 {
        publisher.send(&publish_qos1("t", id, b"x"));
        let [high, low] = id.to_be_bytes();
        publisher.expect(&[0x40, 2, high, low]);
    }
    let mut keeper = node.tcp();
    keeper.send(&connect("keeper", 0x00, None));
    keeper.expect(&[0x20, 2, 1, 0]);
    keeper.packet().unwrap();
    disk.inject(fault(Some(Call::Write), Failure::NoSpace));
    // Messages that were read ahead are sent at once, then pages of messages from the disk.
    for id in 2..=300_u16 {
        let [high, low] = (id - 1).to_be_bytes();
        keeper.send(&[0x40, 2, high, low]);
        assert!(keeper.packet().unwrap().starts_with(&[0x32]));
    }
}
