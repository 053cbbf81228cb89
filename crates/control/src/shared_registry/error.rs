//! Why something is not done with the tables.

use std::time::Duration;

use martlet_registry::{Location, RegistryError};

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum SharedRegistryError {
    /// The tables refuse it, or cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The database has not answered in time.
    #[error("{0}: no answer in {secs} s", secs = .1.as_secs())]
    Late(Location, Duration),
    /// The change is written, but the node has not applied it yet.
    #[error("it is stored, but not applied yet: the node could not read it: {0}")]
    NotInForce(String),
    /// The change was broken off.
    #[error("the change was interrupted")]
    BrokenOff,
}

impl SharedRegistryError {
    /// The database is at fault, not what was asked for.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Registry(error) => is_fault(error),
            Self::Late(..) | Self::NotInForce(_) | Self::BrokenOff => true,
        }
    }

    /// Text for callers, without remedies: the message of the database is in the log.
    pub fn caller_text(&self) -> String {
        match self {
            Self::Registry(error) if is_fault(error) => CANNOT.to_owned(),
            Self::Late(..) => CANNOT.to_owned(),
            _ => self.to_string(),
        }
    }
}

/// Error text for a database that cannot be used.
const CANNOT: &str = "the tables of users and devices cannot be used now: martlet health and the node's log show \
     why";

pub(super) fn is_fault(error: &RegistryError) -> bool {
    !matches!(
        error,
        RegistryError::Refused(_)
            | RegistryError::NotFound(_)
            | RegistryError::Exists(_)
            | RegistryError::Stale { .. }
            | RegistryError::NameTaken(_)
            | RegistryError::Conflict(_)
    )
}
