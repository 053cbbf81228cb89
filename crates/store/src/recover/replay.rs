//! Replays the records after the checkpoint, in order.

use martlet_fault::{self as fault, Fault};

use super::{Doubtful, Replay};
use crate::disk::Disk;
use crate::index::Location;
use crate::record::{GROUP_BYTES, Lsn};
use crate::report::{Damage, Lost, NO_SUCH_FILE, Torn};
use crate::scan::{ScanItem, Window};
use crate::segment::{self, Segment};

impl<D: Disk> Replay<'_, D> {
    /// False: the last segment must not be written to.
    pub(super) fn run(&mut self) -> bool {
        let is_whole = self.replay_segments();
        let is_read = self.unread.is_none();
        self.tell_unread(Lost::Unknown);
        is_whole && is_read
    }

    fn tell_unread(&mut self, lost: Lost) {
        if let Some((file, unreadable)) = self.unread.take() {
            let damage = Damage::new(file, unreadable.place.start, lost);
            let damage = damage.with_error(Some(unreadable.error));
            self.report.damage.push(damage);
        }
    }

    fn replay_segments(&mut self) -> bool {
        for index in 0..self.tails.len() {
            let is_gap = self.tails[index]
                .first
                .is_some_and(|first| first > self.expected);
            if is_gap && self.has_copies_behind(index, self.expected) {
                continue;
            }
            if !self.close_gap_before(index) || !self.replay_segment(index) {
                return false;
            }
        }
        true
    }

    /// Whether a newer segment has copies of this record and those that follow it.
    fn has_copies_behind(&self, index: usize, lsn: Lsn) -> bool {
        let mut later = self.tails[index + 1..].iter();
        later.any(|tail| tail.first.is_some_and(|first| first <= lsn))
    }

    /// Records may be missing between the end of one segment and the beginning of the next.
    fn close_gap_before(&mut self, index: usize) -> bool {
        let tail = &self.tails[index];
        let Some(first) = tail.first.filter(|first| *first > self.expected) else {
            self.tell_unread(Lost::Nothing);
            return true;
        };
        let expected = self.expected;
        let (file, offset, error) = match self.unread.take() {
            Some((file, unreadable)) => (file, unreadable.place.start, Some(unreadable.error)),
            None => {
                let (file, offset) = self.place_before(index);
                (file, offset, None)
            }
        };
        self.skip_or_cut(file, offset, error, (index, 0), expected, first)
    }

    /// File and offset at which the missing records before a segment should be: in a segment
    /// between it and the last one replayed, or at the end of the latter.
    fn place_before(&self, index: usize) -> (String, u64) {
        let last = self.ends.last();
        let last = last.and_then(|(slot, end, _)| Some((self.segments.get(*slot)?, *end)));
        let begin = last.map_or(self.begin.max(1), |(segment, _)| segment.number() + 1);
        let end = self.segments.get(self.tails[index].slot);
        let end = end.map_or(begin, Segment::number);
        let without_records = (begin..end).find(|number| {
            let segment = self.segments.slot_of(*number);
            let segment = segment.and_then(|slot| self.segments.get(slot));
            segment.is_none_or(|segment| segment.first == 0)
        });
        match (without_records, last) {
            (Some(number), _) => (segment::name(number), 0),
            (None, Some((segment, end))) => (segment.name(), end),
            (None, None) => (segment::name(end), 0),
        }
    }

    fn replay_segment(&mut self, index: usize) -> bool {
        let tail = &self.tails[index];
        let Some(segment) = self.segments.get(tail.slot) else {
            return true;
        };
        let name = segment.name();
        let file = &segment.file;
        let mut window = Window::<D>::new(self.disk, &file.file, file.key, segment.len);
        let (mut offset, mut cursor) = (tail.from, tail.cursor);
        self.group_offset = u64::MAX - GROUP_BYTES as u64;
        let mut clean = true;
        while cursor < tail.limit {
            match window.at(offset, cursor) {
                ScanItem::Group(header, lsn) if lsn == cursor => {
                    self.group = self.group.max(header.number);
                    self.sealed = header.bytes == 0;
                    self.group_offset = offset;
                    self.trust_up_to(header.synced);
                    offset += GROUP_BYTES as u64;
                    continue;
                }
                ScanItem::Record(lsn, ops, bytes) if lsn == cursor => {
                    self.replay(lsn, ops, Location::new(tail.slot, offset));
                    cursor += 1;
                    offset += bytes;
                    continue;
                }
                _ => {}
            }
            let later = &self.tails[index + 1..];
            if later
                .iter()
                .any(|t| t.first.is_some_and(|first| first <= cursor))
            {
                // A newer segment has copies of all records from here on.
                break;
            }
            let next = window.search(offset, cursor);
            let lsn = next.and_then(|next| match window.at(next, cursor) {
                ScanItem::Group(_, lsn) | ScanItem::Record(lsn, ..) if lsn < tail.limit => {
                    Some(lsn)
                }
                _ => None,
            });
            let (Some(next), Some(lsn)) = (next, lsn) else {
                let unread = window.unreadable(offset..u64::MAX).cloned();
                self.unread = unread.map(|unreadable| (name, unreadable));
                break;
            };
            let file = name.clone();
            let error = window.unreadable(offset..next).map(|u| u.error.clone());
            if !self.skip_or_cut(file, offset, error, (index, next), cursor, lsn) {
                clean = false;
                break;
            }
            offset = next;
            cursor = lsn;
        }
        let is_seal = self.sealed && index + 1 == self.tails.len();
        if offset == self.group_offset + GROUP_BYTES as u64 && !is_seal {
            // A header without a record after it may not be on the disk: it is not kept.
            offset = self.group_offset;
        }
        self.ends.push((tail.slot, offset, cursor));
        clean
    }

    /// Applies a record, or notes the location of the newer copy of one.
    fn replay(&mut self, lsn: Lsn, ops: &[u8], location: Location) {
        self.sealed = false;
        if lsn >= self.expected {
            self.index.apply(lsn, ops, location);
            self.report.replayed += 1;
            self.expected = lsn + 1;
            self.doubtful.push_back(Doubtful {
                lsn,
                location,
                group: self.group_offset,
            });
        } else if let Ok(index) = self
            .doubtful
            .binary_search_by_key(&lsn, |record| record.lsn)
        {
            let record = &mut self.doubtful[index];
            self.cuts.push((record.location.slot, record.group));
            self.index.relocate(ops, record.location, location);
            record.location = location;
            record.group = self.group_offset;
        }
    }

    fn trust_up_to(&mut self, synced: Lsn) {
        while self
            .doubtful
            .front()
            .is_some_and(|record| record.lsn <= synced)
        {
            self.doubtful.pop_front();
        }
    }

    /// No record is valid at `offset` of a file, where record `missing` should be; the next valid
    /// one is `lsn`. The data from `behind` on (which tail, offset) shows whether the missing
    /// records were ever synced. False: they were not; the log is cut here. Unreadable data does
    /// not count as torn.
    fn skip_or_cut(
        &mut self,
        file: String,
        offset: u64,
        error: Option<String>,
        behind: (usize, u64),
        missing: Lsn,
        lsn: Lsn,
    ) -> bool {
        let is_torn = error.is_none() && !self.is_synced(behind.0, behind.1, missing);
        if is_torn && fault::is(Fault::TornTailServed) {
            self.expected = self.expected.max(lsn);
            return true;
        }
        if is_torn {
            self.report.torn = Some(Torn { file, offset });
            return false;
        }
        let number = segment::number_of(&file);
        let is_missing = number.is_some_and(|number| self.segments.slot_of(number).is_none());
        let error = error.or_else(|| is_missing.then(|| NO_SUCH_FILE.to_owned()));
        // An older segment may have had copies.
        let lost = match lsn.saturating_sub(self.expected) {
            0 => Lost::Nothing,
            count => Lost::Records {
                first: self.expected,
                count,
            },
        };
        let damage = Damage::new(file, offset, lost).with_error(error);
        self.report.damage.push(damage);
        self.expected = self.expected.max(lsn);
        true
    }

    /// Whether a header from there on shows that this record was synced, or may show it in an
    /// unreadable place.
    fn is_synced(&self, from: usize, mut offset: u64, missing: Lsn) -> bool {
        if missing <= self.marked {
            return true;
        }
        for tail in &self.tails[from..] {
            let Some(segment) = self.segments.get(tail.slot) else {
                continue;
            };
            let file = &segment.file;
            let mut window = Window::<D>::new(self.disk, &file.file, file.key, segment.len);
            while let Some(found) = window.search(offset, missing) {
                offset = found;
                match window.at(offset, missing) {
                    ScanItem::Group(header, _) if header.synced >= missing => return true,
                    ScanItem::Record(_, _, bytes) => offset += bytes,
                    _ => offset += GROUP_BYTES as u64,
                }
            }
            if window.unreadable(0..u64::MAX).is_some() {
                return true;
            }
            offset = 0;
        }
        false
    }
}
