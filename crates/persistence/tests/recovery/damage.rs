//! Damaged and malformed data, data newer than this program, and run numbers.

use martlet_broker::{DropReason, Event};
use martlet_persistence::{DamageWords, DecodeError, RestoreError};
use martlet_store::{
    BodyId, Disk, Engine, Holds, Options, QueueId, SimDisk, StateKey, check_with, repair_with,
};

use crate::node::{End, NotOpen, StoredNode};

const SESSION: u8 = 1;
const SUBSCRIPTION: u8 = 4;

/// Two sessions with a message each; returns the epochs of both.
fn two_sessions(node: &mut StoredNode) -> (u64, u64) {
    node.play(
        "A: CONNECT id=a clean=0 session_expiry=65536; SUBSCRIBE t qos=1
         A: DISCONNECT",
    );
    let first = node.owners();
    node.play(
        "B: CONNECT id=b clean=0 session_expiry=65536; SUBSCRIBE t qos=1
         B: DISCONNECT
         P: CONNECT; PUBLISH t qos=1 payload=x",
    );
    let mut both = node.owners();
    both.retain(|owner| !first.contains(owner));
    (first[0], both[0])
}

fn state(owner: u64, kind: u8, number: u32) -> StateKey {
    StateKey {
        owner,
        kind,
        number,
    }
}

#[test]
fn a_malformed_session_is_named_and_costs_only_itself() {
    let mut node = StoredNode::new(2);
    let (first, _) = two_sessions(&mut node);
    node.append(|record| record.state(state(first, SESSION, 0), &[&[1, 0xFF]]));
    let mut node = node.restart(End::Kill, 2, 1);
    assert_eq!((node.report.damaged, node.report.orphans), (1, 1));
    let named = node.report.damage[0].to_string();
    assert!(
        named.starts_with(&format!("session {first:#x}: ")),
        "{named}"
    );
    assert_eq!(node.collect("a"), (false, Vec::new()));
    assert_eq!(node.collect("b"), (true, vec!["x".to_owned()]));
    // No data of it is left.
    let node = node.restart(End::Kill, 2, 1);
    assert_eq!((node.report.damaged, node.report.orphans), (0, 0));
    assert_eq!(node.bodies(), 0);
}

#[test]
fn a_malformed_subscription_or_entry_is_named_and_costs_only_itself() {
    let mut node = StoredNode::new(2);
    let (first, second) = two_sessions(&mut node);
    node.append(|record| {
        record.state(state(first, SUBSCRIPTION, 7), &[b"\x01\x01\x00a/#/b"]);
        record.body(BodyId(1 << 40), Holds::NONE, &[b"\x01no message"]);
        record.enqueue(QueueId(second), BodyId(1 << 40), 254, [1, 1], &[]);
        record.enqueue(QueueId(first), BodyId(1 << 40), 0, [0, 0], &[]);
    });
    let mut node = node.restart(End::Kill, 2, 1);
    assert_eq!(node.report.damaged, 2, "{:?}", node.report);
    assert_eq!(node.report.subscriptions, 2);
    assert_eq!(node.collect("a"), (true, vec!["x".to_owned()]));
    assert_eq!(node.collect("b"), (true, vec!["x".to_owned()]));
    // The body is not a message: its entry is dropped when it should be sent.
    assert_eq!(node.dropped_as_damaged(), 1);
    let [lost] = node.lost() else {
        panic!("{:?}", node.lost());
    };
    assert_eq!((lost.id.0, &lost.waited_for[..]), (1 << 40, "a"));
}

