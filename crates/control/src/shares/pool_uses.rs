//! Who uses how much of one pool.

use std::collections::HashMap;

use martlet_broker::Share;
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
    /// How much one team may use of what others leave.
    pub(super) share: Share,
    /// Each owner may use one that is free, whatever its share is.
    pub(super) has_one: bool,
    /// The share applies to what belongs to no team, too.
    pub(super) is_common_bounded: bool,
    /// Uses of those that use something; none: they cannot be counted now.
    pub(super) used: Option<HashMap<Owner, u64>>,
    /// Where each thread has an equal part of the pool: the uses of each part.
    pub(super) parts: Vec<HashMap<Owner, u64>>,
}

impl PoolUses {
    /// How much this one uses; none: it cannot be counted now.
    pub(super) fn used_by(&self, owner: &Owner) -> Option<u64> {
        let used = self.used.as_ref()?;
        Some(used.get(owner).copied().unwrap_or_default())
    }

    /// How much this one may use now, beside what others use.
    pub(super) fn share_of(&self, owner: &Owner) -> u64 {
        let used = self.used.as_ref();
        let share = used.map_or_else(
            || self.share.beside(0, self.limit),
            |used| self.share.beside(others_than(owner, used), self.limit),
        );
        share.max(u64::from(self.has_one))
    }

    /// The used part of the share where that is fullest.
    pub(super) fn used_ratio(&self, owner: &Owner) -> f64 {
        if self.parts.is_empty() {
            return ratio(self.used_by(owner).unwrap_or(0), self.share_of(owner));
        }
        let limit = self.limit / self.parts.len() as u64;
        let parts = self.parts.iter().map(|part| {
            let used = part.get(owner).copied().unwrap_or_default();
            ratio(used, self.share.beside(others_than(owner, part), limit))
        });
        parts.fold(0.0, f64::max)
    }
}

/// Bytes that all but this one use.
fn others_than(owner: &Owner, used: &HashMap<Owner, u64>) -> u64 {
    let others = used.iter().filter(|(other, _)| *other != owner);
    others.map(|(_, used)| used).sum()
}

/// The used part. Of nothing, all is used.
pub(super) fn ratio(used: u64, of: u64) -> f64 {
    match of {
        0 => 1.0,
        of => used as f64 / of as f64,
    }
}
