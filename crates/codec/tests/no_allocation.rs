//! Decoding allocates nothing for any input: counted with the allocator.
#![allow(unsafe_code)] // A global allocator cannot be written without it; it only counts.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use martlet_codec::{Packet, decode_packet};

struct Counting;

thread_local! {
    /// Bytes allocated by this thread, so that other tests' threads do not count.
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: each call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.with(|allocated| allocated.set(allocated.get() + layout.size()));
        // SAFETY: the caller keeps `alloc`'s contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, and so from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocated_by(run: impl FnOnce()) -> usize {
    let before = ALLOCATED.get();
    run();
    ALLOCATED.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocated_by(|| drop(black_box(vec![0u8; 100]))), 100);
}

#[test]
fn decoding_the_packet_table_and_reading_every_list_allocates_nothing() {
    for case in support::table() {
        let allocated = allocated_by(|| {
            let decoded = decode_packet(&case.bytes, case.version);
            if let Ok(Some((packet, _))) = &decoded {
                read_lists(packet);
            }
            black_box(&decoded);
        });
        assert_eq!(allocated, 0, "{}", case.name);
    }
}

/// Iterates to the end of each list, so that all decoding is counted.
fn read_lists(packet: &Packet<'_>) {
    black_box(match packet {
        Packet::Subscribe(packet) => packet
            .filters()
            .filter(|filter| !filter.filter.is_empty())
            .count(),
        Packet::Unsubscribe(packet) => packet.filters().filter(|filter| !filter.is_empty()).count(),
        Packet::Publish(packet) => {
            packet
                .properties
                .user_properties
                .iter()
                .filter(|(key, _)| !key.is_empty())
                .count()
                + packet
                    .properties
                    .subscription_ids
                    .iter()
                    .filter(|id| *id > 0)
                    .count()
        }
        Packet::Connect(packet) => packet
            .properties
            .user_properties
            .iter()
            .filter(|(key, _)| !key.is_empty())
            .count(),
        _ => 0,
    });
}
