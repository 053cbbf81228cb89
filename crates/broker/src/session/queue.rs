//! What waits for a client: messages in order, bounded by count and bytes.

use std::collections::VecDeque;

use smallvec::SmallVec;

use martlet_codec::QoS;

use crate::fault::{self, Fault};
use crate::message::Message;
use crate::record::EnqueuedAs;
use crate::share::ShareTicket;

/// Subscription Identifiers that go with a message; nearly always none or one.
pub(crate) type SubscriptionIds = SmallVec<[u32; 2]>;

/// A message in a session's queue or in flight.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    pub(crate) subscription_ids: SubscriptionIds,
    /// QoS to send it with: 1 or 2.
    pub(crate) qos: QoS,
    /// RETAIN flag to send it with.
    pub(crate) retain: bool,
    pub(crate) why: EnqueuedAs,
    /// A share group waits for the outcome.
    pub(crate) ticket: Option<Box<ShareTicket>>,
}

/// The queue of one session or share group.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    bytes: u64,
    /// Entries that a share group waits for.
    tickets: usize,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the messages in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Entries that a share group handed over, and holds.
    pub(crate) fn tickets(&self) -> usize {
        self.tickets
    }

    /// Adding `bytes` would exceed the bounds.
    pub(crate) fn is_full_for(&self, bytes: usize, count_max: u32, bytes_max: u64) -> bool {
        let count_max = count_max as usize + usize::from(fault::is(Fault::QueueBoundOffByOne));
        self.entries.len() >= count_max || self.bytes + bytes as u64 > bytes_max
    }

    pub(crate) fn push_back(&mut self, entry: Entry) {
        self.count(&entry);
        self.entries.push_back(entry);
    }

    pub(crate) fn push_front(&mut self, entry: Entry) {
        self.count(&entry);
        self.entries.push_front(entry);
    }

    pub(crate) fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.message.bytes() as u64;
        self.tickets -= usize::from(entry.ticket.is_some());
        if self.entries.is_empty() && self.entries.capacity() > 64 {
            self.entries = VecDeque::new();
        }
        Some(entry)
    }

    /// Takes out all entries for which `gone` answers true, in order.
    pub(crate) fn take_if(&mut self, mut gone: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.entries.len());
        for entry in self.entries.drain(..) {
            if gone(&entry) {
                self.bytes -= entry.message.bytes() as u64;
                self.tickets -= usize::from(entry.ticket.is_some());
                taken.push(entry);
            } else {
                kept.push_back(entry);
            }
        }
        self.entries = kept;
        taken
    }

    /// Empties it.
    pub(crate) fn take_all(&mut self) -> VecDeque<Entry> {
        self.bytes = 0;
        self.tickets = 0;
        core::mem::take(&mut self.entries)
    }

    fn count(&mut self, entry: &Entry) {
        self.bytes += entry.message.bytes() as u64;
        self.tickets += usize::from(entry.ticket.is_some());
    }
}
