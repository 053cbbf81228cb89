//! Values that are in the journal and not yet in blocks.
//!
//! The writer adds committed values to the active generation. When that is large, it becomes the
//! frozen generation, which moves into blocks while the next one fills. Readers read memory first
//! and the blocks afterwards: a value that moves in between is seen twice, never missed.
//!
//! The frozen generation is never changed, so readers hold the lock only to copy values of the
//! active one. The writer holds it for a few hundred values at a time.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::value::{DAY, Instant, Sample, SeriesId, Time, Value, day_of};

/// Bytes of a value, with its share of its list's capacity.
const VALUE_BYTES: usize = 72;
/// Bytes of a series besides its values.
const SERIES_BYTES: usize = 128;

/// Hashes numbers of series. The storage assigns them in sequence, so users cannot choose numbers
/// that collide.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SeriesHasher(u64);

impl Hasher for SeriesHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio; the product's upper bits are the mixed ones.
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed.rotate_left(32);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }
}

/// A map by series number.
pub(crate) type BySeries<T> = HashMap<SeriesId, T, BuildHasherDefault<SeriesHasher>>;

/// Values of one series.
#[derive(Debug, Default)]
struct SeriesValues {
    /// Values that arrived in order of time: nearly all of them.
    in_order: Vec<Sample>,
    /// Values that arrived after a later one, at instants that are not in `in_order`.
    late: BTreeMap<Instant, Value>,
}

impl SeriesValues {
    /// Adds a value. Returns the replaced value of the same instant.
    fn insert(&mut self, sample: Sample) -> Option<Value> {
        if self.in_order.last().is_none_or(|last| last.at < sample.at) {
            self.in_order.push(sample);
            return None;
        }
        let found = self.in_order.binary_search_by(|one| one.at.cmp(&sample.at));
        match found {
            Ok(place) => Some(std::mem::replace(
                &mut self.in_order[place].value,
                sample.value,
            )),
            Err(_) => self.late.insert(sample.at, sample.value),
        }
    }

    /// Values of `in_order` in a time span.
    fn span(&self, from: Instant, until: Instant) -> &[Sample] {
        let begin = self.in_order.partition_point(|one| one.at < from);
        let end = self.in_order.partition_point(|one| one.at < until);
        // A span that ends before its beginning is empty.
        self.in_order.get(begin..end).unwrap_or_default()
    }

    /// Values of `late` in a time span.
    fn late_span(
        &self,
        from: Instant,
        until: Instant,
    ) -> impl DoubleEndedIterator<Item = (&Instant, &Value)> {
        // A range that ends before its beginning would panic.
        self.late.range(from..until.max(from))
    }

    /// The first `limit` samples of a span in order, or the last ones, newest first. Up to twice
    /// as many may be returned.
    fn scan(&self, from: Instant, until: Instant, newest_first: bool, limit: usize) -> Vec<Sample> {
        let in_order = self.span(from, until).iter();
        let late = self.late_span(from, until).map(sample_of);
        match newest_first {
            true => merge(
                in_order.rev().take(limit).cloned().collect(),
                late.rev().take(limit).collect(),
                true,
            ),
            false => merge(
                in_order.take(limit).cloned().collect(),
                late.take(limit).collect(),
                false,
            ),
        }
    }

    /// The first time in a span with a value.
    fn first_time(&self, from: Instant, until: Instant) -> Option<Time> {
        let in_order = self.span(from, until).first().map(|one| one.at.time);
        let late = self.late_span(from, until).next().map(|(at, _)| at.time);
        match (in_order, late) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Approximate bytes of the values in the journal.
    fn journal_bytes(&self) -> usize {
        let in_order = self.in_order.iter().map(|sample| &sample.value);
        let values = in_order.chain(self.late.values());
        values.map(Value::journal_bytes).sum()
    }

    /// All values, in order.
    fn all(&self) -> Vec<Sample> {
        let late = self.late.iter().map(sample_of).collect();
        merge(self.in_order.clone(), late, false)
    }
}

fn sample_of((at, value): (&Instant, &Value)) -> Sample {
    Sample {
        at: *at,
        value: value.clone(),
    }
}

/// Values by series and time.
#[derive(Debug)]
pub(crate) struct Generation {
    series: BySeries<SeriesValues>,
    bytes: usize,
    /// Approximate bytes that its values take in blocks at most.
    block_bytes: usize,
    /// The earliest time of a value.
    first_time: Time,
}

impl Default for Generation {
    fn default() -> Self {
        Self::with_room(0)
    }
}

impl Generation {
    /// An empty one, with capacity for this number of series: readers wait while a table grows.
    fn with_room(series: usize) -> Self {
        Self {
            series: HashMap::with_capacity_and_hasher(series, BuildHasherDefault::default()),
            bytes: 0,
            block_bytes: 0,
            first_time: Time::MAX,
        }
    }

