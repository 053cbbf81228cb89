//! Housekeeping in slices: a file for the next segment, checkpoints, segments given back, and what
//! still lives in sparse segments copied to the end of the log.

use crate::disk::Disk;
use crate::engine::{BALLAST, Engine, SPARE};
use crate::error::StoreError;
use crate::index::Location;
use crate::record::{GROUP_BYTES, Op, Ops, RecordBuffer};
use crate::scan::{Found, Window};
use crate::segment::Segment;
use martlet_fault::{self as fault, Fault};

/// What a call of [`Engine::housekeep`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// More waits: call it again soon. False: not before something was written.
    pub more: bool,
    /// A checkpoint was completed.
    pub checkpointed: bool,
    /// Segments given back.
    pub freed: usize,
    /// Bytes of bodies and states copied.
    pub moved_bytes: u64,
}

/// What an entry of a forgotten queue counts as: letting go of its body takes about as long as
/// copying so many bytes.
const FORGOTTEN_ENTRY_BYTES: usize = 64;

/// A segment whose live contents are being copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reclaiming {
    slot: u16,
    offset: u64,
}

/// Segments that an opening may have to replay before a checkpoint is taken at once.
const REPLAYED_SEGMENTS_MAX: usize = 4;

impl<D: Disk> Engine<D> {
    /// Does a slice of what waits: about `budget_bytes` read or written. Call it after each sync
    /// while there is [`Work::more`], with a budget that fits the time there is: 256 KiB takes
    /// about a millisecond. After [`Engine::seal`] it does what is left for moments of rest too.
    pub fn housekeep(&mut self, budget_bytes: usize) -> Result<Work, StoreError> {
        let mut work = Work::default();
        self.remove_old_checkpoints();
        if !self.has_spare && self.active.is_some() {
            self.make_spare();
        } else if self.has_spare && !self.has_ballast && self.checkpointing.is_none() {
            self.make_ballast();
        }
        if self
            .index
            .drop_forgotten(budget_bytes / FORGOTTEN_ENTRY_BYTES)
        {
            work.more = true;
            return Ok(work);
        }
        if self.checkpointing.is_some() {
            work.checkpointed = self.work_on_checkpoint(budget_bytes)?;
            work.more = true;
            return Ok(work);
        }
        // One: to a file system, a large file's end is work too.
        work.freed = self.free_segments(1)?;
        work.more = work.freed > 0;
        if self.is_checkpoint_due() {
            self.begin_checkpoint()?;
            work.more = true;
            return Ok(work);
        }
        if self.reclaiming.is_none() {
            self.reclaiming = self.choose_sparse(self.at_rest);
        }
        if let Some(reclaiming) = self.reclaiming.take() {
            work.moved_bytes = self.reclaim(reclaiming, budget_bytes)?;
            work.more = true;
        }
        Ok(work)
    }

    /// Completes a checkpoint of this moment, whatever it takes: for closing.
    pub fn checkpoint_now(&mut self) -> Result<(), StoreError> {
        while self.checkpointing.is_some() {
            self.work_on_checkpoint(usize::MAX)?;
        }
        let is_old = self.checkpoint.is_none_or(|last| last.lsn < self.durable);
        if is_old || self.staged_count > 0 || self.wants_checkpoint {
            self.begin_checkpoint()?;
            self.work_on_checkpoint(usize::MAX)?;
        }
        Ok(())
    }

