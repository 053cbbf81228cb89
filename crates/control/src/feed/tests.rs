use std::sync::Mutex as StdMutex;

use martlet_broker::{ListenerPolicy, MessageId, PublishedMessage, TenantId};
use martlet_codec::{PacketType, ProtocolVersion, QoS, ReasonCode};

use super::*;

type Told = Arc<StdMutex<Vec<EventInterest>>>;

fn feed() -> (Arc<Feed>, Presence, Told) {
    let told = Told::default();
    let into = Arc::clone(&told);
    let tell = move |interest: Arc<EventInterest>| {
        into.lock().unwrap().push((*interest).clone());
    };
    let feed = Arc::new(Feed::new(Box::new(tell)));
    (feed, Presence::default(), told)
}

fn packet(client_id: &str, is_out: bool, packet_type: PacketType, packet_id: u16) -> Event {
    Event::Packet {
        client_id: client_id.into(),
        is_out,
        packet_type,
        packet_id: Some(packet_id).filter(|id| *id > 0),
        remaining_bytes: 2,
        at_ms: 7,
    }
}

fn published(client_id: &str, qos: QoS, payload: &[u8]) -> Event {
    Event::Published(Box::new(PublishedMessage {
        client_id: client_id.into(),
        topic: "t/1".into(),
        id: MessageId(1),
        qos,
        retain: false,
        matched: true,
        payload_bytes: payload.len(),
        payload: payload.into(),
        at_ms: 7,
    }))
}

fn connected(client_id: &str) -> Event {
    Event::Connected {
        tenant: TenantId(0),
        client_id: client_id.to_owned(),
        user: None,
        version: ProtocolVersion::V5,
        address: None,
        clean_start: true,
        session_present: false,
        keep_alive_secs: 60,
        listener: Arc::new(ListenerPolicy::default()),
    }
}

fn disconnected(client_id: &str) -> Event {
    Event::Disconnected {
        tenant: TenantId(0),
        client_id: client_id.to_owned(),
        user: None,
        reason: ReasonCode::Success,
        why: "test".into(),
    }
}

fn of(kinds: &str) -> Filter {
    Filter {
        kinds: Kinds::parse(kinds).unwrap(),
        ..Filter::default()
    }
}

fn seqs(batch: &Batch) -> Vec<u64> {
    batch.entries.iter().map(|entry| entry.seq).collect()
}

#[tokio::test]
async fn each_reader_has_its_own_place_and_is_told_what_it_has_missed() {
    let (feed, presence, _) = feed();
    feed.set_bounds(Bounds {
        events: 3,
        bytes: 1 << 20,
    });
    let mut quick = feed.read(of("packet"), &From::Now).unwrap();
    let mut slow = feed.read(of("packet"), &From::Now).unwrap();
    let pings = |count| vec![packet("c", false, PacketType::PingReq, 0); count];
    feed.write(pings(2), 0, &presence);
    assert_eq!(seqs(&quick.next().await.unwrap()), [1, 2]);
    feed.write(pings(3), 0, &presence);
    assert_eq!(seqs(&quick.next().await.unwrap()), [3, 4, 5]);
    assert_eq!(slow.behind(), 5);
    let batch = slow.next().await.unwrap();
    assert_eq!((batch.gone, seqs(&batch)), (2, vec![3, 4, 5]));
    let after = From::After(format!("{}-4", feed.run()));
    let mut again = feed.read(of("packet"), &after).unwrap();
    assert_eq!(seqs(&again.next().await.unwrap()), [5]);
    let mut tail = feed.read(of("packet"), &From::Tail(2)).unwrap();
    assert_eq!(seqs(&tail.next().await.unwrap()), [4, 5]);
    let mut elsewhere = feed.read(of("packet"), &From::After("x-4".into())).unwrap();
    assert!(elsewhere.next().await.unwrap().is_new_run);
    feed.close();
    assert!(quick.next().await.is_none());
}

#[test]
fn the_ring_is_bounded_by_bytes_too() {
    let (feed, presence, _) = feed();
    feed.set_bounds(Bounds {
        events: 1_000,
        bytes: 10_000,
    });
    let mut reader = feed.read(of("published"), &From::Now).unwrap();
    for _ in 0..10 {
        feed.write(
            vec![published("c", QoS::AtMostOnce, &[0; 4_000])],
            0,
            &presence,
        );
    }
    let batch = reader.take();
    assert_eq!((batch.gone, seqs(&batch)), (8, vec![9, 10]));
}

#[test]
fn what_is_lost_before_the_feed_is_told_to_everybody() {
    let (feed, presence, _) = feed();
    let mut reader = feed.read(of("connected"), &From::Now).unwrap();
    feed.write(vec![connected("c")], 3, &presence);
    let batch = reader.take();
    let gone = batch.entries[0].shown(feed.run(), 0).unwrap_err();
    assert_eq!(gone.count, Some(3));
    let connected = batch.entries[1].shown(feed.run(), 0).unwrap();
    assert_eq!((connected.kind, connected.seq), ("connected", 2));
}

