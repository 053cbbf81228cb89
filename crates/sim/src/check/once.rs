//! QoS 2 exactly once, QoS 1 no more often than published: a session gets a QoS 2 message once,
//! whatever its publisher sends again [MQTT-4.3.3-2], [MQTT-4.3.3-10], and a QoS 1 message with
//! DUP 0 once for each PUBLISH of it [MQTT-3.3.1-1].

use std::collections::BTreeMap;

use martlet_codec::QoS;

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;
use crate::topics::Class;

const CHECK: &str = "exactly once, at least once";

/// How often each session got each message.
#[derive(Debug, Default)]
pub(super) struct Once {
    /// Messages received by each client, with the number of the session's life.
    got: BTreeMap<ClientIndex, (u32, Got)>,
}

/// Number of arrivals of each message: at QoS 2, and with DUP 0.
type Got = BTreeMap<MessageIndex, (u32, u32)>;

impl Once {
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
        let class = ledger.topics.class(topic);
        // Retained messages are sent again for each subscription; share groups have a separate
        // check.
        if known || qos == QoS::AtMostOnce || matches!(class, Class::Retained | Class::Shared) {
            return;
        }
        let life = ledger.client(client).life;
        let (of_life, got) = self.got.entry(client).or_default();
        if *of_life != life {
            *of_life = life;
            got.clear();
        }
        let (times, fresh) = got.entry(message).or_default();
        *times += u32::from(qos == QoS::ExactlyOnce);
        *fresh += u32::from(!dup);
        let (times, fresh) = (*times, *fresh);
        let row = ledger.message(message);
        let sends = match row.qos {
            QoS::ExactlyOnce => 1,
            _ => row.sends.max(1),
        };
        // A QoS 1 delivery may not have been recorded before a crash.
        let allowed = sends * (1 + ledger.crashes);
        let name = &ledger.client(client).name;
        if qos == QoS::ExactlyOnce && times > 1 {
            let what = ledger.describe(message);
            findings.add(CHECK, format!("{name} got {what} {times} times"));
        } else if fresh > allowed {
            let (what, sends) = (ledger.describe(message), row.sends);
            let what = format!("{name} got {what} {fresh} times with DUP 0, sent {sends} times");
            findings.add(CHECK, what);
        }
    }
}
