//! Commits batches as rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Postgres, Transaction};

use super::{WRITE_LOCK, connect, within};
use crate::DatabaseUrl;
use crate::series::{
    Counted, KnownSeries, Pair, PointResult, Points, Refusals, SeriesCounts, SeriesLimits, admit,
};
use crate::value::{Instant, Point, PointRefusal, SeriesId, Value, day_of};
use crate::{Settings, StorageError};

/// Rows of one statement.
const ROWS_PER_INSERT: usize = 10_000;
/// Integers up to here are exact as floating point numbers.
const EXACT: i64 = 1 << 53;

/// The writer of this node.
#[derive(Debug)]
pub(crate) struct PostgresWriter {
    url: DatabaseUrl,
    /// `None`: it is opened on demand.
    connection: Option<PgConnection>,
    connect_max: Duration,
    answer_max: Duration,
    known: KnownSeries,
    limits: SeriesLimits,
}

/// The values of a batch by identity: the last one wins.
type Rows<'a> = BTreeMap<(SeriesId, Instant), &'a Value>;

impl PostgresWriter {
    pub(crate) async fn open(url: &DatabaseUrl, settings: &Settings) -> Result<Self, StorageError> {
        Ok(Self {
            url: url.clone(),
            connection: Some(connect(url, settings.connect_max).await?),
            connect_max: settings.connect_max,
            answer_max: settings.answer_max,
            known: KnownSeries::default(),
            limits: SeriesLimits::of(settings),
        })
    }

    /// Bytes of memory of known series.
    pub(crate) fn known_bytes(&self) -> usize {
        self.known.bytes()
    }

    /// Forgets how many series tenants have: values will be deleted.
    pub(crate) fn forget_counts(&mut self) {
        self.known.counts = SeriesCounts::default();
    }

    /// Closes the connection.
    pub(crate) async fn close(self) {
        if let Some(connection) = self.connection {
            // Does not wait for a server that does not answer.
            let _ = tokio::time::timeout(self.connect_max, connection.close()).await;
        }
    }

    /// Commits points. Returns permanently refused ones by their index.
    pub(crate) async fn commit(
        &mut self,
        points: Points,
    ) -> Result<Vec<(usize, PointRefusal)>, StorageError> {
        let limits = self.limits;
        let mut known = std::mem::take(&mut self.known);
        // Series numbers assigned in a failed transaction are not in the table: then the known
        // series stay removed.
        let (known, refused) = self
            .in_transaction(async move |work| {
                let refused = write(work, &mut known, limits, &points).await?;
                Ok((known, refused))
            })
            .await?;
        self.known = known;
        Ok(refused)
    }

    /// Runs a function in a transaction; reopens a broken connection.
    pub(crate) async fn in_transaction<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Transaction<'_, Postgres>) -> Result<T, sqlx::Error>,
    ) -> Result<T, StorageError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.url, self.connect_max).await?,
        };
        let all = async {
            let mut transaction = connection.begin().await?;
            let done = work(&mut transaction).await?;
            transaction.commit().await?;
            Ok(done)
        };
        let done = within(self.answer_max, all).await;
        let done = done.map_err(|error| StorageError::of_sql(&self.url.to_string(), error));
        // After an error the connection may be broken: opening another one costs little.
        if done.is_ok() {
            self.connection = Some(connection);
        }
        done
    }
}

async fn write(
    work: &mut Transaction<'_, Postgres>,
    known: &mut KnownSeries,
    limits: SeriesLimits,
    points: &Points,
) -> Result<Vec<(usize, PointRefusal)>, sqlx::Error> {
    sqlx::raw_sql(WRITE_LOCK).execute(&mut **work).await?;
    let (found, wanted) = known.find(&points.list);
    let refusals = match wanted.is_empty() {
        true => Refusals::default(),
        false => find_series(work, known, points, wanted, limits).await?,
    };
    let mut rows = Rows::new();
    let mut refused = Vec::new();
    for (index, (point, series)) in points.list.iter().zip(found).enumerate() {
        match refusals.of(index) {
            PointResult::Stored => {}
            PointResult::LeftOut => continue,
            PointResult::Refused(refusal) => {
                refused.push((index, refusal));
                continue;
            }
        }
        let series = match series.or_else(|| known.get(point.device, &point.key)) {
            Some(series) => series,
            None => find_one(work, point).await?,
        };
        let at = Instant {
            time: point.time,
            origin: point.origin,
        };
        rows.insert((series, at), &point.value);
    }
    let rows: Vec<_> = rows.into_iter().collect();
    for some in rows.chunks(ROWS_PER_INSERT) {
        insert(work, some).await?;
    }
    touch_days(work, &rows).await?;
    Ok(refused)
}

/// There are too many known series to keep them all.
async fn find_one(on: &mut PgConnection, point: &Point) -> Result<SeriesId, sqlx::Error> {
    let sql = "SELECT id FROM martlet_telemetry.series WHERE device = $1 AND key = $2";
    let id = sqlx::query_scalar(sql).bind(point.device).bind(&*point.key);
    Ok(SeriesId(id.fetch_one(on).await?))
}

