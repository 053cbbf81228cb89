//! Reads a series for aggregation: roll-ups where they are valid and fit, otherwise values.

use std::collections::VecDeque;
use std::ops::Range;

use crate::StorageError;
use crate::bucket::{Bucket, Level, level_of};
use crate::query::PAGE;
use crate::reader::DatabaseReader;
use crate::rollup::{NumberKind, SpanSums, decode};
use crate::scan::Scan;
use crate::value::{DAY, Instant, Sample, SeriesId, TIME_END, TIME_MIN, Time, day_of};

/// Days whose roll-ups are looked up in one step.
const DAYS_PER_STEP: i64 = 64;

/// A value, or a roll-up of many values.
#[derive(Debug)]
pub(crate) enum Piece {
    Sample(Sample),
    Sums(NumberKind, SpanSums),
}

impl Piece {
    /// A time in the same bucket as the whole piece.
    pub(crate) fn time(&self) -> Time {
        match self {
            Self::Sample(sample) => sample.at.time,
            Self::Sums(_, entry) => entry.first_time,
        }
    }
}

/// The pieces of a series in a time span, in order.
#[derive(Debug)]
pub(crate) struct Spans<'a> {
    reader: &'a DatabaseReader,
    bucket: &'a Bucket,
    series: SeriesId,
    from: Time,
    until: Time,
    /// Everything before this instant has been read.
    at: Instant,
    /// Days with roll-ups, in order, from the day of `at`.
    rolled: VecDeque<i64>,
    /// Days before this one have been looked up.
    looked_up: i64,
    /// The last day with roll-ups; `None`: roll-ups are not used.
    last_rolled: Option<i64>,
}

impl<'a> Spans<'a> {
    pub(crate) async fn new(
        reader: &'a DatabaseReader,
        bucket: &'a Bucket,
        series: SeriesId,
        times: Range<Time>,
        uses_rollups: bool,
    ) -> Result<Self, StorageError> {
        let (from, until) = (times.start.max(TIME_MIN), times.end);
        let days = day_of(from)..day_of(until.min(TIME_END)) + 1;
        let bounds = match uses_rollups {
            true => reader.rolled_bounds(series, days).await?,
            false => None,
        };
        Ok(Self {
            reader,
            bucket,
            series,
            from,
            until,
            at: Instant::first_of(from),
            rolled: VecDeque::new(),
            looked_up: bounds.map_or(i64::MAX, |(first, _)| first),
            last_rolled: bounds.map(|(_, last)| last),
        })
    }

