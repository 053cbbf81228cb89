//! Bytes of tenants: how many each has, and which of them may write no more.

use std::collections::{BTreeMap, BTreeSet};

use martlet_permission::Share;

/// Bytes of tenants, and how many all may have together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantBytes {
    /// Maximum bytes of all tenants: the limit of retention, or else the size of the disk or file.
    pub limit: u64,
    /// Bytes of each tenant that no retention deletes. With a limit of retention these are values
    /// of today and later, else the part of the file. Values that are not packed yet, and those
    /// that were written since, are estimated. Tenant 0: devices without a tenant.
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
    /// Each tenant has as much of the file as of the bytes of values: roll-ups and indexes grow
    /// with these.
    pub(crate) fn of_file(values: &BTreeMap<u32, u64>, space: Space) -> Self {
        let all: u64 = values.values().sum();
        let part = |bytes: u64| {
            let part = u128::from(space.used) * u128::from(bytes) / u128::from(all.max(1));
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        let used = match all {
            0 => BTreeMap::from([(0, space.used)]),
            _ => values
                .iter()
                .map(|(of, bytes)| (*of, part(*bytes)))
                .collect(),
        };
        Self {
            limit: space.all,
            used,
        }
    }

    /// Adds bytes of tenants.
    pub(crate) fn add(&mut self, more: &BTreeMap<u32, u64>) {
        for (tenant, bytes) in more {
            *self.used.entry(*tenant).or_default() += bytes;
        }
    }

    fn all(&self) -> u64 {
        self.used.values().sum()
    }

    pub(crate) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.all())
    }

    /// Tenants that have their share.
    pub(crate) fn full(&self, share: Share) -> BTreeSet<u32> {
        let all = self.all();
        let tenants = self.used.iter().filter(|(tenant, _)| **tenant != 0);
        let full = tenants.filter(|(_, used)| **used >= share.beside(all - **used, self.limit));
        full.map(|(tenant, _)| *tenant).collect()
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
        assert_eq!(bytes.full(Share::percent(50)), BTreeSet::from([1]));
        assert_eq!(bytes.full(Share::percent(20)), BTreeSet::from([1, 2]));
        assert!(bytes.full(Share::percent(100)).is_empty());
        let bytes = TenantBytes::of_file(&BTreeMap::new(), space);
        assert_eq!(bytes.used, BTreeMap::from([(0, 800)]));
        assert!(bytes.full(Share::percent(1)).is_empty());
    }

    #[test]
    fn what_was_written_since_counts() {
        let mut bytes = TenantBytes {
            limit: 1_000,
            used: BTreeMap::from([(1, 400)]),
        };
        assert!(bytes.full(Share::percent(50)).is_empty());
        bytes.add(&BTreeMap::from([(1, 100), (2, 10)]));
        assert_eq!(bytes.used, BTreeMap::from([(1, 500), (2, 10)]));
        assert_eq!(bytes.full(Share::percent(50)), BTreeSet::from([1]));
    }
}
