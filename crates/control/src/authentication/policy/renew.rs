//! Parts of a policy that the next one takes over, and whose credentials are not valid any more.

use std::any::TypeId;
use std::sync::Arc;

use martlet_broker::{Realm, RevokedClients, TenantId};
use martlet_registry::{COMMON_TENANT, Snapshot};

use super::source::{CredentialSource, Knowledge};
use super::{Chain, Policy, with_tenants};

impl Policy {
    /// Policy with other tables, otherwise the same.
    pub(in crate::authentication) fn with_tables(&self, tables: &Arc<Snapshot>) -> Self {
        self.with(self.idle_tables.clone(), |source| {
            source.with_tables(tables)
        })
    }

    /// Policy with other idle tables, otherwise the same.
    pub(in crate::authentication) fn with_idle_tables(
        &self,
        tables: Option<Arc<Snapshot>>,
    ) -> Self {
        self.with(tables, |_| None)
    }

    fn with(
        &self,
        idle_tables: Option<Arc<Snapshot>>,
        change: impl Fn(&Arc<dyn CredentialSource>) -> Option<Arc<dyn CredentialSource>>,
    ) -> Self {
        let with = |source: &Arc<dyn CredentialSource>| {
            let changed = change(source);
            changed.unwrap_or_else(|| Arc::clone(source))
        };
        let common = self.realms.iter();
        let common = common.filter(|(realm, _)| realm.tenant() == TenantId(0));
        let realms = common.map(|(realm, chain)| {
            let chain = Chain {
                sources: chain.sources.iter().map(with).collect(),
                anonymous: Arc::clone(&chain.anonymous),
                acl_file: chain.acl_file.clone(),
                acl_users: Arc::clone(&chain.acl_users),
            };
            (*realm, chain)
        });
        Self {
            realms: with_tenants(realms.collect(), &self.nobody),
            lockout: self.lockout,
            idle_tables,
            nobody: Arc::clone(&self.nobody),
            ..*self
        }
    }

    /// As [`Policy::no_longer_valid`], where nothing differs but what these users and devices of
    /// the tables are.
    pub(in crate::authentication) fn removed_from_tables(
        &self,
        next: &Policy,
        names: &[Arc<str>],
    ) -> Vec<(Realm, RevokedClients)> {
        let Some(tables) = next.tables() else {
            return self.no_longer_valid(next);
        };
        let mut all = Vec::new();
        for (realm, chain) in &self.realms {
            let next = next.realms.get(realm);
            let next = next.map_or(&[][..], |chain| &chain.sources);
            for source in &chain.sources {
                let removed = source.removed_from_tables(tables, names).into_iter();
                all.extend(removed.map(|whose| (*realm, whose)));
            }
            let is_elsewhere = |name: &&Arc<str>| {
                is_reviewed_elsewhere(&chain.sources, next, name)
                    || is_barred_by_name(&chain.sources, next, name)
            };
            let elsewhere = names.iter().filter(is_elsewhere);
            all.extend(elsewhere.map(|name| (*realm, RevokedClients::User(Arc::clone(name)))));
        }
        all.extend(self.moved_to_tenants(next, names.iter()));
        all
    }

