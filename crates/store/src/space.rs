//! The space that the store takes: a file for the next segment, the ballast, segments in which
//! nothing lives any more, when a checkpoint is due, and the bounds of it all.
//!
//! What lives is the index's to say; nothing is copied here.

use crate::disk::Disk;
use crate::engine::{BALLAST, Engine, SPARE};
use crate::error::StoreError;
use crate::segment::Segment;
use martlet_fault::{self as fault, Fault};
use std::sync::Arc;

/// Segments that an opening may have to replay before a checkpoint is taken at once.
const REPLAYED_SEGMENTS_MAX: usize = 4;
/// Segments per call: with more of them, they are looked through less often.
const LOOKED_AT_ONCE: usize = 64;
/// Factor by which housekeeping may exceed its budget, at most.
const HASTE_MAX: u64 = 16;

impl<D: Disk> Engine<D> {
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

    /// How many bytes more the store takes than it may before sparse segments are reclaimed,
    /// however much will die by itself. So that it never takes more than twice what lives and 3.75
    /// of the longest segments, there is room left for the next segment and for what is copied
    /// before the first one is given back. At rest it is to take one and a half times what lives
    /// and three segments.
    pub(crate) fn excess_bytes(&self) -> u64 {
        let live = self.index.live.total();
        let segment = self.options.segment_bytes;
        let room = (2 * self.next_segment_bytes()).max(3 * segment / 4);
        let allowed = match self.at_rest {
            true => live + live / 2 + 3 * segment,
            false => 2 * live + 15 * segment / 4 - room,
        };
        // Room for the next checkpoint before the last one goes.
        let next = self.checkpoint.map_or(0, |last| 2 * last.bytes);
        (self.disk_bytes() + next).saturating_sub(allowed)
    }

    /// How many times its budget housekeeping is to do: the more, the closer the bound is.
    pub(crate) fn haste(&self) -> usize {
        let part = self.options.segment_bytes / 2 / HASTE_MAX;
        (1 + self.excess_bytes() / part.max(1)).min(HASTE_MAX) as usize
    }

    /// Sees to it that there is a file for the next segment, and the ballast.
    pub(crate) fn provide(&mut self) -> Result<(), StoreError> {
        if self.spare_bytes == 0 && (self.active.is_some() || self.is_low) {
            self.free_segments(1)?;
            if self.spare_bytes == 0 {
                self.make_spare();
            }
        } else if self.spare_bytes > 0 && !self.has_ballast && self.checkpointing.is_none() {
            self.make_ballast();
        }
        Ok(())
    }

    fn make_spare(&mut self) {
        let bytes = self.next_segment_bytes();
        let made = self.disk.create(SPARE, bytes);
        let synced = made.and_then(|_| self.disk.sync_dir());
        match synced {
            Ok(()) => self.has_spare(bytes),
            Err(_) => self.is_low = true,
        }
    }

    /// What the ballast left is not room for more: only with the ballast there again has the disk
    /// room.
    fn has_spare(&mut self, bytes: u64) {
        self.spare_bytes = bytes;
        self.is_low &= !self.has_ballast;
    }

    /// Only when there is a spare file: that one comes first.
    fn make_ballast(&mut self) {
        let bytes = self.options.ballast_bytes();
        self.has_ballast = self.disk.create(BALLAST, bytes).is_ok();
        self.is_low &= !self.has_ballast;
    }