#[test]
fn what_ended_while_it_was_read_back_is_not_called_lost() {
    let limit = ("queued_messages".to_owned(), "4".to_owned());
    let drop_oldest = ("queue_full".to_owned(), "drop-oldest".to_owned());
    for after in ["drop", "expire", "end"] {
        let mut node = StoredNode::with_settings(2, &[limit.clone(), drop_oldest.clone()]);
        node.play(
            "A: CONNECT id=a clean=0 session_expiry=65536; SUBSCRIBE t qos=1
             A: DISCONNECT
             P: CONNECT
             P: PUBLISH t qos=1 payload=1 message_expiry=10
             P: PUBLISH t qos=1 payload=2 message_expiry=10
             P: PUBLISH t qos=1 payload=3 message_expiry=10",
        );
        node.let_read(0);
        node.play(
            "A: CONNECT id=a clean=0 session_expiry=65536
             A> CONNACK 0 session_present=1",
        );
        match after {
            "drop" => node.play(
                "P: CONNECT
                 P: PUBLISH t qos=1 payload=4; PUBLISH t qos=1 payload=5
                 P: PUBLISH t qos=1 payload=6; PUBLISH t qos=1 payload=7",
            ),
            "expire" => node.elapse(20_000),
            _ => node.play("A: CONNECT id=a clean=1"),
        }
        assert!(node.bodies() < 5, "{after}");
        node.let_read(u64::MAX);
        assert_eq!(node.lost(), [], "{after}");
        assert_eq!(node.dropped_as_damaged(), 0, "{after}");
        let counters = node.counters();
        let dropped = counters.dropped[DropReason::QueueFull as usize];
        let ended = counters.dropped[DropReason::SessionEnded as usize];
        let removed = (dropped, counters.expired, ended);
        let expected = match after {
            "drop" => (3, 0, 0),
            "expire" => (0, 3, 0),
            _ => (0, 0, 3),
        };
        assert_eq!(removed, expected, "{after}");
    }
}

#[test]
fn a_drop_of_what_lies_in_the_store_alone_is_told_with_its_id_instead_of_its_topic() {
    let limit = ("queued_messages".to_owned(), "1".to_owned());
    let drop_oldest = ("queue_full".to_owned(), "drop-oldest".to_owned());
    let mut node = StoredNode::telling_drops(1, &[limit, drop_oldest]);
    node.play(
        "A: CONNECT id=a clean=0 session_expiry=65536; SUBSCRIBE t qos=1
         A: DISCONNECT
         P: CONNECT; PUBLISH t qos=1; PUBLISH t qos=1",
    );
    let [reported] = &node.events[..] else {
        panic!("{:?}", node.events);
    };
    let Event::Dropped {
        topic,
        stored,
        reason,
        ..
    } = &reported.event
    else {
        panic!("{reported:?}");
    };
    assert_eq!((&*reported.head.client_id, &topic[..]), ("a", ""));
    assert_eq!(*reason, DropReason::QueueFull);
    assert!(stored.is_some());
}

#[test]
fn what_is_read_for_a_client_that_went_away_meanwhile_does_not_stay_in_memory() {
    let mut node = StoredNode::new(1);
    node.play(
        "A: CONNECT id=a clean=0 session_expiry=65536; SUBSCRIBE t qos=1
         P: CONNECT; PUBLISH t qos=1 payload=1; PUBLISH t qos=1 payload=2
         A> PUBLISH t qos=1 payload=1
         A> PUBLISH t qos=1 payload=2
         A: DISCONNECT",
    );
    // The message is still recorded as in flight.
    let before = node.message_bytes();
    node.let_read(0);
    // In flight again, and lost before it could be sent.
    node.play(
        "A: CONNECT id=a clean=0 session_expiry=65536
         A> CONNACK 0 session_present=1
         A: DISCONNECT",
    );
    node.let_read(u64::MAX);
    assert_eq!((node.reads_done, node.message_bytes()), (1, before));
    let all = vec!["1".to_owned(), "2".to_owned()];
    assert_eq!(node.collect("a"), (true, all));
}

#[test]
fn a_page_of_a_queue_is_not_taken_for_one_of_what_is_in_flight() {
    const COUNT: usize = 70;
    let all: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    let publish = |payload| format!("P: PUBLISH t qos=1 payload={payload}\n");
    let mut node = StoredNode::new(1);
    node.play(&format!(
        "A: CONNECT id=a clean=0 session_expiry=65536; SUBSCRIBE t qos=1
         A: DISCONNECT
         P: CONNECT
         {}",
        all.iter().map(publish).collect::<String>()
    ));
    let connect = "A: CONNECT id=a clean=0 session_expiry=65536 receive_maximum=1
                   A> CONNACK 0 session_present=1";
    // The first page was read and the next is requested; one message of the first was sent.
    node.let_read(1);
    node.play(&format!("{connect}\nA> PUBLISH t qos=1 payload=0 id=1"));
    // Another connection takes over and needs that page again.
    node.play(connect);
    node.let_read(u64::MAX);
    assert_eq!(node.reads_done, 3, "each page was asked for once");
    assert_eq!(node.collect("a"), (true, all));
    assert_eq!(node.lost(), []);
}

