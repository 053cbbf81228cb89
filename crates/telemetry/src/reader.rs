//! Reading, whatever the database is.

use crate::StorageError;
use crate::scan::{Scan, Scanned};
use crate::sqlite::read::SqliteReader;
use crate::value::SeriesId;

/// Readers of a database.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    Sqlite(SqliteReader),
}

impl Reader {
    /// Series of devices: device, key and number, in order of device and key (by its bytes).
    pub(crate) async fn series(
        &self,
        devices: &[i64],
    ) -> Result<Vec<(i64, String, SeriesId)>, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.series(devices).await,
        }
    }

    /// Numbers of devices that have values, in order, after a device.
    pub(crate) async fn devices(&self, after: i64, limit: u32) -> Result<Vec<i64>, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.devices(after, limit).await,
        }
    }

    /// A page of samples.
    pub(crate) async fn scan(&self, scan: &Scan) -> Result<Scanned, StorageError> {
        match self {
            Self::Sqlite(reader) => reader.scan(scan).await,
        }
    }

    /// Closes its connections.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(reader) => reader.close().await,
        }
    }
}
