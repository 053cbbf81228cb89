//! Work of a shard for operators.

use std::collections::{BTreeMap, VecDeque};

use crate::operate::jobs::{ScanJob, WriteJob};
use crate::report::Report;
use crate::timer::TimerKey;

/// Work that is being done for operators.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    /// The number of the last one.
    last: u32,
    pub(crate) writes: VecDeque<(Operation, WriteJob)>,
    /// Jobs whose next message a part holds back, in order.
    pub(crate) held: VecDeque<(Operation, WriteJob)>,
    pub(crate) scans: VecDeque<(u64, ScanJob)>,
    /// Answers that wait for the store, by the number of their operation.
    pub(crate) unanswered: BTreeMap<u32, (Report, Option<TimerKey>)>,
}

/// Something that is answered later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) number: u32,
    pub(crate) request: u64,
    pub(crate) timer: Option<TimerKey>,
}

impl Operations {
    pub(crate) fn next(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.writes.len() + self.held.len() + self.scans.len() + self.unanswered.len()
    }

    /// Takes out a job that writes; whether it waits for a part.
    pub(crate) fn take_waiting(&mut self, number: u32) -> Option<((Operation, WriteJob), bool)> {
        for (jobs, is_held) in [(&mut self.writes, false), (&mut self.held, true)] {
            let place = jobs.iter().position(|(job, _)| job.number == number);
            if let Some(job) = place.and_then(|place| jobs.remove(place)) {
                return Some((job, is_held));
            }
        }
        None
    }

    /// A part holds back less than before: those that waited for one are looked at again, before
    /// those that came later.
    pub(crate) fn release_held(&mut self) {
        while let Some(held) = self.held.pop_back() {
            self.writes.push_front(held);
        }
    }
}