#[test]
fn a_packet_identifier_whose_message_never_got_to_the_disk_is_free_only_after_pubcomp() {
    // A retained message of another shard, read just before its record was passed on.
    const LOST: u64 = (1 << 36) + 500;
    const SENT_AT_QOS_2_WITH_RETAIN: u64 = 0b11;
    let mut node = StoredNode::new(2);
    node.play(
        "A: CONNECT id=a clean=0 session_expiry=65536; SUBSCRIBE t qos=2
         A: DISCONNECT",
    );
    let owner = node.owners()[0];
    node.append(|record| {
        let note = [1 << 3 | SENT_AT_QOS_2_WITH_RETAIN, 0];
        record.enqueue(QueueId(owner), BodyId(LOST), 1, note, &[]);
    });
    let mut node = node.restart(End::Kill, 2, 1);
    assert_eq!(node.report.damaged, 0, "{:?}", node.report);
    node.play(
        "A: CONNECT id=a clean=0 session_expiry=65536
         A> CONNACK 0 session_present=1
         A> PUBREL 1
         P: CONNECT; PUBLISH t qos=2 payload=x
         A> PUBLISH t qos=2 payload=x id=2
         A: PUBCOMP 1
         A: PUBREC 2
         A> PUBREL 2
         A: PUBCOMP 2
         A: DISCONNECT",
    );
    assert_eq!(node.dropped_as_damaged(), 1);
    // No data of it is left.
    let mut node = node.restart(End::Kill, 2, 1);
    assert_eq!(node.collect("a"), (true, Vec::new()));
    assert_eq!(node.bodies(), 0);
}

#[test]
fn what_a_newer_program_has_written_is_refused_by_name_and_kept() {
    let newer = [2, 0, 0];
    let mut node = StoredNode::new(2);
    let (first, _) = two_sessions(&mut node);
    let disk = node.disk.clone();
    node.append(|record| record.state(state(first, SUBSCRIPTION, 7), &[&newer]));
    for _ in 0..2 {
        let error = StoredNode::reopen(disk.clone(), 2).err().unwrap();
        let NotOpen::Restore(RestoreError::Newer {
            what,
            error: source,
        }) = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(what, format!("subscription 7 of session {first:#x}"));
        assert_eq!(source, DecodeError::Newer(2));
    }
    let mut node = StoredNode::new(1);
    let disk = node.disk.clone();
    // Bodies already have a version 4.
    node.append(|record| record.body(BodyId(5), Holds::RETAINED, &[&[5, 0, 0]]));
    let NotOpen::Restore(error) = StoredNode::reopen(disk, 2).err().unwrap() else {
        panic!("it does open");
    };
    assert!(
        error
            .to_string()
            .starts_with("message 0x5: record version 5"),
        "{error}"
    );
}

#[test]
fn each_run_has_a_higher_number_than_any_name_ever_given() {
    let mut node = StoredNode::new(2);
    assert_eq!(node.report.start, 1);
    for (start, end) in [
        (2, End::Kill),
        (3, End::PowerCut(1)),
        (4, End::PowerCut(2)),
        (5, End::Stop),
    ] {
        node = node.restart(end, 2, 1);
        assert_eq!(node.report.start, start);
    }
    // Ids of a run whose number is lost.
    node.append(|record| record.body(BodyId(3 << 58 | 40 << 36), Holds::NONE, &[b"x"]));
    node = node.restart(End::Kill, 2, 1);
    assert_eq!(node.report.start, 41);
    node.append(|record| record.state(state(60 << 36 | 7, 9, 0), &[b"x"]));
    node = node.restart(End::Kill, 2, 1);
    assert_eq!(node.report.start, 61);
}

