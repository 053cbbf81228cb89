//! A part that requests receipts gets the outcome of each message for each receiver exactly once.

use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_broker::{
    DropReason, ListenerPolicy, MessageId, NewMessage, PartCall, PartEvent, PartId, PartOutcome,
    PartPublish, PartQueueLimits, PartReach, PartRefusal, PartSpec, PartSubscription, QueueFull,
    ReceiptOutcome, Settings, Settlement, TenantId,
};
use martlet_codec::{QoS, ReasonCode, RetainHandling};
use martlet_script::{Harness, Link, Wiring};

#[allow(dead_code)]
mod raw;

use raw::{packet, text};

const NAME: &str = "$test/part";
const PART: PartId = PartId(7);
const OTHER: &str = "$test/other";
const FOR_EVER: u32 = u32::MAX;

const ACKNOWLEDGED: ReceiptOutcome = ReceiptOutcome::Acknowledged;

fn dropped(reason: DropReason) -> ReceiptOutcome {
    ReceiptOutcome::Dropped(reason)
}

/// Wirings that differ in where receivers are and when records are durable.
fn wirings() -> [Wiring; 4] {
    let several = Wiring {
        shards: 3,
        ..Wiring::default()
    };
    let slow = Wiring {
        shards: 2,
        durable_delay_ms: 3,
        seed: 5,
        ..Wiring::default()
    };
    let short = Wiring {
        shards: 2,
        short_turns: true,
        ..Wiring::default()
    };
    [Wiring::default(), several, slow, short]
}

/// Events for a part about its messages since the last call.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Number of receivers, where it is complete.
    receivers: Vec<u64>,
    /// Sorted.
    receipts: Vec<(String, ReceiptOutcome)>,
}

struct Test {
    node: Harness,
    /// Published messages by id, and the number of outstanding receipts.
    known: BTreeMap<MessageId, i64>,
}

impl Test {
    fn new(wiring: Wiring) -> Self {
        Self::with(wiring, Settings::default())
    }

    /// Creates a node with an attached part.
    fn with(wiring: Wiring, settings: Settings) -> Self {
        let node = Harness::new(settings, ListenerPolicy::default(), wiring);
        let mut test = Self {
            node,
            known: BTreeMap::new(),
        };
        test.attach(NAME, PART, &[]);
        test
    }

    fn attach(&mut self, name: &str, id: PartId, filters: &[&str]) {
        let subscriptions = filters.iter().map(|filter| PartSubscription {
            filter: (*filter).into(),
            identifier: 0,
            retain_handling: RetainHandling::DoNotSend,
        });
        let spec = PartSpec {
            id,
            tenant: TenantId(0),
            client_id: Arc::from(name),
            subscriptions: subscriptions.collect(),
            credit: 10,
            session_expiry_secs: FOR_EVER,
            keeps_qos0: false,
            queue: PartQueueLimits::default(),
            identity: None,
            reach: PartReach::Node,
        };
        self.node.part_call(name, PartCall::Attach(Box::new(spec)));
        self.node.elapse(20);
        let told = self.node.take_told();
        assert!(
            matches!(told[..], [(_, PartEvent::Attached { .. })]),
            "{told:?}"
        );
    }

    fn publish_all(&mut self, messages: Vec<NewMessage>) {
        for message in messages {
            let publish = PartPublish {
                number: 1,
                message,
                receipts: true,
            };
            let call = PartCall::Publish(PART, Box::new(publish));
            self.node.part_call(NAME, call);
        }
        self.node.elapse(20);
    }

    fn publish(&mut self, topic: &str, qos: QoS) {
        self.publish_all(vec![message(topic, qos)]);
    }

