//! Why something is not done.

use martlet_registry::{NotFound, RegistryError, Remedies, Remedy};

use crate::ControlError;
use crate::callers::LackingScopes;
use crate::shared_registry::{SharedRegistryError, WorkError};

/// An object that a caller names to select others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectorKind {
    /// A team.
    Team,
    /// A type of devices.
    DeviceType,
    /// A group of devices.
    Group,
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum UseCaseError {
    /// The caller lacks rights for it.
    #[error(transparent)]
    LackingScopes(#[from] LackingScopes),
    /// A caller that sees one team only has named another team. This is the id of its own.
    #[error("the caller sees only the team {0}")]
    OtherTeam(String),
    /// The object that selects others does not exist; the reason.
    #[error("{1}")]
    Unknown(SelectorKind, NotFound),
    /// A name is neither a scope nor a role.
    #[error("{name:?} is neither a scope nor a role")]
    UnknownScope {
        /// Place of the name among the scopes.
        index: usize,
        /// The name.
        name: String,
    },
    /// A password is not strong enough or too long; why.
    #[error("{0}")]
    Password(String),
    /// The registry refuses it, or cannot be used.
    #[error(transparent)]
    SharedRegistry(#[from] SharedRegistryError),
    /// The node does not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl From<RegistryError> for UseCaseError {
    fn from(error: RegistryError) -> Self {
        Self::SharedRegistry(error.into())
    }
}

impl UseCaseError {
    /// The error of looking up an object that selects others.
    pub(crate) fn of_look_up(named: SelectorKind, error: RegistryError) -> Self {
        match error {
            RegistryError::NotFound(why) => Self::Unknown(named, why),
            error => error.into(),
        }
    }

    /// Whether the registry has no such object.
    pub fn is_not_found(&self) -> bool {
        let error = self.of_registry();
        matches!(error, Some(RegistryError::NotFound(_)))
    }

    /// Whether the registry refuses it as it is asked for, or has such an object already.
    pub fn is_refused(&self) -> bool {
        let error = self.of_registry();
        matches!(
            error,
            Some(RegistryError::Refused(_) | RegistryError::Exists(_))
        )
    }

    /// Whether another object has the name.
    pub fn is_name_taken(&self) -> bool {
        let error = self.of_registry();
        matches!(error, Some(RegistryError::NameTaken(_)))
    }

    /// Whether the database is at fault, not what was asked for.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::SharedRegistry(error) => error.is_fault(),
            Self::Control(_) => true,
            Self::LackingScopes(_)
            | Self::OtherTeam(_)
            | Self::Unknown(..)
            | Self::UnknownScope { .. }
            | Self::Password(_) => false,
        }
    }
}

impl Remedies for UseCaseError {
    fn remedies(&self) -> Vec<Remedy> {
        match self {
            Self::Unknown(_, why) => why.remedies(),
            error => error
                .of_registry()
                .map_or_else(Vec::new, Remedies::remedies),
        }
    }
}

impl WorkError for UseCaseError {
    fn of_registry(&self) -> Option<&RegistryError> {
        match self {
            Self::SharedRegistry(error) => error.of_registry(),
            _ => None,
        }
    }
}
