//! Wills: published when a connection is lost, not before the Will Delay Interval has passed, and
//! not if the client sent DISCONNECT or has reconnected in time [MQTT-3.1.2-8], [MQTT-3.1.2-10],
//! [MQTT-3.1.3-9], [MQTT-3.14.4-3]. The check `once` finds Wills that are published twice.

use std::collections::{BTreeMap, BTreeSet};

use martlet_codec::QoS;

use crate::agenda::SECOND;
use crate::facts::{ClientIndex, Fact, Loss, MessageIndex};
use crate::ledger::Ledger;
use crate::node::LinkIndex;
use crate::observer::Findings;
use crate::topics::TopicIndex;

const CHECK: &str = "Wills when due";

/// Time limit for a record to become durable.
const RECORD_US: u64 = 40 * SECOND;
/// Time limit for the node to notice a lost connection, after its client did.
const NOTICE_US: u64 = 200 * SECOND;

/// All Wills.
#[derive(Debug, Default)]
pub(super) struct Wills {
    /// The Will of each client's last connection.
    last: BTreeMap<ClientIndex, MessageIndex>,
    wills: BTreeMap<MessageIndex, Will>,
    /// Clients that are promised the Will, with their life.
    owed: BTreeMap<(MessageIndex, ClientIndex), u32>,
    /// Clients that have received it.
    got: BTreeSet<(MessageIndex, ClientIndex)>,
    /// Clients for which the node has dropped a Will on that topic, and reported it.
    dropped: BTreeSet<(Option<TopicIndex>, ClientIndex)>,
}

#[derive(Clone, Copy, Debug)]
struct Will {
    client: ClientIndex,
    link: LinkIndex,
    delay_us: u64,
    /// Whether CONNACK was received.
    connected: bool,
    /// Earliest time at which the node may have lost the connection.
    lost_us: Option<u64>,
    /// How it ended for the client.
    how: Option<Loss>,
    /// Whether its connection ended with a crash of the node.
    crashed: bool,
    /// Whether the client broke the protocol, so that later packets may not count.
    violated: bool,
    /// When the node was restarted after a crash that ended its connection; 0 is never.
    restarted_us: u64,
    /// Time from which it must not be sent.
    forbidden_us: u64,
    /// Why it must not be sent.
    forbidden: Option<&'static str>,
    /// Whether the session may have been ended by Clean Start: then the Will is due at once.
    at_once: bool,
}

impl Wills {
    pub(super) fn see(
        &mut self,
        at_us: u64,
        fact: &Fact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match *fact {
            Fact::Connecting {
                client,
                link,
                clean,
                expiry_secs,
                will,
                will_delay_secs,
                ..
            } => {
                self.connects(at_us, client, clean);
                if let Some(message) = will {
                    let delay_secs = will_delay_secs.min(expiry_secs);
                    let will = Will {
                        client,
                        link,
                        delay_us: u64::from(delay_secs) * SECOND,
                        connected: false,
                        lost_us: None,
                        how: None,
                        violated: false,
                        crashed: false,
                        restarted_us: 0,
                        forbidden_us: 0,
                        forbidden: None,
                        at_once: false,
                    };
                    self.wills.insert(message, will);
                    self.last.insert(client, message);
                }
            }
            Fact::Connected {
                client, present, ..
            } => self.connected(at_us, client, present),
            Fact::Cut { client, .. }
            | Fact::Violated { client }
            | Fact::Reading { client, on: false } => {
                if let Some(will) = self.present(client) {
                    will.lost_us.get_or_insert(at_us);
                    will.violated |= matches!(fact, Fact::Violated { .. });
                }
            }
            Fact::Crashed { .. } => self.crashed(at_us, ledger),
            Fact::Restarted => {
                for will in self.wills.values_mut().filter(|will| will.crashed) {
                    will.restarted_us = at_us;
                }
            }
            Fact::Lost { client, how } => self.lost(at_us, client, how, ledger),
            Fact::EndSeen {
                client,
                link,
                orderly: true,
            } => {
                let mut of_client = self.wills.values_mut();
                let found = of_client.find(|will| will.client == client && will.link == link);
                if let Some(will) = found
                    && will.how == Some(Loss::Goodbye)
                    && !will.violated
                    && will.connected
                {
                    will.forbidden = Some("its client sent DISCONNECT");
                    will.forbidden_us = at_us;
                }
            }
            Fact::Unsubscribing { client, .. } | Fact::Subscribing { client, .. } => {
                self.owed.retain(|(_, watcher), _| *watcher != client);
            }
            Fact::Dropped { client, topic, .. } => {
                self.dropped.insert((topic, client));
            }
            Fact::Arrived {
                client,
                message: Some(message),
                ..
            } if (message as usize) < ledger.messages.len() => {
                self.arrived(at_us, client, message, ledger, findings);
            }
            _ => {}
        }
    }

    /// Handles a crash: a connected client counts as lost, with some time to reconnect. A
    /// DISCONNECT whose record was not yet durable does not count.
    fn crashed(&mut self, at_us: u64, ledger: &Ledger) {
        let grace_us = 30 * SECOND;
        let mut uncertain = BTreeSet::new();
        for (message, will) in &mut self.wills {
            if will.forbidden_us + RECORD_US > at_us {
                will.forbidden = None;
            }
            if will.how.is_some() {
                // Published or not: the node may not have noticed the loss, or its record was not
                // durable.
                let due_us = will.lost_us.unwrap_or(0) + will.delay_us;
                let crashed = will.crashed && will.forbidden.is_none();
                if !crashed && due_us + NOTICE_US + RECORD_US > at_us {
                    uncertain.insert(*message);
                }
            } else {
                will.lost_us.get_or_insert(at_us);
                will.delay_us = will.delay_us.max(grace_us);
                will.crashed = true;
                will.at_once = true;
            }
        }
        self.owed
            .retain(|(message, _), _| !uncertain.contains(message));
        let connected: Vec<ClientIndex> = self
            .last
            .iter()
            .filter(|(_, message)| {
                let will = &self.wills[*message];
                will.how.is_none() && will.connected
            })
            .map(|(client, _)| *client)
            .collect();
        for client in connected {
            let message = self.last[&client];
            let lost_us = self.wills[&message].lost_us.unwrap_or(at_us);
            self.owe(client, message, lost_us, ledger);
        }
    }

