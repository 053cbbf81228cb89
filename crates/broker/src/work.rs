//! Work: how much a shard has done, and how much of it belongs to one turn.
//!
//! A packet of a few bytes may visit thousands of filters or go to thousands of receivers. So a
//! turn ends by what it has cost, not by how many packets it had: what would cost more waits, and
//! with it only its sender. Work is counted in units of about 50 ns.

/// How much is done before others have their turn, in units of work of about 50 ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkLimits {
    /// Work of a turn. The last eighth is left to what has just arrived.
    pub turn: u64,
    /// Work of one connection, or one message for many receivers, in a turn.
    pub share: u64,
    /// Subscriptions and nodes of the topic index up to which a message is routed at once. A
    /// message that matches more is fanned out over turns (`fan_out.rs`).
    pub matches: usize,
}

impl Default for WorkLimits {
    fn default() -> Self {
        Self {
            turn: 16 * 1024,
            share: 4 * 1024,
            matches: 1024,
        }
    }
}

/// Divisor of the share of a client whose input is processed after the turn is over, or before the
/// input of clients that have used up a whole share: a client that needs more waits with those.
const SMALL_SHARE: u64 = 16;
/// Units of a share for each receiver of a message that is routed at once though other clients
/// wait.
const SHARE_PER_DELIVERY: u64 = 64;
/// Cost of a message for one receiver beside its payload, as bytes that are copied.
pub(crate) const DELIVERY_BYTES: usize = DELIVERY as usize * BYTES_PER_UNIT;

/// Units of a packet that is worked off.
pub(crate) const PACKET: u64 = 2;
/// Units of a message for one receiver.
pub(crate) const DELIVERY: u64 = 3;
/// Units of a record.
pub(crate) const RECORD: u64 = 6;
/// Bytes that are copied in one unit: into a buffer that may be new memory, and to the kernel.
pub(crate) const BYTES_PER_UNIT: usize = 256;
/// Bytes of memory that is new in one unit: the system clears its pages first, and what grows is
/// copied.
pub(crate) const NEW_BYTES_PER_UNIT: usize = 16;
/// Units of a packet that has waited for the store.
pub(crate) const GATED: u64 = 2;
/// Units of writing to a connection that had nothing to be written.
pub(crate) const WRITE: u64 = 100;
/// Units of an accepted socket: it is registered, and its connection begins.
pub(crate) const SOCKET: u64 = 40;
/// Units of a CONNECT packet, without the session that it begins.
pub(crate) const CONNECT: u64 = 60;
/// Units of a command.
pub(crate) const COMMAND: u64 = 20;
/// Units of finding a retained message.
pub(crate) const RETAINED_MESSAGE: u64 = 12;
/// Units of retaining a message or clearing a topic.
pub(crate) const RETAINED_CHANGE: u64 = 60;
/// Units of looking at the next topic of the retained store.
pub(crate) const RETAINED_TOPIC: u64 = 4;
/// Units of a node of the topic index, or a subscription, that is looked at.
pub(crate) const NODE: u64 = 1;
/// Units of a receiver that is gathered: its session is looked at, and it is noted.
pub(crate) const RECEIVER: u64 = 3;
/// Units of the route of a topic that is not remembered, beside the nodes that are looked at.
pub(crate) const ROUTE: u64 = 24;
/// Units of asking whether a subscriber may receive what is published to a topic.
pub(crate) const PERMIT: u64 = 4;
/// Units of a Topic Filter that is subscribed to or unsubscribed from.
pub(crate) const FILTER: u64 = 40;
/// Bytes of a new Topic Filter that are looked at and kept in one unit of work: several tables have
/// it.
pub(crate) const NEW_FILTER_BYTES_PER_UNIT: usize = 8;
/// Bytes of another Topic Filter, likewise.
pub(crate) const FILTER_BYTES_PER_UNIT: usize = 32;
/// Units of a member of a share group whose rules are looked at, where none takes a message.
pub(crate) const MEMBER_RULES: u64 = 1;
/// Units of an entry of a queue that is looked at because it may have expired.
pub(crate) const EXPIRY: u64 = 2;
/// Units of work of an event about lost messages.
pub(crate) const LOSS: u64 = 20;
/// Units of a message whose memory is given back.
pub(crate) const FREED_MESSAGE: u64 = 1;
/// Units of looking at a session's rules and credentials because some have changed.
pub(crate) const REVIEW: u64 = 10;
/// Units of counting what a client or session holds, because memory is short.
pub(crate) const HOLDINGS: u64 = 2;
/// Units of finding what a member of a share group holds, for the same reason.
pub(crate) const HOLDINGS_OF_MEMBER: u64 = 4;
/// Units of a connection or session that begins or ends.
pub(crate) const COMING_OR_GOING: u64 = 40;
/// Units of a connection that the server closes: the kernel writes, shuts down and closes.
pub(crate) const CLOSING: u64 = 160;

