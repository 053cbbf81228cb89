//! Timers: what is due at some time.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::counters::DropReason;
use crate::effect::QueueOwner;
use crate::losses::lost::LossesToTell;
use crate::timer::{SWEEP_INTERVAL_MS, Timer, Wheel};

/// Timers of what is due at some time. Queues and losses have one timer each, for the first of
/// them.
#[derive(Debug)]
pub(crate) struct Timers {
    pub(crate) wheel: Wheel<Timer>,
    /// Queues with messages that expire, by when the first does.
    pub(super) expiring: ExpiringQueues,
    /// Clients and share groups that lost messages, by the time of their next report.
    pub(crate) losses: LossesToTell,
}

impl Timers {
    pub(super) fn new() -> Self {
        let mut wheel = Wheel::new(0);
        wheel.arm(SWEEP_INTERVAL_MS, Timer::RetainedSweep);
        Self {
            wheel,
            expiring: ExpiringQueues::default(),
            losses: LossesToTell::default(),
        }
    }

    /// The first message of a queue expires then.
    pub(super) fn queue_expires(&mut self, due_ms: u64, owner: QueueOwner) {
        if self.expiring.push(due_ms, owner) {
            self.wheel.arm(due_ms, Timer::QueueExpiry);
        }
    }

    /// All queues have been looked at whose time had come.
    pub(super) fn await_expiry(&mut self) {
        if let Some(due_ms) = self.expiring.first_ms() {
            self.wheel.arm(due_ms, Timer::QueueExpiry);
        }
    }

    /// Schedules a report of the losses of a queue for this reason.
    pub(crate) fn schedule_loss_notice(
        &mut self,
        due_ms: u64,
        owner: QueueOwner,
        reason: DropReason,
    ) {
        if self.losses.push(due_ms, owner, reason) {
            self.wheel.arm(due_ms, Timer::Losses);
        }
    }

    /// All losses that were due have been reported.
    pub(crate) fn await_losses(&mut self) {
        if let Some(due_ms) = self.losses.first_ms() {
            self.wheel.arm(due_ms, Timer::Losses);
        }
    }

    /// Bytes of memory that the tables take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.wheel.memory_bytes() + self.expiring.memory_bytes() + self.losses.memory_bytes()
    }
}

/// Queues with messages that expire, by when the first message of each does.
#[derive(Debug, Default)]
pub(crate) struct ExpiringQueues(BinaryHeap<Reverse<(u64, QueueOwner)>>);

impl ExpiringQueues {
    /// The first message of a queue expires then. Answers whether that is before all others.
    pub(super) fn push(&mut self, due_ms: u64, owner: QueueOwner) -> bool {
        let first_ms = self.first_ms();
        self.0.push(Reverse((due_ms, owner)));
        first_ms.is_none_or(|first_ms| due_ms < first_ms)
    }

    /// Takes the queue whose message expires first, if that is over now.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<(u64, QueueOwner)> {
        self.first_ms().filter(|due_ms| *due_ms <= now_ms)?;
        self.0.pop().map(|Reverse(due)| due)
    }

    /// When the first message expires.
    pub(super) fn first_ms(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// Bytes of memory that the table takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(u64, QueueOwner)>()
    }
}
