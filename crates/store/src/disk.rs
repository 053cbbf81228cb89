//! The interface of the engine to a disk: ten calls on one flat directory, so that a simulator can
//! replace it ([`SimDisk`](crate::SimDisk)) and fail at each call.
//!
//! It does not know what the files mean. All guarantees about what survives a power loss are
//! defined here: contents by [`Disk::sync`], names by [`Disk::sync_dir`].

use std::io;

/// A directory of files. Calls take `&self`, so that readers can share a disk with the writer.
pub trait Disk {
    /// An open file; stays valid when the file is renamed or removed. Cheap to clone.
    type File: Clone;

    /// Creates a file of `len` zero bytes, with its space allocated; open for reading and writing.
    /// Replaces an existing file of that name.
    fn create(&self, name: &str, len: u64) -> io::Result<Self::File>;

    /// Opens an existing file, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Writes all of `bytes` at `offset`; the file grows if they extend beyond its end. After an
    /// error any part of them may have been written.
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills `bytes` from `offset`; returns how many were read, less than requested only at the
    /// end.
    fn read_at(&self, file: &Self::File, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Makes everything written to the file durable, if it returns without an error. After an
    /// error it may never become durable, whatever a later call returns.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Renames a file; replaces an existing file of the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name; the file is deleted when its last handle is closed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// All names with the length of their files, in no particular order.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Makes all earlier creations, renames and removals of names durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Free space in bytes; `None`: it is not known.
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}
