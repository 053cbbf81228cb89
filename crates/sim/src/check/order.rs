//! Order: messages of one publisher on one topic at one QoS arrive in the order in which they were
//! published, first seen and, on a new connection, sent again [MQTT-4.6.0-5], [MQTT-4.6.0-6].

use std::collections::BTreeMap;

use martlet_codec::QoS;

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::topics::{Class, TopicIndex};

const CHECK: &str = "order";

/// What is ordered: receiver, publisher, topic, QoS as published and as sent.
type Stream = (ClientIndex, ClientIndex, TopicIndex, QoS, QoS);

/// How far each stream has come.
#[derive(Debug, Default)]
pub(super) struct Order {
    streams: BTreeMap<Stream, Place>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    life: u32,
    connection: u32,
    crashes: u32,
    /// The latest message seen in this life.
    latest: MessageIndex,
    /// The last one seen on this connection.
    last: MessageIndex,
}

impl Order {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        let Fact::Arrived {
            client,
            message: Some(message),
            topic,
            qos,
            dup,
            known,
            ..
        } = *fact
        else {
            return;
        };
        let row = ledger.message(message);
        let plain = ledger.topics.class(topic) == Class::Plain;
        // A QoS 1 message that its publisher sent again is another one at the broker.
        if !plain || row.qos == QoS::AtLeastOnce && row.sends > 1 {
            return;
        }
        let receiver = ledger.client(client);
        let stream = (client, row.publisher, topic, row.qos, qos);
        let place = self.streams.entry(stream).or_default();
        let number = message + 1;
        if place.life != receiver.life {
            *place = Place {
                life: receiver.life,
                ..Place::default()
            };
        }
        if place.crashes != receiver.crashes {
            // What was sent and not recorded is sent again as new.
            place.crashes = receiver.crashes;
            place.latest = 0;
        }
        if place.connection != receiver.connection {
            place.connection = receiver.connection;
            place.last = 0;
        }
        let fresh = !dup && !known;
        if number <= place.last || fresh && number <= place.latest {
            let before = place.last.max(place.latest).saturating_sub(1);
            let (name, what) = (&receiver.name, ledger.describe(message));
            findings.add(CHECK, format!("{name} got {what} after m{before}"));
        }
        place.last = number;
        place.latest = place.latest.max(number);
    }
}
