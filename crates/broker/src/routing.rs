//! A message while it is routed, and what it matches.

use martlet_codec::{PacketId, QoS};
use martlet_permission::Limit;

use crate::id::{RecordNumber, SessionEpoch};
use crate::message::{Message, Publication};
use crate::outgoing::{Outgoing, PacketParts, Templates};

/// A session or a share group of this shard, as a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target(u32);

const GROUP: u32 = 1 << 31;

impl Target {
    pub(crate) fn session(index: u32) -> Self {
        Self(index)
    }

    pub(crate) fn group(index: u32) -> Self {
        Self(index | GROUP)
    }

    /// A number that no other target has.
    pub(crate) fn index(self) -> u32 {
        self.0
    }

    pub(crate) fn as_group(self) -> Option<u32> {
        (self.0 & GROUP != 0).then_some(self.0 & !GROUP)
    }

    pub(crate) fn as_session(self) -> Option<u32> {
        (self.0 & GROUP == 0).then_some(self.0)
    }
}

/// One subscription that matches a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Match {
    pub(crate) target: Target,
    /// 0 is none.
    pub(crate) subscription_id: u32,
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
}

/// Data that a message's record has beside the message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin {
    /// The publisher's session and the Packet Identifier of a QoS 2 receipt.
    pub(crate) receipt: Option<(SessionEpoch, PacketId)>,
    /// Session whose Will it is.
    pub(crate) will_of: Option<SessionEpoch>,
    /// Whether its publisher gets an error if the retained store is full. Then it is not routed
    /// either.
    pub(crate) refusable: bool,
}

/// The result of routing a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routed {
    /// The limit for which the retained store had no room for it; none: it had.
    pub(crate) retained_full: Option<Limit>,
    /// Whether it had a receiver, here or on another shard.
    pub(crate) matched: bool,
    /// Other shards that it was sent to, a bit each.
    pub(crate) other_shards: u64,
    /// The record that its acknowledgement waits for.
    pub(crate) record: RecordNumber,
}

/// A message while it is handed to its receivers.
pub(crate) struct Routing<'a> {
    pub(crate) publication: Publication<'a>,
    pub(crate) message: Option<Message>,
    /// The message has a record, so entries of it have too.
    pub(crate) recorded: bool,
    /// Sessions and share groups that had it before a restart.
    pub(crate) had: &'a [SessionEpoch],
    pub(crate) templates: Box<Templates>,
}

impl<'a> Routing<'a> {
    /// A message that goes to one receiver without being routed.
    pub(crate) fn held(message: &'a Message) -> Self {
        let publication = message.publication();
        Self {
            publication,
            message: Some(message.clone()),
            recorded: false,
            had: &[],
            templates: Box::default(),
        }
    }

    /// Appends the PUBLISH packet for one receiver. From the second receiver of the same kind on it
    /// is a copy of the first, with its own Packet Identifier.
    pub(crate) fn encode(&mut self, outgoing: &Outgoing<'_>, out: &mut Vec<u8>) {
        let parts = PacketParts::of(&self.publication);
        if outgoing.is_plain() {
            self.templates.encode(parts, outgoing, out);
        } else {
            outgoing.packet(parts).encode(outgoing.version, out);
        }
    }
}

/// Buffers of [`Routing`] between two messages.
#[derive(Debug, Default)]
pub(crate) struct RoutingBuffers(pub(crate) Option<Box<Templates>>);

/// When a message with this Message Expiry Interval expires.
pub(crate) fn expires_at(now_ms: u64, expiry_secs: Option<u32>) -> u64 {
    expiry_secs.map_or(u64::MAX, |secs| now_ms + u64::from(secs) * 1000)
}

/// Where a PUBLISH packet is made from.
pub(crate) enum MessageFrom<'r, 'p> {
    /// A message that is being routed.
    Routing(&'r mut Routing<'p>),
    /// A message that was held.
    Held(&'r Message),
}

/// The flags of a PUBLISH packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) packet_id: Option<PacketId>,
}
