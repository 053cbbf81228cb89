//! Checks the whole file while it is in use.
//!
//! Rows have checksums, but a row that no page leads to any more has nothing that could be wrong.
//! SQLite finds such pages when it compares the pages of a table with each other. And a block whose
//! time is wrong is not read by a query for its right time. So each block is compared with its row.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::Mutex;

use super::failure::Failure;
use super::flush::block_of;
use super::pages::damaged_pages;
use super::{READER_CACHE_BYTES, cache_size, options};
use crate::StorageError;
use crate::damage::{FINDINGS_MAX, Findings};
use crate::value::SeriesId;

/// Tables that are checked while the file is in use. The journal and the series are checked when it
/// is opened, since all of them is read then.
const TABLES: [&str; 4] = ["tenants", "days", "rollups", "blocks"];
/// Steps of SQLite after which it looks whether the file is being closed.
const STEPS: i32 = 1_000;
/// Blocks that are read in one transaction.
const BLOCKS_PER_STEP: i64 = 500;
/// Length of the pause after such a step, in times of the step: decoding takes at most a quarter of
/// one core.
const PAUSE: u32 = 3;

/// Damaged pages of all tables that are checked, in words.
pub(super) async fn all_damaged_pages(
    on: &mut SqliteConnection,
    place: &str,
) -> Result<Vec<String>, StorageError> {
    let mut all = Vec::new();
    for table in TABLES {
        all.extend(damaged_pages(&mut *on, place, table).await?);
    }
    Ok(all)
}

/// The running check of a file, which ends early when the file is closed.
#[derive(Debug, Default)]
pub(super) struct Checks {
    is_closing: Arc<AtomicBool>,
    running: Mutex<()>,
}

impl Checks {
    /// Ends the running check, and waits until its connection is closed.
    pub(super) async fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        drop(self.running.lock().await);
    }

    /// Whether a connection of a check is open.
    pub(super) fn is_running(&self) -> bool {
        self.running.try_lock().is_err()
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Checks the file on a connection of its own. Returns what is damaged, in words.
    pub(super) async fn run(
        &self,
        place: &str,
        damage: &Findings,
    ) -> Result<Vec<String>, StorageError> {
        let _running = self.running.lock().await;
        if self.is_closing() {
            return Err(StorageError::Closed);
        }
        let failed = |error| StorageError::of_sql(place, error);
        let options = options(Path::new(place))
            .pragma("cache_size", cache_size(READER_CACHE_BYTES))
            .pragma("query_only", "1");
        let mut connection = options.connect().await.map_err(failed)?;
        let is_closing = Arc::clone(&self.is_closing);
        let handle = connection.lock_handle().await;
        let goes_on = move || !is_closing.load(Ordering::Relaxed);
        handle.map_err(failed)?.set_progress_handler(STEPS, goes_on);
        let checked = self.check(&mut connection, place, damage).await;
        let _ = connection.close().await;
        match self.is_closing() {
            true => Err(StorageError::Closed),
            false => checked,
        }
    }

    async fn check(
        &self,
        on: &mut SqliteConnection,
        place: &str,
        damage: &Findings,
    ) -> Result<Vec<String>, StorageError> {
        let mut all = Vec::new();
        for table in TABLES {
            let found = damaged_pages(&mut *on, place, table).await?;
            all.extend(found.clone());
            damage.note_hiding(found.into_iter().collect());
        }
        // Rows of damaged pages may have no order in which they could be read in steps.
        if all.is_empty() {
            all = self.damaged_blocks(on, place).await?;
            damage.note(all.clone());
        }
        Ok(all)
    }

    /// Finds blocks that are damaged or not as their rows say.
    async fn damaged_blocks(
        &self,
        on: &mut SqliteConnection,
        place: &str,
    ) -> Result<Vec<String>, StorageError> {
        let failed = |error| StorageError::of_sql(place, error);
        let sql = "SELECT time, origin, last_time, samples, data, series FROM blocks \
                   WHERE (series, time, origin) > (?1, ?2, ?3) \
                   ORDER BY series, time, origin LIMIT ?4";
        let mut after = (i64::MIN, i64::MIN, i64::MIN);
        let mut found = Vec::new();
        while found.len() < FINDINGS_MAX && !self.is_closing() {
            let begun = Instant::now();
            let rows = sqlx::query(sql).bind(after.0).bind(after.1).bind(after.2);
            let rows = rows.bind(BLOCKS_PER_STEP).fetch_all(&mut *on).await;
            let rows = rows.map_err(failed)?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let block = block_of(row).map_err(failed)?;
                let series = sqlx::Row::try_get(row, 5).map_err(failed)?;
                after = (series, block.at.time, block.at.origin);
                if let Err(Failure::Damaged(what)) = block.samples_of(SeriesId(series)) {
                    found.push(what);
                }
            }
            tokio::time::sleep(begun.elapsed() * PAUSE).await;
        }
        Ok(found)
    }
}
