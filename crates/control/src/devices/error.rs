//! Why something is not done with devices.

use martlet_broker::RefusalCause;
use martlet_registry::{Conflict, Exists, NotFound, Refused, RegistryError, Remedies, Remedy};

use crate::shared_registry::SharedRegistryError;

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There is no such device, or nothing of that name that belongs to it.
    #[error(transparent)]
    NotFound(NotFound),
    /// The object exists already.
    #[error(transparent)]
    Exists(Exists),
    /// Another device has this name.
    #[error("{0}")]
    NameTaken(RegistryError),
    /// There may be no more of them.
    #[error(transparent)]
    Conflict(Conflict),
    /// The object was changed meanwhile.
    #[error("{0}")]
    Stale(RegistryError),
    /// The request asks for what cannot be.
    #[error(transparent)]
    Refused(Refused),
    /// The tables cannot be used now, with a text for the caller.
    #[error("{0}")]
    Unavailable(String),
}

impl DeviceError {
    /// Why a device was not added by a provisioning key; none: the tables cannot be used now.
    pub fn refusal_cause(&self) -> Option<RefusalCause> {
        Some(match self {
            Self::NotFound(_) => RefusalCause::ProvisioningKey,
            Self::Conflict(Conflict::DevicesOfKey(_)) => RefusalCause::ProvisioningKeyUsedUp,
            Self::Refused(Refused::KeyExpired) => RefusalCause::ProvisioningKeyExpired,
            Self::Refused(Refused::KeyRevoked) => RefusalCause::ProvisioningKeyRevoked,
            Self::Exists(_)
            | Self::NameTaken(_)
            | Self::Conflict(_)
            | Self::Stale(_)
            | Self::Refused(_) => RefusalCause::NotRegistered,
            Self::Unavailable(_) => return None,
        })
    }
}

impl From<SharedRegistryError> for DeviceError {
    fn from(error: SharedRegistryError) -> Self {
        match error {
            SharedRegistryError::Registry(RegistryError::NotFound(why)) => Self::NotFound(why),
            SharedRegistryError::Registry(RegistryError::Exists(why)) => Self::Exists(why),
            SharedRegistryError::Registry(why @ RegistryError::NameTaken(_)) => {
                Self::NameTaken(why)
            }
            SharedRegistryError::Registry(RegistryError::Conflict(why)) => Self::Conflict(why),
            SharedRegistryError::Registry(why @ RegistryError::Stale { .. }) => Self::Stale(why),
            SharedRegistryError::Registry(RegistryError::Refused(why)) => Self::Refused(why),
            error => Self::Unavailable(error.caller_text()),
        }
    }
}

impl Remedies for DeviceError {
    fn remedies(&self) -> Vec<Remedy> {
        match self {
            Self::NotFound(why) => why.remedies(),
            Self::Exists(why) => why.remedies(),
            Self::Conflict(why) => why.remedies(),
            Self::Refused(why) => why.remedies(),
            Self::NameTaken(_) | Self::Stale(_) | Self::Unavailable(_) => Vec::new(),
        }
    }
}
