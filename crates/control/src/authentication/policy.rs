//! The chain of sources: the first that knows a client decides.
//!
//! * `finding`: what a source finds
//! * `source`: the interface of a source of credentials
//! * `renew`: a policy that follows another one

mod finding;
mod renew;
mod source;

pub use finding::{Looking, LookupResult, Pretending, Refreshing, ScramUser};
pub use source::{CredentialSource, Knowledge, SourceKind};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    Authenticated, Authentication, Identity, Realm, Refusal, RefusalCause, RevocationReason,
    RevokedClients, RuleBook, Rules, TenantId, UserSources,
};
use martlet_codec::ReasonCode;
use martlet_lockout::{Lockout, refused_for};
use martlet_registry::{AccountKind, BanKind, COMMON_TENANT, Snapshot};

use super::mistaken_key;
use super::slots::SlotRequest;
use crate::rfc3339;
use crate::wall_clock::now_signed_ms;

/// The answer to a client with a name and the proof of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The client is accepted.
    Known,
    /// These sources decide.
    ByProof(String),
    /// The client is refused.
    Barred(Refusal),
    /// Names are not looked at.
    Unproved,
}

/// Which sources are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceSelection {
    /// All of the realm.
    AllSources,
    /// Sources of the node: not the hook.
    OwnSources,
}

/// The result of the sources, and how long it may be cached, if a source limits that.
pub(super) type Decided = (Authenticated, Option<Duration>);

/// Authentication and rights at the listeners of one realm.
#[derive(Debug)]
pub struct Chain {
    /// Asked in this order.
    pub sources: Vec<Arc<dyn CredentialSource>>,
    /// The rights of clients without credentials, where a listener lets them in.
    pub anonymous: Arc<Rules>,
    /// Path of the ACL file; none: there is none.
    pub acl_file: Option<Arc<str>>,
    /// Users with lines of their own in it.
    pub acl_users: Arc<[Box<str>]>,
}

/// Authentication policy of the node.
#[derive(Debug)]
pub struct Policy {
    /// Chains by the realms of the listeners.
    pub realms: BTreeMap<Realm, Chain>,
    /// How long what was verified is remembered.
    pub remembered: Duration,
    /// How long a refusal is.
    pub refusal_remembered: Duration,
    /// How many wrong credentials are borne.
    pub lockout: Lockout,
    /// Clients may prove by SCRAM-SHA-256 that they have a password.
    pub scram: bool,
    /// Key from which salts of unknown names are derived, so that they are the same after a
    /// restart, like those of known names.
    pub fake_verifier_key: Option<[u8; 32]>,
    /// The tables, if no login is checked against them: their bans and teams apply all the same.
    pub idle_tables: Option<Arc<Snapshot>>,
    /// The rights of an unknown client: none.
    nobody: Arc<Rules>,
}

impl Policy {
    /// A policy with these realms, and those of all tenants of the tables, that remembers what was
    /// verified for five minutes, and refusals for five seconds.
    pub fn new(realms: BTreeMap<Realm, Chain>) -> Self {
        let nobody = Arc::new(Rules::closed());
        Self {
            realms: with_tenants(realms, &nobody),
            remembered: Duration::from_secs(300),
            refusal_remembered: Duration::from_secs(5),
            lockout: Lockout {
                failures: 30,
                lasts: Duration::from_secs(60),
            },
            scram: false,
            fake_verifier_key: None,
            idle_tables: None,
            nobody,
        }
    }

    /// A client without credentials.
    pub(super) fn anonymous(
        &self,
        request: &Authentication,
        last_revocation: u64,
    ) -> Authenticated {
        let realm = request.realm;
        match self.realms.get(&realm) {
            Some(chain) if request.listener.allow_anonymous => Authenticated::Accepted {
                identity: Identity {
                    tenant: realm.tenant(),
                    realm,
                    rules: Arc::clone(&chain.anonymous),
                    ..Identity::anyone()
                },
                last_revocation,
                data: None,
            },
            Some(_) if self.takes_applicants(request) => {
                self.applicant(request, last_revocation, None)
            }
            _ => {
                let detail = "it has no credentials, and anonymous clients are rejected";
                Authenticated::refused(Refusal::operators_only(RefusalCause::NoCredentials, detail))
            }
        }
    }

