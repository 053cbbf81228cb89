//! A directory of the operating system. Files have mode 0600, the directory 0700. A lock keeps a
//! second process from opening it.
//!
//! It deliberately does not retry a failed sync: that is the engine's decision.

use crate::disk::Disk;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the file that a process locks while it has the directory open.
const LOCK: &str = "LOCK";

/// A directory of the operating system, locked while this value or a clone of it exists.
#[derive(Clone, Debug)]
pub struct RealDisk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// The open directory, for syncing it.
    dir: File,
    /// The open lock file.
    _lock: File,
    /// Whether changes are refused.
    is_read_only: bool,
}

impl RealDisk {
    /// Creates the directory if it does not exist, and locks it. `WouldBlock`: another process has
    /// it open.
    pub fn open(path: &Path) -> io::Result<Self> {
        make_directory(path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let lock = options.open(path.join(LOCK))?;
        Self::locked(path, File::open(path)?, lock, false)
    }

    /// As [`RealDisk::open`], but only for reading: creates nothing, and works on a read-only file
    /// system. Changes fail.
    pub fn open_to_read(path: &Path) -> io::Result<Self> {
        let dir = File::open(path)?;
        // Without the file, no process has the store open.
        let lock = File::open(path.join(LOCK)).or_else(|_| dir.try_clone())?;
        Self::locked(path, dir, lock, true)
    }

    fn locked(path: &Path, dir: File, lock: File, is_read_only: bool) -> io::Result<Self> {
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let inner = Inner {
            path: path.to_owned(),
            dir,
            _lock: lock,
            is_read_only,
        };
        Ok(RealDisk {
            inner: Arc::new(inner),
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn file(&self, name: &str) -> PathBuf {
        self.inner.path.join(name)
    }

    fn may_change(&self) -> io::Result<()> {
        match self.inner.is_read_only {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }
}

impl Disk for RealDisk {
    type File = Arc<File>;

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<File>> {
        self.may_change()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.mode(0o600).open(self.file(name))?;
        forget_access_times(&file);
        if len > 0
            && let Err(error) = allocate(&file, len)
        {
            // A partial file is useless, and on a full disk its space is needed.
            let _ = fs::remove_file(self.file(name));
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<File>> {
        let mut options = OpenOptions::new();
        let writes = !self.inner.is_read_only;
        let file = options.read(true).write(writes).open(self.file(name))?;
        forget_access_times(&file);
        Ok(Arc::new(file))
    }

    fn write_at(&self, file: &Arc<File>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn read_at(&self, file: &Arc<File>, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync(&self, file: &Arc<File>) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.may_change()?;
        fs::rename(self.file(from), self.file(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.may_change()?;
        fs::remove_file(self.file(name))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.inner.path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push((name, metadata.len()));
            }
        }
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.dir.sync_all()
    }

    fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::fstatvfs(&self.inner.dir).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Creates a directory and its missing parents, with access for this user only. Syncs their names:
/// a synced file is lost if the name of its directory is lost.
///
/// # Errors
/// One of them cannot be created or synced.
pub fn make_directory(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let is_missing = |path: &&Path| path.symlink_metadata().is_err();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)?;
    let parents = missing.into_iter().filter_map(Path::parent);
    parents
        .into_iter()
        .try_for_each(|parent| File::open(parent)?.sync_all())
}

/// Turns off access times (`O_NOATIME`): they are not used, and updating them costs a tenth of
/// reading a message. Without the permission to do so, they stay on.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn forget_access_times(file: &File) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let _ = fcntl_getfl(file).and_then(|flags| fcntl_setfl(file, flags | OFlags::NOATIME));
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn forget_access_times(_: &File) {}

/// Allocates the space, so that writing changes no metadata and cannot fail with a full disk.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn allocate(file: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        // Some file systems do not support this; then the file is sparse, and writing may fail
        // with a full disk.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(len),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn allocate(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_opening_is_refused_and_nobody_else_can_read() {
        let path = std::env::temp_dir().join(format!("martlet-store-lock-{}", std::process::id()));
        let disk = RealDisk::open(&path).unwrap();
        let error = RealDisk::open(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        disk.create("a", 4096).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("a")), 0o600);
        assert!(disk.list().unwrap().contains(&("a".to_owned(), 4096)));
        drop(disk);
        RealDisk::open(&path).unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}
