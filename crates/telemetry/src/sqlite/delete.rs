//! Deletes spans of series, and days that exceed the retention limits.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use sqlx::{Row as _, SqliteConnection};

use super::failure::Failure;
use super::flush::{Changes, block_of};
use super::write::{SqliteWriter, json};
use super::{in_transaction, series};
use crate::StorageError;
use crate::memory::SharedMemory;
use crate::query::Selection;
use crate::retention::{FirstDays, Retention, Usage, UsageRow, tenant_of, whole_days};
use crate::value::{DAY, PAGE_BYTES, ROW_BYTES_MAX, SeriesId, Time, day_of};

/// Series that are processed in one transaction.
const SERIES_PER_STEP: i64 = 1_000;

/// Approximate bytes of the rows of a day of a series, beside its packed values.
const DAY_BYTES: i64 = 64;

impl SqliteWriter {
    /// Deletes the values of a selection in a time span. Returns their number.
    pub(crate) async fn delete(
        &mut self,
        selection: &Selection,
        from: Time,
        until: Time,
    ) -> Result<u64, StorageError> {
        self.rest.end();
        // After it, blocks have all values: no deleted value can come back from a row of the
        // journal.
        let mut deleted = 0;
        match self.move_all().await {
            Err(StorageError::Full { .. }) => {
                // Deleting packed values makes room for the others.
                deleted += self.delete_packed(selection, from, until).await?;
                self.rest.end();
                self.move_all().await?;
            }
            moved => moved?,
        }
        Ok(deleted + self.delete_packed(selection, from, until).await?)
    }

    async fn delete_packed(
        &mut self,
        selection: &Selection,
        from: Time,
        until: Time,
    ) -> Result<u64, StorageError> {
        let mut deleted = 0;
        for device in &selection.devices {
            let memory = Arc::clone(&self.memory);
            let connection = &mut self.connection;
            let done = delete_of(
                connection,
                *device,
                selection,
                from..until,
                is_idle(&memory),
            );
            deleted += match done.await {
                Ok(deleted) => deleted,
                Err(failure) => return Err(self.failed(failure).await),
            };
            self.known.forget_device(*device);
        }
        Ok(deleted)
    }

    /// Adds up the bytes of some series after one. Returns the last one; `None`: there are no
    /// more.
    pub(crate) async fn add_usage(
        &mut self,
        retention: &Retention,
        usage: &mut Usage,
        after: i64,
    ) -> Result<Option<i64>, StorageError> {
        let sql = "SELECT s.id, s.device, s.tenant, d.day, d.bytes FROM \
                   (SELECT id, device, coalesce(tenant, 0) AS tenant FROM series \
                   LEFT JOIN tenants USING (device) WHERE id > ?1 ORDER BY id LIMIT ?2) s \
                   LEFT JOIN days d ON d.series = s.id ORDER BY s.id";
        let rows = sqlx::query_as::<_, UsageRow>(sql);
        let rows = rows.bind(after).bind(SERIES_PER_STEP);
        let rows = rows.fetch_all(&mut self.connection).await;
        let rows = rows.map_err(|error| self.error(error))?;
        Ok(usage.add_rows(retention, rows))
    }

    /// Adds up the bytes of the tenants of some series after one, about as much as their rows take
    /// in proportion to each other. Returns the last one; `None`:
    /// there are no more, or no device has a tenant.
    pub(crate) async fn add_tenants(
        &mut self,
        tenants: &mut BTreeMap<u32, u64>,
        after: i64,
    ) -> Result<Option<i64>, StorageError> {
        let sql = "SELECT id, coalesce(tenant, 0), \
                   (SELECT \
                   coalesce(sum(bytes + ?3 + iif(bytes > ?4 * samples, ?5 * samples, 0)), 0) \
                   FROM days WHERE days.series = series.id) \
                   FROM series LEFT JOIN tenants USING (device) \
                   WHERE id > ?1 AND EXISTS (SELECT 1 FROM tenants) ORDER BY id LIMIT ?2";
        let rows = sqlx::query_as::<_, (i64, i64, i64)>(sql);
        let rows = rows.bind(after).bind(SERIES_PER_STEP).bind(DAY_BYTES);
        let rows = rows.bind(ROW_BYTES_MAX).bind(PAGE_BYTES);
        let rows = rows.fetch_all(&mut self.connection).await;
        let rows = rows.map_err(|error| self.error(error))?;
        for (_, tenant, bytes) in &rows {
            let bytes = u64::try_from(*bytes).unwrap_or(0);
            *tenants.entry(tenant_of(*tenant)).or_default() += bytes;
        }
        Ok(rows.last().map(|row| row.0))
    }

