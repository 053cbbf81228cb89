//! The subscriptions of a shard's sessions, by Topic Filter.

use std::collections::BTreeMap;

use martlet_permission::{Share, TenantId};

use crate::interest::Epochs;
use crate::subscribe::subscribers::{Subscribers, subscription_bytes};
use crate::topic_tree::Tree;

/// The subscriptions of a shard's sessions, by Topic Filter.
#[derive(Debug)]
pub(crate) struct SubscriberIndex {
    pub(crate) tree: Tree<Subscribers>,
    /// Epochs of `tree`.
    pub(crate) epochs: Epochs,
    /// Subscriptions, with those of share groups, which are not in `tree`.
    count: usize,
    /// Bytes of all of them.
    bytes: usize,
    /// Bytes of those of each tenant but the common one.
    tenants: BTreeMap<TenantId, usize>,
}

impl SubscriberIndex {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            tree: Tree::new(seed),
            epochs: Epochs::default(),
            count: 0,
            bytes: 0,
            tenants: BTreeMap::new(),
        }
    }

    /// Counts a new subscription.
    pub(super) fn add(&mut self, tenant: TenantId, filter: &str) {
        self.count += 1;
        self.bytes += subscription_bytes(filter);
        if tenant != TenantId::default() {
            *self.tenants.entry(tenant).or_default() += subscription_bytes(filter);
        }
    }

    /// Counts one less.
    pub(super) fn remove(&mut self, tenant: TenantId, filter: &str) {
        self.count -= 1;
        self.bytes -= subscription_bytes(filter);
        if let Some(bytes) = self.tenants.get_mut(&tenant) {
            *bytes -= subscription_bytes(filter);
            if *bytes == 0 {
                self.tenants.remove(&tenant);
            }
        }
    }

    /// The tenant may have this subscription too, where those of all may take `bytes_max`. The
    /// common tenant has no share.
    pub(super) fn has_room_for(
        &self,
        tenant: TenantId,
        filter: &str,
        share: Share,
        bytes_max: usize,
    ) -> bool {
        let own = self.tenants.get(&tenant).copied().unwrap_or_default();
        let others = self.bytes.saturating_sub(own);
        let own = own + subscription_bytes(filter);
        tenant == TenantId::default() || own <= share.size_beside(others, bytes_max)
    }

    /// Routes of topics that match this filter are not valid any more.
    pub(super) fn raise_epoch(&mut self, tenant: TenantId, filter: &str) {
        self.epochs.raise(tenant, filter);
    }

    /// No route is valid any more.
    pub(crate) fn raise_all_epochs(&mut self) {
        self.epochs.any += 1;
    }

    /// How many subscriptions there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Bytes of those of each tenant but the common one.
    pub(crate) fn of_tenants(&self) -> impl Iterator<Item = (TenantId, usize)> {
        self.tenants.iter().map(|(tenant, bytes)| (*tenant, *bytes))
    }

    /// Bytes of memory that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