#[test]
fn one_flipped_bit_costs_one_session_or_one_message_at_most_and_is_named() {
    let clients = ["a1", "b2", "c3", "d4", "e5", "f6", "g7", "h8"];
    let mut noticed = 0;
    for flip in 0..60 {
        let mut node = StoredNode::new(2);
        for client in clients {
            node.play(&format!(
                "A: CONNECT id={client} clean=0 session_expiry=65536; SUBSCRIBE t/{client} qos=1
                 A: DISCONNECT
                 P: CONNECT; PUBLISH t/{client} qos=1 payload=1; PUBLISH t/{client} qos=1 payload=2"
            ));
        }
        let disk = node.disk.clone();
        drop(node.restart(End::Stop, 2, 1));
        flip_one(&disk, flip);
        let Ok(mut node) = StoredNode::reopen(disk, 2) else {
            panic!("flip {flip}: the store does not open");
        };
        let whole = clients
            .iter()
            .filter(|client| node.collect(client).1 == ["1", "2"])
            .count();
        assert!(whole >= clients.len() - 1, "flip {flip}: {whole}");
        let dropped = node.dropped_as_damaged();
        if whole < clients.len() {
            noticed += 1;
            let reported = node.report.damaged + dropped + node.found.damage.len() as u64;
            assert!(reported > 0, "flip {flip}");
        }
    }
    assert!(noticed > 2, "{noticed} flips hit something");
}

/// Flips a bit in the used part of some segment.
fn flip_one(disk: &SimDisk, flip: u64) {
    use martlet_store::Disk;
    let names = disk.list().unwrap();
    let mut logs: Vec<String> = names
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.ends_with(".log") && name != "spare.log")
        .collect();
    logs.sort();
    let name = &logs[flip as usize % logs.len()];
    let contents = disk.contents(name).unwrap();
    let used = contents.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
    assert!(disk.flip(name, flip * 7919 % used, (flip % 8) as u8));
}

#[test]
fn of_two_sessions_of_one_client_the_younger_stays() {
    for back in [false, true] {
        let mut node = StoredNode::new(2);
        let (first, _) = two_sessions(&mut node);
        // As if the end of a session had been lost.
        let other = if back { first - 1 } else { first + 500 };
        node.append(|record| {
            record.state(state(other, SESSION, 0), &[b"\x01\x01\x00\xff\xff\x03a"]);
            record.state(state(other, SUBSCRIPTION, 1), &[b"\x01\x01\x00u"]);
        });
        let mut node = node.restart(End::Kill, 3, 1);
        assert_eq!(node.report.damaged, 0);
        node.play(
            "P: CONNECT; PUBLISH u qos=1 payload=u\nP> PUBACK * ..
             P: PUBLISH t qos=1 payload=t",
        );
        let expected: &[&str] = if back { &["x", "t"] } else { &["u"] };
        assert_eq!(
            node.collect("a"),
            (true, expected.iter().map(|s| (*s).to_owned()).collect())
        );
        let node = node.restart(End::Kill, 3, 1);
        assert_eq!((node.report.sessions, node.report.orphans), (2, 0));
    }
}

/// Flips a bit of these bytes in all copies.
fn flip_text(disk: &SimDisk, text: &str) {
    use martlet_store::Disk;
    for (name, _) in disk.list().unwrap() {
        let bytes = disk.contents(&name).unwrap();
        let places = bytes.windows(text.len()).enumerate();
        for (at, _) in places.filter(|(_, bytes)| *bytes == text.as_bytes()) {
            assert!(disk.flip(&name, at as u64, 0));
        }
    }
}

/// The reports of a check, without the places.
fn reported(disk: &SimDisk) -> Vec<String> {
    let mut words = DamageWords::default();
    let mut reported = Vec::new();
    check_with(disk.clone(), |engine, damage| {
        let text = words.describe(engine, &damage);
        let place = damage.place();
        assert!(!place.is_empty(), "{text}");
        reported.push(text.strip_prefix(&place).unwrap().to_owned());
    })
    .unwrap();
    reported
}

