//! Reads the whole store and verifies every checksum; repairs a damaged store so that it opens
//! without damage. Both report what is lost.
//!
//! A check changes nothing: it opens the store on a disk that refuses every change.

use crate::checkpoint;
use crate::disk::Disk;
use crate::engine::{Engine, Options};
use crate::error::{OpenError, StoreError};
use crate::index::Location;
use crate::record::{
    BodyId, EntryKey, GROUP_BYTES, Holds, Op, Ops, QueueId, RecordBuffer, StateKey, ops_of,
};
use crate::report::{Damage, Lost, set_aside};
use crate::scan::{ScanItem, Window};
use crate::segment;
use crate::stats::Stats;
use std::io;

/// Bytes of a lost body that are reported, so that it can be guessed what it was.
const REMAINS_BYTES_MAX: usize = 1024;

/// Reads everything and reports each place with an invalid checksum, with what it costs. The store
/// must not be open.
pub fn check<D: Disk>(disk: D, mut each: impl FnMut(Damage)) -> Result<Stats, OpenError> {
    check_with(disk, |_, damage| each(damage))
}

/// As [`check`], but also passes the store, so that names of queues and states can be resolved.
pub fn check_with<D: Disk>(
    disk: D,
    mut each: impl FnMut(&Engine<ReadOnly<D>>, Damage),
) -> Result<Stats, OpenError> {
    let (engine, report) = Engine::open(ReadOnly(disk), Options::default())?;
    let findings = engine.find_damage(report.damage);
    findings
        .all
        .into_iter()
        .for_each(|damage| each(&engine, damage));
    Ok(engine.stats())
}

/// Counts and sizes of the store, without reading all of it or changing anything. The store must
/// not be open.
pub fn stats<D: Disk>(disk: D) -> Result<Stats, OpenError> {
    let (engine, _) = Engine::open(ReadOnly(disk), Options::default())?;
    Ok(engine.stats())
}

/// Makes the store open without damage: removes damaged parts and entries of lost bodies, keeps
/// all else. Reports what it found. The store must not be open.
pub fn repair<D: Disk + Clone>(
    disk: D,
    options: Options,
    mut each: impl FnMut(Damage),
) -> Result<Stats, OpenError> {
    repair_with(disk, options, |_, damage| each(damage))
}

/// As [`repair`], but also passes the store as it was found.
pub fn repair_with<D: Disk + Clone>(
    disk: D,
    options: Options,
    mut each: impl FnMut(&Engine<D>, Damage),
) -> Result<Stats, OpenError> {
    let mut found = Vec::new();
    let opened = match Engine::open(disk.clone(), options.clone()) {
        Err(OpenError::Checkpoint { file }) => {
            // Without a checkpoint, only the segments are used.
            found.push(Damage::new(file, 0, Lost::CheckpointBlock));
            set_checkpoints_aside(&disk)?;
            Engine::open_accepting(disk, options, true)
        }
        Err(OpenError::NoCheckpoint { .. }) => Engine::open_accepting(disk, options, true),
        opened => opened,
    };
    let (mut engine, report) = opened?;
    found.extend(report.damage);
    let findings = engine.find_damage(found);
    let all = findings.all.iter().cloned();
    all.for_each(|damage| each(&engine, damage));
    engine.give_up(&findings)?;
    engine.wants_checkpoint = true;
    let stats = engine.stats();
    engine.close()?;
    Ok(stats)
}

/// Under the new names they are not read, but kept for an analysis.
fn set_checkpoints_aside<D: Disk>(disk: &D) -> Result<(), StoreError> {
    let error = |e| StoreError::new("renaming", "the checkpoint", e);
    for (name, _) in disk.list().map_err(error)? {
        if checkpoint::number_of(&name).is_some() {
            set_aside(disk, &name).map_err(error)?;
        }
    }
    disk.sync_dir().map_err(error)
}

/// Damage found in the segments.
struct Findings {
    all: Vec<Damage>,
    bodies: Vec<BodyId>,
    states: Vec<StateKey>,
    /// Entries whose body is missing, by body.
    entries: Vec<EntryKey>,
    /// Slots of segments that have a place with an invalid checksum.
    slots: Vec<u16>,
}

/// A place with an invalid checksum: from, to.
struct Bad {
    slot: u16,
    from: u64,
    to: u64,
    error: Option<String>,
}

impl Bad {
    fn contains(&self, location: Location) -> bool {
        self.slot == location.slot && (self.from..self.to).contains(&location.offset())
    }
}

