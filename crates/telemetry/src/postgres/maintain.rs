//! Deletes rows, and creates roll-ups.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnection;

use super::read::sample_of;
use super::write::PostgresWriter;
use super::{ROLL_LOCK, WRITE_LOCK};
use crate::StorageError;
use crate::query::Selection;
use crate::retention::{FirstDays, Retention, Usage, UsageRow};
use crate::rollup::DayRoller;
use crate::value::{DAY, Time, day_of};

/// Series that are processed in one transaction.
const SERIES_PER_STEP: i64 = 1_000;

/// Approximate bytes of a row without a text, with its index entry.
const ROW_BYTES: i64 = 116;

/// The day of a time; `/` rounds towards 0.
const DAY_OF: &str = "(time - ((time % 86400000000) + 86400000000) % 86400000000) / 86400000000";

impl PostgresWriter {
    /// Deletes the values of a selection in a time span. Returns their number.
    pub(crate) async fn delete(
        &mut self,
        selection: &Selection,
        from: Time,
        until: Time,
    ) -> Result<u64, StorageError> {
        self.forget_counts();
        self.in_transaction(async |work| {
            sqlx::raw_sql(WRITE_LOCK).execute(&mut **work).await?;
            let sql = "SELECT id, key FROM martlet_telemetry.series WHERE device = ANY($1)";
            let series = sqlx::query_as::<_, (i64, String)>(sql).bind(&selection.devices);
            let series = series.fetch_all(&mut **work).await?;
            let wanted = series.into_iter().filter(|(_, key)| selection.has_key(key));
            let wanted: Vec<_> = wanted.map(|(id, _)| id).collect();
            delete(work, &wanted, from, until).await
        })
        .await
    }

    /// See `SqliteWriter::add_usage`. Bytes are an estimate: the size of the table is unsuitable,
    /// because it shrinks only when PostgreSQL vacuums it.
    pub(crate) async fn add_usage(
        &mut self,
        retention: &Retention,
        usage: &mut Usage,
        after: i64,
    ) -> Result<Option<i64>, StorageError> {
        let sql = format!(
            "SELECT s.id, s.device, s.tenant, p.day, p.bytes FROM \
             (SELECT id, device, coalesce(tenant, 0) AS tenant FROM martlet_telemetry.series \
             LEFT JOIN martlet_telemetry.tenants USING (device) WHERE id > $1 \
             ORDER BY id LIMIT $2) s \
             LEFT JOIN LATERAL (SELECT {DAY_OF} AS day, \
             sum({ROW_BYTES} + coalesce(octet_length(text), 0))::int8 AS bytes \
             FROM martlet_telemetry.points WHERE series = s.id GROUP BY 1) p ON TRUE ORDER BY s.id"
        );
        let rows = self
            .in_transaction(async |work| {
                let rows = sqlx::query_as::<_, UsageRow>(sqlx::AssertSqlSafe(sql));
                rows.bind(after)
                    .bind(SERIES_PER_STEP)
                    .fetch_all(&mut **work)
                    .await
            })
            .await?;
        Ok(usage.add_rows(retention, rows))
    }

    /// See `SqliteWriter::forget_some`.
    pub(crate) async fn forget_some(
        &mut self,
        retention: &Retention,
        first_days: &FirstDays,
        after: i64,
    ) -> Result<(u64, Option<i64>), StorageError> {
        self.forget_counts();
        self.in_transaction(async |work| {
            sqlx::raw_sql(WRITE_LOCK).execute(&mut **work).await?;
            let sql = "SELECT id, device, coalesce(tenant, 0) FROM martlet_telemetry.series \
                       LEFT JOIN martlet_telemetry.tenants USING (device) WHERE id > $1 \
                       ORDER BY id LIMIT $2";
            let rows = sqlx::query_as::<_, (i64, i64, i64)>(sql);
            let rows = rows
                .bind(after)
                .bind(SERIES_PER_STEP)
                .fetch_all(&mut **work)
                .await?;
            let mut by_first_day: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
            for (series, device, tenant) in &rows {
                if let Some(first_day) = first_days.of(retention, *device, *tenant) {
                    by_first_day.entry(first_day).or_default().push(*series);
                }
            }
            let mut deleted = 0;
            for (first_day, series) in by_first_day {
                let until = first_day.saturating_mul(DAY);
                deleted += delete(work, &series, Time::MIN, until).await?;
            }
            Ok((deleted, rows.last().map(|row| row.0)))
        })
        .await
    }

