//! Actions and observations of clients, as facts: the only input of most checks and, printed one
//! per line, the log of a run.

use martlet_broker::DropReason;
use martlet_codec::{AckKind, QoS};

use crate::identifiers::Identifiers;
use crate::ledger::Ledger;
use crate::node::LinkIndex;
use crate::part::PartFact;
use crate::people::{LoginVerdict, Version};
use crate::sink::SinkFact;
use crate::store::Lsn;
use crate::topics::{FilterIndex, TopicIndex};

/// A client of the run.
pub type ClientIndex = u16;
/// A part of the run.
pub type PartIndex = u16;
/// An integration of the run.
pub type SinkIndex = u16;
/// An Application Message of the run.
pub type MessageIndex = u32;

/// How a client lost its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The client sent DISCONNECT.
    Goodbye,
    /// The client crashed, or gave up the connection without DISCONNECT.
    Crash,
    /// The client opened a new connection while this one was open.
    Replaced,
    /// The connection was closed or failed.
    Ended,
    /// The broker sent DISCONNECT with this reason code.
    ByDisconnect(u8),
}

/// An event at a client or elsewhere in the world.
#[derive(Clone, Copy, Debug)]
pub enum Fact {
    /// CONNECT was sent.
    Connecting {
        /// The client.
        client: ClientIndex,
        /// Link of the client.
        link: LinkIndex,
        /// Clean Start.
        clean: bool,
        /// Session Expiry Interval, seconds.
        expiry_secs: u32,
        /// Receive Maximum.
        receive_maximum: u16,
        /// The Will of this connection.
        will: Option<MessageIndex>,
        /// Will Delay Interval, seconds.
        will_delay_secs: u32,
        /// Whether the network has a large window towards the client.
        wide: bool,
    },
    /// CONNACK accepted it.
    Connected {
        /// The client.
        client: ClientIndex,
        /// Session Present is set, and the session is the one that the client knows.
        present: bool,
        /// Session Present.
        resumed: bool,
        /// The last durable record when CONNACK left.
        durable: Lsn,
    },
    /// CONNACK refused it.
    Refused {
        /// The client.
        client: ClientIndex,
        /// Reason code.
        reason: u8,
    },
    /// The client has lost its connection.
    Lost {
        /// The client.
        client: ClientIndex,
        /// How it was lost.
        how: Loss,
    },
    /// The end of a client's connection has reached the node.
    EndSeen {
        /// The client.
        client: ClientIndex,
        /// The link.
        link: LinkIndex,
        /// Whether all data that the client sent before has arrived.
        orderly: bool,
    },
    /// PUBLISH was sent.
    Published {
        /// The client.
        client: ClientIndex,
        /// The message.
        message: MessageIndex,
        /// Whether it was sent before.
        again: bool,
    },
    /// PUBACK or PUBREC was received.
    Acknowledged {
        /// The client.
        client: ClientIndex,
        /// The message.
        message: MessageIndex,
        /// Whether its reason code is 0x80 or above.
        refused: bool,
        /// The last durable record when it left.
        durable: Lsn,
    },
    /// PUBCOMP was received.
    Completed {
        /// The client.
        client: ClientIndex,
        /// Packet Identifier.
        packet_id: u16,
        /// The message.
        message: MessageIndex,
        /// The last durable record when it left.
        durable: Lsn,
    },
    /// SUBSCRIBE was sent.
    Subscribing {
        /// The client.
        client: ClientIndex,
        /// The filter.
        filter: FilterIndex,
        /// Maximum QoS.
        qos: QoS,
        /// No Local.
        no_local: bool,
        /// Retain As Published.
        retain_as_published: bool,
        /// Number of its Subscription Identifier; 0 is none.
        identifier: u32,
    },
    /// SUBACK was received.
    Subscribed {
        /// The client.
        client: ClientIndex,
        /// The filter.
        filter: FilterIndex,
        /// Whether it was granted.
        granted: bool,
        /// The last durable record when it left.
        durable: Lsn,
    },
    /// UNSUBSCRIBE was sent.
    Unsubscribing {
        /// The client.
        client: ClientIndex,
        /// The filter.
        filter: FilterIndex,
    },
    /// UNSUBACK was received.
    Unsubscribed {
        /// The client.
        client: ClientIndex,
        /// The filter.
        filter: FilterIndex,
    },
    /// A PUBLISH was received.
    Arrived {
        /// The receiver.
        client: ClientIndex,
        /// The message; `None` for an empty payload, which has no message number.
        message: Option<MessageIndex>,
        /// Topic of the message.
        topic: TopicIndex,
        /// QoS.
        qos: QoS,
        /// DUP.
        dup: bool,
        /// RETAIN.
        retain: bool,
        /// Packet Identifier; 0 at QoS 0.
        packet_id: u16,
        /// Subscription Identifiers.
        identifiers: Identifiers,
        /// Whether it is a QoS 2 message whose Packet Identifier the client has already.
        known: bool,
        /// The last durable record when it left.
        durable: Lsn,
    },
    /// PUBREL was received.
    Released {
        /// The receiver.
        client: ClientIndex,
        /// Packet Identifier.
        packet_id: u16,
        /// The last durable record when it left.
        durable: Lsn,
    },
    /// The client sent PUBACK, PUBREC or PUBCOMP.
    Answered {
        /// The client.
        client: ClientIndex,
        /// Kind of the acknowledgement.
        kind: AckKind,
        /// Packet Identifier.
        packet_id: u16,
        /// Whether its reason code is 0x80 or above.
        refused: bool,
    },
    /// The client stopped reading, or reads again.
    Reading {
        /// The client.
        client: ClientIndex,
        /// Whether it reads.
        on: bool,
    },
    /// The client broke a rule of the protocol.
    Violated {
        /// The client.
        client: ClientIndex,
    },
    /// The network cut a connection, or its bytes vanish from now on.
    Cut {
        /// The client.
        client: ClientIndex,
        /// Whether the bytes vanish without a report to either side.
        half_open: bool,
    },
    /// The broker dropped a message for a client, and reported that.
    Dropped {
        /// The client.
        client: ClientIndex,
        /// Topic; `None` if only the store knew it.
        topic: Option<TopicIndex>,
        /// The reason.
        reason: DropReason,
    },
    /// The broker dropped a message for a share group, and reported that.
    DroppedByGroup {
        /// `$share/name/filter`.
        group: FilterIndex,
        /// Topic; `None` if only the store knew it.
        topic: Option<TopicIndex>,
        /// The reason.
        reason: DropReason,
    },
    /// Something happened at a part of the node.
    Part {
        /// The part.
        part: PartIndex,
        /// The event.
        what: PartFact,
    },
    /// Something happened at an integration.
    Sink {
        /// The integration.
        sink: SinkIndex,
        /// The event.
        what: SinkFact,
    },
    /// The node has crashed.
    Crashed {
        /// Whether power was lost; otherwise only the process crashed.
        power: bool,
        /// Whether it was a clean stop.
        stopped: bool,
        /// The last durable record at that time.
        durable: Lsn,
    },
    /// A bit of this message has flipped on the disk.
    Rotted {
        /// The message.
        message: MessageIndex,
    },
    /// The wall clock was stepped.
    ClockStepped {
        /// Milliseconds, backwards if negative.
        ms: i64,
    },
    /// The authenticator has decided about a login.
    Judged {
        /// The client.
        client: ClientIndex,
        /// The tenant in which its name was looked up.
        tenant: u32,
        /// The decision.
        verdict: LoginVerdict,
    },
    /// This version of the users is in force.
    InForce {
        /// Number of the version.
        version: Version,
    },
    /// All lockouts are lifted, and failed logins cleared.
    LockoutsLifted,
    /// The node begins a clean stop: it closes all connections, and soon ends.
    Stopping,
    /// The node was started again.
    Restarted,
    /// Disturbances are over: from here on all clients reconnect and read.
    Healed,
}

