//! How many connections the file descriptors of the process allow.
//!
//! A reserve of descriptors is kept for the store, the tables, HTTP and `admin.sock`. Connections
//! beyond the rest are not accepted and wait in the system's queue. The same applies while other
//! parts of the process have taken most of the reserve.

use crate::sys;

/// Smallest and largest reserve.
const RESERVE_MIN: u64 = 26;
const RESERVE_MAX: u64 = 1024;

/// Part of the reserve, as a divisor, that must be free for a connection to be accepted.
const FREE_PART: u64 = 4;

/// Open descriptors assumed on systems that do not report the number.
const OPEN_ASSUMED: u64 = 32;

/// The descriptors of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Limit of open descriptors; `None` if there is no limit.
    pub limit: Option<u64>,
    /// Size of the reserve, in addition to the descriptors that are open at the start.
    pub reserved: u64,
    /// Number of connections that the rest allows.
    pub connections: u64,
}

impl Descriptors {
    /// Raises the soft limit to the hard limit, and counts the open descriptors.
    pub(crate) fn of_process() -> Self {
        let open = sys::open_descriptors().unwrap_or(OPEN_ASSUMED);
        Self::new(sys::raise_open_files_limit(), open)
    }

    fn new(limit: Option<u64>, open: u64) -> Self {
        let Some(files) = limit else {
            return Self {
                limit,
                reserved: 0,
                connections: u64::MAX,
            };
        };
        let reserved = (files / 4).clamp(RESERVE_MIN, RESERVE_MAX).min(files / 2);
        Self {
            limit,
            reserved,
            // At least one, since a node without clients would be useless.
            connections: files.saturating_sub(reserved + open).max(1),
        }
    }

    /// Whether most of the reserve is taken, given that the system has assigned this descriptor.
    /// The system assigns the lowest free number.
    pub(crate) fn are_few_after(&self, descriptor: u64) -> bool {
        self.limit
            .is_some_and(|limit| descriptor + 1 >= limit - self.reserved / FREE_PART)
    }

    /// Whether most of the reserve is taken, likewise, by the descriptor that the system would
    /// assign next.
    pub(crate) fn are_few(&self) -> bool {
        self.limit.is_some() && sys::next_descriptor().is_none_or(|next| self.are_few_after(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_kept_from_connections() {
        let all = |limit, open| {
            let found = Descriptors::new(limit, open);
            (found.reserved, found.connections)
        };
        assert_eq!(all(None, 30), (0, u64::MAX));
        assert_eq!(all(Some(1_000_000), 30), (1024, 998_946));
        assert_eq!(all(Some(1024), 30), (256, 738));
        assert_eq!(all(Some(64), 24), (26, 14));
        assert_eq!(all(Some(30), 24), (15, 1));
    }

    #[test]
    fn the_number_of_a_descriptor_tells_how_many_are_left() {
        let few = Descriptors::new(Some(64), 24);
        assert!(!few.are_few_after(56));
        assert!(few.are_few_after(57), "6 are left");
        assert!(!Descriptors::new(None, 24).are_few_after(u64::MAX - 1));
    }
}
