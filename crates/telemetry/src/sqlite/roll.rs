//! Creates the roll-ups of completed days.

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::TryStreamExt as _;
use sqlx::{Row as _, SqliteConnection};

use super::failure::Failure;
use super::flush::{ROWS_PER_STATEMENT, block_of, with_rows};
use super::in_transaction;
use super::write::SqliteWriter;
use crate::StorageError;
use crate::rollup::DayRoller;
use crate::value::{DAY, SeriesId, day_of};

/// Approximate samples that are read in one step; a batch that arrives in the meantime waits for
/// it.
const SAMPLES_PER_STEP: i64 = 200_000;
/// Days that are rolled up in one step.
const DAYS_PER_STEP: i64 = 500;

impl SqliteWriter {
    /// Creates the roll-ups of some days before `today`. Returns whether more wait.
    pub(crate) async fn roll_some(&mut self, today: i64) -> Result<bool, StorageError> {
        self.rolling_rest.check()?;
        let begin = Instant::now();
        let done = roll(&mut self.connection, today).await;
        let done = done.map_err(|failure| failure.noted_at(&self.place, &self.damage));
        self.rolling_rest.note(begin, &done);
        let (has_more, damaged) = done?;
        self.damage.note(damaged);
        Ok(has_more)
    }
}

/// Whether more wait, and which blocks are damaged.
type Rolled = (bool, Vec<String>);

async fn roll(on: &mut SqliteConnection, today: i64) -> Result<Rolled, Failure> {
    let sql = "SELECT series, day, samples FROM days WHERE rolled = 0 AND day < ?1 \
               ORDER BY day, series LIMIT ?2";
    let waiting = sqlx::query_as::<_, (i64, i64, i64)>(sql);
    let waiting = waiting.bind(today).bind(DAYS_PER_STEP);
    let mut waiting = waiting.fetch_all(&mut *on).await?;
    if waiting.is_empty() {
        return Ok((false, Vec::new()));
    }
    let mut samples = 0;
    let few = waiting.iter().take_while(|(_, _, of_day)| {
        let takes = samples == 0 || samples + of_day <= SAMPLES_PER_STEP;
        samples += of_day;
        takes
    });
    let few = few.count();
    waiting.truncate(few);
    in_transaction(on, async |work| {
        let mut damaged = Vec::new();
        for some in waiting.chunks(ROWS_PER_STATEMENT) {
            damaged.extend(roll_days(work, some).await?);
        }
        Ok((true, damaged))
    })
    .await
}

/// Value of `rolled` of a day without roll-ups, since a block of it is damaged. Queries read its
/// blocks, and say so.
const DAMAGED: i64 = 2;

/// Creates the roll-ups of days: series, day and number of samples of each. Returns which blocks
/// are damaged.
async fn roll_days(
    on: &mut SqliteConnection,
    days: &[(i64, i64, i64)],
) -> Result<Vec<String>, Failure> {
    let (sums, damaged) = sum_up(&mut *on, days).await?;
    let is_damaged = |series, day| damaged.contains_key(&(SeriesId(series), day));
    let mut rows = Vec::new();
    let whole = sums.into_iter();
    let whole = whole.filter(|((series, day), _)| !is_damaged(series.0, *day));
    for ((series, day), roller) in whole {
        let levels = roller.end().into_iter();
        rows.extend(levels.map(|(level, data)| (series, level.number(), day, data)));
    }
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let some: Vec<_> = rows.by_ref().take(ROWS_PER_STATEMENT).collect();
        let mut query = with_rows(
            "INSERT INTO rollups (series, level, day, data) VALUES ",
            "(?, ?, ?, ?)",
            some.len(),
            "",
        );
        for (series, level, day, data) in some {
            query = query.bind(series.0).bind(level).bind(day).bind(data);
        }
        query.execute(&mut *on).await?;
    }
    // All these rows exist: this updates many rows at once.
    let mut query = with_rows(
        "INSERT INTO days (series, day, samples, bytes, rolled) VALUES ",
        "(?, ?, 0, 0, ?)",
        days.len(),
        " ON CONFLICT DO UPDATE SET rolled = excluded.rolled",
    );
    for (series, day, _) in days {
        let rolled = if is_damaged(*series, *day) {
            DAMAGED
        } else {
            1
        };
        query = query.bind(*series).bind(*day).bind(rolled);
    }
    query.execute(on).await?;
    Ok(damaged.into_values().collect())
}

/// The sums of days that have blocks, and the days that have a damaged one, in words.
type Sums = (
    BTreeMap<(SeriesId, i64), DayRoller>,
    BTreeMap<(SeriesId, i64), String>,
);

/// The sums of each day that has blocks.
async fn sum_up(on: &mut SqliteConnection, days: &[(i64, i64, i64)]) -> Result<Sums, Failure> {
    let mut query = with_rows(
        "WITH wanted (series, day) AS (VALUES ",
        "(?, ?)",
        days.len(),
        ") SELECT b.time, b.origin, b.last_time, b.samples, b.data, b.series \
         FROM wanted w CROSS JOIN blocks b ON b.series = w.series \
         AND b.time >= w.day * 86400000000 AND b.time < (w.day + 1) * 86400000000 \
         ORDER BY b.series, b.time, b.origin",
    );
    for (series, day, _) in days {
        query = query.bind(*series).bind(*day);
    }
    let mut rows = query.fetch(on);
    let (mut sums, mut damaged) = Sums::default();
    while let Some(row) = rows.try_next().await? {
        let (series, block) = (SeriesId(row.try_get(5)?), block_of(&row)?);
        let day = (series, day_of(block.at.time));
        let samples = match block.samples_of(series) {
            Ok(samples) => samples,
            Err(Failure::Damaged(what)) => {
                damaged.insert(day, what);
                continue;
            }
            Err(error) => return Err(error),
        };
        let roller = sums.entry(day).or_default();
        for sample in &samples {
            roller.add(sample);
        }
    }
    Ok((sums, damaged))
}

// The statement above contains the length of a day.
const _: () = assert!(DAY == 86_400_000_000);
