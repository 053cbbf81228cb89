//! Limits of the storage.

use std::time::Duration;

/// Limits of the storage.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a write waits for others to be committed with it, at most 250 ms.
    pub gather: Duration,
    /// Bytes of points that are waiting to be committed. Above it, [`crate::Storage::write`] waits.
    pub waiting_bytes_max: usize,
    /// Bytes of values that are in the journal and in memory, before they are packed into blocks.
    /// Up to twice as many are in memory while they are packed. Only SQLite has this.
    pub memory_bytes_max: usize,
    /// Bytes that the file of SQLite may have; none: as many as the disk has.
    pub file_bytes_max: Option<u64>,
    /// Keys that a device may have.
    pub keys_per_device_max: usize,
    /// Pairs of device and key.
    pub series_max: u64,
    /// Bytes of a text or of JSON.
    pub text_bytes_max: usize,
    /// Connections that read at the same time.
    pub readers_max: u32,
    /// After this time without a connection a database counts as unreachable.
    pub connect_max: Duration,
    /// After this time without an answer to a transaction or query a database counts as
    /// unreachable, and the connection is given up. Only PostgreSQL has this.
    pub answer_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gather: Duration::from_millis(20),
            waiting_bytes_max: 16 << 20,
            memory_bytes_max: 32 << 20,
            file_bytes_max: None,
            keys_per_device_max: 1_000,
            series_max: 10_000_000,
            text_bytes_max: 64 << 10,
            readers_max: 4,
            connect_max: Duration::from_secs(10),
            answer_max: Duration::from_secs(30),
        }
    }
}

/// Longest time that a write waits for others.
pub(crate) const GATHER_MAX: Duration = Duration::from_millis(250);