    /// Asks one after the other.
    pub(super) async fn decide(
        &self,
        request: &Authentication,
        which: SourceSelection,
        last_revocation: u64,
        slot_request: &SlotRequest,
    ) -> Decided {
        let chain = self.realms.get(&request.realm);
        let sources = chain.map_or(&[][..], |chain| &chain.sources);
        let sources = match which {
            SourceSelection::AllSources => Cow::Borrowed(sources),
            SourceSelection::OwnSources => {
                let own = sources.iter().filter(|source| !source.is_hook());
                Cow::Owned(own.cloned().collect())
            }
        };
        if sources.is_empty() {
            // A name without any proof is none.
            return (self.anonymous(request, last_revocation), None);
        }
        let mut limit = None;
        for source in &*sources {
            let (found, most) = source.look(request, slot_request).await.with_limit();
            limit = most.or(limit);
            if let Some(found) = self.judge(request, last_revocation, &sources, &**source, found) {
                return (found, limit);
            }
        }
        (self.stranger(request, slot_request, &sources).await, limit)
    }

    /// Judges the finding of a source; none: the next source is asked.
    fn judge(
        &self,
        request: &Authentication,
        last_revocation: u64,
        sources: &[Arc<dyn CredentialSource>],
        source: &dyn CredentialSource,
        found: LookupResult,
    ) -> Option<Authenticated> {
        let realm = self.realms.get(&request.realm);
        let banned = |name| self.banned(request.realm.tenant(), &request.client_id, name, None);
        Some(match found {
            LookupResult::Known(identity) => {
                let name = identity.user_name.as_deref().unwrap_or_default();
                let mut all = sources.iter();
                let admits =
                    |source: &Arc<dyn CredentialSource>| source.admits(name, &request.client_id);
                if let Some(why) = all.find_map(|source| admits(source).err()) {
                    return Some(Authenticated::refused(why));
                }
                if let Some(why) = is_named_as_device(sources, source, name) {
                    return Some(Authenticated::refused(why));
                }
                // The name may come from the proof, such as a certificate.
                if let Some(why) = banned(Some(name)) {
                    return Some(Authenticated::refused(why));
                }
                let tables = realm.and_then(tables_of);
                let tenant = request.realm.tenant().0;
                let holder = tables.map_or(0, |tables| tables.holder(tenant, name));
                let is_device = tables.is_some_and(|tables| tables.is_device(tenant, name));
                let owns_client_id = is_device && *request.client_id == *name;
                let sessions_max = tables.map_or(0, |tables| tables.sessions_max(tenant, name));
                Authenticated::Accepted {
                    identity: Identity {
                        holder,
                        is_device,
                        owns_client_id,
                        sessions_max,
                        ..identity
                    },
                    last_revocation,
                    data: None,
                }
            }
            LookupResult::Wrong(why) => bad_credentials(mistaken_key::named(request, why)),
            LookupResult::NotNow(why) => Authenticated::refused(why),
            LookupResult::Failed(why) => {
                let detail = format!("{}: {}", source.name(), why.detail());
                Authenticated::failed(why.with_detail(detail))
            }
            LookupResult::Stranger | LookupResult::Within(..) => return None,
        })
    }

