//! Reading all of a store and verifying every checksum; and making a store that opens clean of one
//! that does not. Both name what is lost.
//!
//! Checking changes nothing: it opens the store on a disk that refuses every change.

use crate::checkpoint;
use crate::disk::Disk;
use crate::engine::{Engine, Options};
use crate::error::{OpenError, StoreError};
use crate::index::Location;
use crate::record::{BodyId, GROUP_BYTES, Holds, QueueId, RecordBuffer, StateKey};
use crate::report::{Damage, Lost};
use crate::scan::{Found, Window};
use crate::stats::Stats;
use std::io;

/// Reads everything and hands over each place that does not check, with what it costs. The store
/// must not be open.
pub fn check<D: Disk>(disk: D, mut each: impl FnMut(Damage)) -> Result<Stats, OpenError> {
    let (engine, report) = Engine::open(ReadOnly(disk), Options::default())?;
    report.damage.into_iter().for_each(&mut each);
    let findings = engine.find_damage()?;
    findings.all.into_iter().for_each(each);
    Ok(engine.stats())
}

/// What the store holds and takes, without reading all of it or changing anything. The store must
/// not be open.
pub fn stats<D: Disk>(disk: D) -> Result<Stats, OpenError> {
    let (engine, _) = Engine::open(ReadOnly(disk), Options::default())?;
    Ok(engine.stats())
}

/// Makes the store open clean: what is damaged goes, entries of lost bodies too, all else is kept.
/// Hands over what it found. The store must not be open.
pub fn repair<D: Disk + Clone>(
    disk: D,
    options: Options,
    mut each: impl FnMut(Damage),
) -> Result<Stats, OpenError> {
    let opened = match Engine::open(disk.clone(), options.clone()) {
        Err(OpenError::Checkpoint { file }) => {
            // Without it the segments say what they say.
            each(Damage {
                file,
                offset: 0,
                lost: Lost::CheckpointBlock,
            });
            remove_checkpoints(&disk)?;
            Engine::open(disk, options)
        }
        opened => opened,
    };
    let (mut engine, report) = opened?;
    report.damage.into_iter().for_each(&mut each);
    let findings = engine.find_damage()?;
    findings.all.iter().cloned().for_each(each);
    engine.give_up(&findings)?;
    engine.wants_checkpoint = true;
    let stats = engine.stats();
    engine.close()?;
    Ok(stats)
}

fn remove_checkpoints<D: Disk>(disk: &D) -> Result<(), StoreError> {
    let error = |e| StoreError::new("removing", "the checkpoint", e);
    for (name, _) in disk.list().map_err(error)? {
        if checkpoint::number_of(&name).is_some() {
            disk.remove(&name).map_err(error)?;
        }
    }
    disk.sync_dir().map_err(error)
}

/// What was found in the segments.
struct Findings {
    all: Vec<Damage>,
    bodies: Vec<BodyId>,
    states: Vec<StateKey>,
    /// Entries that find no body.
    entries: Vec<(QueueId, BodyId, u8)>,
    /// Slots of segments with a place that does not check.
    slots: Vec<u16>,
}

/// A place that does not check: from, to.
struct Bad {
    slot: u16,
    from: u64,
    to: u64,
}

impl<D: Disk> Engine<D> {
    fn find_damage(&self) -> Result<Findings, StoreError> {
        let mut bad = Vec::new();
        for slot in self.segments.in_order() {
            self.scan_segment(slot, &mut bad)?;
        }
        let place = |location: Location| {
            bad.iter().position(|bad| {
                bad.slot == location.slot && (bad.from..bad.to).contains(&location.offset())
            })
        };
        let mut costs: Vec<Vec<Lost>> = bad.iter().map(|_| Vec::new()).collect();
        let mut lost_bodies = Vec::new();
        self.index
            .bodies
            .each_located(|id, location| match location {
                Some(location) => {
                    if let Some(index) = place(location) {
                        costs[index].push(Lost::Body(id));
                        lost_bodies.push(id);
                    }
                }
                None => lost_bodies.push(id),
            });
        let mut lost_states = Vec::new();
        for (key, state) in self.index.states.iter() {
            if let Some(index) = place(state.location()) {
                costs[index].push(Lost::State(key));
                lost_states.push(key);
            }
        }
        let mut all = Vec::new();
        for (bad, costs) in bad.iter().zip(costs) {
            let segment = self.segments.get(bad.slot);
            let file = segment.map(|segment| segment.name()).unwrap_or_default();
            let costs = if costs.is_empty() {
                vec![Lost::Nothing]
            } else {
                costs
            };
            all.extend(costs.into_iter().map(|lost| Damage {
                file: file.clone(),
                offset: bad.from,
                lost,
            }));
        }
        lost_bodies.sort_unstable();
        let mut entries = Vec::new();
        self.index.queues.each_entry(|entry, _| {
            if lost_bodies.binary_search(&entry.body).is_ok() {
                entries.push((entry.queue, entry.body, entry.lane));
            }
        });
        all.extend(entries.iter().map(|(queue, body, _)| Damage {
            file: String::from("the index"),
            offset: 0,
            lost: Lost::Entry {
                queue: *queue,
                body: *body,
            },
        }));
        Ok(Findings {
            all,
            bodies: lost_bodies,
            states: lost_states,
            entries,
            slots: bad.iter().map(|bad| bad.slot).collect(),
        })
    }

    fn scan_segment(&self, slot: u16, bad: &mut Vec<Bad>) -> Result<(), StoreError> {
        let Some(segment) = self.segments.get(slot) else {
            return Ok(());
        };
        let error = |e| StoreError::new("reading", &segment.name(), e);
        let file = &segment.file;
        let mut window = Window::<D>::new(&self.disk, &file.file, file.key, segment.end);
        let mut offset = 0;
        while offset < segment.end {
            match window.at(offset, 0).map_err(error)? {
                Found::Group(..) => offset += GROUP_BYTES as u64,
                Found::Record(_, _, bytes) => offset += bytes,
                Found::Nothing => {
                    let next = window.search(offset + 8, 0).map_err(error)?;
                    let to = next.unwrap_or(segment.end);
                    bad.push(Bad {
                        slot,
                        from: offset,
                        to,
                    });
                    offset = to;
                }
            }
        }
        Ok(())
    }

    /// Ends what is lost by records of its own, and moves the rest out of damaged segments.
    fn give_up(&mut self, findings: &Findings) -> Result<(), StoreError> {
        let mut records = RecordBuffer::new();
        for (queue, body, lane) in &findings.entries {
            records.record().end(*queue, *body, *lane);
        }
        for body in &findings.bodies {
            // What is not there any more would be remembered as released.
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

/// A disk that refuses every change; where refusing would stop an opening, it does nothing.
struct ReadOnly<D>(D);

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
