//! Keys of values of telemetry at which no rule looks: the key of a rule may be spelt wrongly.

use std::collections::{BTreeMap, BTreeSet};

/// Keys that are remembered.
const KEYS_MAX: usize = 64;

/// Bytes of a key that is remembered.
const KEY_BYTES_MAX: usize = 128;

/// Keys of values that came in messages since the start, by the numbers of their tenants.
#[derive(Clone, Debug, Default)]
pub(super) struct OtherKeys {
    by_tenant: BTreeMap<u32, BTreeSet<String>>,
    count: usize,
}

impl OtherKeys {
    /// Remembers the keys of a message of this tenant, the first [`KEYS_MAX`] of all.
    pub(super) fn note<'a>(&mut self, tenant: u32, keys: impl Iterator<Item = &'a String>) {
        for key in keys.filter(|key| key.len() <= KEY_BYTES_MAX) {
            if self.count >= KEYS_MAX {
                return;
            }
            let own = self.by_tenant.entry(tenant).or_default();
            if !own.contains(key) {
                own.insert(key.clone());
                self.count += 1;
            }
        }
    }

    /// Keys of a tenant, by name.
    pub(super) fn of(&self, tenant: u32) -> Vec<String> {
        let own = self.by_tenant.get(&tenant).into_iter().flatten();
        own.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_tenant_are_remembered_up_to_a_limit() {
        let mut keys = OtherKeys::default();
        keys.note(1, ["temp".to_owned(), "x".repeat(200)].iter());
        let many: Vec<String> = (0..100).map(|at| format!("k{at:03}")).collect();
        keys.note(0, many.iter());
        keys.note(0, many.iter());
        assert_eq!(keys.of(1), ["temp"]);
        assert_eq!(keys.of(0).len(), KEYS_MAX - 1);
    }
}
