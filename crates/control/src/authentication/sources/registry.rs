//! Users and devices of the node's own tables, as they were when they were last read.

use std::any::Any;
use std::sync::Arc;

use martlet_broker::{
    Authentication, Identity, Password, Proof, Refusal, RevokedClients, Rules, Voucher,
};
use martlet_registry::{AccountKind, COMMON_TENANT, Registry, Snapshot};

use super::{Hashing, known, user, voucher_of};
use crate::authentication::policy::{Knowledge, of_kind};
use crate::authentication::{
    CredentialSource, Looking, LookupResult, Pretending, ScramUser, SlotRequest, SourceKind,
};
use crate::wall_clock::now_signed_ms;

/// The registry. What a user or a device may do stands there too.
#[derive(Debug)]
pub struct RegistrySource {
    snapshot: Arc<Snapshot>,
    /// The tenant that the users and devices belong to.
    tenant: u32,
    hashing: Hashing,
}

impl RegistrySource {
    /// The tables, which have been read; users and devices of the common tenant.
    pub fn new(snapshot: Arc<Snapshot>, hashing: Hashing) -> Self {
        Self {
            snapshot,
            tenant: COMMON_TENANT,
            hashing,
        }
    }

    fn with(&self, tables: &Arc<Snapshot>, tenant: u32) -> Self {
        Self {
            snapshot: Arc::clone(tables),
            tenant,
            hashing: self.hashing.clone(),
        }
    }

    async fn find(&self, request: &Authentication, slot_request: &SlotRequest) -> LookupResult {
        let Some(name) = request.user_name.clone() else {
            return LookupResult::Stranger;
        };
        match self.snapshot.account_kind(self.tenant, &name) {
            Some(AccountKind::Device) => self.find_device(request, name),
            Some(AccountKind::User) => self.find_user(request, name, slot_request).await,
            None => match self.find_by_team_token(request, &name) {
                Some(found) => found,
                None => self.find_by_number(request, &name),
            },
        }
    }

    /// A device may name itself by its number. For other sources a number is an unknown name: the
    /// next source may have it.
    fn find_by_number(&self, request: &Authentication, name: &str) -> LookupResult {
        let Some(id) = self.snapshot.device_numbered(self.tenant, name) else {
            return LookupResult::Stranger;
        };
        match self.find_device(request, Arc::clone(id)) {
            LookupResult::Wrong(_) => LookupResult::Stranger,
            found => found,
        }
    }

    /// A device of a team whose token it shows: the key is the User Name, the secret the Password.
    /// None: there is no token with this key.
    fn find_by_team_token(&self, request: &Authentication, key: &str) -> Option<LookupResult> {
        let secret = request.password.as_ref().map_or(&[][..], Password::bytes);
        let (tenant, client_id) = (self.tenant, &request.client_id);
        let checked = self
            .snapshot
            .check_team_token(tenant, key, client_id, secret)?;
        let login = match checked {
            Ok(login) => login,
            Err(refusal) => return Some(refused(refusal)),
        };
        let rules = self.snapshot.rules_of(tenant, &login.device)?;
        let found = known(request, Arc::clone(&login.device), Arc::clone(rules));
        Some(match found {
            LookupResult::Known(identity) => LookupResult::Known(Identity {
                proof: Proof::DeviceToken,
                credential: login.mark,
                voucher: voucher(&login.token),
                ..identity
            }),
            other => other,
        })
    }

    /// Clients whose team token is missing in newer tables.
    fn removed_team_tokens(&self, newer: Option<&Snapshot>) -> Vec<RevokedClients> {
        let removed = self.snapshot.removed_team_tokens(self.tenant, newer);
        let whose = removed
            .iter()
            .map(|token| RevokedClients::Voucher(voucher(token)));
        whose.collect()
    }

