//! Cache of series numbers of the writer, and the limits of new series.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use martlet_permission::Share;

use crate::Settings;
use crate::value::{Point, PointRefusal, Sample, SeriesId};

/// Maximum number of cached series. When it is exceeded, all are looked up again.
const KNOWN_MAX: usize = 500_000;

/// Bytes of a cached series.
const KNOWN_BYTES: usize = 100;

/// Series of a device.
#[derive(Debug, Default)]
struct Keys {
    /// The tenant whose share they use, as the tables have it.
    tenant: u32,
    by_key: HashMap<Arc<str>, SeriesId>,
}

/// Numbers of series by device and key.
#[derive(Debug, Default)]
pub(crate) struct KnownSeries {
    by_device: HashMap<i64, Keys>,
    count: usize,
    pub(crate) counts: SeriesCounts,
}

/// Numbers of series as the writer knows them. They are counted again after values were deleted.
#[derive(Debug, Default)]
pub(crate) struct SeriesCounts {
    /// All of them, after they were counted.
    pub(crate) all: Option<u64>,
    /// Numbers of series of tenants, after they were counted. Tenant 0 is not counted.
    pub(crate) tenants: HashMap<u32, u64>,
}

impl KnownSeries {
    pub(crate) fn get(&self, device: i64, key: &str) -> Option<SeriesId> {
        self.by_device.get(&device)?.by_key.get(key).copied()
    }

    /// The tables have these tenants of devices.
    pub(crate) fn note_tenants(&mut self, tenants: &BTreeMap<i64, u32>) {
        for (device, tenant) in tenants {
            if let Some(keys) = self.by_device.get_mut(device) {
                keys.tenant = *tenant;
            }
        }
    }

    /// The numbers of the series of points, and unknown pairs, each once. Those of a device that
    /// has moved to another tenant are unknown.
    pub(crate) fn find(&self, points: &[Point]) -> (Vec<Option<SeriesId>>, Vec<Pair>) {
        let mut found = Vec::with_capacity(points.len());
        let mut seen: HashSet<(i64, &str)> = HashSet::new();
        let mut unknown = Vec::new();
        // Consecutive points are often of the same device.
        let mut last: Option<(i64, Option<&Keys>)> = None;
        for point in points {
            let device = point.device;
            let keys = match last {
                Some((of, keys)) if of == device => keys,
                _ => self.by_device.get(&device),
            };
            last = Some((device, keys));
            let keys = keys.filter(|keys| keys.tenant == point.tenant);
            let series = keys.and_then(|keys| keys.by_key.get(&*point.key)).copied();
            if series.is_none() && seen.insert((device, &*point.key)) {
                unknown.push((device, Arc::clone(&point.key)));
            }
            found.push(series);
        }
        (found, unknown)
    }

    /// Approximate bytes of its memory.
    pub(crate) fn bytes(&self) -> usize {
        self.count * KNOWN_BYTES
    }

    pub(crate) fn insert(&mut self, device: i64, key: Arc<str>, series: SeriesId) {
        if self.count >= KNOWN_MAX {
            self.clear();
        }
        let keys = self.by_device.entry(device).or_default();
        self.count += usize::from(keys.by_key.insert(key, series).is_none());
    }

    pub(crate) fn forget_device(&mut self, device: i64) {
        let keys = self.by_device.remove(&device);
        self.count -= keys.map_or(0, |keys| keys.by_key.len());
        self.counts = SeriesCounts::default();
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A permanently refused point.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Index of the point in the written list.
    pub index: usize,
    /// The reason.
    pub refusal: PointRefusal,
}

/// Result of a write. Points that are not refused are synced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteOutcome {
    /// Number of stored points, including those that replace earlier ones. For an atomic list:
    /// all, or none.
    pub stored: usize,
    /// Permanently refused points.
    pub refused: Vec<Refused>,
}

/// Points of one batch with their series, or the reason why they are refused.
#[derive(Debug, Default)]
pub(crate) struct SeriesRows {
    pub(crate) rows: Vec<(SeriesId, Sample)>,
}

/// A device and a key.
pub(crate) type Pair = (i64, Arc<str>);

