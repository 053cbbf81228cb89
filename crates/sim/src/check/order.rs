//! Order: messages of one publisher on one topic at one QoS arrive in publishing order, both new
//! ones and, on a new connection, retransmissions [MQTT-4.6.0-5], [MQTT-4.6.0-6].
//!
//! A crash undoes what was not acknowledged, so that it arrives again; but a message that a
//! session sees for the first time is never preceded by a later one.

use std::collections::{BTreeMap, BTreeSet};

use martlet_codec::QoS;

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::topics::{Class, TopicIndex};

const CHECK: &str = "order";

/// Key of an ordered stream: receiver, publisher, topic, QoS as published and as sent.
type Stream = (ClientIndex, ClientIndex, TopicIndex, QoS, QoS);

/// Progress of each stream.
#[derive(Debug, Default)]
pub(super) struct Order {
    streams: BTreeMap<Stream, StreamProgress>,
    /// Clients for which the node has dropped a message: its publisher may send it again, after
    /// others.
    dropped: BTreeSet<ClientIndex>,
}

#[derive(Clone, Debug, Default)]
struct StreamProgress {
    life: u32,
    connection: u32,
    crashes: u32,
    /// The latest message seen in this life since the last crash.
    latest: MessageIndex,
    /// The last one seen on this connection.
    last: MessageIndex,
    /// All seen in this life.
    seen: BTreeSet<MessageIndex>,
}

impl Order {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        match *fact {
            Fact::Dropped { client, .. } => {
                self.dropped.insert(client);
            }
            Fact::Arrived {
                client,
                message: Some(message),
                topic,
                qos,
                dup,
                known,
                ..
            } if ledger.topics.class(topic) == Class::Plain => {
                let fresh = !dup && !known;
                self.arrived(client, message, qos, fresh, ledger, findings);
            }
            _ => {}
        }
    }

    fn arrived(
        &mut self,
        client: ClientIndex,
        message: MessageIndex,
        qos: QoS,
        fresh: bool,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let row = ledger.message(message);
        let receiver = ledger.client(client);
        let stream = (client, row.publisher, row.topic, row.qos, qos);
        let place = self.streams.entry(stream).or_default();
        let number = message + 1;
        if place.life != receiver.life {
            *place = StreamProgress {
                life: receiver.life,
                ..StreamProgress::default()
            };
        }
        let latest = place.seen.last().copied();
        let first_seen = place.seen.insert(message);
        if let Some(latest) = latest.filter(|latest| first_seen && message < *latest)
            && qos > QoS::AtMostOnce
            && row.expires_us == u64::MAX
            && !self.dropped.contains(&client)
            && is_promised_before(row.sent_us, client, message, ledger)
        {
            let (name, what) = (&receiver.name, ledger.describe(message));
            findings.add(
                CHECK,
                format!("{name} got {what} for the first time after m{latest}"),
            );
        }
        // A QoS 1 message that its publisher sent again is a different message for the broker.
        if row.qos == QoS::AtLeastOnce && row.sends > 1 {
            return;
        }
        if place.crashes != receiver.crashes {
            // Unrecorded QoS 1 deliveries are sent again as new.
            place.crashes = receiver.crashes;
            if qos < QoS::ExactlyOnce {
                place.latest = 0;
            }
        }
        if place.connection != receiver.connection {
            place.connection = receiver.connection;
            place.last = 0;
        }
        if number <= place.last || fresh && number <= place.latest {
            let before = place.last.max(place.latest).saturating_sub(1);
            let (name, what) = (&receiver.name, ledger.describe(message));
            findings.add(CHECK, format!("{name} got {what} after m{before}"));
        }
        place.last = number;
        place.latest = place.latest.max(number);
    }
}

/// Whether all subscriptions of the client to the topic are older than the message and unchanged:
/// none was ended or replaced, so that no message was skipped.
fn is_promised_before(
    sent_us: u64,
    client: ClientIndex,
    message: MessageIndex,
    ledger: &Ledger,
) -> bool {
    let (row, receiver) = (ledger.message(message), ledger.client(client));
    let promised = ledger.promised_qos_since(sent_us, client, row.topic, row.publisher);
    !receiver.changed && promised.is_some_and(|qos| qos > QoS::AtMostOnce)
}