    /// Events for the part. Each message must have an id before any event about it, and no message
    /// may have more receipts than receivers.
    fn told(&mut self) -> Told {
        self.node.elapse(20);
        let mut told = Told::default();
        for (id, event) in self.node.take_told() {
            match event {
                PartEvent::Published { outcome, .. } => {
                    assert!(!outcome.reason.is_error(), "{outcome:?}");
                    let name = outcome.id.expect("what is published has a name");
                    assert!(self.known.insert(name, 0).is_none());
                }
                PartEvent::Receipt(receipt) => {
                    assert_eq!(id, PART);
                    *self.left(receipt.message) -= 1;
                    let receiver = receipt.receiver.to_string();
                    told.receipts.push((receiver, receipt.outcome));
                }
                PartEvent::Receivers { message, receivers } => {
                    assert_eq!(id, PART);
                    *self.left(message) += receivers as i64;
                    told.receivers.push(receivers);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(self.known.values().all(|left| *left >= 0), "{told:?}");
        told.receipts.sort_by(|(a, _), (b, _)| a.cmp(b));
        told
    }

    fn left(&mut self, message: MessageId) -> &mut i64 {
        let known = self.known.get_mut(&message);
        known.expect("its name was told before")
    }

    /// Asserts that there is a receipt for every receiver, and that the shards' tables are empty.
    fn is_done(&mut self) {
        assert!(
            self.known.values().all(|left| *left == 0),
            "{:?}",
            self.known
        );
        let mut left = self.node.leftovers();
        left.retain(|(table, _)| table.starts_with("messages"));
        assert_eq!(left, []);
    }

    #[track_caller]
    fn expect(&mut self, receivers: &[u64], receipts: &[(&str, ReceiptOutcome)]) {
        let told = self.told();
        let receipts = receipts.iter();
        let expected = Told {
            receivers: receivers.to_vec(),
            receipts: receipts
                .map(|(receiver, outcome)| ((*receiver).to_owned(), *outcome))
                .collect(),
        };
        assert_eq!(told, expected);
    }

    /// A client of MQTT 5 whose session is kept for an hour, with additional properties.
    fn connect_with(&mut self, client_id: &str, clean: bool, more: &[u8]) -> Link {
        let link = self.node.open();
        let properties = [&[17, 0, 0, 14, 16], more].concat();
        let head = [
            b"\0\x04MQTT\x05".as_slice(),
            &[u8::from(clean) << 1, 0, 0, properties.len() as u8],
            &properties,
        ]
        .concat();
        let connect = [head, text(client_id)].concat();
        self.node.send(link, &packet(0x10, &connect));
        self.node.elapse(20);
        link
    }

    fn connect(&mut self, client_id: &str) -> Link {
        self.connect_with(client_id, false, &[])
    }

    fn subscribe(&mut self, link: Link, filter: &str, qos: u8) {
        let body = [vec![0, 1, 0], text(filter), vec![qos]].concat();
        self.node.send(link, &packet(0x82, &body));
        self.node.elapse(20);
        self.node.take(link);
    }

    fn subscriber(&mut self, client_id: &str, filter: &str, qos: u8) -> Link {
        let link = self.connect(client_id);
        self.subscribe(link, filter, qos);
        link
    }

    /// A client that has subscribed and disconnected.
    fn away(&mut self, client_id: &str, filter: &str, qos: u8) {
        let link = self.subscriber(client_id, filter, qos);
        self.leave(link);
    }

    fn leave(&mut self, link: Link) {
        self.node.send(link, &[0xe0, 0]);
        self.node.elapse(20);
    }

    /// Packet Identifiers of the PUBLISH packets received by a client.
    fn published_to(&mut self, link: Link) -> Vec<[u8; 2]> {
        self.node.elapse(20);
        let bytes = self.node.take(link);
        let mut rest = bytes.as_slice();
        let mut ids = Vec::new();
        while let [first, length, behind @ ..] = rest {
            let (body, behind) = behind.split_at(usize::from(*length));
            if first >> 4 == 3 && first & 6 != 0 {
                let topic_len = usize::from(body[1]);
                ids.push([body[2 + topic_len], body[3 + topic_len]]);
            }
            rest = behind;
        }
        ids
    }

    /// The client answers all received messages with this packet and reason code. Returns their
    /// number.
    fn answer(&mut self, link: Link, first: u8, reason: u8) -> usize {
        let ids = self.published_to(link);
        for [high, low] in &ids {
            self.node.send(link, &packet(first, &[*high, *low, reason]));
        }
        ids.len()
    }
}

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;
/// Quota exceeded.
const REFUSED: u8 = 0x97;

fn message(topic: &str, qos: QoS) -> NewMessage {
    NewMessage {
        topic: topic.into(),
        payload: b"on".as_slice().into(),
        qos,
        ..NewMessage::default()
    }
}

#[test]
fn each_receiver_leads_to_one_receipt_that_says_how_it_answered() {
    for wiring in wirings() {
        println!("{wiring:?}");
        let mut test = Test::new(wiring);
        let one = test.subscriber("one", "a/#", 1);
        let two = test.subscriber("two", "a/+", 2);
        let refuses = test.subscriber("refuses", "a/b", 1);
        let refuses2 = test.subscriber("refuses2", "a/b", 2);
        test.subscriber("zero", "a/b", 0);
        test.subscriber("elsewhere", "c", 1);
        test.publish("a/b", QoS::ExactlyOnce);
        // QoS 1 receivers are granted 1; those of QoS 0 get receipts at once.
        test.expect(&[5], &[("zero", ReceiptOutcome::Sent)]);
        let ids = test.published_to(two);
        let [[high, low]] = ids[..] else {
            panic!("{ids:?}");
        };
        test.node.send(two, &packet(PUBREC, &[high, low]));
        test.expect(&[], &[("two", ACKNOWLEDGED)]);
        test.node.send(two, &packet(PUBCOMP, &[high, low]));
        assert_eq!(test.answer(one, PUBACK, 0), 1);
        let refused = ReceiptOutcome::Refused(ReasonCode::QuotaExceeded);
        assert_eq!(test.answer(refuses, PUBACK, REFUSED), 1);
        assert_eq!(test.answer(refuses2, PUBREC, REFUSED), 1);
        test.expect(
            &[],
            &[
                ("one", ACKNOWLEDGED),
                ("refuses", refused),
                ("refuses2", refused),
            ],
        );
        test.publish("nobody/wants/it", QoS::AtLeastOnce);
        test.expect(&[0], &[]);
        test.is_done();
    }
}

#[test]
fn without_a_question_there_is_no_receipt() {
    let mut test = Test::new(Wiring::default());
    let one = test.subscriber("one", "a", 1);
    let publish = PartPublish {
        number: 1,
        message: message("a", QoS::AtLeastOnce),
        receipts: false,
    };
    // Their ids go beyond the one that would request receipts.
    for _ in 0..600 {
        let call = PartCall::Publish(PART, Box::new(publish.clone()));
        test.node.part_call(NAME, call);
        assert_eq!(test.answer(one, PUBACK, 0), 1);
        test.expect(&[], &[]);
    }
}

#[test]
fn a_client_that_was_away_leads_to_a_receipt_when_it_comes_back() {
    for wiring in wirings() {
        println!("{wiring:?}");
        let mut test = Test::new(wiring);
        test.away("one", "a", 1);
        test.away("two", "a", 2);
        test.publish("a", QoS::ExactlyOnce);
        test.publish("a", QoS::AtLeastOnce);
        test.expect(&[2, 2], &[]);
        // The next attachment of the same part gets the receipts too, but a part of another name
        // does not.
        test.node.part_call(NAME, PartCall::Detach(PART));
        test.node.elapse(20);
        test.node.take_told();
        let one = test.connect("one");
        assert_eq!(test.answer(one, PUBACK, 0), 2);
        assert!(test.node.take_told().is_empty());
        test.attach(NAME, PART, &[]);
        test.attach(OTHER, PartId(8), &[]);
        let two = test.connect("two");
        let ids = test.published_to(two);
        assert_eq!(ids.len(), 2);
        test.node.send(two, &packet(PUBREC, &ids[0]));
        test.node.send(two, &packet(PUBACK, &ids[1]));
        test.expect(&[], &[("two", ACKNOWLEDGED), ("two", ACKNOWLEDGED)]);
        // It got no receipts of the first part's messages, which were sent before it was attached.
        let left: i64 = test.known.values().sum();
        assert_eq!(left, 2);
    }
}

#[test]
fn the_receipt_of_a_dropped_message_says_why() {
    for wiring in wirings() {
        println!("{wiring:?}");
        let mut settings = Settings::default();
        settings.limits.queued_messages = 1;
        settings.queue_full = QueueFull::DropOldest;
        let mut test = Test::with(wiring, settings);
        // Maximum Packet Size 60.
        let small = test.connect_with("small", false, &[39, 0, 0, 0, 60]);
        let long = format!("long/{}", "x".repeat(60));
        test.subscribe(small, "long/+", 1);
        test.publish(&long, QoS::AtLeastOnce);
        let too_large = dropped(DropReason::PacketTooLarge);
        test.expect(&[1], &[("small", too_large)]);
        test.publish(&long, QoS::AtMostOnce);
        test.expect(&[1], &[("small", too_large)]);
        test.away("away", "a", 1);
        test.publish("a", QoS::AtMostOnce);
        test.expect(&[1], &[("away", dropped(DropReason::ClientAway))]);
        test.publish("a", QoS::AtLeastOnce);
        test.expect(&[1], &[]);
        test.publish("a", QoS::AtLeastOnce);
        test.expect(&[1], &[("away", dropped(DropReason::QueueFull))]);
        // Clean Start ends the session with what is in its queue.
        test.connect_with("away", true, &[]);
        let ended = dropped(DropReason::SessionEnded);
        test.expect(&[], &[("away", ended)]);
        // The same for messages in flight.
        test.subscriber("in flight", "b", 2);
        test.publish("b", QoS::ExactlyOnce);
        test.connect_with("in flight", true, &[]);
        test.expect(&[1], &[("in flight", ended)]);
        // An answer from before the end counts.
        let link = test.subscriber("in flight", "b", 2);
        test.publish("b", QoS::ExactlyOnce);
        test.answer(link, PUBREC, 0);
        test.connect_with("in flight", true, &[]);
        test.expect(&[1], &[("in flight", ACKNOWLEDGED)]);
        test.is_done();
    }
}

#[test]
fn a_client_that_does_not_read_leads_to_receipts_of_drops() {
    for wiring in wirings() {
        let mut settings = Settings::default();
        settings.limits.output_bytes = 4096;
        let mut test = Test::with(wiring, settings);
        let link = test.subscriber("slow", "a", 0);
        test.node.set_reading(link, false);
        let large = || NewMessage {
            payload: vec![b'x'; 4096].into(),
            ..message("a", QoS::AtMostOnce)
        };
        test.publish_all(vec![large(), large()]);
        let told = test.told();
        let full = ("slow".to_owned(), dropped(DropReason::OutputFull));
        assert!(told.receipts.contains(&full), "{told:?}");
        assert_eq!(told.receipts.len(), 2);
        test.is_done();
    }
}

#[test]
fn a_message_that_expires_in_a_queue_leads_to_a_receipt() {
    for wiring in wirings() {
        println!("{wiring:?}");
        let mut test = Test::new(wiring);
        test.away("away", "a", 1);
        let message = NewMessage {
            message_expiry_secs: Some(2),
            ..message("a", QoS::AtLeastOnce)
        };
        test.publish_all(vec![message]);
        test.expect(&[1], &[]);
        test.node.elapse(3_000);
        test.connect("away");
        test.expect(&[], &[("away", ReceiptOutcome::Expired)]);
        test.is_done();
    }
}

#[test]
fn a_long_queue_of_a_session_that_ends_leads_to_a_receipt_for_each_message() {
    for wiring in wirings() {
        println!("{wiring:?}");
        let mut test = Test::new(wiring);
        test.away("away", "a", 1);
        let all = (0..700).map(|_| message("a", QoS::AtLeastOnce)).collect();
        test.publish_all(all);
        let told = test.told();
        assert_eq!((told.receivers.len(), told.receipts.len()), (700, 0));
        test.connect_with("away", true, &[]);
        let told = test.told();
        let ended = ("away".to_owned(), dropped(DropReason::SessionEnded));
        assert_eq!(told.receipts, vec![ended; 700]);
        test.is_done();
    }
}

#[test]
fn what_the_members_of_a_share_group_hand_on_leads_to_one_receipt() {
    for wiring in wirings() {
        println!("{wiring:?}");
        let mut test = Test::new(wiring);
        let filter = "$share/g/a";
        // The member that gets it first leaves without an answer.
        let first = test.subscriber("first", filter, 1);
        test.publish("a", QoS::AtLeastOnce);
        test.expect(&[1], &[]);
        let second = test.subscriber("second", filter, 2);
        test.leave(first);
        test.connect_with("first", true, &[]);
        test.expect(&[], &[]);
        assert_eq!(test.answer(second, PUBACK, 0), 1);
        test.expect(&[], &[("second", ACKNOWLEDGED)]);
        test.publish("a", QoS::AtLeastOnce);
        assert_eq!(test.answer(second, PUBACK, REFUSED), 1);
        let refused = ReceiptOutcome::Refused(ReasonCode::QuotaExceeded);
        test.expect(&[1], &[("second", refused)]);
        test.publish("a", QoS::AtMostOnce);
        test.expect(&[1], &[("second", ReceiptOutcome::Sent)]);
        // All are offline: the group drops QoS 0 messages and keeps the others until it ends.
        test.leave(second);
        test.publish("a", QoS::AtMostOnce);
        test.expect(&[1], &[(filter, dropped(DropReason::NoMember))]);
        test.publish("a", QoS::AtLeastOnce);
        test.expect(&[1], &[]);
        test.connect_with("second", true, &[]);
        test.expect(&[], &[(filter, dropped(DropReason::SessionEnded))]);
        test.is_done();
    }
}

#[test]
fn the_receipt_of_a_member_without_a_durable_session_names_it() {
    for wiring in wirings() {
        println!("{wiring:?}");
        let mut test = Test::new(wiring);
        let filter = "$share/g/a";
        // Sessions that end with their connections.
        let clean = &[17, 0, 0, 0, 0];
        let connect = |test: &mut Test, name: &str| {
            let link = test.node.open();
            let head = [b"\0\x04MQTT\x05".as_slice(), &[2, 0, 0, 5], clean].concat();
            let connect = [head, text(name)].concat();
            test.node.send(link, &packet(0x10, &connect));
            test.node.elapse(20);
            test.subscribe(link, filter, 1);
            link
        };
        let first = connect(&mut test, "first");
        test.publish("a", QoS::AtLeastOnce);
        assert_eq!(test.answer(first, PUBACK, 0), 1);
        test.expect(&[1], &[("first", ACKNOWLEDGED)]);
        // It holds two messages when it leaves.
        test.publish("a", QoS::AtLeastOnce);
        test.publish("a", QoS::AtLeastOnce);
        let second = connect(&mut test, "second");
        test.leave(first);
        test.expect(&[1, 1], &[]);
        assert_eq!(test.answer(second, PUBACK, 0), 2);
        let both = [("second", ACKNOWLEDGED), ("second", ACKNOWLEDGED)];
        test.expect(&[], &both);
        test.publish("a", QoS::AtLeastOnce);
        test.leave(second);
        let told = test.told();
        let [(_, outcome)] = &told.receipts[..] else {
            panic!("{told:?}");
        };
        assert_eq!(*outcome, dropped(DropReason::SessionEnded));
        test.is_done();
    }
}

#[test]
fn parts_are_receivers_too() {
    for wiring in wirings() {
        println!("{wiring:?}");
        let mut test = Test::new(wiring);
        test.attach(OTHER, PartId(8), &["a"]);
        let settle = |test: &mut Test, outcome| {
            let mut events = test.node.take_told();
            let place = events
                .iter()
                .position(|(_, event)| matches!(event, PartEvent::Delivery(_)));
            let (_, event) = events.remove(place.expect("it is delivered"));
            let PartEvent::Delivery(delivery) = event else {
                return Vec::new();
            };
            let token = delivery.token;
            let call = PartCall::Settle(PartId(8), vec![Settlement { token, outcome }]);
            test.node.part_call(OTHER, call);
            test.node.elapse(20);
            events.extend(test.node.take_told());
            let receipts = events.into_iter().filter_map(|(_, event)| match event {
                PartEvent::Receipt(receipt) => Some((receipt.receiver, receipt.outcome)),
                _ => None,
            });
            receipts.collect()
        };
        let rejected = ReceiptOutcome::Refused(ReasonCode::ImplementationSpecificError);
        let failed = ReceiptOutcome::Refused(ReasonCode::UnspecifiedError);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            for (outcome, expected) in [
                (PartOutcome::Done, ACKNOWLEDGED),
                (PartOutcome::Refused(PartRefusal::Rejected), rejected),
                (PartOutcome::Refused(PartRefusal::Failed), failed),
            ] {
                test.publish("a", qos);
                let receipts: Vec<(Arc<str>, ReceiptOutcome)> = settle(&mut test, outcome);
                assert_eq!(receipts, [(Arc::from(OTHER), expected)]);
            }
        }
    }
}

#[test]
fn who_finds_the_message_retained_is_no_receiver() {
    for wiring in wirings() {
        let mut test = Test::new(wiring);
        let retained = NewMessage {
            retain: true,
            ..message("a", QoS::AtLeastOnce)
        };
        test.publish_all(vec![retained]);
        test.expect(&[0], &[]);
        let late = test.connect("late");
        let body = [vec![0, 1, 0], text("a"), vec![1]].concat();
        test.node.send(late, &packet(0x82, &body));
        assert_eq!(test.answer(late, PUBACK, 0), 1);
        test.expect(&[], &[]);
        test.is_done();
    }
}

#[test]
fn a_message_for_many_leads_to_a_receipt_for_each_of_them() {
    for wiring in wirings() {
        println!("{wiring:?}");
        let mut test = Test::new(wiring);
        let links: Vec<Link> = (0..200)
            .map(|number| test.subscriber(&format!("d{number}"), "a", number % 2))
            .collect();
        test.publish("a", QoS::AtLeastOnce);
        let told = test.told();
        assert_eq!(told.receivers, [200]);
        assert_eq!(told.receipts.len(), 100, "of QoS 0");
        for link in links.iter().skip(1).step_by(2) {
            assert_eq!(test.answer(*link, PUBACK, 0), 1);
        }
        let told = test.told();
        assert_eq!(told.receipts.len(), 100);
        let mut names: Vec<&String> = told.receipts.iter().map(|(name, _)| name).collect();
        names.dedup();
        assert_eq!(names.len(), 100);
        test.is_done();
    }
}
