//! Housekeeping in slices: does waiting work piece by piece, in an order that keeps the store's
//! size within its bounds. Also reclaim: copies the live contents of sparse segments to the end of
//! the log.
//!
//! The index has the live contents of a segment, so dead contents are neither read nor checked.
//! Only small gaps between two live records are read along.

use crate::disk::Disk;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::index::live::class_bytes;
use crate::index::{Index, Location};
use crate::read::{RecordRead, Spot, read_all};
use crate::reclaiming::{Reclaiming, RecordPosition, Stage};
use crate::record::{BodyId, Op, Ops, RecordBuffer, ops_of};
use martlet_fault::{self as fault, Fault};

/// Result of a call of [`Engine::housekeep`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// More work waits: call it again soon. False: nothing to do before the next write.
    pub more: bool,
    /// A checkpoint was completed.
    pub checkpointed: bool,
    /// Number of segments freed.
    pub freed: usize,
    /// Bytes of bodies and states copied.
    pub moved_bytes: u64,
}

/// Cost of an entry of a forgotten queue: dropping its reference takes about as long as copying
/// this number of bytes.
const FORGOTTEN_ENTRY_BYTES: usize = 64;
/// Cost of examining a state, or 64 neighbouring bodies.
const LOOK_BYTES: usize = 32;
/// Maximum number of segments that are reclaimed together: the index is searched once for all of
/// them.
const TOGETHER_MAX: usize = 16;
/// Maximum live bytes in these segments, unless a single one has more.
const TOGETHER_BYTES: u64 = 32 << 20;

impl<D: Disk> Engine<D> {
    /// Does a slice of the waiting work: about `budget_bytes` read or written, or a multiple where
    /// the store is close to its size bound. Call it after each sync while [`Work::more`] is set,
    /// with a budget that fits the available time: 256 KiB takes about a millisecond. After
    /// [`Engine::seal`] it also does the work that is left for idle phases.
    pub fn housekeep(&mut self, budget_bytes: usize) -> Result<Work, StoreError> {
        let mut work = Work::default();
        self.remove_old_checkpoints();
        self.keep_mark();
        self.provide()?;
        if self
            .index
            .drop_forgotten(budget_bytes / FORGOTTEN_ENTRY_BYTES)
        {
            work.more = true;
            return Ok(work);
        }
        if self.checkpointing.is_some() {
            let budget_bytes = budget_bytes.saturating_mul(self.haste());
            work.checkpointed = self.work_on_checkpoint(budget_bytes)?;
            work.more = true;
            if self.excess_bytes() == 0 {
                return Ok(work);
            }
        }
        if self.is_look_due() {
            // One per call: in a file system, removing a large file takes time too.
            work.freed = self.free_segments(1)?;
            work.more |= work.freed > 0;
            if self.checkpointing.is_none() && self.is_checkpoint_due() {
                self.begin_checkpoint()?;
                work.more = true;
                return Ok(work);
            }
        } else {
            work.more = true;
        }
        let goes_on = |now: &Reclaiming| self.has_room_to_copy(now.alive(&self.index));
        if !self.reclaiming.as_ref().is_some_and(goes_on) {
            self.reclaiming = self.choose_sparse();
        }
        if let Some(reclaiming) = self.reclaiming.take() {
            let budget_bytes = budget_bytes.saturating_mul(self.haste());
            work.moved_bytes = self.reclaim(reclaiming, budget_bytes)?;
            work.more = true;
        }
        Ok(work)
    }

    /// Copies all live contents of a segment.
    pub(crate) fn reclaim_all(&mut self, slot: u16) -> Result<(), StoreError> {
        self.reclaiming = None;
        let mut next = Some(Reclaiming::new(vec![slot]));
        while let Some(reclaiming) = next {
            self.reclaim(reclaiming, usize::MAX)?;
            next = self.reclaiming.take();
        }
        Ok(())
    }

    /// Chooses the segments with the smallest live fraction, if it is small enough. Much of a
    /// recently written segment will die by itself, so there only a lack of space counts; when
    /// idle, half live is small enough.
    fn choose_sparse(&self) -> Option<Reclaiming> {
        let live = &self.index.live;
        let excess = match self.excess_bytes() {
            0 => 0,
            // Dead segments are freed without copying, with the next checkpoint at the latest.
            excess => excess.saturating_sub(self.dead_bytes()),
        };
        let percent_max = match excess > 0 {
            true => 80,
            false if self.at_rest => 50,
            false => return None,
        };
        let sparse = self.segments.iter().filter_map(|(slot, segment)| {
            let alive = live.bytes(slot);
            let percent = alive * 100 / segment.len.max(1);
            let is_sparse = percent < percent_max && alive > 0;
            let may = Some(slot) != self.active && !segment.stuck;
            (is_sparse && may).then_some((percent, slot, segment.len - alive.min(segment.len)))
        });
        let mut sparse: Vec<(u64, u16, u64)> = sparse.collect();
        sparse.sort_unstable();
        let (mut slots, mut gain, mut alive) = (Vec::new(), 0, 0);
        for (_, slot, gained) in sparse.into_iter().take(TOGETHER_MAX) {
            alive += live.bytes(slot);
            let enough = excess > 0 && gain >= excess || alive > TOGETHER_BYTES;
            if enough && !slots.is_empty() || !self.has_room_to_copy(alive) {
                break;
            }
            gain += gained;
            slots.push(slot);
        }
        (!slots.is_empty()).then(|| Reclaiming::new(slots))
    }

