use std::sync::Mutex as StdMutex;

use martlet_broker::{
    ConnectedClient, DropReason, EventHead, MessageId, PublishedMessage, RefusalCause, TenantId,
};
use martlet_codec::{PacketType, ProtocolVersion, QoS, ReasonCode};

use super::*;

type SetInterests = Arc<StdMutex<Vec<EventInterest>>>;

fn feed() -> (Arc<Feed>, Presence, SetInterests) {
    feed_of(Bounds::default(), EventInterest::default())
}

fn feed_within(bounds: Bounds) -> (Arc<Feed>, Presence, SetInterests) {
    feed_of(bounds, EventInterest::default())
}

fn feed_of(bounds: Bounds, base: EventInterest) -> (Arc<Feed>, Presence, SetInterests) {
    let interests = SetInterests::default();
    let into = Arc::clone(&interests);
    let set_interest = move |interest: Arc<EventInterest>| {
        into.lock().unwrap().push((*interest).clone());
    };
    let feed = Arc::new(Feed::new(Box::new(set_interest), bounds, base));
    (feed, Presence::default(), interests)
}

/// In the common tenant.
fn notice(client_id: &str, event: Event) -> NodeNotice {
    let head = EventHead::new(TenantId::default(), client_id);
    NodeNotice {
        head,
        event: event.into(),
    }
}

fn packet(client_id: &str, is_out: bool, packet_type: PacketType, packet_id: u16) -> NodeNotice {
    let packet = Event::Packet {
        is_out,
        packet_type,
        packet_id: Some(packet_id).filter(|id| *id > 0),
        remaining_bytes: 2,
        at_ms: 7,
    };
    notice(client_id, packet)
}

fn published(client_id: &str, qos: QoS, payload: &[u8]) -> NodeNotice {
    let message = PublishedMessage {
        topic: "t/1".into(),
        id: MessageId(1),
        qos,
        retain: false,
        matched: true,
        payload_bytes: payload.len(),
        payload: payload.into(),
        at_ms: 7,
    };
    notice(client_id, Event::Published(Box::new(message)))
}

fn connected(client_id: &str) -> NodeNotice {
    let mut client = ConnectedClient::new(client_id, None);
    (client.keep_alive_secs, client.version) = (60, ProtocolVersion::V5);
    NodeNotice::connected(TenantId::default(), SharedClient::new(client))
}

fn disconnected(client_id: &str) -> NodeNotice {
    let (reason, why) = (ReasonCode::Success, RefusalCause::Goodbye.into());
    notice(
        client_id,
        Event::Disconnected {
            reason,
            why,
            will: None,
        },
    )
}

fn of(kinds: &str) -> Filter {
    Filter {
        kinds: Kinds::parse(kinds).unwrap(),
        ..Filter::default()
    }
}

fn seqs(batch: &EventBatch) -> Vec<u64> {
    batch.entries().map(|entry| entry.seq).collect()
}

#[test]
fn a_reader_of_one_tenant_gets_nothing_of_others() {
    let (feed, presence, _) = feed();
    let of = |tenant| Filter {
        tenant,
        ..Filter::default()
    };
    let filters = [Some(TenantId(3)), Some(TenantId::default()), None].map(of);
    let readers = filters.map(|filter| feed.read(filter, &From::Now).unwrap());
    let events = [0, 3, 4].map(|tenant| {
        let client = ConnectedClient::new("same", None);
        NodeNotice::connected(TenantId(tenant), SharedClient::new(client))
    });
    feed.write(&mut events.into(), 0, &presence, |_, _| ());
    let [third, common, all] = readers.map(|mut reader| seqs(&reader.take()));
    assert_eq!((third, common, all), (vec![2], vec![1], vec![1, 2, 3]));
    assert!(
        presence
            .of(TenantId(3), "same")
            .is_some_and(|found| found.online)
    );
}

