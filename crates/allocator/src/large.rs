//! Large blocks, each a mapping of its own on Linux.
//!
//! Tables of sessions and buffers grow to hundreds of megabytes. mimalloc would copy such a block
//! to a larger one: that takes milliseconds, in which a shard serves nobody, and the memory of
//! both. Here the kernel moves its pages (`mremap`).

use core::alloc::Layout;

/// Blocks of at least this number of bytes are mappings. Smaller ones are copied within a few
/// milliseconds, and some come and go with each message: mimalloc keeps their pages.
const LARGE_BYTES: usize = 8 * 1024 * 1024;

/// The smallest size of a page on any target: mappings are aligned to it.
const PAGE_BYTES: usize = 4096;

/// Whether a block of this layout is a mapping of its own.
#[inline]
pub(crate) fn is_large(size: usize, align: usize) -> bool {
    cfg!(target_os = "linux") && size >= LARGE_BYTES && align <= PAGE_BYTES
}

/// The same for a layout.
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

    /// A new mapping, all zero; null if there is no memory.
    #[cold]
    pub(crate) fn map(size: usize) -> *mut u8 {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
        let block = unsafe { mmap_anonymous(null_mut(), size, access, MapFlags::PRIVATE) };
        block.map_or(null_mut(), <*mut _>::cast)
    }

    /// Gives a mapping of `size` bytes another size; null if there is no memory, and it stays.
    ///
    /// # Safety
    /// `block` came from [`map`] or this function with `size`, and was not unmapped.
    #[cold]
    pub(crate) unsafe fn resize(block: *mut u8, size: usize, new_size: usize) -> *mut u8 {
        // SAFETY: the caller says that this mapping is in use by it alone.
        let moved = unsafe { mremap(block.cast(), size, new_size, MremapFlags::MAYMOVE) };
        moved.map_or(null_mut(), <*mut _>::cast)
    }

    /// Ends a mapping of `size` bytes.
    ///
    /// # Safety
    /// As for [`resize`]; nothing uses it any more.
    #[cold]
    pub(crate) unsafe fn unmap(block: *mut u8, size: usize) {
        // SAFETY: as the caller says. A failure would leave the mapping, which harms nothing.
        let _ = unsafe { munmap(block.cast(), size) };
    }
}

/// Elsewhere no block is large.
#[cfg(not(target_os = "linux"))]
pub(crate) fn map(_: usize) -> *mut u8 {
    core::ptr::null_mut()
}

/// As [`map`].
///
/// # Safety
/// None is needed.
#[cfg(not(target_os = "linux"))]
pub(crate) unsafe fn resize(_: *mut u8, _: usize, _: usize) -> *mut u8 {
    core::ptr::null_mut()
}

/// As [`map`].
///
/// # Safety
/// None is needed.
#[cfg(not(target_os = "linux"))]
pub(crate) unsafe fn unmap(_: *mut u8, _: usize) {}