impl<D: Disk> Engine<D> {
    /// Reads all segments. Includes the damage found at opening, each place once.
    fn find_damage(&self, opening: Vec<Damage>) -> Findings {
        let mut bad = Vec::new();
        for slot in self.segments.in_order() {
            self.scan_segment(slot, &mut bad);
        }
        bad.sort_unstable_by_key(|bad| (bad.slot, bad.from));
        let place = |location: Location| {
            let key = (location.slot, location.offset());
            let behind = bad.partition_point(|bad| (bad.slot, bad.from) <= key);
            let index = behind.checked_sub(1)?;
            bad[index].contains(location).then_some(index)
        };
        let mut costs = self.unreadable();
        costs.sort_unstable_by_key(|cost| (cost.location.slot, cost.location.at));
        let mut bodies: Vec<BodyId> = costs.iter().filter_map(|cost| cost.body()).collect();
        let mut nowhere = Vec::new();
        self.index.bodies.each_located(|id, location| {
            if location.is_none() {
                nowhere.push(id);
            }
        });
        bodies.extend(&nowhere);
        bodies.sort_unstable();
        nowhere.sort_unstable();
        let entries = self.entries_of(&bodies);
        let mut all = opening;
        self.tell_nowhere(nowhere, &entries, &mut all);
        let mut costly = vec![false; bad.len()];
        let mut told = Vec::new();
        for cost in &costs {
            let index = place(cost.location);
            index.into_iter().for_each(|index| costly[index] = true);
            let error = index.and_then(|index| bad[index].error.clone());
            let slot = cost.location.slot;
            let damage = Damage::new(
                self.name_of(slot),
                cost.location.offset(),
                self.lost(cost, &entries),
            );
            told.push(damage.with_error(error));
        }
        for (bad, is_costly) in bad.iter().zip(costly) {
            let file = self.name_of(bad.slot);
            let is_told = all
                .iter()
                .any(|told| told.file == file && (bad.from..=bad.to).contains(&told.offset));
            if !is_costly && !is_told {
                let damage = Damage::new(file, bad.from, Lost::Nothing);
                told.push(damage.with_error(bad.error.clone()));
            }
        }
        all.extend(told);
        let slots = bad.iter().map(|bad| bad.slot);
        let mut slots: Vec<u16> = slots.chain(costs.iter().map(|c| c.location.slot)).collect();
        slots.sort_unstable();
        slots.dedup();
        Findings {
            all,
            bodies,
            states: costs.iter().filter_map(|cost| cost.state()).collect(),
            entries,
            slots,
        }
    }

    /// Items of the index that cannot be read: their place has no valid record, or another one.
    fn unreadable(&self) -> Vec<Cost> {
        let (mut ids, mut costs) = (Vec::new(), Vec::new());
        self.index
            .bodies
            .each_located(|id, location| ids.extend(location.map(|_| id)));
        self.read_bodies(&ids, |id, found| {
            if found.is_err()
                && let Some((location, _)) = self.index.bodies.locate(id)
            {
                costs.push(Cost {
                    location,
                    what: LostItem::Body(id),
                });
            }
        });
        self.states(|key, _, found| {
            if found.is_err()
                && let Some(state) = self.index.states.get(key)
            {
                costs.push(Cost {
                    location: state.location(),
                    what: LostItem::State(key),
                });
            }
        });
        costs
    }

    fn name_of(&self, slot: u16) -> String {
        let segment = self.segments.get(slot);
        segment.map(|segment| segment.name()).unwrap_or_default()
    }

    fn scan_segment(&self, slot: u16, bad: &mut Vec<Bad>) {
        let Some(segment) = self.segments.get(slot) else {
            return;
        };
        let file = &segment.file;
        let mut window = Window::<D>::new(&self.disk, &file.file, file.key, segment.end);
        let mut offset = 0;
        while offset < segment.end {
            match window.at(offset, 0) {
                ScanItem::Group(..) => offset += GROUP_BYTES as u64,
                ScanItem::Record(_, _, bytes) => offset += bytes,
                ScanItem::Nothing => {
                    let next = window.search(offset + 8, 0);
                    let to = next.unwrap_or(segment.end);
                    let unreadable = window.unreadable(offset..to);
                    bad.push(Bad {
                        slot,
                        from: offset,
                        to,
                        error: unreadable.map(|unreadable| unreadable.error.clone()),
                    });
                    offset = to;
                }
            }
        }
    }

    /// The entries that refer to these bodies, by body and queue.
    fn entries_of(&self, bodies: &[BodyId]) -> Vec<EntryKey> {
        let mut entries = Vec::new();
        self.index.queues.each_entry(|entry, _| {
            if bodies.binary_search(&entry.body).is_ok() {
                entries.push(entry);
            }
        });
        entries.sort_unstable_by_key(|entry| (entry.body, entry.queue, entry.lane));
        entries
    }

    fn lost(&self, cost: &Cost, entries: &[EntryKey]) -> Lost {
        match cost.what {
            LostItem::State(key) => Lost::State(key),
            LostItem::Body(id) => {
                let left = self.left_at(cost.location);
                lost_body(id, entries, left.iter().find(|left| left.id == id))
            }
        }
    }