#[tokio::test]
async fn each_reader_has_its_own_place_and_is_told_what_it_has_missed() {
    let (feed, presence, _) = feed_within(Bounds {
        events: 3,
        bytes: 1 << 20,
    });
    let mut quick = feed.read(of("packet"), &From::Now).unwrap();
    let mut slow = feed.read(of("packet"), &From::Now).unwrap();
    let pings = |count| vec![packet("c", false, PacketType::PingReq, 0); count];
    feed.write(&mut pings(2), 0, &presence, |_, _| ());
    assert_eq!(seqs(&quick.next().await.unwrap()), [1, 2]);
    feed.write(&mut pings(3), 0, &presence, |_, _| ());
    assert_eq!(seqs(&quick.next().await.unwrap()), [3, 4, 5]);
    assert_eq!(slow.behind(), 5);
    let batch = slow.next().await.unwrap();
    assert_eq!((batch.missed, seqs(&batch)), (2, vec![3, 4, 5]));
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
    let (feed, presence, _) = feed_within(Bounds {
        events: 1_000,
        bytes: 10_000,
    });
    let mut reader = feed.read(of("published"), &From::Now).unwrap();
    for _ in 0..10 {
        feed.write(
            &mut vec![published("c", QoS::AtMostOnce, &[0; 4_000])],
            0,
            &presence,
            |_, _| (),
        );
    }
    let batch = reader.take();
    assert_eq!((batch.missed, seqs(&batch)), (8, vec![9, 10]));
}

#[test]
fn what_is_lost_before_the_feed_is_told_to_everybody() {
    let (feed, presence, _) = feed();
    let mut reader = feed.read(of("connected"), &From::Now).unwrap();
    feed.write(&mut vec![connected("c")], 3, &presence, |_, _| ());
    let batch = reader.take();
    let entries: Vec<FeedEntry<'_>> = batch.entries().collect();
    let gap = entries[0].shown(feed.run(), 0).unwrap_err();
    assert_eq!(gap.count, Some(3));
    let connected = entries[1].shown(feed.run(), 0).unwrap();
    assert_eq!((connected.kind, connected.seq), ("connected", 2));
}

#[test]
fn shards_are_told_what_all_want_together_and_only_when_that_changes() {
    let base = EventInterest {
        connections: true,
        ..EventInterest::default()
    };
    let (feed, _, interests) = feed_of(Bounds::default(), base);
    let last = || interests.lock().unwrap().last().cloned();
    assert_eq!(last(), None);
    let published = feed.read(of("published"), &From::Now).unwrap();
    let second = feed.read(of("published"), &From::Now).unwrap();
    assert_eq!(interests.lock().unwrap().len(), 1);
    let set = last().unwrap();
    assert!(set.connections && set.published && !set.packets);
    let one = Filter {
        client: Some("one".to_owned()),
        payload_bytes: 10,
        ..of("all")
    };
    let one = feed.read(one, &From::Now).unwrap();
    let set = last().unwrap();
    assert_eq!(set.traced.clients.len(), 1);
    assert!(set.payload_bytes_max == 10 && !set.packets);
    drop((published, second, one));
    let set = last().unwrap();
    assert!(set.connections && !set.published);
    assert!(set.traced.clients.is_empty() && set.payload_bytes_max == 0);
}

