//! The checkpoint: the durable home of all that is small, as the exact image of the moment after
//! one record. It is written in slices, as two files with the same contents, which get their names
//! when both are complete and synced; recovery takes each block from whichever copy checks.
//!
//! A checkpoint is a sequence of blocks that look like records: numbered from 1, the first byte of
//! their operations says what they hold.

use crate::disk::Disk;
use crate::engine::{Checkpointed, Engine};
use crate::error::{OpenError, StoreError};
use crate::index::Index;
use crate::index::queues::Queues;
use crate::record::{FileKey, HEADER_BYTES, Lsn, QueueId, record_bytes};
use crate::recover::{Gaps, Short};
use crate::repair::Lacks;
use crate::report::{Damage, Lost, Report};
use crate::scan::{ScanItem, Window};
use crate::segment::{self, Segment, SegmentFile};
use martlet_fault::{self as fault, Fault};
use martlet_rows::{put_varint, take_varint};
use std::sync::Arc;

mod kind {
    pub(super) const BEGIN: u8 = 0x81;
    pub(super) const BODIES: u8 = 0x82;
    pub(super) const QUEUES: u8 = 0x83;
    pub(super) const STATES: u8 = 0x84;
    pub(super) const END: u8 = 0x85;
}

/// Bytes of a block, approximately.
const BLOCK_BYTES: usize = 64 * 1024;
/// Bytes written to a copy after which it is synced, so that the last sync is short too.
const SYNC_BYTES: u64 = 1 << 20;

pub(crate) const COPIES: [char; 2] = ['a', 'b'];

/// A checkpoint that is being written.
pub(crate) struct Checkpointing<F> {
    pub(crate) number: u64,
    pub(crate) lsn: Lsn,
    files: [F; 2],
    key: FileKey,
    offset: u64,
    synced: u64,
    blocks: u64,
    stage: Stage,
    /// What [`Engine::tail_bytes`] was when it began.
    tail_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Bodies,
    Queues,
    States,
    End,
}

/// The file's name of a copy.
pub(crate) fn name(number: u64, copy: char) -> String {
    format!("{number:08}.{copy}.checkpoint")
}

/// Number and copy from a file's name.
pub(crate) fn number_of(name: &str) -> Option<(u64, char)> {
    let (digits, copy) = name.strip_suffix(".checkpoint")?.split_once('.')?;
    let is_number = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let copy = COPIES.into_iter().find(|known| copy == known.to_string());
    Some((digits.parse().ok().filter(|_| is_number)?, copy?))
}

fn new_name(copy: char) -> String {
    format!("{copy}.checkpoint.new")
}

pub(crate) fn key(salt: u64, number: u64) -> FileKey {
    FileKey::new(salt, number | 1 << 63)
}

impl<D: Disk> Engine<D> {
    /// Begins a checkpoint, on a full disk with the space of the ballast.
    pub(crate) fn begin_checkpoint(&mut self) -> Result<(), StoreError> {
        match self.try_checkpoint() {
            Err(error) if error.is_full() && self.drop_ballast() => self.try_checkpoint(),
            begun => begun,
        }
    }

    /// Begins a checkpoint of this moment. What is written must be synced before, so that it does
    /// not speak of what a crash could undo.
    fn try_checkpoint(&mut self) -> Result<(), StoreError> {
        match self.write() {
            // What is staged comes later then. But not if the index knows it already.
            Err(error) if error.is_full() && self.relocations.is_empty() => {}
            written => written?,
        }
        self.sync()?;
        // Usually done: housekeeping does it first.
        self.index.drop_forgotten(usize::MAX);
        let number = self.checkpoint.map_or(0, |last| last.number) + 1;
        let create = |copy| {
            let name = new_name(copy);
            let file = self.disk.create(&name, 0);
            file.map_err(|e| StoreError::new("creating", &name, e))
        };
        let files = [create(COPIES[0])?, create(COPIES[1])?];
        let key = key(self.salt, number);
        let mut checkpointing = Checkpointing {
            number,
            lsn: self.durable,
            files,
            key,
            offset: 0,
            synced: 0,
            blocks: 0,
            stage: Stage::Bodies,
            tail_bytes: self.tail_bytes,
        };
        let block = self.encode_begin();
        if let Err(error) = self.write_block(&mut checkpointing, block) {
            self.drop_new_checkpoint();
            return Err(error);
        }
        self.index.begin_capture();
        self.checkpointing = Some(checkpointing);
        Ok(())
    }

