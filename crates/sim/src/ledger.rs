//! The ledger: the messages of a run, their state at the publisher, and the promises to each
//! client. It is built only from facts, for use by all checks.

use std::collections::BTreeMap;

use martlet_broker::TenantId;
use martlet_codec::QoS;

use crate::agenda::SECOND;
use crate::facts::{ClientIndex, Fact, MessageIndex, PartIndex};
use crate::node::LinkIndex;
use crate::part::PartRow;
use crate::people::People;
use crate::sink::SinkTenant;
use crate::topics::{FilterIndex, TopicIndex, Topics};

/// A message of the run.
#[derive(Clone, Copy, Debug)]
pub struct MessageRow {
    /// The client that publishes it, or whose Will it is.
    pub publisher: ClientIndex,
    /// Topic.
    pub topic: TopicIndex,
    /// Published with this QoS.
    pub qos: QoS,
    /// With RETAIN 1.
    pub retain: bool,
    /// With an empty payload.
    pub empty: bool,
    /// Whether it is a Will.
    pub will: bool,
    /// When it was sent first; for a Will, when its CONNECT was sent.
    pub sent_us: u64,
    /// Number of times its PUBLISH was sent.
    pub sends: u32,
    /// When PUBACK or PUBREC was received; 0: not yet.
    pub acked_us: u64,
    /// Whether it was refused.
    pub refused: bool,
    /// Whether a bit of it has flipped on the disk: receivers that do not have it yet lose it.
    pub rotten: bool,
    /// When it expires; `u64::MAX` is never.
    pub expires_us: u64,
}

/// State of a subscription, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// SUBSCRIBE was sent.
    Asked,
    /// SUBACK was received.
    Granted,
    /// UNSUBSCRIBE was sent.
    Leaving,
}

/// A subscription of a client.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionRow {
    /// Filter.
    pub filter: FilterIndex,
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Number of its Subscription Identifier; 0 is none.
    pub identifier: u32,
    /// State of the subscription.
    pub state: SubscriptionState,
    /// When SUBACK was received.
    pub granted_us: u64,
}

/// A client and the promises to it.
#[derive(Clone, Debug, Default)]
pub struct ClientRow {
    /// Client Identifier.
    pub name: String,
    /// Raised with each session that begins.
    pub life: u32,
    /// Raised with each CONNECT.
    pub connection: u32,
    /// Crashes of the node before the last CONNECT: data on an older link is from before.
    pub crashes: u32,
    /// The link of the last CONNECT.
    pub link: LinkIndex,
    /// Whether CONNACK was received and the connection still exists.
    pub online: bool,
    /// Whether it is connected and its connection was not disturbed.
    pub undisturbed: bool,
    /// Whether a session was promised and has not ended, as far as the client knows.
    pub session: bool,
    /// Session Expiry Interval of the last CONNECT, seconds.
    pub expiry_secs: u32,
    /// Receive Maximum of the last CONNECT.
    pub receive_maximum: u16,
    /// When the last connection ended.
    pub lost_us: u64,
    /// Whether the last CONNECT had Clean Start.
    pub clean: bool,
    /// Subscriptions of this session, as requested.
    pub subscriptions: Vec<SubscriptionRow>,
    /// Whether it has broken the protocol on this connection.
    pub violated: bool,
    /// Whether it has ended or replaced a subscription in this session.
    pub changed: bool,
    /// Whether it has ended a subscription in this session.
    pub left: bool,
    /// Offset of the packet that it is receiving in all bytes of its connection.
    pub packet_at: u64,
}

/// An integration.
#[derive(Clone, Debug)]
pub struct SinkRow {
    /// Client Identifier of its part.
    pub name: String,
    /// Filters of the sink.
    pub filters: Vec<FilterIndex>,
    /// Tenants whose messages it takes.
    pub tenant: SinkTenant,
}

/// All messages and clients of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Topics and filters.
    pub topics: Topics,
    /// Messages.
    pub messages: Vec<MessageRow>,
    /// Clients.
    pub clients: Vec<ClientRow>,
    /// Parts of the node. Each also has a row in `clients`, for what it publishes.
    pub parts: Vec<PartRow>,
    /// Integrations.
    pub sinks: Vec<SinkRow>,
    /// Hop counts of messages that parts have published; client messages have none.
    pub hops: BTreeMap<MessageIndex, u8>,
    /// Crashes of the node so far.
    pub crashes: u32,
    /// Time of the last restart of the node; 0 is never.
    pub restarted_us: u64,
    /// Sum of all forward steps of the wall clock, microseconds.
    pub clock_ahead_us: u64,
    /// Whether the wall clock was ever stepped back.
    pub clock_went_back: bool,
    /// Possible delays by restarts after such a step, microseconds: each the downtime of the node,
    /// plus the minute before.
    pub put_off_us: u64,
    /// Time of the last crash or stop of the node.
    pub crashed_us: u64,
    /// Users, in runs with authentication.
    pub people: Option<People>,
}

