//! Aggregates (sums, averages and others) per bucket.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::Arc;

use crate::StorageError;
use crate::bucket::Bucket;
use crate::function::Function;
use crate::held::Held;
use crate::query::{Row, SERIES_BYTES, Selection, SeriesOf, SeriesPages};
use crate::reader::DatabaseReader;
use crate::spans::{Piece, Spans};
use crate::tally::Tally;
use crate::value::{Time, Value};

/// Values for buckets without values. A count is 0 there, in all modes except `Omit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// Such buckets are left out.
    #[default]
    Omit,
    /// Null.
    Null,
    /// The value of the previous bucket; null before the first one.
    Previous,
    /// Linear interpolation between the previous and the next bucket, by their starts; null
    /// outside and for texts.
    Linear,
}

impl FromStr for Fill {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self, StorageError> {
        match text {
            "none" => Ok(Self::Omit),
            "null" => Ok(Self::Null),
            "previous" => Ok(Self::Previous),
            "linear" => Ok(Self::Linear),
            _ => Err(StorageError::Query(format!(
                "{text}: not a way to fill gaps; use none, null, previous or linear"
            ))),
        }
    }
}

/// A query for aggregates per bucket.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// Devices and keys.
    pub selection: Selection,
    /// The first time.
    pub from: Time,
    /// End of the span, exclusive.
    pub until: Time,
    /// Division of time. Values outside `from` to `until` do not count, even if the bucket begins
    /// earlier or ends later.
    pub bucket: Bucket,
    /// Functions computed for each bucket.
    pub functions: Vec<Function>,
    /// Values for buckets without values.
    pub fill: Fill,
    /// Maximum number of rows of the result, at least 1.
    pub limit: usize,
    /// Only rows after this one: [`Aggregated::next`] of the previous result.
    pub after: Option<AggregatePosition>,
}

/// Position of a row in a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregatePosition {
    /// Device of the row.
    pub device: i64,
    /// Key of the row.
    pub key: Arc<str>,
    /// Start of its bucket.
    pub start: Time,
}

/// A bucket of a device and key.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateRow {
    /// Number of the device.
    pub device: i64,
    /// The key.
    pub key: Arc<str>,
    /// Start of the bucket. For [`Bucket::Whole`], the start of the query's span.
    pub start: Time,
    /// Result of each function; null if there is none, such as an average without numbers.
    pub values: Vec<Option<Value>>,
}

impl AggregateRow {
    /// Bytes that it takes.
    fn bytes(&self) -> usize {
        let text_bytes = |value: &Option<Value>| value.as_ref().map_or(0, Value::text_bytes);
        let each = |value| size_of::<Option<Value>>() + text_bytes(value);
        size_of::<Self>() + self.values.iter().map(each).sum::<usize>()
    }
}

/// Rows in order of device, key and bucket, and the position of the next ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aggregated {
    /// The rows.
    pub rows: Vec<AggregateRow>,
    /// Set if there are more rows than the limit: [`Aggregate::after`] of the next query.
    pub next: Option<AggregatePosition>,
}

impl Aggregated {
    /// Whether there are more rows than the limit.
    pub fn is_truncated(&self) -> bool {
        self.next.is_some()
    }
}

impl DatabaseReader {
    /// Computes aggregates per bucket.
    pub(crate) async fn aggregate(
        &self,
        of: &Aggregate,
        held: &mut Held,
    ) -> Result<Aggregated, StorageError> {
        if of.limit == 0 || of.functions.is_empty() {
            let told = "at least one function and a limit of at least 1 are needed";
            return Err(StorageError::Query(told.to_owned()));
        }
        if of.from >= of.until {
            return Ok(Aggregated::default());
        }
        let mut rows = Vec::new();
        let mut pages = SeriesPages::new(self, &of.selection);
        if let Some(after) = &of.after {
            pages.skip_before(after.device);
        }
        while let Some(page) = pages.next().await? {
            held.series(page.len().saturating_mul(SERIES_BYTES))?;
            for series in page {
                let place = (series.device, &*series.key);
                let after = of.after.as_ref();
                let behind = match after.map(|after| (after.device, &*after.key)) {
                    Some(after) if place < after => continue,
                    Some(same) if place == same => after.map(|after| after.start),
                    _ => None,
                };
                let most = of.limit + 1 - rows.len();
                let more = self.aggregate_series(of, &series, behind, most).await?;
                held.add(more.iter().map(AggregateRow::bytes).sum())?;
                rows.extend(more);
                if rows.len() > of.limit {
                    rows.truncate(of.limit);
                    let next = rows.last().map(AggregateRow::position);
                    return Ok(Aggregated { rows, next });
                }
            }
        }
        Ok(Aggregated { rows, next: None })
    }

