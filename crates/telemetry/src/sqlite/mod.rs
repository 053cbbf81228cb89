//! SQLite: a journal of committed values, and blocks of packed values.
//!
//! A batch is one row of the journal, so that syncing it writes few pages, regardless of the
//! number of series. Its values are in [`crate::memory`] until they are packed into blocks.

pub(crate) mod backup;
mod check;
pub(crate) mod delete;
pub(crate) mod failure;
pub(crate) mod flush;
mod journal;
mod pages;
pub(crate) mod read;
pub(crate) mod roll;
pub(crate) mod room;
mod series;
pub(crate) mod write;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, SqliteConnection};

use crate::value::PAGE_BYTES;
use crate::{Settings, StorageError};

/// Version of the tables, in `user_version`. From 2 on rows have checksums. Older rows are read
/// too.
const VERSION: i64 = 2;
/// The tables.
const SCHEMA: &str = include_str!("schema.sql");
/// The table of series. That of older files is replaced; see [`series`].
const SERIES: &str = include_str!("series.sql");
/// The table of tenants, which files of version 1 lack.
const TENANTS: &str = include_str!("tenants.sql");
/// `application_id`: "MTel".
const APPLICATION: i64 = 0x4d54_656c;
/// SQLite gives `-wal` and `-shm` the mode of the file itself.
const MODE: u32 = 0o600;

/// Time that a statement waits while another process, such as a backup, holds the lock.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// Time limit for waiting for the lock of the file.
const LOCK_MAX: Duration = Duration::from_secs(2);

/// Rows that the thread of the writer's connection reads ahead. With few rows both threads wait
/// for each other often, which costs more than the reading.
const ROWS_AHEAD: usize = 512;
/// Rows that the thread of a reader's connection reads ahead. A reader often stops early, and then
/// rows that were read ahead are lost.
const ROWS_AHEAD_OF_READER: usize = 64;

/// Page cache of the writer's connection, bytes.
pub(crate) const WRITER_CACHE_BYTES: usize = 16 << 20;
/// Page cache of each reader's connection, bytes.
pub(crate) const READER_CACHE_BYTES: usize = 2 << 20;

/// `cache_size` for this number of bytes.
fn cache_size(bytes: usize) -> String {
    format!("-{}", bytes / 1024)
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_MAX)
        .disable_statement_logging()
}

/// Prevents writes to the file by other processes, and by other storages of this one: they would
/// not see values that are only in memory. The lock ends with the process or when it is dropped.
pub(crate) async fn lock(path: &Path) -> Result<File, StorageError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = Path::new(&name);
    let failed = |what: String| StorageError::File {
        place: path.display().to_string(),
        what,
    };
    let mut options = OpenOptions::new();
    let opened = options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(lock);
    let file = opened.map_err(|error| failed(format!("{}: {error}", lock.display())))?;
    let until = Instant::now() + LOCK_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // A process that was forked while another storage was open also has the lock, until it
            // executes its own program.
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(failed(
                    "another process has it open; stop that process, or use another file"
                        .to_owned(),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error.to_string())),
        }
    }
}

/// Opens the file for writing, and creates it and its tables if they are missing.
pub(crate) async fn connect(path: &Path) -> Result<SqliteConnection, StorageError> {
    let place = path.display().to_string();
    make_file(path)?;
    let options = options(path)
        .row_buffer_size(ROWS_AHEAD)
        .page_size(PAGE_BYTES)
        .auto_vacuum(SqliteAutoVacuum::None)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // After a burst the log is truncated to this size when it is restarted.
        .pragma("journal_size_limit", "67108864")
        .pragma("cache_size", cache_size(WRITER_CACHE_BYTES));
    let failed = |error| StorageError::of_sql(&place, error);
    let mut connection = options.connect().await.map_err(failed)?;
    prepare(&mut connection, &place).await?;
    Ok(connection)
}

/// Limits the size of the file.
async fn limit_pages(on: &mut SqliteConnection, bytes: u64) -> Result<(), sqlx::Error> {
    let pages = (bytes / u64::from(PAGE_BYTES)).clamp(1, u64::from(u32::MAX - 1));
    let sql = format!("PRAGMA max_page_count = {pages}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(on).await?;
    Ok(())
}

/// Creates the tables in an empty file; rejects files of other programs and of newer versions.
async fn prepare(on: &mut SqliteConnection, place: &str) -> Result<(), StorageError> {
    let failed = |error| StorageError::of_sql(place, error);
    let number = |sql: &'static str| sqlx::query_scalar::<_, i64>(sql);
    let found = number("PRAGMA user_version").fetch_one(&mut *on).await;
    let found = found.map_err(failed)?;
    let owner = number("PRAGMA application_id").fetch_one(&mut *on).await;
    let tables = number("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *on);
    let (owner, tables) = (owner.map_err(failed)?, tables.await.map_err(failed)?);
    if tables > 0 && owner != APPLICATION {
        return Err(StorageError::File {
            place: place.to_owned(),
            what: "it is the database of another program; choose another path".to_owned(),
        });
    }
    if found > VERSION {
        let (place, known) = (place.to_owned(), VERSION);
        return Err(StorageError::Newer {
            place,
            found,
            known,
        });
    }
    if tables == 0 || found < VERSION {
        let (schema, series) = match tables {
            0 => (SCHEMA, SERIES),
            _ => ("", ""),
        };
        let sql = format!(
            "BEGIN IMMEDIATE; {schema}; {series}; {TENANTS}; PRAGMA application_id = {APPLICATION}; \
             PRAGMA user_version = {VERSION}; COMMIT"
        );
        let made = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(on).await;
        made.map_err(failed)?;
    }
    Ok(())
}

fn make_file(path: &Path) -> Result<(), StorageError> {
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(MODE).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StorageError::File {
            place: path.display().to_string(),
            what: error.to_string(),
        }),
    }
}

/// Runs a function in an exclusive write transaction. The driver's own transactions are not used:
/// on a full disk SQLite ends a transaction by itself, and the driver does not notice.
pub(crate) async fn in_transaction<T, E: From<sqlx::Error>>(
    on: &mut SqliteConnection,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, E>,
) -> Result<T, E> {
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *on).await?;
    let failed = match work(&mut *on).await {
        Ok(done) => match sqlx::raw_sql("COMMIT").execute(&mut *on).await {
            Ok(_) => return Ok(done),
            Err(error) => error.into(),
        },
        Err(error) => error,
    };
    // It fails if the transaction has ended already, which is harmless.
    let _ = sqlx::raw_sql("ROLLBACK").execute(on).await;
    Err(failed)
}

/// Read connections, opened on demand and closed when idle.
pub(crate) fn readers(path: &Path, settings: &Settings) -> SqlitePool {
    let options = options(path)
        .row_buffer_size(ROWS_AHEAD_OF_READER)
        .pragma("cache_size", cache_size(READER_CACHE_BYTES))
        .pragma("query_only", "1");
    SqlitePoolOptions::new()
        .max_connections(settings.readers_max.max(1))
        .min_connections(0)
        .idle_timeout(Some(Duration::from_secs(60)))
        .acquire_timeout(Duration::from_secs(30))
        .test_before_acquire(false)
        .connect_lazy_with(options)
}
