//! The data directory: created for this user only, and locked by one process.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use martlet_store::make_directory;
use martlet_text_file::owned;
use rustix::fs::{FlockOperation, flock};

/// The lock file.
const LOCK: &str = "lock";

/// The lock, held as long as the node runs.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _file: File,
}

/// Number and interval of attempts to lock. A process that only checks the lock holds it for a
/// moment.
const ATTEMPTS: usize = 4;
const AGAIN_AFTER: Duration = Duration::from_millis(25);

/// A lock on a data directory, as seen by other processes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// When it was taken.
    since: SystemTime,
}

/// The lock that a process holds on the directory, if any.
pub(crate) fn claimed(directory: &Path) -> Option<Claim> {
    let file = File::open(directory.join(LOCK)).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => None,
        Err(_) => Some(Claim {
            since: file.metadata().and_then(|found| found.modified()).ok()?,
        }),
    }
}

/// Text that names the process that uses the directory; `None` if it is not in use.
pub(crate) fn in_use(directory: &Path) -> Option<String> {
    claimed(directory)?;
    let owner = File::open(directory.join(LOCK)).map(|mut file| owner(&mut file));
    let owner = owner.unwrap_or_default();
    let name = directory.display();
    Some(format!("the data directory {name} is in use{owner}"))
}

/// Checks whether a node could use the directory if it were not in use. Leaves no changes.
///
/// # Errors
/// The reason why it could not.
pub(crate) fn check(directory: &Path) -> anyhow::Result<()> {
    let name = directory.display();
    owned::check_directory(directory)?;
    // A relative path without a parent is in the working directory.
    let mut there = directory
        .ancestors()
        .map(|path| match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        });
    let Some(there) = there.find(|path| path.symlink_metadata().is_ok()) else {
        return Ok(());
    };
    if let Some(why) = unusable(there) {
        match there == directory {
            true => bail!("the data directory {name} {why}"),
            false => bail!(
                "the data directory {name} cannot be made: {} {why}",
                there.display()
            ),
        }
    }
    let lock = directory.join(LOCK);
    match lock.symlink_metadata() {
        Ok(_) => check_file(&lock),
        Err(_) => Ok(()),
    }
}

/// Checks whether a node could use the store in this directory, as far as its files can be opened.
/// Reads no file.
///
/// # Errors
/// The reason why it could not.
pub(crate) fn check_store(directory: &Path) -> anyhow::Result<()> {
    if directory.symlink_metadata().is_err() {
        return Ok(());
    }
    let name = directory.display();
    if let Some(why) = unusable(directory) {
        bail!("the store {name} {why}");
    }
    for entry in directory
        .read_dir()
        .with_context(|| format!("cannot read {name}"))?
    {
        let path = entry.with_context(|| format!("cannot read {name}"))?.path();
        if path.is_file() {
            check_file(&path)?;
        }
    }
    Ok(())
}

fn check_file(path: &Path) -> anyhow::Result<()> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened
        .map(drop)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// Why nothing can be created in an existing place.
fn unusable(place: &Path) -> Option<String> {
    match place.metadata() {
        Ok(found) if !found.is_dir() => return Some("is not a directory".to_owned()),
        Ok(_) => {}
        Err(error) => return Some(format!("cannot be used: {error}")),
    }
    // Modes are not sufficient: /proc looks writable.
    let trial = place.join(format!(".martlet-check-{}", std::process::id()));
    let made = DirBuilder::new().mode(0o700).create(&trial);
    let tried = made.and_then(|()| std::fs::remove_dir(&trial));
    tried
        .err()
        .map(|error| format!("cannot be written to: {error}"))
}

/// Whether other users of the machine may open the directory or a file in it, according to the
/// modes. A node creates them with 0700 and 0600; other modes come from copies and archives.
pub(crate) fn is_open_to_others(directory: &Path) -> bool {
    let open = |path: &Path| {
        let found = path.symlink_metadata();
        found.is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
    };
    let mut files = directory.read_dir().into_iter().flatten().flatten();
    open(directory) || files.any(|file| open(&file.path()))
}

