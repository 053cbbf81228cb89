//! The current state of the log, in memory: which bodies are live and where they are stored, the
//! queues, the states. It changes only by applying the operations of a record, both live and in
//! recovery.
//!
//! While a checkpoint is taken, anything that is about to change is copied first. So the
//! checkpoint is the exact image of one moment although it is written in slices.

pub(crate) mod bodies;
pub(crate) mod live;
mod location;
mod number_map;
mod packed;
pub(crate) mod queues;
pub(crate) mod states;

use crate::record::{BodyId, EntryKey, Holds, Lsn, Op, Ops, QueueId};
use bodies::{Bodies, Cost};
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
    /// Bodies of the current record that came without a hold: they die with it unless it also has
    /// an entry for them.
    born: Vec<BodyId>,
    /// Forgotten queues, oldest first: bodies still count their entries.
    forgotten: VecDeque<Forgotten>,
    /// During recovery: entries that a checkpoint counted and that are not found again.
    lost: BTreeMap<QueueId, u64>,
    /// During recovery: queues that have or had an entry of a body whose record has not been found
    /// yet.
    early: Option<NumberMap<u64, Vec<QueueId>>>,
    /// See [`crate::Options::tenant_of`]; `None`: bodies have no tenant.
    tenant_of: Option<fn(&[u8]) -> u32>,
}

/// Holds of a body whose moved record does not list them: only after a loss, reclaim copies bodies
/// whose holds are unknown. The body is kept, because it may have been retained. It may also have
/// been in queues that are now unknown: then it must be routed again, but not to the queues that
/// are known.
const UNTOLD: Holds = Holds::ROUTING.with(Holds::RETAINED);

/// Ids of lost bodies whose id is unknown are counted down from this one. No real body has so high
/// an id.
const LOST_BODY: u64 = u64::MAX >> 6;

/// Maximum number of entries of a forgotten queue that are dropped with the record itself.
const FORGOTTEN_AT_ONCE: usize = 1024;

impl Index {
    /// An index without contents; `tenant_of` as in [`crate::Options`].
    pub(crate) fn new(tenant_of: Option<fn(&[u8]) -> u32>) -> Self {
        Self {
            tenant_of,
            ..Self::default()
        }
    }

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
                let cost = self.cost_of(bytes);
                let added = self.bodies.add(id, holds, location, cost, &mut self.live);
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
                let cost = self.cost_of(bytes);
                if self.bodies.locate(id).is_none() {
                    // An early release was not meant for this body.
                    self.bodies
                        .add(id, Holds::NONE, location, cost, &mut self.live);
                    let holds = holds.unwrap_or(UNTOLD);
                    self.bodies.hold(id, holds);
                    if holds.intersects(Holds::ROUTING) {
                        self.note_early(id);
                    }
                    self.born.push(id);
                } else {
                    self.bodies
                        .relocate(id, None, location, cost.class, &mut self.live);
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

    fn cost_of(&self, body: &[u8]) -> Cost {
        Cost {
            class: live::class_of(body_cost(body.len())),
            tenant: self.tenant_of.map_or(0, |tenant_of| tenant_of(body)),
        }
    }

    /// Begins recovery.
    pub(crate) fn begin_recovery(&mut self) {
        self.early = Some(NumberMap::default());
    }

    /// Ends recovery: everything that was found is applied.
    pub(crate) fn end_recovery(&mut self) {
        self.early = None;
    }

    /// Records that the queue of an entry that is added or ended has or had its body, which may
    /// come later.
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

    /// A body has been found after entries of it.
    fn note_early(&mut self, id: BodyId) {
        let queues = self.early.as_mut().and_then(|early| early.remove(&id.0));
        for queue in queues.unwrap_or_default() {
            self.bodies.note_had(id, queue);
        }
    }

    fn enqueue(&mut self, entry: EntryKey, note: [u64; 2], extra: &[u8]) {
        self.note_met(entry);
        // A body that no entry refers to is in no queue: the usual case needs no search.
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
            // The entry may have been one of these.
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

    /// Drops the references of this number of entries of forgotten queues. False: no such entries
    /// are left.
    ///
    /// The result does not depend on when this happens: if an entry is added to a body in the
    /// meantime, it is handled as if all drops were done.
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

    /// The record was written again at `to`: updates the location of everything that it stores.
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

    /// Sets the location of wanted bodies in this record, with these holds, if their location is
    /// unknown.
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
                let cost = self.cost_of(bytes);
                self.bodies.add(id, holds, location, cost, &mut self.live);
            }
        }
    }

    /// Approximate number of bytes of a checkpoint taken now.
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

    /// Discards an image.
    pub(crate) fn end_capture(&mut self) {
        self.bodies.end_capture();
        self.queues.end_capture();
        self.states.end_capture();
    }

    /// After a checkpoint with missing blocks: counts the references again. A body that had more
    /// of them is routed again, except to the known queues that have it.
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

    /// Takes from another index what this one lacks: states, and entries for which `is_wanted`.
    /// References must be counted again afterwards.
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

    /// Compares the queues with the counts in a checkpoint.
    pub(crate) fn count_lost(&mut self, counted: &[(QueueId, u64)]) {
        for (queue, count) in counted {
            let found = self.queues.count_of(*queue);
            if found < *count {
                self.lost.insert(*queue, count - found);
            }
        }
    }

    /// Adds to each queue an entry for each one that was not found again, of a body without a
    /// location. So a reader of the queue and a check find it missing, and know the queue.
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

    /// Ends recovery: removes what no longer belongs to anything.
    pub(crate) fn sweep(&mut self) {
        self.bodies.sweep(&mut self.live);
    }

    /// Bodies with [`Holds::ROUTING`].
    pub(crate) fn routing(&self) -> Vec<(BodyId, Location)> {
        self.bodies.held(Holds::ROUTING)
    }
}

/// Approximate number of bytes that a body of this length takes in the log.
pub(crate) fn body_cost(bytes: usize) -> u64 {
    bytes as u64 + 32
}

/// Approximate number of bytes that a state of this length takes in the log.
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

    /// A body whose first record is damaged and that is found again in a copy of reclaim is not
    /// routed to the queues that have or had it.
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
