//! Counters of the messages that sessions and share groups did not get, and when they are reported.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use martlet_permission::Limit;

use crate::counters::{DROP_REASONS, DropReason};
use crate::effect::QueueOwner;
use crate::report::LossTimes;

/// Time after which further losses are reported where a share group has no member for QoS 0
/// messages, which may last long.
pub(super) const NO_MEMBER_TOLD_EVERY_MS: u64 = 600_000;

/// Time after which further losses for the same reason are reported.
pub(super) const NOTICE_INTERVAL_MS: u64 = 10_000;

/// When drops for a reason are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LossNotice {
    /// At once, and again after this time, in milliseconds, if there are more.
    Every(u64),
    /// At once, and again when the client is back: until then there may be many.
    UntilBack,
    /// When the session or the share group is over.
    AtEnd,
}

impl LossNotice {
    pub(crate) fn of(reason: DropReason) -> Self {
        match reason {
            DropReason::ClientAway => Self::UntilBack,
            DropReason::SessionEnded => Self::AtEnd,
            DropReason::NoMember => Self::Every(NO_MEMBER_TOLD_EVERY_MS),
            DropReason::OutputFull
            | DropReason::PartBusy
            | DropReason::QueueFull
            | DropReason::PacketTooLarge
            | DropReason::RefusedByReceiver
            | DropReason::ConnectionLost
            | DropReason::MemoryFull
            | DropReason::NotPermitted
            | DropReason::TooOld
            | DropReason::StoreFull
            | DropReason::StoreStalled
            | DropReason::StoreDamaged => Self::Every(NOTICE_INTERVAL_MS),
        }
    }
}

/// [`Losses::reported`] has a bit for each.
const _: () = assert!(DROP_REASONS <= u16::BITS as usize);

/// Losses of a session or a share group: what it did not get. Most have none of this.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    expired: u64,
    expired_at: LossTimes,
    /// Dropped messages by reason.
    drops: [u64; DROP_REASONS],
    dropped_at: [LossTimes; DROP_REASONS],
    /// Drops that were not reported yet, by reason.
    unreported: [u64; DROP_REASONS],
    /// Reasons that were reported, one bit each. Further drops for them are reported later.
    reported: u16,
    /// The bound that the queue was at when it dropped messages last.
    pub(crate) queue_limit: Option<Limit>,
}

impl Losses {
    /// Counts messages that were dropped; 0 as the time is none.
    pub(crate) fn count_drop(&mut self, reason: DropReason, count: u64, wall_ms: u64) {
        self.drops[reason as usize] += count;
        self.unreported[reason as usize] += count;
        self.dropped_at[reason as usize].note(wall_ms);
    }

    pub(crate) fn count_expired(&mut self, wall_ms: u64) {
        self.expired += 1;
        self.expired_at.note(wall_ms);
    }

    /// Dropped messages by reason.
    pub(crate) fn drops(&self) -> &[u64; DROP_REASONS] {
        &self.drops
    }

    /// Reasons for which messages were dropped, how many they were, and when.
    pub(crate) fn by_reason(&self) -> impl Iterator<Item = (DropReason, u64, LossTimes)> {
        let all = DropReason::ALL.iter();
        let all = all.map(|reason| {
            let at = *reason as usize;
            (*reason, self.drops[at], self.dropped_at[at])
        });
        all.filter(|(_, count, _)| *count > 0)
    }

    pub(crate) fn expired(&self) -> u64 {
        self.expired
    }

    /// When messages expired.
    pub(crate) fn expired_at(&self) -> LossTimes {
        self.expired_at
    }

    /// Marks the reason as reported: further drops are reported later. Returns false if it was
    /// marked before.
    pub(crate) fn begin(&mut self, reason: DropReason) -> bool {
        let bit = 1 << reason as u16;
        let begins = self.reported & bit == 0;
        self.reported |= bit;
        begins
    }

    /// Whether further drops for this reason are reported later.
    pub(crate) fn has_begun(&self, reason: DropReason) -> bool {
        self.reported & 1 << reason as u16 != 0
    }

    /// Clears the mark: the next drop for this reason is reported at once.
    pub(crate) fn end(&mut self, reason: DropReason) {
        self.reported &= !(1 << reason as u16);
    }

    /// Takes the number of drops that were not reported yet.
    pub(crate) fn take_unreported(&mut self, reason: DropReason) -> u64 {
        core::mem::take(&mut self.unreported[reason as usize])
    }
}

/// Owners of queues with a scheduled report of losses.
#[derive(Debug, Default)]
pub(crate) struct LossesToTell {
    due: BinaryHeap<Reverse<(u64, QueueOwner, DropReason)>>,
}

impl LossesToTell {
    /// Schedules a report of the losses of a queue for this reason. Returns whether it is the first
    /// that is due.
    pub(crate) fn push(&mut self, due_ms: u64, owner: QueueOwner, reason: DropReason) -> bool {
        let first_ms = self.first_ms();
        self.due.push(Reverse((due_ms, owner, reason)));
        first_ms.is_none_or(|first_ms| due_ms < first_ms)
    }

    /// Takes the queue whose losses are reported first, if that is due now.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<(QueueOwner, DropReason)> {
        self.first_ms().filter(|due_ms| *due_ms <= now_ms)?;
        let Reverse((_, owner, reason)) = self.due.pop()?;
        Some((owner, reason))
    }

    pub(crate) fn first_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due_ms, ..))| *due_ms)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.due.capacity() * size_of::<(u64, QueueOwner, DropReason)>()
    }
}
