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
    /// Another process listens there.
    #[error(
        "listener {listener:?}: address {address} is in use{owner}; stop that process or choose another port"
    )]
    AddressInUse {
        /// The listener's name.
        listener: String,
        /// The address.
        address: ListenAddress,
        /// The process that has it, as far as the system tells, as " by name (pid 123)".
        owner: String,
    },
    /// A listener's socket could not be opened.
    #[error("listener {listener:?}: cannot listen on {address}")]
    Bind {
        /// The listener's name.
        listener: String,
        /// The address.
        address: ListenAddress,
        /// What the system said.
        source: io::Error,
    },
    /// What was stored before does not come back.
    #[error("the store cannot be restored")]
    Restore(#[from] RestoreError),
    /// The system lacks something that every reactor needs.
    #[error("cannot start a reactor")]
    System(#[from] io::Error),
}