    fn encode_begin(&self) -> Vec<u8> {
        let mut block = new_block(kind::BEGIN);
        let active = self.active.and_then(|slot| self.segments.get(slot));
        let (number, offset) = match active {
            Some(segment) => (segment.number(), segment.end),
            None => (self.next_number, 0),
        };
        let fields = [
            self.durable,
            self.next_number,
            self.next_group,
            number,
            offset,
            self.segments.iter().count() as u64,
        ];
        fields
            .iter()
            .for_each(|field| put_varint(&mut block, *field));
        for (slot, segment) in self.segments.iter() {
            let fields = [
                slot.into(),
                segment.number(),
                segment.len,
                segment.end,
                segment.first,
                segment.next,
                segment.void_from,
                segment.stuck.into(),
            ];
            fields
                .iter()
                .for_each(|field| put_varint(&mut block, *field));
        }
        self.index.bodies.capture_rest(&mut block);
        block
    }

    /// Writes a slice of about `budget_bytes` bytes. True: the checkpoint is complete.
    pub(crate) fn work_on_checkpoint(&mut self, budget_bytes: usize) -> Result<bool, StoreError> {
        let Some(mut checkpointing) = self.checkpointing.take() else {
            return Ok(true);
        };
        let begin = checkpointing.offset;
        while checkpointing.offset - begin < budget_bytes.max(1) as u64 {
            let more = self.next_block(&mut checkpointing);
            match more {
                Ok(true) => {}
                Ok(false) => {
                    let finished = self.finish_checkpoint(&checkpointing);
                    self.index.end_capture();
                    return finished.map(|()| true);
                }
                Err(error) => {
                    // What was captured is gone: another one begins anew.
                    self.index.end_capture();
                    self.drop_new_checkpoint();
                    if error.is_full() {
                        self.drop_ballast();
                    }
                    return Err(error);
                }
            }
        }
        self.checkpointing = Some(checkpointing);
        Ok(false)
    }

    /// False: the last block is written.
    fn next_block(&mut self, to: &mut Checkpointing<D::File>) -> Result<bool, StoreError> {
        let (kind, next) = match to.stage {
            Stage::Bodies => (kind::BODIES, Stage::Queues),
            Stage::Queues => (kind::QUEUES, Stage::States),
            Stage::States => (kind::STATES, Stage::End),
            Stage::End => {
                let mut block = new_block(kind::END);
                put_varint(&mut block, to.blocks + 1);
                self.index.queues.capture_counts(&mut block);
                self.write_block(to, block)?;
                return Ok(false);
            }
        };
        let mut block = new_block(kind);
        let empty = block.len();
        let is_done = match to.stage {
            Stage::Bodies => self.index.bodies.capture(BLOCK_BYTES, &mut block),
            Stage::Queues => self.index.queues.capture(BLOCK_BYTES, &mut block),
            _ => self.index.states.capture(BLOCK_BYTES, &mut block),
        };
        if is_done {
            to.stage = next;
        }
        if block.len() > empty {
            self.write_block(to, block)?;
        }
        Ok(true)
    }

    fn write_block(
        &self,
        to: &mut Checkpointing<D::File>,
        mut block: Vec<u8>,
    ) -> Result<(), StoreError> {
        let ops_bytes = block.len() - HEADER_BYTES;
        block[4..8].copy_from_slice(&(ops_bytes as u32).to_le_bytes());
        block.resize(record_bytes(ops_bytes), 0);
        to.blocks += 1;
        to.key.seal(to.blocks, &mut block);
        let is_sync_due = to.offset + block.len() as u64 - to.synced >= SYNC_BYTES;
        for (file, copy) in to.files.iter().zip(COPIES) {
            let written = self.disk.write_at(file, to.offset, &block);
            written.map_err(|e| StoreError::new("writing", &new_name(copy), e))?;
            if is_sync_due {
                let synced = self.disk.sync(file);
                synced.map_err(|e| StoreError::new("syncing", &new_name(copy), e))?;
            }
        }
        to.offset += block.len() as u64;
        if is_sync_due {
            to.synced = to.offset;
        }
        Ok(())
    }

