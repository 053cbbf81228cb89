//! A disk on which a store takes at most a given number of bytes: beyond that, the disk is full
//! for new files.
//!
//! Small files are always allowed. With them a store whose limit is reached, or was lowered below
//! its size, can still record what ends messages, and so frees space.

use std::io;

use crate::disk::Disk;

/// Longest file that is allowed beyond the limit.
const SMALL_BYTES: u64 = 4 << 20;

/// The error text when the limit is reached.
const LIMIT_REACHED: &str = "the message store has reached limits.store_bytes";

/// A disk over another one, with a limit.
#[derive(Clone, Debug)]
pub struct LimitedDisk<D: Disk> {
    disk: D,
    bytes_max: u64,
}

impl<D: Disk> LimitedDisk<D> {
    /// A disk over `disk`, of which at most `bytes_max` bytes are used; 0: no limit. Files that
    /// grow as they are written are not limited themselves, but are counted.
    pub fn new(disk: D, bytes_max: u64) -> Self {
        Self { disk, bytes_max }
    }

    fn used_beside(&self, name: &str) -> io::Result<u64> {
        let files = self.disk.list()?;
        let others = files.iter().filter(|(other, _)| other != name);
        Ok(others.map(|(_, len)| len).sum())
    }

    fn expect_room(&self, name: &str, len: u64) -> io::Result<()> {
        if self.bytes_max == 0 || len <= SMALL_BYTES {
            return Ok(());
        }
        match self.used_beside(name)? + len > self.bytes_max {
            true => Err(io::Error::new(io::ErrorKind::StorageFull, LIMIT_REACHED)),
            false => Ok(()),
        }
    }
}

impl<D: Disk> Disk for LimitedDisk<D> {
    type File = D::File;

    fn create(&self, name: &str, len: u64) -> io::Result<D::File> {
        self.expect_room(name, len)?;
        self.disk.create(name, len)
    }

    fn open(&self, name: &str) -> io::Result<D::File> {
        self.disk.open(name)
    }

    fn write_at(&self, file: &D::File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(file, offset, bytes)
    }

    fn read_at(&self, file: &D::File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(file, offset, bytes)
    }

    fn sync(&self, file: &D::File) -> io::Result<()> {
        self.disk.sync(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.disk.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn free_bytes(&self) -> Option<u64> {
        let free = self.disk.free_bytes();
        if self.bytes_max == 0 {
            return free;
        }
        let left = self.bytes_max.saturating_sub(self.used_beside("").ok()?);
        Some(free.map_or(left, |free| free.min(left)))
    }
}
