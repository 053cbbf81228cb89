//! The writing side: staging records, writing them as one group, syncing. And the engine's own
//! state.
//!
//! A group that could not be written or synced stays staged. After a failed sync nothing that was
//! written since the last good one is believed to be on the disk, whatever a later sync says: those
//! records are written anew, with their numbers, into another segment, and what the old one holds
//! from there on no longer counts.

use crate::checkpoint::{Checkpointed, Checkpointing};
use crate::disk::Disk;
use crate::error::{StoreError, is_full};
use crate::index::{Index, Location};
use crate::mark::Mark;
use crate::reclaiming::Reclaiming;
use crate::record::{
    FileKey, GROUP_BYTES, GroupHeader, LENGTH_UNIT, Lsn, RecordBuffer, length_of, ops_of,
};
use crate::segment::{self, SEGMENT_BYTES_MAX, Segment, SegmentFile, Segments};
use martlet_fault::{self as fault, Fault};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of a segment where there is no space for one of the usual length.
const SMALL_BYTES: u64 = 64 * 1024;
/// Number of segments of the full length: while less data is live than they hold, the next segment
/// is shorter. Less space is then reserved in advance, and space is given back in smaller pieces.
const LONG_SEGMENTS: u64 = 8;
const SHORT_PART: u64 = 4;
/// Part of a limited space that is ballast.
const BALLAST_PART: u64 = 8;

/// The name of the file that is kept for the next segment.
pub(crate) const SPARE: &str = "spare.log";
/// The name of a file that only takes space: on a full disk it makes room for a checkpoint, which
/// makes room.
pub(crate) const BALLAST: &str = "ballast";

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a segment of a large store: 4 KiB to 64 MiB, a multiple of 4 KiB. While less than
    /// eight times that lives in the store, a segment has a quarter of it. A longer record gets a
    /// longer one.
    pub segment_bytes: u64,
    /// A checkpoint is due when this much was written since the last one, bytes, or four times as
    /// much as that one has, whichever is more.
    pub tail_bytes: u64,
    /// A random number, for a new store only: records are checked with it, so that nobody who does
    /// not know it can write a message that looks like records.
    pub salt: u64,
    /// Space that the disk gives this store, bytes; 0: no limit. It is kept to by the disk, see
    /// [`crate::LimitedDisk`]; here it says how much of it may be ballast.
    pub disk_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: SEGMENT_BYTES_MAX,
            tail_bytes: 64 << 20,
            salt: 0,
            disk_bytes_max: 0,
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let bytes = self.segment_bytes;
        if !(4096..=SEGMENT_BYTES_MAX).contains(&bytes) || !bytes.is_multiple_of(4096) {
            return Err("segment_bytes is a multiple of 4 KiB from 4 KiB to 64 MiB");
        }
        Ok(())
    }

    /// Bytes of a segment while the store is small.
    pub(crate) fn short_segment_bytes(&self) -> u64 {
        (self.segment_bytes / SHORT_PART)
            .next_multiple_of(LENGTH_UNIT)
            .max(LENGTH_UNIT)
    }

    /// Bytes of the ballast: of a limited space an eighth at most. A store is low until its ballast
    /// is there again: with a larger one a small store would stay so though nothing lives in it.
    pub(crate) fn ballast_bytes(&self) -> u64 {
        let part = match self.disk_bytes_max {
            0 => u64::MAX,
            max => max / BALLAST_PART,
        };
        let bytes = (self.segment_bytes / 2).min(part);
        bytes.max(1).next_multiple_of(LENGTH_UNIT)
    }
}

