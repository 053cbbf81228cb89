//! Reads values from either database.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::StorageError;
use crate::bucket::Level;
use crate::postgres::read::PostgresReader;
use crate::scan::{Scan, Scanned};
use crate::sqlite::failure::Failure;
use crate::sqlite::read::SqliteReader;
use crate::value::{SeriesId, Time};

/// Readers of a database.
#[derive(Clone, Debug)]
pub(crate) enum DatabaseReader {
    Sqlite(SqliteReader),
    Postgres(PostgresReader),
}

impl DatabaseReader {
    /// Series of devices: device, key and number, in order of device and key (by its bytes).
    pub(crate) async fn series(
        &self,
        devices: &[i64],
    ) -> Result<Vec<(i64, String, SeriesId)>, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.series(devices).await,
            Self::Postgres(reader) => reader.series(devices).await,
        }
    }

    /// Numbers of devices with values, in order, after a device.
    pub(crate) async fn devices(&self, after: i64, limit: u32) -> Result<Vec<i64>, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.devices(after, limit).await,
            Self::Postgres(reader) => reader.devices(after, limit).await,
        }
    }

    /// Maximum bytes of memory for cached pages of the file.
    pub(crate) fn cache_bytes(&self) -> usize {
        match self {
            Self::Sqlite(reader) => reader.cache_bytes(),
            Self::Postgres(_) => 0,
        }
    }

    /// A page of samples.
    pub(crate) async fn scan(&self, scan: &Scan) -> Result<Scanned, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.scan(scan).await,
            Self::Postgres(reader) => reader.scan(scan).await,
        }
    }

    /// Days of a series in a time span whose roll-ups are incomplete.
    pub(crate) fn days_without_rollups(
        &self,
        series: SeriesId,
        from: Time,
        until: Time,
    ) -> Vec<i64> {
        match self {
            Self::Sqlite(reader) => reader.days_without_rollups(series, from, until),
            Self::Postgres(_) => Vec::new(),
        }
    }

    /// The first and the last day with roll-ups among some days.
    pub(crate) async fn rolled_bounds(
        &self,
        series: SeriesId,
        days: Range<i64>,
    ) -> Result<Option<(i64, i64)>, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.rolled_bounds(series, days).await,
            Self::Postgres(reader) => reader.rolled_bounds(series, days).await,
        }
    }

    /// The bytes of roll-ups of a series by day.
    pub(crate) async fn rollups(
        &self,
        series: SeriesId,
        level: Level,
        days: Range<i64>,
    ) -> Result<Vec<(i64, Vec<u8>)>, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.rollups(series, level, days).await,
            Self::Postgres(reader) => reader.rollups(series, level, days).await,
        }
    }

    /// Number of values of a device.
    pub(crate) async fn count(&self, device: i64) -> Result<u64, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.count(device).await,
            Self::Postgres(reader) => reader.count(device).await,
        }
    }

    /// Number of series by tenant.
    pub(crate) async fn series_by_tenant(&self) -> Result<BTreeMap<u32, u64>, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.series_by_tenant().await,
            Self::Postgres(reader) => reader.series_by_tenant().await,
        }
    }

    /// Bytes in use on disk.
    pub(crate) async fn bytes(&self) -> Result<u64, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.bytes().await,
            Self::Postgres(reader) => reader.bytes().await,
        }
    }

    /// Checks the whole file. Returns what is damaged, in words.
    pub(crate) async fn check(&self) -> Result<Vec<String>, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.check().await,
            Self::Postgres(_) => Ok(Vec::new()),
        }
    }

    /// Writes a copy to a new file. Returns the damaged pages, in words.
    pub(crate) async fn backup_to(&self, path: &Path) -> Result<Vec<String>, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.backup_to(path).await,
            Self::Postgres(_) => Err(StorageError::Query(
                "the telemetry is in PostgreSQL: back it up with pg_dump".to_owned(),
            )),
        }
    }

    /// The error for damaged bytes.
    pub(crate) fn damaged(&self, what: String) -> StorageError {
        match self {
            Self::Sqlite(reader) => reader.failed(Failure::Damaged(what)),
            Self::Postgres(reader) => {
                let place = reader.place().to_owned();
                StorageError::Damaged { place, what }
            }
        }
    }

    /// Closes its connections.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(reader) => reader.close().await,
            Self::Postgres(reader) => reader.close().await,
        }
    }
}
