//! Commits batches into the journal.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::failure::{Failure, Rest};
use super::{in_transaction, journal, limit_pages, pages, series};
use crate::codec::Broken;
use crate::damage::Findings;
use crate::memory::{Moving, SharedMemory};
use crate::series::{
    Counted, KnownSeries, Pair, PointResult, Points, Refusals, SeriesCounts, SeriesLimits,
    SeriesRows, admit,
};
use crate::value::{Point, PointRefusal, SeriesId};
use crate::{Settings, StorageError};

/// Approximate bytes of one row of the journal; a batch may have several.
const ROW_BYTES: usize = 1 << 20;

/// The only writer of a file.
#[derive(Debug)]
pub(crate) struct SqliteWriter {
    pub(crate) connection: SqliteConnection,
    pub(crate) memory: Arc<SharedMemory>,
    pub(crate) place: String,
    pub(crate) memory_bytes_max: usize,
    /// Bytes of values in memory at which they are packed: fewer if the file has little room.
    pub(crate) packs_at: usize,
    /// After packing has failed.
    pub(crate) rest: Rest,
    /// After rolling up has failed.
    pub(super) rolling_rest: Rest,
    /// The frozen generation; `None`: all of it is in blocks.
    pub(crate) moving: Option<Moving>,
    /// Last row of the journal whose values are all in the frozen generation or in blocks.
    pub(crate) frozen_until: i64,
    /// Last row of the journal.
    pub(crate) journal_end: i64,
    /// Held while the writer exists.
    _lock: File,
    pub(super) known: KnownSeries,
    limits: SeriesLimits,
    pub(super) file_bytes_max: Option<u64>,
    pub(super) damage: Findings,
}

impl SqliteWriter {
    /// Opens the file, and reads its journal into memory.
    pub(crate) async fn open(
        path: &Path,
        settings: &Settings,
        memory: Arc<SharedMemory>,
        damage: Findings,
    ) -> Result<Self, StorageError> {
        let lock = super::lock(path).await?;
        let mut connection = super::connect(path).await?;
        let place = path.display().to_string();
        // Before the file is limited: it may need some pages.
        damage.note(series::mend(&mut connection, &place).await?);
        if let Some(bytes) = settings.file_bytes_max {
            let limited = limit_pages(&mut connection, bytes).await;
            limited.map_err(|error| StorageError::of_sql(&place, error))?;
        }
        let mut writer = Self {
            connection,
            memory,
            place,
            memory_bytes_max: settings.memory_bytes_max,
            packs_at: settings.memory_bytes_max,
            rest: Rest::default(),
            rolling_rest: Rest::default(),
            moving: None,
            frozen_until: 0,
            journal_end: 0,
            _lock: lock,
            known: KnownSeries::default(),
            limits: SeriesLimits::of(settings),
            file_bytes_max: settings.file_bytes_max,
            damage,
        };
        writer.read_journal().await?;
        Ok(writer)
    }

    /// Reads the journal into memory. Damaged rows are set aside, so that the others are not lost
    /// with them.
    async fn read_journal(&mut self) -> Result<(), StorageError> {
        let pages = pages::damaged_pages(&mut self.connection, &self.place, "journal").await?;
        self.damage.note_hiding(pages.into_iter().collect());
        let sql = "SELECT id, data FROM journal ORDER BY id";
        let mut rows = sqlx::query_as::<_, (i64, Vec<u8>)>(sql).fetch(&mut self.connection);
        let failed = |error| StorageError::of_sql(&self.place, error);
        let (mut damaged, mut said) = (Vec::new(), Vec::new());
        while let Some((id, data)) = rows.try_next().await.map_err(failed)? {
            self.journal_end = id;
            let read = match journal::decode(&data) {
                Ok(read) => read,
                Err(Broken(what)) => {
                    damaged.push(id);
                    said.push(format!(
                        "row {id} of the journal, with {} bytes of values of several devices: \
                         {what}. It is in the table `damaged_journal` now",
                        data.len()
                    ));
                    continue;
                }
            };
            let mut memory = self.memory.write();
            for (series, sample) in read {
                memory.active.insert(series, sample);
            }
        }
        drop(rows);
        if damaged.is_empty() {
            return Ok(());
        }
        let aside = in_transaction(&mut self.connection, async |work| {
            set_aside(work, &json(&damaged)).await
        });
        aside.await.map_err(failed)?;
        self.damage.note(said);
        Ok(())
    }

    /// Bytes of memory of known series.
    pub(crate) fn known_bytes(&self) -> usize {
        self.known.bytes()
    }

    /// Closes the connection, and releases the file's lock.
    pub(crate) async fn close(self) {
        let _ = self.connection.close().await;
    }

    pub(crate) fn error(&self, error: sqlx::Error) -> StorageError {
        StorageError::of_sql(&self.place, error)
    }

