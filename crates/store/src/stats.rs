//! Numbers for operators.

use crate::disk::Disk;
use crate::engine::{Engine, SPARE};
use crate::error::StoreError;
use crate::record::Lsn;

/// Counts and sizes of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segments.
    pub segments: usize,
    /// Bytes on the disk: segments, the spare file, the ballast, the checkpoint.
    pub disk_bytes: u64,
    /// Approximate bytes of live bodies and states.
    pub live_bytes: u64,
    /// Approximate bytes in segments that are no longer needed.
    pub dead_bytes: u64,
    /// Bodies.
    pub bodies: usize,
    /// Queue entries.
    pub entries: usize,
    /// Queues that are not empty.
    pub queues: usize,
    /// States.
    pub states: usize,
    /// Bytes written since the last checkpoint, which an opening would replay.
    pub tail_bytes: u64,
    /// The last checkpoint is the image after this record; 0: there is none.
    pub checkpoint_lsn: Lsn,
    /// Bytes of one of its copies.
    pub checkpoint_bytes: u64,
    /// Bytes that wait to be written or, after an error, to be written again.
    pub staged_bytes: usize,
    /// Bytes of the index in memory.
    pub index_bytes: usize,
    /// The disk gave no file for the next segment: accept no more bodies, so that records that end
    /// others can still be written. [`Engine::why_low`] gives the reason.
    pub is_low: bool,
    /// [`Engine::shared_bytes`].
    pub shared_bytes: Option<u64>,
    /// [`Engine::tenants`].
    pub tenants: Vec<(u32, u64)>,
}

impl<D: Disk> Engine<D> {
    /// [`Stats::is_low`] alone, at no cost.
    pub fn is_low(&self) -> bool {
        self.is_low
    }

    /// Tries again to create the file of the next segment and returns the error: the disk is full,
    /// or another fault. `None`: there is room again.
    pub fn why_low(&self) -> Option<StoreError> {
        let made = self.disk.create(SPARE, self.next_segment_bytes());
        made.err()
            .map(|error| StoreError::new("creating", SPARE, error))
    }

    /// Tenants with bodies, in order, and the approximate bytes of these. Bodies without a tenant
    /// are in [`Engine::live_bytes`] alone.
    pub fn tenants(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.index.live.tenants()
    }

    /// [`Stats::live_bytes`] alone, at no cost.
    pub fn live_bytes(&self) -> u64 {
        self.index.live.total()
    }

    /// Live bytes for which the disk has room: half of what the store takes and what is free, since
    /// the store may take twice what lives; without the ballast and the file of the next segment.
    /// `None`: the disk does not say what is free.
    pub fn shared_bytes(&self) -> Option<u64> {
        let free = self.disk.free_bytes()?;
        let kept = self.options.ballast_bytes() + self.next_segment_bytes();
        let room = free.saturating_add(self.disk_bytes());
        Some(room.saturating_sub(kept) / 2)
    }

    /// Approximate number of bytes of the index in memory, at no cost.
    pub fn index_bytes(&self) -> usize {
        let index = &self.index;
        index.bodies.bytes_about() + index.queues.bytes_about() + index.states.bytes_about()
    }

    /// The current numbers. Walks over the queues: do not call it for every message.
    pub fn stats(&self) -> Stats {
        let segments = self.segments.iter();
        let used: u64 = segments.map(|(_, segment)| segment.end).sum();
        let checkpoint_bytes = self.checkpoint.map_or(0, |last| last.bytes);
        let live_bytes = self.index.live.total();
        Stats {
            segments: self.segments.count(),
            disk_bytes: self.disk_bytes(),
            live_bytes,
            dead_bytes: used.saturating_sub(live_bytes),
            bodies: self.index.bodies.count(),
            entries: self.index.queues.entries_count(),
            queues: self.index.queues.count(),
            states: self.index.states.count(),
            tail_bytes: self.tail_bytes,
            checkpoint_lsn: self.checkpoint.map_or(0, |last| last.lsn),
            checkpoint_bytes,
            staged_bytes: self.staged_bytes(),
            index_bytes: self.index.bodies.bytes()
                + self.index.queues.bytes()
                + self.index.states.bytes_about(),
            is_low: self.is_low,
            shared_bytes: self.shared_bytes(),
            tenants: self.tenants().collect(),
        }
    }

    /// Bytes on the disk: segments, the spare file, the ballast, the checkpoint.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let ballast = u64::from(self.has_ballast) * self.options.ballast_bytes();
        let last = self.checkpoint.map_or(0, |last| last.bytes);
        self.segments.bytes() + self.spare_bytes + ballast + 2 * last
    }
}
