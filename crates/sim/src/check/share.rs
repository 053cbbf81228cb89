//! Share groups: each message goes to one member. It goes to another member only after the session
//! of the first has ended, and at QoS 2 not even then. Some member gets it while a member's
//! session exists [MQTT-4.8.2-4], [MQTT-4.8.2-5]. In a run each client is a member of at most one
//! group.

use std::collections::{BTreeMap, BTreeSet};

use martlet_codec::QoS;

use crate::agenda::SECOND;
use crate::facts::{ClientIndex, Fact, MessageIndex};
use crate::ledger::{ClientRow, Ledger, SubscriptionState};
use crate::observer::Findings;
use crate::topics::{Class, FilterIndex, TopicIndex};

const CHECK: &str = "share groups";

/// Checks the receivers of messages of share groups.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Receivers by group and message.
    got: BTreeMap<(FilterIndex, MessageIndex), Receiver>,
    owed: BTreeMap<(FilterIndex, MessageIndex), ()>,
    /// Messages received by two members, unless one of them turns out to have lost its connection
    /// before: data on a link may be read long after the node has given the message to another
    /// member.
    suspects: Vec<Suspect>,
    /// Current or former group of each client: a node may notice late that the client has left.
    groups: BTreeMap<ClientIndex, FilterIndex>,
    /// Groups with a current or former member at QoS 0: its messages may be lost with its
    /// connection.
    lossy: BTreeSet<FilterIndex>,
    /// Drops reported by the node, of groups and of their members.
    dropped: BTreeMap<(FilterIndex, Option<TopicIndex>), usize>,
}

#[derive(Debug)]
struct Suspect {
    at_us: u64,
    members: [ClientIndex; 2],
    what: String,
}

/// Time limit for a client to notice that the node has closed its connection.
const LEARN_US: u64 = 120 * SECOND;

#[derive(Clone, Copy, Debug)]
struct Receiver {
    client: ClientIndex,
    life: u32,
    connection: u32,
    qos: QoS,
    crashes: u32,
    expiry_secs: u32,
}

impl Share {
    pub(super) fn before(&mut self, fact: &Fact, ledger: &Ledger) {
        let ends = match *fact {
            Fact::Connecting {
                client,
                clean: true,
                ..
            }
            | Fact::Unsubscribing { client, .. }
            | Fact::Connected {
                client,
                present: false,
                ..
            } => Some(client),
            Fact::Lost { client, .. } if ledger.client(client).expiry_secs == 0 => Some(client),
            _ => None,
        };
        let Some(client) = ends else { return };
        let Some(group) = self.groups.get(&client).copied() else {
            return;
        };
        // Its QoS 2 messages in flight are dropped with its session, and the group may end.
        let others = (0..ledger.clients.len() as ClientIndex)
            .any(|other| other != client && is_anchor(ledger.client(other), group));
        self.owed.retain(|(of, message), ()| {
            *of != group || others && ledger.message(*message).qos < QoS::ExactlyOnce
        });
    }

    pub(super) fn see(
        &mut self,
        at_us: u64,
        fact: &Fact,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        if let Some(suspect) = self.suspects.first()
            && at_us > suspect.at_us + LEARN_US
        {
            findings.add(CHECK, suspect.what.clone());
        }
        match *fact {
            Fact::Subscribing {
                client,
                filter,
                qos,
                ..
            } if ledger.topics.is_shared(filter) => {
                self.groups.insert(client, filter);
                if qos == QoS::AtMostOnce && self.lossy.insert(filter) {
                    self.owed.retain(|(group, _), ()| *group != filter);
                }
            }
            Fact::DroppedByGroup { group, topic, .. } => {
                *self.dropped.entry((group, topic)).or_default() += 1;
            }
            Fact::Dropped { client, topic, .. } => {
                if let Some(group) = self.groups.get(&client) {
                    *self.dropped.entry((*group, topic)).or_default() += 1;
                }
            }
            Fact::Crashed { .. } => self.suspects.clear(),
            Fact::Lost { client, .. } => {
                self.suspects
                    .retain(|suspect| !suspect.members.contains(&client));
            }
            Fact::Published {
                message,
                again: false,
                ..
            } => self.owe(message, ledger),
            Fact::Arrived {
                client,
                message: Some(message),
                topic,
                qos,
                known: false,
                ..
            } if ledger.topics.class(topic) == Class::Shared => {
                self.arrived(at_us, client, message, qos, ledger, findings);
            }
            _ => {}
        }
    }

