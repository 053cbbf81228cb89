//! Why something is not done with devices.

use martlet_registry::RegistryError;

use crate::tables::TablesError;

/// Why something is not done, with a text for the caller.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There is no such device, or nothing of that name that belongs to it.
    #[error("{0}")]
    NotFound(String),
    /// The object exists already.
    #[error("{0}")]
    Exists(String),
    /// Another device has this name.
    #[error("{0}")]
    NameTaken(String),
    /// There may be no more of them.
    #[error("{0}")]
    LimitReached(String),
    /// It was changed meanwhile.
    #[error("{0}")]
    Stale(String),
    /// What is asked for cannot be.
    #[error("{0}")]
    Refused(String),
    /// The tables cannot be used now.
    #[error("{0}")]
    Unavailable(String),
}

impl From<TablesError> for DeviceError {
    fn from(error: TablesError) -> Self {
        let text = error.told();
        match error {
            TablesError::Registry(RegistryError::NotFound(_)) => Self::NotFound(text),
            TablesError::Registry(RegistryError::Exists(_)) => Self::Exists(text),
            TablesError::Registry(RegistryError::NameTaken(_)) => Self::NameTaken(text),
            TablesError::Registry(RegistryError::LimitReached(_)) => Self::LimitReached(text),
            TablesError::Registry(RegistryError::Stale { .. }) => Self::Stale(text),
            TablesError::Registry(RegistryError::Refused(_)) => Self::Refused(text),
            _ => Self::Unavailable(text),
        }
    }
}