    /// Commits points. Returns permanently refused ones by their index.
    pub(crate) async fn commit(
        &mut self,
        points: Points,
    ) -> Result<Vec<(usize, PointRefusal)>, StorageError> {
        match self.try_commit(points).await {
            Ok((batch, refused)) => {
                self.remember(batch);
                Ok(refused)
            }
            Err(failure) => {
                // Series numbers assigned in this transaction are not in the table.
                self.known.clear();
                Err(self.failed(failure).await)
            }
        }
    }

    /// The error for a failure. If the table of series is damaged, it is mended for the next
    /// attempt.
    pub(super) async fn failed(&mut self, failure: Failure) -> StorageError {
        let error = failure.at(&self.place);
        if matches!(error, StorageError::Damaged { .. }) {
            match series::mend(&mut self.connection, &self.place).await {
                Ok(found) => self.damage.note(found),
                Err(error) => return error,
            }
        }
        error
    }

    async fn try_commit(
        &mut self,
        points: Points,
    ) -> Result<(SeriesRows, Vec<(usize, PointRefusal)>), Failure> {
        let (known, limits) = (&mut self.known, self.limits);
        let mut journal_end = self.journal_end;
        let done = in_transaction(&mut self.connection, async |work| {
            let (series, wanted) = known.find(&points.list);
            let refusals = match wanted.is_empty() {
                true => Refusals::default(),
                false => find_series(work, known, &points, wanted, limits).await?,
            };
            let points = points.list.into_iter().zip(series);
            let (batch, refused) = with_series(work, known, &refusals, points).await?;
            for rows in batch.rows.chunks(ROW_BYTES / 24) {
                let written = sqlx::query("INSERT INTO journal (data) VALUES (?1)");
                let written = written.bind(journal::encode(rows)).execute(&mut *work);
                journal_end = written.await?.last_insert_rowid();
            }
            Ok::<_, Failure>((batch, refused))
        });
        let done = done.await?;
        self.journal_end = journal_end;
        Ok(done)
    }

    /// Makes committed values visible to readers. They wait for at most a few hundred values.
    fn remember(&mut self, batch: SeriesRows) {
        let mut rows = batch.rows.into_iter();
        loop {
            let mut memory = self.memory.write();
            let some = rows.by_ref().take(500);
            let count = some
                .map(|(series, sample)| memory.active.insert(series, sample))
                .count();
            if count == 0 {
                break;
            }
        }
    }
}

/// Moves rows of the journal into a table of their own.
async fn set_aside(on: &mut SqliteConnection, ids: &str) -> Result<(), sqlx::Error> {
    let table =
        "CREATE TABLE IF NOT EXISTS damaged_journal (id INTEGER PRIMARY KEY, data BLOB NOT NULL)";
    sqlx::raw_sql(table).execute(&mut *on).await?;
    for sql in [
        "INSERT INTO damaged_journal SELECT id, data FROM journal \
         WHERE id IN (SELECT value FROM json_each(?1))",
        "DELETE FROM journal WHERE id IN (SELECT value FROM json_each(?1))",
    ] {
        sqlx::query(sql).bind(ids).execute(&mut *on).await?;
    }
    Ok(())
}

/// Points with the numbers of their series, and those whose series may not be created. A point
/// comes with its series if that was known before.
async fn with_series(
    on: &mut SqliteConnection,
    known: &KnownSeries,
    refusals: &Refusals,
    points: impl ExactSizeIterator<Item = (Point, Option<SeriesId>)>,
) -> Result<(SeriesRows, Vec<(usize, PointRefusal)>), Failure> {
    let mut batch = SeriesRows::default();
    batch.rows.reserve(points.len());
    let mut refused = Vec::new();
    for (index, (point, series)) in points.enumerate() {
        match refusals.of(index) {
            PointResult::Stored => {}
            PointResult::LeftOut => continue,
            PointResult::Refused(refusal) => {
                refused.push((index, refusal));
                continue;
            }
        }
        if let Some(series) = series.or_else(|| known.get(point.device, &point.key)) {
            batch.rows.push((series, point.into_sample()));
            continue;
        }
        // There are too many known series to keep them all.
        let sql = "SELECT id, device, key, sum FROM series WHERE device = ?1 AND key = ?2";
        let row = sqlx::query(sql).bind(point.device).bind(&*point.key);
        let (series, ..) = series::of_row(&row.fetch_one(&mut *on).await?)?;
        batch.rows.push((series, point.into_sample()));
    }
    Ok((batch, refused))
}

