//! Rows of several devices and keys.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::StorageError;
use crate::held::Held;
use crate::reader::DatabaseReader;
use crate::scan::Scan;
use crate::value::{Instant, Sample, SeriesId, Time, Value};

/// Devices whose series are looked up in one step.
const DEVICES_PER_STEP: usize = 500;
/// Samples that are read in one step.
pub(crate) const PAGE: usize = 50_000;

/// The selected devices and keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Numbers of the devices.
    pub devices: Vec<i64>,
    /// The keys; `None`: all keys.
    pub keys: Option<Vec<String>>,
}

impl Selection {
    /// All keys of a device.
    pub fn device(device: i64) -> Self {
        Self {
            devices: vec![device],
            keys: None,
        }
    }

    /// Restricts the selection to these keys.
    #[must_use]
    pub fn keys<T: Into<String>>(mut self, keys: impl IntoIterator<Item = T>) -> Self {
        self.keys = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    pub(crate) fn has_key(&self, key: &str) -> bool {
        let keys = self.keys.as_ref();
        keys.is_none_or(|keys| keys.iter().any(|wanted| wanted == key))
    }

    /// Each device once, in order.
    fn sorted_devices(&self) -> Vec<i64> {
        let mut devices = self.devices.clone();
        devices.sort_unstable();
        devices.dedup();
        devices
    }
}

/// A stored value.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Number of the device.
    pub device: i64,
    /// The key.
    pub key: Arc<str>,
    /// See [`crate::Point::time`].
    pub time: Time,
    /// See [`crate::Point::origin`].
    pub origin: i64,
    /// The value.
    pub value: Value,
}

impl Row {
    /// Bytes that it takes.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.value.text_bytes()
    }

    /// Position of the row in a result; see [`Range::after`].
    pub fn position(&self) -> Position {
        Position {
            time: self.time,
            origin: self.origin,
            device: self.device,
            key: Arc::clone(&self.key),
        }
    }
}

/// Order of the rows of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first: by time, device and key.
    #[default]
    OldestFirst,
    /// The reverse of that.
    NewestFirst,
    /// By device, key and time. The most efficient order for many devices.
    BySeries,
}

/// A query for rows.
#[derive(Clone, Debug)]
pub struct Range {
    /// Devices and keys.
    pub selection: Selection,
    /// The first time.
    pub from: Time,
    /// End of the span, exclusive.
    pub until: Time,
    /// Order of the rows.
    pub order: Order,
    /// Maximum number of rows of the result, at least 1.
    pub limit: usize,
    /// Only rows after this one, in this order: [`Rows::next`] of the previous result.
    pub after: Option<Position>,
}

/// Rows, and the position of the next ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The rows in the requested order.
    pub rows: Vec<Row>,
    /// Set if there are more rows than the limit: [`Range::after`] of the next query.
    pub next: Option<Position>,
}

impl Rows {
    /// Whether there are more rows than the limit.
    pub fn is_truncated(&self) -> bool {
        self.next.is_some()
    }
}

/// Position of a row in a result. As text it is `time.origin.device.key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Time of the row.
    pub time: Time,
    /// Origin of the row.
    pub origin: i64,
    /// Device of the row.
    pub device: i64,
    /// Key of the row.
    pub key: Arc<str>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            time,
            origin,
            device,
            key,
        } = self;
        write!(f, "{time}.{origin}.{device}.{key}")
    }
}

impl FromStr for Position {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self, StorageError> {
        let mut parts = text.splitn(4, '.');
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        let numbers = (number(), number(), number());
        match (numbers, parts.next()) {
            ((Some(time), Some(origin), Some(device)), Some(key)) => Ok(Self {
                time,
                origin,
                device,
                key: key.into(),
            }),
            _ => Err(StorageError::Query(format!(
                "{text}: not a position of an answer; pass on the one that the last answer gave"
            ))),
        }
    }
}

/// Bytes of a requested series, with the text of its key.
pub(crate) const SERIES_BYTES: usize = size_of::<SeriesOf>() + 64;

/// A requested series.
#[derive(Clone, Debug)]
pub(crate) struct SeriesOf {
    pub(crate) device: i64,
    pub(crate) key: Arc<str>,
    pub(crate) id: SeriesId,
}