    /// Seals the log and takes a checkpoint: opening is quick then, and finds every later damage.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.seal()?;
        self.checkpoint_now()?;
        self.free_segments(usize::MAX)?;
        Ok(())
    }

    /// After opening: if much had to be replayed, takes a checkpoint at once, so that the next
    /// opening is quick however soon it comes. A program that is killed again and again before its
    /// housekeeping is through would else start slower each time.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        let segments = self.segments.iter();
        let replayed = segments.filter(|(slot, segment)| !self.is_covered(*slot, segment));
        let many = replayed.count() > REPLAYED_SEGMENTS_MAX;
        if many || self.wants_checkpoint || self.tail_bytes > self.options.tail_bytes {
            self.checkpoint_now()?;
            self.free_segments(usize::MAX)?;
        }
        Ok(())
    }

    /// Copies all that lives in a segment.
    pub(crate) fn reclaim_all(&mut self, slot: u16) -> Result<(), StoreError> {
        self.reclaiming = None;
        self.reclaim(Reclaiming { slot, offset: 0 }, usize::MAX)?;
        Ok(())
    }

    fn make_spare(&mut self) {
        let made = self.disk.create(SPARE, self.options.segment_bytes);
        let synced = made.and_then(|_| self.disk.sync_dir());
        self.has_spare = synced.is_ok();
        self.is_low = synced.is_err();
    }

    /// Only when there is a spare file: that one comes first.
    fn make_ballast(&mut self) {
        let bytes = (self.options.segment_bytes / 2).next_multiple_of(4096);
        self.has_ballast = self.disk.create(BALLAST, bytes).is_ok();
    }

    /// True: there was one.
    pub(crate) fn drop_ballast(&mut self) -> bool {
        let had = self.has_ballast;
        self.has_ballast = had && self.disk.remove(BALLAST).is_err();
        had && !self.has_ballast
    }

    /// A segment that is not written to and that a checkpoint makes needless for recovery.
    fn is_covered(&self, slot: u16, segment: &Segment<D::File>) -> bool {
        let lsn = match fault::is(Fault::FreedUncovered) {
            true => self.durable,
            false => self.checkpoint.map_or(0, |last| last.lsn),
        };
        Some(slot) != self.active && segment.next <= lsn + 1
    }

    fn is_dead(&self, slot: u16) -> bool {
        let live = &self.index.live;
        live.bytes(slot) == 0
            && (live.changed(slot) <= self.durable || fault::is(Fault::FreedUndurable))
    }

    /// Gives back the segments in which nothing lives and that recovery does not need.
    fn free_segments(&mut self, count_max: usize) -> Result<usize, StoreError> {
        let dead = self.segments.iter().filter(|(slot, segment)| {
            self.is_covered(*slot, segment)
                && self.is_dead(*slot)
                && std::sync::Arc::strong_count(&segment.file) == 1
        });
        let dead = dead.map(|(slot, segment)| (slot, segment.name(), segment.len));
        let dead: Vec<(u16, String, u64)> = dead.take(count_max).collect();
        for (slot, name, len) in &dead {
            if !self.has_spare && *len == self.options.segment_bytes {
                let renamed = self.disk.rename(name, SPARE);
                renamed.map_err(|e| StoreError::new("renaming", name, e))?;
                // Before anything is written to it, the old name is gone for good.
                self.names_changed = true;
                self.segments.take(*slot);
                self.sync_names()?;
                self.has_spare = true;
                self.is_low = false;
            } else {
                let removed = self.disk.remove(name);
                removed.map_err(|e| StoreError::new("removing", name, e))?;
                self.segments.take(*slot);
            }
            self.index.live.reset(*slot);
            if self.reclaiming.is_some_and(|r| r.slot == *slot) {
                self.reclaiming = None;
            }
        }
        Ok(dead.len())
    }

    fn is_checkpoint_due(&self) -> bool {
        let last_bytes = self.checkpoint.map_or(0, |last| last.bytes);
        let tail_max = self.options.tail_bytes.max(4 * last_bytes);
        if self.wants_checkpoint || self.tail_bytes > tail_max {
            return true;
        }
        // Dead segments that wait for nothing else.
        let waiting = self.segments.iter().filter(|(slot, segment)| {
            Some(*slot) != self.active && !self.is_covered(*slot, segment) && self.is_dead(*slot)
        });
        let waiting: u64 = waiting.map(|(_, segment)| segment.len).sum();
        waiting > 0 && waiting >= last_bytes
    }

    /// The segment with the smallest part alive, if that is little enough: of those that were
    /// written a moment ago much will die by itself, so only space decides; at rest half alive is
    /// too little.
    fn choose_sparse(&self, at_rest: bool) -> Option<Reclaiming> {
        let used = self.disk_bytes();
        let live = self.index.live.total();
        let allowed = if at_rest { live + live / 2 } else { 2 * live };
        let percent_max = match used > allowed + 3 * self.options.segment_bytes {
            true => 80,
            false if at_rest => 50,
            false => return None,
        };
        let sparse = self.segments.iter().filter(|(slot, segment)| {
            let is_alive = self.index.live.bytes(*slot) > 0;
            Some(*slot) != self.active && is_alive && !segment.stuck
        });
        let sparse = sparse.map(|(slot, segment)| {
            let percent = self.index.live.bytes(slot) * 100 / segment.len.max(1);
            (percent, slot)
        });
        let (percent, slot) = sparse.min()?;
        (percent < percent_max).then_some(Reclaiming { slot, offset: 0 })
    }

    /// Copies what lives in the next part of a segment; gives how many bytes.
    fn reclaim(&mut self, mut at: Reclaiming, budget_bytes: usize) -> Result<u64, StoreError> {
        // Staged records may change what lives: first they take effect.
        self.write()?;
        let mut copies = RecordBuffer::new();
        let Some(segment) = self.segments.get(at.slot) else {
            return Ok(0);
        };
        let file = &segment.file;
        let mut window = Window::<D>::new(&self.disk, &file.file, file.key, segment.end);
        let begin = at.offset;
        while at.offset < segment.end && at.offset - begin < budget_bytes.max(1) as u64 {
            let location = Location::new(at.slot, at.offset);
            match window.at(at.offset, 0) {
                Found::Group(..) => at.offset += GROUP_BYTES as u64,
                Found::Record(lsn, ops, bytes) => {
                    let first = match fault::is(Fault::MovedAsNew) {
                        true => self.staged_first,
                        false => lsn,
                    };
                    for op in Ops::new(ops) {
                        self.copy_if_live(first, op, location, &mut copies);
                    }
                    at.offset += bytes;
                }
                Found::Nothing => {
                    let next = window.search(at.offset + 8, 0);
                    at.offset = next.unwrap_or(segment.end);
                }
            }
        }
        let is_done = at.offset >= segment.end;
        let moved_bytes = copies.bytes() as u64;
        let at_rest = self.at_rest;
        self.append(&copies);
        self.write()?;
        self.at_rest = at_rest;
        if !is_done {
            self.reclaiming = Some(at);
        } else {
            self.sync()?;
            if self.index.live.bytes(at.slot) > 0
                && let Some(segment) = self.segments.get_mut(at.slot)
            {
                // What was not copied could not be read.
                segment.stuck = true;
            }
        }
        Ok(moved_bytes)
    }

    fn copy_if_live(&self, lsn: u64, op: Op<'_>, at: Location, copies: &mut RecordBuffer) {
        let is_body = |id| self.index.bodies.locate(id).is_some_and(|(l, _)| l == at);
        let is_state = |key| {
            self.index
                .states
                .get(key)
                .is_some_and(|s| s.location() == at)
        };
        match op {
            Op::Body(id, _, bytes) if is_body(id) => copies.record().moved_body(id, lsn, bytes),
            Op::MovedBody(id, first, bytes) if is_body(id) => {
                copies.record().moved_body(id, first, bytes);
            }
            Op::State(key, bytes) | Op::MovedState(key, bytes) if is_state(key) => {
                copies.record().moved_state(key, bytes);
            }
            _ => {}
        }
    }
}
