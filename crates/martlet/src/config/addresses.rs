//! Addresses to listen on, and networks.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use martlet_reactor::ListenAddress;

/// Whether two listeners conflict: `[::]` is every address of the machine, `0.0.0.0` every IPv4
/// address.
pub(crate) fn overlap(one: &ListenAddress, other: &ListenAddress) -> bool {
    let (Some(one), Some(other)) = (one.socket(), other.socket()) else {
        return one == other;
    };
    let is_part = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    // For port 0 the system chooses a free one.
    one.port() == other.port()
        && one.port() != 0
        && (one == other || is_part(one, other) || is_part(other, one))
}

/// Parses a network, or an address as a network.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let found = text.parse::<IpNet>().ok();
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    found
        .or_else(address)
        .ok_or_else(|| format!("{text:?} is not a valid address or network such as 10.0.0.0/8"))
}
