//! The contents of the store: bodies and states from the disk, and the data in memory.

use crate::disk::Disk;
use crate::engine::Engine;
use crate::index::Location;
use crate::read::{Located, Missing, RecordRead, Spot, body_in, body_of, read_all, state_of};
use crate::record::{BodyId, Holds, Lsn, QueueId, StateKey};
use std::sync::Arc;

/// States that are read at a time: states that were written together have keys close together.
const STATES_AT_ONCE: usize = 4096;

/// An entry of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// The body it refers to.
    pub body: BodyId,
    /// Lane.
    pub lane: u8,
    /// Note.
    pub note: [u64; 2],
    /// Additional data of the entry; nearly always empty.
    pub extra: &'a [u8],
}

/// A body that is still routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Id of the body.
    pub id: BodyId,
    /// Number of the record it came with.
    pub lsn: Lsn,
    /// The queues that have or had an entry of it in lane 0.
    pub had: Vec<QueueId>,
}

impl<D: Disk> Engine<D> {
    /// Reads bodies and passes each to `each`, in disk order; neighbours are read with one call. A
    /// body listed twice is passed twice.
    pub fn read_bodies(
        &self,
        ids: &[BodyId],
        mut each: impl FnMut(BodyId, Result<&[u8], Missing>),
    ) {
        let mut wanted = Vec::with_capacity(ids.len());
        for id in ids {
            match self.wanted_body(*id) {
                Some(wanted_one) => wanted.push(wanted_one),
                None => each(*id, Err(Missing::Unknown)),
            }
        }
        read_all(&self.disk, wanted, |id, found| each(id, body_in(found, id)));
    }

    /// Where a body is stored, for a separate reader; `None`: it does not exist, or is not written
    /// yet.
    pub fn locate(&self, id: BodyId) -> Option<Located<D::File>> {
        let (location, bytes) = self.index.bodies.locate(id)?;
        let segment = self.segments.get(location.slot)?;
        Some(Located {
            id,
            file: Arc::clone(&segment.file),
            offset: location.offset(),
            bytes,
        })
    }

    /// Passes all states with the number of the record in which their key first appeared, in an
    /// order that is quick to read.
    pub fn states(&self, each: impl FnMut(StateKey, Lsn, Result<&[u8], Missing>)) {
        self.states_of(|_| true, each);
    }

    /// The keys of all states, ordered.
    pub fn state_keys(&self) -> impl Iterator<Item = StateKey> + '_ {
        self.index.states.iter().map(|(key, _)| key)
    }

    /// As [`Engine::states`], but only for wanted keys: a subset of a million states needs only
    /// its share of the memory.
    pub fn states_of(
        &self,
        is_wanted: impl Fn(StateKey) -> bool,
        mut each: impl FnMut(StateKey, Lsn, Result<&[u8], Missing>),
    ) {
        let mut states = self.index.states.iter().filter(|(key, _)| is_wanted(*key));
        loop {
            let some: Vec<_> = states.by_ref().take(STATES_AT_ONCE).collect();
            if some.is_empty() {
                return;
            }
            let mut wanted = Vec::with_capacity(some.len());
            for (key, state) in some {
                match self.wanted((key, state.since), state.location(), state.bytes()) {
                    Some(state) => wanted.push(state),
                    None => each(key, state.since, Err(Missing::Unknown)),
                }
            }
            read_all(&self.disk, wanted, |(key, since), found| {
                let found = found
                    .and_then(|(spot, record)| state_of(record, key).ok_or_else(|| spot.damaged()));
                each(key, since, found);
            });
        }
    }

    /// Passes all bodies with any of these holds, with the number of the record they came with, in
    /// an order that is quick to read. Number 0: the record is damaged, so its number is unknown.
    pub fn held(&self, holds: Holds, mut each: impl FnMut(BodyId, Lsn, Result<&[u8], Missing>)) {
        let wanted = self.wanted_bodies(self.index.bodies.held(holds));
        read_all(&self.disk, wanted, |id, found| match found {
            Ok((spot, record)) => match body_of(record, id) {
                Some((first, bytes)) => each(id, spot.lsn(record, first), Ok(bytes)),
                None => each(id, 0, Err(spot.damaged())),
            },
            Err(missing) => each(id, 0, Err(missing)),
        });
    }

    /// Bodies with [`Holds::ROUTING`] in the order of their records. Bodies with a damaged record
    /// are left out.
    pub fn pending(&self) -> Vec<Pending> {
        let wanted = self.wanted_bodies(self.index.routing());
        let mut pending = Vec::with_capacity(wanted.len());
        read_all(&self.disk, wanted, |id, found| {
            if let Ok((spot, record)) = found
                && let Some((first, _)) = body_of(record, id)
            {
                pending.push((id, spot.lsn(record, first)));
            }
        });
        pending.sort_unstable_by_key(|(id, lsn)| (*lsn, *id));
        let bodies = &self.index.bodies;
        pending
            .into_iter()
            .map(|(id, lsn)| Pending {
                id,
                lsn,
                had: bodies.had(id),
            })
            .collect()
    }

    /// Queues that are not empty, ordered.
    pub fn queues(&self) -> Vec<QueueId> {
        self.index.queues.ids()
    }

    /// The entries of a queue, oldest first.
    pub fn entries(&self, queue: QueueId) -> impl Iterator<Item = EntryView<'_>> + '_ {
        let entries = self.index.queues.entries(queue);
        entries.map(|(body, lane, note, extra)| EntryView {
            body,
            lane,
            note,
            extra,
        })
    }

    /// The tokens of a queue with their notes, by token.
    pub fn tokens(&self, queue: QueueId) -> &[(u32, u32)] {
        self.index.queues.tokens(queue)
    }

    /// The holds of a body; none if it does not exist.
    pub fn holds(&self, id: BodyId) -> Holds {
        self.index.bodies.holds(id)
    }

    /// For each value of the upper six bits of an id, the highest id that was ever seen, live or
    /// dead. Ids up to it must not be used again.
    pub fn highest_body_seen(&self) -> Vec<BodyId> {
        self.index.bodies.highest().collect()
    }

    fn wanted<T>(
        &self,
        what: T,
        location: Location,
        bytes: u64,
    ) -> Option<RecordRead<'_, D::File, T>> {
        let file = &self.segments.get(location.slot)?.file;
        let offset = location.offset();
        let spot = Spot { file, offset };
        Some(RecordRead { what, spot, bytes })
    }

    fn wanted_body(&self, id: BodyId) -> Option<RecordRead<'_, D::File, BodyId>> {
        let (location, bytes) = self.index.bodies.locate(id)?;
        self.wanted(id, location, bytes)
    }

    fn wanted_bodies(
        &self,
        bodies: Vec<(BodyId, Location)>,
    ) -> Vec<RecordRead<'_, D::File, BodyId>> {
        let wanted = bodies.into_iter();
        wanted.filter_map(|(id, _)| self.wanted_body(id)).collect()
    }
}