/// The store. One writer; readers by [`Engine::locate`].
pub struct Engine<D: Disk> {
    pub(crate) disk: D,
    pub(crate) options: Options,
    pub(crate) salt: u64,
    pub(crate) index: Index,
    pub(crate) segments: Segments<D::File>,
    /// The segment that is written to.
    pub(crate) active: Option<u16>,
    /// Length of the file that is there for the next one; 0: there is none.
    pub(crate) spare_bytes: u64,
    /// There is a ballast.
    pub(crate) has_ballast: bool,
    /// A spare file could not be made, or the ballast was given up; until both are there.
    pub(crate) is_low: bool,
    pub(crate) next_number: u64,
    pub(crate) next_group: u64,
    /// Room for a group's header, then the records that wait to be written.
    pub(crate) staged: Vec<u8>,
    /// How many, and the number of the first.
    pub(crate) staged_count: u64,
    pub(crate) staged_first: Lsn,
    /// Groups written and not yet synced, oldest first.
    pub(crate) unsynced: Vec<WrittenGroup>,
    /// Number of the last groups among these that the index has not applied yet: only within one
    /// call.
    pub(crate) unapplied: usize,
    /// A buffer for reuse.
    pub(crate) pool: Vec<u8>,
    /// Where the records that are written anew lie in the index: oldest first.
    pub(crate) relocations: VecDeque<Location>,
    /// Segments that hold nothing but what is written anew: they go when that is done.
    pub(crate) void: Vec<u16>,
    /// The last record that was ever written: the index knows it.
    pub(crate) applied: Lsn,
    /// The last record that is on the disk for certain.
    pub(crate) durable: Lsn,
    /// Names were made or changed since the directory was synced.
    pub(crate) names_changed: bool,
    /// Bytes written since the last checkpoint began.
    pub(crate) tail_bytes: u64,
    pub(crate) checkpoint: Option<Checkpointed>,
    /// Held by snapshots of the last checkpoint, and by those of older ones that are kept for them.
    pub(crate) checkpoint_pin: Arc<()>,
    pub(crate) old_checkpoints: Vec<(u64, Arc<()>)>,
    /// Whether a checkpoint is due whatever was written: the last one is damaged.
    pub(crate) wants_checkpoint: bool,
    pub(crate) checkpointing: Option<Checkpointing<D::File>>,
    pub(crate) reclaiming: Option<Reclaiming>,
    /// Further calls of [`Engine::housekeep`] that do not look through the segments.
    pub(crate) looks_left: usize,
    /// What the mark says, or was to say.
    pub(crate) marked: Mark,
    /// Whether the last group says that all before it was synced.
    pub(crate) sealed: bool,
    /// Nothing was appended since [`Engine::seal`].
    pub(crate) at_rest: bool,
}

/// A group on its way to the platter.
#[derive(Debug)]
pub(crate) struct WrittenGroup {
    slot: u16,
    /// Where its header lies.
    offset: u64,
    /// Header and records.
    bytes: Vec<u8>,
    first: Lsn,
    count: u64,
}

/// A sync to be done, by whichever thread: of what had been written when it was made.
#[derive(Debug)]
pub struct SyncWork<F> {
    files: Vec<Arc<SegmentFile<F>>>,
    /// The directory too.
    names: bool,
}

impl<F> SyncWork<F> {
    /// Does it. Only when this was without an error is what was written on the disk for certain.
    pub fn run<D: Disk<File = F>>(&self, disk: &D) -> Result<(), StoreError> {
        for file in &self.files {
            let synced = disk.sync(&file.file);
            synced.map_err(|e| StoreError::new("syncing", &segment::name(file.number), e))?;
        }
        if self.names {
            let synced = disk.sync_dir();
            synced.map_err(|e| StoreError::new("syncing", "the directory", e))?;
        }
        Ok(())
    }
}

impl<D: Disk> Engine<D> {
    pub(crate) fn empty(disk: D, options: Options, salt: u64) -> Self {
        Engine {
            disk,
            options,
            salt,
            index: Index::default(),
            segments: Segments::default(),
            active: None,
            spare_bytes: 0,
            has_ballast: false,
            is_low: false,
            next_number: 1,
            next_group: 1,
            staged: vec![0; GROUP_BYTES],
            staged_count: 0,
            staged_first: 1,
            unsynced: Vec::new(),
            unapplied: 0,
            pool: Vec::new(),
            relocations: VecDeque::new(),
            void: Vec::new(),
            applied: 0,
            durable: 0,
            names_changed: false,
            tail_bytes: 0,
            checkpoint: None,
            checkpoint_pin: Arc::default(),
            wants_checkpoint: false,
            old_checkpoints: Vec::new(),
            checkpointing: None,
            reclaiming: None,
            looks_left: 0,
            marked: Mark::default(),
            sealed: true,
            at_rest: false,
        }
    }

    /// Stages records. They have an effect, on what is read here too, from [`Engine::write`] on;
    /// they are promised when [`Engine::sync`] has named their number. Gives the number of the last
    /// one.
    pub fn append(&mut self, records: &RecordBuffer) -> Lsn {
        self.staged.extend_from_slice(records.as_bytes());
        self.staged_count += records.count() as u64;
        self.staged_first + self.staged_count - 1
    }

    /// Writes what is staged: one group, one call to the disk, but where a segment ends. After an
    /// error what was not written is still staged: call it again. A copy is kept in memory until
    /// the next good [`Engine::sync`].
    pub fn write(&mut self) -> Result<(), StoreError> {
        let written = self.write_groups();
        // Also after an error: some may have been written.
        self.apply();
        self.free_void();
        written
    }