impl Fact {
    /// The client of the fact, if any.
    pub fn client(&self) -> Option<ClientIndex> {
        match *self {
            Self::Connecting { client, .. }
            | Self::Connected { client, .. }
            | Self::Refused { client, .. }
            | Self::Lost { client, .. }
            | Self::EndSeen { client, .. }
            | Self::Published { client, .. }
            | Self::Acknowledged { client, .. }
            | Self::Completed { client, .. }
            | Self::Subscribing { client, .. }
            | Self::Subscribed { client, .. }
            | Self::Unsubscribing { client, .. }
            | Self::Unsubscribed { client, .. }
            | Self::Arrived { client, .. }
            | Self::Released { client, .. }
            | Self::Answered { client, .. }
            | Self::Reading { client, .. }
            | Self::Violated { client }
            | Self::Cut { client, .. }
            | Self::Judged { client, .. }
            | Self::Dropped { client, .. } => Some(client),
            Self::DroppedByGroup { .. }
            | Self::Part { .. }
            | Self::Sink { .. }
            | Self::Crashed { .. }
            | Self::Stopping
            | Self::ClockStepped { .. }
            | Self::Rotted { .. }
            | Self::InForce { .. }
            | Self::LockoutsLifted
            | Self::Restarted
            | Self::Healed => None,
        }
    }

    /// One line for the log: the client, then the event, in terms of MQTT packets.
    pub fn line(&self, at_us: u64, ledger: &Ledger) -> String {
        let who = match (self, self.client()) {
            (Self::Part { part, .. }, _) => ledger.part(*part).name.as_str(),
            (Self::Sink { sink, .. }, _) => ledger.sinks[usize::from(*sink)].name.as_str(),
            (_, Some(client)) => ledger.client(client).name.as_str(),
            _ => "",
        };
        let seconds = at_us as f64 / 1e6;
        format!("{seconds:>12.6}  {who:<6} {}", self.what(ledger))
    }

