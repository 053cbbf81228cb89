//! What clients did and saw, as facts: the only thing that most checks look at, and, printed one
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

/// How a client came to be without its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It sent DISCONNECT.
    Goodbye,
    /// It crashed, or gave the connection up without a word.
    Crash,
    /// It connected anew beside it.
    Replaced,
    /// The connection ended under it.
    Ended,
    /// The broker said DISCONNECT with this reason code.
    ByDisconnect(u8),
}

/// Something that happened at a client, or that a client can be told of.
#[derive(Clone, Copy, Debug)]
pub enum Fact {
    /// CONNECT was sent.
    Connecting {
        /// Who.
        client: ClientIndex,
        /// The link that it came by.
        link: LinkIndex,
        /// Clean Start.
        clean: bool,
        /// Session Expiry Interval, seconds.
        expiry_secs: u32,
        /// Receive Maximum.
        receive_maximum: u16,
        /// The Will of this connection.
        will: Option<MessageIndex>,
        /// Its Will Delay Interval, seconds.
        will_delay_secs: u32,
        /// The network takes much at once on its way to the client.
        wide: bool,
    },
    /// CONNACK accepted it.
    Connected {
        /// Who.
        client: ClientIndex,
        /// Session Present, and the session is the one that the client knows.
        present: bool,
        /// Session Present.
        resumed: bool,
        /// What was durable when CONNACK left.
        durable: Lsn,
    },
    /// CONNACK refused it.
    Refused {
        /// Who.
        client: ClientIndex,
        /// Reason code.
        reason: u8,
    },
    /// The client has no connection any more.
    Lost {
        /// Who.
        client: ClientIndex,
        /// How.
        how: Loss,
    },
    /// The end of a client's connection has reached the node.
    EndSeen {
        /// Who.
        client: ClientIndex,
        /// Which connection.
        link: LinkIndex,
        /// With all that the client sent before it.
        orderly: bool,
    },
    /// PUBLISH was sent.
    Published {
        /// Who.
        client: ClientIndex,
        /// What.
        message: MessageIndex,
        /// Not for the first time.
        again: bool,
    },
    /// PUBACK or PUBREC came.
    Acknowledged {
        /// Who.
        client: ClientIndex,
        /// What.
        message: MessageIndex,
        /// With a reason code of 0x80 or above.
        refused: bool,
        /// What was durable when it left.
        durable: Lsn,
    },
    /// PUBCOMP came.
    Completed {
        /// Who.
        client: ClientIndex,
        /// Packet Identifier.
        packet_id: u16,
        /// What.
        message: MessageIndex,
        /// What was durable when it left.
        durable: Lsn,
    },
    /// SUBSCRIBE was sent.
    Subscribing {
        /// Who.
        client: ClientIndex,
        /// To what.
        filter: FilterIndex,
        /// Maximum QoS.
        qos: QoS,
        /// No Local.
        no_local: bool,
        /// Retain As Published.
        retain_as_published: bool,
        /// The number of its Subscription Identifier; 0 is none.
        identifier: u32,
    },
    /// SUBACK came.
    Subscribed {
        /// Who.
        client: ClientIndex,
        /// To what.
        filter: FilterIndex,
        /// It was granted.
        granted: bool,
        /// What was durable when it left.
        durable: Lsn,
    },
    /// UNSUBSCRIBE was sent.
    Unsubscribing {
        /// Who.
        client: ClientIndex,
        /// From what.
        filter: FilterIndex,
    },
    /// UNSUBACK came.
    Unsubscribed {
        /// Who.
        client: ClientIndex,
        /// From what.
        filter: FilterIndex,
    },
    /// A PUBLISH came.
    Arrived {
        /// To whom.
        client: ClientIndex,
        /// What; none for an empty payload, which names no message.
        message: Option<MessageIndex>,
        /// Its topic.
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
        /// A QoS 2 message whose identifier the client knows already.
        known: bool,
        /// What was durable when it left.
        durable: Lsn,
    },
    /// PUBREL came.
    Released {
        /// To whom.
        client: ClientIndex,
        /// Packet Identifier.
        packet_id: u16,
        /// What was durable when it left.
        durable: Lsn,
    },
    /// The client sent PUBACK, PUBREC or PUBCOMP.
    Answered {
        /// Who.
        client: ClientIndex,
        /// Which of them.
        kind: AckKind,
        /// Packet Identifier.
        packet_id: u16,
        /// With a reason code of 0x80 or above.
        refused: bool,
    },
    /// The client stopped reading, or reads again.
    Reading {
        /// Who.
        client: ClientIndex,
        /// It reads.
        on: bool,
    },
    /// The client broke a rule of the protocol.
    Violated {
        /// Who.
        client: ClientIndex,
    },
    /// The network cut a connection, or (true) lets its bytes vanish from now on.
    Cut {
        /// Whose.
        client: ClientIndex,
        /// Nobody is told.
        half_open: bool,
    },
    /// The broker dropped a message for a client, and said so.
    Dropped {
        /// For whom.
        client: ClientIndex,
        /// On which topic; none where only the store knew it.
        topic: Option<TopicIndex>,
        /// Why.
        reason: DropReason,
    },
    /// The broker dropped a message for a share group, and said so.
    DroppedByGroup {
        /// `$share/name/filter`.
        group: FilterIndex,
        /// On which topic; none where only the store knew it.
        topic: Option<TopicIndex>,
        /// Why.
        reason: DropReason,
    },
    /// Something happened at a part of the node.
    Part {
        /// Which part.
        part: PartIndex,
        /// What.
        what: PartFact,
    },
    /// Something happened at an integration.
    Sink {
        /// Which one.
        sink: SinkIndex,
        /// What.
        what: SinkFact,
    },
    /// The node has crashed.
    Crashed {
        /// Power was lost, not the process alone.
        power: bool,
        /// It was told to stop, and did so in good order.
        stopped: bool,
        /// What was durable then.
        durable: Lsn,
    },
    /// A bit has flipped on the disk in this message.
    Rotted {
        /// Which.
        message: MessageIndex,
    },
    /// The wall clock makes a step, milliseconds.
    ClockStepped {
        /// Size of the step, backwards if negative.
        ms: i64,
    },
    /// The authenticator has decided about a client.
    Judged {
        /// Which client.
        client: ClientIndex,
        /// The tenant that its name was looked for in.
        tenant: u32,
        /// What was decided.
        verdict: LoginVerdict,
    },
    /// This version of the users is in force.
    InForce {
        /// Its number.
        version: Version,
    },
    /// All lockouts are ended, and failed logins forgotten.
    LockoutsLifted,
    /// The node is told to stop: it ends all connections, and soon itself.
    Stopping,
    /// The node is there again.
    Restarted,
    /// Disturbances are over: from here on everybody comes back and reads.
    Healed,
}

impl Fact {
    /// The client that it is about.
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

    /// One line for the log: who, then what, as the specification's packets say it.
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

    // Table: the words of each event.
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
