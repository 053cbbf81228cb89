//! Where rules are looked up by who a client is, so that a change of them reaches every session,
//! also of clients who are away or whose identity was decided before the change.

use std::fmt;
use std::sync::Arc;

use super::Rules;

/// Which of a node's sets of rules an identity belongs to: names of users mean different people at
/// doors with credentials of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Realm(pub u32);

impl Realm {
    /// The node's.
    pub const COMMON: Self = Self(0);
    /// None of them: the rules came with the proof of the identity, and only another proof changes
    /// them.
    pub const OWN_RULES: Self = Self(u32::MAX);

    /// Whose names these are. Rules of their own come with proofs of the node's realm alone.
    pub(crate) fn of_names(self) -> Self {
        match self {
            Self::OWN_RULES => Self::COMMON,
            realm => realm,
        }
    }
}

/// The rules of every identity. Asked on the shards: it must not block.
pub trait RuleBook: fmt::Debug + Send + Sync {
    /// What a user may do; none is anonymous. Who is not known may do nothing.
    fn rules_of(&self, realm: Realm, user_name: Option<&str>) -> Arc<Rules>;
}