/// Eighths of a turn by whose end what was put off makes way for the next in this order; what is
/// left of the turn belongs to what has just come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Eighths(u64);

/// Messages of other shards.
pub(crate) const INBOX: Eighths = Eighths(2);
/// Messages that are fanned out.
pub(crate) const FAN_OUTS: Eighths = Eighths(3);
/// Connections and sessions that end, and subscriptions of sessions that have ended.
pub(crate) const ENDS: Eighths = Eighths(4);
/// Packets that were held back only because a turn was over.
pub(crate) const QUICK_INPUT: Eighths = Eighths(5);
/// Packets of clients that have used up a whole share.
pub(crate) const INPUT: Eighths = Eighths(6);
/// Retained messages for new subscriptions.
pub(crate) const RETAINED: Eighths = Eighths(7);

impl WorkLimits {
    /// Bytes that are copied for all receivers of a message at once though others wait.
    pub(crate) fn copied_in_a_crowd(&self) -> usize {
        (self.share / SHARE_PER_DELIVERY).max(1) as usize * DELIVERY_BYTES
    }
}

/// The work of a shard.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Units that have been done.
    pub(crate) done: u64,
    turn_began: u64,
    /// Units of this turn.
    turn: u64,
    /// Number of units at which the turn ends.
    turn_ends: u64,
    /// Number of units at which the share of the present connection ends.
    share_ends: u64,
    /// Whether that share is used up, and packets of that connection are held back for it.
    pub(crate) share_used: bool,
    /// Whether shares are small for now.
    pub(crate) small_shares: bool,
    /// Whether there is no limit: while a shard is restored nothing else waits.
    pub(crate) unbounded: bool,
}

impl Work {
    /// Counts further units as done.
    #[inline(always)]
    pub(crate) fn add(&mut self, units: u64) {
        self.done += units;
    }

    /// Begins a turn of this number of units.
    pub(crate) fn begin_turn(&mut self, units: u64) {
        self.turn = units;
        self.turn_began = self.done;
        self.turn_ends = self.done + units;
    }

    /// Whether the turn is over.
    #[inline(always)]
    pub(crate) fn is_turn_over(&self) -> bool {
        self.done >= self.turn_ends && !self.unbounded
    }

    /// Whether this number of eighths of the turn is over.
    pub(crate) fn is_past(&self, eighths: Eighths) -> bool {
        (self.done - self.turn_began) * 8 >= self.turn * eighths.0 && !self.unbounded
    }

    /// Begins a connection's share of the turn.
    #[inline]
    pub(crate) fn begin_share(&mut self, units: u64) {
        self.share_used = false;
        self.share_ends = self.done + units;
    }

    /// As [`Work::begin_share`], for a client's input: a small share if the turn is over, or if
    /// shares are small for now.
    #[inline]
    pub(crate) fn begin_input(&mut self, units: u64) {
        let is_small = self.small_shares | (self.done >= self.turn_ends);
        self.begin_share(match is_small {
            true => (units / SMALL_SHARE).max(1),
            false => units,
        });
    }

    /// Whether the share is over.
    #[inline(always)]
    pub(crate) fn is_share_over(&self) -> bool {
        self.done >= self.share_ends && !self.unbounded
    }
}
