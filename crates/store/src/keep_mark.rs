//! When the mark is written.

use crate::disk::Disk;
use crate::engine::Engine;
use crate::mark::{self, Mark};

impl<D: Disk> Engine<D> {
    /// Writes the mark when a new segment has a synced record, and when the store is idle.
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
            // On failure, the next mark is tried. No guarantee depends on the mark.
            let _ = mark::put(&self.disk, self.salt, mark);
            self.marked = mark;
        }
    }

    /// Writes a mark of what is durable now: in place of an invalid one, and before a checkpoint,
    /// so that the end of the log is known without that checkpoint.
    pub(crate) fn renew_mark(&mut self) {
        let active = self.active.and_then(|slot| self.segments.get(slot));
        let mark = Mark {
            segment: active.map_or(self.next_number - 1, |segment| segment.number()),
            lsn: self.durable,
        };
        // On failure, the next mark is tried.
        if mark::put(&self.disk, self.salt, mark).is_ok() {
            self.marked = mark;
        }
    }
}
