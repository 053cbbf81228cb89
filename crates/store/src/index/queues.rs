//! The queues: the entries of each in order, packed, and its tokens.
//!
//! An entry is a row: body; lane and number of its extra; note, note. Bits of body ids are rotated
//! so that the shard's bits come last: ids of several shards in one queue are then close together.

use super::number_map::NumberMap;
use crate::record::{BodyId, EntryKey, QueueId};
use martlet_rows::{Alike, BLOCK_ROWS, RowPosition, Rows, put_varint, take_varint};

type Row = [u64; 4];

#[derive(Clone, Debug, Default)]
struct Queue {
    id: QueueId,
    rows: Rows<4>,
    /// Tokens and their notes, ordered by token.
    tokens: Vec<(u32, u32)>,
    /// Extras, which few entries have; most of those that have one have the same.
    extras: Option<Box<Alike<u8>>>,
    newest: Newest,
    /// The capture that has already copied this queue.
    epoch: u32,
    /// Whether it is on the list of queues that may be empty.
    idle: bool,
}

/// The second column: the lane, and the number of an extra; 0: none.
fn lane_and_extra(lane: u8, extra: u32) -> u64 {
    u64::from(extra) << 8 | u64::from(lane)
}

fn lane_of(row: Row) -> u8 {
    row[1] as u8
}

fn extra_of(row: Row) -> Option<u32> {
    Some((row[1] >> 8) as u32).filter(|number| *number != 0)
}

/// The highest number of an extra.
const EXTRA_MAX: u64 = u32::MAX as u64 / 2;

impl Queue {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.tokens.is_empty()
    }

    fn find(&self, body: BodyId, lane: u8) -> Option<(RowPosition, Row)> {
        self.rows.find(body.turned(), |row| lane_of(*row) == lane)
    }

    /// Counts the extras of rows that were loaded; `None` if a number is invalid.
    fn count_extras(&mut self, rows: &Rows<4>) -> Option<()> {
        let extras = self.extras.get_or_insert_default();
        for row in rows.iter() {
            if row[1] >> 8 > EXTRA_MAX {
                return None;
            }
            if let Some(number) = extra_of(row) {
                extras.count(number);
            }
        }
        Some(())
    }
}

/// Per shard (the lower six bits of a rotated id), the highest rotated id that was ever enqueued.
/// Higher ids are certainly not in the queue.
#[derive(Clone, Debug, Default)]
struct Newest {
    one: u64,
    more: Vec<u64>,
}

impl Newest {
    /// False: the id is higher than all of its shard.
    fn reaches(&self, turned: u64) -> bool {
        let mut all = std::iter::once(&self.one).chain(&self.more);
        turned == 0 || all.any(|other| (other ^ turned) & 63 == 0 && turned <= *other)
    }

    /// True: this id is higher than all of its shard.
    fn raise(&mut self, turned: u64) -> bool {
        let same_shard = |other: u64| (other ^ turned) & 63 == 0;
        if turned == 0 {
            // Zero means "none" here.
            return false;
        }
        if self.one == 0 {
            self.one = turned;
            return true;
        }
        let other = match same_shard(self.one) {
            true => &mut self.one,
            false => {
                let index = self.more.iter().position(|other| same_shard(*other));
                match index {
                    Some(index) => &mut self.more[index],
                    None => {
                        self.more.push(turned);
                        return true;
                    }
                }
            }
        };
        let is_new = turned > *other;
        *other = turned.max(*other);
        is_new
    }
}

/// The entries of a forgotten queue, kept until the reference counts of their bodies are reduced.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    rows: Rows<4>,
    newest: Newest,
}

impl Forgotten {
    /// Removes an entry; returns its body.
    pub(crate) fn pop(&mut self) -> Option<BodyId> {
        self.rows.pop_front().map(|row| BodyId::of_turned(row[0]))
    }