    /// The answer to a client that no source knows.
    async fn stranger(
        &self,
        request: &Authentication,
        slot_request: &SlotRequest,
        sources: &[Arc<dyn CredentialSource>],
    ) -> Authenticated {
        let mut all = sources.iter();
        if request.user_name.is_some()
            && !could_be_device(sources, request)
            && let Some(pretending) = all.find_map(|source| source.pretend(request, slot_request))
        {
            pretending.await;
        }
        let tables = self.tables_at(request.realm);
        let named = tables.zip(request.user_name.as_deref());
        let tenant = request.realm.tenant().0;
        let numbered = named.and_then(|(tables, name)| tables.device_numbered(tenant, name));
        let swapped = tables.and_then(|tables| mistaken_key::secret_as_user_name(tables, request));
        if let Some(why) = swapped {
            return bad_credentials(why);
        }
        let why = match numbered {
            None => {
                let name = request.user_name.as_deref().unwrap_or_default();
                unknown_user(sources, request.realm, name)
            }
            Some(id) => {
                let detail = format!("wrong credential for device {id}, by its number");
                Refusal::operators_only(RefusalCause::WrongSecret, detail).about(&**id)
            }
        };
        bad_credentials(mistaken_key::named(request, why))
    }

    /// How long a hash of a password takes at present; zero if none is worked out in this realm.
    /// The first call works one out.
    pub(super) async fn hash_time(
        &self,
        request: &Authentication,
        slot_request: &SlotRequest,
    ) -> Duration {
        let chain = self.realms.get(&request.realm);
        let mut sources = chain.into_iter().flat_map(|chain| &chain.sources);
        let found = sources.find_map(|source| Some((source, source.hashing()?)));
        let Some((source, hashing)) = found else {
            return Duration::ZERO;
        };
        if hashing.lately().is_none()
            && let Some(pretending) = source.pretend(request, slot_request)
        {
            pretending.await;
        }
        hashing.lately().unwrap_or_default()
    }

    /// Reason of a ban, whatever the client proves; none: it is not banned.
    pub fn banned(
        &self,
        tenant: TenantId,
        client_id: &str,
        user_name: Option<&str>,
        address: Option<IpAddr>,
    ) -> Option<Refusal> {
        let tables = self.tables_even_idle()?;
        let (name, now_ms) = (user_name.unwrap_or_default(), now_signed_ms());
        let ban = tables.ban_of(tenant.0, client_id, name, address, now_ms)?;
        let what = match ban.kind {
            BanKind::ClientId => "Client Identifier",
            BanKind::UserName => "user",
            BanKind::Address => "address",
        };
        let why = match ban.why.is_empty() {
            true => String::new(),
            false => format!(": {}", ban.why),
        };
        let until = match ban.until_ms {
            0 => String::new(),
            until => format!(
                ", until {}",
                rfc3339::in_words(u64::try_from(until).unwrap_or(0))
            ),
        };
        let detail = format!("the {what} {} is banned{why}{until}", ban.value);
        Some(Refusal::operators_only(RefusalCause::Banned, detail))
    }

    /// The source that has this User Name too and comes before the tables, so that it decides about
    /// clients of the common tenant with this name; none: the tables decide.
    pub fn decides_before_tables(&self, user_name: &str) -> Option<String> {
        let sources = &self.realms.get(&Realm::COMMON)?.sources;
        let mut before = sources
            .iter()
            .take_while(|source| source.kind() != SourceKind::Registry);
        let decides = before.find(|source| source.knows(user_name) == Knowledge::Yes);
        decides.map(|source| source.name())
    }

    /// The answer to a client with this name and the proof of it.
    pub fn standing(&self, realm: Realm, user_name: &str, client_id: &str) -> Standing {
        let chain = self.realms.get(&realm);
        let sources = chain.map_or(&[][..], |chain| &chain.sources);
        if sources.is_empty() {
            return Standing::Unproved;
        }
        let mut all = sources.iter();
        if let Some(why) = all.find_map(|source| source.admits(user_name, client_id).err()) {
            return Standing::Barred(why);
        }
        if let Some(why) = self.banned(realm.tenant(), client_id, Some(user_name), None) {
            return Standing::Barred(why);
        }
        let of = |knowledge| {
            let found = sources
                .iter()
                .filter(move |source| source.knows(user_name) == knowledge);
            found.map(|source| source.name()).collect::<Vec<_>>()
        };
        if !of(Knowledge::Yes).is_empty() {
            return Standing::Known;
        }
        match of(Knowledge::ByProof) {
            by_proof if by_proof.is_empty() => {
                Standing::Barred(unknown_user(sources, realm, user_name))
            }
            by_proof => Standing::ByProof(by_proof.join(" or ")),
        }
    }

