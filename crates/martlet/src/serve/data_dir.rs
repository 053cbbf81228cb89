//! The data directory: made for this user alone, and claimed by one process.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use rustix::fs::{Access, FlockOperation, access, flock};

/// The file in it that is locked.
const LOCK: &str = "lock";

/// Held as long as the node runs.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _file: File,
}

/// How often and when a claimed directory is looked at again: who only asks whether it is claimed
/// holds it for a moment.
const ATTEMPTS: usize = 4;
const AGAIN_AFTER: Duration = Duration::from_millis(25);

/// One claim of a data directory, as others see it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// When it was made.
    since: SystemTime,
}

/// The claim that a process has on the directory; none if nobody has.
pub(crate) fn claimed(directory: &Path) -> Option<Claim> {
    let file = File::open(directory.join(LOCK)).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => None,
        Err(_) => Some(Claim {
            since: file.metadata().and_then(|found| found.modified()).ok()?,
        }),
    }
}

/// Why a node could not use the directory now, as far as that can be seen without changing
/// anything.
pub(crate) fn trouble(directory: &Path) -> Option<String> {
    let name = directory.display();
    if claimed(directory).is_some() {
        let owner = File::open(directory.join(LOCK)).map(|mut file| owner(&mut file));
        let owner = owner.unwrap_or_default();
        return Some(format!("the data directory {name} is in use{owner}"));
    }
    // A relative path without a parent lies in the working directory.
    let mut there = directory
        .ancestors()
        .map(|path| match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        });
    let there = there.find(|path| path.symlink_metadata().is_ok())?;
    let why = match there.metadata() {
        Ok(found) if !found.is_dir() => "is no directory".to_owned(),
        Ok(_) => match access(there, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => return None,
            Err(error) => format!("cannot be written to: {error}"),
        },
        Err(error) => format!("cannot be used: {error}"),
    };
    Some(match there == directory {
        true => format!("the data directory {name} {why}"),
        false => format!(
            "the data directory {name} cannot be made: {} {why}",
            there.display()
        ),
    })
}

/// By which process the directory is claimed, as the end of a phrase. Who it is helps, but the
/// answer is the same without.
fn owner(lock: &mut File) -> String {
    let mut owner = String::new();
    let _ = lock.read_to_string(&mut owner);
    match owner.trim() {
        "" => String::new(),
        pid => format!(" by process {pid}"),
    }
}

/// Makes the directory if needed and claims it; a second process is refused.
pub(crate) fn claim(directory: &Path) -> anyhow::Result<DataDirLock> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
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
    fn trouble_is_named_before_a_node_meets_it_and_nothing_is_made() {
        let place = std::env::temp_dir().join(format!("martlet-trouble-{}", std::process::id()));
        let data = place.join("a/b");
        assert_eq!(trouble(&data), None);
        assert!(!place.exists(), "looking makes nothing");
        let lock = claim(&data).expect("it can be made");
        let told = trouble(&data).expect("it is claimed");
        let pid = std::process::id();
        assert!(
            told.ends_with(&format!("is in use by process {pid}")),
            "{told}"
        );
        drop(lock);
        assert_eq!(trouble(&data), None);
        let below_a_file = data.join(LOCK).join("data");
        let told = trouble(&below_a_file).expect("it cannot be made");
        assert!(told.ends_with("b/lock is no directory"), "{told}");
        std::fs::remove_dir_all(&place).expect("it was made here");
    }
}