    /// The next pieces; `None`: there are no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Piece>>, StorageError> {
        loop {
            if self.at.time >= self.until {
                return Ok(None);
            }
            self.look_up().await?;
            if let Some(day) = self.rolled.front().copied() {
                let begin = Instant::first_of(day * DAY);
                if self.at < begin {
                    return self.values(day * DAY).await.map(Some);
                }
                self.rolled.pop_front();
                // Only a part of the first day is needed.
                let is_at_begin = self.at == begin.max(Instant::first_of(self.from));
                if is_at_begin && let Some(pieces) = self.entries(day).await? {
                    self.at = Instant::first_of((day + 1) * DAY);
                    return Ok(Some(pieces));
                }
                return self.values((day + 1) * DAY).await.map(Some);
            }
            // Up to the next day that may have roll-ups and was not looked up.
            let until = match self.last_rolled {
                Some(last) if self.looked_up <= last => self.looked_up.saturating_mul(DAY),
                _ => Time::MAX,
            };
            if Instant::first_of(until) > self.at {
                return self.values(until).await.map(Some);
            }
        }
    }

    /// Looks up which of the next days have roll-ups.
    async fn look_up(&mut self) -> Result<(), StorageError> {
        let Some(last) = self.last_rolled else {
            return Ok(());
        };
        while self.rolled.is_empty()
            && self.looked_up <= last
            && self.looked_up.saturating_mul(DAY) <= self.at.time
        {
            let days = self.looked_up..self.looked_up + DAYS_PER_STEP;
            // Memory is read first: values that move into blocks afterwards remove the roll-ups.
            let without = self.reader.days_without_rollups(
                self.series,
                days.start.saturating_mul(DAY),
                days.end.saturating_mul(DAY),
            );
            let found = self.reader.rollups(self.series, Level::Day, days.clone());
            let found = found.await?.into_iter().map(|(day, _)| day);
            self.rolled = found.filter(|day| !without.contains(day)).collect();
            self.looked_up = days.end;
        }
        Ok(())
    }

    /// The entries of a day, of the longest level that is not cut; `None`: there are none.
    async fn entries(&self, day: i64) -> Result<Option<Vec<Piece>>, StorageError> {
        let (from, until) = (self.from, self.until);
        let Some(level) = level_of(self.bucket, day, from, until)? else {
            return Ok(None);
        };
        let found = self
            .reader
            .rollups(self.series, level, day..day + 1)
            .await?;
        let Some((_, bytes)) = found.first() else {
            return Ok(None);
        };
        let (kind, entries) = decode(bytes, level, day).map_err(|broken| {
            self.reader.damaged(format!(
                "roll-ups of series {} of day {day}: {}",
                self.series.0, broken.0
            ))
        })?;
        let wanted = entries.into_iter().filter(|entry| entry.start >= from);
        let wanted = wanted.filter(|entry| entry.start < until);
        Ok(Some(wanted.map(|entry| Piece::Sums(kind, entry)).collect()))
    }

    /// A page of values before a time.
    async fn values(&mut self, until: Time) -> Result<Vec<Piece>, StorageError> {
        let until = Instant::first_of(until.min(self.until));
        let scan = Scan {
            series: self.series,
            from: self.at,
            until,
            newest_first: false,
            limit: PAGE,
        };
        let scanned = self.reader.scan(&scan).await?;
        self.at = match scanned.samples.last().filter(|_| scanned.has_more) {
            Some(last) => last.at.next(),
            None => until,
        };
        // Unpacking does not yield, so other tasks get a turn between two pages.
        tokio::task::yield_now().await;
        Ok(scanned.samples.into_iter().map(Piece::Sample).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{HOUR, Point, SECOND, Value};
    use crate::{Location, Settings, Storage};

    /// One value per second for two hours of a day.
    fn points(day: i64) -> Vec<Point> {
        let point = |second| Point {
            device: 1,
            tenant: 0,
            key: "level".into(),
            time: day * DAY + HOUR + second * SECOND,
            origin: 0,
            value: Value::Integer(second),
        };
        (0..7200).map(point).collect()
    }

    async fn pieces(storage: &Storage, bucket: Bucket) -> (usize, usize) {
        let reader = storage.reader();
        let series = reader.series(&[1]).await.unwrap()[0].2;
        let mut spans = Spans::new(reader, &bucket, series, Time::MIN..Time::MAX, true)
            .await
            .unwrap();
        let (mut samples, mut entries) = (0, 0);
        while let Some(pieces) = spans.next().await.unwrap() {
            for piece in pieces {
                match piece {
                    Piece::Sample(_) => samples += 1,
                    Piece::Sums(..) => entries += 1,
                }
            }
        }
        (samples, entries)
    }

    #[tokio::test]
    async fn roll_ups_are_read_where_they_are_right_and_values_elsewhere() {
        let name = format!("martlet-telemetry-spans-{}.db", std::process::id());
        let path = std::env::temp_dir().join(name);
        let location = Location::File(path.clone());
        let storage = Storage::open(location, Settings::default()).await.unwrap();
        storage.write(points(20_000)).await.unwrap();
        storage.write(points(20_100)).await.unwrap();
        assert_eq!(pieces(&storage, Bucket::Fixed(DAY)).await, (14_400, 0));
        storage.pack().await.unwrap();
        assert_eq!(pieces(&storage, Bucket::Fixed(DAY)).await, (0, 2));
        assert_eq!(pieces(&storage, Bucket::Fixed(HOUR)).await, (0, 4));
        assert_eq!(pieces(&storage, Bucket::Fixed(60 * SECOND)).await, (0, 240));
        assert_eq!(pieces(&storage, Bucket::Fixed(SECOND)).await, (14_400, 0));
        let mut late = points(20_100);
        late.truncate(1);
        late[0].time += 1;
        storage.write(late).await.unwrap();
        assert_eq!(pieces(&storage, Bucket::Fixed(DAY)).await, (7_201, 1));
        storage.pack().await.unwrap();
        assert_eq!(pieces(&storage, Bucket::Fixed(DAY)).await, (0, 2));
        storage.close().await.unwrap();
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", path.display()));
        }
    }
}