impl SeriesOf {
    fn row(&self, sample: Sample) -> Row {
        Row {
            device: self.device,
            key: Arc::clone(&self.key),
            time: sample.at.time,
            origin: sample.at.origin,
            value: sample.value,
        }
    }

    fn is_before(&self, position: &Position) -> bool {
        (self.device, &*self.key) < (position.device, &*position.key)
    }

    fn is_at(&self, position: &Position) -> bool {
        (self.device, &*self.key) == (position.device, &*position.key)
    }
}

/// Series of a selection, in order of device and key, some devices per step.
#[derive(Debug)]
pub(crate) struct SeriesPages<'a> {
    reader: &'a DatabaseReader,
    selection: &'a Selection,
    devices: Vec<i64>,
    done: usize,
    /// Shared text of each key.
    keys: HashMap<String, Arc<str>>,
}

impl<'a> SeriesPages<'a> {
    pub(crate) fn new(reader: &'a DatabaseReader, selection: &'a Selection) -> Self {
        Self {
            reader,
            selection,
            devices: selection.sorted_devices(),
            done: 0,
            keys: HashMap::new(),
        }
    }

    /// Skips the devices before one.
    pub(crate) fn skip_before(&mut self, device: i64) {
        self.done = self.devices.partition_point(|known| *known < device);
    }

    /// The next series; `None`: there are no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<SeriesOf>>, StorageError> {
        let rest = &self.devices[self.done..];
        let some = &rest[..rest.len().min(DEVICES_PER_STEP)];
        if some.is_empty() {
            return Ok(None);
        }
        let found = self.reader.series(some).await?.into_iter();
        self.done += some.len();
        let (selection, keys) = (self.selection, &mut self.keys);
        let wanted = found.filter(|(_, key, _)| selection.has_key(key));
        Ok(Some(
            wanted
                .map(|(device, key, id)| {
                    let shared = keys.get(&key).cloned().unwrap_or_else(|| {
                        let shared: Arc<str> = key.as_str().into();
                        keys.insert(key, Arc::clone(&shared));
                        shared
                    });
                    let key = shared;
                    SeriesOf { device, key, id }
                })
                .collect(),
        ))
    }
}

impl DatabaseReader {
    /// The latest value of each series.
    pub(crate) async fn latest(
        &self,
        selection: &Selection,
        held: &mut Held,
    ) -> Result<Vec<Row>, StorageError> {
        let mut rows = Vec::new();
        let mut pages = SeriesPages::new(self, selection);
        while let Some(page) = pages.next().await? {
            held.series(page.len().saturating_mul(SERIES_BYTES))?;
            for series in page {
                let scan = Scan {
                    series: series.id,
                    from: Instant::first_of(Time::MIN),
                    until: Instant::first_of(Time::MAX),
                    newest_first: true,
                    limit: 1,
                };
                for sample in self.scan(&scan).await?.samples {
                    let row = series.row(sample);
                    held.add(row.bytes())?;
                    rows.push(row);
                }
            }
        }
        Ok(rows)
    }

    /// Rows of a time span.
    pub(crate) async fn range(&self, range: &Range, held: &mut Held) -> Result<Rows, StorageError> {
        if range.limit == 0 {
            return Err(StorageError::Query(
                "the limit must be at least 1".to_owned(),
            ));
        }
        if range.from >= range.until {
            return Ok(Rows::default());
        }
        match range.order {
            Order::BySeries => self.range_by_series(range, held).await,
            Order::OldestFirst => self.range_by_time(range, false, held).await,
            Order::NewestFirst => self.range_by_time(range, true, held).await,
        }
    }

    async fn range_by_series(&self, range: &Range, held: &mut Held) -> Result<Rows, StorageError> {
        let mut rows = Vec::new();
        let mut pages = SeriesPages::new(self, &range.selection);
        if let Some(after) = &range.after {
            pages.skip_before(after.device);
        }
        while let Some(page) = pages.next().await? {
            held.series(page.len().saturating_mul(SERIES_BYTES))?;
            for series in page {
                let mut from = Instant::first_of(range.from);
                if let Some(after) = &range.after {
                    if series.is_before(after) {
                        continue;
                    }
                    if series.is_at(after) {
                        from = from.max(after.instant().next());
                    }
                }
                let scan = Scan {
                    series: series.id,
                    from,
                    until: Instant::first_of(range.until),
                    newest_first: false,
                    limit: range.limit - rows.len() + 1,
                };
                for sample in self.scan(&scan).await?.samples {
                    let row = series.row(sample);
                    held.add(row.bytes())?;
                    rows.push(row);
                }
                if rows.len() > range.limit {
                    return Ok(cut(rows, range.limit));
                }
            }
        }
        Ok(cut(rows, range.limit))
    }