/// Why other users of the machine could replace files in the directory, and the command that fixes
/// it, without the path. `None` if they could not, according to owner and mode.
pub(crate) fn belongs_to_others(directory: &Path) -> Option<(String, String)> {
    let found = directory.metadata().ok()?;
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        let why = format!("belongs to another user ({}, this is {own})", found.uid());
        return Some((why, format!("chown -R {own}")));
    }
    let mode = found.permissions().mode() & 0o7777;
    (mode & 0o022 != 0).then(|| {
        let why = format!("can be written to by other users (mode {mode:04o})");
        (why, "chmod go-w".to_owned())
    })
}

/// The process that has locked the directory, as the end of a phrase. For information only.
fn owner(lock: &mut File) -> String {
    let mut owner = String::new();
    let _ = lock.read_to_string(&mut owner);
    match owner.trim() {
        "" => String::new(),
        pid => format!(" by process {pid}"),
    }
}

/// Changes the owner of a file created by root to the owner of the directory.
fn give_to_owner(file: &File, directory: &Path) -> std::io::Result<()> {
    let owner = directory.metadata()?;
    let is_root = rustix::process::geteuid().is_root();
    match is_root && file.metadata()?.uid() != owner.uid() {
        true => std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid())),
        false => Ok(()),
    }
}

/// If root has created the directory and its files, changes their owner to that of another
/// directory. Does not follow links.
///
/// # Errors
/// The directory cannot be read, or the system does not permit it.
pub(crate) fn give_files_to_owner_of(owner: &Path, directory: &Path) -> anyhow::Result<()> {
    let owner = owner.metadata()?;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let give = |path: &Path| -> std::io::Result<()> {
        match path.symlink_metadata()?.uid() == owner.uid() {
            true => Ok(()),
            false => std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid())),
        }
    };
    for entry in directory.read_dir()? {
        let path = entry?.path();
        if !path.is_dir() {
            give(&path).with_context(|| format!("cannot give {} away", path.display()))?;
        }
    }
    give(&directory.canonicalize()?)
        .with_context(|| format!("cannot give {} away", directory.display()))
}

/// Creates the directory if needed and locks it. A second process is refused.
pub(crate) fn claim(directory: &Path) -> anyhow::Result<DataDirLock> {
    owned::check_directory(directory)?;
    make_directory(directory)
        .with_context(|| format!("cannot make the data directory {}", directory.display()))?;
    let path = directory.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let mut attempts = (0..ATTEMPTS).map(|attempt| {
        if attempt > 0 {
            std::thread::sleep(AGAIN_AFTER);
        }
        flock(&file, FlockOperation::NonBlockingLockExclusive)
    });
    give_to_owner(&file, directory)
        .with_context(|| format!("cannot give {} away", path.display()))?;
    if !attempts.any(|attempt| attempt.is_ok()) {
        let owner = owner(&mut file);
        bail!(
            "the data directory {} is in use{owner}; stop that process or choose another --data-dir",
            directory.display()
        );
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(DataDirLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_named_before_a_node_meets_it_and_nothing_is_left() {
        let place = std::env::temp_dir().join(format!("martlet-trouble-{}", std::process::id()));
        let data = place.join("a/b");
        check(&data).expect("it can be made");
        assert!(!place.exists(), "nothing is made");
        let lock = claim(&data).expect("it can be made");
        let told = in_use(&data).expect("it is claimed");
        let pid = std::process::id();
        assert!(
            told.ends_with(&format!("is in use by process {pid}")),
            "{told}"
        );
        drop(lock);
        assert_eq!(in_use(&data), None);
        check(&data).expect("it can be claimed");
        let there = data.read_dir().expect("it is there").count();
        assert_eq!(there, 1, "only the lock is there");
        let below_a_file = data.join(LOCK).join("data");
        let told = check(&below_a_file).expect_err("it cannot be made");
        let told = told.to_string();
        assert!(told.ends_with("b/lock is not a directory"), "{told}");
        let told = check_store(&data.join(LOCK)).expect_err("it is not a store");
        assert!(told.to_string().ends_with("is not a directory"), "{told}");
        std::fs::remove_file(data.join(LOCK)).expect("it was made here");
        std::fs::create_dir(data.join(LOCK)).expect("it is free");
        let told = check(&data)
            .expect_err("the lock is not a file")
            .to_string();
        assert!(told.starts_with("cannot open "), "{told}");
        std::fs::remove_dir_all(&place).expect("it was made here");
    }
}
