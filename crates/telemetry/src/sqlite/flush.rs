//! Moves values from memory into blocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{Row as _, SqliteConnection};

use super::failure::Failure;
use super::in_transaction;
use super::write::SqliteWriter;
use crate::StorageError;
use crate::codec::block::{decode, is_full, pack};
use crate::memory::merge;
use crate::value::{Instant, Sample, SeriesId, Time, day_of};

/// Series that are moved in one transaction: a batch that arrives in the meantime waits for it.
const SERIES_PER_STEP: usize = 500;
/// Rows of one statement.
pub(super) const ROWS_PER_STATEMENT: usize = 100;

/// A block, as in its row.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) at: Instant,
    pub(crate) last_time: Time,
    pub(crate) samples: usize,
    pub(crate) data: Vec<u8>,
}

impl Block {
    /// The samples of it, as a block of this series.
    pub(crate) fn samples_of(&self, series: SeriesId) -> Result<Vec<Sample>, Failure> {
        let samples = decode(series, &self.data);
        let samples = samples.map_err(|broken| damaged(series, self, broken.0))?;
        let (first, last) = (samples.first(), samples.last());
        let is_as_its_row = first.is_some_and(|first| first.at == self.at)
            && last.is_some_and(|last| last.at.time == self.last_time)
            && samples.len() == self.samples;
        match is_as_its_row {
            true => Ok(samples),
            false => Err(damaged(series, self, "its row says something else")),
        }
    }
}

