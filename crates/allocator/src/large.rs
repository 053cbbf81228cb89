//! Large blocks, each a separate mapping on Linux.
//!
//! Tables of sessions and buffers grow to hundreds of megabytes. mimalloc would copy such a block
//! to a larger one. That takes milliseconds, in which a shard serves no client, and needs the
//! memory of both. Here the kernel moves its pages (`mremap`).

use core::alloc::Layout;

/// Blocks of at least this number of bytes are mappings. Smaller ones are copied within a few
/// milliseconds. Some are allocated and freed for each message, and mimalloc keeps their pages.
const LARGE_BYTES: usize = 8 * 1024 * 1024;

/// The smallest page size on any target: mappings are aligned to it.
const PAGE_BYTES: usize = 4096;

/// Whether a block of this layout is a separate mapping.
#[inline]
pub(crate) fn is_large(size: usize, align: usize) -> bool {
    cfg!(target_os = "linux") && size >= LARGE_BYTES && align <= PAGE_BYTES
}

/// Whether a block of such a layout is a separate mapping.
#[inline]
pub(crate) fn is_large_layout(layout: Layout) -> bool {
    is_large(layout.size(), layout.align())
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{map, resize, unmap};

#[cfg(target_os = "linux")]
mod linux {
    use core::ptr::null_mut;

    use rustix::mm::{MapFlags, MremapFlags, ProtFlags, mmap_anonymous, mremap, munmap};

    /// Creates a mapping, all zero; null if there is no memory.
    #[cold]
    pub(crate) fn map(size: usize) -> *mut u8 {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
        let block = unsafe { mmap_anonymous(null_mut(), size, access, MapFlags::PRIVATE) };
        block.map_or(null_mut(), <*mut _>::cast)
    }

    /// Changes the size of a mapping of `size` bytes. Returns null if there is no memory; then the
    /// mapping is unchanged.
    ///
    /// # Safety
    /// `block` came from [`map`] or this function with `size`, and was not unmapped.
    #[cold]
    pub(crate) unsafe fn resize(block: *mut u8, size: usize, new_size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that it alone uses this mapping.
        let moved = unsafe { mremap(block.cast(), size, new_size, MremapFlags::MAYMOVE) };
        moved.map_or(null_mut(), <*mut _>::cast)
    }

    /// Removes a mapping of `size` bytes.
    ///
    /// # Safety
    /// The same as for [`resize`]; the block is no longer in use.
    #[cold]
    pub(crate) unsafe fn unmap(block: *mut u8, size: usize) {
        // SAFETY: the caller guarantees it. After a failure the mapping would remain, which is
        // harmless.
        let _ = unsafe { munmap(block.cast(), size) };
    }
}

/// On other systems no block is large.
#[cfg(not(target_os = "linux"))]
pub(crate) fn map(_: usize) -> *mut u8 {
    core::ptr::null_mut()
}

/// Like [`map`].
///
/// # Safety
/// None is needed.
#[cfg(not(target_os = "linux"))]
pub(crate) unsafe fn resize(_: *mut u8, _: usize, _: usize) -> *mut u8 {
    core::ptr::null_mut()
}

/// Like [`map`].
///
/// # Safety
/// None is needed.
#[cfg(not(target_os = "linux"))]
pub(crate) unsafe fn unmap(_: *mut u8, _: usize) {}