    /// Adds the approximate bytes of values that are not in blocks yet, of some series each.
    pub(crate) async fn add_unpacked(
        &mut self,
        tenants: &mut BTreeMap<u32, u64>,
        series: &[(i64, i64)],
    ) -> Result<(), StorageError> {
        let sql = "SELECT coalesce(tenant, 0), sum(j.value ->> 1) FROM json_each(?1) j \
                   CROSS JOIN series s ON s.id = j.value ->> 0 LEFT JOIN tenants USING (device) \
                   GROUP BY 1";
        let rows = sqlx::query_as::<_, (i64, i64)>(sql).bind(json(series));
        let rows = rows.fetch_all(&mut self.connection).await;
        for (tenant, bytes) in rows.map_err(|error| self.error(error))? {
            let bytes = u64::try_from(bytes).unwrap_or(0);
            *tenants.entry(tenant_of(tenant)).or_default() += bytes;
        }
        Ok(())
    }

    /// Deletes the days of some series after one that are before the first day that is kept.
    /// Returns the number of values, and the last series; `None`: there are no more.
    pub(crate) async fn forget_some(
        &mut self,
        retention: &Retention,
        first_days: &FirstDays,
        after: i64,
    ) -> Result<(u64, Option<i64>), StorageError> {
        let memory = Arc::clone(&self.memory);
        // A series with new values only in memory must stay.
        let is_idle = |series| !memory.read().has_values(SeriesId(series));
        let connection = &mut self.connection;
        let done = forget_some(connection, retention, first_days, after, is_idle).await;
        let (deleted, last) = match done {
            Ok(done) => done,
            Err(failure) => return Err(self.failed(failure).await),
        };
        if deleted > 0 {
            self.known.clear();
            self.rest.end();
        }
        Ok((deleted, last))
    }
}

/// Whether a series has no values in memory. A series with new values only in memory must stay.
fn is_idle(memory: &SharedMemory) -> impl Fn(i64) -> bool {
    |series| !memory.read().has_values(SeriesId(series))
}

async fn forget_some(
    on: &mut SqliteConnection,
    retention: &Retention,
    first_days: &FirstDays,
    after: i64,
    is_idle: impl Fn(i64) -> bool,
) -> Result<(u64, Option<i64>), Failure> {
    let sql = "SELECT id, device, key, sum, coalesce(tenant, 0) FROM series \
               LEFT JOIN tenants USING (device) WHERE id > ?1 ORDER BY id LIMIT ?2";
    let rows = sqlx::query(sql).bind(after).bind(SERIES_PER_STEP);
    let rows = rows.fetch_all(&mut *on).await?;
    let (mut last, mut limited) = (None, Vec::new());
    for row in &rows {
        let (id, device, _) = series::of_row(row)?;
        last = Some(id.0);
        if let Some(first_day) = first_days.of(retention, device, row.try_get(4)?) {
            limited.push((id.0, first_day));
        }
    }
    let sql = "SELECT d.series, d.day, d.samples FROM json_each(?1) j CROSS JOIN days d \
               ON d.series = j.value ->> 0 AND d.day < j.value ->> 1";
    let old = sqlx::query_as::<_, (i64, i64, i64)>(sql).bind(json(&limited));
    let old = old.fetch_all(&mut *on).await?;
    if old.is_empty() {
        return Ok((0, last));
    }
    let deleted = in_transaction(on, async |work| {
        let mut deleted = 0;
        for (series, day, samples) in &old {
            delete_days(work, SeriesId(*series), *day, day + 1).await?;
            deleted += u64::try_from(*samples).unwrap_or(0);
        }
        let series = old.iter().map(|row| row.0);
        let series: HashSet<_> = series.filter(|series| is_idle(*series)).collect();
        delete_empty(work, &series.into_iter().collect::<Vec<_>>()).await?;
        Ok::<_, sqlx::Error>(deleted)
    });
    Ok((deleted.await?, last))
}

async fn delete_of(
    on: &mut SqliteConnection,
    device: i64,
    selection: &Selection,
    span: Range<Time>,
    is_idle: impl Fn(i64) -> bool,
) -> Result<u64, Failure> {
    in_transaction(on, async |work| {
        let sql = "SELECT id, device, key, sum FROM series WHERE device = ?1";
        let rows = sqlx::query(sql).bind(device).fetch_all(&mut *work).await?;
        let series: Result<Vec<_>, _> = rows.iter().map(series::of_row).collect();
        let wanted = series?.into_iter();
        let wanted = wanted.filter(|(_, _, key)| selection.has_key(key));
        let wanted: Vec<_> = wanted.map(|(id, ..)| id.0).collect();
        let mut deleted = 0;
        for series in &wanted {
            deleted += delete_span(work, SeriesId(*series), span.start, span.end).await?;
        }
        let idle: Vec<_> = wanted
            .into_iter()
            .filter(|series| is_idle(*series))
            .collect();
        delete_empty(work, &idle).await?;
        Ok(deleted)
    })
    .await
}