    /// A user or device by whose rules something is published without a login.
    ///
    /// # Errors
    /// No user or device of this name may log in; the reason in words.
    pub(super) fn identity_of(&self, realm: Realm, name: &str) -> Result<Identity, String> {
        match self.standing(realm, name, name) {
            Standing::Known => {}
            Standing::Barred(why) => return Err(why.detail().to_owned()),
            Standing::ByProof(sources) => {
                return Err(format!("{sources} will know that name when it logs in"));
            }
            Standing::Unproved => return Err("the node has no users and no devices".to_owned()),
        }
        let tables = self.realms.get(&realm).and_then(tables_of);
        let tenant = realm.tenant();
        Ok(Identity {
            tenant,
            user_name: Some(name.into()),
            holder: tables.map_or(0, |tables| tables.holder(tenant.0, name)),
            is_device: tables.is_some_and(|tables| tables.is_device(tenant.0, name)),
            realm,
            rules: self.rules_of(realm, Some(name)),
            ..Identity::anyone()
        })
    }

    fn is_in_tables(&self, realm: Realm, name: &str) -> bool {
        let is_account =
            |tables: &Arc<Snapshot>| tables.account_kind(realm.tenant().0, name).is_some();
        self.tables().is_some_and(is_account)
    }

    /// Why credentials that were valid are not valid by this policy.
    pub(super) fn revoked_for(&self, realm: Realm, whose: &RevokedClients) -> RevocationReason {
        let name = match whose {
            RevokedClients::User(name) => name,
            RevokedClients::Team(_) => return RevocationReason::Removed,
            RevokedClients::Credential(..) | RevokedClients::Voucher(_) => {
                return RevocationReason::Credentials;
            }
        };
        let why = match self.standing(realm, name, name) {
            Standing::Barred(why) => why,
            // Another of that name may come with a proof.
            Standing::ByProof(_) if !self.is_in_tables(realm, name) => {
                return RevocationReason::Removed;
            }
            Standing::ByProof(_) | Standing::Known | Standing::Unproved => {
                return RevocationReason::Credentials;
            }
        };
        match why.cause {
            RefusalCause::UserDisabled => RevocationReason::Disabled,
            RefusalCause::DeviceInactive => RevocationReason::Inactive,
            RefusalCause::DeviceMaintenance => RevocationReason::Maintenance,
            RefusalCause::Banned => RevocationReason::Banned,
            RefusalCause::UnknownUser(_) | RefusalCause::Deleted | RefusalCause::TeamDeleted => {
                RevocationReason::Removed
            }
            _ => RevocationReason::Credentials,
        }
    }

    /// Some clients bring their rules with a token, or get them from a hook.
    pub fn has_rules_of_others(&self) -> bool {
        let mut sources = self.realms.values().flat_map(|chain| &chain.sources);
        sources.any(|source| source.kind() == SourceKind::Proofs)
    }

    /// A certificate that shows the name of this device proves that name, unless it has
    /// certificates of its own.
    pub fn takes_certificate_of(&self, realm: Realm, device: &str) -> bool {
        let sources = self.realms.get(&realm).map(|chain| &chain.sources);
        let takes = |source: &Arc<dyn CredentialSource>| {
            source.proves_devices() && source.knows(device) == Knowledge::ByProof
        };
        sources.into_iter().flatten().any(takes)
    }

