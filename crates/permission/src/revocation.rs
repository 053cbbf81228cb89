//! That credentials are taken back.

use std::sync::Arc;

use crate::{CredentialMark, Realm, Voucher};

/// The clients whose credentials are taken back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevokedClients {
    /// A user's.
    User(Arc<str>),
    /// One of a user's: who came by another stays, and who came by one that is not known does not.
    Credential(Arc<str>, CredentialMark),
    /// Those of all for whom this vouched.
    Voucher(Voucher),
    /// Those of all whose name ends with `@` and the name of this team.
    Team(Arc<str>),
}

/// That credentials are taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Realm of these names: in another realm the name is another user's.
    pub realm: Realm,
    /// The clients that had them.
    pub whose: RevokedClients,
    /// Counted up with each revocation.
    pub number: u64,
    /// Reason, as the client is told.
    pub reason: RevocationReason,
}

/// Why credentials are taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationReason {
    /// They were replaced, or are no longer good.
    #[default]
    Credentials,
    /// The user is disabled.
    Disabled,
    /// The device is set inactive.
    Inactive,
    /// The device is in maintenance.
    Maintenance,
    /// The user or device is not known any more.
    Removed,
    /// An operator keeps it out.
    Banned,
}

impl RevocationReason {
    /// As clients and operators are told.
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
    /// The user; none: it is no one user's.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::User(name) | Self::Credential(name, _) => Some(name),
            Self::Voucher(_) | Self::Team(_) => None,
        }
    }
}
