//! Which bodies are live, where they are stored and why: eight bytes each, in chunks of 64
//! neighbouring ids; four more for the tenant in chunks that have bodies with one.
//!
//! A body is live while it has a hold or an entry refers to it. A slot without a location is a
//! body that is missing (perhaps only until its record is applied): its holds are those released
//! early, its references those of entries whose body was lost.

use super::live::{Live, class_bytes};
use super::location::Location;
use super::number_map::NumberMap;
use super::packed::{Packed, REFS_MANY};
use crate::record::{BodyId, Holds, QueueId, read_u32, read_u64};
use martlet_fault::{self as fault, Fault};
use martlet_rows::{put_varint, take_varint};
use std::collections::BTreeMap;

/// The existing bodies among 64 neighbouring ids.
#[derive(Clone, Debug)]
struct Chunk {
    /// Id / 64.
    key: u64,
    there: u64,
    packed: Vec<Packed>,
    /// Tenant of each of these, 0 for none; empty if none has one.
    tenants: Vec<u32>,
    /// The capture that has already copied this chunk.
    epoch: u32,
}

impl Chunk {
    fn rank(&self, bit: u32) -> Option<usize> {
        let below = self.there & ((1 << bit) - 1);
        (self.there >> bit & 1 == 1).then_some(below.count_ones() as usize)
    }

    fn insert(&mut self, bit: u32, rank: usize, packed: Packed) {
        if self.packed.len() == self.packed.capacity() {
            let more = self.packed.capacity().clamp(2, 32);
            self.packed.reserve_exact(more);
        }
        self.packed.insert(rank, packed);
        if !self.tenants.is_empty() {
            self.tenants.insert(rank, 0);
        }
        self.there |= 1 << bit;
    }

    /// Removes a slot and returns its tenant.
    fn remove(&mut self, bit: u32, rank: usize) -> u32 {
        self.packed.remove(rank);
        self.there &= !(1 << bit);
        let tenant = match self.tenants.is_empty() {
            true => 0,
            false => self.tenants.remove(rank),
        };
        if self.packed.len() * 4 <= self.packed.capacity() {
            self.packed.shrink_to(self.packed.len() * 2);
            self.tenants.shrink_to(self.packed.len() * 2);
        }
        tenant
    }

    /// Sets the tenant of a slot and returns the one that it had.
    fn set_tenant(&mut self, rank: usize, tenant: u32) -> u32 {
        if self.tenants.is_empty() {
            if tenant == 0 {
                return 0;
            }
            self.tenants = vec![0; self.packed.len()];
        }
        let place = self.tenants.get_mut(rank);
        place.map_or(0, |place| std::mem::replace(place, tenant))
    }
}

/// What a new body takes: its size class, and the tenant that it counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) class: u8,
    /// 0: none.
    pub(crate) tenant: u32,
}

/// The highest id seen, per value of the upper six bits of an id.
#[derive(Debug)]
struct Highest([Option<u64>; 64]);

impl Default for Highest {
    fn default() -> Self {
        Highest([None; 64])
    }
}

impl Highest {
    fn raise(&mut self, id: BodyId) {
        let highest = &mut self.0[(id.0 >> 58) as usize];
        *highest = (*highest).max(Some(id.0));
    }

    fn reaches(&self, id: BodyId) -> bool {
        self.0[(id.0 >> 58) as usize].is_some_and(|highest| id.0 <= highest)
    }

    fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied().flatten()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Bodies {
    chunks: Vec<Option<Chunk>>,
    free: Vec<u32>,
    by_key: NumberMap<u64, u32>,
    /// Key and position of the chunk used last.
    last: Option<(u64, u32)>,
    /// Numbers of references that do not fit into a slot.
    many: BTreeMap<u64, u64>,
    /// Queues that have or had an entry of a body with [`Holds::ROUTING`].
    had: NumberMap<u64, Vec<QueueId>>,
    /// The highest id seen, per value of the upper six bits of an id.
    highest: Highest,
    count: usize,
    /// Some body has or had a tenant.
    has_tenants: bool,
    epoch: u32,
    capture: Option<Capture>,
}

#[derive(Debug)]
struct Capture {
    next: usize,
    before: Vec<Chunk>,
}

impl Bodies {
    /// Number of bodies.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Approximate number of bytes on the heap, without a walk over the bodies.
    pub(crate) fn bytes_about(&self) -> usize {
        let chunks = self.chunks.capacity() * size_of::<Option<Chunk>>();
        let of_body = size_of::<Packed>() + usize::from(self.has_tenants) * size_of::<u32>();
        self.count * of_body + chunks + self.by_key.capacity() * 17
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        let chunks = self.chunks.iter().flatten();
        let slots = chunks.map(|chunk| chunk.packed.capacity() * 8 + chunk.tenants.capacity() * 4);
        slots.sum::<usize>()
            + self.chunks.capacity() * size_of::<Option<Chunk>>()
            + self.by_key.capacity() * 17
    }

    pub(crate) fn highest(&self) -> impl Iterator<Item = BodyId> + '_ {
        self.highest.iter().map(BodyId)
    }

    fn find(&mut self, id: BodyId) -> Option<u32> {
        let key = id.0 >> 6;
        if let Some((last, place)) = self.last
            && last == key
        {
            return Some(place);
        }
        let place = *self.by_key.get(&key)?;
        self.last = Some((key, place));
        Some(place)
    }

    fn chunk(&self, id: BodyId) -> Option<&Chunk> {
        let place = match self.last {
            Some((key, place)) if key == id.0 >> 6 => place,
            _ => *self.by_key.get(&(id.0 >> 6))?,
        };
        self.chunks.get(place as usize)?.as_ref()
    }

    fn get(&self, id: BodyId) -> Option<Packed> {
        let chunk = self.chunk(id)?;
        chunk.packed.get(chunk.rank((id.0 & 63) as u32)?).copied()
    }

    /// Location of a body, and the maximum number of bytes of its record without its other
    /// operations.
    pub(crate) fn locate(&self, id: BodyId) -> Option<(Location, u64)> {
        let packed = self.get(id)?;
        Some((packed.location()?, class_bytes(packed.class())))
    }

    /// The next call is likely to be about this body too: its chunk is looked up only once.
    pub(crate) fn refs(&mut self, id: BodyId) -> u64 {
        match self.find(id) {
            Some(_) => self.get(id).map_or(0, Packed::refs),
            None => 0,
        }
    }

    /// How many entries refer to it; numbers that do not fit are capped.
    pub(crate) fn count_refs(&self, id: BodyId) -> u64 {
        self.get(id).map_or(0, Packed::refs)
    }

    pub(crate) fn holds(&self, id: BodyId) -> Holds {
        match self.get(id) {
            Some(packed) if packed.location().is_some() => packed.holds(),
            _ => Holds::NONE,
        }
    }

    /// Changes a slot; creates it if it does not exist, removes it if it ends up empty.
    fn change<T>(&mut self, id: BodyId, change: impl FnOnce(&mut Packed) -> T) -> T {
        self.change_or_remove(id, change).0
    }

    /// Like [`Bodies::change`], and returns the tenant of a slot that is removed.
    fn change_or_remove<T>(
        &mut self,
        id: BodyId,
        change: impl FnOnce(&mut Packed) -> T,
    ) -> (T, u32) {
        let place = match self.find(id) {
            Some(place) => place,
            None => self.add_chunk(id.0 >> 6),
        };
        self.keep_image(place as usize);
        let bit = (id.0 & 63) as u32;
        let Some(Some(chunk)) = self.chunks.get_mut(place as usize) else {
            // The table names a chunk that does not exist: treated as empty.
            return (change(&mut Packed::default()), 0);
        };
        let rank = (chunk.there & ((1 << bit) - 1)).count_ones() as usize;
        let is_there = chunk.there >> bit & 1 == 1;
        let mut packed = if is_there {
            chunk.packed[rank]
        } else {
            Packed(0)
        };
        let answer = change(&mut packed);
        let mut tenant = 0;
        match (is_there, packed.0 != 0) {
            (true, true) => chunk.packed[rank] = packed,
            (false, true) => chunk.insert(bit, rank, packed),
            (true, false) => tenant = chunk.remove(bit, rank),
            (false, false) => {}
        }
        if chunk.there == 0 {
            let key = chunk.key;
            self.chunks[place as usize] = None;
            self.free.push(place);
            self.by_key.remove(&key);
            self.last = None;
        }
        (answer, tenant)
    }

