//! Looks up rules by identity, so that a change of rules reaches every session, including sessions
//! of offline clients and of clients that logged in before the change.

use std::fmt;
use std::sync::Arc;

use crate::{Rules, TenantId};

/// The set of rules that an identity belongs to. Listeners with separate credentials have separate
/// users, so equal names there mean different users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Realm(pub u32);

impl Realm {
    /// The realm of the node.
    pub const COMMON: Self = Self(0);
    /// The realm of a tenant other than the default one. Its users and devices do not exist in
    /// other tenants.
    pub const fn of_tenant(tenant: TenantId) -> Self {
        match tenant.0 {
            0 => Self::COMMON,
            number => Self(number | TENANTS),
        }
    }

    /// The realm with this number, for example of a listener with separate credentials. It never is
    /// a tenant's realm.
    pub const fn numbered(number: u32) -> Self {
        Self(number & !TENANTS)
    }

    /// The tenant of the users in this realm.
    pub const fn tenant(self) -> TenantId {
        match self {
            Self::OWN_RULES | Self(..TENANTS) => TenantId(0),
            Self(number) => TenantId(number & !TENANTS),
        }
    }

    /// No realm: the rules came with the proof of the identity, and only a new proof changes them.
    pub const OWN_RULES: Self = Self(u32::MAX);

    /// The realm of the user names. Only proofs of the node's realm come with their own rules.
    pub fn of_names(self) -> Self {
        match self {
            Self::OWN_RULES => Self::COMMON,
            realm => realm,
        }
    }
}

/// Bit that is set in realms of tenants.
const TENANTS: u32 = 1 << 31;

/// The rules of every identity. Called on the shards, so it must not block.
pub trait RuleBook: fmt::Debug + Send + Sync {
    /// The rules of a user; `None` is an anonymous client. An unknown user may do nothing.
    fn rules_of(&self, realm: Realm, user_name: Option<&str>) -> Arc<Rules>;
}