#[test]
fn what_damage_costs_is_told_with_client_and_topic() {
    for end in [End::Kill, End::Stop] {
        let mut node = StoredNode::new(2);
        node.play(
            "A: CONNECT id=meter clean=0 session_expiry=65536; SUBSCRIBE t/# qos=1
             A: DISCONNECT
             B: CONNECT id=archive clean=0 session_expiry=65536; SUBSCRIBE t/1 qos=1
             B: DISCONNECT
             P: CONNECT id=sensor; PUBLISH t/1 qos=1 payload=first
             P: PUBLISH t/2 qos=1 retain=1 payload=second",
        );
        let disk = node.disk.clone();
        drop(node.restart(end, 2, 1));
        assert_eq!(reported(&disk), [""; 0]);
        let whole = disk.duplicate();
        flip_text(&disk, "first");
        let text = &reported(&disk)[..];
        let [text] = text else { panic!("{text:?}") };
        assert!(text.starts_with("message 0x"), "{text}");
        assert!(
            text.contains("(perhaps of topic \"t/1\" from client \"sensor\") is lost"),
            "{text}"
        );
        assert!(
            text.ends_with("; it waited for client \"meter\", client \"archive\""),
            "{text}"
        );
        let disk = whole.duplicate();
        flip_text(&disk, "second");
        let text = &reported(&disk)[..];
        let [text] = text else { panic!("{text:?}") };
        assert!(text.contains("topic \"t/2\""), "{text}");
        assert!(text.ends_with("; it waited for client \"meter\""), "{text}");
    }
}

/// Only the checkpoint's count of the queue remains of it.
#[test]
fn a_message_of_which_nothing_is_left_is_told_of_with_its_client() {
    let mut node = StoredNode::new(1);
    node.play(
        "A: CONNECT id=meter clean=0 session_expiry=65536; SUBSCRIBE t/# qos=1
         A: DISCONNECT
         P: CONNECT; PUBLISH t/1 qos=1 payload=first; PUBLISH t/2 qos=1 payload=second
         P: PUBLISH t/3 qos=1 payload=third",
    );
    let disk = node.disk.clone();
    drop(node.restart(End::Stop, 1, 10));
    flip_text(&disk, "second");
    for (name, _) in disk.list().unwrap() {
        if name.ends_with(".checkpoint") {
            let bytes = disk.contents(&name).unwrap();
            let mut at = 0;
            // After the first block come those of bodies and of queues.
            for block in 0..3 {
                assert!(block == 0 || disk.flip(&name, at + 20, 0));
                let length = bytes[at as usize + 4..at as usize + 8].try_into().unwrap();
                at += (16 + u64::from(u32::from_le_bytes(length))).next_multiple_of(8);
            }
        }
    }
    let mut words = DamageWords::default();
    let mut reported = Vec::new();
    check_with(disk.clone(), |engine, damage| {
        reported.push(words.describe(engine, &damage))
    })
    .unwrap();
    let named = reported
        .iter()
        .filter(|text| text.ends_with("it waited for client \"meter\""));
    assert_eq!(named.count(), 1, "{reported:#?}");
    let mut node = StoredNode::reopen(disk, 1).unwrap();
    let expected = ["first", "third"].map(str::to_owned).to_vec();
    assert_eq!(node.collect("meter"), (true, expected));
    assert_eq!(node.dropped_as_damaged(), 1);
    let [lost] = node.lost() else {
        panic!("{:?}", node.lost());
    };
    assert_eq!(lost.waited_for, "meter");
}

#[test]
fn retained_messages_are_there_again_if_the_checkpoint_lost_where_they_lie() {
    let mut node = StoredNode::new(1);
    node.play(
        "P: CONNECT; PUBLISH a qos=1 retain payload=old; PUBLISH b qos=1 retain payload=kept
         P: PUBLISH a qos=1 retain payload=new; PUBLISH c qos=1 retain payload=gone
         P: PUBLISH c qos=1 retain",
    );
    let disk = node.disk.clone();
    drop(node.restart(End::Stop, 1, 10));
    for (name, _) in disk.list().unwrap() {
        if name.ends_with(".checkpoint") {
            let bytes = disk.contents(&name).unwrap();
            let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
            let second = (16 + u64::from(length)).next_multiple_of(8);
            assert!(disk.flip(&name, second + 20, 0));
        }
    }
    let texts = reported(&disk);
    assert!(
        texts.iter().all(|text| text.contains("retained message")) && texts.len() == 2,
        "{texts:?}"
    );
    let node = StoredNode::reopen(disk, 1).unwrap();
    let all = [("a", "new"), ("b", "kept")];
    let all = all.map(|(topic, payload)| (topic.to_owned(), payload.to_owned()));
    assert_eq!(node.retained(), all);
}

