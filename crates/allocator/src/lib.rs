//! The memory allocator of the program: mimalloc. Connection buffers are allocated and freed at
//! message rate, in many sizes and from several threads.
//!
//! The `mimalloc` crate passes an alignment in each call. If mimalloc guarantees that alignment
//! anyway, this is expensive. mimalloc 3 then takes its slow path. Unless the size is a power of
//! two, it also adds the alignment to the requested size and rounds up to its next size class: 96
//! bytes for 80, 7,168 for 6,144. So this crate passes an alignment only if it is needed.
//!
//! Large blocks are separate mappings (`large.rs`), so that a large table grows without being
//! copied.
//!
//! A program can set when freed memory is returned to the system (`freed.rs`), and release the
//! memory of code that it no longer runs (`code.rs`).
//!
//! This is the only crate with `unsafe`: a global allocator cannot be written without it.

mod code;
mod freed;
mod large;

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

pub use code::release_code;
pub use freed::give_back_after;
use large::{is_large, is_large_layout};

/// Alignment of each block of at least this size (`MI_MAX_ALIGN_SIZE` in mimalloc's `types.h`, on
/// each target that we build for). A smaller block is aligned to its size, if that is a power of
/// two: mimalloc has a size class for each number of words up to this.
const USUAL_ALIGNMENT: usize = 16;

/// mimalloc as the global allocator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

/// Whether a block of this size has this alignment without requesting it.
#[inline]
fn is_aligned_anyway(align: usize, size: usize) -> bool {
    align <= USUAL_ALIGNMENT && align <= size
}

// SAFETY: in each call, the layout of a block determines whether it is a mapping or mimalloc's. A
// mapping has the requested size and the alignment of a page, and is zeroed. All other calls are
// passed on to mimalloc. mimalloc's functions fulfil the contract of `GlobalAlloc`: a block has at
// least the requested size and, see `is_aligned_anyway`, the alignment; it stays at its address
// until it is freed; a failure is a null pointer; none of them unwinds. Any block of mimalloc can
// be freed and reallocated by any of its functions, aligned or not.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        if is_large(size, align) {
            return large::map(size);
        }
        // SAFETY: these functions may be called with any size, and any power of two as alignment.
        let block = unsafe {
            match is_aligned_anyway(align, size) {
                true => mi_malloc(size),
                false => mi_malloc_aligned(size, align),
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        if is_large(size, align) {
            return large::map(size);
        }
        // SAFETY: as for `alloc`.
        let block = unsafe {
            match is_aligned_anyway(align, size) {
                true => mi_zalloc(size),
                false => mi_zalloc_aligned(size, align),
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller guarantees that the block came from one of these functions with this
        // layout and is in use.
        unsafe {
            match is_large_layout(layout) {
                true => large::unmap(block, layout.size()),
                false => mi_free(block.cast::<c_void>()),
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        match (is_large_layout(layout), is_large(size, align)) {
            (false, false) => {}
            // SAFETY: as for `dealloc`.
            (true, true) => return unsafe { large::resize(block, layout.size(), size) },
            // SAFETY: as for `dealloc`; the caller guarantees that `size` and the alignment are a
            // layout.
            _ => return unsafe { self.exchange(block, layout, size) },
        }
        // SAFETY: as for `dealloc` and `alloc`. A block that moves is aligned as a new one is.
        let block = unsafe {
            match is_aligned_anyway(align, size) {
                true => mi_realloc(block.cast(), size),
                false => mi_realloc_aligned(block.cast(), size, align),
            }
        };
        block.cast()
    }
}

impl Allocator {
    /// Copies a block to a new one of the other kind.
    ///
    /// # Safety
    /// As [`GlobalAlloc::realloc`].
    #[cold]
    unsafe fn exchange(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that `size` is not zero and is a layout with this
        // alignment, and that the block has the bytes of its layout. The two blocks are different
        // ones.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(block, new, size.min(layout.size()));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Allocator = Allocator;

    /// Allocates blocks of all sizes and alignments. Some are kept while others are freed.
    #[test]
    fn each_block_is_aligned_as_asked_for_and_keeps_its_bytes() {
        let mut kept: Vec<(*mut u8, Layout, u8)> = Vec::new();
        for size in (1..300).chain([1_000, 6_144, 45_056, 70_000, 700_000, 7_000_000, 9_000_000]) {
            for align in [1, 2, 4, 8, 16, 32, 64, 4_096] {
                for round in 0..8_u8 {
                    let layout = Layout::from_size_align(size, align).unwrap();
                    // SAFETY: the size is not zero; blocks are freed below with their own layouts,
                    // and are not used after that.
                    unsafe {
                        let block = match round % 2 {
                            0 => ALLOCATOR.alloc(layout),
                            _ => ALLOCATOR.alloc_zeroed(layout),
                        };
                        assert!(block.addr().is_multiple_of(align), "{size} {align}");
                        if round % 2 == 1 {
                            assert_eq!((*block, *block.add(size - 1)), (0, 0));
                        }
                        block.write_bytes(round, size);
                        let larger = size + usize::from(round) * size / 4;
                        let block = ALLOCATOR.realloc(block, layout, larger);
                        assert!(block.addr().is_multiple_of(align), "{size} {align}");
                        assert_eq!((*block, *block.add(size - 1)), (round, round));
                        let layout = Layout::from_size_align(larger, align).unwrap();
                        match round < 3 && size < 70_000 {
                            true => kept.push((block, layout, round)),
                            false => ALLOCATOR.dealloc(block, layout),
                        }
                    }
                }
            }
        }
        for (block, layout, round) in kept {
            // SAFETY: the block has not been freed yet.
            unsafe {
                assert_eq!(*block, round);
                ALLOCATOR.dealloc(block, layout);
            }
        }
    }

    /// Growing a table of a hundred megabytes does not copy it. Neither growing nor shrinking
    /// doubles its memory.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_large_block_grows_and_shrinks_without_a_copy() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
            pages * 4096
        };
        const SIZE: usize = 100 << 20;
        let layout = |size| Layout::from_size_align(size, 16).unwrap();
        // SAFETY: the sizes are not zero, and each call has the layout of the previous one.
        unsafe {
            let block = ALLOCATOR.alloc(layout(SIZE));
            block.write_bytes(7, SIZE);
            let before = resident();
            let block = ALLOCATOR.realloc(block, layout(SIZE), 2 * SIZE);
            assert!(resident() < before + SIZE / 10);
            assert_eq!(
                (*block, *block.add(SIZE - 1), *block.add(2 * SIZE - 1)),
                (7, 7, 0)
            );
            let block = ALLOCATOR.realloc(block, layout(2 * SIZE), 1_000);
            assert!(resident() < before - SIZE / 2);
            assert_eq!((*block, *block.add(999)), (7, 7));
            ALLOCATOR.dealloc(block, layout(1_000));
        }
    }
}
