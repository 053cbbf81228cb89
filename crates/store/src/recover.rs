//! Opens a store: loads the checkpoint, then replays the records after it, in order, in pieces.
//!
//! A record whose checksum fails was either torn (no header shows that it was ever synced) or
//! damaged. The header of every group has the number of the last record that was synced when the
//! group was written. Records after a torn record are ignored, so that the result is always a
//! prefix of what was written. After a damaged record, all records with valid checksums are used.
//!
//! Every segment has the number of the first record from which older segments are void: they were
//! cut off there. Records at its start with lower numbers are copies of records in older segments.
//!
//! A place that cannot be read counts as an invalid checksum, but never as a torn record.
//!
//! Records that no header shows as synced may be readable and yet not be on the disk: a sync may
//! have failed before the process ended, and the system's cache keeps the data that the disk lost.
//! These records are written again.

mod replay;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use martlet_fault::{self as fault, Fault};

use crate::checkpoint::{self, ReplayFrom};
use crate::disk::Disk;
use crate::engine::{BALLAST, Engine, Options, SPARE};
use crate::error::{OpenError, StoreError};
use crate::gaps::{Gaps, Short};
use crate::identity;
use crate::index::{Index, Location};
use crate::mark;
use crate::record::{FileKey, GROUP_BYTES, LENGTH_UNIT, Lsn};
use crate::report::{self, Damage, Lost, NO_SUCH_FILE, Report};
use crate::scan::{ScanItem, Unreadable, Window};
use crate::segment::{self, Segment, SegmentFile, Segments};

/// A segment to replay.
struct Tail {
    slot: u16,
    /// Offset at which replay begins.
    from: u64,
    /// Number of the first record; `None`: the segment is empty.
    first: Option<Lsn>,
    /// The first record to replay.
    cursor: Lsn,
    /// Older segments are void from this record on.
    void_from: Lsn,
    /// Records from this one on are void here.
    limit: Lsn,
}

/// A record that no header shows as synced.
struct Doubtful {
    lsn: Lsn,
    location: Location,
    /// Offset of its group's header.
    group: u64,
}

struct Replay<'a, D: Disk> {
    disk: &'a D,
    segments: &'a Segments<D::File>,
    index: &'a mut Index,
    tails: &'a [Tail],
    /// Number of the first segment to replay.
    begin: u64,
    /// A record that was synced, as were all records before it.
    marked: Lsn,
    report: &'a mut Report,
    /// Number of the next expected record.
    expected: Lsn,
    /// The highest number of a group.
    group: u64,
    /// Whether the last group was an empty one.
    sealed: bool,
    /// Slot, end offset and number after the last record of each segment.
    ends: Vec<(u16, u64, Lsn)>,
    /// Offset of the last group's header.
    group_offset: u64,
    doubtful: VecDeque<Doubtful>,
    /// Slot and offset from which on all records of a segment have newer copies.
    cuts: Vec<(u16, u64)>,
    /// A place after the last record that could not be read; its loss is not yet determined.
    unread: Option<(String, Unreadable)>,
}

impl<D: Disk> Engine<D> {
    /// Opens the store on this disk, or creates one. Reads the checkpoint and the records after
    /// it. Damaged parts are listed in the report and left out. After this call, everything that
    /// can be read from the store is synced.
    pub fn open(disk: D, options: Options) -> Result<(Self, Report), OpenError> {
        Self::open_accepting(disk, options, false)
    }

