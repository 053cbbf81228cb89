//! Loads a checkpoint: each block from a copy in which it is valid.

use super::{BLOCK_BYTES, COPIES, Checkpointed, key, kind, name, number_of};
use crate::disk::Disk;
use crate::engine::Engine;
use crate::error::{OpenError, StoreError};
use crate::gaps::{Gaps, Lacks, Short};
use crate::index::Index;
use crate::index::queues::Queues;
use crate::record::{FileKey, Lsn, QueueId};
use crate::report::{Damage, Lost, Report};
use crate::scan::{ScanItem, Window};
use crate::segment::{self, Segment, SegmentFile};
use martlet_fault::{self as fault, Fault};
use martlet_rows::take_varint;
use std::sync::Arc;

/// Segment number and offset at which replay begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayFrom {
    pub(crate) number: u64,
    pub(crate) offset: u64,
}

/// Loads the newest checkpoint whose beginning is valid into an empty engine; `None`: there is
/// none. The second value: whether blocks were lost in both copies.
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

/// Loads this checkpoint; `None`: its beginning is missing, which is reported.
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
        index: Index::new(engine.options.tenant_of),
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
            // It may be readable another time.
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

/// A segment as listed in a checkpoint.
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
    /// Whether blocks were lost in both copies.
    has_holes: bool,
    /// Kinds of data that the lost blocks may have held.
    lacks: Lacks,
    /// A block was lost after a block of this kind, and no valid one was found since.
    hole: Option<u8>,
    /// Kind of the last block that was loaded.
    last: u8,
    has_damage: bool,
    is_complete: bool,
    /// Number of entries of each queue.
    counts: Vec<(QueueId, u64)>,
    /// The disk error at the beginning of the checkpoint, if any.
    error: Option<StoreError>,
}

impl Loader {
    /// Reads block after block from a copy in which it is valid. Returns the bytes of a copy.
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
                // Without its beginning, the rest has no meaning.
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
                // Older versions do not write counts.
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

    /// The next existing block is of kind `next`: the lost blocks lie between this kind and the
    /// last one.
    fn end_hole(&mut self, next: u8) {
        if let Some(last) = self.hole.take() {
            let may_be = |kind| (last..=next).contains(&kind);
            self.lacks.bodies |= may_be(kind::BODIES);
            self.lacks.queues |= may_be(kind::QUEUES);
            self.lacks.states |= may_be(kind::STATES);
        }
    }
}

/// Offset and number of the next block that is valid in some copy.
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
