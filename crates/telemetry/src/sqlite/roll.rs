//! Makes the roll-ups of days that are over.

use futures_util::TryStreamExt as _;
use sqlx::SqliteConnection;

use super::flush::{Failure, block_of, damaged};
use super::in_transaction;
use super::write::SqliteWriter;
use crate::StorageError;
use crate::codec::block::decode;
use crate::rollup::DayRoller;
use crate::value::{DAY, SeriesId};

/// Samples that are read in one step, about; a batch that arrives meanwhile waits for it.
const SAMPLES_PER_STEP: i64 = 200_000;
/// Days that are rolled in one step.
const DAYS_PER_STEP: i64 = 200;

impl SqliteWriter {
    /// Makes the roll-ups of some days before `today`. Answers whether more wait.
    pub(crate) async fn roll_some(&mut self, today: i64) -> Result<bool, StorageError> {
        let done = roll(&mut self.connection, today).await;
        done.map_err(|failure| failure.at(&self.place))
    }
}

async fn roll(on: &mut SqliteConnection, today: i64) -> Result<bool, Failure> {
    let sql = "SELECT series, day, samples FROM days WHERE rolled = 0 AND day < ?1 \
               ORDER BY day, series LIMIT ?2";
    let waiting = sqlx::query_as::<_, (i64, i64, i64)>(sql);
    let waiting = waiting.bind(today).bind(DAYS_PER_STEP);
    let waiting = waiting.fetch_all(&mut *on).await?;
    if waiting.is_empty() {
        return Ok(false);
    }
    in_transaction(on, async |work| {
        let mut samples = 0;
        for (series, day, of_day) in waiting {
            roll_day(work, SeriesId(series), day).await?;
            samples += of_day;
            if samples > SAMPLES_PER_STEP {
                break;
            }
        }
        Ok(true)
    })
    .await
}

async fn roll_day(on: &mut SqliteConnection, series: SeriesId, day: i64) -> Result<(), Failure> {
    let mut roller = DayRoller::default();
    let sql = "SELECT time, origin, last_time, samples, data FROM blocks \
               WHERE series = ?1 AND time >= ?2 AND time < ?3 ORDER BY time, origin";
    {
        let rows = sqlx::query(sql).bind(series.0);
        let rows = rows.bind(day * DAY).bind((day + 1) * DAY);
        let mut rows = rows.fetch(&mut *on);
        while let Some(row) = rows.try_next().await? {
            let block = block_of(&row)?;
            let samples = decode(&block.data);
            for sample in samples.map_err(|broken| damaged(series, &block, broken.0))? {
                roller.add(&sample);
            }
        }
    }
    for (level, data) in roller.end() {
        let sql = "INSERT INTO rollups (series, level, day, data) VALUES (?1, ?2, ?3, ?4)";
        let insert = sqlx::query(sql).bind(series.0).bind(level.number());
        insert.bind(day).bind(data).execute(&mut *on).await?;
    }
    let sql = "UPDATE days SET rolled = 1 WHERE series = ?1 AND day = ?2";
    let update = sqlx::query(sql).bind(series.0).bind(day);
    update.execute(on).await?;
    Ok(())
}
