//! The table of series and its index: each has the whole row and its checksum, so that what is
//! right in one mends the other. A wrong row would show values as those of another device.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::failure::Failure;
use super::pages::damaged_pages;
use super::{SERIES, in_transaction};
use crate::StorageError;
use crate::codec::checksum;
use crate::series::Pair;
use crate::value::SeriesId;

/// The two copies. In both orders each page is read once.
const TABLE: &str = "SELECT id, device, key, sum FROM series NOT INDEXED ORDER BY id";
const INDEX: &str = "SELECT id, device, key, sum FROM series \
                     INDEXED BY sqlite_autoindex_series_1 ORDER BY device, key, sum";
/// The two copies in a file from before checksums.
const OLD_TABLE: &str = "SELECT id, device, key, NULL FROM series NOT INDEXED ORDER BY id";
const OLD_INDEX: &str = "SELECT id, device, key, NULL FROM series \
                         INDEXED BY sqlite_autoindex_series_1 ORDER BY device, key";

/// Removes the table of series.
const DROP: &str = "DROP TABLE series";
/// Removes a table of series whose pages are so damaged that they cannot be freed: they stay in the
/// file, unused.
const LEAVE: &str = "PRAGMA writable_schema = ON; \
                     DELETE FROM sqlite_schema WHERE tbl_name = 'series'; \
                     PRAGMA writable_schema = RESET";

/// Number of mended rows that a finding names.
const NAMED_MAX: usize = 10;

/// The checksum of a row, as stored.
fn sum_of(id: i64, device: i64, key: &str) -> i64 {
    i64::from(checksum(key.as_bytes(), &[id, device]).cast_signed())
}

/// A row as it is read, damaged or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Found {
    id: i64,
    device: Option<i64>,
    key: Option<String>,
    sum: Option<i64>,
}

impl Found {
    fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            device: row.try_get(1).ok(),
            key: row.try_get(2).ok(),
            sum: row.try_get(3).ok().flatten(),
        })
    }

    fn pair(&self) -> Option<(i64, &str)> {
        self.device.zip(self.key.as_deref())
    }

    /// The finding about a row that was set aside.
    fn as_lost(&self) -> String {
        let pair = self.pair().map_or_else(
            || "no device and key".to_owned(),
            |(device, key)| format!("device {device} and key {key:?}"),
        );
        let why = match self.is_right() {
            true => "its device and key have a newer row",
            false => "neither the row nor its entry in the index is right",
        };
        format!(
            "row {} of the table `series`, with {pair}: {why}. Its values are not served. It is in \
             the table `damaged_series` now",
            self.id
        )
    }

    fn is_right(&self) -> bool {
        let sum = self
            .pair()
            .map(|(device, key)| sum_of(self.id, device, key));
        sum.is_some() && sum == self.sum
    }
}

/// The number, device and key of a row: the first columns are `id`, `device`, `key` and `sum`.
pub(super) fn of_row(row: &SqliteRow) -> Result<(SeriesId, i64, String), Failure> {
    let found = Found::of(row)?;
    if !found.is_right() {
        let what = "its device, key or checksum is wrong";
        return Err(Failure::Damaged(format!("series {}: {what}", found.id)));
    }
    let whole = found.device.zip(found.key);
    let (device, key) = whole.ok_or_else(|| Failure::Damaged("a series".to_owned()))?;
    Ok((SeriesId(found.id), device, key))
}

/// Adds series with the next numbers.
pub(super) async fn insert(on: &mut SqliteConnection, pairs: &[Pair]) -> Result<(), Failure> {
    let used = sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM series");
    let used: i64 = used.fetch_one(&mut *on).await?;
    let last = last_number(&mut *on).await?.max(used);
    let count = i64::try_from(pairs.len()).ok();
    let Some(end) = count.and_then(|count| last.checked_add(count)) else {
        return Err(Failure::Damaged(format!(
            "the table `sqlite_sequence` says that a series had the number {last}, and a new one \
             must have a higher number"
        )));
    };
    let numbered = (last..end).map(|last| last + 1).zip(pairs);
    let rows = numbered.map(|(id, (device, key))| (id, *device, &**key));
    Ok(insert_rows(on, rows).await?)
}

