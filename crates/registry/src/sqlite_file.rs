//! The file of an SQLite database: how it is made, named and copied, and why it cannot be used.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use sqlx::{AnyConnection, Connection as _};

use crate::sql::Fault;
use crate::{Refused, RegistryError};

/// SQLite gives `-wal` and `-shm` the mode of the file itself.
const MODE: u32 = 0o600;

pub(crate) fn file_error(path: &Path) -> impl Fn(io::Error) -> RegistryError {
    |error| RegistryError::File {
        path: path.to_owned(),
        error,
    }
}

pub(crate) fn make_file(path: &Path) -> Result<(), RegistryError> {
    let mut options = OpenOptions::new();
    let created = options.write(true).create_new(true).mode(MODE).open(path);
    match created {
        Ok(file) => give_to_owner_of_directory(&file, path).map_err(file_error(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(file_error(path)(error)),
    }
}

impl Fault {
    pub(crate) fn at(self, place: &str) -> RegistryError {
        match self {
            Self::Told(error) => error,
            Self::Sql(error) => {
                let of_file = needs_a_writable_file(&error).then_some(Path::new(place));
                let of_file = of_file.filter(|path| path.is_file());
                let place = place.to_owned();
                let why = of_file.and_then(why_not_writable);
                why.unwrap_or(RegistryError::Database { place, error })
            }
        }
    }
}

/// SQLITE_READONLY and SQLITE_CANTOPEN, with what extends them.
fn needs_a_writable_file(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    let code = code.and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 8 | 14))
}

/// Why a file cannot be written to. SQLite reports only that it cannot open it, or that it is
/// read-only. This is the system's error for the file, or for its directory, in which SQLite
/// creates others. None if both can be written to.
fn why_not_writable(path: &Path) -> Option<RegistryError> {
    let open = OpenOptions::new().read(true).write(true).open(path);
    let created = match open {
        Ok(_) => {
            let trial = with_end(path, &format!(".trial-{}", std::process::id()));
            make_copy(&trial).inspect(|()| drop(fs::remove_file(&trial)))
        }
        Err(error) => Err(error),
    };
    let error = created.err()?;
    let what_to_do = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "mount its file system for writing",
        io::ErrorKind::PermissionDenied => {
            "give the user of this process the right to write to it and to its directory"
        }
        _ => return Some(file_error(path)(error)),
    };
    let text = format!("cannot be opened for writing: {error}; {what_to_do}");
    Some(file_error(path)(io::Error::new(error.kind(), text)))
}

/// Device and inode.
pub(crate) fn file_of(path: &Path) -> Option<(u64, u64)> {
    let found = path.metadata().ok()?;
    Some((found.dev(), found.ino()))
}

/// Whether there is such a file. Other code reports a missing directory.
pub(crate) fn is_there(path: &Path) -> Result<bool, RegistryError> {
    match path.try_exists() {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        found => found.map_err(file_error(path)),
    }
}

/// A new file that only this user may read.
pub(crate) fn make_copy(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let created = options.write(true).create_new(true).mode(MODE).open(path);
    created.map(drop)
}

pub(crate) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Changes that are not in the file itself yet lie beside it.
pub(crate) fn has_log(path: &Path) -> bool {
    let log = with_end(path, "-wal").metadata();
    log.is_ok_and(|log| log.len() > 0)
}

pub(crate) fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

/// Nothing can be made beside the file. What is tried leaves nothing.
pub(crate) fn is_unchangeable(path: &Path) -> bool {
    let trial = with_end(path, &format!(".trial-{}", std::process::id()));
    let created = make_copy(&trial);
    if created.is_ok() {
        let _ = fs::remove_file(&trial);
    }
    created.is_err_and(|error| is_unwritable(&error))
}

pub(crate) async fn vacuum_into(
    copy: &Path,
    place: &str,
    connection: &mut AnyConnection,
) -> Result<(), RegistryError> {
    let text = copy.to_str();
    let text = text.ok_or_else(|| Refused::Path(copy.to_owned()))?;
    let query = sqlx::query("VACUUM INTO $1").bind(text.to_owned());
    let done = query.execute(connection).await;
    done.map(drop).map_err(|error| Fault::Sql(error).at(place))
}

/// Removes the copies of dry runs whose process has ended before it could.
fn remove_old_copies(path: &Path) {
    let begin = with_end(path, ".dry-run-");
    let begin = begin.file_name().and_then(|name| name.to_str());
    let (Some(begin), Some(directory)) = (begin, path.parent()) else {
        return;
    };
    for entry in directory.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(begin));
        let process = process.and_then(|rest| rest.split('-').next()?.parse().ok());
        let has_ended = process
            .and_then(Pid::from_raw)
            .is_some_and(|process| matches!(test_kill_process(process), Err(Errno::SRCH)));
        if has_ended {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Opens a copy of the file at `path`, which is open already. It has no name any more.
pub(crate) async fn copy_for_dry_run(
    path: &Path,
    place: &str,
    connection: &mut AnyConnection,
) -> Result<AnyConnection, RegistryError> {
    let whole = std::path::absolute(path).map_err(file_error(path))?;
    let copy = with_end(&whole, &format!(".dry-run-{}", std::process::id()));
    remove_old_copies(&whole);
    let _ = fs::remove_file(&copy);
    make_copy(&copy).map_err(file_error(path))?;
    let opened = async {
        vacuum_into(&copy, place, connection).await?;
        let opened = AnyConnection::connect(&sqlite_url(&copy)?).await;
        let failed = |error| Fault::Sql(error).at(place);
        let mut opened = opened.map_err(failed)?;
        // No other file, and nothing that a crash must not lose.
        for pragma in ["PRAGMA journal_mode = MEMORY", "PRAGMA synchronous = OFF"] {
            let done = sqlx::raw_sql(pragma).execute(&mut opened).await;
            done.map_err(failed)?;
        }
        Ok(opened)
    };
    let opened = opened.await;
    let _ = fs::remove_file(&copy);
    opened
}

/// Root makes it for the user that the node runs as.
fn give_to_owner_of_directory(file: &File, path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).metadata()?;
    match parent.uid() == file.metadata()?.uid() {
        true => Ok(()),
        false => fchown(file, Some(parent.uid()), Some(parent.gid())),
    }
}

/// An absolute path as SQLite's driver takes it.
pub(crate) fn sqlite_url(path: &Path) -> Result<String, RegistryError> {
    let text = path.to_str();
    let text = text.ok_or_else(|| Refused::Path(path.to_owned()))?;
    let mut url = "sqlite://".to_owned();
    for byte in text.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                url.push(char::from(byte));
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    Ok(url)
}