    /// Adds a value, or replaces the one with the same identity.
    pub(crate) fn insert(&mut self, series: SeriesId, sample: Sample) {
        let text_bytes = sample.value.text_bytes();
        self.block_bytes += sample.value.block_bytes();
        let before = self.series.len();
        self.first_time = self.first_time.min(sample.at.time);
        let values = self.series.entry(series).or_default();
        let replaced = values.insert(sample);
        if self.series.len() > before {
            self.bytes += SERIES_BYTES;
        }
        self.bytes += text_bytes;
        match replaced {
            Some(old) => {
                self.bytes -= old.text_bytes();
                self.block_bytes -= old.block_bytes();
            }
            None => self.bytes += VALUE_BYTES,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Numbers of its series, in order.
    fn numbers(&self) -> Vec<SeriesId> {
        let mut numbers: Vec<SeriesId> = self.series.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }
}

/// Both generations.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Gets committed values.
    pub(crate) active: Generation,
    /// Is being moved into blocks.
    frozen: Arc<Generation>,
    /// Series of the frozen generation up to this one are in blocks.
    moved_until: Option<SeriesId>,
}

/// Data shared by the writer and the readers.
#[derive(Debug, Default)]
pub(crate) struct SharedMemory(RwLock<Memory>);

impl SharedMemory {
    /// Locks for reading. Writing runs no code that may panic, and readers do not change it, so a
    /// poisoned lock is safe to use.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first `limit` samples from `from` to before `until`, or the last ones, newest first.
    /// More than the limit may be returned.
    pub(crate) fn scan(
        &self,
        series: SeriesId,
        (from, until): (Instant, Instant),
        newest_first: bool,
        limit: usize,
    ) -> Vec<Sample> {
        let of = |generation: &Generation| {
            let values = generation.series.get(&series);
            values.map_or_else(Vec::new, |values| {
                values.scan(from, until, newest_first, limit)
            })
        };
        let (newer, frozen) = {
            let memory = self.read();
            (of(&memory.active), memory.unmoved(series))
        };
        let older = frozen.map_or_else(Vec::new, |frozen| of(&frozen));
        merge(older, newer, newest_first)
    }

    /// The days of a series in a time span that have values in memory, in order.
    pub(crate) fn days(&self, series: SeriesId, from: Time, until: Time) -> Vec<i64> {
        let until = Instant::first_of(until);
        let of = |generation: &Generation, days: &mut Vec<i64>| {
            let Some(values) = generation.series.get(&series) else {
                return;
            };
            let mut from = Instant::first_of(from);
            while let Some(time) = values.first_time(from, until) {
                let day = day_of(time);
                days.push(day);
                from = Instant::first_of((day + 1).saturating_mul(DAY));
            }
        };
        let mut days = Vec::new();
        let frozen = {
            let memory = self.read();
            of(&memory.active, &mut days);
            memory.unmoved(series)
        };
        if let Some(frozen) = frozen {
            of(&frozen, &mut days);
        }
        days.sort_unstable();
        days.dedup();
        days
    }

    /// Freezes the active generation, if it has at least this many bytes and the previous one has
    /// been moved. Returns the generation to move.
    pub(crate) fn freeze(&self, bytes_min: usize) -> Option<Moving> {
        let room = {
            let memory = self.read();
            let is_small = memory.active.is_empty() || memory.active.bytes() < bytes_min;
            if !memory.frozen.is_empty() || is_small {
                return None;
            }
            memory.active.series.len()
        };
        // Only the writer changes it, so it is still the same.
        let next = Generation::with_room(room);
        let frozen = {
            let mut memory = self.write();
            memory.frozen = Arc::new(std::mem::replace(&mut memory.active, next));
            memory.moved_until = None;
            Arc::clone(&memory.frozen)
        };
        Some(Moving {
            series: frozen.numbers(),
            frozen,
            done: 0,
        })
    }

