//! Means by which clients are authenticated, and revocations.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use martlet_permission::{
    CredentialMark, Identity, Realm, Revocation, RevocationReason, RevokedClients, Voucher,
};

use crate::exchange::state::Exchange;
use crate::limits::ListenerPolicy;

/// Revoked users, and when last and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revoked(BTreeMap<(Realm, RevokedClients), (u64, RevocationReason)>);

impl Revoked {
    /// Remembers one more.
    fn add(&mut self, revocation: Revocation) {
        let Revocation {
            realm,
            whose,
            number,
            reason,
        } = revocation;
        self.0.insert((realm.of_names(), whose), (number, reason));
    }

    /// Forgets one, unless the same has been revoked again since.
    fn remove(&mut self, revocation: &Revocation) {
        let whose = (revocation.realm.of_names(), revocation.whose.clone());
        let kept = self.0.get(&whose);
        if kept.is_some_and(|(number, _)| *number == revocation.number) {
            self.0.remove(&whose);
        }
    }

    /// Why this identity was revoked after the decision, if it was.
    fn revocation_of(&self, identity: &Identity, last_revocation: u64) -> Option<RevocationReason> {
        if self.0.is_empty() {
            return None;
        }
        let user = identity.user_name.clone().map(RevokedClients::User);
        let voucher = (identity.voucher != Voucher::NONE).then_some(identity.voucher);
        let name = identity.user_name.as_deref().unwrap_or_default();
        let team = name.rsplit_once('@');
        let team = team.map(|(_, team)| RevokedClients::Team(team.into()));
        let all = user.into_iter().chain(voucher.map(RevokedClients::Voucher));
        let mut all = all.chain(team);
        let realm = identity.realm.of_names();
        let revoked = all.find_map(|whose| {
            let found = self.0.get(&(realm, whose));
            let found = found.filter(|(number, _)| *number > last_revocation);
            found.map(|(_, reason)| *reason)
        });
        revoked.or_else(|| self.revocation_of_credential(identity, last_revocation))
    }

    /// Any credential may be that of a client that came by an unknown one.
    fn revocation_of_credential(
        &self,
        identity: &Identity,
        last_revocation: u64,
    ) -> Option<RevocationReason> {
        let name = identity.user_name.as_ref()?;
        let (first, last) = match identity.credential {
            CredentialMark::NONE => (CredentialMark(0), CredentialMark(u32::MAX)),
            one => (one, one),
        };
        let at = |mark| {
            let whose = RevokedClients::Credential(Arc::clone(name), mark);
            (identity.realm.of_names(), whose)
        };
        let mut all = self.0.range(at(first)..=at(last));
        let found = all.find(|(_, (number, _))| *number > last_revocation);
        found.map(|(_, (_, reason))| *reason)
    }
}

/// Means by which the clients of this shard are authenticated, and recent revocations.
#[derive(Debug, Default)]
pub(crate) struct Authentications {
    /// The method of the last client that was accepted by one: nearly all have the same.
    method: Option<Arc<str>>,
    /// Recent revocations.
    revoked: Revoked,
    /// Recent revocations, oldest first, with the time each came.
    revocations: VecDeque<(u64, Revocation)>,
    /// Clients that need no credentials are asked for too: they may be banned.
    pub(crate) checks_bans: bool,
    /// Listeners that require authentication now, though they did not at first.
    pub(crate) authenticating: Arc<[Arc<ListenerPolicy>]>,
}

/// Time for which a revocation is remembered, in milliseconds: longer than a connection takes
/// through lobby and authentication.
const REMEMBERED_MS: u64 = 600_000;

/// Longest time between two checks of the end of credentials, in milliseconds: the clock may be
/// set.
pub(super) const IDENTITY_LOOK_MS: u64 = 86_400_000;

impl Authentications {
    pub(crate) fn new(checks_bans: bool) -> Self {
        Self {
            checks_bans,
            ..Self::default()
        }
    }

    /// A client has been accepted by this method, and may re-authenticate.
    pub(crate) fn accepted(&mut self, method: &Arc<str>) -> Exchange {
        let last = self.method.as_ref().filter(|last| *last == method);
        let method = Arc::clone(last.unwrap_or(method));
        self.method = Some(Arc::clone(&method));
        Exchange::over(method)
    }

    pub(crate) fn revoke(&mut self, now_ms: u64, revocations: &[Revocation]) {
        while let Some((at_ms, _)) = self.revocations.front()
            && at_ms + REMEMBERED_MS <= now_ms
        {
            if let Some((_, over)) = self.revocations.pop_front() {
                self.revoked.remove(&over);
            }
        }
        for revocation in revocations {
            self.revoked.add(revocation.clone());
            self.revocations.push_back((now_ms, revocation.clone()));
        }
    }

    /// Why this identity was revoked after the decision, if it was.
    pub(crate) fn revocation_of(
        &self,
        identity: &Identity,
        last_revocation: u64,
    ) -> Option<RevocationReason> {
        self.revoked.revocation_of(identity, last_revocation)
    }
}