    async fn aggregate_series(
        &self,
        of: &Aggregate,
        series: &SeriesOf,
        behind: Option<Time>,
        most: usize,
    ) -> Result<Vec<AggregateRow>, StorageError> {
        let mut from = of.from;
        let needs_before = of
            .functions
            .iter()
            .any(|function| function.needs_previous())
            || matches!(of.fill, Fill::Previous | Fill::Linear);
        if let Some(behind) = behind.filter(|_| !needs_before) {
            // Earlier results need not be read again.
            from = from.max(of.bucket.at(behind)?.1);
            if matches!(of.bucket, Bucket::Whole) || from >= of.until {
                return Ok(Vec::new());
            }
        }
        let mut output = Output::new(of, series, from, behind, most);
        if of
            .functions
            .iter()
            .any(|function| function.needs_previous())
        {
            output.previous = self.last_number_before(series, from).await?;
        }
        let keeps_all = of.functions.iter().any(|function| function.needs_all());
        let mut spans = Spans::new(self, &of.bucket, series.id, from..of.until, !keeps_all).await?;
        let mut bucket = (Time::MIN, Time::MIN);
        let mut tally = Tally::new(keeps_all);
        'all: while let Some(pieces) = spans.next().await? {
            for piece in pieces {
                let time = piece.time();
                if time >= bucket.1 {
                    output.end(
                        bucket.0,
                        std::mem::replace(&mut tally, Tally::new(keeps_all)),
                    )?;
                    if output.is_full() {
                        break 'all;
                    }
                    bucket = of.bucket.at(time)?;
                }
                match piece {
                    Piece::Sample(sample) => tally.add(sample)?,
                    Piece::Sums(kind, sums) => tally.add_sums(kind, &sums),
                }
            }
        }
        output.end(bucket.0, tally)?;
        output.fill_until(of.until)?;
        Ok(output.rows.into())
    }

    /// The last number of a series before a time, with its time.
    async fn last_number_before(
        &self,
        series: &SeriesOf,
        until: Time,
    ) -> Result<Option<(Time, Value)>, StorageError> {
        let mut scan = crate::scan::Scan {
            series: series.id,
            from: crate::value::Instant::first_of(Time::MIN),
            until: crate::value::Instant::first_of(until),
            newest_first: true,
            limit: 100,
        };
        loop {
            let scanned = self.scan(&scan).await?;
            let mut numbers = scanned.samples.iter().filter_map(|sample| {
                let value = match &sample.value {
                    Value::Integer(whole) => Value::Integer(*whole),
                    value => Value::Number(value.number()?),
                };
                Some((sample.at.time, value))
            });
            if let Some(found) = numbers.next() {
                return Ok(Some(found));
            }
            match scanned.samples.last().filter(|_| scanned.has_more) {
                Some(last) => scan = scan.after(last),
                None => return Ok(None),
            }
        }
    }
}

impl AggregateRow {
    /// Position of the row in a result.
    pub fn position(&self) -> AggregatePosition {
        AggregatePosition {
            device: self.device,
            key: Arc::clone(&self.key),
            start: self.start,
        }
    }
}

/// Rows of one series, with filled gaps.
struct Output<'a> {
    of: &'a Aggregate,
    series: &'a SeriesOf,
    rows: VecDeque<AggregateRow>,
    /// Rows up to here are in earlier results.
    behind: Option<Time>,
    most: usize,
    /// Start of the next bucket without a row.
    next: Option<Time>,
    from: Time,
    /// The last bucket with values.
    last: Option<AggregateRow>,
    previous: Option<(Time, Value)>,
}