async fn insert(
    on: &mut PgConnection,
    rows: &[((SeriesId, Instant), &Value)],
) -> Result<(), sqlx::Error> {
    let column = |of: fn(&(SeriesId, Instant)) -> i64| -> Vec<i64> {
        rows.iter().map(|(at, _)| of(at)).collect()
    };
    let kinds = rows.iter().map(|(_, value)| match value {
        Value::Integer(_) => 0_i16,
        Value::Number(_) => 1,
        Value::Bool(_) => 2,
        Value::Text(_) => 3,
        Value::Json(_) => 4,
    });
    let wholes = rows.iter().map(|(_, value)| match value {
        Value::Integer(whole) if whole.unsigned_abs() > EXACT.unsigned_abs() => Some(*whole),
        _ => None,
    });
    let texts = rows.iter().map(|(_, value)| match value {
        Value::Text(text) | Value::Json(text) => Some(&**text),
        _ => None,
    });
    let sql = "INSERT INTO martlet_telemetry.points \
               (series, time, origin, kind, number, whole, text) \
               SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int2[], $5::float8[], \
               $6::int8[], $7::text[]) ON CONFLICT (series, time, origin) DO UPDATE SET \
               kind = excluded.kind, number = excluded.number, whole = excluded.whole, \
               text = excluded.text";
    let query = sqlx::query(sql)
        .bind(column(|at| at.0.0))
        .bind(column(|at| at.1.time))
        .bind(column(|at| at.1.origin))
        .bind(kinds.collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|(_, value)| value.number())
                .collect::<Vec<_>>(),
        )
        .bind(wholes.collect::<Vec<_>>())
        .bind(texts.collect::<Vec<_>>());
    query.execute(on).await.map(drop)
}

/// Removes the roll-ups of the days until they are created again.
async fn touch_days(
    on: &mut PgConnection,
    rows: &[((SeriesId, Instant), &Value)],
) -> Result<(), sqlx::Error> {
    let days = rows
        .iter()
        .map(|((series, at), _)| (series.0, day_of(at.time)));
    let days: BTreeSet<_> = days.collect();
    let (series, days): (Vec<_>, Vec<_>) = days.into_iter().unzip();
    let sql = "INSERT INTO martlet_telemetry.days AS known (series, day, rolled) \
               SELECT series, day, FALSE FROM unnest($1::int8[], $2::int8[]) AS new (series, day) \
               ON CONFLICT (series, day) DO UPDATE SET rolled = FALSE WHERE known.rolled";
    let touched = sqlx::query(sql).bind(&series).bind(&days);
    if touched.execute(&mut *on).await?.rows_affected() > 0 {
        let sql = "DELETE FROM martlet_telemetry.rollups AS old USING \
                   unnest($1::int8[], $2::int8[]) AS new (series, day) \
                   WHERE old.series = new.series AND old.day = new.day";
        sqlx::query(sql)
            .bind(&series)
            .bind(&days)
            .execute(on)
            .await?;
    }
    Ok(())
}

/// Looks up the numbers of series, and assigns numbers to new ones.
async fn find_series(
    on: &mut PgConnection,
    known: &mut KnownSeries,
    points: &Points,
    wanted: Vec<Pair>,
    limits: SeriesLimits,
) -> Result<Refusals, sqlx::Error> {
    let tenants = points.tenants_of(&wanted);
    if write_tenants(on, &tenants).await? {
        known.counts.tenants.clear();
    }
    let new = look_up(on, known, wanted).await?;
    known.note_tenants(&tenants);
    if new.is_empty() {
        return Ok(Refusals::default());
    }
    let devices: Vec<_> = new.iter().map(|(device, _)| *device).collect();
    // Series whose values were deleted are not counted, although their rows remain: another node
    // may have cached their numbers.
    let sql = "SELECT device, count(*) FROM martlet_telemetry.series WHERE device = ANY($1) \
               AND EXISTS (SELECT 1 FROM martlet_telemetry.points WHERE series = id) \
               GROUP BY device";
    let counts = sqlx::query_as::<_, (i64, i64)>(sql).bind(devices);
    let counts = counts.fetch_all(&mut *on).await?.into_iter();
    let keys = counts
        .map(|(device, count)| (device, usize::try_from(count).unwrap_or(usize::MAX)))
        .collect();
    // Above some thousands the planner's estimate, which may be old: counting millions of rows
    // takes long.
    let sql = "SELECT greatest(reltuples::int8, (SELECT count(*) FROM \
               (SELECT FROM martlet_telemetry.series LIMIT 10000) AS first)) FROM pg_class \
               WHERE oid = 'martlet_telemetry.series'::regclass";
    let all: i64 = sqlx::query_scalar(sql).fetch_one(&mut *on).await?;
    let mut counted = Counted {
        keys,
        tenants: std::mem::take(&mut known.counts.tenants),
        all: u64::try_from(all).unwrap_or(0),
    };
    for tenant in counted.uncounted(&new, &tenants) {
        let share = limits.share_of(0, counted.all);
        let series = count_of_tenant(on, tenant, share).await?;
        counted.tenants.insert(tenant, series);
    }
    counted.all = counted.all.max(counted.tenants.values().sum());
    let (admitted, refused) = admit(points, new, &mut counted, limits);
    let sql = "INSERT INTO martlet_telemetry.series (device, key) \
               SELECT * FROM unnest($1::int8[], $2::text[]) ORDER BY 1, 2 ON CONFLICT DO NOTHING";
    let (devices, keys) = columns(&admitted);
    let insert = sqlx::query(sql).bind(devices).bind(keys);
    insert.execute(&mut *on).await?;
    look_up(on, known, admitted).await?;
    known.note_tenants(&tenants);
    known.counts.tenants = counted.tenants;
    Ok(refused)
}