    /// Reports bodies that were lost with records of the log in place of those records, where this
    /// can be determined. Also reports all other bodies that entries refer to and that have no
    /// location.
    fn tell_nowhere(&self, mut nowhere: Vec<BodyId>, entries: &[EntryKey], all: &mut Vec<Damage>) {
        for damage in all.iter_mut() {
            let Lost::Records { count: 1, .. } = damage.lost else {
                continue;
            };
            let number = segment::number_of(&damage.file);
            let slot = number.and_then(|number| self.segments.slot_of(number));
            let left = slot.map(|slot| self.left_at(Location::new(slot, damage.offset)));
            let left = left.unwrap_or_default();
            let known = left
                .iter()
                .find(|left| nowhere.binary_search(&left.id).is_ok());
            let lost = match (known.or(left.first()), &nowhere[..]) {
                (Some(left), _) => lost_body(left.id, entries, Some(left)),
                // Exactly one message and one record are missing.
                (None, [id]) => lost_body(*id, entries, None),
                _ => continue,
            };
            if let Lost::Body { id: told, .. } = lost {
                nowhere.retain(|id| *id != told);
            }
            damage.lost = lost;
        }
        let rest = nowhere.into_iter();
        let lost = rest.map(|id| lost_body(id, entries, None));
        all.extend(lost.map(|lost| Damage::new(String::new(), 0, lost)));
    }

    /// The bodies that a record with an invalid checksum seems to hold.
    fn left_at(&self, at: Location) -> Vec<Left> {
        let Some(segment) = self.segments.get(at.slot) else {
            return Vec::new();
        };
        let file = &segment.file;
        let mut window = Window::<D>::new(&self.disk, &file.file, file.key, segment.len);
        let ops = Ops::new(ops_of(window.record(at.offset())));
        let bodies = ops.clone().filter_map(|op| match op {
            Op::Body(id, _, bytes) | Op::MovedBody(id, _, _, bytes) => Some((id, bytes)),
            _ => None,
        });
        let entries = |id| {
            let entries = ops.clone().filter_map(move |op| match op {
                Op::Enqueue(entry, ..) if entry.body == id => Some(entry.queue),
                _ => None,
            });
            entries.collect()
        };
        let left = bodies.map(|(id, bytes)| Left {
            id,
            queues: entries(id),
            remains: bytes[..bytes.len().min(REMAINS_BYTES_MAX)].into(),
        });
        left.collect()
    }

    /// Writes records that end what is lost, and moves the rest out of damaged segments.
    fn give_up(&mut self, findings: &Findings) -> Result<(), StoreError> {
        let mut records = RecordBuffer::new();
        for entry in &findings.entries {
            let EntryKey { queue, body, lane } = *entry;
            records.record().end(queue, body, lane);
        }
        for body in &findings.bodies {
            // A body that no longer exists would be remembered as released.
            if self.index.bodies.locate(*body).is_some() {
                records.record().release(*body, Holds::from_bits(7));
            }
        }
        for key in &findings.states {
            records.record().remove_state(*key);
        }
        self.append(&records);
        self.seal()?;
        for slot in &findings.slots {
            if Some(*slot) == self.active {
                self.active = None;
            }
            self.reclaim_all(*slot)?;
        }
        Ok(())
    }
}

/// An item that should be at a place and is missing.
struct Cost {
    location: Location,
    what: LostItem,
}

enum LostItem {
    Body(BodyId),
    State(StateKey),
}

impl Cost {
    fn body(&self) -> Option<BodyId> {
        match self.what {
            LostItem::Body(id) => Some(id),
            LostItem::State(_) => None,
        }
    }

    fn state(&self) -> Option<StateKey> {
        match self.what {
            LostItem::Body(_) => None,
            LostItem::State(key) => Some(key),
        }
    }
}

/// Remains of a body, and of entries in the same record. No checksum confirms them.
struct Left {
    id: BodyId,
    queues: Vec<QueueId>,
    remains: Box<[u8]>,
}

fn lost_body(id: BodyId, entries: &[EntryKey], left: Option<&Left>) -> Lost {
    let first = entries.partition_point(|entry| entry.body < id);
    let entries = entries[first..].iter();
    let entries = entries.take_while(|entry| entry.body == id);
    let mut queues: Vec<QueueId> = entries.map(|entry| entry.queue).collect();
    if queues.is_empty() {
        queues.extend(left.iter().flat_map(|left| &left.queues));
    }
    queues.dedup();
    Lost::Body {
        id,
        queues,
        remains: left.map(|left| left.remains.clone()).unwrap_or_default(),
    }
}

/// A disk that refuses every change, or ignores it where a refusal would make an opening fail.
#[derive(Clone, Debug)]
pub struct ReadOnly<D>(pub(crate) D);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl<D: Disk> Disk for ReadOnly<D> {
    type File = D::File;

    fn create(&self, _: &str, _: u64) -> io::Result<D::File> {
        refused()
    }

    fn open(&self, name: &str) -> io::Result<D::File> {
        self.0.open(name)
    }

    fn write_at(&self, _: &D::File, _: u64, _: &[u8]) -> io::Result<()> {
        refused()
    }

    fn read_at(&self, file: &D::File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(file, offset, bytes)
    }

    fn sync(&self, _: &D::File) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}