    /// Reads each series only as far as the rows found so far require.
    async fn range_by_time(
        &self,
        range: &Range,
        newest_first: bool,
        held: &mut Held,
    ) -> Result<Rows, StorageError> {
        let most = range.limit.saturating_add(1);
        let mut found = TopRows::new(most, newest_first);
        let mut pages = SeriesPages::new(self, &range.selection);
        while let Some(page) = pages.next().await? {
            held.series(page.len().saturating_mul(SERIES_BYTES))?;
            for series in page {
                let mut scan = Scan {
                    series: series.id,
                    from: Instant::first_of(range.from),
                    until: Instant::first_of(range.until),
                    newest_first,
                    limit: most.min(PAGE),
                };
                if let Some(after) = &range.after {
                    behind(&mut scan, &series, after);
                }
                found.narrow(&mut scan);
                while scan.from < scan.until {
                    let scanned = self.scan(&scan).await?;
                    let last = scanned.samples.last().cloned();
                    for sample in scanned.samples {
                        found.add(series.row(sample));
                        held.rows(found.bytes)?;
                    }
                    match last.filter(|_| scanned.has_more) {
                        Some(last) => scan = scan.after(&last),
                        None => break,
                    }
                    found.narrow(&mut scan);
                }
            }
        }
        Ok(cut(found.sorted(), range.limit))
    }
}

impl Position {
    fn instant(&self) -> Instant {
        Instant {
            time: self.time,
            origin: self.origin,
        }
    }
}

/// Skips rows up to a position.
fn behind(scan: &mut Scan, series: &SeriesOf, after: &Position) {
    let (at, next) = (after.instant(), after.instant().next());
    let is_before = series.is_before(after);
    match scan.newest_first {
        true => scan.until = scan.until.min(if is_before { next } else { at }),
        false if is_before || series.is_at(after) => scan.from = scan.from.max(next),
        false => scan.from = scan.from.max(at),
    }
}

fn cut(mut rows: Vec<Row>, limit: usize) -> Rows {
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| has_more).map(Row::position);
    Rows { rows, next }
}

/// The first rows of many series by time; at most twice the requested number is kept.
struct TopRows {
    rows: Vec<Row>,
    bytes: usize,
    most: usize,
    newest_first: bool,
    /// Rows after this instant are not needed any more.
    worst: Option<Instant>,
}

impl TopRows {
    fn new(most: usize, newest_first: bool) -> Self {
        Self {
            rows: Vec::new(),
            bytes: 0,
            most,
            newest_first,
            worst: None,
        }
    }

    fn add(&mut self, row: Row) {
        self.bytes += row.bytes();
        self.rows.push(row);
        if self.rows.len() >= self.most.saturating_mul(2) {
            self.sort();
        }
    }

    fn sort(&mut self) {
        let by = |a: &Row, b: &Row| {
            let key = |row: &Row| (row.time, row.origin, row.device);
            key(a).cmp(&key(b)).then_with(|| a.key.cmp(&b.key))
        };
        match self.newest_first {
            true => self.rows.sort_unstable_by(|a, b| by(b, a)),
            false => self.rows.sort_unstable_by(by),
        }
        if self.rows.len() > self.most {
            self.rows.truncate(self.most);
            self.bytes = self.rows.iter().map(Row::bytes).sum();
        }
        if self.rows.len() == self.most {
            self.worst = self.rows.last().map(|row| row.position().instant());
        }
    }

    /// Restricts a scan to rows that are still needed.
    fn narrow(&mut self, scan: &mut Scan) {
        if self.worst.is_none() && self.rows.len() >= self.most {
            self.sort();
        }
        match (self.worst, self.newest_first) {
            (Some(worst), true) => scan.from = scan.from.max(worst),
            (Some(worst), false) => scan.until = scan.until.min(worst.next()),
            (None, _) => {}
        }
    }

    fn sorted(mut self) -> Vec<Row> {
        self.sort();
        self.rows
    }
}
