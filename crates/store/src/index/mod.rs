//! What the log says at this moment, in memory: which bodies live and where they lie, the queues,
//! the states. Applying a record's operations is the only way it changes, live and in recovery
//! alike.
//!
//! While a checkpoint is taken, whatever is about to change is copied first, so that the checkpoint
//! is the exact image of one moment though it is written in slices.

pub(crate) mod bodies;
pub(crate) mod live;
mod location;
mod number_map;
pub(crate) mod queues;
pub(crate) mod states;

use crate::record::{BodyId, EntryKey, Holds, Lsn, Op, Ops, QueueId};
use bodies::Bodies;
use live::Live;
pub(crate) use location::Location;
use number_map::NumberMap;
use queues::{Forgotten, Queues};
use states::States;
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) bodies: Bodies,
    pub(crate) queues: Queues,
    pub(crate) states: States,
    pub(crate) live: Live,
    /// Bodies of the record at hand that came without a hold: they die with it unless an entry came
    /// too.
    born: Vec<BodyId>,
    /// Queues that were forgotten, oldest first: bodies still count their entries.
    forgotten: VecDeque<Forgotten>,
    /// While recovery runs: entries that a checkpoint counted and that are not found again.
    lost: BTreeMap<QueueId, u64>,
    /// While recovery runs: queues that have or had an entry of a body of which no record has been
    /// found yet.
    early: Option<NumberMap<u64, Vec<QueueId>>>,
}

/// Only where something was lost reclaim has copied what is not known. Such a body is kept, if its
/// record does not say why, because it may have been retained, and may have been in queues that
/// nobody knows any more: then it has to be routed again, but to none of those that are known.
const UNTOLD: Holds = Holds::ROUTING.with(Holds::RETAINED);

/// The highest id of a body that stands for one of which not even the id is known. No body has
/// one so high.
const LOST_BODY: u64 = u64::MAX >> 6;

/// Entries of a forgotten queue that are dropped with the record itself, at most.
const FORGOTTEN_AT_ONCE: usize = 1024;

impl Index {
    /// Applies the operations of record `lsn`, which lies at `location`.
    pub(crate) fn apply(&mut self, lsn: Lsn, ops: &[u8], location: Location) {
        self.live.now(lsn);
        for op in Ops::new(ops) {
            self.apply_op(lsn, op, location);
        }
        while let Some(id) = self.born.pop() {
            self.bodies.bury_if_dead(id, &mut self.live);
        }
    }

    fn apply_op(&mut self, lsn: Lsn, op: Op<'_>, location: Location) {
        match op {
            Op::Body(id, holds, bytes) => {
                let class = live::class_of(body_cost(bytes.len()));
                let added = self.bodies.add(id, holds, location, class, &mut self.live);
                if added {
                    self.born.push(id);
                }
            }
            Op::Release(id, holds) => self.bodies.release(id, holds, &mut self.live),
            Op::Enqueue(entry, note, extra) => self.enqueue(entry, note, extra),
            Op::Amend(entry, note) => self.queues.amend(entry, note),
            Op::End(entry) => self.end(entry),
            Op::Token(queue, token, note) => self.queues.token(queue, token, note),
            Op::EndToken(queue, token) => self.queues.end_token(queue, token),
            Op::State(key, bytes) => {
                let class = live::class_of(state_cost(bytes.len()));
                self.states.set(key, lsn, location, class, &mut self.live);
            }
            Op::RemoveState(key) => self.states.remove(key, &mut self.live),
            Op::Forget(owner) => self.forget(owner),
            Op::MovedBody(id, _, holds, bytes) => {
                let class = live::class_of(body_cost(bytes.len()));
                if self.bodies.locate(id).is_none() {
                    // What was released early was not this.
                    self.bodies
                        .add(id, Holds::NONE, location, class, &mut self.live);
                    let holds = holds.unwrap_or(UNTOLD);
                    self.bodies.hold(id, holds);
                    if holds.intersects(Holds::ROUTING) {
                        self.note_early(id);
                    }
                    self.born.push(id);
                } else {
                    self.bodies
                        .relocate(id, None, location, class, &mut self.live);
                }
            }
            Op::MovedState(key, bytes) => {
                let class = live::class_of(state_cost(bytes.len()));
                if self.states.get(key).is_none() {
                    self.states.set(key, 0, location, class, &mut self.live);
                } else {
                    self.states
                        .relocate(key, None, location, class, &mut self.live);
                }
            }
        }
    }

    /// Recovery begins.
    pub(crate) fn begin_recovery(&mut self) {
        self.early = Some(NumberMap::default());
    }

