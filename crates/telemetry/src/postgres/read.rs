//! Reads rows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::{PgPool, PgRow};

use super::within;
use super::write::count_of_tenant;
use crate::DatabaseUrl;
use crate::bucket::Level;
use crate::scan::{Scan, Scanned};
use crate::series::{SeriesLimits, by_tenant};
use crate::value::{Instant, Sample, SeriesId, Value};
use crate::{Settings, StorageError};

/// Readers of a database.
#[derive(Clone, Debug)]
pub(crate) struct PostgresReader {
    pool: PgPool,
    place: String,
    answer_max: Duration,
    limits: SeriesLimits,
}

impl PostgresReader {
    pub(crate) fn new(url: &DatabaseUrl, settings: &Settings) -> Result<Self, StorageError> {
        Ok(Self {
            pool: super::readers(url, settings)?,
            place: url.to_string(),
            answer_max: settings.answer_max,
            limits: SeriesLimits::of(settings),
        })
    }

    fn error(&self, error: sqlx::Error) -> StorageError {
        StorageError::of_sql(&self.place, error)
    }

    /// Waits for an answer with the time limit of a reachable database.
    async fn answer<T>(
        &self,
        query: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StorageError> {
        let answer = within(self.answer_max, query).await;
        answer.map_err(|error| self.error(error))
    }

    /// The database, as named in errors.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Closes the connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// See [`crate::reader::Reader::series`].
    pub(crate) async fn series(
        &self,
        devices: &[i64],
    ) -> Result<Vec<(i64, String, SeriesId)>, StorageError> {
        let sql = "SELECT device, key, id FROM martlet_telemetry.series WHERE device = ANY($1) \
                   AND EXISTS (SELECT 1 FROM martlet_telemetry.points WHERE series = id) \
                   ORDER BY device, key";
        let rows = sqlx::query_as::<_, (i64, String, i64)>(sql).bind(devices);
        let rows = self.answer(rows.fetch_all(&self.pool)).await?.into_iter();
        Ok(rows
            .map(|(device, key, id)| (device, key, SeriesId(id)))
            .collect())
    }

    /// See [`crate::reader::Reader::devices`].
    pub(crate) async fn devices(&self, after: i64, limit: u32) -> Result<Vec<i64>, StorageError> {
        let sql = "SELECT DISTINCT device FROM martlet_telemetry.series WHERE device > $1 \
                   AND EXISTS (SELECT 1 FROM martlet_telemetry.points WHERE series = id) \
                   ORDER BY device LIMIT $2";
        let found = sqlx::query_scalar(sql).bind(after).bind(i64::from(limit));
        self.answer(found.fetch_all(&self.pool)).await
    }

    /// A page of samples.
    pub(crate) async fn scan(&self, scan: &Scan) -> Result<Scanned, StorageError> {
        // The plain comparison of times lets TimescaleDB skip chunks.
        let sql = match scan.newest_first {
            false => {
                "SELECT time, origin, kind, number, whole, text FROM martlet_telemetry.points \
                 WHERE series = $1 AND time >= $2 AND time <= $4 AND (time, origin) >= ($2, $3) \
                 AND (time, origin) < ($4, $5) ORDER BY time, origin LIMIT $6"
            }
            true => {
                "SELECT time, origin, kind, number, whole, text FROM martlet_telemetry.points \
                 WHERE series = $1 AND time >= $2 AND time <= $4 AND (time, origin) >= ($2, $3) \
                 AND (time, origin) < ($4, $5) ORDER BY time DESC, origin DESC LIMIT $6"
            }
        };
        let most = i64::try_from(scan.limit.saturating_add(1)).unwrap_or(i64::MAX);
        let rows = sqlx::query(sql)
            .bind(scan.series.0)
            .bind(scan.from.time)
            .bind(scan.from.origin)
            .bind(scan.until.time)
            .bind(scan.until.origin)
            .bind(most)
            .fetch_all(&self.pool);
        let rows = self.answer(rows).await?;
        let has_more = rows.len() > scan.limit;
        let rows = rows.iter().take(scan.limit);
        let mut samples = Vec::with_capacity(rows.len());
        for row in rows {
            let sample = sample_of(row).map_err(|error| self.error(error))?;
            samples.push(sample.ok_or_else(|| StorageError::Damaged {
                place: self.place.clone(),
                what: format!("a row of series {} has no value of its kind", scan.series.0),
            })?);
        }
        Ok(Scanned { samples, has_more })
    }

    /// See [`crate::reader::Reader::rolled_bounds`].
    pub(crate) async fn rolled_bounds(
        &self,
        series: SeriesId,
        days: Range<i64>,
    ) -> Result<Option<(i64, i64)>, StorageError> {
        let sql = "SELECT min(day), max(day) FROM martlet_telemetry.rollups \
                   WHERE series = $1 AND level = $2 AND day >= $3 AND day < $4";
        let bounds = sqlx::query_as::<_, (Option<i64>, Option<i64>)>(sql).bind(series.0);
        let bounds = bounds
            .bind(Level::Day.number())
            .bind(days.start)
            .bind(days.end);
        let (first, last) = self.answer(bounds.fetch_one(&self.pool)).await?;
        Ok(first.zip(last))
    }

    /// See [`crate::reader::Reader::rollups`].
    pub(crate) async fn rollups(
        &self,
        series: SeriesId,
        level: Level,
        days: Range<i64>,
    ) -> Result<Vec<(i64, Vec<u8>)>, StorageError> {
        let sql = "SELECT day, data FROM martlet_telemetry.rollups WHERE series = $1 \
                   AND level = $2 AND day >= $3 AND day < $4 ORDER BY day";
        let rows = sqlx::query_as(sql).bind(series.0).bind(level.number());
        let rows = rows.bind(days.start).bind(days.end).fetch_all(&self.pool);
        self.answer(rows).await
    }

    /// Number of values of a device.
    pub(crate) async fn count(&self, device: i64) -> Result<u64, StorageError> {
        let sql = "SELECT count(*) FROM martlet_telemetry.points WHERE series IN \
                   (SELECT id FROM martlet_telemetry.series WHERE device = $1)";
        let count = sqlx::query_scalar::<_, i64>(sql).bind(device);
        let count = self.answer(count.fetch_one(&self.pool)).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Number of series by tenant. Series whose values were deleted are left out for a tenant that
    /// would have its share with them, as for the admission of new ones.
    pub(crate) async fn series_by_tenant(&self) -> Result<BTreeMap<u32, u64>, StorageError> {
        let sql = "SELECT coalesce(tenant, 0), count(*) FROM martlet_telemetry.series \
                   LEFT JOIN martlet_telemetry.tenants USING (device) GROUP BY 1";
        let counts = sqlx::query_as::<_, (i64, i64)>(sql).fetch_all(&self.pool);
        let mut counts = by_tenant(self.answer(counts).await?);
        let all = counts.values().sum();
        for (tenant, series) in &mut counts {
            let share = self.limits.share_of(*series, all);
            if *tenant != 0 && *series >= share {
                let query = async {
                    let mut on = self.pool.acquire().await?;
                    count_of_tenant(&mut on, *tenant, share).await
                };
                *series = self.answer(query).await?;
            }
        }
        Ok(counts)
    }

    /// Bytes of the tables and indexes.
    pub(crate) async fn bytes(&self) -> Result<u64, StorageError> {
        let sql = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM pg_class \
                   WHERE relnamespace = 'martlet_telemetry'::regnamespace AND relkind = 'r'";
        let bytes = sqlx::query_scalar::<_, i64>(sql).fetch_one(&self.pool);
        let bytes = self.answer(bytes).await?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }
}

/// `None`: the row has no value of its kind.
pub(crate) fn sample_of(row: &PgRow) -> Result<Option<Sample>, sqlx::Error> {
    let number: Option<f64> = row.try_get(3)?;
    let whole: Option<i64> = row.try_get(4)?;
    let text: Option<&str> = row.try_get(5)?;
    let value = match row.try_get::<i16, _>(2)? {
        0 => whole
            .or(number.map(|number| number as i64))
            .map(Value::Integer),
        1 => number.map(Value::Number),
        2 => number.map(|number| Value::Bool(number != 0.0)),
        3 => text.map(|text| Value::Text(text.into())),
        4 => text.map(|text| Value::Json(text.into())),
        _ => None,
    };
    let at = Instant {
        time: row.try_get(0)?,
        origin: row.try_get(1)?,
    };
    Ok(value.map(|value| Sample { at, value }))
}