/// Number of series of a tenant. Rows without values are only left out if all of them reach the
/// limit: looking for values takes long.
pub(super) async fn count_of_tenant(
    on: &mut PgConnection,
    tenant: u32,
    series_max: u64,
) -> Result<u64, sqlx::Error> {
    let all = "SELECT count(*) FROM martlet_telemetry.tenants \
               JOIN martlet_telemetry.series USING (device) WHERE tenant = $1";
    let with_values = "SELECT count(*) FROM martlet_telemetry.tenants \
                       JOIN martlet_telemetry.series USING (device) WHERE tenant = $1 \
                       AND EXISTS (SELECT 1 FROM martlet_telemetry.points WHERE series = id)";
    let mut series = 0;
    for sql in [all, with_values] {
        let count = sqlx::query_scalar::<_, i64>(sql).bind(i64::from(tenant));
        series = u64::try_from(count.fetch_one(&mut *on).await?).unwrap_or(0);
        if series < series_max {
            break;
        }
    }
    Ok(series)
}

/// Writes the tenants of devices. A device of tenant 0 has no row. Returns whether a device has
/// moved.
async fn write_tenants(
    on: &mut PgConnection,
    tenants: &BTreeMap<i64, u32>,
) -> Result<bool, sqlx::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM martlet_telemetry.tenants)";
    if tenants.values().all(|tenant| *tenant == 0)
        && !sqlx::query_scalar::<_, bool>(sql)
            .fetch_one(&mut *on)
            .await?
    {
        // No team has a tenant.
        return Ok(false);
    }
    let all = tenants.iter();
    let all = all.map(|(device, tenant)| (*device, i64::from(*tenant)));
    let (devices, tenants): (Vec<_>, Vec<_>) = all.unzip();
    let left = "DELETE FROM martlet_telemetry.tenants known \
                USING unnest($1::int8[], $2::int8[]) AS new (device, tenant) \
                WHERE known.device = new.device AND new.tenant = 0";
    let moved = "UPDATE martlet_telemetry.tenants known SET tenant = new.tenant \
                 FROM unnest($1::int8[], $2::int8[]) AS new (device, tenant) \
                 WHERE known.device = new.device AND known.tenant <> new.tenant";
    let new = "INSERT INTO martlet_telemetry.tenants (device, tenant) \
               SELECT * FROM unnest($1::int8[], $2::int8[]) AS new (device, tenant) \
               WHERE tenant <> 0 ORDER BY device ON CONFLICT DO NOTHING";
    let mut have_moved = false;
    for sql in [left, moved, new] {
        let done = sqlx::query(sql).bind(&devices).bind(&tenants);
        let rows = done.execute(&mut *on).await?.rows_affected();
        have_moved |= rows > 0 && sql != new;
    }
    Ok(have_moved)
}

fn columns(pairs: &[Pair]) -> (Vec<i64>, Vec<&str>) {
    pairs.iter().map(|(device, key)| (*device, &**key)).unzip()
}

/// Looks up numbers of series; returns those without a number.
async fn look_up(
    on: &mut PgConnection,
    known: &mut KnownSeries,
    wanted: Vec<Pair>,
) -> Result<Vec<Pair>, sqlx::Error> {
    let sql = "SELECT place, id FROM unnest($1::int8[], $2::text[]) WITH ORDINALITY \
               AS wanted (device, key, place) JOIN martlet_telemetry.series USING (device, key)";
    let (devices, keys) = columns(&wanted);
    let found = sqlx::query_as::<_, (i64, i64)>(sql)
        .bind(devices)
        .bind(keys);
    let found: HashMap<_, _> = found.fetch_all(on).await?.into_iter().collect();
    let mut others = Vec::new();
    for (place, pair) in (1_i64..).zip(wanted) {
        match found.get(&place) {
            Some(id) => known.insert(pair.0, pair.1, SeriesId(*id)),
            None => others.push(pair),
        }
    }
    Ok(others)
}
