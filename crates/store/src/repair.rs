//! A checkpoint of which blocks are lost in both copies: what they said is sought in the segments,
//! as far as these are still there.
//!
//! What lives lies in a segment, so bodies and states are all found. Entries are found if the
//! record that brought them, or a copy of their body, is still there; bodies that had more of them
//! are routed again. What ended may come back, if the record that ended it is gone.

use crate::disk::Disk;
use crate::engine::Engine;
use crate::gaps::Lacks;
use crate::index::{Index, Location};
use crate::record::{BodyId, GROUP_BYTES, Holds, Lsn, Op, Ops};
use crate::scan::{ScanItem, Window};
use crate::segment::Segments;
use std::collections::{BTreeMap, BTreeSet};

impl<D: Disk> Engine<D> {
    /// Before the records behind the checkpoint are replayed: finds what it lacks in those before.
    pub(crate) fn make_up_for(&mut self, lacks: Lacks) {
        if lacks.queues || lacks.states {
            let mut said = Index::default();
            let last = self.applied;
            each_record(&self.disk, &self.segments, |lsn, ops, at| {
                if lsn <= last {
                    said.apply(lsn, ops, at);
                }
            });
            said.drop_forgotten(usize::MAX);
            // An entry of a body that is dead has ended.
            let may_live = |index: &Index, id| lacks.bodies || index.bodies.locate(id).is_some();
            self.index
                .add_missing(&said, |index, id| lacks.queues && may_live(index, id));
        }
        self.index.recount();
    }

    /// A block of the checkpoint is lost in both copies, and with it where some bodies lie, and
    /// which of them are retained. They lie there still: what entries refer to is sought in all
    /// segments. So is, if a block of bodies may be lost, what came with that hold and was not
    /// released by anything that is left of the log.
    pub(crate) fn seek_bodies(&mut self, lacks_bodies: bool) {
        let mut missing: BTreeMap<BodyId, Holds> = BTreeMap::new();
        self.index.bodies.each_located(|id, location| {
            if location.is_none() {
                missing.insert(id, Holds::NONE);
            }
        });
        if lacks_bodies {
            let (mut held, mut released) = (BTreeSet::new(), BTreeSet::new());
            let is_nowhere = |id| self.index.bodies.locate(id).is_none();
            each_record(&self.disk, &self.segments, |_, ops, _| {
                for op in Ops::new(ops) {
                    match op {
                        Op::Body(id, holds, _) if holds.contains(Holds::RETAINED) => {
                            held.extend(is_nowhere(id).then_some(id));
                        }
                        // What it is held for is not said there.
                        Op::MovedBody(id, ..) => held.extend(is_nowhere(id).then_some(id)),
                        Op::Release(id, holds) if holds.contains(Holds::RETAINED) => {
                            released.insert(id);
                        }
                        _ => {}
                    }
                }
            });
            let held = held.difference(&released);
            missing.extend(held.map(|id| (*id, Holds::RETAINED)));
        }
        if missing.is_empty() {
            return;
        }
        let index = &mut self.index;
        each_record(&self.disk, &self.segments, |_, ops, at| {
            index.find_bodies(ops, at, |id| missing.get(&id).copied());
        });
    }
}

/// Hands over the operations of each record of the segments that checks, with its
/// number and place.
fn each_record<D: Disk>(
    disk: &D,
    segments: &Segments<D::File>,
    mut each: impl FnMut(Lsn, &[u8], Location),
) {
    for slot in segments.in_order() {
        let Some(segment) = segments.get(slot) else {
            continue;
        };
        let (file, end) = (&segment.file, segment.end);
        let mut window = Window::<D>::new(disk, &file.file, file.key, end);
        let mut offset = 0;
        while offset < end {
            match window.at(offset, 0) {
                ScanItem::Group(..) => offset += GROUP_BYTES as u64,
                ScanItem::Record(lsn, ops, bytes) => {
                    each(lsn, ops, Location::new(slot, offset));
                    offset += bytes;
                }
                ScanItem::Nothing => offset = window.search(offset + 8, 0).unwrap_or(end),
            }
        }
    }
}