    /// True: there was one. What is written from here on uses the reserve.
    pub(crate) fn drop_ballast(&mut self) -> bool {
        let had = self.has_ballast;
        self.has_ballast = had && self.disk.remove(BALLAST).is_err();
        let dropped = had && !self.has_ballast;
        self.is_low |= dropped;
        dropped
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

    /// Bytes of segments in which nothing lives.
    pub(crate) fn dead_bytes(&self) -> u64 {
        let live = &self.index.live;
        let dead = self.segments.iter().filter(|(slot, segment)| {
            Some(*slot) != self.active
                && live.bytes(*slot) == 0
                && Arc::strong_count(&segment.file) == 1
        });
        dead.map(|(_, segment)| segment.len).sum()
    }

    /// Whether the segments are to be looked through now: each time costs as much as there are.
    pub(crate) fn is_look_due(&mut self) -> bool {
        let is_due = self.looks_left == 0 || self.at_rest;
        self.looks_left = match is_due {
            true => self.segments.count() / LOOKED_AT_ONCE,
            false => self.looks_left - 1,
        };
        is_due
    }

    /// Gives back segments in which nothing lives and that recovery does not need. While much comes
    /// and goes some of them are kept, to be used again: to a file system that is cheaper than a
    /// new file, and writing to it too.
    pub(crate) fn free_segments(&mut self, count_max: usize) -> Result<usize, StoreError> {
        let dead = self.segments.iter().filter(|(slot, segment)| {
            self.is_covered(*slot, segment)
                && self.is_dead(*slot)
                && Arc::strong_count(&segment.file) == 1
        });
        let dead: Vec<(u16, u64)> = dead.map(|(slot, segment)| (slot, segment.len)).collect();
        let mut kept: u64 = dead.iter().map(|(_, len)| len).sum();
        let kept_max = match self.at_rest || self.excess_bytes() > 0 {
            true => 0,
            false => self.options.segment_bytes,
        };
        let mut count = 0;
        for (slot, len) in dead {
            let is_wanted = self.spare_bytes == 0 && len == self.next_segment_bytes();
            // One that was truncated to nothing takes no space, but is damage all the same.
            if count < count_max && (is_wanted || kept > kept_max || len == 0) {
                self.free_segment(slot, is_wanted.then_some(len))?;
                kept -= len;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Gives back segments in which nothing counts, because a sync failed and all that they hold
    /// was written anew. Nothing of it was promised, so no checkpoint and no sync has to come
    /// first; without this, each further failure would leave one. They are not used again: that
    /// takes a sync of the names.
    pub(crate) fn free_void(&mut self) {
        if self.void.is_empty() || !self.relocations.is_empty() {
            return;
        }
        for slot in std::mem::take(&mut self.void) {
            let is_void = |segment: &Segment<D::File>| segment.end == 0;
            let is_void = self.segments.get(slot).is_some_and(is_void);
            if is_void && self.active != Some(slot) && self.index.live.bytes(slot) == 0 {
                // If it cannot be removed, it goes as others do in which nothing lives.
                let freed = self.free_segment(slot, None);
                self.names_changed |= freed.is_ok();
            }
        }
    }

    fn free_segment(&mut self, slot: u16, as_spare: Option<u64>) -> Result<(), StoreError> {
        let Some(segment) = self.segments.get(slot) else {
            return Ok(());
        };
        let name = segment.name();
        match as_spare {
            Some(len) => {
                let renamed = self.disk.rename(&name, SPARE);
                renamed.map_err(|e| StoreError::new("renaming", &name, e))?;
                // Before anything is written to it, the old name is gone for good.
                self.names_changed = true;
                self.segments.take(slot);
                self.sync_names()?;
                self.has_spare(len);
            }
            None => {
                let removed = self.disk.remove(&name);
                removed.map_err(|e| StoreError::new("removing", &name, e))?;
                self.segments.take(slot);
            }
        }
        self.index.live.reset(slot);
        if let Some(reclaiming) = &mut self.reclaiming {
            reclaiming.leave_out(slot);
        }
        Ok(())
    }

    pub(crate) fn is_checkpoint_due(&self) -> bool {
        let last_bytes = self.checkpoint.map_or(0, |last| last.bytes);
        let tail_max = self.options.tail_bytes.max(4 * last_bytes);
        if self.wants_checkpoint || self.tail_bytes > tail_max {
            return true;
        }
        let is_wanted = self.at_rest || self.is_low || self.excess_bytes() > 0;
        let next_bytes = self.index.checkpoint_bytes();
        if is_wanted && last_bytes > 2 * next_bytes.max(self.options.short_segment_bytes()) {
            // It takes more space than what it is the image of.
            return true;
        }
        // Dead segments that wait for nothing else, and whether there is one to be used again.
        let (mut waiting, mut has_ready) = (0, false);
        for (slot, segment) in self.segments.iter() {
            if Some(slot) != self.active && self.is_dead(slot) {
                match self.is_covered(slot, segment) {
                    true => has_ready = true,
                    false => waiting += segment.len,
                }
            }
        }
        let waiting_min = match is_wanted {
            true => last_bytes.min(next_bytes),
            false if has_ready => last_bytes.max(self.options.segment_bytes),
            false => last_bytes.max(2 * self.next_segment_bytes()),
        };
        waiting > 0 && waiting >= waiting_min
    }
}
