//! Who uses how much of one pool.

use std::collections::HashMap;

use martlet_registry::Visibility;

/// Whose use is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// The clients of the tenant with this number; 0: of the common one.
    Tenant(u32),
    /// The team with this id; empty: callers that see all teams, and objects of no team.
    Team(String),
}

impl From<&Visibility> for Owner {
    fn from(visibility: &Visibility) -> Self {
        Self::Team(visibility.team().unwrap_or_default().to_owned())
    }
}

/// The bounds of a pool, and who uses how much of it.
#[derive(Debug, Default)]
pub(super) struct PoolUses {
    /// How much all may use together.
    pub(super) limit: u64,
    /// How much one team may use.
    pub(super) share: u64,
    /// The share applies to what belongs to no team, too.
    pub(super) is_common_bounded: bool,
    /// Uses of those that use something; none: they cannot be counted now.
    pub(super) used: Option<HashMap<Owner, u64>>,
    /// Where each thread has its part of the pool: how full the fullest part of a share is.
    pub(super) fullest: HashMap<Owner, f64>,
}

/// The used part. Of nothing, all is used.
pub(super) fn ratio(used: u64, of: u64) -> f64 {
    match of {
        0 => 1.0,
        of => used as f64 / of as f64,
    }
}
