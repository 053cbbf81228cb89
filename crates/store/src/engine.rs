//! The writing side: stages records, writes them as one group, syncs. Also the engine's state.
//!
//! A group that could not be written or synced stays staged. After a failed sync, nothing that was
//! written since the last successful sync counts as durable, whatever a later sync returns. Those
//! records are written again, with the same numbers, to another segment, and the rest of the old
//! segment is void.

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

/// Bytes of a segment if there is no space for one of the usual length.
const SMALL_BYTES: u64 = 64 * 1024;
/// Number of full-length segments below which the next segment is shorter: if live data would fit
/// in fewer. Less space is then reserved in advance, and space is freed in smaller pieces.
const LONG_SEGMENTS: u64 = 8;
const SHORT_PART: u64 = 4;
/// Fraction (1/n) of a limited space that the ballast takes.
const BALLAST_PART: u64 = 8;

/// Name of the file that is kept ready for the next segment.
pub(crate) const SPARE: &str = "spare.log";
/// Name of a file that only reserves space. On a full disk it is removed to make room for a
/// checkpoint; after the checkpoint, segments can be freed.
pub(crate) const BALLAST: &str = "ballast";

/// Options of a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a segment of a large store: 4 KiB to 64 MiB, a multiple of 4 KiB. While the live
    /// data is less than eight times this size, segments have a quarter of it. A record that is
    /// longer gets a segment of its own length.
    pub segment_bytes: u64,
    /// Bytes written since the last checkpoint after which the next is due; or four times the size
    /// of the last checkpoint, if that is more.
    pub tail_bytes: u64,
    /// A random number, used only for a new store. Checksums of records include it, so that a
    /// client that does not know it cannot send a message that looks like records.
    pub salt: u64,
    /// Space that the disk allows this store, bytes; 0: no limit. The disk enforces it, see
    /// [`crate::LimitedDisk`]; here it limits the size of the ballast.
    pub disk_bytes_max: u64,
    /// Tenant that a body counts for, of its bytes; 0: none. `None`: no body has one.
    pub tenant_of: Option<fn(&[u8]) -> u32>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: SEGMENT_BYTES_MAX,
            tail_bytes: 64 << 20,
            salt: 0,
            disk_bytes_max: 0,
            tenant_of: None,
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

    /// Bytes of the ballast: at most an eighth of a limited space. A store is low until its
    /// ballast exists again; with a larger ballast, a small store would stay low even when empty.
    pub(crate) fn ballast_bytes(&self) -> u64 {
        let part = match self.disk_bytes_max {
            0 => u64::MAX,
            max => max / BALLAST_PART,
        };
        let bytes = (self.segment_bytes / 2).min(part);
        bytes.max(1).next_multiple_of(LENGTH_UNIT)
    }
}

/// The store. It has one writer; readers use [`Engine::locate`].
pub struct Engine<D: Disk> {
    pub(crate) disk: D,
    pub(crate) options: Options,
    pub(crate) salt: u64,
    pub(crate) index: Index,
    pub(crate) segments: Segments<D::File>,
    /// The segment that is written to.
    pub(crate) active: Option<u16>,
    /// Length of the spare file for the next segment; 0: there is none.
    pub(crate) spare_bytes: u64,
    /// Whether the ballast exists.
    pub(crate) has_ballast: bool,
    /// Set when the spare file could not be created or the ballast was removed; cleared when both
    /// exist.
    pub(crate) is_low: bool,
    pub(crate) next_number: u64,
    pub(crate) next_group: u64,
    /// Space for a group's header, then the records that wait to be written.
    pub(crate) staged: Vec<u8>,
    /// Number of staged records, and the number of the first.
    pub(crate) staged_count: u64,
    pub(crate) staged_first: Lsn,
    /// Groups written and not yet synced, oldest first.
    pub(crate) unsynced: Vec<WrittenGroup>,
    /// How many of the last of these groups the index has not applied yet: nonzero only within one
    /// call.
    pub(crate) unapplied: usize,
    /// A buffer for reuse.
    pub(crate) pool: Vec<u8>,
    /// Locations in the index of the records that are written again, oldest first.
    pub(crate) relocations: VecDeque<Location>,
    /// Segments whose records are all written again: they are removed when that is done.
    pub(crate) void: Vec<u16>,
    /// The last record that was written; the index has applied it.
    pub(crate) applied: Lsn,
    /// The last record that is synced.
    pub(crate) durable: Lsn,
    /// Names were made or changed since the directory was synced.
    pub(crate) names_changed: bool,
    /// Bytes written since the last checkpoint began.
    pub(crate) tail_bytes: u64,
    pub(crate) checkpoint: Option<Checkpointed>,
    /// Pin that snapshots of the last checkpoint hold; then older checkpoints with their pins.
    pub(crate) checkpoint_pin: Arc<()>,
    pub(crate) old_checkpoints: Vec<(u64, Arc<()>)>,
    /// Whether a checkpoint is due regardless of the bytes written: the last one is damaged.
    pub(crate) wants_checkpoint: bool,
    pub(crate) checkpointing: Option<Checkpointing<D::File>>,
    pub(crate) reclaiming: Option<Reclaiming>,
    /// Number of calls of [`Engine::housekeep`] until the segments are examined again.
    pub(crate) looks_left: usize,
    /// The last mark that was written, or whose writing failed.
    pub(crate) marked: Mark,
    /// Whether the last group is a seal: its header shows that all before it was synced.
    pub(crate) sealed: bool,
    /// Whether nothing was appended since [`Engine::seal`].
    pub(crate) at_rest: bool,
}