    /// Sets the tenant of a body that exists, and returns the one that it had.
    fn set_tenant(&mut self, id: BodyId, tenant: u32) -> u32 {
        let place = self.find(id);
        let chunk = place.and_then(|place| self.chunks.get_mut(place as usize)?.as_mut());
        let Some(chunk) = chunk else { return 0 };
        let rank = chunk.rank((id.0 & 63) as u32);
        rank.map_or(0, |rank| chunk.set_tenant(rank, tenant))
    }

    /// The tenant of a body; 0: none.
    fn tenant(&self, id: BodyId) -> u32 {
        let chunk = self.chunk(id);
        let tenant = chunk.and_then(|chunk| {
            let rank = chunk.rank((id.0 & 63) as u32)?;
            chunk.tenants.get(rank).copied()
        });
        tenant.unwrap_or_default()
    }

    fn add_chunk(&mut self, key: u64) -> u32 {
        let chunk = Chunk {
            key,
            there: 0,
            packed: Vec::new(),
            tenants: Vec::new(),
            epoch: self.epoch,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.chunks[place as usize] = Some(chunk);
                place
            }
            None => {
                self.chunks.push(Some(chunk));
                (self.chunks.len() - 1) as u32
            }
        };
        self.by_key.insert(key, place);
        self.last = Some((key, place));
        place
    }

    /// False: the body is known already.
    pub(crate) fn add(
        &mut self,
        id: BodyId,
        holds: Holds,
        location: Location,
        Cost { class, tenant }: Cost,
        live: &mut Live,
    ) -> bool {
        self.highest.raise(id);
        let added = self.change(id, |packed| {
            if packed.location().is_some() {
                return false;
            }
            let released = packed.holds().bits();
            packed.put_location(location, class);
            packed.put_holds(Holds::from_bits(holds.bits() & !released));
            true
        });
        if added {
            live.add(location.slot, class);
            self.count += 1;
            if tenant != 0 {
                self.has_tenants = true;
                self.set_tenant(id, tenant);
                live.count(tenant, class);
            }
        }
        added
    }

    /// Adds holds to a body, for recovery.
    pub(crate) fn hold(&mut self, id: BodyId, holds: Holds) {
        self.change(id, |packed| packed.put_holds(packed.holds().with(holds)));
    }

    pub(crate) fn release(&mut self, id: BodyId, holds: Holds, live: &mut Live) {
        if holds.intersects(Holds::ROUTING) {
            self.had.remove(&id.0);
        }
        self.change(id, |packed| {
            let bits = match packed.location() {
                Some(_) => packed.holds().bits() & !holds.bits(),
                None => packed.holds().bits() | holds.bits(),
            };
            packed.put_holds(Holds::from_bits(bits));
        });
        self.bury_if_dead(id, live);
    }

    /// Adds a reference, without a queue.
    pub(crate) fn add_ref(&mut self, id: BodyId) {
        self.add_ref_of(id, None);
    }

    /// Adds a reference of an entry; with `had`, records that the queue has had the body.
    pub(crate) fn add_ref_of(&mut self, id: BodyId, had: Option<QueueId>) {
        let (many, is_routed) = self.change(id, |packed| {
            packed.put_refs(packed.refs() + 1);
            (packed.refs() == REFS_MANY, packed.is_routed())
        });
        if many {
            *self.many.entry(id.0).or_insert(REFS_MANY - 1) += 1;
        }
        if let Some(queue) = had.filter(|_| is_routed) {
            self.note_had(id, queue);
        }
    }

    pub(crate) fn drop_ref(&mut self, id: BodyId, live: &mut Live) {
        self.end_ref_of(id, None, true, live);
    }

    /// Removes the reference of an ended entry, if it had one; with `had`, records in any case
    /// that the queue has had the body.
    pub(crate) fn end_ref_of(
        &mut self,
        id: BodyId,
        had: Option<QueueId>,
        was_there: bool,
        live: &mut Live,
    ) {
        let (mut died, mut many) = (None, false);
        let (is_routed, tenant) = self.change_or_remove(id, |packed| {
            let is_routed = packed.is_routed();
            let refs = packed.refs();
            many = was_there && refs == REFS_MANY;
            if was_there && !many {
                packed.put_refs(refs.saturating_sub(1));
                died = packed.take_if_dead();
            }
            is_routed
        });
        if many {
            self.drop_ref_of_many(id);
        }
        if let Some(queue) = had.filter(|_| is_routed) {
            self.note_had(id, queue);
        }
        self.buried(died, tenant, live);
    }

    /// Drops a reference of a body whose number of references is in `many`; some remain
    /// afterwards.
    fn drop_ref_of_many(&mut self, id: BodyId) {
        let many = self.many.entry(id.0).or_insert(REFS_MANY);
        *many -= 1;
        if *many < REFS_MANY {
            let refs = *many;
            self.many.remove(&id.0);
            self.change(id, |packed| packed.put_refs(refs));
        }
    }

    /// Records that the queue has or had an entry of a body that is still routed.
    pub(crate) fn note_had(&mut self, id: BodyId, queue: QueueId) {
        let had = self.had.entry(id.0).or_default();
        // Usually few; if many, duplicates are removed now and then.
        if had.len() < 32 && had.contains(&queue) {
            return;
        }
        had.push(queue);
        if had.len() >= 32 && had.len().is_power_of_two() {
            had.sort_unstable();
            had.dedup();
        }
    }

    /// The queues that have or had an entry, each once.
    pub(crate) fn had(&self, id: BodyId) -> Vec<QueueId> {
        let mut had = self.had.get(&id.0).cloned().unwrap_or_default();
        had.sort_unstable();
        had.dedup();
        had
    }

    pub(crate) fn bury_if_dead(&mut self, id: BodyId, live: &mut Live) {
        if self.get(id).is_some_and(Packed::is_dead) {
            let (died, tenant) = self.change_or_remove(id, Packed::take_if_dead);
            self.buried(died, tenant, live);
        }
    }

    fn buried(&mut self, died: Option<(Location, u8)>, tenant: u32, live: &mut Live) {
        if let Some((location, class)) = died {
            live.take(location.slot, class);
            live.uncount(tenant, class);
            self.count -= 1;
        }
    }

    /// Changes the location of a live body; with `from`, only if that was its location.
    pub(crate) fn relocate(
        &mut self,
        id: BodyId,
        from: Option<Location>,
        to: Location,
        class: u8,
        live: &mut Live,
    ) {
        let Some(old) = self.get(id) else { return };
        let Some(place) = old.location() else { return };
        if from.is_none_or(|from| from == place) {
            self.change(id, |packed| packed.put_location(to, class));
            live.take(place.slot, old.class());
            live.add(to.slot, class);
            if class != old.class() {
                let tenant = self.tenant(id);
                live.uncount(tenant, old.class());
                live.count(tenant, class);
            }
        }
    }

    /// Bodies with any of these holds, by id.
    pub(crate) fn held(&self, holds: Holds) -> Vec<(BodyId, Location)> {
        let mut held = Vec::new();
        self.each(|id, packed| {
            if let Some(location) = packed.location()
                && packed.holds().intersects(holds)
            {
                held.push((id, location));
            }
        });
        held.sort_unstable_by_key(|(id, _)| *id);
        held
    }

    /// Calls `each` with the location and size class of each body, in `count` chunks from `next`
    /// on. Returns the next chunk; `None`: there are no more.
    pub(crate) fn each_place(
        &self,
        next: usize,
        count: usize,
        mut each: impl FnMut(Location, u8),
    ) -> Option<usize> {
        let end = next.saturating_add(count.max(1)).min(self.chunks.len());
        let chunks = self.chunks.get(next..end).unwrap_or_default();
        for packed in chunks.iter().flatten().flat_map(|chunk| &chunk.packed) {
            if let Some(location) = packed.location() {
                each(location, packed.class());
            }
        }
        (end < self.chunks.len()).then_some(end)
    }

    /// Bodies in the segment, and bodies of entries without a location.
    pub(crate) fn each_located(&self, mut each: impl FnMut(BodyId, Option<Location>)) {
        self.each(|id, packed| {
            if packed.location().is_some() || packed.refs() > 0 {
                each(id, packed.location());
            }
        });
    }

    fn each(&self, mut each: impl FnMut(BodyId, Packed)) {
        for chunk in self.chunks.iter().flatten() {
            let mut there = chunk.there;
            for packed in &chunk.packed {
                each(
                    BodyId(chunk.key << 6 | u64::from(there.trailing_zeros())),
                    *packed,
                );
                there &= there.wrapping_sub(1);
            }
        }
    }

    /// Clears all references; returns those of existing bodies.
    pub(crate) fn clear_refs(&mut self) -> Vec<(BodyId, u64)> {
        let mut counted = Vec::new();
        self.each(|id, packed| {
            if packed.location().is_some() && packed.refs() > 0 {
                counted.push((id, packed.refs()));
            }
        });
        self.many.clear();
        for chunk in self.chunks.iter_mut().flatten() {
            chunk
                .packed
                .iter_mut()
                .for_each(|packed| packed.put_refs(0));
        }
        counted
    }

    /// Removes dead bodies. Also forgets early releases of bodies that no longer exist or never
    /// will: an id that is not above the highest seen is not used again after recovery.
    pub(crate) fn sweep(&mut self, live: &mut Live) {
        let mut gone = Vec::new();
        self.each(|id, packed| {
            let old = self.highest.reaches(id);
            if packed.location().is_some() && packed.is_dead()
                || packed.location().is_none() && packed.refs() == 0 && old
            {
                gone.push((id, packed));
            }
        });
        for (id, packed) in gone {
            let ((), tenant) = self.change_or_remove(id, |packed| packed.0 = 0);
            if let Some(location) = packed.location() {
                live.take(location.slot, packed.class());
                live.uncount(tenant, packed.class());
                self.count -= 1;
            }
        }
    }

    /// Removes every body for which `is_lost`, and calls `each` with its location; entries that
    /// refer to it stay and find nothing. Its bytes stay counted for its segment.
    pub(crate) fn lose(
        &mut self,
        is_lost: impl Fn(Location) -> bool,
        live: &mut Live,
        mut each: impl FnMut(u16),
    ) {
        let mut lost = Vec::new();
        self.each(|id, packed| {
            if let Some(location) = packed.location()
                && is_lost(location)
            {
                lost.push((id, packed.class()));
                each(location.slot);
            }
        });
        for (id, class) in &lost {
            live.uncount(self.set_tenant(*id, 0), *class);
            self.change(*id, |packed| packed.0 = packed.refs());
            self.had.remove(&id.0);
            self.count -= 1;
        }
    }

    pub(crate) fn begin_capture(&mut self) {
        self.epoch += 1;
        self.capture = Some(Capture {
            next: 0,
            before: Vec::new(),
        });
    }

    pub(crate) fn end_capture(&mut self) {
        self.capture = None;
    }

    fn keep_image(&mut self, place: usize) {
        if let Some(capture) = &mut self.capture
            && let Some(Some(chunk)) = self.chunks.get_mut(place)
            && chunk.epoch != self.epoch
            && !fault::is(Fault::CheckpointBlurred)
        {
            chunk.epoch = self.epoch;
            capture.before.push(chunk.clone());
        }
    }

    /// Appends about `bytes_max` bytes of the image; true when it is complete.
    pub(crate) fn capture(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> bool {
        let Some(capture) = &mut self.capture else {
            return true;
        };
        let stop = out.len() + bytes_max;
        while capture.next < self.chunks.len() {
            if out.len() >= stop {
                return false;
            }
            if let Some(chunk) = &mut self.chunks[capture.next]
                && chunk.epoch != self.epoch
            {
                chunk.epoch = self.epoch;
                encode_chunk(chunk, out);
            }
            capture.next += 1;
        }
        while out.len() < stop {
            let Some(chunk) = capture.before.pop() else {
                return true;
            };
            encode_chunk(&chunk, out);
        }
        capture.before.is_empty()
    }

    /// Appends the data outside the chunks, as of [`Bodies::begin_capture`].
    pub(crate) fn capture_rest(&self, out: &mut Vec<u8>) {
        put_varint(out, self.highest.iter().count() as u64);
        for id in self.highest.iter() {
            put_varint(out, id);
        }
        put_varint(out, self.many.len() as u64);
        for (id, refs) in &self.many {
            put_varint(out, *id);
            put_varint(out, *refs);
        }
        let mut routed: Vec<u64> = self.had.keys().copied().collect();
        routed.sort_unstable();
        put_varint(out, routed.len() as u64);
        for id in routed {
            let had = self.had(BodyId(id));
            put_varint(out, id);
            put_varint(out, had.len() as u64);
            for queue in had {
                put_varint(out, queue.0);
            }
        }
    }

    pub(crate) fn load_rest(&mut self, input: &mut &[u8]) -> Option<()> {
        for _ in 0..take_varint(input)? {
            self.highest.raise(BodyId(take_varint(input)?));
        }
        for _ in 0..take_varint(input)? {
            let id = take_varint(input)?;
            self.many.insert(id, take_varint(input)?);
        }
        for _ in 0..take_varint(input)? {
            let id = take_varint(input)?;
            let mut had = Vec::new();
            for _ in 0..take_varint(input)? {
                had.push(QueueId(take_varint(input)?));
            }
            self.had.insert(id, had);
        }
        Some(())
    }

    /// Parses chunks from `input` until it is empty: see [`encode_chunk`].
    pub(crate) fn load(&mut self, mut input: &[u8], live: &mut Live) -> Option<()> {
        while !input.is_empty() {
            let key = take_varint(&mut input)?;
            let mut there = take_u64(&mut input)?;
            let has_tenants = there == 0;
            if has_tenants {
                there = take_u64(&mut input)?;
            }
            let count = there.count_ones() as usize;
            let packed = take_bytes(&mut input, count * size_of::<u64>())?;
            let tenants = match has_tenants {
                true => take_bytes(&mut input, count * size_of::<u32>())?,
                false => &[],
            };
            if there == 0 || self.by_key.contains_key(&key) {
                return None;
            }
            let packed: Vec<Packed> = packed
                .chunks_exact(8)
                .filter_map(read_u64)
                .map(Packed)
                .collect();
            let tenants = tenants.chunks_exact(size_of::<u32>()).filter_map(read_u32);
            let tenants: Vec<u32> = tenants.collect();
            self.has_tenants |= has_tenants;
            for (rank, packed) in packed.iter().enumerate() {
                if let Some(location) = packed.location() {
                    live.add(location.slot, packed.class());
                    live.count(tenants.get(rank).copied().unwrap_or(0), packed.class());
                    self.count += 1;
                }
            }
            let place = self.add_chunk(key) as usize;
            if let Some(Some(chunk)) = self.chunks.get_mut(place) {
                chunk.there = there;
                chunk.packed = packed;
                chunk.tenants = tenants;
            }
        }
        Some(())
    }
}

fn take_bytes<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

fn take_u64(input: &mut &[u8]) -> Option<u64> {
    take_bytes(input, size_of::<u64>()).and_then(read_u64)
}

/// Encodes a chunk: its key, which slots there are, the slots. If some have a tenant, eight zero
/// bytes stand before the second, which no older program takes for a chunk, and the tenants follow.
fn encode_chunk(chunk: &Chunk, out: &mut Vec<u8>) {
    put_varint(out, chunk.key);
    let has_tenants = chunk.tenants.iter().any(|tenant| *tenant != 0);
    if has_tenants {
        out.extend_from_slice(&0_u64.to_le_bytes());
    }
    out.extend_from_slice(&chunk.there.to_le_bytes());
    for packed in &chunk.packed {
        out.extend_from_slice(&packed.0.to_le_bytes());
    }
    if has_tenants {
        for tenant in &chunk.tenants {
            out.extend_from_slice(&tenant.to_le_bytes());
        }
    }
}