    /// On a full disk, copies no more than clearly fits into the existing segments, and nothing
    /// before the space of the last copied segments has been freed. Records that end messages need
    /// space too, and free more.
    fn has_room_to_copy(&self, bytes: u64) -> bool {
        let active = self.active.and_then(|slot| self.segments.get(slot));
        let left = active.map_or(0, |segment| segment.len - segment.end);
        !self.is_low || bytes <= (left + self.spare_bytes) / 2 && self.dead_bytes() == 0
    }

    /// Does the next part; returns how many bytes were copied.
    fn reclaim(&mut self, mut now: Reclaiming, budget_bytes: usize) -> Result<u64, StoreError> {
        if !self.find_places(&mut now, budget_bytes / LOOK_BYTES) {
            self.reclaiming = Some(now);
            return Ok(0);
        }
        // Staged records may change what is live: apply them first.
        self.write()?;
        let mut copies = RecordBuffer::new();
        self.copy(&now.take(budget_bytes), &mut copies);
        let moved_bytes = copies.bytes() as u64;
        let at_rest = self.at_rest;
        self.append(&copies);
        self.write()?;
        self.at_rest = at_rest;
        if !now.places.is_empty() {
            self.reclaiming = Some(now);
            return Ok(moved_bytes);
        }
        self.sync()?;
        for slot in now.slots {
            if self.index.live.bytes(slot) > 0
                && let Some(segment) = self.segments.get_mut(slot)
            {
                // Records that were not copied could not be read.
                segment.stuck = true;
            }
        }
        Ok(moved_bytes)
    }

    /// Searches the index for the live contents of these segments, in `count` steps; true when the
    /// search is complete.
    ///
    /// Nothing is added to a segment that is not active, so the result is complete. Contents that
    /// die or move in the meantime are skipped when copying.
    fn find_places(&self, now: &mut Reclaiming, count: usize) -> bool {
        match now.stage {
            Stage::Copying => return true,
            Stage::Bodies(next) => {
                let bodies = &self.index.bodies;
                let next = bodies.each_place(next, count, |at, class| now.add(at, class));
                now.stage = next.map_or(Stage::States(None), Stage::Bodies);
            }
            Stage::States(last) => {
                let states = &self.index.states;
                let last = states.each_place(last, count, |at, class| now.add(at, class));
                now.stage = last.map_or(Stage::Copying, |last| Stage::States(Some(last)));
            }
        }
        if !matches!(now.stage, Stage::Copying) {
            return false;
        }
        now.places.sort_unstable_by(|a, b| b.cmp(a));
        now.places.dedup_by_key(|place| (place.slot, place.at));
        true
    }

    /// Reads these records and builds new ones of their live contents.
    fn copy(&self, places: &[RecordPosition], copies: &mut RecordBuffer) {
        let wanted = places.iter().filter_map(|place| {
            let (slot, at) = (place.slot, place.at);
            let location = Location { slot, at };
            let file = &self.segments.get(slot)?.file;
            let offset = location.offset();
            Some(RecordRead {
                what: location,
                spot: Spot { file, offset },
                bytes: class_bytes(place.class),
            })
        });
        read_all(&self.disk, wanted.collect(), |location, found| {
            let Ok((spot, record)) = found else { return };
            let first = match fault::is(Fault::MovedAsNew) {
                true => self.staged_first,
                false => spot.lsn(record, None),
            };
            let ops = ops_of(record);
            for op in Ops::new(ops) {
                self.copy_if_live(first, op, ops, location, copies);
            }
        });
    }

    fn copy_if_live(
        &self,
        lsn: u64,
        op: Op<'_>,
        ops: &[u8],
        at: Location,
        copies: &mut RecordBuffer,
    ) {
        let is_body = |id| self.index.bodies.locate(id).is_some_and(|(l, _)| l == at);
        let is_state = |key| {
            self.index
                .states
                .get(key)
                .is_some_and(|s| s.location() == at)
        };
        match op {
            Op::Body(id, _, bytes) if is_body(id) => {
                self.copy_body((id, lsn, bytes), ops, copies);
            }
            Op::MovedBody(id, first, _, bytes) if is_body(id) => {
                self.copy_body((id, first, bytes), ops, copies);
            }
            Op::State(key, bytes) | Op::MovedState(key, bytes) if is_state(key) => {
                copies.record().moved_state(key, bytes);
            }
            _ => {}
        }
    }

    /// Copies a body with those of its entries that came in the same record and still exist. The
    /// index has these entries already; but if no checkpoint can be read, the copy is their only
    /// source.
    fn copy_body(&self, body: (BodyId, u64, &[u8]), ops: &[u8], copies: &mut RecordBuffer) {
        let (id, first, bytes) = body;
        let Index { bodies, queues, .. } = &self.index;
        let entries = Ops::new(ops).filter_map(|op| match op {
            Op::Enqueue(entry, _, extra) if entry.body == id => {
                Some((entry, queues.note(entry)?, extra))
            }
            _ => None,
        });
        let is_all = entries.clone().count() as u64 == bodies.count_refs(id);
        let mut record = copies.record();
        record.moved_body(id, first, is_all.then(|| bodies.holds(id)), bytes);
        for (entry, note, extra) in entries {
            record.enqueue(entry.queue, id, entry.lane, note, extra);
        }
    }
}
