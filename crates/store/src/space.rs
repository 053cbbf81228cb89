//! The disk space of the store: the file for the next segment, the ballast, segments without live
//! contents, when a checkpoint is due, and the bounds.
//!
//! The index knows what is live; nothing is copied here.

use crate::disk::Disk;
use crate::engine::{BALLAST, Engine, SPARE};
use crate::error::StoreError;
use crate::segment::Segment;
use martlet_fault::{self as fault, Fault};
use std::sync::Arc;

/// Number of segments to replay at opening above which a checkpoint is taken at once.
const REPLAYED_SEGMENTS_MAX: usize = 4;
/// Segments per call; with more of them, they are examined less often.
const LOOKED_AT_ONCE: usize = 64;
/// Maximum factor by which housekeeping may exceed its budget.
const HASTE_MAX: u64 = 16;

impl<D: Disk> Engine<D> {
    /// Completes a checkpoint of this moment, however long it takes: for closing.
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

    /// Seals the log and takes a checkpoint, so that the next opening is quick and finds all later
    /// damage.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.seal()?;
        self.checkpoint_now()?;
        self.free_segments(usize::MAX)?;
        Ok(())
    }

    /// After opening: if much had to be replayed, takes a checkpoint at once, so that the next
    /// opening is quick. Otherwise a program that is killed repeatedly before housekeeping
    /// completes would start slower each time.
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

    /// Bytes by which the store exceeds the size above which sparse segments are reclaimed, even
    /// if many of their contents will soon die. The bound is twice the live bytes plus 3.75 of the
    /// longest segments; the threshold is lower, so that the next segment and the copies fit
    /// before the first segment is freed. When idle, the bound is one and a half times the live
    /// bytes plus three segments.
    pub(crate) fn excess_bytes(&self) -> u64 {
        let live = self.index.live.total();
        let segment = self.options.segment_bytes;
        let room = (2 * self.next_segment_bytes()).max(3 * segment / 4);
        let allowed = match self.at_rest {
            true => live + live / 2 + 3 * segment,
            false => 2 * live + 15 * segment / 4 - room,
        };
        // Space for the next checkpoint before the last one is removed.
        let next = self.checkpoint.map_or(0, |last| 2 * last.bytes);
        (self.disk_bytes() + next).saturating_sub(allowed)
    }

    /// Factor for the budget of housekeeping: it grows as the size nears its bound.
    pub(crate) fn haste(&self) -> usize {
        let part = self.options.segment_bytes / 2 / HASTE_MAX;
        (1 + self.excess_bytes() / part.max(1)).min(HASTE_MAX) as usize
    }

    /// Creates the file for the next segment and the ballast, if they do not exist.
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

    /// Notes the spare file. Space that the ballast freed does not count as free: the disk has
    /// room only when the ballast exists again.
    fn has_spare(&mut self, bytes: u64) {
        self.spare_bytes = bytes;
        self.is_low &= !self.has_ballast;
    }

    /// Only if the spare file exists: that one comes first.
    fn make_ballast(&mut self) {
        let bytes = self.options.ballast_bytes();
        self.has_ballast = self.disk.create(BALLAST, bytes).is_ok();
        self.is_low &= !self.has_ballast;
    }

    /// True: there was a ballast. Later writes use this reserve.
    pub(crate) fn drop_ballast(&mut self) -> bool {
        let had = self.has_ballast;
        self.has_ballast = had && self.disk.remove(BALLAST).is_err();
        let dropped = had && !self.has_ballast;
        self.is_low |= dropped;
        dropped
    }

    /// Whether it is not active, and recovery does not need it because of a checkpoint.
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

    /// Bytes of segments without live contents.
    pub(crate) fn dead_bytes(&self) -> u64 {
        let live = &self.index.live;
        let dead = self.segments.iter().filter(|(slot, segment)| {
            Some(*slot) != self.active
                && live.bytes(*slot) == 0
                && Arc::strong_count(&segment.file) == 1
        });
        dead.map(|(_, segment)| segment.len).sum()
    }

    /// Whether to examine the segments now: the cost is proportional to their number.
    pub(crate) fn is_look_due(&mut self) -> bool {
        let is_due = self.looks_left == 0 || self.at_rest;
        self.looks_left = match is_due {
            true => self.segments.count() / LOOKED_AT_ONCE,
            false => self.looks_left - 1,
        };
        is_due
    }

    /// Frees segments that have no live contents and that recovery does not need. Under load some
    /// of them are kept for reuse: for a file system this is cheaper than a new file, and writing
    /// to it too.
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
            // A segment truncated to nothing takes no space, but counts as damage.
            if count < count_max && (is_wanted || kept > kept_max || len == 0) {
                self.free_segment(slot, is_wanted.then_some(len))?;
                kept -= len;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Frees segments that are entirely void, because a sync failed and all their records were
    /// written again. None of their records was acknowledged, so no checkpoint and no sync has to
    /// come first; without this, each further failure would leave a segment behind. They are not
    /// reused: that needs a sync of the directory.
    pub(crate) fn free_void(&mut self) {
        if self.void.is_empty() || !self.relocations.is_empty() {
            return;
        }
        for slot in std::mem::take(&mut self.void) {
            let is_void = |segment: &Segment<D::File>| segment.end == 0;
            let is_void = self.segments.get(slot).is_some_and(is_void);
            if is_void && self.active != Some(slot) && self.index.live.bytes(slot) == 0 {
                // On failure, it is freed later like other dead segments.
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
                // The old name must be durably removed before anything is written to the file.
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
            // The log takes more space than the live data of a checkpoint.
            return true;
        }
        // Dead segments that wait only for a checkpoint, and whether one is ready for reuse.
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
