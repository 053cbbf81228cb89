//! How an authority's files are written: one command after the other, and each file as a whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::AuthorityError;

/// Nobody is told of a wait that is shorter.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two tries, for so long.
const PAUSE: Duration = Duration::from_millis(20);

/// Whoever holds it is the only one that changes a directory. It ends with its process, too.
///
/// It is on the directory itself: nothing is left behind, and an authority that is being made has
/// no other file yet.
#[derive(Debug)]
pub(super) struct Lock {
    _held: File,
}

impl Lock {
    /// Waits for whoever has it; `waits` is told after a second.
    pub(super) fn take(directory: &Path, waits: fn(&Path)) -> Result<Self, AuthorityError> {
        let failed = file_error(directory);
        let file = File::open(directory).map_err(&failed)?;
        let patience_ends = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _held: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < patience_ends => {
                    thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        waits(directory);
        file.lock().map_err(&failed)?;
        Ok(Self { _held: file })
    }
}

/// A file that is not there yet, whole from the beginning.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let temporary = Temporary::write(path, bytes, mode)?;
    fs::hard_link(&temporary.0, path).map_err(file_error(path))?;
    drop(temporary);
    sync_directory(path)
}

/// A file that may be there, as a whole.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let temporary = Temporary::write(path, bytes, mode)?;
    fs::rename(&temporary.0, path).map_err(file_error(path))?;
    sync_directory(path)
}

/// What the system says of a file.
pub(super) fn file_error(path: &Path) -> impl Fn(io::Error) -> AuthorityError + use<> {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::AlreadyExists => AuthorityError::Exists(path.clone()),
        _ => AuthorityError::File {
            path: path.clone(),
            error,
        },
    }
}

/// Beside the file that it will be, under a name that nobody else has; gone with this, unless it
/// was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<Self, AuthorityError> {
        let mut own = [0; 8];
        aws_lc_rs::rand::fill(&mut own)
            .map_err(|_| AuthorityError::Unusable("no source of randomness".to_owned()))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{:016x}.new", u64::from_ne_bytes(own)));
        let path = path.with_file_name(name);
        let failed = file_error(&path);
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(mode).open(&path);
        let mut file = opened.map_err(&failed)?;
        let temporary = Self(path);
        file.write_all(bytes).map_err(&failed)?;
        file.sync_all().map_err(&failed)?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn sync_directory(path: &Path) -> Result<(), AuthorityError> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let opened = File::open(directory).and_then(|directory| directory.sync_all());
    opened.map_err(file_error(directory))
}