    /// All that recovery has found is applied.
    pub(crate) fn end_recovery(&mut self) {
        self.early = None;
    }

    /// An entry comes, or ends: its queue has or had it, though its body may come later.
    fn note_met(&mut self, entry: EntryKey) {
        if let Some(early) = &mut self.early
            && entry.lane == 0
            && self.bodies.locate(entry.body).is_none()
        {
            let queues = early.entry(entry.body.0).or_default();
            if queues.last() != Some(&entry.queue) {
                queues.push(entry.queue);
            }
        }
    }

    /// A body has been found behind entries of it.
    fn note_early(&mut self, id: BodyId) {
        let queues = self.early.as_mut().and_then(|early| early.remove(&id.0));
        for queue in queues.unwrap_or_default() {
            self.bodies.note_had(id, queue);
        }
    }

    fn enqueue(&mut self, entry: EntryKey, note: [u64; 2], extra: &[u8]) {
        self.note_met(entry);
        // A body that no entry refers to is in no queue: the usual case needs no looking.
        let mut may_be_there = self.bodies.refs(entry.body) > 0;
        if may_be_there && !self.forgotten.is_empty() {
            self.drop_forgotten_of(entry.body);
            may_be_there = self.bodies.refs(entry.body) > 0;
        }
        if self.queues.enqueue(entry, note, extra, may_be_there) {
            let had = (entry.lane == 0).then_some(entry.queue);
            self.bodies.add_ref_of(entry.body, had);
        }
    }

    fn end(&mut self, entry: EntryKey) {
        self.note_met(entry);
        let was_there = self.queues.end(entry);
        if !was_there && let Some(lost) = self.lost.get_mut(&entry.queue) {
            // It may have been one of these.
            *lost = lost.saturating_sub(1);
        }
        let had = (entry.lane == 0).then_some(entry.queue);
        self.bodies
            .end_ref_of(entry.body, had, was_there, &mut self.live);
    }

    fn forget(&mut self, owner: u64) {
        self.states.forget(owner, &mut self.live);
        self.lost.remove(&QueueId(owner));
        self.forgotten.push_back(self.queues.forget(QueueId(owner)));
        self.drop_forgotten(FORGOTTEN_AT_ONCE);
    }

    /// Drops the bodies of this number of entries of forgotten queues. False: there are no such
    /// entries left.
    ///
    /// The log does not depend on when this happens: an entry that a body is given meanwhile is
    /// handled as if all were done.
    pub(crate) fn drop_forgotten(&mut self, count_max: usize) -> bool {
        let mut count = 0;
        while let Some(forgotten) = self.forgotten.front_mut() {
            if count == count_max {
                return true;
            }
            match forgotten.pop() {
                Some(body) => self.bodies.drop_ref(body, &mut self.live),
                None => drop(self.forgotten.pop_front()),
            }
            count += 1;
        }
        false
    }

    fn drop_forgotten_of(&mut self, body: BodyId) {
        for forgotten in &mut self.forgotten {
            for _ in 0..forgotten.take(body) {
                self.bodies.drop_ref(body, &mut self.live);
            }
        }
    }

    /// The same record was written anew at `to`: what it is the home of moves along.
    pub(crate) fn relocate(&mut self, ops: &[u8], from: Location, to: Location) {
        for op in Ops::new(ops) {
            match op {
                Op::Body(id, _, bytes) | Op::MovedBody(id, _, _, bytes) => {
                    let class = live::class_of(body_cost(bytes.len()));
                    self.bodies
                        .relocate(id, Some(from), to, class, &mut self.live);
                }
                Op::State(key, bytes) | Op::MovedState(key, bytes) => {
                    let class = live::class_of(state_cost(bytes.len()));
                    self.states
                        .relocate(key, Some(from), to, class, &mut self.live);
                }
                _ => {}
            }
        }
    }

    /// Bodies in this record that are wanted, with these holds, lie here, if it is not known where.
    pub(crate) fn find_bodies(
        &mut self,
        ops: &[u8],
        location: Location,
        wanted: impl Fn(BodyId) -> Option<Holds>,
    ) {
        for op in Ops::new(ops) {
            if let Op::Body(id, _, bytes) | Op::MovedBody(id, _, _, bytes) = op
                && let Some(holds) = wanted(id)
            {
                let class = live::class_of(body_cost(bytes.len()));
                self.bodies.add(id, holds, location, class, &mut self.live);
            }
        }
    }

