//! For a checkpoint with blocks lost in both copies: searches the segments for their contents, as
//! far as the segments still exist.
//!
//! Live data is always in a segment, so bodies and states are all found. Entries are found if the
//! record that added them, or a copy of their body, still exists; bodies that had more of them are
//! routed again. Ended items may reappear, if the record that ended them is missing.

use crate::disk::Disk;
use crate::engine::Engine;
use crate::gaps::Lacks;
use crate::index::{Index, Location};
use crate::record::{BodyId, GROUP_BYTES, Holds, Lsn, Op, Ops};
use crate::scan::{ScanItem, Window};
use crate::segment::Segments;
use std::collections::{BTreeMap, BTreeSet};

impl<D: Disk> Engine<D> {
    /// Before the records after the checkpoint are replayed: finds what it lacks in the records
    /// before.
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

    /// After a block of the checkpoint is lost in both copies, and with it the locations of some
    /// bodies, and which of them are retained. The bodies are still stored: all segments are
    /// searched for those that entries refer to. If a block of bodies may be lost, so are bodies
    /// that came with that hold and that no remaining record of the log released.
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
                        // The record does not list its holds.
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

/// Passes the operations of each valid record of the segments, with its number and place.
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