    fn owe(&mut self, message: MessageIndex, ledger: &Ledger) {
        let row = ledger.message(message);
        if row.qos == QoS::AtMostOnce || ledger.topics.class(row.topic) != Class::Shared {
            return;
        }
        for member in &ledger.clients {
            if let Some(group) = group_of(member, ledger)
                && ledger.topics.matches(group, row.topic)
                && is_anchor(member, group)
                && !self.lossy.contains(&group)
            {
                self.owed.insert((group, message), ());
            }
        }
    }

    fn arrived(
        &mut self,
        at_us: u64,
        client: ClientIndex,
        message: MessageIndex,
        qos: QoS,
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let member = ledger.client(client);
        let Some(group) = self.groups.get(&client).copied() else {
            return;
        };
        self.owed.remove(&(group, message));
        let receiver = Receiver {
            client,
            life: member.life,
            connection: member.connection,
            qos,
            crashes: member.crashes,
            expiry_secs: member.expiry_secs,
        };
        let Some(first) = self.got.insert((group, message), receiver) else {
            return;
        };
        let row = ledger.message(message);
        if qos == QoS::AtMostOnce || row.qos == QoS::AtLeastOnce && row.sends > 1 {
            return;
        }
        let what = ledger.describe(message);
        let earlier = ledger.client(first.client);
        let (one, other) = (&earlier.name, &member.name);
        let other_session = first.client != client || first.life != member.life;
        // If the member's session ends with its connection, its messages stay with the group until
        // they are acknowledged.
        let lent =
            first.expiry_secs.min(member.expiry_secs) == 0 && first.crashes != member.crashes;
        if first.qos.min(qos) == QoS::ExactlyOnce && other_session && !lent {
            findings.add(CHECK, format!("{what} went to {one}, then to {other}"));
        } else if first.client != client
            && earlier.online
            && earlier.life == first.life
            && earlier.connection == first.connection
            && first.crashes == member.crashes
        {
            self.suspects.push(Suspect {
                at_us,
                members: [first.client, client],
                what: format!("{what} went to {one}, and to {other} while both were there"),
            });
        }
    }

    pub(super) fn settled(&mut self, at_us: u64, ledger: &Ledger, findings: &mut Findings) {
        if let Some(suspect) = self.suspects.first() {
            findings.add(CHECK, suspect.what.clone());
        }
        let mut missing: BTreeMap<(FilterIndex, TopicIndex), Vec<MessageIndex>> = BTreeMap::new();
        let owed = self.owed.keys();
        for (group, message) in owed.filter(|(_, message)| ledger.is_owed(*message, at_us)) {
            let key = (*group, ledger.message(*message).topic);
            missing.entry(key).or_default().push(*message);
        }
        for ((group, topic), missing) in missing {
            let reported = |topic| self.dropped.get(&(group, topic)).copied().unwrap_or(0);
            let (count, reported) = (missing.len(), reported(Some(topic)) + reported(None));
            if count > reported {
                let (what, group) = (ledger.describe(missing[0]), ledger.topics.filter(group));
                let what = format!(
                    "nobody of {group} got {what} ({count} on that topic, {reported} told of)"
                );
                findings.add(CHECK, what);
            }
        }
    }
}

/// The group of a client that is a member or has requested to be.
fn group_of(row: &ClientRow, ledger: &Ledger) -> Option<FilterIndex> {
    let mut shared = row.subscriptions.iter();
    shared
        .find(|found| ledger.topics.is_shared(found.filter))
        .map(|found| found.filter)
}

/// Whether its membership outlives its connection: its session never expires, or it is certainly
/// connected now.
fn is_anchor(row: &ClientRow, group: FilterIndex) -> bool {
    let lasts = match row.expiry_secs {
        0 => false,
        u32::MAX => true,
        _ => row.undisturbed,
    };
    row.session
        && lasts
        && row
            .subscriptions
            .iter()
            .any(|found| found.filter == group && found.state == SubscriptionState::Granted)
}
