//! Where rules are looked up by who a client is, so that a change of them reaches every session,
//! also of clients who are away or whose identity was decided before the change.

use std::fmt;
use std::sync::Arc;

use crate::{Rules, TenantId};

/// Which of a node's sets of rules an identity belongs to: names of users mean different people at
/// listeners with credentials of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Realm(pub u32);

impl Realm {
    /// The node's.
    pub const COMMON: Self = Self(0);
    /// The book of a tenant other than the common one: its users and devices are not known in
    /// others.
    pub const fn of_tenant(tenant: TenantId) -> Self {
        match tenant.0 {
            0 => Self::COMMON,
            number => Self(number | TENANTS),
        }
    }

    /// The book of a set that has this number, such as that of a listener with credentials of its
    /// own. None of these is a tenant's.
    pub const fn numbered(number: u32) -> Self {
        Self(number & !TENANTS)
    }

    /// The tenant whose names these are.
    pub const fn tenant(self) -> TenantId {
        match self {
            Self::OWN_RULES | Self(..TENANTS) => TenantId(0),
            Self(number) => TenantId(number & !TENANTS),
        }
    }

    /// None of them: the rules came with the proof of the identity, and only another proof changes
    /// them.
    pub const OWN_RULES: Self = Self(u32::MAX);

    /// The book that these names belong to. Rules of their own come with proofs of the node's realm
    /// alone.
    pub fn of_names(self) -> Self {
        match self {
            Self::OWN_RULES => Self::COMMON,
            realm => realm,
        }
    }
}

/// Realms of tenants have this bit.
const TENANTS: u32 = 1 << 31;

/// The rules of every identity. Asked on the shards: it must not block.
pub trait RuleBook: fmt::Debug + Send + Sync {
    /// What a user may do; none is anonymous. Who is not known may do nothing.
    fn rules_of(&self, realm: Realm, user_name: Option<&str>) -> Arc<Rules>;
}