async fn delete_span(
    on: &mut SqliteConnection,
    series: SeriesId,
    from: Time,
    until: Time,
) -> Result<u64, Failure> {
    if from >= until {
        return Ok(0);
    }
    let (first, end) = whole_days(from, until);
    let sql = "SELECT coalesce(sum(samples), 0) FROM days \
               WHERE series = ?1 AND day >= ?2 AND day < ?3";
    let whole = sqlx::query_scalar::<_, i64>(sql).bind(series.0);
    let whole = whole.bind(first).bind(end).fetch_one(&mut *on).await?;
    delete_days(on, series, first, end).await?;
    let mut deleted = u64::try_from(whole).unwrap_or(0);
    // Partial days at both ends, which may be the same day.
    let mut ends = vec![day_of(from), day_of(until)];
    ends.retain(|day| !(first..end).contains(day));
    ends.dedup();
    for day in ends {
        deleted += delete_in_day(on, series, day, from, until).await?;
    }
    Ok(deleted)
}

/// Deletes whole days.
async fn delete_days(
    on: &mut SqliteConnection,
    series: SeriesId,
    first: i64,
    end: i64,
) -> Result<(), sqlx::Error> {
    let sql = "DELETE FROM blocks WHERE series = ?1 AND time >= ?2 AND time < ?3";
    let blocks = sqlx::query(sql).bind(series.0);
    let blocks = blocks
        .bind(first.saturating_mul(DAY))
        .bind(end.saturating_mul(DAY));
    blocks.execute(&mut *on).await?;
    for sql in [
        "DELETE FROM days WHERE series = ?1 AND day >= ?2 AND day < ?3",
        "DELETE FROM rollups WHERE series = ?1 AND level = 0 AND day >= ?2 AND day < ?3",
        "DELETE FROM rollups WHERE series = ?1 AND level = 1 AND day >= ?2 AND day < ?3",
        "DELETE FROM rollups WHERE series = ?1 AND level = 2 AND day >= ?2 AND day < ?3",
    ] {
        let days = sqlx::query(sql).bind(series.0).bind(first).bind(end);
        days.execute(&mut *on).await?;
    }
    Ok(())
}

async fn delete_in_day(
    on: &mut SqliteConnection,
    series: SeriesId,
    day: i64,
    from: Time,
    until: Time,
) -> Result<u64, Failure> {
    let sql = "SELECT time, origin, last_time, samples, data FROM blocks \
               WHERE series = ?1 AND time >= ?2 AND time < ?3 AND last_time >= ?4 AND time < ?5";
    let rows = sqlx::query(sql).bind(series.0);
    let rows = rows
        .bind(day.saturating_mul(DAY))
        .bind((day + 1).saturating_mul(DAY));
    let rows = rows.bind(from).bind(until).fetch_all(&mut *on).await?;
    let mut changes = Changes::default();
    let mut deleted = 0;
    for row in &rows {
        let block = block_of(row)?;
        let mut samples = block.samples_of(series)?;
        let before = samples.len();
        samples.retain(|sample| !(from..until).contains(&sample.at.time));
        deleted += (before - samples.len()) as u64;
        changes.remove(series, &block);
        changes.add(series, &samples);
    }
    if !changes.is_empty() {
        changes.write(on).await?;
    }
    Ok(deleted)
}

/// Deletes the series without values, and the tenants of devices without series.
async fn delete_empty(on: &mut SqliteConnection, series: &[i64]) -> Result<(), sqlx::Error> {
    let series = json(series);
    let sql = "SELECT DISTINCT device FROM series JOIN tenants USING (device) \
               WHERE id IN (SELECT value FROM json_each(?1))";
    let of_tenants = sqlx::query_scalar::<_, i64>(sql).bind(&series);
    let of_tenants = of_tenants.fetch_all(&mut *on).await?;
    let sql = "DELETE FROM series WHERE id IN (SELECT value FROM json_each(?1)) \
               AND NOT EXISTS (SELECT 1 FROM days WHERE days.series = series.id)";
    sqlx::query(sql).bind(&series).execute(&mut *on).await?;
    if of_tenants.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM tenants WHERE device IN (SELECT value FROM json_each(?1)) \
               AND NOT EXISTS (SELECT 1 FROM series WHERE series.device = tenants.device)";
    let delete = sqlx::query(sql).bind(json(&of_tenants));
    delete.execute(on).await.map(drop)
}
