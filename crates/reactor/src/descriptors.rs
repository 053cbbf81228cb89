//! How many connections the descriptors of the process allow.
//!
//! A part of the descriptors is kept from clients' connections, for the store, the tables, HTTP
//! and `admin.sock`. Connections beyond what the rest allows are not accepted: who connects waits
//! in the system's queue. So it is, too, while others have taken most of the reserve.

use crate::sys;

/// Bounds of the reserve.
const RESERVE_MIN: u64 = 26;
const RESERVE_MAX: u64 = 1024;

/// Part of the reserve that has to be free for a connection to be accepted.
const FREE_PART: u64 = 4;

/// Descriptors assumed open where the system does not tell.
const OPEN_ASSUMED: u64 = 32;

/// The descriptors of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// How many the process may have open; none where there is no limit.
    pub limit: Option<u64>,
    /// How many of them are kept from clients' connections, beside those that are open already.
    pub reserved: u64,
    /// Connections that the rest allows.
    pub connections: u64,
}

impl Descriptors {
    /// Raises the soft limit to the hard one, and counts what is open now.
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
            // A node that accepts no client would be of no use.
            connections: files.saturating_sub(reserved + open).max(1),
        }
    }

    /// Whether most of the reserve is taken, where the system has given out this descriptor: it is
    /// the lowest that was free.
    pub(crate) fn are_few_after(&self, descriptor: u64) -> bool {
        self.limit
            .is_some_and(|limit| descriptor + 1 >= limit - self.reserved / FREE_PART)
    }

    /// The same by what the system would give out next.
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