impl Ledger {
    /// Adds a message that is about to be published.
    pub fn new_message(&mut self, row: MessageRow) -> MessageIndex {
        self.messages.push(row);
        (self.messages.len() - 1) as MessageIndex
    }

    /// The row of a message.
    pub fn message(&self, message: MessageIndex) -> &MessageRow {
        &self.messages[message as usize]
    }

    /// The row of a client.
    pub fn client(&self, client: ClientIndex) -> &ClientRow {
        &self.clients[usize::from(client)]
    }

    /// The row of a part.
    pub fn part(&self, part: PartIndex) -> &PartRow {
        &self.parts[usize::from(part)]
    }

    /// The client that connects last and reads the retained messages. Rows of parts follow it.
    pub fn eye(&self) -> ClientIndex {
        (self.clients.len() - self.parts.len() - 1) as ClientIndex
    }

    /// Whether a row among the clients is that of a part.
    pub fn is_part(&self, client: ClientIndex) -> bool {
        self.parts.iter().any(|row| row.client == client)
    }

    /// A message as text.
    pub fn describe(&self, message: MessageIndex) -> String {
        let row = self.message(message);
        let topic = self.topics.name(row.topic);
        let retain = if row.retain { " RETAIN" } else { "" };
        let empty = if row.empty { " empty" } else { "" };
        let publisher = &self.client(row.publisher).name;
        let qos = row.qos.bits();
        format!("m{message} by {publisher} on {topic} QoS {qos}{retain}{empty}")
    }

    /// The QoS that a client is promised for a message of this topic and publisher, by granted
    /// subscriptions; `None` if there is none. Shared ones do not count.
    pub fn promised_qos(
        &self,
        client: ClientIndex,
        topic: TopicIndex,
        publisher: ClientIndex,
    ) -> Option<QoS> {
        self.promised_qos_since(u64::MAX, client, topic, publisher)
    }

    /// Returns that QoS, by subscriptions that were granted before `at_us`.
    pub fn promised_qos_since(
        &self,
        at_us: u64,
        client: ClientIndex,
        topic: TopicIndex,
        publisher: ClientIndex,
    ) -> Option<QoS> {
        let rows = self.client(client).subscriptions.iter();
        let granted = rows.filter(|row| {
            row.state == SubscriptionState::Granted
                && row.granted_us < at_us
                && !(row.no_local && client == publisher)
                && !self.topics.is_shared(row.filter)
                && self.topics.matches(row.filter, topic)
        });
        granted.map(|row| row.qos).max()
    }

    /// Whether the message is promised to its receivers, as far as its publisher knows.
    pub fn is_owed(&self, message: MessageIndex, at_us: u64) -> bool {
        let row = self.message(message);
        row.acked_us > 0 && !row.refused && !row.rotten && !self.may_have_expired(message, at_us)
    }

    /// The tenant of a message's publisher, in runs in which clients do not change tenants.
    pub fn tenant_of(&self, message: MessageIndex) -> TenantId {
        let publisher = self.message(message).publisher;
        let people = self.people.as_ref();
        people.map_or(TenantId(0), |people| people.tenant_of(publisher))
    }

    /// Whether a message may have expired by now, with the uncertainty of the wall clock.
    pub fn may_have_expired(&self, message: MessageIndex, at_us: u64) -> bool {
        let expires_us = self.message(message).expires_us;
        expires_us != u64::MAX
            && (expires_us <= at_us || self.clock_ahead_us > 0 && self.restarted_us > 0)
    }

    fn note_sender(&mut self, fact: &Fact) {
        let Some(people) = &mut self.people else {
            return;
        };
        match *fact {
            Fact::Published {
                client, message, ..
            } => people.send(message, self.clients[usize::from(client)].link),
            Fact::Connecting {
                link,
                will: Some(message),
                ..
            } => people.send(message, link),
            _ => {}
        }
    }