    fn write_groups(&mut self) -> Result<(), StoreError> {
        while self.staged_count > 0 {
            self.write_group()?;
        }
        Ok(())
    }

    /// As [`Engine::write`] and [`Engine::sync`] one after the other, but records take effect
    /// while they are synced. `run` is given the sync, for another thread, and the rest of the
    /// work, to be called meanwhile; it answers what became of the sync. Errors as those two have.
    pub fn write_and_sync(
        &mut self,
        run: impl FnOnce(SyncWork<D::File>, &mut dyn FnMut()) -> Result<(), StoreError>,
    ) -> Result<Lsn, StoreError> {
        if !self.relocations.is_empty() {
            self.write()?;
            return self.sync();
        }
        if let Err(error) = self.write_groups() {
            self.apply();
            return Err(error);
        }
        let work = self.sync_work();
        let synced = run(work, &mut || self.apply());
        self.finish_sync(synced)
    }

    /// Syncs what was written; gives the number of the last record that is on the disk for certain.
    /// After an error everything since the last good sync is staged again: call [`Engine::write`],
    /// then this.
    pub fn sync(&mut self) -> Result<Lsn, StoreError> {
        if !self.relocations.is_empty() {
            // A sync failed since, perhaps in housekeeping: what was written must be written anew.
            self.write()?;
        }
        let synced = self.sync_work().run(&self.disk);
        self.finish_sync(synced)
    }

    /// What has to be synced, so that all that is written is on the disk for certain.
    fn sync_work(&self) -> SyncWork<D::File> {
        let mut work = SyncWork {
            files: Vec::new(),
            names: self.names_changed && !fault::is(Fault::NamesUnsynced),
        };
        let mut last = 0;
        for written in &self.unsynced {
            if written.slot != last
                && let Some(segment) = self.segments.get(written.slot)
            {
                work.files.push(Arc::clone(&segment.file));
            }
            last = written.slot;
        }
        work
    }

    /// What was written is synced, or it is not.
    fn finish_sync(&mut self, synced: Result<(), StoreError>) -> Result<Lsn, StoreError> {
        self.apply();
        if let Err(error) = synced {
            if !fault::is(Fault::FailedSyncBelieved) {
                self.distrust();
            }
            return Err(error);
        }
        if !fault::is(Fault::NamesUnsynced) {
            self.names_changed = false;
        }
        // All before what is staged is written, and now synced.
        self.durable = self.staged_first - 1;
        if let Some(mut written) = self.unsynced.pop()
            && written.bytes.capacity() <= 4 << 20
        {
            written.bytes.truncate(GROUP_BYTES);
            self.pool = written.bytes;
        }
        self.unsynced.clear();
        Ok(self.durable)
    }

    /// Syncs the directory if names were changed.
    pub(crate) fn sync_names(&mut self) -> Result<(), StoreError> {
        if self.names_changed {
            let synced = self.disk.sync_dir();
            synced.map_err(|e| StoreError::new("syncing", "the directory", e))?;
            self.names_changed = false;
        }
        Ok(())
    }

