//! A copy of the whole file.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sqlx::{ConnectOptions as _, Connection as _};

use super::check::all_damaged_pages;
use super::{MODE, options};
use crate::StorageError;

/// Copies the current database at `place` to a new file. Values in its journal are in the journal
/// of the copy. Returns the damaged pages, in words: what was on them may be missing there.
pub(crate) async fn backup(place: &str, to: &Path) -> Result<Vec<String>, StorageError> {
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
    let mut connection = options(Path::new(place)).connect().await.map_err(failed)?;
    let found = all_damaged_pages(&mut connection, place).await;
    let copied = sqlx::query("VACUUM INTO ?1").bind(text.to_owned());
    let copied = copied.execute(&mut connection).await;
    let closed = connection.close().await;
    copied.map_err(failed)?;
    closed.map_err(failed)?;
    file.sync_all().map_err(file_error)?;
    found
}