impl<'a> Output<'a> {
    fn new(
        of: &'a Aggregate,
        series: &'a SeriesOf,
        from: Time,
        behind: Option<Time>,
        most: usize,
    ) -> Self {
        Self {
            of,
            series,
            rows: VecDeque::new(),
            behind,
            most,
            next: None,
            from,
            last: None,
            previous: None,
        }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.most
    }

    /// Ends a bucket; adds a row if it has values.
    fn end(&mut self, start: Time, tally: Tally) -> Result<(), StorageError> {
        if tally.is_empty() {
            return Ok(());
        }
        let start = start.max(match self.of.bucket {
            Bucket::Whole => self.of.from,
            Bucket::Fixed(_) | Bucket::Calendar(..) => Time::MIN,
        });
        let functions = self.of.functions.iter();
        let previous = self.previous.as_ref();
        let values = functions.map(|function| tally.value(*function, previous));
        let row = AggregateRow {
            device: self.series.device,
            key: Arc::clone(&self.series.key),
            start,
            values: values.collect(),
        };
        self.previous = tally.last_number().or(self.previous.take());
        self.fill(start, Some(&row))?;
        self.push(row.clone());
        self.next = Some(self.of.bucket.at(start)?.1);
        self.last = Some(row);
        Ok(())
    }

    fn push(&mut self, row: AggregateRow) {
        if self.behind.is_none_or(|behind| row.start > behind) && !self.is_full() {
            self.rows.push_back(row);
        }
    }

    /// Adds rows for buckets without values that begin before a time.
    fn fill(&mut self, until: Time, next: Option<&AggregateRow>) -> Result<(), StorageError> {
        if self.of.fill == Fill::Omit || matches!(self.of.bucket, Bucket::Whole) {
            return Ok(());
        }
        let mut start = match self.next {
            Some(next) => next,
            None => self.of.bucket.at(self.from)?.0,
        };
        while start < until && !self.is_full() {
            let values = self.filled(start, next);
            self.push(AggregateRow {
                device: self.series.device,
                key: Arc::clone(&self.series.key),
                start,
                values,
            });
            let end = self.of.bucket.at(start)?.1;
            if end <= start {
                break;
            }
            start = end;
        }
        Ok(())
    }

    fn fill_until(&mut self, until: Time) -> Result<(), StorageError> {
        match self.last {
            // A series without values in the span has no rows.
            None => Ok(()),
            Some(_) => self.fill(until, None),
        }
    }

    fn filled(&self, start: Time, next: Option<&AggregateRow>) -> Vec<Option<Value>> {
        let functions = self.of.functions.iter().enumerate();
        functions
            .map(|(index, function)| {
                let before = self.last.as_ref();
                let value =
                    |row: Option<&AggregateRow>| row.and_then(|row| row.values[index].clone());
                match (function, self.of.fill) {
                    (Function::Count, _) => Some(Value::Integer(0)),
                    (_, Fill::Omit | Fill::Null) => None,
                    (_, Fill::Previous) => value(before),
                    (_, Fill::Linear) => {
                        let from = (before?.start, value(before)?.number()?);
                        let to = (next?.start, value(next)?.number()?);
                        Some(Value::Number(between(from, to, start)))
                    }
                }
            })
            .collect()
    }
}

fn between(from: (Time, f64), to: (Time, f64), at: Time) -> f64 {
    let part = (at - from.0) as f64 / (to.0 - from.0) as f64;
    from.1 + (to.1 - from.1) * part
}

/// Converts the row of a bucket to rows of values, for text output.
impl AggregateRow {
    /// One row per function, with the key `KEY_FUNCTION`; null results have none.
    pub fn rows(&self, functions: &[Function]) -> Vec<Row> {
        let values = functions.iter().zip(&self.values);
        let row = |(function, value): (&Function, &Option<Value>)| {
            Some(Row {
                device: self.device,
                key: format!("{}_{}", self.key, function.name()).into(),
                time: self.start,
                origin: 0,
                value: value.clone()?,
            })
        };
        values.filter_map(row).collect()
    }
}
