//! Every arriving message was published on that topic, by a client whose messages the receiver had
//! subscribed to, with a QoS that was granted [MQTT-3.8.3-3], [MQTT-3.8.4-8].

use crate::facts::Fact;
use crate::ledger::Ledger;
use crate::observer::Findings;

const CHECK: &str = "genuine messages";

/// Stateless.
#[derive(Debug, Default)]
pub(super) struct Genuine;

impl Genuine {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        let Fact::Arrived {
            client,
            message: Some(message),
            topic,
            qos,
            retain,
            ..
        } = *fact
        else {
            return;
        };
        let name = &ledger.client(client).name;
        if message as usize >= ledger.messages.len() {
            return findings.add(CHECK, format!("{name} got m{message}, which nobody sent"));
        }
        let what = ledger.describe(message);
        let row = ledger.message(message);
        if row.topic != topic {
            let other = ledger.topics.name(topic);
            findings.add(CHECK, format!("{name} got {what} on {other}"));
        }
        if qos > row.qos {
            findings.add(CHECK, format!("{name} got {what} at QoS {}", qos.bits()));
        }
        // An ended subscription may have messages in flight, so only sessions in which none was
        // ended count.
        let rows = &ledger.client(client).subscriptions;
        let mut matching = rows
            .iter()
            .filter(|row| ledger.topics.matches(row.filter, topic));
        let only_no_local = matching.clone().all(|row| row.no_local);
        // A retained message counts as the topic's own, not its publisher's.
        let own = row.publisher == client && !retain && !ledger.client(client).changed;
        if matching.next().is_some() && only_no_local && own {
            findings.add(CHECK, format!("{name} got {what} in spite of No Local"));
        }
    }
}