    // Table: the text of each event.
    fn what(&self, ledger: &Ledger) -> String {
        let topics = &ledger.topics;
        match *self {
            Self::Connecting {
                link,
                clean,
                expiry_secs,
                will,
                receive_maximum,
                ..
            } => {
                let will = will.map_or(String::new(), |will| format!(", Will m{will}"));
                let clean = if clean { ", clean" } else { "" };
                format!(
                    "-> CONNECT on link {link}{clean}, expiry {expiry_secs} s, \
                     Receive Maximum {receive_maximum}{will}"
                )
            }
            Self::Connected { present, .. } => format!("<- CONNACK, session present: {present}"),
            Self::Refused { reason, .. } => format!("<- CONNACK refused, 0x{reason:02x}"),
            Self::Lost { how, .. } => format!("   connection over: {how:?}"),
            Self::EndSeen { link, .. } => format!("   the node has heard the end of link {link}"),
            Self::Published { message, again, .. } => {
                let dup = if again { " DUP" } else { "" };
                format!("-> PUBLISH{dup} {}", ledger.describe(message))
            }
            Self::Acknowledged {
                message, refused, ..
            } => {
                let refused = if refused { ", refused" } else { "" };
                format!("<- PUBACK/PUBREC m{message}{refused}")
            }
            Self::Completed { message, .. } => format!("<- PUBCOMP m{message}"),
            Self::Subscribing {
                filter,
                qos,
                identifier,
                ..
            } => {
                let (filter, qos) = (topics.filter(filter), qos.bits());
                format!("-> SUBSCRIBE {filter} at QoS {qos}, identifier {identifier}")
            }
            Self::Subscribed {
                filter, granted, ..
            } => format!("<- SUBACK {} granted: {granted}", topics.filter(filter)),
            Self::Unsubscribing { filter, .. } => {
                format!("-> UNSUBSCRIBE {}", topics.filter(filter))
            }
            Self::Unsubscribed { filter, .. } => format!("<- UNSUBACK {}", topics.filter(filter)),
            Self::Arrived {
                message,
                topic,
                qos,
                dup,
                retain,
                packet_id,
                identifiers,
                known,
                ..
            } => {
                let what = match message {
                    Some(message) => format!("m{message}"),
                    None => "empty".to_owned(),
                };
                let dup = if dup { " DUP" } else { "" };
                let retain = if retain { " RETAIN" } else { "" };
                let known = if known { " (known)" } else { "" };
                let (topic, qos) = (topics.name(topic), qos.bits());
                let for_them = identifiers.numbers();
                format!(
                    "<- PUBLISH{dup}{retain} {what} {topic} QoS {qos} id {packet_id}{known} \
                     for {for_them:?}"
                )
            }
            Self::Released { packet_id, .. } => format!("<- PUBREL id {packet_id}"),
            Self::Answered {
                kind, packet_id, ..
            } => format!("-> {kind:?} id {packet_id}"),
            Self::Reading { on, .. } => format!("   reads: {on}"),
            Self::Violated { .. } => "-> something that breaks the rules".to_owned(),
            Self::Cut { half_open, .. } => format!("   link cut, half-open: {half_open}"),
            Self::Dropped { topic, reason, .. } => {
                let topic = topic.map_or("a topic of the store", |topic| topics.name(topic));
                format!("   the broker says: dropped on {topic}: {}", reason.name())
            }
            Self::DroppedByGroup {
                group,
                topic,
                reason,
            } => {
                let group = topics.filter(group);
                let topic = topic.map_or("a topic of the store", |topic| topics.name(topic));
                format!("== {group} dropped on {topic}: {}", reason.name())
            }
            Self::Part { what, .. } => what.line(ledger),
            Self::Sink { what, .. } => format!("{what:?}"),
            Self::Crashed { stopped: true, .. } => "== the node stops".to_owned(),
            Self::Rotted { message } => format!("== m{message} rots on the disk"),
            Self::ClockStepped { ms } => format!("== the wall clock steps by {ms} ms"),
            Self::Crashed { power, .. } => format!("== the node crashes, power lost: {power}"),
            Self::Judged { verdict, .. } => format!("   the authenticator says: {verdict:?}"),
            Self::InForce { version } => format!("== version {version} is in force"),
            Self::LockoutsLifted => "== all lockouts are ended".to_owned(),
            Self::Stopping => "== the node is told to stop".to_owned(),
            Self::Restarted => "== the node is there again".to_owned(),
            Self::Healed => "-- disturbances are over".to_owned(),
        }
    }
}
