//! Reads samples from memory and blocks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqlitePool;

use super::check::Checks;
use super::failure::Failure;
use super::flush::block_of;
use super::write::json;
use super::{READER_CACHE_BYTES, WRITER_CACHE_BYTES, series};
use crate::bucket::Level;
use crate::damage::Findings;
use crate::memory::{SharedMemory, merge};
use crate::scan::{Scan, Scanned};
use crate::series::by_tenant;
use crate::value::{DAY, Instant, Sample, SeriesId, Time, day_of};
use crate::{Settings, StorageError};

/// Blocks of a series and a time span. Blocks do not overlap, and each belongs to one day: the
/// first relevant one begins before `from`, at most a day before it.
const OLDEST_FIRST: &str = "SELECT time, origin, last_time, samples, data FROM blocks \
    WHERE series = ?1 AND time >= coalesce((SELECT max(time) FROM blocks WHERE series = ?1 \
    AND time < ?2 AND time >= ?3), ?2) AND time <= ?4 ORDER BY time, origin LIMIT ?5";
const NEWEST_FIRST: &str = "SELECT time, origin, last_time, samples, data FROM blocks \
    WHERE series = ?1 AND time >= coalesce((SELECT max(time) FROM blocks WHERE series = ?1 \
    AND time < ?2 AND time >= ?3), ?2) AND time <= ?4 ORDER BY time DESC, origin DESC LIMIT ?5";

/// Readers of a file.
#[derive(Clone, Debug)]
pub(crate) struct SqliteReader {
    pool: SqlitePool,
    memory: Arc<SharedMemory>,
    place: Arc<str>,
    checks: Arc<Checks>,
    damage: Findings,
}

impl SqliteReader {
    pub(crate) fn new(
        path: &Path,
        settings: &Settings,
        memory: Arc<SharedMemory>,
        damage: Findings,
    ) -> Self {
        Self {
            pool: super::readers(path, settings),
            memory,
            place: path.display().to_string().into(),
            checks: Arc::default(),
            damage,
        }
    }

    fn error(&self, error: sqlx::Error) -> StorageError {
        self.failed(Failure::Sql(error))
    }

    /// The error for a failure. Damage is noted too: an answer that breaks off shows no error.
    pub(crate) fn failed(&self, failure: Failure) -> StorageError {
        failure.noted_at(&self.place, &self.damage)
    }

    /// Checks the whole file. Returns what is damaged, in words.
    pub(crate) async fn check(&self) -> Result<Vec<String>, StorageError> {
        self.checks.run(&self.place, &self.damage).await
    }

    /// Maximum bytes of memory for cached pages of the file: a connection caches no more than the
    /// file has.
    pub(crate) fn cache_bytes(&self) -> usize {
        let file = std::fs::metadata(&*self.place).map_or(0, |found| found.len());
        let file = usize::try_from(file).unwrap_or(usize::MAX);
        let readers = usize::try_from(self.pool.size()).unwrap_or(0);
        let readers = readers + usize::from(self.checks.is_running());
        WRITER_CACHE_BYTES.min(file) + readers * READER_CACHE_BYTES.min(file)
    }

    /// Closes the connections.
    pub(crate) async fn close(&self) {
        self.checks.close().await;
        self.pool.close().await;
    }

    /// Series of devices: device, key and number, in order of device and key.
    pub(crate) async fn series(
        &self,
        devices: &[i64],
    ) -> Result<Vec<(i64, String, SeriesId)>, StorageError> {
        let sql = "SELECT s.id, s.device, s.key, s.sum FROM json_each(?1) j \
                   CROSS JOIN series s ON s.device = j.value ORDER BY s.device, s.key";
        let rows = sqlx::query(sql).bind(json(devices));
        let rows = rows.fetch_all(&self.pool).await.map_err(Failure::from);
        let series = rows.and_then(|rows| {
            let rows = rows.iter().map(series::of_row);
            rows.map(|row| row.map(|(id, device, key)| (device, key, id)))
                .collect()
        });
        series.map_err(|failure| {
            let error = failure.at(&self.place);
            if let StorageError::Damaged { what, .. } = &error {
                let what = format!("the table of series: {what}. A restart mends it if it can");
                self.damage.note(vec![what]);
            }
            error
        })
    }