    /// Creates the roll-ups of a day before `today`. Returns whether there was one.
    pub(crate) async fn roll_some(&mut self, today: i64) -> Result<bool, StorageError> {
        self.in_transaction(async |work| roll(work, today).await)
            .await
    }
}

async fn delete(
    on: &mut PgConnection,
    series: &[i64],
    from: Time,
    until: Time,
) -> Result<u64, sqlx::Error> {
    if from >= until {
        return Ok(0);
    }
    let sql = "DELETE FROM martlet_telemetry.points WHERE series = ANY($1) \
               AND time >= $2 AND time < $3";
    let deleted = sqlx::query(sql).bind(series).bind(from).bind(until);
    let deleted = deleted.execute(&mut *on).await?.rows_affected();
    let (first, last) = (day_of(from), day_of(until - 1));
    let sql = "DELETE FROM martlet_telemetry.rollups WHERE series = ANY($1) \
               AND day BETWEEN $2 AND $3";
    let rollups = sqlx::query(sql).bind(series).bind(first).bind(last);
    rollups.execute(&mut *on).await?;
    // Days without values are deleted when they are rolled up.
    let sql = "UPDATE martlet_telemetry.days SET rolled = FALSE WHERE series = ANY($1) \
               AND day BETWEEN $2 AND $3 AND rolled";
    let days = sqlx::query(sql).bind(series).bind(first).bind(last);
    days.execute(on).await?;
    Ok(deleted)
}

async fn roll(on: &mut PgConnection, today: i64) -> Result<bool, sqlx::Error> {
    let waiting = "SELECT series, day FROM martlet_telemetry.days WHERE NOT rolled AND day < $1 \
                   ORDER BY day, series LIMIT 1";
    let next = sqlx::query_as::<_, (i64, i64)>(waiting).bind(today);
    if next.fetch_optional(&mut *on).await?.is_none() {
        return Ok(false);
    }
    sqlx::raw_sql(ROLL_LOCK).execute(&mut *on).await?;
    // Another node may have created it in the meantime.
    let next = sqlx::query_as::<_, (i64, i64)>(waiting).bind(today);
    let Some((series, day)) = next.fetch_optional(&mut *on).await? else {
        return Ok(false);
    };
    let mut roller = DayRoller::default();
    let mut samples = 0_u64;
    {
        let sql = "SELECT time, origin, kind, number, whole, text FROM martlet_telemetry.points \
                   WHERE series = $1 AND time >= $2 AND time < $3 ORDER BY time, origin";
        let rows = sqlx::query(sql).bind(series);
        let rows = rows
            .bind(day.saturating_mul(DAY))
            .bind((day + 1).saturating_mul(DAY));
        let mut rows = rows.fetch(&mut *on);
        while let Some(row) = rows.try_next().await? {
            samples += 1;
            if let Some(sample) = sample_of(&row)? {
                roller.add(&sample);
            }
        }
    }
    for (level, data) in roller.end() {
        let sql = "INSERT INTO martlet_telemetry.rollups (series, level, day, data) \
                   VALUES ($1, $2, $3, $4)";
        let insert = sqlx::query(sql).bind(series).bind(level.number());
        insert.bind(day).bind(data).execute(&mut *on).await?;
    }
    let sql = match samples {
        0 => "DELETE FROM martlet_telemetry.days WHERE series = $1 AND day = $2",
        _ => "UPDATE martlet_telemetry.days SET rolled = TRUE WHERE series = $1 AND day = $2",
    };
    sqlx::query(sql).bind(series).bind(day).execute(on).await?;
    Ok(true)
}
