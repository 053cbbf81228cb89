//! Sums of what clients of one address hold together, so that an attacker with many connections is
//! no smaller than one with a few.
//!
//! An address may also be that of a gateway or a proxy with thousands of clients. So only that is
//! summed which a client holds beyond 4 KiB, without the buffers of TLS and WebSockets: clients
//! that are quiet make their address no larger, however many there are. And each client counts as
//! no more than a sixty-fourth of the sum: one client that holds much is found beside a gateway
//! whose clients hold a little more than usual. Where all clients have one address, all count
//! alike, and those come first that hold most by themselves.
//!
//! A user is not looked at in this way: whole fleets log in as one user.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::limits::counted_as;
use crate::memory_use::SMALL_BYTES;

/// Part of what all clients of an address hold that each of them counts as, as a divisor.
const PART: usize = 64;
/// Memory that an address takes in the table, about.
const SOURCE_BYTES: usize = 48;

/// Addresses of clients that hold more than little, each with what they hold together, bytes.
#[derive(Debug, Default)]
pub(super) struct Sources(BTreeMap<IpAddr, usize>);

impl Sources {
    /// A client from this address holds this number of bytes.
    pub(super) fn add(&mut self, address: IpAddr, bytes: usize) {
        let beyond = bytes.saturating_sub(SMALL_BYTES);
        if beyond > 0 {
            *self.0.entry(counted_as(address)).or_default() += beyond;
        }
    }

    /// Returns what a client counts as that comes from this address.
    pub(super) fn part_of(&self, address: IpAddr) -> usize {
        self.0.get(&counted_as(address)).map_or(0, |sum| sum / PART)
    }

    /// Bytes of memory that they take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.0.len() * SOURCE_BYTES
    }

    /// Forgets one of them; false if there is none.
    pub(super) fn forget_one(&mut self) -> bool {
        self.0.pop_first().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_hold_little_make_their_address_no_larger() {
        let (gateway, attacker) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut sources = Sources::default();
        for _ in 0..5000 {
            sources.add(gateway, SMALL_BYTES);
        }
        assert_eq!((sources.part_of(gateway), sources.memory_bytes()), (0, 0));
        for _ in 0..640 {
            sources.add(attacker, SMALL_BYTES + 100);
        }
        assert_eq!(sources.part_of(attacker), 1000);
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one() {
        let address = |network, host| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        let mut sources = Sources::default();
        for host in 0..64 {
            sources.add(address(1, host), SMALL_BYTES + 100);
        }
        assert_eq!(sources.part_of(address(1, 1000)), 100);
        assert_eq!(sources.part_of(address(2, 1)), 0);
    }
}