    /// As [`Engine::open`]; with `is_loss_accepted` also if there is neither a checkpoint nor the
    /// beginning of the log.
    pub(crate) fn open_accepting(
        disk: D,
        options: Options,
        is_loss_accepted: bool,
    ) -> Result<(Self, Report), OpenError> {
        options.check().map_err(OpenError::Options)?;
        let mut names = disk.list().map_err(list_error)?;
        names.sort();
        let identity = identity::open(&disk, options.salt, &names)?;
        let mark = mark::read(&disk, identity.salt);
        identity::vouch(&disk, identity.salt, &names, &mark)?;
        let mut engine = Engine::empty(disk, options, identity.salt);
        engine.marked = mark.mark.unwrap_or_default();
        let mut report = Report::default();
        report.damage.extend(identity.bad.iter().cloned());
        report.damage.extend(mark.damage());
        let mut gaps = Gaps::default();
        let loaded = checkpoint::load(&mut engine, &names, &mut gaps, &mut report)?;
        let (from, has_holes) = loaded.unwrap_or((
            ReplayFrom {
                number: 0,
                offset: 0,
            },
            false,
        ));
        if has_holes {
            engine.make_up_for(gaps.lacks);
            engine.index.count_lost(&gaps.counts);
        }
        engine.index.begin_recovery();
        let doubtful = engine.replay_all(from, &names, &mut gaps, &mut report)?;
        engine.index.end_recovery();
        if let Some(refusal) = gaps.refusal.take()
            && !is_loss_accepted
            && (has_holes || engine.lacks_files(&gaps, &report))
        {
            return Err(refusal);
        }
        for damage in &mut report.damage {
            if let Lost::Checkpoint { known } = &mut damage.lost {
                *known = mark.mark.is_some();
            }
        }
        if engine.checkpoint.is_none() {
            Self::tell_no_checkpoint(is_loss_accepted, &mut report)?;
        }
        if has_holes {
            engine.seek_bodies(gaps.lacks.bodies);
        }
        engine.index.enqueue_lost();
        // Segments may be missing because all their contents were forgotten.
        engine.index.drop_forgotten(usize::MAX);
        engine.lose_missing(&gaps, &mut report);
        // Only now: the new segment may get the slot of a missing one.
        engine.write_anew(doubtful)?;
        engine.index.sweep();
        engine.tidy(&names, &gaps, &mut report)?;
        identity::renew(&engine.disk, &identity);
        if mark.damage().is_some() {
            engine.renew_mark();
        }
        report.bodies = engine.index.bodies.count();
        report.entries = engine.index.queues.entries_count();
        report.queues = engine.index.queues.count();
        report.states = engine.index.states.count();
        Ok((engine, report))
    }

    fn replay_all(
        &mut self,
        from: ReplayFrom,
        names: &[(String, u64)],
        gaps: &mut Gaps,
        report: &mut Report,
    ) -> Result<VecDeque<Doubtful>, OpenError> {
        let mut tails = self.open_tails(from, names, gaps, report)?;
        let mut limit = Lsn::MAX;
        for tail in tails.iter_mut().rev() {
            tail.limit = limit;
            if tail.first.is_some() {
                limit = limit.min(tail.void_from);
            }
        }
        tails.retain(|tail| tail.first.is_some_and(|first| first < tail.limit));
        let mut replay = Replay {
            disk: &self.disk,
            segments: &self.segments,
            index: &mut self.index,
            tails: &tails,
            begin: from.number,
            marked: self.marked.lsn,
            report,
            expected: self.applied + 1,
            group: 0,
            sealed: false,
            ends: Vec::new(),
            group_offset: 0,
            doubtful: VecDeque::new(),
            cuts: Vec::new(),
            unread: None,
        };
        let clean = replay.run();
        let (expected, group, sealed) = (replay.expected, replay.group, replay.sealed);
        let (ends, mut doubtful, cuts) = (replay.ends, replay.doubtful, replay.cuts);
        if fault::is(Fault::DoubtfulBelieved) {
            doubtful.clear();
        }
        self.next_group = self.next_group.max(group + 1);
        self.sealed = sealed;
        // Records that were not replayed are void or lie after the cut: no checkpoint has to wait
        // for them.
        for slot in self.segments.in_order() {
            if let Some(segment) = self.segments.get_mut(slot) {
                segment.next = segment.next.min(expected);
            }
        }
        for (slot, end, next) in ends {
            let tail = tails.iter().find(|tail| tail.slot == slot);
            self.tail_bytes += end - tail.map_or(0, |tail| tail.from);
            if let Some(segment) = self.segments.get_mut(slot) {
                segment.end = end;
                segment.next = next;
            }
        }
        self.tell_cut_off(gaps, expected, report);
        for (slot, offset) in cuts {
            if let Some(segment) = self.segments.get_mut(slot) {
                segment.end = segment.end.min(offset);
            }
        }
        let is_all = expected > self.marked.lsn;
        if !is_all {
            self.tell_rest_lost(expected, report);
        }
        // No number is used twice.
        self.staged_first = expected.max(self.marked.lsn + 1);
        self.applied = self.staged_first - 1;
        // Only if nothing after the end could be taken for the next record.
        let active = tails.last().map(|tail| tail.slot);
        self.active = active.filter(|_| clean && is_all && doubtful.is_empty());
        self.durable = doubtful.front().map_or(self.applied, |first| first.lsn - 1);
        if sealed
            && !self.confirm_seal()
            && let Some(slot) = self.active.take()
            && let Some(segment) = self.segments.get_mut(slot)
        {
            segment.end = segment.end.saturating_sub(GROUP_BYTES as u64);
        }
        Ok(doubtful)
    }

