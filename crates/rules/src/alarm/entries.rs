//! What the alarms of a node remember, and how much of it a tenant may have.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use martlet_permission::{Share, Uses};

/// Maximum number of entries: alarms, and devices with a pending alarm.
pub(super) const ENTRIES_MAX: usize = 200_000;

/// Entries by key. Each is added by [`Entries::insert`] and removed by [`Entries::remove`], which
/// count them.
#[derive(Debug)]
pub(super) struct Entries<V> {
    all: HashMap<AlarmKey, V>,
    /// Number of entries of each tenant.
    uses: Uses<u32>,
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
            uses: Uses::default(),
            share,
        }
    }

    /// Whether an entry with this key may be added.
    pub(super) fn has_room_for(&self, key: &AlarmKey) -> bool {
        let share = match key.tenant {
            0 => usize::MAX,
            tenant => self
                .share
                .size_beside(self.uses.beside(&tenant), ENTRIES_MAX),
        };
        let has_room = self.uses.all() < ENTRIES_MAX && self.uses.of(&key.tenant) < share;
        has_room || self.all.contains_key(key)
    }

    /// Adds an entry, or replaces it.
    pub(super) fn insert(&mut self, key: AlarmKey, entry: V) {
        let tenant = key.tenant;
        if self.all.insert(key, entry).is_none() {
            self.uses.add(&tenant, 1);
        }
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &AlarmKey) -> Option<V> {
        let removed = self.all.remove(key)?;
        self.uses.give_back(&key.tenant, 1);
        Some(removed)
    }

    /// Number of entries of each tenant that has some.
    pub(super) fn of_tenants(&self) -> impl Iterator<Item = (u32, usize)> {
        self.uses.each()
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

/// Times in the row of an entry, milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowContent {
    pub(super) holds_since: Option<i64>,
    pub(super) last_ms: Option<i64>,
    pub(super) seen_ms: Option<i64>,
}

/// Identifies an alarm while it is active.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AlarmKey {
    /// Tenant.
    pub tenant: u32,
    /// Name: that of its rule, or of a condition monitored by the node.
    pub name: String,
    /// Subject: the id of a device, a topic or a part of the node.
    pub subject: String,
}
