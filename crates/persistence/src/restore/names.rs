//! Maps epochs of the store to the sessions and share groups of shards.
//!
//! It exists only during the restore.

use martlet_broker::{GroupAddress, SessionAddress, SessionEpoch, ShardId};
use martlet_store::Lsn;

/// Sorted by epoch, so that a million entries have no memory overhead.
#[derive(Debug, Default)]
pub(super) struct EpochNames {
    pub(super) sessions: Vec<(SessionEpoch, SessionAddress)>,
    /// With the number of the record that created each.
    pub(super) groups: Vec<(SessionEpoch, Lsn, ShardId, GroupAddress)>,
}

impl EpochNames {
    pub(super) fn sort(&mut self) {
        self.sessions.sort_unstable_by_key(|(epoch, _)| *epoch);
        self.groups.sort_unstable_by_key(|(epoch, ..)| *epoch);
    }

    pub(super) fn session(&self, epoch: SessionEpoch) -> Option<SessionAddress> {
        let at = self
            .sessions
            .binary_search_by_key(&epoch, |(epoch, _)| *epoch);
        at.ok().map(|at| self.sessions[at].1)
    }

    pub(super) fn group(&self, epoch: SessionEpoch) -> Option<(ShardId, GroupAddress)> {
        let at = self
            .groups
            .binary_search_by_key(&epoch, |(epoch, ..)| *epoch);
        at.ok().map(|at| (self.groups[at].2, self.groups[at].3))
    }

    pub(super) fn groups_of(&self, shard: ShardId) -> Vec<GroupAddress> {
        let groups = self.groups.iter();
        groups
            .filter(|(_, _, owner, _)| *owner == shard)
            .map(|(.., group)| *group)
            .collect()
    }

    /// Groups that were created after the record `lsn`.
    pub(super) fn groups_younger_than(&self, lsn: Lsn) -> impl Iterator<Item = SessionEpoch> {
        let groups = self.groups.iter();
        groups
            .filter(move |(_, since, ..)| *since > lsn)
            .map(|(epoch, ..)| *epoch)
    }
}
