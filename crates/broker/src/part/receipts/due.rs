//! Receipts that are due.

use std::collections::BTreeMap;

use crate::effect::ReadMessage;
use crate::hash::Seed;
use crate::id::{MessageId, SessionAddress, SessionId};
use crate::message::Publication;
use crate::part::interface::Receipt;
use crate::record::EnqueuedAs;
use crate::share::message::MemberReceipt;
use crate::share::ticket::GroupId;
use crate::split_map::SplitMap;

/// Receipts of a shard.
#[derive(Debug)]
pub(crate) struct Receipts {
    /// Messages with receivers here whose receipt is due.
    due: SplitMap<MessageId, Due>,
    /// Messages of this shard's parts whose receivers are still being counted.
    pub(crate) counting: BTreeMap<MessageId, Counting>,
    /// Additions of members of share groups to answers that come next.
    answers: BTreeMap<(GroupId, u64), MemberReceipt>,
    /// Receivers of messages that ask for receipts, so far.
    pub(crate) receivers: u64,
    /// Receipts that wait until their part has the name of the message.
    pub(crate) held_back: Option<Vec<(SessionAddress, Receipt)>>,
}

/// Receipts that are due for one message.
#[derive(Debug)]
pub(crate) struct Due {
    part: SessionAddress,
    receivers: u32,
}

/// The receivers of a message, as far as they are counted.
#[derive(Debug)]
pub(crate) struct Counting {
    pub(super) part: SessionId,
    pub(super) receivers: u64,
    /// Shards that have yet to answer.
    pub(crate) missing: u32,
}

impl Receipts {
    pub(crate) fn new(seed: Seed) -> Self {
        Self {
            due: SplitMap::new(seed),
            counting: BTreeMap::new(),
            answers: BTreeMap::new(),
            receivers: 0,
            held_back: None,
        }
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.due.memory_bytes() + self.counting.len() * size_of::<(MessageId, Counting)>()
    }

    /// A member of a share group answers next.
    pub(crate) fn answered(&mut self, receipt: MemberReceipt) {
        let place = (receipt.group, receipt.delivery);
        self.answers.insert(place, receipt);
    }

    /// Whether an answer is about to come for which there is a receipt.
    #[inline]
    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Takes what a member has added to this answer.
    pub(crate) fn take_answer(&mut self, group: GroupId, delivery: u64) -> Option<MemberReceipt> {
        self.answers.remove(&(group, delivery))
    }

    /// Messages with receivers here whose receipt is due.
    pub(crate) fn due(&self) -> usize {
        self.due.len()
    }

    /// Messages whose receivers are being counted.
    pub(crate) fn counting(&self) -> usize {
        self.counting.len()
    }

    /// Receivers so far: the difference is the number of those of a message.
    pub(crate) fn receivers(&self) -> u64 {
        self.receivers
    }

    /// A message has one more receiver here.
    pub(crate) fn add(&mut self, message: MessageId, part: Option<SessionAddress>) {
        let Some(part) = part else {
            return;
        };
        match self.due.get_mut(&message) {
            Some(due) => due.receivers += 1,
            None => {
                self.due.insert(message, Due { part, receivers: 1 });
            }
        }
    }

    /// The part that asked for receipts of a message which has receivers here.
    pub(crate) fn part_of(&self, message: MessageId) -> Option<SessionAddress> {
        Some(self.due.get(&message)?.part)
    }

    /// A message has one receiver less here. The part that asked for its receipts; none if no
    /// receipt is due.
    pub(crate) fn take(&mut self, message: MessageId) -> Option<SessionAddress> {
        let due = self.due.get_mut(&message)?;
        let part = due.part;
        due.receivers -= 1;
        if due.receivers == 0 {
            self.due.remove(&message);
        }
        Some(part)
    }

    /// A message that asks for receipts has one more receiver. `is_held`: it is kept until its
    /// receipt is due, so the part is remembered.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin(&mut self, publication: &Publication<'_>, is_held: bool) {
        self.receivers += 1;
        if is_held {
            self.add(publication.id, publication.publisher);
        }
    }

    /// How many receivers a message of a part has, as far as they are counted.
    pub(crate) fn counting_of(&mut self, message: MessageId, part: SessionId) -> &mut Counting {
        let counting = self.counting.entry(message);
        counting.or_insert(Counting {
            part,
            receivers: 0,
            missing: 0,
        })
    }

    /// Messages have come from the store, which does not know the sessions of this run.
    pub(crate) fn name_parts(&self, messages: &mut [ReadMessage]) {
        if self.due() > 0 {
            for message in messages {
                name_part(self, message);
            }
        }
    }

    /// A part publishes a message and asks for receipts: they wait until it has its answer.
    pub(crate) fn hold_back(&mut self) {
        self.held_back = Some(Vec::new());
    }
}

/// Gives messages that were read back the publisher that a share group's member asks them for.
pub(super) fn name_part(receipts: &Receipts, (id, read): &mut ReadMessage) {
    if id.wants_receipts()
        && let Some(part) = receipts.part_of(*id)
        && let Ok(message) = read
    {
        message.set_publisher(part);
    }
}

/// Later subscribers find a retained message without being its receivers.
pub(super) fn is_routed(why: EnqueuedAs) -> bool {
    !matches!(why, EnqueuedAs::Retained(_))
}