    /// After a failed sync: stages all that was not synced anew, for another segment.
    fn distrust(&mut self) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let mut staged = vec![0; GROUP_BYTES];
        let mut places = VecDeque::new();
        let mut count = 0;
        for written in &unsynced {
            if count == 0 {
                self.staged_first = written.first;
            }
            count += written.count;
            let mut offset = GROUP_BYTES;
            while let Some(bytes) = written.bytes.get(offset..).and_then(length_of) {
                places.push_back(Location::new(written.slot, written.offset + offset as u64));
                offset += bytes;
            }
            staged.extend_from_slice(&written.bytes[GROUP_BYTES..]);
        }
        for written in &unsynced {
            if let Some(segment) = self.segments.get_mut(written.slot) {
                // What is there may or may not get to the disk: nobody looks at it again.
                segment.end = segment.end.min(written.offset);
                segment.next = segment.next.min(self.staged_first);
                if segment.end == 0 {
                    self.void.push(written.slot);
                }
            }
        }
        staged.extend_from_slice(&self.staged[GROUP_BYTES..]);
        self.staged = staged;
        self.staged_count += count;
        places.append(&mut self.relocations);
        self.relocations = places;
        // Also if it was only a seal that failed: behind it nothing could be told from damage.
        self.active = None;
        self.sealed = false;
    }

    /// Writes as much of what is staged as the segment has room for.
    fn write_group(&mut self) -> Result<(), StoreError> {
        let Some(first_bytes) = length_of(&self.staged[GROUP_BYTES..]) else {
            // No record here, though one was counted: nothing to write.
            self.staged.truncate(GROUP_BYTES);
            self.staged_count = 0;
            return Ok(());
        };
        let slot = self.segment_with_room((GROUP_BYTES + first_bytes) as u64)?;
        let Some(segment) = self.segments.get(slot) else {
            return Ok(());
        };
        let (offset, segment_len) = (segment.end, segment.len);
        let (segment_first, void_from) = (segment.first, segment.void_from);
        let file = Arc::clone(&segment.file);
        let (count, end) = self.seal_records(file.key, segment_len - offset);
        let header = GroupHeader {
            number: self.next_group,
            synced: match fault::is(Fault::SyncedTooMuch) {
                true => self.staged_first - 1,
                false => self.durable,
            },
            segment_first,
            void_from,
            bytes: (end - GROUP_BYTES) as u64,
            segment_len,
        };
        header.put(&mut self.staged);
        file.key
            .seal(self.staged_first, &mut self.staged[..GROUP_BYTES]);
        let group = &self.staged[..end];
        if let Err(error) = self.disk.write_at(&file.file, offset, group) {
            let error = StoreError::new("writing", &segment::name(file.number), error);
            if offset > 0 && !error.is_full() {
                // Perhaps it is the place that is bad.
                self.active = None;
            }
            return Err(error);
        }
        self.retire_group(slot, offset, end, count);
        Ok(())
    }

    /// Gives the staged records that fit into `room` number and checksum: how many, and where they
    /// end.
    fn seal_records(&mut self, key: FileKey, room: u64) -> (u64, usize) {
        let (mut count, mut at) = (0, GROUP_BYTES);
        while let Some(bytes) = length_of(&self.staged[at..])
            && (at + bytes) as u64 <= room
            && at + bytes <= self.staged.len()
        {
            key.seal(self.staged_first + count, &mut self.staged[at..at + bytes]);
            at += bytes;
            count += 1;
        }
        (count, at)
    }

    /// What was written and has not taken effect yet does so.
    fn apply(&mut self) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let applied = unsynced.len() - std::mem::take(&mut self.unapplied);
        for written in &unsynced[applied..] {
            self.apply_group(written);
        }
        self.unsynced = unsynced;
    }

    fn apply_group(&mut self, written: &WrittenGroup) {
        let (mut lsn, mut at) = (written.first, GROUP_BYTES);
        while let Some(bytes) = written.bytes.get(at..).and_then(length_of) {
            let ops = ops_of(&written.bytes[at..at + bytes]);
            let location = Location::new(written.slot, written.offset + at as u64);
            match self.relocations.pop_front() {
                Some(from) => self.index.relocate(ops, from, location),
                None => self.index.apply(lsn, ops, location),
            }
            lsn += 1;
            at += bytes;
        }
    }

    fn retire_group(&mut self, slot: u16, offset: u64, end: usize, count: u64) {
        let first = self.staged_first;
        self.next_group += 1;
        self.staged_first += count;
        self.staged_count -= count;
        // Those written anew are known already.
        self.applied = self.applied.max(self.staged_first - 1);
        self.tail_bytes += end as u64;
        self.sealed = false;
        self.at_rest = false;
        if let Some(segment) = self.segments.get_mut(slot) {
            segment.end = offset + end as u64;
            segment.next = first + count;
        }
        let mut next = std::mem::take(&mut self.pool);
        next.resize(GROUP_BYTES, 0);
        next.extend_from_slice(&self.staged[end..]);
        let mut bytes = std::mem::replace(&mut self.staged, next);
        bytes.truncate(end);
        self.unsynced.push(WrittenGroup {
            slot,
            offset,
            bytes,
            first,
            count,
        });
        self.unapplied += 1;
    }

    /// The active segment, or a new one if it has no room for `bytes` more bytes.
    fn segment_with_room(&mut self, bytes: u64) -> Result<u16, StoreError> {
        if let Some(slot) = self.active
            && let Some(segment) = self.segments.get(slot)
            && segment.end + bytes <= segment.len
        {
            return Ok(slot);
        }
        let number = self.next_number;
        let name = segment::name(number);
        let mut len = self.spare_bytes;
        let was_spare = bytes <= len;
        let file = if was_spare {
            let renamed = self.disk.rename(SPARE, &name);
            renamed.map_err(|e| StoreError::new("renaming", SPARE, e))?;
            self.spare_bytes = 0;
            self.disk.open(&name)
        } else {
            len = self
                .next_segment_bytes()
                .max(bytes)
                .next_multiple_of(LENGTH_UNIT);
            let mut created = self.disk.create(&name, len);
            if created.as_ref().is_err_and(is_full) && self.drop_ballast() {
                created = self.disk.create(&name, len);
            }
            match created {
                Err(error) if is_full(&error) => {
                    // What ends messages, or begins a run, must find a place on a full disk too.
                    len = bytes.max(SMALL_BYTES).next_multiple_of(LENGTH_UNIT);
                    self.disk.create(&name, len)
                }
                created => created,
            }
        };
        self.names_changed = true;
        // Whatever has that name now, it is not used for another one.
        self.next_number += 1;
        // Also where there is no active segment for which a spare one would be made.
        self.is_low |= file.as_ref().is_err_and(is_full);
        let file = file.map_err(|e| StoreError::new("creating", &name, e))?;
        let segment = Segment {
            file: Arc::new(SegmentFile {
                number,
                file,
                key: FileKey::new(self.salt, number),
            }),
            len,
            end: 0,
            first: self.staged_first,
            next: self.staged_first,
            void_from: self.applied + 1,
            stuck: false,
        };
        let Some(slot) = self.segments.add(segment) else {
            let error = std::io::Error::other("no more than 65,535 segments");
            return Err(StoreError::new("creating", &name, error));
        };
        self.index.live.reset(slot);
        if was_spare && !fault::is(Fault::NamesUnsynced) {
            // Before anything is written to it. Else a loss of power may keep what was written and
            // not the name: the file is the spare one again, gets the same name again, and what is
            // left in it from then checks as if it were written now.
            let synced = self.sync_names();
            if synced.is_err() {
                self.void.push(slot);
            }
            synced?;
        }
        self.active = Some(slot);
        Ok(slot)
    }

    /// Bytes of the next segment.
    pub(crate) fn next_segment_bytes(&self) -> u64 {
        let long = self.options.segment_bytes;
        match self.index.live.total() < LONG_SEGMENTS * long {
            true => self.options.short_segment_bytes(),
            false => long,
        }
    }

    /// Begins a moment of rest, in which [`Engine::housekeep`] tidies up what would be tidied up by
    /// itself while much comes and goes. Writes and syncs an empty group that says: all before me
    /// was synced; after it damage to the last group is told from a torn one. No group if there is
    /// nothing to say, or no room in the segment. Before closing too.
    pub fn seal(&mut self) -> Result<(), StoreError> {
        self.write()?;
        self.sync()?;
        self.at_rest = true;
        let Some(slot) = self.active.filter(|_| !self.sealed) else {
            return Ok(());
        };
        let Some(segment) = self.segments.get_mut(slot) else {
            return Ok(());
        };
        if segment.end + GROUP_BYTES as u64 > segment.len {
            return Ok(());
        }
        let header = GroupHeader {
            number: self.next_group,
            synced: self.durable,
            segment_first: segment.first,
            void_from: segment.void_from,
            bytes: 0,
            segment_len: segment.len,
        };
        let mut bytes = vec![0; GROUP_BYTES];
        header.put(&mut bytes);
        segment.file.key.seal(self.durable + 1, &mut bytes);
        let written = self.disk.write_at(&segment.file.file, segment.end, &bytes);
        written.map_err(|e| StoreError::new("writing", &segment.name(), e))?;
        segment.end += GROUP_BYTES as u64;
        self.next_group += 1;
        self.sealed = true;
        self.unsynced.push(WrittenGroup {
            slot,
            offset: segment.end - GROUP_BYTES as u64,
            bytes,
            first: self.durable + 1,
            count: 0,
        });
        self.sync().map(|_| ())
    }

    /// The number of the last record that is on the disk for certain.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Bytes that wait to be written.
    pub fn staged_bytes(&self) -> usize {
        self.staged.len() - GROUP_BYTES
    }

    /// Bytes of memory of what waits to be written or synced, and of the buffers for it.
    pub fn buffer_bytes(&self) -> usize {
        let unsynced = self.unsynced.iter().map(|group| group.bytes.capacity());
        self.staged.capacity() + self.pool.capacity() + unsynced.sum::<usize>()
    }

    /// Records that wait to be written.
    pub fn staged_records(&self) -> u64 {
        self.staged_count
    }

    /// The disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }
}