    /// Whether an older checkpoint than the newest was loaded, or none, and some files that it and
    /// the log refer to are missing: they were freed when the newest checkpoint was taken.
    fn lacks_files(&self, gaps: &Gaps, report: &Report) -> bool {
        let is_there = |name: &str| {
            segment::number_of(name).is_none_or(|number| self.segments.slot_of(number).is_some())
        };
        !gaps.missing.is_empty()
            || report
                .torn
                .as_ref()
                .is_some_and(|torn| !is_there(&torn.file))
            || report.damage.iter().any(|damage| {
                !is_there(&damage.file) || matches!(damage.lost, Lost::Rest { .. } | Lost::Unknown)
            })
    }

    /// Reports that there is no checkpoint. Missing segments may have been freed while there was
    /// one: their contents are known only as far as they were copied since. Without the first
    /// segment, nearly everything may seem lost.
    fn tell_no_checkpoint(is_accepted: bool, report: &mut Report) -> Result<(), OpenError> {
        for damage in &mut report.damage {
            let is_missing = damage.error.as_deref() == Some(NO_SUCH_FILE);
            match damage.lost {
                Lost::Records { first, count } if is_missing && is_accepted => {
                    damage.lost = Lost::WithoutCheckpoint { first, count };
                }
                Lost::Records { first: 1, .. } if is_missing => {
                    let file = damage.file.clone();
                    return Err(OpenError::NoCheckpoint { file });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reports that the log ends before a record that was synced.
    fn tell_rest_lost(&mut self, first: Lsn, report: &mut Report) {
        let number = self.marked.segment;
        let name = segment::name(number);
        let segment = self.segments.slot_of(number);
        let segment = segment.and_then(|slot| self.segments.get(slot));
        let offset = segment.map_or(0, |segment| segment.end);
        let error = segment.is_none().then(|| NO_SUCH_FILE.to_owned());
        let is_told = report.damage.iter().any(|damage| {
            let is_end = damage.error.is_some() || matches!(damage.lost, Lost::CutOff { .. });
            is_end && damage.file == name
        });
        if !is_told {
            let damage = Damage::new(name, offset, Lost::Rest { first });
            report.damage.push(damage.with_error(error));
        }
        // The next checkpoint settles this.
        self.wants_checkpoint = true;
    }

    /// Writes the empty group at the end again, in place: like a doubtful record, it may not be on
    /// the disk.
    fn confirm_seal(&self) -> bool {
        let Some(segment) = self.active.and_then(|slot| self.segments.get(slot)) else {
            return true;
        };
        let Some(offset) = segment.end.checked_sub(GROUP_BYTES as u64) else {
            return true;
        };
        let mut seal = [0; GROUP_BYTES];
        let file = &segment.file.file;
        let again = self
            .disk
            .read_at(file, offset, &mut seal)
            .and_then(|_| self.disk.write_at(file, offset, &seal))
            .and_then(|()| self.disk.sync(file));
        again.is_ok()
    }

    /// Stages records that are in the index but perhaps not on the disk, and writes them to a new
    /// segment.
    fn write_anew(&mut self, doubtful: VecDeque<Doubtful>) -> Result<(), StoreError> {
        let Some(first) = doubtful.front() else {
            return Ok(());
        };
        if let Some(segment) = self.segments.get(first.location.slot) {
            // A successful sync proves nothing here. But if no sync succeeds, each start would
            // leave one more segment, and the valid copy may be in any of them.
            let synced = self.disk.sync(&segment.file.file);
            synced.map_err(|e| StoreError::new("syncing", &segment.name(), e))?;
        }
        for record in &doubtful {
            if let Some(segment) = self.segments.get_mut(record.location.slot) {
                segment.end = segment.end.min(record.group);
            }
        }
        let mut staged = vec![0; GROUP_BYTES];
        let mut rest = doubtful.iter().peekable();
        while let Some(next) = rest.peek() {
            let slot = next.location.slot;
            let Some(segment) = self.segments.get(slot) else {
                break;
            };
            let file = &segment.file;
            let mut window = Window::<D>::new(&self.disk, &file.file, file.key, segment.len);
            while let Some(record) = rest.next_if(|record| record.location.slot == slot) {
                let record = window.record(record.location.offset());
                staged.extend_from_slice(record);
            }
            if let Some(unreadable) = window.unreadable(0..u64::MAX) {
                // It was readable during replay.
                let error = std::io::Error::other(unreadable.error.clone());
                return Err(StoreError::new("reading", &segment.name(), error));
            }
        }
        self.staged = staged;
        self.staged_first = first.lsn;
        self.staged_count = doubtful.len() as u64;
        self.relocations = doubtful.into_iter().map(|record| record.location).collect();
        // On a full disk they stay staged, and readable at their old places.
        if self.write().is_ok() {
            let _ = self.sync();
        }
        Ok(())
    }

    /// Opens the segments to replay, oldest first, and adds all of them to the table.
    fn open_tails(
        &mut self,
        from: ReplayFrom,
        names: &[(String, u64)],
        gaps: &mut Gaps,
        report: &mut Report,
    ) -> Result<Vec<Tail>, OpenError> {
        let mut numbers: Vec<(u64, u64)> = names
            .iter()
            .filter_map(|(name, len)| Some((segment::number_of(name)?, *len)))
            .filter(|(number, _)| *number >= from.number)
            .collect();
        numbers.sort_unstable();
        self.next_number = self.next_number.max(self.marked.segment + 1);
        let is_alone = self.checkpoint.is_none() && numbers.len() == 1;
        let mut tails = Vec::new();
        for (number, len) in numbers {
            self.next_number = self.next_number.max(number + 1);
            if number == from.number
                && let Some(slot) = self.segments.slot_of(number)
            {
                let first = self.segments.get(slot).map(|segment| segment.first);
                tails.push(Tail {
                    slot,
                    from: from.offset,
                    first,
                    cursor: self.applied + 1,
                    void_from: 0,
                    limit: 0,
                });
                continue;
            }
            tails.push(self.open_tail(number, len, is_alone, gaps, report)?);
        }
        Ok(tails)
    }

    fn open_tail(
        &mut self,
        number: u64,
        len: u64,
        is_alone: bool,
        gaps: &mut Gaps,
        report: &mut Report,
    ) -> Result<Tail, OpenError> {
        let name = segment::name(number);
        let file = self.disk.open(&name);
        let file = file.map_err(|e| StoreError::new("opening", &name, e))?;
        let key = FileKey::new(self.salt, number);
        let begin = {
            let mut window = Window::new(&self.disk, &file, key, len);
            let begin = first_record(&mut window);
            if begin.is_none()
                && let Some(unreadable) = window.unreadable(0..len)
            {
                let damage = Damage::new(name.clone(), unreadable.place.start, Lost::Unknown);
                let error = unreadable.error.clone();
                report.damage.push(damage.with_error(Some(error)));
            }
            begin
        };
        let made_len = match &begin {
            Some(begin) => begin.segment_len,
            // No file is created empty, except for a moment when a store is created.
            None if len > 0 || !is_alone => len.max(1).next_multiple_of(LENGTH_UNIT),
            None => 0,
        };
        let first = begin.as_ref().map(|begin| begin.first);
        let void_from = begin.as_ref().map_or(0, |begin| begin.void_from);
        let segment = Segment {
            file: Arc::new(SegmentFile { number, file, key }),
            len,
            end: 0,
            first: first.unwrap_or(0),
            next: first.unwrap_or(0),
            void_from,
            stuck: false,
        };
        let error = std::io::Error::other("no more than 65,535 segments");
        let slot = self.segments.add_above(self.index.live.slots(), segment);
        let slot = slot.ok_or_else(|| StoreError::new("opening", &name, error))?;
        if len < made_len {
            gaps.short.push(Short {
                slot,
                is_listed: false,
            });
        }
        Ok(Tail {
            slot,
            from: 0,
            first,
            cursor: first.unwrap_or(0),
            void_from,
            limit: 0,
        })
    }

    /// Records the loss of bodies and states whose segments are missing.
    fn lose_missing(&mut self, gaps: &Gaps, report: &mut Report) {
        let segments = &self.segments;
        let is_lost = |location: Location| segments.get(location.slot).is_none();
        let mut lost: BTreeMap<u16, (usize, usize)> = BTreeMap::new();
        self.index
            .bodies
            .lose(is_lost, &mut self.index.live, |slot| {
                lost.entry(slot).or_default().0 += 1
            });
        self.index
            .states
            .lose(is_lost, |slot| lost.entry(slot).or_default().1 += 1);
        for (slot, (bodies, states)) in lost {
            let known = gaps.missing.iter().find(|(missing, _)| *missing == slot);
            let file = known.map_or("a segment", |(_, name)| name).to_owned();
            let lost = Lost::Segment { bodies, states };
            report.damage.push(Damage::new(file, 0, lost));
        }
        self.index.live.keep(|slot| segments.get(slot).is_some());
    }

    /// Reports files that were truncated from outside. A copy made from a snapshot is also short:
    /// it ends with its records.
    fn tell_cut_off(&mut self, gaps: &Gaps, expected: Lsn, report: &mut Report) {
        let is_all = expected > self.marked.lsn;
        for short in &gaps.short {
            let Some(segment) = self.segments.get(short.slot) else {
                continue;
            };
            let (end, len) = (segment.end, segment.len);
            if end == len && short.is_listed {
                continue;
            }
            // The name of a segment may reach the disk before its length. If something in it was
            // synced, later segments or the mark show that it is missing.
            let is_marked = segment.number() == self.marked.segment && !is_all;
            let name = segment.name();
            if len == 0
                && !short.is_listed
                && !is_marked
                && !report.damage.iter().any(|damage| damage.file == name)
            {
                continue;
            }
            let file = &segment.file;
            let mut window = Window::<D>::new(&self.disk, &file.file, file.key, len);
            let needed = end >= len || window.is_cut_off(end);
            let damage = Damage::new(segment.name(), len, Lost::CutOff { needed });
            report.damage.push(damage);
            // The next checkpoint records the length.
            self.wants_checkpoint = true;
        }
    }

    /// Removes files that are no longer used.
    fn tidy(
        &mut self,
        names: &[(String, u64)],
        gaps: &Gaps,
        report: &mut Report,
    ) -> Result<(), OpenError> {
        // Unreadable files are kept until a checkpoint has been taken without them.
        let is_unread = |segment: &Segment<D::File>| {
            let mut damage = report.damage.iter();
            damage.any(|damage| damage.error.is_some() && damage.file == segment.name())
        };
        let empty: Vec<u16> = self
            .segments
            .iter()
            .filter(|(slot, s)| s.first == 0 && Some(*slot) != self.active && !is_unread(s))
            .map(|(slot, _)| slot)
            .collect();
        for slot in empty {
            self.segments.take(slot);
        }
        for (name, len) in names {
            if checkpoint::number_of(name).is_some_and(|(n, _)| gaps.unusable.contains(&n)) {
                // On failure, the next opening finds the file again.
                let _ = report::set_aside(&self.disk, name);
                continue;
            }
            let is_stale = match (segment::number_of(name), checkpoint::number_of(name)) {
                (Some(number), _) => {
                    let is_stale = self.segments.slot_of(number).is_none();
                    if is_stale && identity::is_others(&self.disk, self.salt, number, *len) {
                        report.tell(Damage::new(name.clone(), 0, Lost::Foreign));
                        let _ = report::set_aside(&self.disk, name);
                        continue;
                    }
                    is_stale
                }
                (_, Some((number, _))) => self.checkpoint.is_none_or(|c| c.number != number),
                _ if name == SPARE => {
                    let whole = self.options.short_segment_bytes()..=self.options.segment_bytes;
                    // Without the newest checkpoint, a number may be used twice, and the spare
                    // file may have been written under that number.
                    let is_usable = whole.contains(len) && gaps.unusable.is_empty();
                    self.spare_bytes = if is_usable { *len } else { 0 };
                    self.spare_bytes == 0
                }
                // Created again when there is space.
                _ => name.ends_with(".new") || name == BALLAST,
            };
            if is_stale {
                // On failure, the next opening tries again.
                let _ = self.disk.remove(name);
            }
        }
        self.names_changed = true;
        self.sync_names()?;
        Ok(())
    }
}

fn list_error(error: std::io::Error) -> StoreError {
    StoreError::new("listing", "the directory", error)
}

/// The beginning of a segment.
struct Begin {
    /// Number of the first record.
    first: Lsn,
    /// Older segments are void from this record on.
    void_from: Lsn,
    /// Length with which the file was created; 0: unknown.
    segment_len: u64,
}

/// Read from the first valid header, or from the first record if no header is valid.
fn first_record<D: Disk>(window: &mut Window<'_, D>) -> Option<Begin> {
    let mut offset = 0;
    let mut begin = None;
    while let Some(found) = window.search(offset, 1) {
        offset = found;
        match window.at(offset, 1) {
            ScanItem::Group(header, _) => {
                return Some(Begin {
                    first: header.segment_first,
                    void_from: header.void_from,
                    segment_len: header.segment_len,
                });
            }
            ScanItem::Record(lsn, _, bytes) => {
                begin = begin.or(Some(Begin {
                    first: lsn,
                    void_from: lsn,
                    segment_len: 0,
                }));
                offset += bytes;
            }
            ScanItem::Nothing => offset += 8,
        }
    }
    begin
}