    fn finish_checkpoint(&mut self, done: &Checkpointing<D::File>) -> Result<(), StoreError> {
        for (file, copy) in done.files.iter().zip(COPIES) {
            if fault::is(Fault::CheckpointUnsynced) {
                break;
            }
            let synced = self.disk.sync(file);
            synced.map_err(|e| StoreError::new("syncing", &new_name(copy), e))?;
        }
        let said = self.marked.lsn;
        if said < done.lsn || said > self.durable {
            self.renew_mark();
        }
        for copy in COPIES {
            let renamed = self.disk.rename(&new_name(copy), &name(done.number, copy));
            renamed.map_err(|e| StoreError::new("renaming", &new_name(copy), e))?;
        }
        self.names_changed = true;
        self.sync_names()?;
        if let Some(old) = self.checkpoint {
            let pin = std::mem::take(&mut self.checkpoint_pin);
            self.old_checkpoints.push((old.number, pin));
            self.remove_old_checkpoints();
        }
        self.wants_checkpoint = false;
        self.tail_bytes -= done.tail_bytes.min(self.tail_bytes);
        self.checkpoint = Some(Checkpointed {
            number: done.number,
            lsn: done.lsn,
            bytes: done.offset,
        });
        Ok(())
    }

    /// Removes checkpoints that no snapshot needs.
    pub(crate) fn remove_old_checkpoints(&mut self) {
        let disk = &self.disk;
        self.old_checkpoints.retain(|(number, pin)| {
            let is_pinned = Arc::strong_count(pin) > 1;
            if !is_pinned {
                for copy in COPIES {
                    // If it cannot be removed, the next opening does.
                    let _ = disk.remove(&name(*number, copy));
                }
            }
            is_pinned
        });
    }

    fn drop_new_checkpoint(&self) {
        for copy in COPIES {
            let _ = self.disk.remove(&new_name(copy));
        }
    }
}

fn new_block(kind: u8) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_BYTES + 4096);
    block.resize(HEADER_BYTES, 0);
    block.push(kind);
    block
}

/// Where replaying begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayFrom {
    pub(crate) number: u64,
    pub(crate) offset: u64,
}

