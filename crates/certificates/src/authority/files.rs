//! The names of an authority's files, and how they are written: by one command at a time, and each
//! file as a whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::error::AuthorityError;

/// The authority's certificate.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// The authority's private key.
pub const CA_KEY: &str = "ca.key";
/// Issued certificates, including those that `renew` has replaced: see
/// [`IssuedCertificate`](super::IssuedCertificate).
pub const INDEX: &str = "issued.txt";
/// The revocation list.
pub const REVOKED: &str = "crl.pem";

/// The revocations as text, from which a new list is made. One line has the number of the last
/// list. Each further line has the serial number of a certificate and the time of its revocation in
/// seconds since the Unix epoch.
pub const REGISTER: &str = "revoked.txt";

pub(super) const KEY_MODE: u32 = 0o600;
pub(super) const CERTIFICATE_MODE: u32 = 0o644;

/// Time after which the user is notified of the wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// Interval of attempts to lock.
const PAUSE: Duration = Duration::from_millis(20);

/// Lock on a directory: only its holder may change the directory. It is released when its process
/// ends.
///
/// The directory itself is locked, so no lock file is left behind. A new authority has no other
/// file yet.
#[derive(Debug)]
pub(super) struct Lock {
    _held: File,
}

impl Lock {
    /// Waits for the lock; `waits` is called after a second. Then removes files that interrupted
    /// runs have left in the directory.
    pub(super) fn take(directory: &Path, waits: fn(&Path)) -> Result<Self, AuthorityError> {
        let failed = file_error(directory);
        let file = File::open(directory).map_err(&failed)?;
        let patience_ends = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    sweep(directory);
                    return Ok(Self { _held: file });
                }
                Err(TryLockError::WouldBlock) if Instant::now() < patience_ends => {
                    thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        waits(directory);
        file.lock().map_err(&failed)?;
        sweep(directory);
        Ok(Self { _held: file })
    }
}

/// Writes a new file, atomically.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let temporary = Temporary::write(path, bytes, mode)?;
    fs::hard_link(&temporary.path, path).map_err(file_error(path))?;
    drop(temporary);
    sync_directory(path)
}

/// Writes or replaces a file, atomically.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let temporary = Temporary::write(path, bytes, mode)?;
    temporary.become_file(path)
}

/// Writes or replaces a file, atomically, with the directory's owner as owner, even if root writes
/// it.
pub(super) fn replace_for_owner(
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<(), AuthorityError> {
    let temporary = Temporary::write(path, bytes, mode)?;
    let directory = directory_of(path);
    let failed = file_error(directory);
    let (owner, file) = fs::metadata(directory)
        .and_then(|owner| Ok((owner, temporary.file.metadata()?)))
        .map_err(&failed)?;
    if owner.uid() != file.uid() {
        // By its descriptor, because another file may have its name by now. Without permission, the
        // owner stays.
        let _ = fchown(&temporary.file, Some(owner.uid()), Some(owner.gid()));
    }
    temporary.become_file(path)
}

/// Converts an error of the system for this path.
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

/// A temporary file next to the final one, with a unique name. It is removed on drop, unless it was
/// renamed.
struct Temporary {
    path: PathBuf,
    file: File,
}

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
        let file = opened.map_err(&failed)?;
        let mut temporary = Self { path, file };
        temporary.file.write_all(bytes).map_err(&failed)?;
        temporary.file.sync_all().map_err(&failed)?;
        Ok(temporary)
    }

    fn become_file(self, path: &Path) -> Result<(), AuthorityError> {
        fs::rename(&self.path, path).map_err(file_error(path))?;
        sync_directory(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes leftover temporary files, which may contain a key. No process writes while the lock is
/// held, so they belong to no running process.
fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_temporary) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether the name is one of [`Temporary::write`].
fn is_temporary(name: &str) -> bool {
    let own = name
        .strip_suffix(".new")
        .and_then(|name| name.rsplit_once('.'));
    own.is_some_and(|(_, own)| own.len() == 16 && own.bytes().all(|one| one.is_ascii_hexdigit()))
}

fn directory_of(path: &Path) -> &Path {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

fn sync_directory(path: &Path) -> Result<(), AuthorityError> {
    let directory = directory_of(path);
    let opened = File::open(directory).and_then(|directory| directory.sync_all());
    opened.map_err(file_error(directory))
}