    /// Removes all entries of a body; returns how many there were.
    pub(crate) fn take(&mut self, body: BodyId) -> usize {
        let turned = body.turned();
        if !self.newest.reaches(turned) {
            return 0;
        }
        let mut count = 0;
        while self.rows.take(turned, |_| true).is_some() {
            count += 1;
        }
        count
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queues {
    queues: Vec<Option<Box<Queue>>>,
    free: Vec<u32>,
    by_id: NumberMap<u64, u32>,
    /// Id and position of the queue that was changed last.
    last: Option<(u64, u32)>,
    /// Queues that became empty: they are kept for a while, because most fill again soon.
    idle: Vec<u32>,
    entries: usize,
    epoch: u32,
    capture: Option<Capture>,
}

#[derive(Debug)]
struct Capture {
    next: usize,
    before: Vec<Queue>,
    /// Number of entries of each queue that was written.
    counts: Vec<(QueueId, u64)>,
    /// A long queue that is being written, and its next block.
    long: Option<(Queue, usize)>,
}

/// Rows of a long queue that are not yet packed, on average.
const UNPACKED_ROWS: usize = BLOCK_ROWS / 2;
/// Bytes of a packed row, on average.
const PACKED_ROW_BYTES: usize = 6;

/// Number of idle queues above which the empty ones among them are dropped.
const IDLE_MAX: usize = 1024;

impl Queues {
    pub(crate) fn entries_count(&self) -> usize {
        self.entries
    }

    /// How many queues there are that are not empty.
    pub(crate) fn count(&self) -> usize {
        self.queues
            .iter()
            .flatten()
            .filter(|q| !q.is_empty())
            .count()
    }

    /// Approximate number of bytes on the heap, without a walk over the queues.
    pub(crate) fn bytes_about(&self) -> usize {
        let queues = self.by_id.len();
        let unpacked = self.entries.min(queues * UNPACKED_ROWS);
        let packed = self.entries - unpacked;
        queues * size_of::<Queue>()
            + unpacked * size_of::<Row>()
            + packed * PACKED_ROW_BYTES
            + self.queues.capacity() * 8
            + self.by_id.capacity() * 17
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        let queues = self.queues.iter().flatten();
        let each = queues.map(|q| {
            let extras = q.extras.as_ref().map_or(0, |extras| extras.bytes());
            size_of::<Queue>() + q.rows.bytes() + q.tokens.capacity() * 8 + extras
        });
        each.sum::<usize>() + self.queues.capacity() * 8 + self.by_id.capacity() * 17
    }

    fn get(&self, id: QueueId) -> Option<&Queue> {
        let place = *self.by_id.get(&id.0)?;
        self.queues.get(place as usize)?.as_deref()
    }

    /// Returns the queue, which is about to change; `None` if it does not exist and `make` is
    /// false.
    fn change(&mut self, id: QueueId, make: bool) -> Option<(u32, &mut Queue)> {
        let place = match self.last.filter(|(last, _)| *last == id.0) {
            Some((_, place)) => place,
            None => match self.by_id.get(&id.0) {
                Some(place) => *place,
                None if make => self.add(id),
                None => return None,
            },
        };
        self.last = Some((id.0, place));
        let queue = self.queues.get_mut(place as usize)?.as_deref_mut()?;
        if let Some(capture) = &mut self.capture
            && queue.epoch != self.epoch
        {
            queue.epoch = self.epoch;
            capture.before.push(queue.clone());
        }
        Some((place, queue))
    }

    fn add(&mut self, id: QueueId) -> u32 {
        let queue = Box::new(Queue {
            id,
            epoch: self.epoch,
            ..Queue::default()
        });
        let place = match self.free.pop() {
            Some(place) => {
                self.queues[place as usize] = Some(queue);
                place
            }
            None => {
                self.queues.push(Some(queue));
                (self.queues.len() - 1) as u32
            }
        };
        self.by_id.insert(id.0, place);
        place
    }

    fn note_idle(&mut self, place: u32) {
        if let Some(Some(queue)) = self.queues.get_mut(place as usize)
            && queue.is_empty()
            && !queue.idle
        {
            queue.idle = true;
            self.idle.push(place);
        }
        if self.idle.len() > IDLE_MAX {
            self.drop_idle();
        }
    }

    /// Drops empty queues.
    pub(crate) fn drop_idle(&mut self) {
        for place in std::mem::take(&mut self.idle) {
            let Some(entry) = self.queues.get_mut(place as usize) else {
                continue;
            };
            if let Some(queue) = entry {
                queue.idle = false;
                if queue.is_empty() {
                    self.last = None;
                    self.by_id.remove(&queue.id.0);
                    *entry = None;
                    self.free.push(place);
                }
            }
        }
    }

    /// False: the entry exists already. `may_be_there` false: skip the search.
    pub(crate) fn enqueue(
        &mut self,
        entry: EntryKey,
        note: [u64; 2],
        extra: &[u8],
        may_be_there: bool,
    ) -> bool {
        let Some((place, queue)) = self.change(entry.queue, true) else {
            return false;
        };
        let turned = entry.body.turned();
        let is_new = queue.newest.raise(turned);
        if may_be_there && !is_new && queue.find(entry.body, entry.lane).is_some() {
            self.note_idle(place);
            return false;
        }
        let extra = match extra {
            [] => 0,
            _ => queue.extras.get_or_insert_default().keep(extra).0,
        };
        let row = [turned, lane_and_extra(entry.lane, extra), note[0], note[1]];
        queue.rows.push_back(row);
        self.entries += 1;
        true
    }

    pub(crate) fn amend(&mut self, entry: EntryKey, note: [u64; 2]) {
        if let Some((_, queue)) = self.change(entry.queue, false)
            && let Some((place, row)) = queue.find(entry.body, entry.lane)
        {
            queue
                .rows
                .replace(place, [row[0], row[1], note[0], note[1]]);
        }
    }

    /// False: the entry did not exist.
    pub(crate) fn end(&mut self, entry: EntryKey) -> bool {
        let Some((index, queue)) = self.change(entry.queue, false) else {
            return false;
        };
        let key = entry.body.turned();
        let taken = queue.rows.take(key, |row| lane_of(*row) == entry.lane);
        let Some(taken) = taken else {
            return false;
        };
        if let Some(number) = extra_of(taken)
            && let Some(extras) = &mut queue.extras
        {
            extras.let_go(number);
            if extras.is_empty() {
                queue.extras = None;
            }
        }
        self.entries -= 1;
        self.note_idle(index);
        true
    }

    pub(crate) fn token(&mut self, id: QueueId, token: u32, note: u32) {
        if let Some((_, queue)) = self.change(id, true) {
            match queue
                .tokens
                .binary_search_by_key(&token, |(token, _)| *token)
            {
                Ok(index) => queue.tokens[index].1 = note,
                Err(index) => queue.tokens.insert(index, (token, note)),
            }
        }
    }

    pub(crate) fn end_token(&mut self, id: QueueId, token: u32) {
        if let Some((place, queue)) = self.change(id, false)
            && let Ok(index) = queue
                .tokens
                .binary_search_by_key(&token, |(token, _)| *token)
        {
            queue.tokens.remove(index);
            if queue.tokens.is_empty() {
                queue.tokens = Vec::new();
            }
            self.note_idle(place);
        }
    }

    /// Ends all entries and tokens of a queue; returns its entries.
    pub(crate) fn forget(&mut self, id: QueueId) -> Forgotten {
        let Some((place, queue)) = self.change(id, false) else {
            return Forgotten::default();
        };
        let forgotten = Forgotten {
            rows: std::mem::take(&mut queue.rows),
            newest: queue.newest.clone(),
        };
        queue.tokens = Vec::new();
        queue.extras = None;
        self.entries -= forgotten.rows.len();
        self.note_idle(place);
        forgotten
    }

    /// Queues that are not empty, ordered.
    pub(crate) fn ids(&self) -> Vec<QueueId> {
        let queues = self.queues.iter().flatten();
        let mut ids: Vec<QueueId> = queues.filter(|q| !q.is_empty()).map(|q| q.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Entries of a queue in order: body, lane, note, extra.
    pub(crate) fn entries(
        &self,
        id: QueueId,
    ) -> impl Iterator<Item = (BodyId, u8, [u64; 2], &[u8])> + '_ {
        let queue = self.get(id);
        let rows = queue.into_iter().flat_map(|queue| queue.rows.iter());
        rows.map(move |row| {
            let (body, lane) = (BodyId::of_turned(row[0]), lane_of(row));
            let extras = queue.and_then(|queue| queue.extras.as_ref());
            let extra = extras.zip(extra_of(row));
            let extra = extra.map_or(&[][..], |(extras, number)| extras.get(number));
            (body, lane, [row[2], row[3]], extra)
        })
    }

    /// The note of an entry, if the entry exists.
    pub(crate) fn note(&self, entry: EntryKey) -> Option<[u64; 2]> {
        let (_, row) = self.get(entry.queue)?.find(entry.body, entry.lane)?;
        Some([row[2], row[3]])
    }

    pub(crate) fn tokens(&self, id: QueueId) -> &[(u32, u32)] {
        self.get(id).map_or(&[], |queue| &queue.tokens)
    }

    /// Every entry, queue by queue.
    pub(crate) fn each_entry(&self, mut each: impl FnMut(EntryKey, [u64; 2])) {
        for queue in self.queues.iter().flatten() {
            for row in queue.rows.iter() {
                let entry = EntryKey {
                    queue: queue.id,
                    body: BodyId::of_turned(row[0]),
                    lane: lane_of(row),
                };
                each(entry, [row[2], row[3]]);
            }
        }
    }

    pub(crate) fn begin_capture(&mut self) {
        self.epoch += 1;
        self.capture = Some(Capture {
            next: 0,
            before: Vec::new(),
            counts: Vec::new(),
            long: None,
        });
    }

    pub(crate) fn end_capture(&mut self) {
        self.capture = None;
    }

    /// Appends about `bytes_max` bytes of the image; true when it is complete.
    pub(crate) fn capture(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> bool {
        let Some(capture) = &mut self.capture else {
            return true;
        };
        let stop = out.len() + bytes_max;
        while out.len() < stop {
            if let Some((queue, block)) = &mut capture.long {
                *block = encode(queue, *block, stop - out.len(), out);
                if *block >= queue.rows.block_count() {
                    capture.long = None;
                }
                continue;
            }
            let queue = match self.queues.get_mut(capture.next) {
                Some(queue) => {
                    capture.next += 1;
                    let queue = queue.as_deref_mut().filter(|q| q.epoch != self.epoch);
                    let Some(queue) = queue else { continue };
                    queue.epoch = self.epoch;
                    // Its packed blocks are shared, not copied.
                    queue.clone()
                }
                None => match capture.before.pop() {
                    Some(queue) => queue,
                    None => return true,
                },
            };
            if !queue.is_empty() {
                capture.counts.push((queue.id, queue.rows.len() as u64));
                let block = encode(&queue, 0, stop.saturating_sub(out.len()).max(1), out);
                if block < queue.rows.block_count() {
                    capture.long = Some((queue, block));
                }
            }
        }
        false
    }

    /// Appends how many entries each queue has in the image, after the image is complete.
    pub(crate) fn capture_counts(&self, out: &mut Vec<u8>) {
        let counts = self.capture.iter().flat_map(|capture| &capture.counts);
        for (queue, count) in counts {
            put_varint(out, queue.0);
            put_varint(out, *count);
        }
    }

    /// Parses from `input` what [`Queues::capture_counts`] has appended.
    pub(crate) fn take_counts(input: &mut &[u8]) -> Option<Vec<(QueueId, u64)>> {
        let mut counts = Vec::new();
        while !input.is_empty() {
            counts.push((QueueId(take_varint(input)?), take_varint(input)?));
        }
        Some(counts)
    }

    /// Entries of a queue.
    pub(crate) fn count_of(&self, id: QueueId) -> u64 {
        self.get(id).map_or(0, |queue| queue.rows.len() as u64)
    }

    /// Parses queues, or parts of them, from `input` until it is empty.
    pub(crate) fn load(&mut self, mut input: &[u8]) -> Option<()> {
        let input = &mut input;
        while !input.is_empty() {
            let id = QueueId(take_varint(input)?);
            let part = take_varint(input)?;
            self.change(id, true);
            let place = *self.by_id.get(&id.0)?;
            let queue = self.queues.get_mut(place as usize)?.as_deref_mut()?;
            let has_extras = part & HAS_EXTRAS != 0;
            if part & FIRST != 0 {
                load_rest(queue, has_extras, input)?;
            }
            if has_extras {
                let mut rows = Rows::new();
                rows.decode(&mut &**input)?;
                queue.count_extras(&rows)?;
            }
            let before = queue.rows.len();
            let loaded = queue.rows.decode(input);
            self.entries += queue.rows.len() - before;
            loaded?;
        }
        Some(())
    }
}

/// Flag: a part of a queue that begins with the queue's other data (all except rows).
const FIRST: u64 = 1;
/// Rows of the queue have extras.
const HAS_EXTRAS: u64 = 1 << 1;

/// Appends blocks from `block` on, and before the first one the other data of the queue. Returns
/// the next block.
fn encode(queue: &Queue, block: usize, bytes_max: usize, out: &mut Vec<u8>) -> usize {
    put_varint(out, queue.id.0);
    let first = if block == 0 { FIRST } else { 0 };
    let has_extras = if queue.extras.is_some() {
        HAS_EXTRAS
    } else {
        0
    };
    put_varint(out, first | has_extras);
    if block == 0 {
        let newest = std::iter::once(&queue.newest.one).chain(&queue.newest.more);
        put_varint(out, newest.clone().count() as u64);
        newest.for_each(|turned| put_varint(out, *turned));
        put_varint(out, queue.tokens.len() as u64);
        for (token, note) in &queue.tokens {
            put_varint(out, (*token).into());
            put_varint(out, (*note).into());
        }
        let extras = queue.extras.iter().flat_map(|extras| extras.iter());
        put_varint(out, extras.clone().count() as u64);
        for (number, extra) in extras {
            put_varint(out, number.into());
            put_varint(out, extra.len() as u64);
            out.extend_from_slice(extra);
        }
    }
    queue.rows.encode_blocks(block, bytes_max, out)
}

fn load_rest(queue: &mut Queue, has_extras: bool, input: &mut &[u8]) -> Option<()> {
    for index in 0..take_varint(input)? {
        let turned = take_varint(input)?;
        match index {
            0 => queue.newest.one = turned,
            _ => queue.newest.more.push(turned),
        }
    }
    for _ in 0..take_varint(input)? {
        let token = u32::try_from(take_varint(input)?).ok()?;
        let note = u32::try_from(take_varint(input)?).ok()?;
        queue.tokens.push((token, note));
    }
    let extras_count = take_varint(input)?;
    if extras_count > 0 && !has_extras {
        // Older formats kept extras by entry: the segments are searched for the entries instead.
        return None;
    }
    for _ in 0..extras_count {
        let number = take_varint(input)?;
        if number > EXTRA_MAX {
            return None;
        }
        let len = usize::try_from(take_varint(input)?).ok()?;
        let (extra, rest) = input.split_at_checked(len)?;
        *input = rest;
        let extras = queue.extras.get_or_insert_default();
        extras.restore(number as u32, extra);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueId = QueueId(9);

    fn entry(number: u64) -> EntryKey {
        EntryKey {
            queue: QUEUE,
            body: BodyId(number),
            lane: 1,
        }
    }

    /// 20,000 entries with these extras.
    fn queues(extra: impl Fn(u64) -> &'static [u8]) -> Queues {
        let mut queues = Queues::default();
        for number in 1..=20_000 {
            assert!(queues.enqueue(entry(number), [7, 0], extra(number), false));
        }
        queues
    }

    fn extras(queues: &Queues) -> Vec<Vec<u8>> {
        let entries = queues.entries(QUEUE);
        entries.map(|(_, _, _, extra)| extra.to_vec()).collect()
    }

    fn mixed(number: u64) -> &'static [u8] {
        [&b""[..], b"one", b"other", b"one"][number as usize % 4]
    }

    /// The parts of a checkpoint for these queues.
    fn parts(queues: &mut Queues) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        queues.begin_capture();
        loop {
            let mut part = Vec::new();
            let is_all = queues.capture(4096, &mut part);
            parts.push(part);
            if is_all {
                queues.end_capture();
                return parts;
            }
        }
    }

    #[test]
    fn an_extra_that_all_entries_have_takes_no_memory_for_each() {
        let plain = queues(|_| b"").bytes();
        let same = queues(|_| b"an extra of a few bytes").bytes();
        assert!(same * 50 <= plain * 51, "{same}, not {plain}");
        assert!(queues(mixed).bytes() <= plain + 2 * 20_000 + 400);
    }

    #[test]
    fn extras_come_back_from_a_checkpoint_and_go_with_their_entries() {
        let mut before = queues(mixed);
        let mut queues = Queues::default();
        let parts = parts(&mut before);
        assert!(parts.len() > 3, "{}", parts.len());
        for part in &parts {
            assert_eq!(queues.load(part), Some(()));
        }
        assert_eq!(extras(&queues), extras(&before));
        for number in 1..=19_999 {
            assert!(queues.end(entry(number)));
        }
        assert_eq!(extras(&queues), [mixed(20_000)]);
        assert!(
            queues
                .get(QUEUE)
                .is_some_and(|queue| queue.extras.is_none())
        );
    }

    #[test]
    fn extras_lost_with_their_part_of_a_checkpoint_do_not_become_others() {
        let mut queues = Queues::default();
        let parts = parts(&mut self::queues(|_| b"lost"));
        for part in &parts[1..] {
            assert_eq!(queues.load(part), Some(()));
        }
        queues.enqueue(entry(30_000), [7, 0], b"new", false);
        let extras = extras(&queues);
        let (last, others) = extras.split_last().expect("there are parts");
        assert_eq!(last, b"new");
        assert!(!others.is_empty() && others.iter().all(Vec::is_empty));
    }
}
