//! Clients that an older snapshot accepts and a newer one does not.

use std::sync::Arc;

use martlet_permission::{CredentialMark, RevokedClients};

use super::{Credential, DeviceEntry, Snapshot, UserEntry};
use crate::Status;
use crate::credentials::CredentialKind;

impl Snapshot {
    /// Clients of one tenant that these tables may have accepted, by what they proved then, and
    /// that newer tables would refuse.
    pub fn no_longer_valid(&self, tenant: u32, newer: &Self) -> Vec<RevokedClients> {
        let removed = |name| self.removed(tenant, newer, name);
        self.names(tenant).flat_map(removed).collect()
    }

    /// Returns the clients of this user or device, if newer tables do not have it.
    pub fn removed(&self, tenant: u32, newer: &Self, name: &str) -> Vec<RevokedClients> {
        match self.is_user_removed(tenant, newer, name) {
            true => vec![RevokedClients::User(name.into())],
            false => self.removed_device(tenant, newer, name),
        }
    }

    /// Devices that these tables have and newer ones have not, by tenant and id; of these names
    /// alone, if any are given. One that was added anew is another.
    pub fn removed_devices(&self, newer: &Self, of: Option<&[Arc<str>]>) -> Vec<(u32, Arc<str>)> {
        let tenants = self.tenants().chain([crate::COMMON_TENANT]);
        let mut removed = Vec::new();
        for tenant in tenants {
            let is_removed = |id: &&Arc<str>| {
                self.device(tenant, id).is_some_and(|old| {
                    let newer = newer.device(tenant, id);
                    newer.is_none_or(|newer| newer.created_ms != old.created_ms)
                })
            };
            let found: Vec<_> = match (of, self.devices.get(&tenant)) {
                (Some(names), _) => names.iter().filter(is_removed).cloned().collect(),
                (None, Some(all)) => all
                    .iter()
                    .map(|(id, _)| id)
                    .filter(is_removed)
                    .cloned()
                    .collect(),
                (None, None) => Vec::new(),
            };
            removed.extend(found.into_iter().map(|id| (tenant, id)));
        }
        removed
    }

    /// Returns the users likewise, by name.
    pub fn removed_users(&self, newer: &Self, of: Option<&[Arc<str>]>) -> Vec<(u32, Arc<str>)> {
        let is_removed = |name: &Arc<str>| {
            let old = self.users.get(name)?;
            let now = newer.users.get(name);
            // In another tenant it is another user, as with devices.
            let as_now = |now: &Arc<UserEntry>| (now.created_ms, now.tenant);
            let is_there = now.is_some_and(|now| as_now(now) == as_now(old));
            (!is_there).then(|| (old.tenant, Arc::clone(name)))
        };
        match of {
            Some(names) => names.iter().filter_map(is_removed).collect(),
            None => self
                .users
                .iter()
                .filter_map(|(name, _)| is_removed(name))
                .collect(),
        }
    }

    fn is_user_removed(&self, tenant: u32, newer: &Self, name: &str) -> bool {
        let Some(old) = self.user(tenant, name) else {
            return false;
        };
        let is_good = |new: &Arc<UserEntry>| {
            Arc::ptr_eq(old, new) || new.enabled && new.password_set_ms == old.password_set_ms
        };
        old.enabled && !newer.user(tenant, name).is_some_and(is_good)
    }

    fn removed_device(&self, tenant: u32, newer: &Self, id: &str) -> Vec<RevokedClients> {
        let Some(old) = self.device(tenant, id) else {
            return Vec::new();
        };
        if old.status != Status::Active {
            return Vec::new();
        }
        let new = newer.device(tenant, id);
        let Some(new) = new.filter(|new| new.status == Status::Active) else {
            return vec![RevokedClients::User(id.into())];
        };
        // Which Client Identifier it came by is not known.
        if newer.sessions_max(tenant, id) == 0 && self.sessions_max(tenant, id) > 0 {
            return vec![RevokedClients::User(id.into())];
        }
        // From the first that is registered on, those that are not are none of its own; which one
        // it came by is not known of them.
        let has_certificates = |device: &DeviceEntry| {
            let mut all = device.credentials.iter();
            all.any(|held| held.kind == CredentialKind::Certificate)
        };
        if has_certificates(new) && !has_certificates(old) {
            return vec![RevokedClients::User(id.into())];
        }
        // Tokens of the team that it has left open nothing more for it.
        let left_team = (new.team != old.team).then(|| self.marks_of_team(old.team));
        let left_team = left_team.into_iter().flatten();
        let is_good_still = |old: &Credential| {
            let mut all = new.credentials.iter();
            all.any(|new| new.digest == old.digest && new.is_good(newer.read_ms))
        };
        let before = old.credentials.iter();
        let removed = before.filter(|old| old.is_good(self.read_ms) && !is_good_still(old));
        let mark = |old: &Credential| CredentialMark::of_digest(&old.digest);
        removed
            .map(mark)
            .chain(left_team)
            .map(|mark| RevokedClients::Credential(id.into(), mark))
            .collect()
    }
}
