//! Addresses as limits count them.

use std::net::{IpAddr, Ipv6Addr};

/// An address as limits count it: an IPv4 address as it is, of an IPv6 address its network of 64
/// bits, since the owner of one has at least all of its /64.
#[inline]
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
    }
}