/// Points of a batch, and which of them are stored atomically.
#[derive(Debug, Default)]
pub(crate) struct Points {
    pub(crate) list: Vec<Point>,
    /// Spans of the list that are atomic, in order. All other points are stored separately.
    pub(crate) wholes: Vec<Range<usize>>,
}

impl Points {
    /// The tenants of these devices, as their last points have them.
    pub(crate) fn tenants_of(&self, pairs: &[Pair]) -> BTreeMap<i64, u32> {
        let devices: HashSet<i64> = pairs.iter().map(|(device, _)| *device).collect();
        let of_them = self.list.iter().filter(|one| devices.contains(&one.device));
        of_them.map(|point| (point.device, point.tenant)).collect()
    }
}

/// Points that are refused because their series may not be created.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Reasons, by the index of the point.
    points: HashMap<usize, PointRefusal>,
    /// Atomic spans with such a point.
    wholes: Vec<Range<usize>>,
}

/// The result for a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PointResult {
    Stored,
    /// Another point of its span is refused.
    LeftOut,
    Refused(PointRefusal),
}

impl Refusals {
    pub(crate) fn of(&self, index: usize) -> PointResult {
        if let Some(refusal) = self.points.get(&index) {
            return PointResult::Refused(*refusal);
        }
        let next = self.wholes.partition_point(|span| span.end <= index);
        match self.wholes.get(next) {
            Some(span) if span.contains(&index) => PointResult::LeftOut,
            _ => PointResult::Stored,
        }
    }
}

/// Limits of new series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeriesLimits {
    pub(crate) keys_per_device_max: usize,
    pub(crate) series_max: u64,
    pub(crate) tenant_share: Share,
}

impl SeriesLimits {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            keys_per_device_max: settings.keys_per_device_max,
            series_max: settings.series_max,
            tenant_share: settings.tenant_share,
        }
    }

    /// How many series a tenant may have that has `own` of `all` that there are.
    pub(crate) fn share_of(&self, own: u64, all: u64) -> u64 {
        let others = all.saturating_sub(own);
        self.tenant_share.beside(others, self.series_max)
    }
}

/// Counts that the limits are compared with.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Number of keys of each device.
    pub(crate) keys: HashMap<i64, usize>,
    /// Number of series of each tenant but 0.
    pub(crate) tenants: HashMap<u32, u64>,
    /// Number of series.
    pub(crate) all: u64,
}

/// Numbers of series by tenant, from rows of a table.
pub(crate) fn by_tenant(rows: Vec<(i64, i64)>) -> BTreeMap<u32, u64> {
    let rows = rows.into_iter();
    rows.filter_map(|(tenant, series)| Some((tenant.try_into().ok()?, series.try_into().ok()?)))
        .collect()
}

impl Counted {
    /// Tenants of new pairs whose series are not counted yet.
    pub(crate) fn uncounted(&self, new: &[Pair], tenants: &BTreeMap<i64, u32>) -> BTreeSet<u32> {
        let of_pairs = new.iter().filter_map(|(device, _)| tenants.get(device));
        let is_uncounted = |tenant: &&u32| **tenant != 0 && !self.tenants.contains_key(tenant);
        of_pairs.filter(is_uncounted).copied().collect()
    }
}

/// State of the admission of new pairs.
struct Admission<'a> {
    limits: SeriesLimits,
    counted: &'a mut Counted,
    /// Pairs without a series.
    new: HashSet<Pair>,
    /// Pairs that get a series, each with its tenant.
    admitted: Vec<(Pair, u32)>,
}

