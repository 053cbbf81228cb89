//! Why a node did not start.

use std::io;

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
    #[error("listener {listener:?}: cannot listen on {address}")]
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