/// Loads the newest checkpoint that has its beginning into an empty engine; `None`: there is none.
/// The second value says whether blocks were lost in both copies.
pub(crate) fn load<D: Disk>(
    engine: &mut Engine<D>,
    names: &[(String, u64)],
    gaps: &mut Gaps,
    report: &mut Report,
) -> Result<Option<(ReplayFrom, bool)>, OpenError> {
    let numbers = names.iter().filter_map(|(name, _)| number_of(name));
    let mut numbers: Vec<u64> = numbers.map(|(number, _)| number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    while let Some(number) = numbers.pop() {
        let loaded = load_one(engine, number, names, gaps, report)?;
        if loaded.is_some() {
            return Ok(loaded);
        }
        engine.wants_checkpoint = true;
    }
    Ok(None)
}

/// Loads this one; `None`: it has no beginning, which is told.
fn load_one<D: Disk>(
    engine: &mut Engine<D>,
    number: u64,
    names: &[(String, u64)],
    gaps: &mut Gaps,
    report: &mut Report,
) -> Result<Option<(ReplayFrom, bool)>, OpenError> {
    let mut copies = Vec::new();
    for copy in COPIES {
        let name = name(number, copy);
        if copy != COPIES[0] && fault::is(Fault::OneCopyRead) {
            continue;
        }
        if let Some((_, len)) = names.iter().find(|(other, _)| *other == name) {
            let file = engine.disk.open(&name);
            let file = file.map_err(|e| StoreError::new("opening", &name, e))?;
            copies.push((name, file, *len));
        }
    }
    let mut loader = Loader {
        index: Index::default(),
        begin: None,
        has_holes: false,
        lacks: Lacks::default(),
        hole: None,
        last: kind::BEGIN,
        has_damage: false,
        is_complete: false,
        counts: Vec::new(),
        error: None,
    };
    let bytes = {
        let key = key(engine.salt, number);
        let windows = copies
            .iter()
            .map(|(name, file, len)| (name.as_str(), Window::new(&engine.disk, file, key, *len)));
        loader.read(windows.collect(), report)
    };
    let Some(begin) = loader.begin else {
        gaps.unusable.push(number);
        gaps.refusal.get_or_insert(match loader.error {
            // Perhaps it can be read another time.
            Some(error) => error.into(),
            None => OpenError::Checkpoint {
                file: copies
                    .first()
                    .map_or_else(String::new, |(name, ..)| name.clone()),
            },
        });
        return Ok(None);
    };
    engine.index = loader.index;
    gaps.lacks = loader.lacks;
    gaps.counts = loader.counts;
    engine.wants_checkpoint |= loader.has_holes || loader.has_damage || copies.len() < COPIES.len();
    engine.checkpoint = Some(Checkpointed {
        number,
        lsn: begin.lsn,
        bytes,
    });
    engine.applied = begin.lsn;
    engine.next_number = begin.next_number;
    engine.next_group = begin.next_group;
    for (slot, listed) in begin.segments {
        listed.open(engine, slot, names, gaps)?;
    }
    Ok(Some((begin.replay, loader.has_holes)))
}

struct Begin {
    lsn: Lsn,
    next_number: u64,
    next_group: u64,
    replay: ReplayFrom,
    segments: Vec<(u16, Listed)>,
}

/// A segment as a checkpoint lists it.
struct Listed {
    number: u64,
    len: u64,
    end: u64,
    first: Lsn,
    next: Lsn,
    void_from: Lsn,
    stuck: bool,
}

impl Listed {
    fn open<D: Disk>(
        self,
        engine: &mut Engine<D>,
        slot: u16,
        names: &[(String, u64)],
        gaps: &mut Gaps,
    ) -> Result<(), OpenError> {
        let name = segment::name(self.number);
        let Some((_, len)) = names.iter().find(|(other, _)| *other == name) else {
            gaps.missing.push((slot, name));
            return Ok(());
        };
        if *len < self.len {
            gaps.short.push(Short {
                slot,
                is_listed: self.end > 0,
            });
        }
        let file = engine.disk.open(&name);
        let file = SegmentFile {
            number: self.number,
            file: file.map_err(|e| StoreError::new("opening", &name, e))?,
            key: FileKey::new(engine.salt, self.number),
        };
        let segment = Segment {
            file: Arc::new(file),
            len: self.len.min(*len),
            end: self.end,
            first: self.first,
            next: self.next,
            void_from: self.void_from,
            stuck: self.stuck,
        };
        engine.segments.put(slot, segment);
        Ok(())
    }
}

struct Loader {
    index: Index,
    begin: Option<Begin>,
    /// Blocks were lost in both copies.
    has_holes: bool,
    /// What these may have held.
    lacks: Lacks,
    /// Behind a block of this kind one was lost, and none was found since.
    hole: Option<u8>,
    /// What the last block held that was taken.
    last: u8,
    has_damage: bool,
    is_complete: bool,
    /// How many entries each queue had.
    counts: Vec<(QueueId, u64)>,
    /// Why the beginning cannot be read.
    error: Option<StoreError>,
}

impl Loader {
    /// Reads block after block from whichever copy has it. Gives the bytes of a copy.
    fn read<D: Disk>(
        &mut self,
        mut copies: Vec<(&str, Window<'_, D>)>,
        report: &mut Report,
    ) -> u64 {
        let (mut offset, mut number) = (0, 1);
        while !self.is_complete {
            let mut taken = None;
            let mut damaged = Vec::new();
            for (name, window) in &mut copies {
                match window.at(offset, number) {
                    ScanItem::Record(found, block, bytes) if found == number => {
                        if taken.is_none() {
                            self.take(block);
                            taken = Some(bytes);
                        }
                    }
                    _ => {
                        let unreadable = window.unreadable(offset..offset + BLOCK_BYTES as u64);
                        let error = unreadable.map(|unreadable| unreadable.error.clone());
                        damaged.push(((*name).to_owned(), error));
                    }
                }
            }
            if self.begin.is_none() {
                // Without its beginning the rest says nothing.
                let unread = damaged
                    .iter()
                    .find_map(|(name, e)| Some((name, e.clone()?)));
                self.error = unread.map(|(name, error)| {
                    StoreError::new("reading", name, std::io::Error::other(error))
                });
                for (name, _) in copies {
                    let error = damaged.iter().find(|(other, _)| other == name);
                    let error = error.and_then(|(_, error)| error.clone());
                    let lost = Lost::Checkpoint { known: true };
                    let damage = Damage::new(name.to_owned(), offset, lost);
                    report.damage.push(damage.with_error(error));
                }
                return offset;
            }
            let lost = match taken {
                Some(_) => Lost::Nothing,
                None => Lost::CheckpointBlock,
            };
            self.has_damage |= !damaged.is_empty();
            for (file, error) in damaged {
                let damage = Damage::new(file, offset, lost.clone());
                report.damage.push(damage.with_error(error));
            }
            match taken {
                Some(bytes) => {
                    offset += bytes;
                    number += 1;
                }
                None => {
                    self.note_hole(self.last);
                    let Some(next) = next_block(&mut copies, offset + 8, number + 1) else {
                        break;
                    };
                    (offset, number) = next;
                }
            }
        }
        self.end_hole(kind::END);
        offset
    }

    fn take(&mut self, block: &[u8]) {
        let Some((&kind, mut rest)) = block.split_first() else {
            return;
        };
        let Index {
            bodies,
            queues,
            states,
            live,
            ..
        } = &mut self.index;
        let taken = match kind {
            kind::BEGIN => take_begin(&mut rest).and_then(|begin| {
                self.begin = Some(begin);
                bodies.load_rest(&mut rest)
            }),
            kind::BODIES => bodies.load(rest, live),
            kind::QUEUES => queues.load(rest),
            kind::STATES => states.load(rest, live),
            kind::END => {
                self.is_complete = true;
                // Older programs count nothing here.
                let counts = take_varint(&mut rest).and_then(|_| Queues::take_counts(&mut rest));
                self.counts = counts.unwrap_or_default();
                Some(())
            }
            _ => None,
        };
        self.end_hole(kind);
        self.last = self.last.max(kind);
        if taken.is_none() {
            self.note_hole(kind);
            self.end_hole(kind);
        }
    }

    fn note_hole(&mut self, last: u8) {
        self.has_holes = true;
        self.hole.get_or_insert(last);
    }

    /// The next block that is there is of this kind: what is lost lies between it and the last.
    fn end_hole(&mut self, next: u8) {
        if let Some(last) = self.hole.take() {
            let may_be = |kind| (last..=next).contains(&kind);
            self.lacks.bodies |= may_be(kind::BODIES);
            self.lacks.queues |= may_be(kind::QUEUES);
            self.lacks.states |= may_be(kind::STATES);
        }
    }
}

/// Offset and number of the next block that some copy has.
fn next_block<D: Disk>(
    copies: &mut [(&str, Window<'_, D>)],
    offset: u64,
    number: u64,
) -> Option<(u64, u64)> {
    let mut first = None;
    for (_, window) in copies {
        if let Some(offset) = window.search(offset, number)
            && let ScanItem::Record(number, ..) = window.at(offset, number)
            && first.is_none_or(|(other, _)| offset < other)
        {
            first = Some((offset, number));
        }
    }
    first
}

fn take_begin(input: &mut &[u8]) -> Option<Begin> {
    let lsn = take_varint(input)?;
    let next_number = take_varint(input)?;
    let next_group = take_varint(input)?;
    let replay = ReplayFrom {
        number: take_varint(input)?,
        offset: take_varint(input)?,
    };
    let mut segments = Vec::new();
    for _ in 0..take_varint(input)? {
        let slot = u16::try_from(take_varint(input)?).ok()?;
        let listed = Listed {
            number: take_varint(input)?,
            len: take_varint(input)?,
            end: take_varint(input)?,
            first: take_varint(input)?,
            next: take_varint(input)?,
            void_from: take_varint(input)?,
            stuck: take_varint(input)? != 0,
        };
        segments.push((slot, listed));
    }
    Some(Begin {
        lsn,
        next_number,
        next_group,
        replay,
        segments,
    })
}