    /// Clients of the node's listeners whose name stands for a user in a team's tenant from now on:
    /// `NAME@TEAM` of a team that owns a tenant now, and these users if they belong to another
    /// tenant now. The source that accepted them would not be asked any more.
    fn moved_to_tenants<'a>(
        &self,
        next: &Policy,
        users: impl Iterator<Item = &'a Arc<str>>,
    ) -> Vec<(Realm, RevokedClients)> {
        let Some(tables) = next.tables() else {
            return Vec::new();
        };
        let older = self.tables();
        let teams = tables.teams_with_tenant().filter(|(team, tenant)| {
            older.and_then(|older| older.tenant_named(team)) != Some(*tenant)
        });
        let teams = teams.map(|(team, _)| RevokedClients::Team(team.into()));
        let is_moved = |name: &&Arc<str>| {
            let now = tables.tenant_of(name);
            now.is_some_and(|tenant| tenant != COMMON_TENANT)
                && now != older.and_then(|older| older.tenant_of(name))
                && !tables.is_device(COMMON_TENANT, name)
        };
        let users = users
            .filter(is_moved)
            .map(|name| RevokedClients::User(Arc::clone(name)));
        let moved: Vec<RevokedClients> = teams.chain(users).collect();
        let realms = self.realms.keys().filter(|realm| {
            realm.tenant() == TenantId::default() && next.tables_at(**realm).is_some()
        });
        realms
            .flat_map(|realm| moved.iter().map(|whose| (*realm, whose.clone())))
            .collect()
    }

    /// Takes over what the older one had found out and holds still.
    pub(in crate::authentication) fn inherit(&self, older: &Self) {
        for (realm, chain) in &self.realms {
            let older = older.realms.get(realm);
            let older = older.map_or(&[][..], |chain| &chain.sources);
            for source in &chain.sources {
                source.inherit(older);
            }
        }
    }

    /// When a source has to be read again without a change: wall clock in milliseconds.
    pub fn changes_at_ms(&self) -> Option<i64> {
        let sources = self.realms.values().flat_map(|chain| &chain.sources);
        sources.filter_map(|source| source.changes_at_ms()).min()
    }

    /// A password file that has users in this policy, and is empty in the next one.
    pub fn emptied_password_file(&self, next: &Policy) -> Option<&str> {
        self.realms.iter().find_map(|(realm, chain)| {
            let next = &next.realms.get(realm)?.sources;
            let mut sources = chain.sources.iter();
            sources.find_map(|source| source.emptied_file(next))
        })
    }

    /// Users that may be connected by credentials of this policy and that the next one would
    /// refuse.
    pub fn no_longer_valid(&self, next: &Policy) -> Vec<(Realm, RevokedClients)> {
        let mut all = Vec::new();
        for (realm, chain) in &self.realms {
            let next = next.realms.get(realm);
            let next = next.map_or(&[][..], |chain| &chain.sources);
            for source in &chain.sources {
                let removed = source.no_longer_valid(next).into_iter();
                all.extend(removed.map(|whose| (*realm, whose)));
            }
            let users = reviewed_elsewhere(&chain.sources, next).into_iter();
            all.extend(users.map(|user| (*realm, RevokedClients::User(user))));
        }
        let users = next.tables().into_iter();
        let users = users.flat_map(|tables| tables.users_of_tenants());
        all.extend(self.moved_to_tenants(next, users));
        all
    }
}

/// Users for which another source decides now, since it comes first.
fn reviewed_elsewhere(
    old: &[Arc<dyn CredentialSource>],
    next: &[Arc<dyn CredentialSource>],
) -> Vec<Arc<str>> {
    let mut found = Vec::new();
    for (at, source) in old.iter().enumerate() {
        for user in source.users() {
            let is_first = !old[..at].iter().any(|before| before.has_user(user));
            if is_first && is_reviewed_elsewhere(old, next, user) {
                found.push(user.into());
            }
        }
    }
    // No list has the clients that have logged in with a proof.
    let by_proof = |source: &Arc<dyn CredentialSource>| source.knows("") == Knowledge::ByProof;
    if old.iter().any(by_proof) {
        let listed = next.iter().flat_map(|source| source.users());
        let barred = listed.filter(|user| is_barred_by_name(old, next, user));
        found.extend(barred.map(Arc::from));
    }
    found
}

/// Whether a client may have logged in with this name, and would need other credentials now: a
/// source that has the name in its list is asked first.
fn is_barred_by_name(
    old: &[Arc<dyn CredentialSource>],
    next: &[Arc<dyn CredentialSource>],
    user: &str,
) -> bool {
    let by_proof = |sources: &[Arc<dyn CredentialSource>]| {
        let request = sources.iter().take_while(|source| !source.has_user(user));
        let proofs = request.filter(|source| source.knows(user) == Knowledge::ByProof);
        proofs
            .map(|source| source.as_any().type_id())
            .collect::<Vec<_>>()
    };
    let (before, now) = (by_proof(old), by_proof(next));
    // Clients of a removed source are ended for that reason.
    let is_there = |kind: &TypeId| next.iter().any(|source| source.as_any().type_id() == *kind);
    before
        .iter()
        .any(|kind| !now.contains(kind) && is_there(kind))
}

/// Whether another source than before is the first with this user. A user without any source is
/// named by its former source.
fn is_reviewed_elsewhere(
    old: &[Arc<dyn CredentialSource>],
    next: &[Arc<dyn CredentialSource>],
    user: &str,
) -> bool {
    let kind = |sources: &[Arc<dyn CredentialSource>]| {
        let first = sources.iter().find(|source| source.has_user(user));
        first.map(|source| source.as_any().type_id())
    };
    let now = kind(next);
    kind(old).is_some_and(|old| now.is_some_and(|now| now != old))
}
