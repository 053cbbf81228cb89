//! Numbers of series that the writer knows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::value::{Point, Refusal, Sample, SeriesId};

/// Series whose numbers are kept in memory. When there are more, all are looked up anew.
const KNOWN_MAX: usize = 500_000;

/// Bytes that a series takes that is known.
const KNOWN_BYTES: usize = 100;

type Keys = HashMap<Arc<str>, SeriesId>;

/// Numbers of series by device and key.
#[derive(Debug, Default)]
pub(crate) struct KnownSeries {
    by_device: HashMap<i64, Keys>,
    count: usize,
}

impl KnownSeries {
    pub(crate) fn get(&self, device: i64, key: &str) -> Option<SeriesId> {
        self.by_device.get(&device)?.get(key).copied()
    }

    /// The numbers of the series of points, and pairs that are not known, each once.
    pub(crate) fn find(&self, points: &[Point]) -> (Vec<Option<SeriesId>>, Vec<Pair>) {
        let mut found = Vec::with_capacity(points.len());
        let mut seen: HashSet<(i64, &str)> = HashSet::new();
        let mut unknown = Vec::new();
        // Points of one device follow each other.
        let mut last: Option<(i64, Option<&Keys>)> = None;
        for point in points {
            let device = point.device;
            let keys = match last {
                Some((of, keys)) if of == device => keys,
                _ => self.by_device.get(&device),
            };
            last = Some((device, keys));
            let series = keys.and_then(|keys| keys.get(&*point.key)).copied();
            if series.is_none() && seen.insert((device, &*point.key)) {
                unknown.push((device, Arc::clone(&point.key)));
            }
            found.push(series);
        }
        (found, unknown)
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.count * KNOWN_BYTES
    }

    pub(crate) fn insert(&mut self, device: i64, key: Arc<str>, series: SeriesId) {
        if self.count >= KNOWN_MAX {
            self.clear();
        }
        let keys = self.by_device.entry(device).or_default();
        self.count += usize::from(keys.insert(key, series).is_none());
    }

    pub(crate) fn forget_device(&mut self, device: i64) {
        let keys = self.by_device.remove(&device);
        self.count -= keys.map_or(0, |keys| keys.len());
    }

    pub(crate) fn clear(&mut self) {
        self.by_device.clear();
        self.count = 0;
    }
}

/// A point that was refused for good.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Its index in the list that was written.
    pub index: usize,
    /// Why.
    pub refusal: Refusal,
}

/// Result of a write. Those that are not refused are synced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Points that are stored, those that replace earlier ones included.
    pub stored: usize,
    /// Points that were refused for good.
    pub refused: Vec<Refused>,
}

/// Points of one batch with their series, or why they are refused.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<(SeriesId, Sample)>,
}

/// A device and a key.
pub(crate) type Pair = (i64, Arc<str>);

/// Pairs of which no series may be made, and why.
pub(crate) type Refusals = HashMap<Pair, Refusal>;

/// How many series may still be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeriesLimits {
    pub(crate) keys_per_device_max: usize,
    pub(crate) series_max: u64,
}

/// Of the pairs that are in no table yet, those that may be added; and why the others may not.
/// `keys` is how many keys each device has, `all` how many series there are.
pub(crate) fn admit(
    wanted: Vec<Pair>,
    keys: &mut HashMap<i64, usize>,
    mut all: u64,
    limits: SeriesLimits,
) -> (Vec<Pair>, Refusals) {
    let mut admitted = Vec::new();
    let mut refused = HashMap::new();
    for pair in wanted {
        let of_device = keys.entry(pair.0).or_default();
        if *of_device >= limits.keys_per_device_max {
            refused.insert(pair, Refusal::TooManyKeys);
        } else if all >= limits.series_max {
            refused.insert(pair, Refusal::TooManySeries);
        } else {
            *of_device += 1;
            all += 1;
            admitted.push(pair);
        }
    }
    (admitted, refused)
}
