//! Values that are in the journal and not yet in blocks.
//!
//! The writer adds what it has committed, and moves it into blocks one generation at a time, while
//! the next generation fills. Readers look here first and into the blocks then: a value that moves
//! meanwhile is seen twice, never missed.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::value::{DAY, Instant, Sample, SeriesId, Time, Value, day_of};

/// What an entry takes, with its share of the nodes of the tree.
const ENTRY_BYTES: usize = 72;

/// Values by series and time.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    values: BTreeMap<(SeriesId, Instant), Value>,
    bytes: usize,
}

impl Generation {
    /// Adds a value, or replaces the one of the same identity.
    pub(crate) fn insert(&mut self, series: SeriesId, sample: Sample) {
        self.bytes += ENTRY_BYTES + sample.value.text_bytes();
        if let Some(old) = self.values.insert((series, sample.at), sample.value) {
            self.bytes -= ENTRY_BYTES + old.text_bytes();
        }
    }

    fn remove_one(&mut self, at: &(SeriesId, Instant)) {
        if let Some(old) = self.values.remove(at) {
            self.bytes -= ENTRY_BYTES + old.text_bytes();
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn span(
        &self,
        series: SeriesId,
        from: Instant,
        until: Instant,
    ) -> impl DoubleEndedIterator<Item = (&(SeriesId, Instant), &Value)> {
        // A range that ends before it begins would panic.
        let until = until.max(from);
        self.values.range((series, from)..(series, until))
    }
}

/// Both generations.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Takes what is committed.
    pub(crate) active: Generation,
    /// Moves into blocks.
    pub(crate) frozen: Generation,
}

/// What the writer and the readers share.
#[derive(Debug, Default)]
pub(crate) struct SharedMemory(RwLock<Memory>);

impl SharedMemory {
    /// For reading. Nothing that may panic runs while it is written to, and a reader leaves it
    /// whole.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// The first `limit` samples from `from` to before `until`, or the last ones, newest first.
    pub(crate) fn scan(
        &self,
        series: SeriesId,
        from: Instant,
        until: Instant,
        newest_first: bool,
        limit: usize,
    ) -> Vec<Sample> {
        let of = |generation: &Generation| -> Vec<Sample> {
            let found = generation.span(series, from, until);
            let sample = |((_, at), value): (&(SeriesId, Instant), &Value)| Sample {
                at: *at,
                value: value.clone(),
            };
            match newest_first {
                true => found.rev().take(limit).map(sample).collect(),
                false => found.take(limit).map(sample).collect(),
            }
        };
        merge(of(&self.frozen), of(&self.active), newest_first)
    }

    /// The first and the last time of a series in a span of time.
    pub(crate) fn bounds(&self, series: SeriesId, from: Time, until: Time) -> Option<(Time, Time)> {
        let (from, until) = (Instant::first_of(from), Instant::first_of(until));
        let of = |generation: &Generation| {
            let mut found = generation.span(series, from, until);
            let first = found.next()?.0.1.time;
            let last = found.next_back().map_or(first, |((_, at), _)| at.time);
            Some((first, last))
        };
        match (of(&self.active), of(&self.frozen)) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        }
    }

    /// The days of a series in a span of time that have values here, in order.
    pub(crate) fn days(&self, series: SeriesId, from: Time, until: Time) -> Vec<i64> {
        let until = Instant::first_of(until);
        let mut days = Vec::new();
        for generation in [&self.active, &self.frozen] {
            let mut from = Instant::first_of(from);
            while let Some(((_, at), _)) = generation.span(series, from, until).next() {
                let day = day_of(at.time);
                days.push(day);
                from = Instant::first_of((day + 1).saturating_mul(DAY));
            }
        }
        days.sort_unstable();
        days.dedup();
        days
    }

    /// Samples of the first series that wait to be moved, at most so many series.
    pub(crate) fn next_to_move(&self, series_max: usize) -> Vec<(SeriesId, Vec<Sample>)> {
        let mut found: Vec<(SeriesId, Vec<Sample>)> = Vec::new();
        for ((series, at), value) in &self.frozen.values {
            let sample = Sample {
                at: *at,
                value: value.clone(),
            };
            let count = found.len();
            match found.last_mut() {
                Some((last, samples)) if last == series => samples.push(sample),
                _ if count == series_max => break,
                _ => found.push((*series, vec![sample])),
            }
        }
        found
    }

    /// Forgets what was moved.
    pub(crate) fn moved(&mut self, moved: &[(SeriesId, Vec<Sample>)]) {
        for (series, samples) in moved {
            for sample in samples {
                self.frozen.remove_one(&(*series, sample.at));
            }
        }
    }
}

/// Merges two lists in the same order; of two samples of one instant the one of `newer` stays.
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
