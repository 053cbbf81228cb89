//! Messages that are being fanned out.

use core::hash::BuildHasher;
use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::id::{SessionAddress, SessionEpoch, SessionId, ShardId};
use crate::message::Message;
use crate::routing::{Match, Target};
use crate::topic_tree::NodeKey;

/// Messages that are fanned out at the same time; each takes memory for its receivers.
pub(super) const AT_ONCE: usize = 8;

/// A message on its way to this shard's receivers.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) message: Message,
    /// Whether it has a record, so that entries of it have too.
    pub(crate) recorded: bool,
    /// Sessions and share groups that had it before a restart.
    pub(crate) had: Box<[SessionEpoch]>,
    /// The shard that waits until all entries are recorded; may be this one.
    pub(crate) answer_to: Option<ShardId>,
}

/// All messages that are being fanned out.
#[derive(Debug, Default)]
pub(crate) struct FanOuts {
    /// The first few take turns, the others wait.
    pub(crate) queue: VecDeque<FanOut>,
    /// Publishers of the messages in it, each with its messages that came later.
    pub(crate) behind: BTreeMap<SessionAddress, VecDeque<Delivery>>,
    /// Publishers of this shard that wait, and for how many shards.
    pub(crate) held: BTreeMap<SessionId, u32>,
}

/// One publisher's messages.
#[derive(Debug)]
pub(crate) struct FanOut {
    pub(crate) publisher: Option<SessionAddress>,
    pub(crate) current: Delivery,
    pub(crate) receivers: Receivers,
    /// Receivers of the message so far, if it asks for receipts.
    pub(crate) receipts: u64,
}

/// The receivers of a message.
#[derive(Debug, Default)]
pub(crate) struct Receivers {
    pub(crate) stage: Stage,
    pub(crate) found: Vec<MatchedSubscription>,
    firsts: Firsts,
    /// The sum of epochs of the topic when gathering began.
    pub(crate) epoch: u64,
}

/// The first subscription of each session: the session's target, and the place in
/// [`Receivers::found`].
///
/// One table of 50,000 sessions takes milliseconds when it grows, longer than a turn may take. So
/// there are many small ones, and an entry has all that is needed to move it.
#[derive(Debug, Default)]
struct Firsts {
    /// Empty before the first entry, then [`FIRSTS_TABLES`].
    tables: Vec<HashTable<First>>,
}

#[derive(Clone, Copy, Debug)]
struct First {
    target: Target,
    place: u32,
}

/// A power of two.
const FIRSTS_TABLES: usize = 256;

#[derive(Debug, Default)]
pub(crate) enum Stage {
    #[default]
    New,
    /// Walking over the topic index: where it goes on, and how many of the subscribers there are
    /// still to be gathered, if it stopped among them.
    Gathering(String, Option<usize>),
    /// The next one to be served.
    Serving(usize),
}

/// A subscription of a session that matched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatchedSubscription {
    pub(super) matched: Match,
    /// Generation of its session.
    pub(super) generation: u32,
    pub(super) node: NodeKey,
    pub(super) number: u32,
    /// The next one of the same session among those that were found.
    pub(super) next: u32,
    /// The first one of its session: all of them are served with it.
    pub(super) is_first: bool,
}

pub(super) const NONE: u32 = u32::MAX;

impl FanOuts {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Some publisher of this shard waits.
    #[inline]
    pub(crate) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    pub(crate) fn holds(&self, publisher: SessionId) -> bool {
        self.held.contains_key(&publisher)
    }

    /// Bytes of memory that it takes beside the messages.
    pub(crate) fn bytes(&self) -> usize {
        let active = self.queue.iter().take(AT_ONCE);
        let receivers: usize = active.map(|fan_out| fan_out.receivers.bytes()).sum();
        receivers + self.queue.len() * size_of::<FanOut>()
    }

    /// A message of this publisher is being fanned out.
    pub(crate) fn has(&self, publisher: Option<SessionAddress>) -> bool {
        publisher.is_some_and(|publisher| self.behind.contains_key(&publisher))
    }

    /// The next message of this publisher; none: the one that has been fanned out was the last.
    pub(crate) fn next_of(&mut self, publisher: Option<SessionAddress>) -> Option<Delivery> {
        let publisher = publisher?;
        let next = self.behind.get_mut(&publisher)?.pop_front();
        if next.is_none() {
            self.behind.remove(&publisher);
        }
        next
    }
}

impl Receivers {
    fn bytes(&self) -> usize {
        self.found.capacity() * size_of::<MatchedSubscription>() + self.firsts.bytes()
    }

    /// Notes a subscription; all of one session are served together.
    pub(crate) fn note(&mut self, seed: &crate::hash::Seed, mut found: MatchedSubscription) {
        let place = self.found.len() as u32;
        let target = found.matched.target;
        let Some(first_place) = self.firsts.first_or_insert(seed, First { target, place }) else {
            self.found.push(found);
            return;
        };
        let first = &self.found[first_place as usize];
        let latest = self.found.get(first.next as usize).unwrap_or(first);
        if latest.node == found.node {
            // It has come to another place among the subscribers meanwhile.
            return;
        }
        found.is_first = false;
        found.next = core::mem::replace(&mut self.found[first_place as usize].next, place);
        self.found.push(found);
    }
}

impl Firsts {
    /// The place of the first subscription of this session; none: it is this one, which is kept.
    fn first_or_insert(&mut self, seed: &crate::hash::Seed, new: First) -> Option<u32> {
        if self.tables.is_empty() {
            self.tables.resize_with(FIRSTS_TABLES, HashTable::new);
        }
        let hash_of = |first: &First| seed.hash_one(first.target.index());
        let hash = hash_of(&new);
        // A table finds its entries by the lowest and the seven highest bits.
        let table = &mut self.tables[(hash >> 32) as usize % FIRSTS_TABLES];
        match table.entry(hash, |first| first.target == new.target, hash_of) {
            Entry::Occupied(first) => Some(first.get().place),
            Entry::Vacant(vacant) => {
                vacant.insert(new);
                None
            }
        }
    }

    /// Bytes of memory that they take. All tables are about as large: hashes are spread evenly.
    fn bytes(&self) -> usize {
        let one = self.tables.first().map_or(0, HashTable::allocation_size);
        self.tables.len() * (size_of::<HashTable<First>>() + one)
    }
}
