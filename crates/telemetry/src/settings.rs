//! Limits of the storage.

use std::time::Duration;

use martlet_permission::Share;

/// Limits of the storage.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time that a write waits for others to be committed with it, at most 250 ms.
    pub gather: Duration,
    /// Maximum bytes of points that wait to be committed. Above it, [`crate::Storage::write`]
    /// waits.
    pub waiting_bytes_max: usize,
    /// Bytes of values in the journal and in memory at which they are packed into blocks. Up to
    /// twice as many are in memory during packing. SQLite only.
    pub memory_bytes_max: usize,
    /// Maximum bytes of the SQLite file; `None`: no limit.
    pub file_bytes_max: Option<u64>,
    /// Maximum number of keys of a device.
    pub keys_per_device_max: usize,
    /// Maximum number of pairs of device and key.
    pub series_max: u64,
    /// How many of these, and of the bytes of telemetry, one tenant may have. Tenant 0 may have
    /// all.
    pub tenant_share: Share,
    /// Maximum bytes of a text or of JSON.
    pub text_bytes_max: usize,
    /// Maximum number of concurrent read connections.
    pub readers_max: u32,
    /// Time without a connection after which a database counts as unreachable.
    pub connect_max: Duration,
    /// Time without an answer to a transaction or query after which a database counts as
    /// unreachable and the connection is dropped. PostgreSQL only.
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
            tenant_share: Share::default(),
            text_bytes_max: 64 << 10,
            readers_max: 4,
            connect_max: Duration::from_secs(10),
            answer_max: Duration::from_secs(30),
        }
    }
}

/// Maximum time that a write waits for others.
pub(crate) const GATHER_MAX: Duration = Duration::from_millis(250);