/// The highest number that a series has had, as SQLite remembers it.
async fn last_number(on: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let sql = "SELECT coalesce(max(CAST(seq AS INTEGER)), 0) FROM sqlite_sequence \
               WHERE name = 'series'";
    sqlx::query_scalar(sql).fetch_one(on).await
}

async fn insert_rows<'a>(
    on: &mut SqliteConnection,
    rows: impl Iterator<Item = (i64, i64, &'a str)>,
) -> Result<(), sqlx::Error> {
    let rows = rows.map(|(id, device, key)| {
        let sum = sum_of(id, device, key);
        serde_json::Value::Array(vec![id.into(), device.into(), key.into(), sum.into()])
    });
    let rows = serde_json::Value::Array(rows.collect()).to_string();
    let sql = "INSERT INTO series (id, device, key, sum) \
               SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?1)";
    sqlx::query(sql).bind(rows).execute(on).await.map(drop)
}

/// Compares the table, its index and the checksums. If something is wrong, both are written anew
/// from the rows that are right in either of them; others are set aside. A file from before
/// checksums gets them. Returns findings, in words.
pub(super) async fn mend(
    on: &mut SqliteConnection,
    place: &str,
) -> Result<Vec<String>, StorageError> {
    let failed = |error| StorageError::of_sql(place, error);
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('series') WHERE name = 'sum')";
    let has_sums = sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut *on).await;
    let has_sums = has_sums.map_err(failed)?;
    let pages = damaged_pages(&mut *on, place, "series").await?;
    let is_consistent = pages.is_none();
    if has_sums && is_consistent {
        let mut are_right = true;
        let is_whole = read(&mut *on, TABLE, place, |row| are_right &= row.is_right());
        if is_whole.await? && are_right {
            return Ok(Vec::new());
        }
    }
    let sql = if has_sums { TABLE } else { OLD_TABLE };
    let table = Copy::read(&mut *on, sql, place).await?;
    let sql = if has_sums { INDEX } else { OLD_INDEX };
    let index = Copy::read(&mut *on, sql, place).await?;
    if !table.is_whole && !index.is_whole {
        let what = "neither the table of series nor its index can be read".to_owned();
        let place = place.to_owned();
        return Err(StorageError::Damaged { place, what });
    }
    let sorted = match has_sums {
        true => Sorted::by_sums(&table, &index),
        false => Sorted::by_comparison(&table, &index),
    };
    let dropped = in_transaction(&mut *on, async |work| sorted.write(work, DROP).await);
    match dropped.await.map_err(failed) {
        Err(StorageError::Damaged { .. }) => {
            let left = in_transaction(on, async |work| sorted.write(work, LEAVE).await);
            left.await.map_err(failed)?;
        }
        dropped => dropped?,
    }
    let mut said: Vec<_> = sorted.aside.iter().map(Found::as_lost).collect();
    if said.is_empty() && (has_sums || !is_consistent) {
        said.push(mended(&table, &index, has_sums));
    }
    Ok(said)
}

/// The finding if each row is right in the table or in the index.
fn mended(table: &Copy, index: &Copy, has_sums: bool) -> String {
    let rows = |copy: &Copy| copy.rows.iter().cloned().collect::<HashSet<_>>();
    let (table, index) = (rows(table), rows(index));
    let all = table.union(&index);
    let is_whole = |row: &Found| table.contains(row) && index.contains(row);
    let wrong = all.filter(|row| !is_whole(row) || has_sums && !row.is_right());
    let wrong: BTreeSet<_> = wrong.map(|row| row.id).collect();
    let first = wrong.iter().take(NAMED_MAX).map(i64::to_string);
    let first = first.collect::<Vec<_>>().join(", ");
    let rows = match wrong.len() {
        0 => String::new(),
        count if count > NAMED_MAX => format!(", rows {first} and {} more", count - NAMED_MAX),
        _ => format!(", row {first}"),
    };
    format!(
        "the table `series`, or its index{rows}: it was mended from the other one, and nothing is \
         missing. Check the disk"
    )
}