    /// From now on readers find series up to this one in blocks.
    pub(crate) fn moved(&self, until: SeriesId) {
        self.write().moved_until = Some(until);
    }

    /// The whole frozen generation is in blocks.
    pub(crate) fn moved_all(&self) {
        let old = {
            let mut memory = self.write();
            memory.moved_until = None;
            std::mem::take(&mut memory.frozen)
        };
        // Freeing many values takes a while, so the lock is released first.
        drop(old);
    }
}

impl Memory {
    /// Bytes of both generations.
    pub(crate) fn bytes(&self) -> usize {
        self.active.bytes() + self.frozen.bytes()
    }

    /// Approximate bytes that the values of both generations take in blocks at most.
    pub(crate) fn block_bytes(&self) -> usize {
        self.active.block_bytes + self.frozen.block_bytes
    }

    /// Series with values that are not in blocks, and the approximate bytes of these in the
    /// journal. A series may be there twice.
    pub(crate) fn journal_by_series(&self) -> Vec<(SeriesId, usize)> {
        let is_moved = |series| self.moved_until.is_some_and(|until| series <= until);
        let frozen = self.frozen.series.iter();
        let frozen = frozen.filter(|(series, _)| !is_moved(**series));
        let all = self.active.series.iter().chain(frozen);
        all.map(|(series, values)| (*series, values.journal_bytes()))
            .collect()
    }

    /// The first day with values in memory; `None`: memory has no values.
    pub(crate) fn first_day(&self) -> Option<i64> {
        let with_values = [&self.active, &*self.frozen].into_iter();
        let with_values = with_values.filter(|generation| !generation.is_empty());
        with_values
            .map(|generation| day_of(generation.first_time))
            .min()
    }

    /// Whether the frozen generation is being moved into blocks.
    pub(crate) fn is_moving(&self) -> bool {
        !self.frozen.is_empty()
    }

    /// The frozen generation, if it has values of a series that is not in blocks yet.
    fn unmoved(&self, series: SeriesId) -> Option<Arc<Generation>> {
        let is_moved = self.moved_until.is_some_and(|until| series <= until);
        let has_values = !is_moved && self.frozen.series.contains_key(&series);
        has_values.then(|| Arc::clone(&self.frozen))
    }

    /// Whether a series has values that are not in blocks.
    pub(crate) fn has_values(&self, series: SeriesId) -> bool {
        self.active.series.contains_key(&series) || self.unmoved(series).is_some()
    }
}

/// A generation that is being moved into blocks, one series after the other.
#[derive(Debug)]
pub(crate) struct Moving {
    frozen: Arc<Generation>,
    /// Series of the generation, in order.
    series: Vec<SeriesId>,
    /// Number of series that have been moved.
    done: usize,
}

impl Moving {
    /// Samples of the next series, at most this number of series.
    pub(crate) fn next(&self, series_max: usize) -> Vec<(SeriesId, Vec<Sample>)> {
        let next = self.series[self.done..].iter().take(series_max);
        next.filter_map(|series| Some((*series, self.frozen.series.get(series)?.all())))
            .collect()
    }

    /// Records that this number of series has been moved. Returns the last one.
    pub(crate) fn advance(&mut self, count: usize) -> Option<SeriesId> {
        self.done = (self.done + count).min(self.series.len());
        let last = self.done.checked_sub(1)?;
        self.series.get(last).copied()
    }