    fn present(&mut self, client: ClientIndex) -> Option<&mut Will> {
        let message = self.last.get(&client)?;
        let will = self.wills.get_mut(message)?;
        will.how.is_none().then_some(will)
    }

    fn connects(&mut self, at_us: u64, client: ClientIndex, clean: bool) {
        if clean {
            // Also Wills of earlier connections: a crash may have undone the later one.
            let of_client = self.wills.values_mut().filter(|will| will.client == client);
            of_client.for_each(|will| will.at_once = true);
        }
        let Some(message) = self.last.get(&client).copied() else {
            return;
        };
        let Some(will) = self.wills.get_mut(&message) else {
            return;
        };
        // After a restart the due time is known; otherwise it is unknown when the node notices the
        // loss.
        let until_us = match will.restarted_us {
            0 => will.lost_us.unwrap_or(at_us) + will.delay_us + NOTICE_US,
            restarted_us => restarted_us + will.delay_us + 5 * SECOND,
        };
        if will.delay_us > 0 && at_us < until_us {
            // Whether it reconnected in time depends on when the node notices the loss.
            self.owed.retain(|(owed, _), _| *owed != message);
        }
    }

    /// Handles a new connection: checks whether the client reconnected in time for its previous
    /// Will.
    fn connected(&mut self, at_us: u64, client: ClientIndex, present: bool) {
        let mut before = None;
        for (message, will) in self.wills.range_mut(..) {
            if will.client != client {
                continue;
            }
            if self.last.get(&client) == Some(message) && will.how.is_none() {
                will.connected = true;
            } else {
                before = Some(will);
            }
        }
        if let Some(will) = before
            && present
            && !will.at_once
            && will.delay_us > 0
            && will.connected
            && will
                .lost_us
                .is_some_and(|lost| at_us < lost + will.delay_us)
        {
            will.forbidden.get_or_insert("its client was back in time");
            will.forbidden_us = at_us;
        }
    }

    fn lost(&mut self, at_us: u64, client: ClientIndex, how: Loss, ledger: &Ledger) {
        let Some(message) = self.last.get(&client).copied() else {
            return;
        };
        let Some(will) = self
            .wills
            .get_mut(&message)
            .filter(|will| will.how.is_none())
        else {
            return;
        };
        will.how = Some(how);
        let by_node = matches!(how, Loss::Ended | Loss::ByDisconnect(_));
        // If the node closed the connection, that was some time before its client noticed.
        let earliest = if by_node { 0 } else { at_us };
        let lost_us = *will.lost_us.get_or_insert(earliest);
        if how != Loss::Goodbye && will.connected {
            self.owe(client, message, lost_us, ledger);
        }
    }

    /// A Will is promised to clients that subscribed to it before its connection was lost.
    fn owe(&mut self, client: ClientIndex, message: MessageIndex, lost_us: u64, ledger: &Ledger) {
        let row = ledger.message(message);
        if row.qos == QoS::AtMostOnce {
            return;
        }
        for watcher in 0..ledger.clients.len() as ClientIndex {
            let known = ledger.client(watcher);
            let promised = ledger.promised_qos_since(lost_us, watcher, row.topic, row.publisher);
            let lasts = known.session && known.expiry_secs == u32::MAX && watcher != client;
            // The Will may have arrived before its own client noticed the loss.
            let lasts = lasts && !self.got.contains(&(message, watcher));
            if lasts && promised.is_some_and(|qos| qos > QoS::AtMostOnce) {
                self.owed.insert((message, watcher), known.life);
            }
        }
    }

    fn arrived(
        &mut self,
        at_us: u64,
        client: ClientIndex,
        message: MessageIndex,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        self.owed.remove(&(message, client));
        self.got.insert((message, client));
        let Some(will) = self.wills.get(&message) else {
            return;
        };
        let what = format!("the Will {}", ledger.describe(message));
        if let Some(why) = will.forbidden {
            return findings.add(CHECK, format!("{what} was sent though {why}"));
        }
        let Some(lost_us) = will.lost_us else {
            return;
        };
        // After a forward step of the clock took a session's minute, a second start may end it at
        // once.
        let stepped = ledger.clock_ahead_us > 0 && ledger.crashes > 1;
        // The node uses whole milliseconds.
        if !will.at_once && !stepped && at_us + 2_000 < lost_us + will.delay_us {
            let early_ms = (lost_us + will.delay_us - at_us) / 1000;
            findings.add(CHECK, format!("{what} was sent {early_ms} ms early"));
        }
    }

    pub(super) fn settled(&mut self, _at_us: u64, ledger: &Ledger, findings: &mut Findings) {
        for ((message, watcher), life) in &self.owed {
            let row = ledger.client(*watcher);
            let forbidden =
                self.wills[message].forbidden.is_some() || ledger.message(*message).rotten;
            let topic = ledger.message(*message).topic;
            let reported = [Some(topic), None]
                .iter()
                .any(|topic| self.dropped.contains(&(*topic, *watcher)));
            if row.life == *life && row.session && !forbidden && !reported {
                let what = ledger.describe(*message);
                let what = format!("{} never got the Will {what}", row.name);
                return findings.add(CHECK, what);
            }
        }
    }
}
