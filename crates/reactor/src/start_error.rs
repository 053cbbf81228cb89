//! Why a node did not start.

use std::io;
use std::net::SocketAddr;

use martlet_broker::SHARDS_MAX;
use martlet_persistence::RestoreError;

use crate::config::ListenAddress;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The number of threads is not in 1 to 64.
    #[error("{0} threads; a node has 1 to {SHARDS_MAX}")]
    Threads(usize),
    /// Another process listens on the address.
    #[error(
        "listener {listener:?}: address {address} is in use{owner}; stop that process or choose another port"
    )]
    AddressInUse {
        /// The listener's name.
        listener: String,
        /// The address.
        address: ListenAddress,
        /// The process that listens, if the system reports it, as " by name (pid 123)".
        owner: String,
    },
    /// A listener's socket could not be opened.
    #[error(
        "listener {listener:?}: cannot listen on {address}{}",
        low_port(address.socket(), source.kind())
    )]
    Bind {
        /// The listener's name.
        listener: String,
        /// The address.
        address: ListenAddress,
        /// The error of the system.
        source: io::Error,
    },
    /// The stored state could not be restored.
    #[error("the store cannot be restored")]
    Restore(#[from] RestoreError),
    /// The system lacks a resource that every reactor needs.
    #[error("cannot start a reactor")]
    System(#[from] io::Error),
}

/// Returns what to do where the system refuses a port because of its number, as the end of a
/// sentence; empty: it does not.
#[must_use]
pub fn low_port(address: Option<SocketAddr>, error: io::ErrorKind) -> &'static str {
    let is_low = address.is_some_and(|address| address.port() < 1024);
    match is_low && error == io::ErrorKind::PermissionDenied {
        true => {
            "; a port below 1024 needs the capability CAP_NET_BIND_SERVICE (AmbientCapabilities= of \
             a systemd unit) or root: choose a higher port, or give the capability"
        }
        false => "",
    }
}