    /// Looks for a device. Its credential was made up, so there is nothing to be slow about.
    fn find_device(&self, request: &Authentication, id: Arc<str>) -> LookupResult {
        let secret = request.password.as_ref().map_or(&[][..], Password::bytes);
        let checked = self.snapshot.check_device(
            self.tenant,
            &id,
            &request.client_id,
            secret,
            now_signed_ms(),
        );
        let rules = self.snapshot.rules_of(self.tenant, &id);
        match (checked, rules) {
            (Some(Ok(ends)), Some(rules)) => match known(request, id, Arc::clone(rules)) {
                LookupResult::Known(identity) => LookupResult::Known(Identity {
                    proof: Proof::DeviceToken,
                    credential: self.snapshot.mark_of_secret(secret),
                    expires_wall_ms: u64::try_from(ends).unwrap_or(0),
                    ..identity
                }),
                other => other,
            },
            (Some(Err(refusal)), _) => refused(refusal),
            _ => LookupResult::Stranger,
        }
    }

    async fn find_user(
        &self,
        request: &Authentication,
        name: Arc<str>,
        slot_request: &SlotRequest,
    ) -> LookupResult {
        let snapshot = Arc::clone(&self.snapshot);
        let rules = snapshot.rules_of(self.tenant, &name).cloned();
        let found = rules.map(|rules| known(request, Arc::clone(&name), rules));
        let bytes = request.password.as_ref().map_or(&[][..], Password::bytes);
        let proof = snapshot.hash_of(&name);
        let proof = proof.map(|hash| self.hashing.proof(&name, &hash, bytes));
        if let Some(found) = &found
            && proof.is_some_and(|proof| self.hashing.is_known(&proof))
        {
            let admits = snapshot.admits(self.tenant, &name, &request.client_id);
            return admits.map_or_else(refused, |()| found.clone());
        }
        let (password, hashing) = (request.password.clone(), self.hashing.clone());
        let (client_id, tenant) = (Arc::clone(&request.client_id), self.tenant);
        let work = move || {
            let password = password.as_ref().map_or(&[][..], Password::bytes);
            match (
                snapshot.check_user(tenant, &name, &client_id, password),
                found,
            ) {
                (Some(Ok(weak)), Some(found)) => {
                    proof.into_iter().for_each(|proof| hashing.remember(proof));
                    if let Some(weak) = weak {
                        renew(&snapshot, &name, weak, password);
                    }
                    found
                }
                (Some(Err(refusal)), _) => refused(refusal),
                _ => LookupResult::Stranger,
            }
        };
        self.hashing.run(slot_request, work).await
    }
}

/// The voucher of devices that log in with a team token.
fn voucher(token: &[u8]) -> Voucher {
    voucher_of("team token", &[token])
}

/// The client is accepted whether this succeeds or not.
fn renew(
    snapshot: &Snapshot,
    name: &str,
    weak: &martlet_access::hash::PasswordHash,
    password: &[u8],
) {
    let done = martlet_registry::wait(async {
        let mut registry = Registry::open(snapshot.location()).await?;
        registry.renew_hash(name, weak, password).await?;
        registry.close().await
    });
    match done {
        Ok(()) => tracing::info!(
            user_name = name,
            "a password was hashed again with a stronger algorithm"
        ),
        Err(error) => tracing::warn!(user_name = name, %error, "a weak hash could not be renewed"),
    }
}

/// Wrong credentials count as a try; a client that may not come now has proved a name.
pub(super) fn refused(refusal: Refusal) -> LookupResult {
    match refusal.cause.is_wrong_secret() {
        true => LookupResult::Wrong(refusal),
        false => LookupResult::NotNow(refusal),
    }
}

impl CredentialSource for RegistrySource {
    fn name(&self) -> String {
        // Members of a team see this text and need not know where the tables are.
        match self.snapshot.team_of(self.tenant) {
            None => format!("the registry {}", self.snapshot.location()),
            Some(team) => format!("team {team} of the registry"),
        }
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Registry
    }