    /// Whether at most this number of series is left.
    pub(crate) fn is_last(&self, count: usize) -> bool {
        self.done + count >= self.series.len()
    }
}

/// Merges two lists in the same order; of two samples at one instant the one of `newer` is kept.
pub(crate) fn merge(older: Vec<Sample>, newer: Vec<Sample>, newest_first: bool) -> Vec<Sample> {
    if older.is_empty() {
        return newer;
    }
    if newer.is_empty() {
        return older;
    }
    let mut merged = Vec::with_capacity(older.len() + newer.len());
    let mut older = older.into_iter().peekable();
    let mut newer = newer.into_iter().peekable();
    while let (Some(old), Some(new)) = (older.peek(), newer.peek()) {
        let order = match newest_first {
            true => new.at.cmp(&old.at),
            false => old.at.cmp(&new.at),
        };
        match order {
            std::cmp::Ordering::Less => merged.extend(older.next()),
            std::cmp::Ordering::Equal => {
                older.next();
                merged.extend(newer.next());
            }
            std::cmp::Ordering::Greater => merged.extend(newer.next()),
        }
    }
    merged.extend(older);
    merged.extend(newer);
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(time: Time, number: i64) -> Sample {
        Sample {
            at: Instant { time, origin: 0 },
            value: Value::Integer(number),
        }
    }

    fn all(memory: &SharedMemory, series: i64, newest_first: bool) -> Vec<(Time, Value)> {
        let span = (Instant::first_of(Time::MIN), Instant::first_of(Time::MAX));
        let found = memory.scan(SeriesId(series), span, newest_first, usize::MAX);
        found
            .into_iter()
            .map(|one| (one.at.time, one.value))
            .collect()
    }

    proptest! {
        /// For any order of arrival, readers find each value once, the newer one of an instant,
        /// while all values move into blocks series by series.
        #[test]
        fn values_are_found_in_order_whatever_order_they_came_in(
            written in prop::collection::vec((0..4_i64, 0..50_i64), 1..300),
            frozen in 0..300_usize,
            newest_first: bool,
        ) {
            let memory = SharedMemory::default();
            let mut model: BTreeMap<(i64, Time), Value> = BTreeMap::new();
            let mut moving = None;
            for (index, (series, time)) in written.iter().enumerate() {
                if index == frozen {
                    moving = memory.freeze(0);
                }
                let number = i64::try_from(index).unwrap();
                memory.write().active.insert(SeriesId(*series), sample(*time, number));
                model.insert((*series, *time), Value::Integer(number));
            }
            for series in 0..4 {
                let of = model.range((series, Time::MIN)..(series + 1, Time::MIN));
                let mut expected: Vec<_> =
                    of.map(|((_, at), value)| (*at, value.clone())).collect();
                if newest_first {
                    expected.reverse();
                }
                prop_assert_eq!(all(&memory, series, newest_first), expected);
            }
            let Some(mut moving) = moving else {
                return Ok(());
            };
            let mut moved = BTreeMap::new();
            loop {
                let next = moving.next(1);
                let is_last = moving.is_last(next.len());
                for (series, samples) in &next {
                    prop_assert!(samples.windows(2).all(|two| two[0].at < two[1].at));
                    moved.insert(*series, samples.len());
                }
                if let Some(until) = moving.advance(next.len()) {
                    memory.moved(until);
                }
                if is_last {
                    memory.moved_all();
                    break;
                }
            }
            let first: std::collections::BTreeSet<_> = written[..frozen].iter().collect();
            prop_assert_eq!(moved.values().sum::<usize>(), first.len());
            let second: std::collections::BTreeSet<_> = written[frozen..].iter().collect();
            let left: usize = (0..4).map(|series| all(&memory, series, false).len()).sum();
            prop_assert_eq!(left, second.len());
        }
    }

    #[test]
    fn bytes_are_those_of_the_values_that_are_there() {
        let memory = SharedMemory::default();
        let text = |text: &str| Sample {
            at: Instant { time: 5, origin: 0 },
            value: Value::Text(text.into()),
        };
        memory
            .write()
            .active
            .insert(SeriesId(1), text("a long text"));
        memory.write().active.insert(SeriesId(1), text("ab"));
        assert_eq!(memory.read().bytes(), SERIES_BYTES + VALUE_BYTES + 2);
        let value = text("ab").value;
        assert_eq!(memory.read().block_bytes(), value.block_bytes());
        let stored = value.journal_bytes();
        let by_series = || memory.read().journal_by_series();
        assert_eq!(by_series(), [(SeriesId(1), stored)]);
        assert!(memory.freeze(1).is_some() && memory.read().is_moving());
        assert_eq!(memory.read().bytes(), SERIES_BYTES + VALUE_BYTES + 2);
        assert!(memory.read().has_values(SeriesId(1)));
        assert_eq!(by_series(), [(SeriesId(1), stored)]);
        memory.moved(SeriesId(1));
        assert!(!memory.read().has_values(SeriesId(1)) && by_series().is_empty());
        memory.moved_all();
        assert_eq!(memory.read().bytes(), 0);
    }
}