/// Looks up the numbers of series, and assigns numbers to new ones.
async fn find_series(
    on: &mut SqliteConnection,
    known: &mut KnownSeries,
    points: &Points,
    wanted: Vec<Pair>,
    limits: SeriesLimits,
) -> Result<Refusals, Failure> {
    let tenants = points.tenants_of(&wanted);
    if write_tenants(on, &tenants).await? {
        known.counts.tenants.clear();
    }
    let new = look_up(&mut *on, known, wanted).await?;
    known.note_tenants(&tenants);
    if new.is_empty() {
        return Ok(Refusals::default());
    }
    let devices: Vec<_> = new.iter().map(|(device, _)| *device).collect();
    let sql = "SELECT device, count(*) FROM series \
               WHERE device IN (SELECT value FROM json_each(?1)) GROUP BY device";
    let counts = sqlx::query_as::<_, (i64, i64)>(sql).bind(json(&devices));
    let counts = counts.fetch_all(&mut *on).await?.into_iter();
    let keys = counts
        .map(|(device, count)| (device, usize::try_from(count).unwrap_or(usize::MAX)))
        .collect();
    let counts = std::mem::take(&mut known.counts);
    let mut counted = Counted {
        keys,
        tenants: counts.tenants,
        all: match counts.all {
            Some(all) => all,
            None => count(on, "SELECT count(*) FROM series", 0).await?,
        },
    };
    for tenant in counted.uncounted(&new, &tenants) {
        let sql = "SELECT count(*) FROM tenants JOIN series USING (device) WHERE tenant = ?1";
        let series = count(on, sql, tenant).await?;
        counted.tenants.insert(tenant, series);
    }
    let (admitted, refused) = admit(points, new, &mut counted, limits);
    series::insert(&mut *on, &admitted).await?;
    look_up(on, known, admitted).await?;
    known.note_tenants(&tenants);
    known.counts = SeriesCounts {
        all: Some(counted.all),
        tenants: counted.tenants,
    };
    Ok(refused)
}

async fn count(
    on: &mut SqliteConnection,
    sql: &'static str,
    tenant: u32,
) -> Result<u64, sqlx::Error> {
    let count = sqlx::query_scalar::<_, i64>(sql).bind(tenant);
    Ok(u64::try_from(count.fetch_one(on).await?).unwrap_or(0))
}

/// Writes the tenants of devices. A device of tenant 0 has no row. Returns whether a device has
/// moved.
async fn write_tenants(
    on: &mut SqliteConnection,
    tenants: &BTreeMap<i64, u32>,
) -> Result<bool, sqlx::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM tenants)";
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
    let all = json(&all.collect::<Vec<_>>());
    let left = "DELETE FROM tenants WHERE device IN \
                (SELECT value ->> 0 FROM json_each(?1) WHERE value ->> 1 = 0)";
    let moved = "UPDATE tenants SET tenant = value ->> 1 FROM json_each(?1) \
                 WHERE device = value ->> 0 AND tenant <> value ->> 1";
    let mut have_moved = false;
    for sql in [left, moved] {
        let done = sqlx::query(sql).bind(&all).execute(&mut *on).await?;
        have_moved |= done.rows_affected() > 0;
    }
    let new = "INSERT INTO tenants (device, tenant) SELECT value ->> 0, value ->> 1 \
               FROM json_each(?1) WHERE value ->> 1 <> 0 ON CONFLICT DO NOTHING";
    sqlx::query(new).bind(&all).execute(on).await?;
    Ok(have_moved)
}

/// Looks up numbers of series; returns those without a number.
async fn look_up(
    on: &mut SqliteConnection,
    known: &mut KnownSeries,
    wanted: Vec<Pair>,
) -> Result<Vec<Pair>, Failure> {
    let sql = "SELECT s.id, s.device, s.key, s.sum, j.key FROM json_each(?1) j \
               CROSS JOIN series s ON s.device = j.value ->> 0 AND s.key = j.value ->> 1";
    let rows = sqlx::query(sql).bind(json(&pairs(&wanted)));
    let rows = rows.fetch_all(on).await?;
    let mut found = vec![None; wanted.len()];
    for row in rows {
        let index = usize::try_from(row.try_get::<i64, _>(4)?);
        if let Some(place) = index.ok().and_then(|at| found.get_mut(at)) {
            *place = Some(series::of_row(&row)?.0);
        }
    }
    let mut others = Vec::new();
    for (pair, series) in wanted.into_iter().zip(found) {
        match series {
            Some(series) => known.insert(pair.0, pair.1, series),
            None => others.push(pair),
        }
    }
    Ok(others)
}

fn pairs(of: &[Pair]) -> Vec<(i64, &str)> {
    of.iter().map(|(device, key)| (*device, &**key)).collect()
}

/// Formats a list as an argument of `json_each`.
pub(crate) fn json(list: &[impl Json]) -> String {
    let items: Vec<_> = list.iter().map(Json::json).collect();
    serde_json::Value::from(items).to_string()
}

/// Element types of such a list.
pub(crate) trait Json {
    fn json(&self) -> serde_json::Value;
}

impl Json for i64 {
    fn json(&self) -> serde_json::Value {
        (*self).into()
    }
}

impl Json for (i64, i64) {
    fn json(&self) -> serde_json::Value {
        vec![self.0, self.1].into()
    }
}

impl Json for (i64, &str) {
    fn json(&self) -> serde_json::Value {
        serde_json::Value::Array(vec![self.0.into(), self.1.into()])
    }
}