    fn look<'a>(
        &'a self,
        request: &'a Authentication,
        slot_request: &'a SlotRequest,
    ) -> Looking<'a> {
        Box::pin(self.find(request, slot_request))
    }

    fn pretend<'a>(
        &'a self,
        request: &'a Authentication,
        slot_request: &'a SlotRequest,
    ) -> Option<Pretending<'a>> {
        let snapshot = Arc::clone(&self.snapshot);
        let pretend = move |password: &[u8]| snapshot.pretend(password);
        let hashing = &self.hashing;
        self.snapshot
            .has_users()
            .then(|| hashing.pretend(request, slot_request, pretend))
    }

    fn hashing(&self) -> Option<&Hashing> {
        self.snapshot.has_users().then_some(&self.hashing)
    }

    fn scram(&self, user_name: &str, client_id: &str) -> ScramUser {
        let found = (
            self.snapshot.scram(self.tenant, user_name, client_id),
            self.snapshot.rules_of(self.tenant, user_name),
        );
        match found {
            (Some(Ok(Some(verifier))), Some(rules)) => {
                let identity = Identity {
                    user_name: Some(user_name.into()),
                    holder: self.snapshot.holder(self.tenant, user_name),
                    rules: Arc::clone(rules),
                    bound: true,
                    ..Identity::anyone()
                };
                ScramUser::Known(verifier.clone(), identity)
            }
            (Some(Ok(_)), _) => ScramUser::WithoutVerifier,
            (Some(Err(why)), _) => ScramUser::Barred(why),
            (None, _) => ScramUser::Unknown,
        }
    }

    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>> {
        self.snapshot.rules_of(self.tenant, user_name).cloned()
    }

    fn knows(&self, user_name: &str) -> Knowledge {
        let is_token = || {
            self.snapshot
                .team_token_named(self.tenant, user_name)
                .is_some()
        };
        match self.has_user(user_name) || is_token() {
            true => Knowledge::Yes,
            false => Knowledge::No,
        }
    }

    fn no_longer_valid(&self, next: &[Arc<dyn CredentialSource>]) -> Vec<RevokedClients> {
        let newer = of_kind::<Self>(next).map(|newer| &*newer.snapshot);
        let mut removed = match newer {
            Some(newer) => self.snapshot.no_longer_valid(self.tenant, newer),
            None => self.snapshot.names(self.tenant).map(user).collect(),
        };
        removed.extend(self.removed_team_tokens(newer));
        removed
    }

    fn with_tables(&self, tables: &Arc<Snapshot>) -> Option<Arc<dyn CredentialSource>> {
        Some(Arc::new(self.with(tables, self.tenant)))
    }

    fn tables(&self) -> Option<&Arc<Snapshot>> {
        Some(&self.snapshot)
    }

    fn in_tenant(&self, tenant: u32) -> Option<Arc<dyn CredentialSource>> {
        Some(Arc::new(self.with(&self.snapshot, tenant)))
    }

    fn removed_from_tables(&self, newer: &Snapshot, names: &[Arc<str>]) -> Vec<RevokedClients> {
        let removed = |name: &Arc<str>| self.snapshot.removed(self.tenant, newer, name);
        let names = names.iter().flat_map(removed);
        names.chain(self.removed_team_tokens(Some(newer))).collect()
    }

    fn users(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.snapshot.names(self.tenant))
    }

    fn has_user(&self, user_name: &str) -> bool {
        self.snapshot.account_kind(self.tenant, user_name).is_some()
    }

    fn admits(&self, user_name: &str, client_id: &str) -> Result<(), Refusal> {
        self.snapshot.admits(self.tenant, user_name, client_id)
    }

    fn has_device(&self, user_name: &str) -> bool {
        self.snapshot.account_kind(self.tenant, user_name) == Some(AccountKind::Device)
    }

    fn proves_devices(&self) -> bool {
        true
    }

    fn changes_at_ms(&self) -> Option<i64> {
        self.snapshot.changes_at_ms()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
