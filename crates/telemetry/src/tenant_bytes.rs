//! Bytes of tenants: how many each has, which of them may write no more, and when they are counted
//! again.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use martlet_permission::Share;

/// Time between two passes, if little is written.
const PASS_EVERY: Duration = Duration::from_secs(3_600);
/// A pass begins earlier if more than this part of what was left has been written.
const PART_OF_LEFT: u64 = 16;
/// Passes that begin earlier take up to this part of the time of the writer.
const PART_OF_TIME: u32 = 20;

/// Bytes of tenants, and how many all may have together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantBytes {
    /// Maximum bytes of all tenants: the limit of retention, or else the size of the disk or file.
    pub limit: u64,
    /// Bytes of each tenant that no retention deletes. With a limit of retention these are packed
    /// values of today and later, else the part of the file. Tenant 0: devices without a tenant.
    pub used: BTreeMap<u32, u64>,
}

/// Space of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    /// Bytes in use in the file.
    pub(crate) used: u64,
    /// Maximum size of the file: its limit, or with what is free on the disk.
    pub(crate) all: u64,
}

impl Space {
    pub(crate) fn left(self) -> u64 {
        self.all.saturating_sub(self.used)
    }
}

impl TenantBytes {
    /// Each tenant has as much of the file as of the packed bytes: roll-ups and indexes grow with
    /// these.
    pub(crate) fn of_file(packed: &BTreeMap<u32, u64>, space: Space) -> Self {
        let all: u64 = packed.values().sum();
        let part = |bytes: u64| {
            let part = u128::from(space.used) * u128::from(bytes) / u128::from(all.max(1));
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        let used = match all {
            0 => BTreeMap::from([(0, space.used)]),
            _ => packed
                .iter()
                .map(|(of, bytes)| (*of, part(*bytes)))
                .collect(),
        };
        Self {
            limit: space.all,
            used,
        }
    }

    fn all(&self) -> u64 {
        self.used.values().sum()
    }

    pub(crate) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.all())
    }

    /// Tenants that have their share.
    pub(crate) fn full(&self, share: Share) -> HashSet<u32> {
        let all = self.all();
        let tenants = self.used.iter().filter(|(tenant, _)| **tenant != 0);
        let full = tenants.filter(|(_, used)| **used >= share.beside(all - **used, self.limit));
        full.map(|(tenant, _)| *tenant).collect()
    }
}

/// The last pass over all values.
#[derive(Debug, Default)]
pub(crate) struct LastPass {
    /// When it ended, and how long it took; `None`: there was none.
    ended: Option<(Instant, Duration)>,
    /// Bytes in use in the file after it.
    used: u64,
    /// Bytes that were left to tenants; `None`: no limit.
    left: Option<u64>,
    /// Values were deleted after it, so that a tenant may have room again.
    pub(crate) is_outdated: bool,
}

impl LastPass {
    pub(crate) fn new(took: Duration, space: Option<Space>, left: Option<u64>) -> Self {
        Self {
            ended: Some((Instant::now(), took)),
            used: space.map_or(0, |space| space.used),
            left,
            is_outdated: false,
        }
    }

    /// Whether it was long enough ago that another one may follow it.
    pub(crate) fn has_rested(&self) -> bool {
        self.ended
            .is_none_or(|(at, took)| at.elapsed() >= took * PART_OF_TIME)
    }

    /// Whether what it has counted is outdated.
    pub(crate) fn is_outdated(&self, space: Option<Space>) -> bool {
        let has_grown = space.zip(self.left).is_some_and(|(space, left)| {
            space.used.saturating_sub(self.used) > left / PART_OF_LEFT
        });
        let is_old = self.ended.is_none_or(|(at, _)| at.elapsed() >= PASS_EVERY);
        self.is_outdated || has_grown || is_old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_beyond_its_share_is_full_and_none_never_is() {
        let space = Space {
            used: 800,
            all: 1_000,
        };
        let packed = BTreeMap::from([(0, 50), (1, 120), (2, 30)]);
        let bytes = TenantBytes::of_file(&packed, space);
        assert_eq!(bytes.used, BTreeMap::from([(0, 200), (1, 480), (2, 120)]));
        assert_eq!(bytes.left(), 200);
        // The others leave 680 to the first tenant, and 320 to the second one.
        assert_eq!(bytes.full(Share::percent(50)), HashSet::from([1]));
        assert_eq!(bytes.full(Share::percent(20)), HashSet::from([1, 2]));
        assert!(bytes.full(Share::percent(100)).is_empty());
        let bytes = TenantBytes::of_file(&BTreeMap::new(), space);
        assert_eq!(bytes.used, BTreeMap::from([(0, 800)]));
        assert!(bytes.full(Share::percent(1)).is_empty());
    }

    #[test]
    fn a_pass_is_outdated_after_much_growth_and_deletions() {
        let space = |used| Some(Space { used, all: 1_000 });
        assert!(LastPass::default().is_outdated(None));
        let mut pass = LastPass::new(Duration::ZERO, space(100), Some(320));
        assert!(!pass.is_outdated(space(120)) && pass.is_outdated(space(121)));
        pass.is_outdated = true;
        assert!(pass.is_outdated(space(100)) && pass.has_rested());
        let pass = LastPass::new(Duration::from_secs(60), None, None);
        assert!(!pass.is_outdated(None) && !pass.has_rested());
    }
}
