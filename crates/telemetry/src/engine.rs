//! The writer of one of the databases.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::damage::Findings;
use crate::memory::SharedMemory;
use crate::postgres::write::PostgresWriter;
use crate::query::Selection;
use crate::retention::{FirstDays, Retention, Usage};
use crate::series::Points;
use crate::sqlite::write::SqliteWriter;
use crate::tenant_bytes::Space;
use crate::value::{PointRefusal, Time};
use crate::{Location, Settings, StorageError};

/// The writer of one of the databases.
#[derive(Debug)]
pub(crate) enum Engine {
    Sqlite(Box<SqliteWriter>),
    Postgres(Box<PostgresWriter>),
}

impl Engine {
    pub(crate) async fn open(
        location: &Location,
        settings: &Settings,
        memory: Arc<SharedMemory>,
        damage: Findings,
    ) -> Result<Self, StorageError> {
        Ok(match location {
            Location::File(path) => {
                let opened = SqliteWriter::open(path, settings, memory, damage).await;
                Self::Sqlite(Box::new(opened?))
            }
            Location::Postgres(url) => {
                Self::Postgres(Box::new(PostgresWriter::open(url, settings).await?))
            }
        })
    }

    /// Bytes of memory of known series.
    pub(crate) fn known_bytes(&self) -> usize {
        match self {
            Self::Sqlite(writer) => writer.known_bytes(),
            Self::Postgres(writer) => writer.known_bytes(),
        }
    }

    /// Closes the database. Committed values are safe, even if this fails.
    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(writer) => writer.close().await,
            Self::Postgres(writer) => writer.close().await,
        }
    }

    /// Commits points. Returns permanently refused ones by their index, in order.
    pub(crate) async fn commit(
        &mut self,
        points: Points,
    ) -> Result<Vec<(usize, PointRefusal)>, StorageError> {
        match self {
            Self::Sqlite(writer) => {
                // Accepts no values that would not fit into memory: callers wait, or get the
                // error.
                while writer.is_congested() {
                    writer.move_some().await?;
                }
                writer.make_room(&points).await?;
                writer.commit(points).await
            }
            Self::Postgres(writer) => writer.commit(points).await,
        }
    }

    /// Does a small piece of maintenance. Returns whether there is more.
    pub(crate) async fn tidy(&mut self, today: i64) -> Result<bool, StorageError> {
        match self {
            Self::Sqlite(writer) => {
                writer.freeze(writer.packs_at);
                if writer.move_some().await? {
                    return Ok(true);
                }
                writer.roll_some(today).await
            }
            Self::Postgres(writer) => writer.roll_some(today).await,
        }
    }

    /// Does all maintenance.
    pub(crate) async fn pack(&mut self, today: i64) -> Result<(), StorageError> {
        if let Self::Sqlite(writer) = self {
            writer.rest.end();
            writer.move_all().await?;
        }
        while self.tidy(today).await? {}
        Ok(())
    }

    /// The first day with values that are not in blocks yet; `None`: there are none. PostgreSQL
    /// has no blocks.
    pub(crate) fn first_unpacked_day(&self) -> Option<i64> {
        match self {
            Self::Sqlite(writer) => writer.memory.read().first_day(),
            Self::Postgres(_) => None,
        }
    }

    /// Moves some values from memory into blocks. Returns whether more wait.
    pub(crate) async fn pack_some(&mut self) -> Result<bool, StorageError> {
        match self {
            Self::Sqlite(writer) => {
                writer.freeze(0);
                writer.move_some().await
            }
            Self::Postgres(_) => Ok(false),
        }
    }

    /// Deletes the values of a selection in a time span. Returns their number.
    pub(crate) async fn delete(
        &mut self,
        selection: &Selection,
        from: Time,
        until: Time,
    ) -> Result<u64, StorageError> {
        match self {
            Self::Sqlite(writer) => writer.delete(selection, from, until).await,
            Self::Postgres(writer) => writer.delete(selection, from, until).await,
        }
    }

    /// Adds up the bytes of some series after one. Returns the last one; `None`: there are no
    /// more.
    pub(crate) async fn add_usage(
        &mut self,
        retention: &Retention,
        usage: &mut Usage,
        after: i64,
    ) -> Result<Option<i64>, StorageError> {
        match self {
            Self::Sqlite(writer) => writer.add_usage(retention, usage, after).await,
            Self::Postgres(writer) => writer.add_usage(retention, usage, after).await,
        }
    }

    /// Adds up the bytes of the tenants of some series after one. Returns the last one; `None`:
    /// there are no more, or no device has a tenant.
    pub(crate) async fn add_tenants(
        &mut self,
        tenants: &mut BTreeMap<u32, u64>,
        after: i64,
    ) -> Result<Option<i64>, StorageError> {
        match self {
            Self::Sqlite(writer) => writer.add_tenants(tenants, after).await,
            Self::Postgres(_) => Ok(None),
        }
    }

    /// Approximate bytes in the journal of values that are not in blocks yet, by series. PostgreSQL
    /// has no journal.
    pub(crate) fn unpacked(&self) -> Vec<(i64, i64)> {
        let Self::Sqlite(writer) = self else {
            return Vec::new();
        };
        let series = writer.memory.read().journal_by_series().into_iter();
        series
            .map(|(series, bytes)| (series.0, i64::try_from(bytes).unwrap_or(i64::MAX)))
            .collect()
    }

    /// Adds some of these bytes to their tenants.
    pub(crate) async fn add_unpacked(
        &mut self,
        tenants: &mut BTreeMap<u32, u64>,
        series: &[(i64, i64)],
    ) -> Result<(), StorageError> {
        match self {
            Self::Sqlite(writer) => writer.add_unpacked(tenants, series).await,
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Space of the file. `None`: it is not known, as with PostgreSQL.
    pub(crate) async fn space(&mut self) -> Result<Option<Space>, StorageError> {
        match self {
            Self::Sqlite(writer) => writer.space().await,
            Self::Postgres(_) => Ok(None),
        }
    }

    /// Deletes the days of some series after one that are before the first day that is kept.
    /// Returns the number of values, and the last series; `None`: there are no more.
    pub(crate) async fn forget_some(
        &mut self,
        retention: &Retention,
        first_days: &FirstDays,
        after: i64,
    ) -> Result<(u64, Option<i64>), StorageError> {
        match self {
            Self::Sqlite(writer) => writer.forget_some(retention, first_days, after).await,
            Self::Postgres(writer) => writer.forget_some(retention, first_days, after).await,
        }
    }
}