    /// Whose names count for a client that connects to a listener of `realm`, and which of them is
    /// its own, of the name that it comes with: `name@team` is one in the team's tenant, a user of
    /// the tables is where they are, and all others are the realm's.
    pub fn tenant_of<'n>(&self, realm: Realm, name: &'n str) -> (Realm, &'n str) {
        let Some(tables) = self.tables_at(realm) else {
            return (realm, name);
        };
        if let Some((tenant, name)) = tables.qualified(name) {
            return (Realm::of_tenant(TenantId(tenant)), name);
        }
        let of_token = || tables.tenant_of_team_token(name);
        match tables.tenant_of(name).or_else(of_token) {
            Some(tenant) if tenant != COMMON_TENANT && !tables.is_device(COMMON_TENANT, name) => {
                (Realm::of_tenant(TenantId(tenant)), name)
            }
            _ => (realm, name),
        }
    }

    /// As [`Policy::tenant_of`], by everything that a client shows. Returns its name in the tenant,
    /// if that is not from its CONNECT.
    pub(super) fn settle_tenant(&self, request: &mut Authentication) -> Option<Arc<str>> {
        if self
            .tables_at(request.realm)
            .is_none_or(|tables| tables.tenants().next().is_none())
        {
            return None;
        }
        if let Some(name) = request.user_name.clone() {
            let (realm, name) = self.tenant_of(request.realm, &name);
            if realm != request.realm {
                (request.realm, request.user_name) = (realm, Some(name.into()));
                return None;
            }
        }
        let chain = self.realms.get(&request.realm);
        let mut sources = chain.into_iter().flat_map(|chain| &chain.sources);
        let shown = sources.find_map(|source| source.name_shown(request))?;
        let (realm, name) = self.tenant_of(request.realm, &shown);
        let is_elsewhere = realm != request.realm;
        request.realm = realm;
        is_elsewhere.then(|| name.into())
    }

    /// The path of the password file that has the name of a user whom the tables have too, or had,
    /// and whether the tables are asked first.
    pub(super) fn file_beside_tables(&self, realm: Realm, name: &str) -> Option<(String, bool)> {
        let sources = &self.realms.get(&realm)?.sources;
        let place = |is_it: &dyn Fn(&dyn CredentialSource) -> bool| {
            sources.iter().position(|source| is_it(&**source))
        };
        let file = place(&|source| source.password_file().is_some() && source.has_user(name))?;
        let registry = place(&|source| source.kind() == SourceKind::Registry)?;
        let (tables, tenant) = (sources[registry].tables()?, realm.tenant().0);
        let kind = tables.account_kind(tenant, name);
        let is_user = kind.or_else(|| tables.deleted(tenant, name)) == Some(AccountKind::User);
        let path = sources[file].password_file().filter(|_| is_user)?;
        Some((path, registry < file))
    }

    /// The tables in which clients of the listeners of this realm are looked up.
    pub(crate) fn tables_at(&self, realm: Realm) -> Option<&Arc<Snapshot>> {
        tables_of(self.realms.get(&realm)?)
    }

    /// The tables of users and devices; none: they are not in use.
    pub fn tables(&self) -> Option<&Arc<Snapshot>> {
        self.realms.values().find_map(tables_of)
    }

    /// The tables that bans and teams are read from, also if no login is checked against them;
    /// none: they are not asked.
    pub fn tables_even_idle(&self) -> Option<&Arc<Snapshot>> {
        self.tables().or(self.idle_tables.as_ref())
    }
}

/// The tables that a chain looks at.
fn tables_of(chain: &Chain) -> Option<&Arc<Snapshot>> {
    chain.sources.iter().find_map(|source| source.tables())
}

/// The realms, with those of all tenants of the tables: their clients are checked by the same
/// sources as the node's, as far as these support tenants. There are no anonymous clients there.
fn with_tenants(mut realms: BTreeMap<Realm, Chain>, nobody: &Arc<Rules>) -> BTreeMap<Realm, Chain> {
    let common = realms.get(&Realm::COMMON).into_iter();
    let with_tables = |chain| Some((chain, tables_of(chain)?));
    let Some((chain, tables)) = common.chain(realms.values()).find_map(with_tables) else {
        return realms;
    };
    let of_tenant = |tenant: u32| {
        let sources = chain.sources.iter();
        let chain = Chain {
            sources: sources
                .filter_map(|source| source.in_tenant(tenant))
                .collect(),
            anonymous: Arc::clone(nobody),
            acl_file: chain.acl_file.clone(),
            acl_users: Arc::clone(&chain.acl_users),
        };
        (Realm::of_tenant(TenantId(tenant)), chain)
    };
    let all: Vec<_> = tables.tenants().map(of_tenant).collect();
    realms.extend(all);
    realms
}