#[test]
fn shards_are_told_what_all_want_together_and_only_when_that_changes() {
    let (feed, _, told) = feed();
    feed.set_base(EventInterest {
        connections: true,
        ..EventInterest::default()
    });
    let last = || told.lock().unwrap().last().cloned();
    assert_eq!(last(), None);
    let published = feed.read(of("published"), &From::Now).unwrap();
    let second = feed.read(of("published"), &From::Now).unwrap();
    assert_eq!(told.lock().unwrap().len(), 1);
    let wanted = last().unwrap();
    assert!(wanted.connections && wanted.published && !wanted.packets);
    let one = Filter {
        client: Some("one".to_owned()),
        payload_bytes: 10,
        ..of("all")
    };
    let one = feed.read(one, &From::Now).unwrap();
    let wanted = last().unwrap();
    assert_eq!(wanted.traced.clients.len(), 1);
    assert!(wanted.payload_bytes_max == 10 && !wanted.packets);
    drop((published, second, one));
    let wanted = last().unwrap();
    assert!(wanted.connections && !wanted.published);
    assert!(wanted.traced.clients.is_empty() && wanted.payload_bytes_max == 0);
}

/// Names of the panel's frames, and after which event somebody with it resumes.
fn frames(feed: &Arc<Feed>, presence: &Presence, events: Vec<Event>) -> Vec<(String, u64)> {
    let mut reader = feed.read(of("all"), &From::Now).unwrap();
    let mut panel = Panel::new(reader.filter(), usize::MAX);
    let mut out = Vec::new();
    feed.write(events, 0, presence);
    for entry in reader.take().entries {
        panel.put(&entry, 100, &mut out);
    }
    let name = |frame: &Frame| {
        let json: serde_json::Value = serde_json::from_str(&frame.json).unwrap();
        let kind = json["data"]["packet_type"].as_u64();
        let name = kind.map_or_else(
            || json["event"].as_str().unwrap()[10..].to_owned(),
            |kind| kind.to_string(),
        );
        (name, frame.after)
    };
    out.iter().map(name).collect()
}

fn pair(name: &str, after: u64) -> (String, u64) {
    (name.to_owned(), after)
}

#[test]
fn the_panel_sees_what_was_answered_behind_the_answer() {
    let (feed, presence, _) = feed();
    // In the order in which shards tell, with another client between.
    let events = vec![
        connected("c"),
        packet("c", false, PacketType::Connect, 0),
        packet("d", false, PacketType::PingReq, 0),
        packet("c", true, PacketType::ConnAck, 0),
        packet("c", false, PacketType::Publish, 5),
        published("c", QoS::AtLeastOnce, b"x"),
        packet("c", false, PacketType::Publish, 0),
        published("c", QoS::AtMostOnce, b"x"),
        packet("c", true, PacketType::PubAck, 5),
    ];
    let told = frames(&feed, &presence, events);
    assert_eq!(
        told,
        [
            pair("1", 0),
            pair("12", 0),
            pair("2", 0),
            pair("Connected", 4),
            pair("3", 5),
            pair("3", 5),
            pair("Published", 5),
            pair("4", 5),
            pair("Published", 9),
        ]
    );
}

#[test]
fn the_panel_sees_what_has_no_answer_when_its_client_is_gone() {
    let (feed, presence, _) = feed();
    let events = vec![
        connected("c"),
        packet("c", false, PacketType::Publish, 5),
        published("c", QoS::ExactlyOnce, b"x"),
        disconnected("c"),
    ];
    let told = frames(&feed, &presence, events);
    let names: Vec<&str> = told.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["3", "Connected", "Published", "Disconnected"]);
    assert_eq!(told.last().unwrap().1, 4);
}

#[test]
fn a_payload_is_text_where_it_is_and_a_cut_does_not_change_that() {
    use super::line::payload;
    assert_eq!(
        payload("käse".as_bytes(), 5, 100),
        ("käse".to_owned(), None)
    );
    assert_eq!(payload("käse".as_bytes(), 5, 2), ("k".to_owned(), None));
    // Whole, and it ends within a letter: that is no text.
    assert_eq!(payload(b"k\xc3", 2, 100).1, Some("base64"));
    assert_eq!(
        payload(b"\xff\0", 2, 100),
        ("/wA=".to_owned(), Some("base64"))
    );
}

#[test]
fn samples_are_one_in_so_many_of_a_kind() {
    let (feed, presence, _) = feed();
    let filter = Filter {
        samples: Sample::parse("packet:3").unwrap(),
        ..of("packet,connected")
    };
    let mut reader = feed.read(filter, &From::Now).unwrap();
    let mut events = vec![packet("c", false, PacketType::PingReq, 0); 7];
    events.push(connected("c"));
    feed.write(events, 0, &presence);
    assert_eq!(seqs(&reader.take()), [1, 4, 7, 8]);
    for wrong in ["packet", "packet:0", "nothing:3", "packet:x"] {
        assert!(Sample::parse(wrong).is_err(), "{wrong}");
    }
}