/// Names of the panel's frames, and the event after which a reader resumes.
fn frames(
    feed: &Arc<Feed>,
    presence: &Presence,
    mut events: Vec<NodeNotice>,
) -> Vec<(String, u64)> {
    let mut reader = feed.read(of("all"), &From::Now).unwrap();
    let mut panel = Panel::new(reader.filter(), usize::MAX);
    let mut out = Vec::new();
    feed.write(&mut events, 0, presence, |_, _| ());
    for entry in reader.take().entries() {
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
    let sent = frames(&feed, &presence, events);
    assert_eq!(
        sent,
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
    let sent = frames(&feed, &presence, events);
    let names: Vec<&str> = sent.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["3", "Connected", "Published", "Disconnected"]);
    assert_eq!(sent.last().unwrap().1, 4);
}

#[test]
fn a_payload_is_text_where_it_is_and_a_cut_does_not_change_that() {
    use super::line::payload;
    assert_eq!(payload("käse".as_bytes(), 5, 100), ("käse".into(), None));
    assert_eq!(payload("käse".as_bytes(), 5, 2), ("k".into(), None));
    // Whole, and it ends within a letter: that is no text.
    assert_eq!(payload(b"k\xc3", 2, 100).1, Some("base64"));
    assert_eq!(payload(b"\xff\0", 2, 100), ("/wA=".into(), Some("base64")));
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
    feed.write(&mut events, 0, &presence, |_, _| ());
    assert_eq!(seqs(&reader.take()), [1, 4, 7, 8]);
    for wrong in ["packet", "packet:0", "nothing:3", "packet:x"] {
        assert!(Sample::parse(wrong).is_err(), "{wrong}");
    }
}

/// Text of the lines of a batch, one behind the other.
fn text(reader: &FeedReader, batch: &EventBatch) -> String {
    let mut text = String::new();
    for part in &batch.parts {
        let (lines, runs) = reader.lines(part);
        for run in runs {
            text.push_str(std::str::from_utf8(&lines.stream(run)).unwrap());
        }
    }
    text
}

#[test]
fn what_is_read_in_one_form_is_written_once() {
    let (feed, presence, _) = feed();
    let mut readers = [(); 2].map(|()| feed.read(of("all"), &From::Now).unwrap());
    let payload = Filter {
        payload_bytes: 9,
        ..of("all")
    };
    let mut other = feed.read(payload, &From::Now).unwrap();
    let mut few = feed.read(of("published"), &From::Now).unwrap();
    let mut events = vec![packet("c", false, PacketType::PingReq, 0); 300];
    events[7] = published("c", QoS::AtMostOnce, b"x");
    feed.write(&mut events, 2, &presence, |_, _| ());
    let taken = readers.each_mut().map(FeedReader::take);
    let lines = |reader: &FeedReader, batch: &EventBatch| reader.lines(&batch.parts[0]).0;
    let of_both = [0, 1].map(|at| lines(&readers[at], &taken[at]));
    assert!(Arc::ptr_eq(&of_both[0], &of_both[1]));
    let with_payload = other.take();
    assert!(!Arc::ptr_eq(&of_both[0], &lines(&other, &with_payload)));
    assert!(text(&other, &with_payload).contains(r#""payload":"x""#));
    // Each is an event of its own, with the name by which it is resumed.
    let all = text(&readers[0], &taken[0]);
    let events: Vec<&str> = all.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 301);
    assert!(events[0].starts_with("event: gone\ndata: {\"kind\":\"gone\",\"count\":2,"));
    for (at, event) in events.iter().enumerate().skip(1) {
        let (id, data) = event.split_once("\ndata: ").unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(id, format!("id: {}-{}", feed.run(), at + 1));
        assert_eq!(data["seq"], at as u64 + 1);
    }
    // Who wants one of many gets the same event.
    let one = few.take();
    assert_eq!(seqs(&one), [1, 9]);
    assert_eq!(
        text(&few, &one),
        format!("{}\n\n{}\n\n", events[0], events[8])
    );
    // As a frame of a WebSocket it is the object alone.
    let (_, data) = events[8].split_once("\ndata: ").unwrap();
    let (lines, _) = few.lines(one.parts.last().unwrap());
    assert_eq!(lines.json(lines.len() - 1), data.as_bytes());
}

#[test]
fn readers_that_are_too_slow_for_100_000_events_know_how_many_they_have_missed() {
    let bounds = Bounds {
        events: 10_000,
        bytes: 1 << 20,
    };
    let (feed, presence, _) = feed_within(bounds);
    // One that looks after each part, one after each tenth, and one at the end.
    let mut readers = [1, 10, 100].map(|every| {
        let reader = feed.read(of("packet"), &From::Now).unwrap();
        (reader, every, 0, 0)
    });
    for part in 1..=100 {
        let mut pings = vec![packet("c", false, PacketType::PingReq, 0); 1_000];
        feed.write(&mut pings, 0, &presence, |_, _| ());
        assert!(feed.ring().len() <= bounds.events);
        for (reader, every, seen, missed) in &mut readers {
            while part % *every == 0 && reader.behind() > 0 {
                let batch = reader.take();
                *missed += batch.missed;
                *seen += batch.entries().count() as u64;
            }
        }
    }
    for (_, every, seen, missed) in &readers {
        assert_eq!(seen + missed, 100_000, "every {every}");
    }
    assert_eq!(readers[0].3, 0);
    assert!(readers[1].3 > 0 && readers[2].3 > readers[1].3);
}

#[test]
fn as_many_are_kept_as_were_asked_for_however_they_came() {
    for parts in [vec![1, 500, 1], vec![99, 2, 401], vec![502], vec![1; 502]] {
        let bounds = Bounds {
            events: 100,
            ..Bounds::default()
        };
        let (feed, presence, _) = feed_within(bounds);
        let first = From::After(format!("{}-1", feed.run()));
        for count in &parts {
            let mut pings = vec![packet("c", false, PacketType::PingReq, 0); *count];
            feed.write(&mut pings, 0, &presence, |_, _| ());
        }
        let mut late = feed.read(of("packet"), &first).unwrap();
        let batch = late.take();
        let kept: Vec<u64> = (403..=502).collect();
        assert_eq!((batch.missed, seqs(&batch)), (401, kept), "{parts:?}");
    }
}

#[test]
fn messages_of_a_session_that_has_ended_are_one_event_with_their_number_and_the_cause() {
    let dropped = |client_id: &str, topic: &str| {
        let event = Event::Dropped {
            topic: topic.to_owned(),
            stored: None,
            reason: DropReason::SessionEnded,
            limit: None,
            refused: None,
        };
        notice(client_id, event)
    };
    let ended = |client_id: &str| {
        let cause = RefusalCause::SessionExpired;
        notice(client_id, Event::SessionEnded { cause })
    };
    let events = || {
        let mut events = vec![dropped("a", "t/1"); 1_500];
        events.push(ended("a"));
        events.extend([dropped("b", "t/1"), dropped("b", "t/2"), ended("b")]);
        events.push(dropped("c", "t/3"));
        events
    };
    let shown = |reader: &mut FeedReader| -> Vec<String> {
        let mut all = Vec::new();
        loop {
            if reader.behind() == 0 {
                return all;
            }
            let batch = reader.take();
            all.extend(batch.entries().map(|entry| {
                let event = entry.shown("run", 0).unwrap();
                let (kind, client, topic) = (event.kind, event.client_id, event.topic);
                let (count, why) = (event.count, event.why);
                format!(
                    "{kind} {client} {topic:?} {count:?} {why:?} {}",
                    event.at_least
                )
            }));
        }
    };
    let (feed, presence, _) = feed();
    let mut usual = feed.read(Filter::default(), &From::Now).unwrap();
    let mut reported = Vec::new();
    feed.write(&mut events(), 0, &presence, |_, notice| {
        reported.push(notice.event.clone());
    });
    let expected = [
        "dropped a None Some(1500) Some(\"Session Expiry Interval\") true",
        "session_ended a None None Some(\"Session Expiry Interval\") false",
        "dropped b None Some(2) Some(\"Session Expiry Interval\") false",
        "session_ended b None None Some(\"Session Expiry Interval\") false",
        "dropped c Some(\"t/3\") None None false",
    ];
    assert_eq!(shown(&mut usual), expected);
    assert_eq!(reported.len(), expected.len());
    let mut each = feed.read(of("dropped_message"), &From::Now).unwrap();
    let by_topic = Filter {
        topic: Some("t/2".to_owned()),
        ..of("dropped")
    };
    let mut by_topic = feed.read(by_topic, &From::Now).unwrap();
    feed.write(&mut events(), 0, &presence, |_, _| ());
    assert_eq!(shown(&mut usual), expected);
    assert_eq!(shown(&mut each).len(), 1_502);
    let found = shown(&mut by_topic);
    assert_eq!(found, ["dropped_message b Some(\"t/2\") None None false"]);
}