/// A group that is written but not yet synced.
#[derive(Debug)]
pub(crate) struct WrittenGroup {
    slot: u16,
    /// Offset of its header.
    offset: u64,
    /// Header and records.
    bytes: Vec<u8>,
    first: Lsn,
    count: u64,
}

/// A sync of everything written before it was created; can run on any thread.
#[derive(Debug)]
pub struct SyncWork<F> {
    files: Vec<Arc<SegmentFile<F>>>,
    /// Whether to sync the directory too.
    names: bool,
}

impl<F> SyncWork<F> {
    /// Runs the sync. Only if it succeeds is the written data durable.
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
        let index = Index::new(options.tenant_of);
        Engine {
            disk,
            options,
            salt,
            index,
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

    /// Stages records. They take effect, also for reads here, from [`Engine::write`] on; they are
    /// durable when [`Engine::sync`] has returned their number. Returns the number of the last
    /// one.
    pub fn append(&mut self, records: &RecordBuffer) -> Lsn {
        self.staged.extend_from_slice(records.as_bytes());
        self.staged_count += records.count() as u64;
        self.staged_first + self.staged_count - 1
    }

    /// Writes the staged records as one group with one disk call, except at the end of a segment.
    /// After an error, unwritten records stay staged: call it again. A copy is kept in memory
    /// until the next successful [`Engine::sync`].
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

    /// [`Engine::write`] and [`Engine::sync`] in one call, but records take effect during the
    /// sync. `run` receives the sync, for another thread, and the rest of the work, to be called
    /// in the meantime; it returns the result of the sync. Errors as in those two calls.
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

    /// Syncs what was written; returns the number of the last durable record. After an error,
    /// everything since the last successful sync is staged again: call [`Engine::write`], then
    /// this.
    pub fn sync(&mut self) -> Result<Lsn, StoreError> {
        if !self.relocations.is_empty() {
            // A sync has failed since, perhaps in housekeeping: the records must be written again.
            self.write()?;
        }
        let synced = self.sync_work().run(&self.disk);
        self.finish_sync(synced)
    }

    /// Returns what must be synced so that everything written is durable.
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

    /// Handles the result of a sync.
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
        // All records before the staged ones are written, and now synced.
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

    /// After a failed sync: stages everything unsynced again, for another segment.
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
                // These bytes may or may not reach the disk: they are not read again.
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
        // Also if only a seal failed: after it, a torn record could not be told from damage.
        self.active = None;
        self.sealed = false;
    }

    /// Writes as many of the staged records as fit in the segment.
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
                // The place on the disk may be bad: use another segment.
                self.active = None;
            }
            return Err(error);
        }
        self.retire_group(slot, offset, end, count);
        Ok(())
    }

    /// Writes number and checksum into the staged records that fit into `room` bytes. Returns how
    /// many, and their end.
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

    /// Applies written records to the index.
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
        // Records that are written again were counted before.
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
                    // Records that end messages, or that begin a run, must fit on a full disk too.
                    len = bytes.max(SMALL_BYTES).next_multiple_of(LENGTH_UNIT);
                    self.disk.create(&name, len)
                }
                created => created,
            }
        };
        self.names_changed = true;
        // Whatever file has this name now, the number is not used again.
        self.next_number += 1;
        // Also if there is no active segment, for which a spare one would be created.
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
            // Before anything is written to the segment. Otherwise a power loss may keep the data
            // but not the name: the file is the spare one again, gets the same name again, and its
            // old data would have valid checksums.
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

    /// Begins an idle phase, in which [`Engine::housekeep`] also does work that would resolve by
    /// itself under load. Writes and syncs an empty group whose header shows that all before it
    /// was synced. With it, damage to the last group can be told from a torn write. No group is
    /// written if it would add nothing or if the segment has no room. Also call it before closing.
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

    /// The number of the last durable record.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Whether appended records are not yet durable. Those that a failed sync has staged again are
    /// among them, also if housekeeping has written them since.
    pub fn has_unsynced(&self) -> bool {
        match fault::is(Fault::HousekeepingBelieved) {
            true => self.staged_count > 0,
            false => self.durable + 1 < self.staged_first + self.staged_count,
        }
    }

    /// Bytes that wait to be written.
    pub fn staged_bytes(&self) -> usize {
        self.staged.len() - GROUP_BYTES
    }

    /// Bytes of memory of records that wait to be written or synced, and of their buffers.
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