fn small_segments() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        tail_bytes: 32 * 1024,
        salt: 5,
        ..Options::default()
    }
}

/// A stopped store of two shards. Two absent clients are owed ten messages each, one of them with
/// the retained message; the segments in which these arrived were freed.
fn reclaimed() -> SimDisk {
    let mut node = StoredNode::new(2);
    node.play(
        "A: CONNECT id=a clean=0 session_expiry=65536; SUBSCRIBE t/# qos=1
         A: DISCONNECT
         B: CONNECT id=b clean=0 session_expiry=65536; SUBSCRIBE t/# qos=1
         B: DISCONNECT
         C: CONNECT id=c clean=0 session_expiry=65536; SUBSCRIBE u qos=1
         C: DISCONNECT",
    );
    for number in 0..10 {
        let retain = u8::from(number == 3);
        node.play(&format!(
            "P: CONNECT; PUBLISH t/{number} qos=1 retain={retain} payload={number}"
        ));
    }
    let long = "x".repeat(900);
    for _ in 0..10 {
        for _ in 0..10 {
            node.play(&format!("P: CONNECT; PUBLISH u qos=1 payload={long}"));
        }
        assert_eq!(node.collect("c").1.len(), 10);
    }
    let disk = node.disk.clone();
    drop(node.restart(End::Stop, 2, 1));
    let (mut engine, _) = Engine::open(disk.clone(), small_segments()).unwrap();
    engine.seal().unwrap();
    while engine.housekeep(1 << 20).unwrap().more {}
    engine.close().unwrap();
    let files = disk.list().unwrap();
    assert!(
        files.iter().all(|(name, _)| name != "00000001.log"),
        "{files:?}"
    );
    disk
}

#[test]
fn without_a_checkpoint_nothing_starts_empty_and_repair_brings_back_what_clients_are_owed() {
    for is_deleted in [false, true] {
        let disk = reclaimed();
        for (name, _) in disk.list().unwrap() {
            match name.ends_with(".checkpoint") {
                true if is_deleted => disk.remove(&name).unwrap(),
                true => assert!(disk.flip(&name, 10, 0)),
                false => {}
            }
        }
        assert!(StoredNode::reopen(disk.clone(), 2).is_err());
        let mut words = DamageWords::default();
        let mut reported = Vec::new();
        repair_with(disk.clone(), small_segments(), |engine, damage| {
            reported.push(words.describe(engine, &damage));
        })
        .unwrap();
        assert!(
            reported.iter().any(|text| text.contains("may be lost")),
            "{reported:?}"
        );
        let mut node = StoredNode::reopen(disk, 2).unwrap();
        assert_eq!(node.retained(), [("t/3".to_owned(), "3".to_owned())]);
        for client in ["a", "b"] {
            let (is_present, mut payloads) = node.collect(client);
            payloads.sort_unstable();
            // At least once [MQTT-4.3.2-1]: one may come twice.
            payloads.dedup();
            let all: Vec<String> = (0..10).map(|number| number.to_string()).collect();
            assert_eq!((is_present, payloads), (true, all), "{client}");
        }
    }
}

#[test]
fn a_retained_message_that_is_lost_is_named_once() {
    let mut node = StoredNode::new(1);
    node.play(
        "P: CONNECT; PUBLISH a qos=1 retain payload=lost; PUBLISH b qos=1 retain payload=kept",
    );
    let disk = node.disk.clone();
    drop(node.restart(End::Stop, 1, 10));
    flip_text(&disk, "lost");
    let node = StoredNode::reopen(disk, 1).unwrap();
    let kept = [("b".to_owned(), "kept".to_owned())];
    assert_eq!((node.report.damaged, node.retained()), (1, kept.to_vec()));
    let node = node.restart(End::Stop, 1, 10);
    assert_eq!((node.report.damaged, node.retained()), (0, kept.to_vec()));
}
