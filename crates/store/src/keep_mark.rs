//! When the mark is written.

use crate::disk::Disk;
use crate::engine::Engine;
use crate::mark::{self, Mark};

impl<D: Disk> Engine<D> {
    /// Sets the mark when a new segment has something that was synced, and when there is rest.
    pub(crate) fn keep_mark(&mut self) {
        let Some(segment) = self.active.and_then(|slot| self.segments.get(slot)) else {
            return;
        };
        let is_next = segment.number() != self.marked.segment && segment.first <= self.durable;
        if is_next || self.at_rest && self.marked.lsn < self.durable {
            let mark = Mark {
                segment: segment.number(),
                lsn: self.durable,
            };
            // If it fails, the next one is tried. Nothing that is promised needs it.
            let _ = mark::put(&self.disk, self.salt, mark);
            self.marked = mark;
        }
    }

    /// A mark of what is on the disk for certain now: instead of one that does not check, and
    /// before a checkpoint, so that without that it is known how far the log went.
    pub(crate) fn renew_mark(&mut self) {
        let active = self.active.and_then(|slot| self.segments.get(slot));
        let mark = Mark {
            segment: active.map_or(self.next_number - 1, |segment| segment.number()),
            lsn: self.durable,
        };
        // If it fails, the next one is tried.
        if mark::put(&self.disk, self.salt, mark).is_ok() {
            self.marked = mark;
        }
    }
}
