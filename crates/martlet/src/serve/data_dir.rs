//! The data directory: made for this user alone, and claimed by one process.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};

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
        let mut owner = String::new();
        // Who it is helps, but the answer is the same without.
        let _ = file.read_to_string(&mut owner);
        let owner = match owner.trim() {
            "" => String::new(),
            pid => format!(" by process {pid}"),
        };
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