/// Reads rows until the end, or to where SQLite finds damage. Returns whether it was the end.
async fn read(
    on: &mut SqliteConnection,
    sql: &'static str,
    place: &str,
    mut each: impl FnMut(Found),
) -> Result<bool, StorageError> {
    let failed = |error| StorageError::of_sql(place, error);
    let mut rows = sqlx::query(sql).fetch(on);
    loop {
        match rows.try_next().await.map_err(failed) {
            Ok(Some(row)) => each(Found::of(&row).map_err(failed)?),
            Ok(None) => return Ok(true),
            Err(StorageError::Damaged { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Rows of the table or of its index.
struct Copy {
    rows: Vec<Found>,
    /// Whether SQLite could read all of it.
    is_whole: bool,
}

impl Copy {
    async fn read(
        on: &mut SqliteConnection,
        sql: &'static str,
        place: &str,
    ) -> Result<Self, StorageError> {
        let mut rows = Vec::new();
        let is_whole = read(on, sql, place, |row| rows.push(row)).await?;
        Ok(Self { rows, is_whole })
    }
}

/// Rows of both copies.
#[derive(Default)]
struct Sorted {
    /// Numbers of right rows.
    right: BTreeMap<(i64, String), i64>,
    /// Rows that are right in neither copy, or whose device and key have a newer number.
    aside: Vec<Found>,
}

impl Sorted {
    fn by_sums(table: &Copy, index: &Copy) -> Self {
        let all = || table.rows.iter().chain(&index.rows);
        Self::of(all().filter(|row| row.is_right()), all())
    }

    /// Without checksums a row is right if both copies have it, or if only one can be read.
    fn by_comparison(table: &Copy, index: &Copy) -> Self {
        match (table.is_whole, index.is_whole) {
            (true, true) => {
                let indexed: HashSet<_> = index.rows.iter().collect();
                let right = table.rows.iter().filter(|row| indexed.contains(row));
                Self::of(right, table.rows.iter().chain(&index.rows))
            }
            (true, false) => Self::of(table.rows.iter(), table.rows.iter()),
            (false, _) => Self::of(index.rows.iter(), index.rows.iter()),
        }
    }

    fn of<'a>(
        right: impl Iterator<Item = &'a Found>,
        all: impl Iterator<Item = &'a Found>,
    ) -> Self {
        let mut sorted = Self::default();
        for row in right {
            let Some((device, key)) = row.pair() else {
                continue;
            };
            let number = sorted.right.entry((device, key.to_owned()));
            let number = number.or_insert(row.id);
            *number = row.id.max(*number);
        }
        let numbers: HashSet<_> = sorted.right.values().copied().collect();
        // A damaged copy of a right row costs nothing.
        let is_lost = |row: &&Found| {
            let pair = row.pair().map(|(device, key)| (device, key.to_owned()));
            let is_there = pair.is_some_and(|pair| sorted.right.contains_key(&pair));
            !numbers.contains(&row.id) && (row.is_right() || !is_there)
        };
        let mut seen = HashSet::new();
        let lost = all.filter(is_lost).filter(|row| seen.insert(*row));
        sorted.aside = lost.cloned().collect();
        sorted
    }

    /// Replaces the table and its index. Numbers that were used are not used again.
    async fn write(
        &self,
        on: &mut SqliteConnection,
        remove: &'static str,
    ) -> Result<(), sqlx::Error> {
        let highest = self.right.values().copied().max().unwrap_or(0);
        let last = last_number(&mut *on).await?.max(highest);
        let table = format!("{remove}; {SERIES}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(table))
            .execute(&mut *on)
            .await?;
        let right = self.right.iter();
        let right = right.map(|((device, key), id)| (*id, *device, &**key));
        insert_rows(&mut *on, right).await?;
        let sql = "DELETE FROM sqlite_sequence WHERE name = 'series'";
        sqlx::raw_sql(sql).execute(&mut *on).await?;
        let sql = "INSERT INTO sqlite_sequence (name, seq) VALUES ('series', ?1)";
        sqlx::query(sql).bind(last).execute(&mut *on).await?;
        if self.aside.is_empty() {
            return Ok(());
        }
        let table = "CREATE TABLE IF NOT EXISTS damaged_series (id INTEGER, device, key, sum)";
        sqlx::raw_sql(table).execute(&mut *on).await?;
        for row in &self.aside {
            let sql = "INSERT INTO damaged_series (id, device, key, sum) VALUES (?1, ?2, ?3, ?4)";
            let row = sqlx::query(sql)
                .bind(row.id)
                .bind(row.device)
                .bind(row.key.clone())
                .bind(row.sum);
            row.execute(&mut *on).await?;
        }
        Ok(())
    }
}