impl Admission<'_> {
    /// Admits the pair of a point, if it is new.
    fn admit(&mut self, point: &Point) -> Result<(), PointRefusal> {
        let pair = (point.device, Arc::clone(&point.key));
        if !self.new.contains(&pair) {
            return Ok(());
        }
        let counted = &mut *self.counted;
        let of_device = counted.keys.entry(pair.0).or_default();
        if *of_device >= self.limits.keys_per_device_max {
            return Err(PointRefusal::TooManyKeys);
        }
        if counted.all >= self.limits.series_max {
            return Err(PointRefusal::TooManySeries);
        }
        if point.tenant != 0 {
            let of_tenant = counted.tenants.entry(point.tenant).or_default();
            if *of_tenant >= self.limits.share_of(*of_tenant, counted.all) {
                return Err(PointRefusal::TenantSeries);
            }
            *of_tenant += 1;
        }
        *of_device += 1;
        counted.all += 1;
        self.new.remove(&pair);
        self.admitted.push((pair, point.tenant));
        Ok(())
    }

    /// Reverts all admissions after the first ones.
    fn take_back(&mut self, first: usize) {
        for (pair, tenant) in self.admitted.drain(first..) {
            if let Some(of_device) = self.counted.keys.get_mut(&pair.0) {
                *of_device -= 1;
            }
            if let Some(of_tenant) = self.counted.tenants.get_mut(&tenant) {
                *of_tenant -= 1;
            }
            self.counted.all -= 1;
            self.new.insert(pair);
        }
    }
}

/// The new pairs that may be added, and the points that must be refused. What is added is counted.
pub(crate) fn admit(
    points: &Points,
    new: Vec<Pair>,
    counted: &mut Counted,
    limits: SeriesLimits,
) -> (Vec<Pair>, Refusals) {
    let mut admission = Admission {
        limits,
        counted,
        new: new.into_iter().collect(),
        admitted: Vec::new(),
    };
    let mut refusals = Refusals::default();
    let mut wholes = points.wholes.iter().peekable();
    let mut index = 0;
    while index < points.list.len() {
        let whole = wholes.next_if(|span| span.start == index);
        let span = whole.cloned().unwrap_or(index..index + 1);
        let (first, mut is_refused) = (admission.admitted.len(), false);
        for at in span.clone() {
            if let Some(Err(refusal)) = points.list.get(at).map(|point| admission.admit(point)) {
                refusals.points.insert(at, refusal);
                is_refused = true;
            }
        }
        index = span.end.max(index + 1);
        if is_refused && whole.is_some() {
            admission.take_back(first);
            refusals.wholes.push(span);
        }
    }
    let admitted = admission.admitted.into_iter().map(|(pair, _)| pair);
    (admitted.collect(), refusals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn points(keys: &[(i64, &str)], wholes: Vec<Range<usize>>) -> (Points, Vec<Pair>) {
        let point = |(device, key): &(i64, &str)| Point {
            device: *device,
            tenant: 0,
            key: (*key).into(),
            time: 0,
            origin: 0,
            value: Value::Integer(1),
        };
        let list: Vec<Point> = keys.iter().map(point).collect();
        let pairs = list.iter().map(|point| (point.device, point.key.clone()));
        let new = pairs.collect();
        (Points { list, wholes }, new)
    }

    #[test]
    fn a_span_is_stored_as_a_whole_and_takes_nothing_if_it_is_not() {
        let limits = SeriesLimits {
            keys_per_device_max: 2,
            series_max: 4,
            tenant_share: Share::default(),
        };
        let keys = [
            (1, "a"),
            (1, "b"),
            (1, "c"),
            (1, "c"),
            (2, "x"),
            (1, "d"),
            (2, "y"),
            (3, "z"),
        ];
        let (points, new) = points(&keys, vec![0..3, 4..5, 6..8]);
        let (admitted, refusals) = admit(&points, new, &mut Counted::default(), limits);
        let admitted: Vec<_> = admitted
            .iter()
            .map(|(device, key)| (*device, &**key))
            .collect();
        // The third key exceeds the limit of the device, the last two exceed the limit of all
        // devices.
        assert_eq!(admitted, [(1, "c"), (2, "x"), (1, "d")]);
        let verdicts: Vec<_> = (0..8).map(|index| refusals.of(index)).collect();
        let refused = PointResult::Refused;
        assert_eq!(
            verdicts,
            [
                PointResult::LeftOut,
                PointResult::LeftOut,
                refused(PointRefusal::TooManyKeys),
                PointResult::Stored,
                PointResult::Stored,
                PointResult::Stored,
                PointResult::LeftOut,
                refused(PointRefusal::TooManySeries),
            ]
        );
    }
}
