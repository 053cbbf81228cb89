//! Reads samples from memory and blocks.

use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqlitePool;

use super::flush::{block_of, damaged};
use super::write::json;
use crate::codec::block::decode;
use crate::memory::{SharedMemory, merge};
use crate::scan::{Scan, Scanned};
use crate::value::{DAY, Instant, Sample, SeriesId, Time};
use crate::{Settings, StorageError};

/// Readers of a file.
#[derive(Clone, Debug)]
pub(crate) struct SqliteReader {
    pool: SqlitePool,
    memory: Arc<SharedMemory>,
    place: Arc<str>,
}

impl SqliteReader {
    pub(crate) fn new(path: &Path, settings: &Settings, memory: Arc<SharedMemory>) -> Self {
        Self {
            pool: super::readers(path, settings),
            memory,
            place: path.display().to_string().into(),
        }
    }

    fn error(&self, error: sqlx::Error) -> StorageError {
        StorageError::of_sql(&self.place, error)
    }

    /// Closes the connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Series of devices: device, key and number, in order of device and key.
    pub(crate) async fn series(
        &self,
        devices: &[i64],
    ) -> Result<Vec<(i64, String, SeriesId)>, StorageError> {
        let sql = "SELECT s.device, s.key, s.id FROM json_each(?1) j \
                   CROSS JOIN series s ON s.device = j.value ORDER BY s.device, s.key";
        let rows = sqlx::query_as::<_, (i64, String, i64)>(sql).bind(json(devices));
        let rows = rows.fetch_all(&self.pool).await;
        let rows = rows.map_err(|error| self.error(error))?.into_iter();
        Ok(rows
            .map(|(device, key, id)| (device, key, SeriesId(id)))
            .collect())
    }

    /// Numbers of devices that have values, in order, after a device.
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
        // One more than asked for tells whether there are more. Memory comes first: what moves
        // into blocks meanwhile is seen twice then, and not missed.
        let most = scan.limit.saturating_add(1);
        let newer =
            self.memory
                .read()
                .scan(scan.series, scan.from, scan.until, scan.newest_first, most);
        let older = self.scan_blocks(scan, most).await?;
        let mut samples = merge(older, newer, scan.newest_first);
        let has_more = samples.len() > scan.limit;
        samples.truncate(scan.limit);
        Ok(Scanned { samples, has_more })
    }

    async fn scan_blocks(&self, scan: &Scan, most: usize) -> Result<Vec<Sample>, StorageError> {
        // Blocks do not overlap, and none is of two days: the first one that matters begins before
        // `from`, at most a day before it.
        let sql = match scan.newest_first {
            false => {
                "SELECT time, origin, last_time, samples, data FROM blocks WHERE series = ?1 \
                 AND time >= coalesce((SELECT max(time) FROM blocks WHERE series = ?1 \
                 AND time < ?2 AND time >= ?3), ?2) AND time <= ?4 ORDER BY time, origin"
            }
            true => {
                "SELECT time, origin, last_time, samples, data FROM blocks WHERE series = ?1 \
                 AND time >= coalesce((SELECT max(time) FROM blocks WHERE series = ?1 \
                 AND time < ?2 AND time >= ?3), ?2) AND time <= ?4 ORDER BY time DESC, origin DESC"
            }
        };
        let mut rows = sqlx::query(sql)
            .bind(scan.series.0)
            .bind(scan.from.time)
            .bind(scan.from.time.saturating_sub(DAY))
            .bind(scan.until.time)
            .fetch(&self.pool);
        let mut found = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(|error| self.error(error))? {
            let block = block_of(&row).map_err(|error| self.error(error))?;
            if block.at >= scan.until || block.last_time < scan.from.time {
                continue;
            }
            let samples = decode(&block.data)
                .map_err(|broken| damaged(scan.series, &block, broken.0).at(&self.place))?;
            take(&mut found, samples, scan);
            if found.len() >= most {
                break;
            }
        }
        Ok(found)
    }

    /// The first and last time of what is in memory of a series in a span of time.
    pub(crate) fn in_memory(
        &self,
        series: SeriesId,
        from: Time,
        until: Time,
    ) -> Option<(Time, Time)> {
        self.memory.read().bounds(series, from, until)
    }

    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    pub(crate) fn place(&self) -> &Arc<str> {
        &self.place
    }
}

/// Appends those samples of a block that are asked for.
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