    /// Applies a fact.
    pub fn apply(&mut self, at_us: u64, fact: &Fact) {
        self.note_sender(fact);
        match *fact {
            Fact::Published { message, again, .. } => {
                let row = &mut self.messages[message as usize];
                row.sends += 1;
                if !again {
                    row.sent_us = at_us;
                }
            }
            Fact::Acknowledged {
                message, refused, ..
            } => {
                let row = &mut self.messages[message as usize];
                row.acked_us = at_us.max(1);
                row.refused |= refused;
            }
            Fact::Crashed { .. } => {
                self.crashes += 1;
                self.crashed_us = at_us;
                for row in &mut self.clients {
                    row.undisturbed = false;
                }
                for row in &mut self.parts {
                    row.crashed();
                }
            }
            Fact::Part { part, what } => self.parts[usize::from(part)].apply(at_us, &what),
            Fact::Rotted { message } => self.messages[message as usize].rotten = true,
            Fact::Restarted => {
                self.restarted_us = at_us;
                if self.clock_went_back {
                    self.put_off_us += at_us - self.crashed_us + 61 * SECOND;
                }
            }
            Fact::ClockStepped { ms } => {
                let step_us = ms.unsigned_abs() * 1000;
                match ms > 0 {
                    true => self.clock_ahead_us += step_us,
                    false => self.clock_went_back = true,
                }
            }
            _ => {
                if let Some(client) = fact.client() {
                    let row = &mut self.clients[usize::from(client)];
                    row.apply(at_us, fact);
                    if matches!(fact, Fact::Connecting { .. }) {
                        row.crashes = self.crashes;
                    }
                }
            }
        }
    }
}

impl ClientRow {
    fn apply(&mut self, at_us: u64, fact: &Fact) {
        self.undisturbed = match fact {
            Fact::Connected { .. } => true,
            Fact::Connecting { .. }
            | Fact::Lost { .. }
            | Fact::Cut { .. }
            | Fact::Reading { .. }
            | Fact::Violated { .. } => false,
            _ => self.undisturbed,
        };
        match *fact {
            Fact::Connecting {
                link,
                clean,
                expiry_secs,
                receive_maximum,
                ..
            } => {
                self.connection += 1;
                self.link = link;
                self.clean = clean;
                self.expiry_secs = expiry_secs;
                self.receive_maximum = receive_maximum;
                self.violated = false;
                if clean {
                    self.session = false;
                }
            }
            Fact::Connected { present, .. } => {
                // A session that a CONNECT without an answer started is also new to its client.
                if !present || !self.session {
                    self.life += 1;
                    self.changed = false;
                    self.left = false;
                    self.subscriptions.clear();
                }
                self.online = true;
                self.session = true;
            }
            Fact::Lost { .. } => {
                if core::mem::take(&mut self.online) {
                    self.lost_us = at_us;
                }
                // Unanswered requests may or may not have taken effect.
                if self.expiry_secs == 0 {
                    self.session = false;
                    self.subscriptions.clear();
                }
            }
            Fact::Violated { .. } => self.violated = true,
            Fact::Subscribing {
                filter,
                qos,
                no_local,
                identifier,
                ..
            } => {
                let before = self.subscriptions.len();
                self.subscriptions.retain(|row| row.filter != filter);
                self.changed |= self.subscriptions.len() < before;
                self.subscriptions.push(SubscriptionRow {
                    filter,
                    qos,
                    no_local,
                    identifier,
                    state: SubscriptionState::Asked,
                    granted_us: u64::MAX,
                });
            }
            Fact::Subscribed {
                filter, granted, ..
            } => {
                if !granted {
                    self.subscriptions.retain(|row| row.filter != filter);
                }
                self.set(filter, SubscriptionState::Granted);
                for row in &mut self.subscriptions {
                    if row.filter == filter {
                        row.granted_us = at_us;
                    }
                }
            }
            Fact::Unsubscribing { filter, .. } => {
                self.changed = true;
                self.left = true;
                self.set(filter, SubscriptionState::Leaving);
            }
            Fact::Unsubscribed { filter, .. } => {
                self.subscriptions.retain(|row| row.filter != filter);
            }
            _ => {}
        }
    }

    fn set(&mut self, filter: FilterIndex, state: SubscriptionState) {
        let found = self
            .subscriptions
            .iter_mut()
            .find(|row| row.filter == filter);
        if let Some(row) = found {
            row.state = state;
        }
    }
}
