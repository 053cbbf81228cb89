//! Revocation of credentials.

use std::sync::Arc;

use crate::{CredentialMark, Realm, Voucher};

/// The clients whose credentials are revoked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevokedClients {
    /// All clients of a user.
    User(Arc<str>),
    /// Clients of a user that used this credential. Clients that used an unknown one are included;
    /// clients that used another one are not.
    Credential(Arc<str>, CredentialMark),
    /// All clients that this voucher vouched for.
    Voucher(Voucher),
    /// All clients whose name ends with `@` and the name of this team.
    Team(Arc<str>),
}

/// A revocation of credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Realm of these names. In another realm, the same name belongs to another user.
    pub realm: Realm,
    /// The clients with these credentials.
    pub whose: RevokedClients,
    /// Incremented with each revocation.
    pub number: u64,
    /// Reason, as sent to the client.
    pub reason: RevocationReason,
}

/// Why credentials are revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationReason {
    /// They were replaced, or are no longer valid.
    #[default]
    Credentials,
    /// The user is disabled.
    Disabled,
    /// The device is set inactive.
    Inactive,
    /// The device is in maintenance.
    Maintenance,
    /// The user or device no longer exists.
    Removed,
    /// An operator has banned the client.
    Banned,
}

impl RevocationReason {
    /// The reason as text for clients and operators.
    pub fn words(self) -> &'static str {
        match self {
            Self::Credentials => "its credentials were revoked",
            Self::Disabled => "the user is disabled",
            Self::Inactive => "the device is inactive",
            Self::Maintenance => "the device is in maintenance",
            Self::Removed => "the user or device was removed",
            Self::Banned => "an operator has banned it",
        }
    }
}

impl RevokedClients {
    /// The user; `None` if the revocation concerns several users.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::User(name) | Self::Credential(name, _) => Some(name),
            Self::Voucher(_) | Self::Team(_) => None,
        }
    }
}
