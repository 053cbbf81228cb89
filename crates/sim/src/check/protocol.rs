//! The broker follows the protocol towards each client: Packet Identifiers in use are not reused,
//! no more messages are in flight than Receive Maximum allows, and retransmissions have DUP set
//! [MQTT-2.2.1-4], [MQTT-3.3.1-1], [MQTT-3.3.4-9], [MQTT-4.3.3-2].

use std::collections::BTreeMap;

use martlet_codec::{AckKind, QoS};

use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::Ledger;
use crate::observer::Findings;

const CHECK: &str = "rules of the protocol";

/// Messages in flight to each client.
#[derive(Debug, Default)]
pub(super) struct Protocol {
    clients: BTreeMap<ClientIndex, UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    life: u32,
    connection: u32,
    crashes: u32,
    /// Whether the session began with this connection.
    new_session: bool,
    /// Packet Identifiers of unfinished exchanges of the session.
    exchanges: BTreeMap<u16, Exchange>,
    /// Number of them that are in flight on this connection.
    quota_used: u16,
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    message: Option<MessageIndex>,
    connection: u32,
    qos: QoS,
    /// Whether PUBACK, PUBREC with an error, or PUBCOMP was sent on that connection.
    over: bool,
}

impl Protocol {
    pub(super) fn see(&mut self, fact: &Fact, ledger: &Ledger, findings: &mut Findings) {
        match *fact {
            Fact::Connected {
                client, resumed, ..
            } => {
                let row = ledger.client(client);
                let under_way = self.clients.entry(client).or_default();
                if under_way.life != row.life {
                    under_way.exchanges.clear();
                }
                under_way.life = row.life;
                under_way.connection = row.connection;
                under_way.new_session = !resumed;
                under_way.quota_used = 0;
                if core::mem::replace(&mut under_way.crashes, row.crashes) != row.crashes {
                    // A QoS 1 message may have been sent before its identifier was recorded.
                    for exchange in under_way.exchanges.values_mut() {
                        exchange.over |= exchange.qos == QoS::AtLeastOnce;
                    }
                }
            }
            Fact::Arrived {
                client,
                message,
                qos,
                dup,
                packet_id,
                ..
            } if qos > QoS::AtMostOnce => {
                let maximum = ledger.client(client).receive_maximum;
                let under_way = self.clients.entry(client).or_default();
                if let Some(what) = under_way.arrived(message, qos, dup, packet_id, maximum) {
                    let name = &ledger.client(client).name;
                    findings.add(CHECK, format!("to {name}: {what}"));
                }
            }
            Fact::Released {
                client, packet_id, ..
            } => {
                let under_way = self.clients.entry(client).or_default();
                under_way.released(packet_id);
            }
            Fact::Answered {
                client,
                kind,
                packet_id,
                refused,
            } if refused || kind != AckKind::PubRec => {
                let under_way = self.clients.entry(client).or_default();
                under_way.ended(packet_id);
            }
            _ => {}
        }
    }
}

impl UnderWay {
    fn arrived(
        &mut self,
        message: Option<MessageIndex>,
        qos: QoS,
        dup: bool,
        packet_id: u16,
        maximum: u16,
    ) -> Option<String> {
        let connection = self.connection;
        let before = self.exchanges.get(&packet_id).copied();
        let open = before.filter(|exchange| !exchange.over);
        let exchange = Exchange {
            message,
            connection,
            qos,
            over: false,
        };
        self.exchanges.insert(packet_id, exchange);
        self.quota_used += 1;
        if dup && self.new_session {
            return Some(format!("DUP 1 for identifier {packet_id} in a new session"));
        }
        if self.quota_used > maximum {
            let used = self.quota_used;
            return Some(format!("{used} under way, Receive Maximum is {maximum}"));
        }
        let open = open?;
        if open.connection == connection {
            return Some(format!("identifier {packet_id} is taken"));
        }
        if open.message != message {
            return Some(format!("identifier {packet_id} stands for another message"));
        }
        if !dup {
            return Some(format!("identifier {packet_id} is sent again with DUP 0"));
        }
        None
    }

    /// PUBREL on a new connection also uses the quota.
    fn released(&mut self, packet_id: u16) {
        let connection = self.connection;
        let again = self
            .exchanges
            .get(&packet_id)
            .is_none_or(|exchange| exchange.connection != connection);
        if again {
            self.quota_used += 1;
            let exchange = Exchange {
                message: None,
                connection,
                qos: QoS::ExactlyOnce,
                over: false,
            };
            self.exchanges.insert(packet_id, exchange);
        }
    }

    fn ended(&mut self, packet_id: u16) {
        if let Some(exchange) = self.exchanges.get_mut(&packet_id)
            && !exchange.over
        {
            exchange.over = true;
            self.quota_used = self.quota_used.saturating_sub(1);
        }
    }
}