/// Changes of a transaction to the blocks of many series.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    removed: Vec<(SeriesId, Instant)>,
    added: Vec<(SeriesId, Block)>,
    /// Number of samples and bytes added per day.
    days: BTreeMap<(SeriesId, i64), (i64, i64)>,
    /// Blocks that are damaged, in words. They stay as they are.
    damaged: Vec<String>,
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    /// Removes a block.
    pub(crate) fn remove(&mut self, series: SeriesId, block: &Block) {
        self.removed.push((series, block.at));
        let day = self
            .days
            .entry((series, day_of(block.at.time)))
            .or_default();
        day.0 -= signed(block.samples);
        day.1 -= signed(block.data.len());
    }

    /// Packs ordered samples into blocks.
    pub(crate) fn add(&mut self, series: SeriesId, samples: &[Sample]) {
        for of_day in samples.chunk_by(|a, b| day_of(a.at.time) == day_of(b.at.time)) {
            let mut rest = of_day;
            for (count, data) in pack(series, of_day) {
                let (packed, others) = rest.split_at(count);
                rest = others;
                let (Some(first), Some(last)) = (packed.first(), packed.last()) else {
                    continue;
                };
                let day = day_of(first.at.time);
                let day = self.days.entry((series, day)).or_default();
                day.0 += signed(count);
                day.1 += signed(data.len());
                self.added.push((
                    series,
                    Block {
                        at: first.at,
                        last_time: last.at.time,
                        samples: count,
                        data,
                    },
                ));
            }
        }
    }

    /// Replaces a block by its samples merged with other, newer ones. Beside a damaged block these
    /// get a block of their own, so that neither they nor other series wait for it.
    fn merge_into(
        &mut self,
        series: SeriesId,
        block: &Block,
        mut samples: Vec<Sample>,
    ) -> Result<(), Failure> {
        match block.samples_of(series) {
            Ok(old) => {
                self.remove(series, block);
                self.add(series, &merge(old, samples, false));
            }
            Err(Failure::Damaged(what)) => {
                self.damaged.push(what);
                // A block with the same beginning would replace the damaged one.
                samples.retain(|sample| sample.at != block.at);
                self.add(series, &samples);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes the changes. This removes the roll-ups of the days until they are created again.
    pub(crate) async fn write(self, on: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        // A block with the same beginning as the one before replaces it: usually only the last
        // block of a series grows.
        let again = self.added.iter();
        let again: BTreeSet<_> = again.map(|(series, block)| (*series, block.at)).collect();
        for (series, at) in self.removed.iter().filter(|block| !again.contains(*block)) {
            let sql = "DELETE FROM blocks WHERE series = ?1 AND time = ?2 AND origin = ?3";
            let delete = sqlx::query(sql)
                .bind(series.0)
                .bind(at.time)
                .bind(at.origin);
            delete.execute(&mut *on).await?;
        }
        let mut added = self.added.into_iter().peekable();
        while added.peek().is_some() {
            insert(&mut *on, added.by_ref().take(ROWS_PER_STATEMENT).collect()).await?;
        }
        let days: Vec<Gain> = self.days.into_iter().collect();
        for some in days.chunks(ROWS_PER_STATEMENT) {
            remove_rollups(&mut *on, some).await?;
            add_to_days(&mut *on, some).await?;
        }
        // Only a deletion can leave a day empty.
        for ((series, day), _) in days.iter().filter(|(_, (samples, _))| *samples < 0) {
            let sql = "DELETE FROM days WHERE series = ?1 AND day = ?2 AND samples <= 0";
            let delete = sqlx::query(sql).bind(series.0).bind(day);
            delete.execute(&mut *on).await?;
        }
        Ok(())
    }
}

/// A day of a series, and the number of samples and bytes added.
type Gain = ((SeriesId, i64), (i64, i64));

/// A statement with a list of rows; prepared statements of the usual length are cached.
pub(crate) fn with_rows(
    before: &str,
    row: &str,
    rows: usize,
    after: &str,
) -> sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments> {
    let mut sql = String::with_capacity(before.len() + after.len() + rows * (row.len() + 2));
    sql.push_str(before);
    sql.push_str(row);
    for _ in 1..rows {
        sql.push_str(", ");
        sql.push_str(row);
    }
    sql.push_str(after);
    let keeps = rows == ROWS_PER_STATEMENT;
    sqlx::query(sqlx::AssertSqlSafe(sql)).persistent(keeps)
}

/// Removes the roll-ups of days. Only rolled-up days have some.
async fn remove_rollups(on: &mut SqliteConnection, days: &[Gain]) -> Result<(), sqlx::Error> {
    let mut query = with_rows(
        "WITH wanted (series, day) AS (VALUES ",
        "(?, ?)",
        days.len(),
        ") SELECT d.series, d.day FROM wanted w CROSS JOIN days d ON d.series = w.series \
         AND d.day = w.day WHERE d.rolled = 1",
    );
    for ((series, day), _) in days {
        query = query.bind(series.0).bind(*day);
    }
    for row in query.fetch_all(&mut *on).await? {
        let (series, day): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let sql = "DELETE FROM rollups WHERE series = ?1 AND level IN (0, 1, 2) AND day = ?2";
        let delete = sqlx::query(sql).bind(series).bind(day);
        delete.execute(&mut *on).await?;
    }
    Ok(())
}

async fn add_to_days(on: &mut SqliteConnection, days: &[Gain]) -> Result<(), sqlx::Error> {
    let mut query = with_rows(
        "INSERT INTO days (series, day, samples, bytes, rolled) VALUES ",
        "(?, ?, ?, ?, 0)",
        days.len(),
        " ON CONFLICT DO UPDATE SET samples = samples + excluded.samples, \
         bytes = bytes + excluded.bytes, rolled = 0",
    );
    for ((series, day), (samples, bytes)) in days {
        query = query.bind(series.0).bind(*day).bind(*samples).bind(*bytes);
    }
    query.execute(on).await.map(drop)
}

async fn insert(
    on: &mut SqliteConnection,
    rows: Vec<(SeriesId, Block)>,
) -> Result<(), sqlx::Error> {
    let mut query = with_rows(
        "INSERT OR REPLACE INTO blocks (series, time, origin, last_time, samples, data) VALUES ",
        "(?, ?, ?, ?, ?, ?)",
        rows.len(),
        "",
    );
    for (series, block) in rows {
        query = query
            .bind(series.0)
            .bind(block.at.time)
            .bind(block.at.origin)
            .bind(block.last_time)
            .bind(signed(block.samples))
            .bind(block.data);
    }
    query.execute(on).await.map(drop)
}

fn damaged(series: SeriesId, block: &Block, what: &str) -> Failure {
    let (series, time) = (series.0, block.at.time);
    Failure::Damaged(format!("the block of series {series} at {time} µs: {what}"))
}

pub(crate) fn block_of(row: &sqlx::sqlite::SqliteRow) -> Result<Block, sqlx::Error> {
    let samples: i64 = row.try_get(3)?;
    Ok(Block {
        at: Instant {
            time: row.try_get(0)?,
            origin: row.try_get(1)?,
        },
        last_time: row.try_get(2)?,
        samples: usize::try_from(samples).unwrap_or(0),
        data: row.try_get(4)?,
    })
}

impl SqliteWriter {
    /// Whether values must be moved into blocks before more are accepted.
    pub(crate) fn is_congested(&self) -> bool {
        let memory = self.memory.read();
        memory.active.bytes() >= self.memory_bytes_max && memory.is_moving()
    }

    /// Freezes the active generation, if it is large enough and the previous one has been moved.
    pub(crate) fn freeze(&mut self, bytes_min: usize) -> bool {
        let Some(moving) = self.memory.freeze(bytes_min) else {
            return false;
        };
        self.moving = Some(moving);
        self.frozen_until = self.journal_end;
        true
    }

    /// Moves some series of the frozen generation. Returns whether more wait.
    pub(crate) async fn move_some(&mut self) -> Result<bool, StorageError> {
        let Some(moving) = &self.moving else {
            return Ok(false);
        };
        self.rest.check()?;
        let begin = std::time::Instant::now();
        let some = moving.next(SERIES_PER_STEP);
        let is_last = moving.is_last(some.len());
        let until = is_last.then_some(self.frozen_until);
        let done = self.move_into_blocks(&some, until).await;
        self.rest.note(begin, &done);
        self.damage.note(done?);
        let Some(moving) = &mut self.moving else {
            return Ok(false);
        };
        match moving.advance(some.len()) {
            Some(until) if !is_last => self.memory.moved(until),
            _ => {
                self.memory.moved_all();
                self.moving = None;
            }
        }
        Ok(!is_last)
    }

    /// Moves samples into blocks. Returns which blocks are damaged. If need be, the file exceeds
    /// its limit by what these take: only so the journal can give back its room.
    async fn move_into_blocks(
        &mut self,
        some: &[(SeriesId, Vec<Sample>)],
        journal_until: Option<i64>,
    ) -> Result<Vec<String>, StorageError> {
        let mut done = move_series(&mut self.connection, some, journal_until).await;
        if let (Err(failure), Some(max)) = (&done, self.file_bytes_max)
            && failure.is_full()
        {
            self.limit_file(u64::MAX).await?;
            done = move_series(&mut self.connection, some, journal_until).await;
            self.limit_file(max).await?;
        }
        done.map_err(|failure| failure.noted_at(&self.place, &self.damage))
    }

    /// Moves all values in memory into blocks, so that the journal is empty.
    pub(crate) async fn move_all(&mut self) -> Result<(), StorageError> {
        loop {
            while self.move_some().await? {}
            if !self.freeze(0) {
                return Ok(());
            }
        }
    }
}

/// Moves samples into blocks. Returns which blocks are damaged.
async fn move_series(
    on: &mut SqliteConnection,
    moving: &[(SeriesId, Vec<Sample>)],
    journal_until: Option<i64>,
) -> Result<Vec<String>, Failure> {
    in_transaction(on, async |work| {
        let mut changes = Changes::default();
        let mut tails = last_blocks(work, moving).await?;
        for (series, samples) in moving {
            let Some(tail) = tails.remove(series) else {
                changes.add(*series, samples);
                continue;
            };
            let late = samples.partition_point(|sample| sample.at < tail.at);
            let (late, newer) = samples.split_at(late);
            append(&mut changes, *series, &tail, newer)?;
            merge_late(work, &mut changes, *series, late, tail.at).await?;
        }
        let damaged = std::mem::take(&mut changes.damaged);
        changes.write(work).await?;
        if let Some(until) = journal_until {
            let sql = "DELETE FROM journal WHERE id <= ?1";
            sqlx::query(sql).bind(until).execute(work).await?;
        }
        Ok(damaged)
    })
    .await
}

async fn last_blocks(
    on: &mut SqliteConnection,
    moving: &[(SeriesId, Vec<Sample>)],
) -> Result<HashMap<SeriesId, Block>, sqlx::Error> {
    let mut found = HashMap::with_capacity(moving.len());
    for some in moving.chunks(ROWS_PER_STATEMENT) {
        let mut query = with_rows(
            "WITH wanted (series) AS (VALUES ",
            "(?)",
            some.len(),
            ") SELECT b.time, b.origin, b.last_time, b.samples, b.data, b.series \
             FROM wanted w CROSS JOIN blocks b ON b.series = w.series \
             AND b.time = (SELECT max(time) FROM blocks WHERE series = w.series) \
             ORDER BY b.series, b.time, b.origin",
        );
        for (series, _) in some {
            query = query.bind(series.0);
        }
        for row in query.fetch_all(&mut *on).await? {
            // Of several with the same beginning, the last one is kept.
            found.insert(SeriesId(row.try_get(5)?), block_of(&row)?);
        }
    }
    Ok(found)
}

/// Adds samples that are not before the last block.
fn append(
    changes: &mut Changes,
    series: SeriesId,
    tail: &Block,
    samples: &[Sample],
) -> Result<(), Failure> {
    let Some(first) = samples.first() else {
        return Ok(());
    };
    let is_after = first.at.time > tail.last_time;
    let of_another_day = day_of(first.at.time) != day_of(tail.at.time);
    if is_after && (of_another_day || is_full(tail.data.len(), tail.samples)) {
        changes.add(series, samples);
        return Ok(());
    }
    changes.merge_into(series, tail, samples.to_vec())
}

/// Merges samples that are before the last block into their blocks, one block after the other.
/// Blocks between them are not read.
async fn merge_late(
    on: &mut SqliteConnection,
    changes: &mut Changes,
    series: SeriesId,
    mut samples: &[Sample],
    tail: Instant,
) -> Result<(), Failure> {
    while let Some(first) = samples.first() {
        let mut block = block_at(on, series, first.at).await?;
        if block.is_none() {
            // Samples before the first block of their day join the next block, so that values that
            // arrive in reverse order do not create many small blocks. The last block may have
            // changed already.
            block = block_after(on, series, first.at).await?.filter(|next| {
                next.at < tail
                    && day_of(next.at.time) == day_of(first.at.time)
                    && !is_full(next.data.len(), next.samples)
            });
        }
        let from = block.as_ref().map_or(first.at, |block| block.at);
        let next = block_after(on, series, from).await?;
        let until = next.map_or(samples.len(), |next| {
            samples.partition_point(|sample| sample.at < next.at)
        });
        let (here, others) = samples.split_at(until);
        samples = others;
        match block {
            Some(block) => changes.merge_into(series, &block, here.to_vec())?,
            None => changes.add(series, here),
        }
    }
    Ok(())
}

/// The block of a day that contains, or would contain, this instant: the last one that does not
/// begin later.
async fn block_at(
    on: &mut SqliteConnection,
    series: SeriesId,
    at: Instant,
) -> Result<Option<Block>, sqlx::Error> {
    let sql = "SELECT time, origin, last_time, samples, data FROM blocks \
               WHERE series = ?1 AND (time, origin) <= (?2, ?3) \
               ORDER BY time DESC, origin DESC LIMIT 1";
    let query = sqlx::query(sql)
        .bind(series.0)
        .bind(at.time)
        .bind(at.origin);
    let row = query.fetch_optional(on).await?;
    let block = row.map(|row| block_of(&row)).transpose()?;
    Ok(block.filter(|block| day_of(block.at.time) == day_of(at.time)))
}

/// The first block that begins after an instant.
async fn block_after(
    on: &mut SqliteConnection,
    series: SeriesId,
    at: Instant,
) -> Result<Option<Block>, sqlx::Error> {
    let sql = "SELECT time, origin, last_time, samples, data FROM blocks \
               WHERE series = ?1 AND (time, origin) > (?2, ?3) ORDER BY time, origin LIMIT 1";
    let query = sqlx::query(sql)
        .bind(series.0)
        .bind(at.time)
        .bind(at.origin);
    let row = query.fetch_optional(on).await?;
    row.map(|row| block_of(&row)).transpose()
}
