//! A copy of the whole file.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::check::all_damaged_pages;
use super::{MODE, options};
use crate::StorageError;

/// Copies the current database at `place` to a new file. Values in its journal are in the journal
/// of the copy. Returns the damaged pages, in words: what was on them may be missing there.
pub(crate) async fn backup(place: &str, to: &Path) -> Result<Vec<String>, StorageError> {
    copy(options(Path::new(place)), place, to).await
}

/// Copies a database that is not in use, likewise. Nothing is written beside it, so that its file
/// system may be read-only.
pub(crate) async fn backup_at_rest(path: &Path, to: &Path) -> Result<Vec<String>, StorageError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let has_log = fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    let from = options(path).read_only(true).immutable(!has_log);
    copy(from, &path.display().to_string(), to).await
}

async fn copy(
    from: SqliteConnectOptions,
    place: &str,
    to: &Path,
) -> Result<Vec<String>, StorageError> {
    let file_error = |error: io::Error| StorageError::File {
        place: to.display().to_string(),
        what: error.to_string(),
    };
    let text = to.to_str().ok_or_else(|| {
        file_error(io::Error::new(
            io::ErrorKind::InvalidInput,
            "its path is not UTF-8",
        ))
    })?;
    let mut new = OpenOptions::new();
    let made = new.write(true).create_new(true).mode(MODE).open(to);
    let file = made.map_err(file_error)?;
    let failed = |error| StorageError::of_sql(place, error);
    let mut connection = from.connect().await.map_err(failed)?;
    let found = all_damaged_pages(&mut connection, place).await;
    let copied = sqlx::query("VACUUM INTO ?1").bind(text.to_owned());
    let copied = copied.execute(&mut connection).await;
    let closed = connection.close().await;
    copied.map_err(failed)?;
    closed.map_err(failed)?;
    file.sync_all().map_err(file_error)?;
    found
}