    /// Numbers of devices with values, in order, after a device.
    pub(crate) async fn devices(&self, after: i64, limit: u32) -> Result<Vec<i64>, StorageError> {
        let sql = "SELECT DISTINCT device FROM series WHERE device > ?1 ORDER BY device LIMIT ?2";
        let found = sqlx::query_scalar(sql).bind(after).bind(limit);
        found
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.error(error))
    }

    /// Samples of a series.
    pub(crate) async fn scan(&self, scan: &Scan) -> Result<Scanned, StorageError> {
        // One more than requested, to detect whether there are more. Memory is read first: values
        // that move into blocks in between are seen twice then, and not missed.
        let most = scan.limit.saturating_add(1);
        let span = (scan.from, scan.until);
        let newer = self.memory.scan(scan.series, span, scan.newest_first, most);
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| self.error(error))?;
        let older = self.scan_blocks(&mut connection, scan, most).await?;
        let mut samples = merge(older, newer, scan.newest_first);
        let has_more = samples.len() > scan.limit;
        samples.truncate(scan.limit);
        Ok(Scanned { samples, has_more })
    }

    async fn scan_blocks(
        &self,
        on: &mut SqliteConnection,
        scan: &Scan,
        most: usize,
    ) -> Result<Vec<Sample>, StorageError> {
        // Each block has at least one sample, and few of them are outside the span. Without a
        // limit, the connection's thread would read many blocks ahead for one sample.
        let enough = i64::try_from(most.saturating_add(8)).unwrap_or(i64::MAX);
        let (found, blocks) = self.scan_some(&mut *on, scan, most, enough).await?;
        if found.len() >= most || blocks < enough {
            return Ok(found);
        }
        let (found, _) = self.scan_some(on, scan, most, i64::MAX).await?;
        Ok(found)
    }

    /// Samples of at most this number of blocks, and the number of blocks that were read.
    async fn scan_some(
        &self,
        on: &mut SqliteConnection,
        scan: &Scan,
        most: usize,
        blocks_max: i64,
    ) -> Result<(Vec<Sample>, i64), StorageError> {
        let sql = match scan.newest_first {
            false => OLDEST_FIRST,
            true => NEWEST_FIRST,
        };
        let mut rows = sqlx::query(sql)
            .bind(scan.series.0)
            .bind(scan.from.time)
            .bind(scan.from.time.saturating_sub(DAY))
            .bind(scan.until.time)
            .bind(blocks_max)
            .fetch(on);
        let mut found = Vec::new();
        let mut blocks = 0;
        while let Some(row) = rows.try_next().await.map_err(|error| self.error(error))? {
            blocks += 1;
            let block = block_of(&row).map_err(|error| self.error(error))?;
            if block.at >= scan.until || block.last_time < scan.from.time {
                continue;
            }
            let samples = block.samples_of(scan.series);
            let samples = samples.map_err(|failure| self.failed(failure))?;
            take(&mut found, samples, scan);
            if found.len() >= most {
                break;
            }
        }
        Ok((found, blocks))
    }

    /// Days of a series in a time span whose roll-ups lack values that are in memory.
    pub(crate) fn days_without_rollups(
        &self,
        series: SeriesId,
        from: Time,
        until: Time,
    ) -> Vec<i64> {
        self.memory.days(series, from, until)
    }

    /// The first and the last day with roll-ups among some days.
    pub(crate) async fn rolled_bounds(
        &self,
        series: SeriesId,
        days: std::ops::Range<i64>,
    ) -> Result<Option<(i64, i64)>, StorageError> {
        let sql = "SELECT (SELECT min(day) FROM rollups WHERE series = ?1 AND level = ?2 \
                   AND day >= ?3 AND day < ?4), (SELECT max(day) FROM rollups \
                   WHERE series = ?1 AND level = ?2 AND day >= ?3 AND day < ?4)";
        let bounds = sqlx::query_as::<_, (Option<i64>, Option<i64>)>(sql).bind(series.0);
        let bounds = bounds
            .bind(Level::Day.number())
            .bind(days.start)
            .bind(days.end);
        let bounds = bounds.fetch_one(&self.pool).await;
        let (first, last) = bounds.map_err(|error| self.error(error))?;
        Ok(first.zip(last))
    }

    /// The bytes of roll-ups of a series by day, from a day to before another one.
    pub(crate) async fn rollups(
        &self,
        series: SeriesId,
        level: Level,
        days: std::ops::Range<i64>,
    ) -> Result<Vec<(i64, Vec<u8>)>, StorageError> {
        let sql = "SELECT day, data FROM rollups WHERE series = ?1 AND level = ?2 \
                   AND day >= ?3 AND day < ?4 ORDER BY day";
        let rows = sqlx::query_as(sql).bind(series.0).bind(level.number());
        let rows = rows.bind(days.start).bind(days.end).fetch_all(&self.pool);
        rows.await.map_err(|error| self.error(error))
    }

    /// Number of values of a device.
    pub(crate) async fn count(&self, device: i64) -> Result<u64, StorageError> {
        let mut count = 0;
        for (_, _, series) in self.series(&[device]).await? {
            let span = (Instant::first_of(Time::MIN), Instant::first_of(Time::MAX));
            let newer = self.memory.scan(series, span, false, usize::MAX);
            // Packed values are counted in two queries, which must use the same snapshot.
            let begun = self.pool.begin().await;
            let mut reading = begun.map_err(|error| self.error(error))?;
            let sql = "SELECT coalesce(sum(samples), 0) FROM days WHERE series = ?1";
            let packed = sqlx::query_scalar::<_, i64>(sql).bind(series.0);
            let packed = packed.fetch_one(&mut *reading).await;
            let packed = packed.map_err(|error| self.error(error))?;
            count += u64::try_from(packed).unwrap_or(0);
            count += self.count_new(&mut reading, series, &newer).await?;
        }
        Ok(count)
    }

    /// How many of these samples are not in blocks.
    async fn count_new(
        &self,
        on: &mut SqliteConnection,
        series: SeriesId,
        samples: &[Sample],
    ) -> Result<u64, StorageError> {
        let mut count = 0;
        for of_day in samples.chunk_by(|a, b| day_of(a.at.time) == day_of(b.at.time)) {
            let (Some(first), Some(last)) = (of_day.first(), of_day.last()) else {
                continue;
            };
            let scan = Scan {
                series,
                from: first.at,
                until: last.at.next(),
                newest_first: false,
                limit: usize::MAX,
            };
            let older = self.scan_blocks(&mut *on, &scan, usize::MAX).await?;
            let before = older.len();
            count += merge(older, of_day.to_vec(), false).len() - before;
        }
        Ok(count as u64)
    }

    /// Number of series by tenant.
    pub(crate) async fn series_by_tenant(&self) -> Result<BTreeMap<u32, u64>, StorageError> {
        let sql = "SELECT coalesce(tenant, 0), count(*) FROM series LEFT JOIN tenants \
                   USING (device) GROUP BY 1";
        let counts = sqlx::query_as::<_, (i64, i64)>(sql).fetch_all(&self.pool);
        let counts = counts.await.map_err(|error| self.error(error))?;
        Ok(by_tenant(counts))
    }

    /// Bytes in use in the file; space of deleted values is reused.
    pub(crate) async fn bytes(&self) -> Result<u64, StorageError> {
        let sql = "SELECT (page_count - freelist_count) * page_size \
                   FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let bytes = sqlx::query_scalar::<_, i64>(sql)
            .fetch_one(&self.pool)
            .await;
        let bytes = bytes.map_err(|error| self.error(error))?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    /// Writes all current values into a new file. Returns the damaged pages, in words.
    pub(crate) async fn backup_to(&self, path: &Path) -> Result<Vec<String>, StorageError> {
        super::backup::backup(&self.place, path).await
    }
}

