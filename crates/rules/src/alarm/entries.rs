//! What the alarms of a node remember, and how much of it a tenant may have.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use martlet_permission::Share;

use super::key::AlarmKey;

/// Maximum number of entries: alarms, and devices with a pending alarm.
pub(super) const ENTRIES_MAX: usize = 200_000;

/// Entries by key. Each is added by [`Entries::insert`] and removed by [`Entries::remove`], which
/// count them.
#[derive(Debug)]
pub(super) struct Entries<V> {
    all: HashMap<AlarmKey, V>,
    /// Number of entries of each tenant.
    of_tenants: HashMap<u32, usize>,
    share: Share,
}

impl<V> Default for Entries<V> {
    fn default() -> Self {
        Self::new(Share::default())
    }
}

impl<V> Entries<V> {
    /// No entries; a tenant may have this share of them. Tenant 0 may have all.
    pub(super) fn new(share: Share) -> Self {
        Self {
            all: HashMap::new(),
            of_tenants: HashMap::new(),
            share,
        }
    }

    /// Whether an entry with this key may be added.
    pub(super) fn has_room_for(&self, key: &AlarmKey) -> bool {
        let own = self.of_tenants.get(&key.tenant).copied().unwrap_or(0);
        let share = match key.tenant {
            0 => usize::MAX,
            _ => self.share.size_beside(self.all.len() - own, ENTRIES_MAX),
        };
        (self.all.len() < ENTRIES_MAX && own < share) || self.all.contains_key(key)
    }

    /// Adds an entry, or replaces it.
    pub(super) fn insert(&mut self, key: AlarmKey, entry: V) {
        let tenant = key.tenant;
        if self.all.insert(key, entry).is_none() {
            *self.of_tenants.entry(tenant).or_default() += 1;
        }
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &AlarmKey) -> Option<V> {
        let removed = self.all.remove(key)?;
        if let Some(own) = self.of_tenants.get_mut(&key.tenant) {
            *own -= 1;
            if *own == 0 {
                self.of_tenants.remove(&key.tenant);
            }
        }
        Some(removed)
    }

    /// Number of entries of each tenant that has some.
    pub(super) fn of_tenants(&self) -> impl Iterator<Item = (u32, usize)> {
        self.of_tenants
            .iter()
            .map(|(tenant, count)| (*tenant, *count))
    }
}

impl<V> Deref for Entries<V> {
    type Target = HashMap<AlarmKey, V>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<V> DerefMut for Entries<V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.all
    }
}