/// Reason why a name that this source accepted belongs to a device: the client would have the
/// device's rights, or its session.
pub(super) fn is_named_as_device(
    sources: &[Arc<dyn CredentialSource>],
    by: &dyn CredentialSource,
    name: &str,
) -> Option<Refusal> {
    let mut all = sources.iter();
    let is_device = !by.proves_devices() && all.any(|source| source.has_device(name));
    is_device.then(|| {
        let detail = format!(
            "{name} is a device of the tables, and no user has its name: {} accepts it",
            by.name()
        );
        Refusal::operators_only(RefusalCause::NameOfDevice, detail).about(name)
    })
}

/// Whether a client logs in like a device, with an unknown name. It costs the same as a wrong
/// secret of a device, so that neither time nor load shows which ids exist.
fn could_be_device(sources: &[Arc<dyn CredentialSource>], request: &Authentication) -> bool {
    let is_named_so = request.user_name.as_deref() == Some(&*request.client_id);
    is_named_so && sources.iter().any(|source| source.tables().is_some())
}

impl RuleBook for Policy {
    fn rules_of(&self, realm: Realm, user_name: Option<&str>) -> Arc<Rules> {
        let Some(chain) = self.realms.get(&realm) else {
            return Arc::clone(&self.nobody);
        };
        let Some(name) = user_name else {
            return Arc::clone(&chain.anonymous);
        };
        let mut found = chain
            .sources
            .iter()
            .filter_map(|source| source.rules_of(name));
        found.next().unwrap_or_else(|| Arc::clone(&self.nobody))
    }
}

/// None of these sources knows the name.
fn unknown_user(sources: &[Arc<dyn CredentialSource>], realm: Realm, name: &str) -> Refusal {
    let names: Vec<String> = sources.iter().map(|source| source.name()).collect();
    let team = sources.iter().find_map(|source| {
        let (_, team) = name.rsplit_once('@')?;
        // Other teams are not told which teams there are.
        (realm == Realm::COMMON).then_some(())?;
        (source.tables()?.tenant_named(team).is_none()).then_some(team)
    });
    let team = team.map_or_else(String::new, |team| {
        format!("; it ends with @{team}, and there is no team {team} with a tenant of its own")
    });
    let detail = format!(
        "no user of that name exists (looked up in: {}){team}",
        names.join(", ")
    );
    unknown_to(sources, detail)
}

/// Refusal of an unknown user with this detail.
pub(super) fn unknown_to(sources: &[Arc<dyn CredentialSource>], detail: String) -> Refusal {
    let has = |kind| sources.iter().any(|source| source.kind() == kind);
    let cause = RefusalCause::UnknownUser(UserSources {
        registry: has(SourceKind::Registry),
        proofs: has(SourceKind::Proofs),
    });
    let refusal = Refusal::operators_only(cause, detail);
    match sources.iter().find_map(|source| source.password_file()) {
        Some(path) => refusal.about(path),
        None => refusal,
    }
}

/// The source of that kind among these: a chain has one of each at most.
pub(super) fn of_kind<T: CredentialSource + 'static>(
    sources: &[Arc<dyn CredentialSource>],
) -> Option<&T> {
    let mut found = sources.iter().map(|source| source.as_any());
    found.find_map(|source| source.downcast_ref())
}

/// The client does not learn whether the name or the password was wrong.
fn bad_credentials(why: Refusal) -> Authenticated {
    refused_for(ReasonCode::BadUserNameOrPassword, why)
}