/// Appends the requested samples of a block.
fn take(to: &mut Vec<Sample>, samples: Vec<Sample>, scan: &Scan) {
    let is_whole =
        |(first, last): (&Sample, &Sample)| first.at >= scan.from && last.at < scan.until;
    if !scan.newest_first && samples.first().zip(samples.last()).is_some_and(is_whole) {
        to.extend(samples);
        return;
    }
    let span: std::ops::Range<Instant> = scan.from..scan.until;
    let wanted = samples
        .into_iter()
        .filter(|sample| span.contains(&sample.at));
    match scan.newest_first {
        true => to.extend(wanted.rev()),
        false => to.extend(wanted),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, Executor as _};

    use super::*;

    /// The statement reads one range of the primary key, after a lookup of its beginning. It scans
    /// neither whole tables nor other series, and sorts nothing.
    #[tokio::test]
    async fn a_span_of_a_series_is_one_range_read() {
        let mut on = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let schema = sqlx::raw_sql(include_str!("schema.sql"));
        on.execute(schema).await.unwrap();
        for sql in [OLDEST_FIRST, NEWEST_FIRST] {
            let explained = format!("EXPLAIN QUERY PLAN {sql}");
            let rows = sqlx::query_as::<_, (i64, i64, i64, String)>(sqlx::AssertSqlSafe(explained));
            let rows = rows.bind(1).bind(2).bind(3).bind(4).bind(5);
            let plan = rows.fetch_all(&mut on).await.unwrap();
            let steps: Vec<&str> = plan.iter().map(|(_, _, _, step)| &**step).collect();
            let range = "SEARCH blocks USING PRIMARY KEY (series=? AND time>? AND time<?)";
            assert_eq!(steps, [range, "SCALAR SUBQUERY 1", range]);
        }
    }
}