    /// Bytes of a checkpoint of this moment, more or less.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        let bytes = 9 * self.bodies.count() + 5 * self.queues.entries_count();
        (bytes + 32 * self.states.count()) as u64
    }

    /// Begins an exact image of this moment.
    pub(crate) fn begin_capture(&mut self) {
        self.bodies.begin_capture();
        self.queues.begin_capture();
        self.states.begin_capture();
    }

    /// Gives up an image.
    pub(crate) fn end_capture(&mut self) {
        self.bodies.end_capture();
        self.queues.end_capture();
        self.states.end_capture();
    }

    /// After a checkpoint with holes: the references counted anew. A body that had more of them is
    /// routed again: the queues that are known still are known to have it.
    pub(crate) fn recount(&mut self) {
        let Index { bodies, queues, .. } = self;
        let counted = bodies.clear_refs();
        queues.each_entry(|entry, _| bodies.add_ref(entry.body));
        let lacks = |(id, refs): &(BodyId, u64)| bodies.count_refs(*id) < *refs;
        let lacking: NumberMap<u64, ()> = counted
            .into_iter()
            .filter(lacks)
            .map(|(id, _)| (id.0, ()))
            .collect();
        for id in lacking.keys() {
            bodies.hold(BodyId(*id), Holds::ROUTING);
        }
        queues.each_entry(|entry, _| {
            if entry.lane == 0 && lacking.contains_key(&entry.body.0) {
                bodies.note_had(entry.body, entry.queue);
            }
        });
    }

    /// Takes over what another index has and this one has not: states, and entries for which
    /// `is_wanted`. References are to be counted anew then.
    pub(crate) fn add_missing(&mut self, other: &Index, is_wanted: impl Fn(&Self, BodyId) -> bool) {
        for (key, state) in other.states.iter() {
            if self.states.get(key).is_none() {
                self.states.put(key, state, &mut self.live);
            }
        }
        for queue in other.queues.ids() {
            for (body, lane, note, extra) in other.queues.entries(queue) {
                if is_wanted(self, body) {
                    let entry = EntryKey { queue, body, lane };
                    self.queues.enqueue(entry, note, extra, true);
                }
            }
        }
    }

    /// Compares the queues with what a checkpoint counted of them.
    pub(crate) fn count_lost(&mut self, counted: &[(QueueId, u64)]) {
        for (queue, count) in counted {
            let found = self.queues.count_of(*queue);
            if found < *count {
                self.lost.insert(*queue, count - found);
            }
        }
    }

    /// Queues get an entry for each that was not found again, of a body that is nowhere: what
    /// reads a queue and what looks for damage find it missing, and whose it was.
    pub(crate) fn enqueue_lost(&mut self) {
        let mut id = LOST_BODY;
        for (queue, count) in std::mem::take(&mut self.lost) {
            for _ in 0..count {
                let body = BodyId(id);
                id -= 1;
                let entry = EntryKey {
                    queue,
                    body,
                    lane: 0,
                };
                self.enqueue(entry, [0, 0], b"");
            }
        }
    }

    /// At the end of recovery: what no longer belongs to anything.
    pub(crate) fn sweep(&mut self) {
        self.bodies.sweep(&mut self.live);
    }

    /// Bodies with [`Holds::ROUTING`].
    pub(crate) fn routing(&self) -> Vec<(BodyId, Location)> {
        self.bodies.held(Holds::ROUTING)
    }
}

/// Bytes a body of this length takes in the log, near enough.
pub(crate) fn body_cost(bytes: usize) -> u64 {
    bytes as u64 + 32
}

/// Bytes a state of this length takes in the log, near enough.
pub(crate) fn state_cost(bytes: usize) -> u64 {
    bytes as u64 + 36
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: BodyId = BodyId(7);

    fn entry(queue: u64) -> EntryKey {
        EntryKey {
            queue: QueueId(queue),
            body: BODY,
            lane: 0,
        }
    }

    /// A body whose first record is damaged, found again where reclaim has copied it, goes to none
    /// of the queues that have or had it.
    #[test]
    fn a_body_that_is_found_late_knows_the_queues_that_came_before_it() {
        let mut index = Index::default();
        index.begin_recovery();
        let ops = [
            Op::Enqueue(entry(1), [0; 2], b""),
            Op::Enqueue(entry(2), [0; 2], b""),
            Op::End(entry(2)),
            Op::Enqueue(entry(1), [0; 2], b""),
            Op::MovedBody(BODY, 1, None, b"body"),
            Op::Enqueue(entry(3), [0; 2], b""),
        ];
        for (lsn, op) in ops.into_iter().enumerate() {
            let location = Location { slot: 1, at: 8 };
            index.apply_op(lsn as Lsn, op, location);
        }
        index.end_recovery();
        assert!(index.bodies.holds(BODY).intersects(Holds::ROUTING));
        assert_eq!(index.bodies.had(BODY), [1, 2, 3].map(QueueId));
    }
}
