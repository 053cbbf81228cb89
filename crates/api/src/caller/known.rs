//! The caller, once it is known.

use axum::http::HeaderValue;
use martlet_control::callers::Account;
use martlet_control::principal::{Principal, PrincipalKind, Scopes};
use martlet_registry::Device;

use crate::session::open::LoginSession;

/// How a caller without credentials is asked for some.
pub(crate) const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"martlet\"");

/// The caller, and its session if it has one.
#[derive(Clone, Debug)]
pub(crate) struct IdentifiedCaller {
    pub(crate) principal: Principal,
    pub(crate) session: Option<LoginSession>,
    /// The device whose secret it has shown.
    pub(crate) device: Option<Box<Device>>,
}

impl IdentifiedCaller {
    pub(super) fn of(principal: Principal) -> Self {
        Self {
            principal,
            session: None,
            device: None,
        }
    }

    /// A caller that did not have to authenticate.
    pub(crate) fn anonymous(scopes: Scopes) -> Self {
        Self::of(Principal::anonymous(scopes))
    }
}

/// A user as a principal.
pub(crate) fn principal_of(account: &Account) -> Principal {
    Principal {
        kind: PrincipalKind::User {
            name: account.name.clone(),
        },
        scopes: account.scopes(),
        team: account.team.clone(),
        tenant: account.tenant,
    }
}
