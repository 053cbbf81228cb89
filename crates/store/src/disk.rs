//! What the engine asks of a disk: ten calls on one flat directory, no more, so that a simulator
//! can stand in ([`SimDisk`](crate::SimDisk)) and fail at each of them.
//!
//! It knows nothing of what the files mean. Every promise about what survives a loss of power is
//! made here: contents by [`Disk::sync`], names by [`Disk::sync_dir`].

use std::io;

/// A directory of files. Calls take `&self`, so that readers can share a disk with the writer.
pub trait Disk {
    /// An open file; stays good when the file is renamed or removed. Cheap to clone.
    type File: Clone;

    /// A new file of `len` bytes, all zero, the space for them taken; open for reading and writing.
    /// A file of that name is replaced.
    fn create(&self, name: &str, len: u64) -> io::Result<Self::File>;

    /// Opens a file that is there, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Writes all of `bytes` at `offset`; the file grows where they go beyond its end. After an
    /// error any part of them may have been written.
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills `bytes` from `offset`; gives how many there were, less than asked for only at the end.
    fn read_at(&self, file: &Self::File, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// What was written to the file is on the disk when this has returned without an error. After
    /// an error it may never get there, whatever a later call says.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Gives a file another name; one that had it is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name; the file goes with the last handle.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// All names with the length of their files, in no order.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Names created, given and removed before are on the disk when this has returned.
    fn sync_dir(&self) -> io::Result<()>;
}
