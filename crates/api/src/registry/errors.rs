//! Errors of use cases as problems.

use martlet_control::callers::LackingScopes;
use martlet_control::devices::DeviceError;
use martlet_control::shared_registry::SharedRegistryError;
use martlet_control::use_cases::{SelectorKind, UseCaseError};
use martlet_registry::RegistryError;

use crate::problem::{Problem, ProblemKind};

impl From<UseCaseError> for Problem {
    fn from(error: UseCaseError) -> Self {
        let text = error.to_string();
        match error {
            UseCaseError::LackingScopes(error) => error.into(),
            UseCaseError::OtherTeam(own) => Self::sees_alone(&own),
            UseCaseError::Unknown(SelectorKind::Team, why) => Self::of_query_error("team", &why),
            UseCaseError::Unknown(SelectorKind::DeviceType, why) => {
                Self::of_query_error("type", &why)
            }
            UseCaseError::Unknown(SelectorKind::Group, why) => Self::of_query_error("group", &why),
            UseCaseError::UnknownScope { index, .. } => {
                let problem = Self::new(ProblemKind::Invalid, text.clone());
                problem.of_field(format!("/scopes/{index}"), text)
            }
            UseCaseError::Password(why) => {
                Self::new(ProblemKind::Invalid, why.clone()).of_field("/password", why)
            }
            UseCaseError::SharedRegistry(error) => error.into(),
            UseCaseError::Control(error) => error.into(),
        }
    }
}

impl From<LackingScopes> for Problem {
    fn from(error: LackingScopes) -> Self {
        Self::new(ProblemKind::Forbidden, error.to_string())
    }
}

impl From<DeviceError> for Problem {
    fn from(error: DeviceError) -> Self {
        let kind = match &error {
            DeviceError::Refused(_) => ProblemKind::Invalid,
            DeviceError::NotFound(_) => ProblemKind::NotFound,
            DeviceError::Exists(_) | DeviceError::NameTaken(_) | DeviceError::Conflict(_) => {
                ProblemKind::Conflict
            }
            DeviceError::Stale(_) => ProblemKind::PreconditionFailed,
            DeviceError::Unavailable(_) => ProblemKind::Unavailable,
        };
        Self::of_error(kind, &error)
    }
}

impl From<SharedRegistryError> for Problem {
    fn from(error: SharedRegistryError) -> Self {
        let kind = match &error {
            SharedRegistryError::Registry(RegistryError::Refused(_)) => ProblemKind::Invalid,
            SharedRegistryError::Registry(RegistryError::NotFound(_)) => ProblemKind::NotFound,
            SharedRegistryError::Registry(
                RegistryError::Exists(_) | RegistryError::NameTaken(_) | RegistryError::Conflict(_),
            ) => ProblemKind::Conflict,
            SharedRegistryError::Registry(RegistryError::Stale { .. }) => {
                ProblemKind::PreconditionFailed
            }
            _ => ProblemKind::Unavailable,
        };
        match &error {
            SharedRegistryError::Registry(refused) if !error.is_fault() => {
                Self::of_error(kind, refused)
            }
            error => Self::new(kind, error.caller_text()),
        }
    }
}
