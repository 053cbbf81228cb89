//! The tables as they were when they were read: decides logins and rights from memory. Rules are
//! shared by all holders of the role or type.

mod numbers;
mod read;
mod removed;
pub(crate) mod renew;
mod sets;
mod team_tokens;
#[cfg(test)]
pub(crate) mod tests;
mod token_logins;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use martlet_access::IotflowBase;
use martlet_access::hash::PasswordHash;
use martlet_access::scram::Verifier;
use martlet_permission::{
    Actions, CredentialMark, Names, PasswordSource, Refusal, RefusalCause, Rules,
};

use self::numbers::Numbers;
use self::sets::{By, SetNumber, Sets};
use self::team_tokens::TeamTokens;
use crate::bans::Bans;
use crate::changes::ChangePosition;
use crate::client_ids::ClientIds;
use crate::credentials::{CredentialKind, CredentialUse};
use crate::deleted::Deleted;
use crate::device_ids::is_digits;
use crate::names::AccountKind;
use crate::rule_sets::owner::{Owner, RulesPlace};
use crate::secret::{Digest, DigestKey, digest_text, is_same};
use crate::shared_map::SharedMap;
use crate::{Ban, COMMON_TENANT, Location, Status};

pub use self::sets::GroupName;
pub use self::team_tokens::{LoginNumbers, TeamTokenLogin, TeamTokenName};

/// All of what decides.
#[derive(Clone, Debug)]
pub struct Snapshot {
    location: Location,
    origin: Origin,
    seen: ChangePosition,
    read_ms: i64,
    /// When the first credential ends that was good then.
    changes_ms: i64,
    in_use: bool,
    key: DigestKey,
    /// Where the topics of IoTFlow begin.
    iotflow_base: IotflowBase,
    sets: Arc<Sets>,
    users: SharedMap<Arc<str>, Arc<UserEntry>>,
    /// Devices by tenant and id.
    devices: Devices,
    numbers: Numbers,
    /// Users and devices that can be restored. Until then, or until they are removed for good,
    /// their names cannot be used.
    deleted: Deleted,
    /// The tenants of the teams that own one.
    tenants: Arc<Tenants>,
    tokens: Arc<TeamTokens>,
    bans: Bans,
    /// Never the number of a client that is not accepted.
    closed: Arc<Rules>,
    /// Checked for unknown names, so that these take as long as known ones.
    stranger: Option<PasswordHash>,
    uses: Arc<Uses>,
}

/// Approximate bytes of one of each: itself, its name and its place in a map.
const USER_BYTES: usize = 640;
const DEVICE_BYTES: usize = 448;
const BAN_BYTES: usize = 512;
const NAME_BYTES: usize = 96;

/// Credentials of devices that were used since it was last asked: when the last time was, and how
/// often.
type Uses = Mutex<HashMap<Digest, (i64, i64)>>;

type Devices = SharedMap<u32, SharedMap<Arc<str>, Arc<DeviceEntry>>>;

/// Which database it was that was read: one that takes its place is another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    /// Device and inode of the file; none: it was not there, or it is none.
    file: Option<(u64, u64)>,
    /// Mark that was made up with the tables; empty where there is a file.
    mark: String,
}

/// Tenants of teams.
#[derive(Debug, Default)]
struct Tenants {
    by_name: HashMap<String, u32>,
    /// Tenants of teams that were deleted and can be restored.
    deleted: HashSet<String>,
    by_id: HashMap<String, u32>,
    /// Names of the teams by their tenants.
    names: HashMap<u32, String>,
}

#[derive(Debug)]
struct UserEntry {
    created_ms: i64,
    hash: PasswordHash,
    password_set_ms: i64,
    scram: Option<Box<Verifier>>,
    enabled: bool,
    tenant: u32,
    /// The number of its team; 0 is none.
    team: u32,
    rules: SetNumber,
}

#[derive(Debug)]
struct DeviceEntry {
    number: i64,
    created_ms: i64,
    rules: SetNumber,
    credentials: Box<[Credential]>,
    /// The number of its team; 0 is none.
    team: u32,
    status: Status,
}

#[derive(Clone, Debug)]
struct Credential {
    kind: CredentialKind,
    digest: Digest,
    /// A use of it is in the tables.
    used: Used,
    /// 0 is never.
    expires_ms: i64,
}

/// Whether something was used.
#[derive(Debug)]
struct Used(AtomicBool);

impl Used {
    fn new(is_used: bool) -> Self {
        Self(AtomicBool::new(is_used))
    }
}

impl Clone for Used {
    fn clone(&self) -> Self {
        Self::new(self.0.load(Ordering::Relaxed))
    }
}

impl Credential {
    fn is_good(&self, now_ms: i64) -> bool {
        self.expires_ms == 0 || self.expires_ms > now_ms
    }
}

/// A secret without the quotation marks, or else the white space, around it, and what that is.
fn without_surroundings(secret: &[u8]) -> (&[u8], &'static str) {
    let trimmed = secret.trim_ascii();
    let unquoted = [b"\"", b"'"].iter().find_map(|mark| {
        let rest = trimmed.strip_prefix(mark.as_slice())?;
        rest.strip_suffix(mark.as_slice())
    });
    match unquoted {
        Some(unquoted) => (unquoted, "quotation marks"),
        None => (trimmed, "white space"),
    }
}

/// How Client Identifiers begin that the node assigns.
const ASSIGNED: &str = "auto-";

impl Snapshot {
    /// There is, or was, a user or a device.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }

    /// There is a ban.
    pub fn has_bans(&self) -> bool {
        self.bans.len() > 0
    }

    /// All bans.
    pub fn all_bans(&self) -> Vec<Ban> {
        self.bans.all().cloned().collect()
    }

    /// Returns the location that was read.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// When it becomes out of date by itself, since a credential expires. Milliseconds since the
    /// Unix epoch.
    pub fn changes_at_ms(&self) -> Option<i64> {
        (self.changes_ms < i64::MAX).then_some(self.changes_ms)
    }

    /// The tenant of the team of this name; none: it owns none.
    pub fn tenant_named(&self, team: &str) -> Option<u32> {
        self.tenants.by_name.get(team).copied()
    }

    /// The tenant of the team of this id; none: it owns none.
    pub fn tenant_of_team(&self, id: &str) -> Option<u32> {
        self.tenants.by_id.get(id).copied()
    }

    /// The id of the team that owns a tenant; none: no team, as for the common one.
    pub fn team_id_of(&self, tenant: u32) -> Option<&str> {
        let mut teams = self.tenants.by_id.iter();
        teams.find_map(|(id, of)| (*of == tenant).then_some(&**id))
    }

    /// All tenants but the common one.
    pub fn tenants(&self) -> impl Iterator<Item = u32> {
        self.tenants.by_name.values().copied()
    }

    /// The teams that own a tenant, by name, with it.
    pub fn teams_with_tenant(&self) -> impl Iterator<Item = (&str, u32)> {
        let teams = self.tenants.by_name.iter();
        teams.map(|(team, tenant)| (&**team, *tenant))
    }

    /// Users whose home is another tenant than the common one.
    pub fn users_of_tenants(&self) -> impl Iterator<Item = &Arc<str>> {
        let users = self.users.iter();
        let users = users.filter(|(_, user)| user.tenant != COMMON_TENANT);
        users.map(|(name, _)| name)
    }

    /// The team that owns a tenant; none: no team, as for the common one.
    pub fn team_of(&self, tenant: u32) -> Option<&str> {
        self.tenants.names.get(&tenant).map(|team| &**team)
    }

    /// The tenant and the name in it that `name@team` stands for; none: that is no team with a
    /// tenant of its own.
    pub fn qualified<'n>(&self, name: &'n str) -> Option<(u32, &'n str)> {
        if self.tenants.by_name.is_empty() {
            return None;
        }
        let (name, team) = name.rsplit_once('@')?;
        Some((self.tenant_named(team)?, name))
    }

    /// Devices of this id in other tenants than this one, as what they come.
    pub fn devices_elsewhere(&self, tenant: u32, id: &str) -> impl Iterator<Item = String> {
        let owned = self.tenants.by_name.iter();
        let owned = owned.map(move |(team, of)| (*of, format!("{id}@{team}")));
        let all = std::iter::once((0, id.to_owned())).chain(owned);
        all.filter(move |(of, _)| *of != tenant && self.is_device(*of, id))
            .map(|(_, name)| name)
    }

    /// Tenants that have a device of this id; the common one first.
    pub fn tenants_of_device(&self, id: &str) -> impl Iterator<Item = u32> {
        let all = std::iter::once(0).chain(self.tenants.by_name.values().copied());
        all.filter(move |tenant| self.is_device(*tenant, id))
    }

    /// The tenant in which a user is; none: there is no such user.
    pub fn tenant_of(&self, user: &str) -> Option<u32> {
        self.users.get(user).map(|user| user.tenant)
    }

    /// Bans that these tables have and older ones had not, as they stand here.
    pub fn new_bans(&self, older: &Self) -> Vec<Ban> {
        let new = self.bans.all().filter(|ban| !older.bans.has(&ban.id));
        new.cloned().collect()
    }

    /// The ban that refuses a client, by its names and address.
    pub fn ban_of(
        &self,
        tenant: u32,
        client_id: &str,
        user_name: &str,
        address: Option<IpAddr>,
        now_ms: i64,
    ) -> Option<&Ban> {
        self.bans
            .find(tenant, client_id, user_name, address, now_ms)
    }

    fn device(&self, tenant: u32, id: &str) -> Option<&Arc<DeviceEntry>> {
        self.devices.get(&tenant)?.get(id)
    }

    fn user(&self, tenant: u32, name: &str) -> Option<&Arc<UserEntry>> {
        self.users.get(name).filter(|user| user.tenant == tenant)
    }

    /// The user or device that has this name in a tenant; none: there is none.
    pub fn account_kind(&self, tenant: u32, name: &str) -> Option<AccountKind> {
        if self.device(tenant, name).is_some() {
            return Some(AccountKind::Device);
        }
        self.user(tenant, name).map(|_| AccountKind::User)
    }

    /// Where the rules of this user or device are; none: the name is unknown.
    pub fn rules_place(&self, tenant: u32, name: &str) -> Option<RulesPlace> {
        let number = match self.device(tenant, name) {
            Some(device) => device.rules,
            None => self.user(tenant, name)?.rules,
        };
        let (owner, name) = match self.sets.by(number) {
            By::Role(role) => (Owner::Role, role),
            By::Device(device_type, _) => (Owner::DeviceType, device_type),
        };
        Some(RulesPlace {
            owner,
            name: name.clone(),
        })
    }

    /// A group that a device is not in, and whose rules would permit this; none: there is none, or
    /// it is no device.
    pub fn group_that_permits(
        &self,
        tenant: u32,
        device: &str,
        question: (Names<'_>, Actions, &str),
    ) -> Option<GroupName> {
        let device = self.device(tenant, device)?;
        let is_of_its_team =
            |team: &str| team.is_empty() || self.tokens.number_of(team) == device.team;
        self.sets
            .group_that_permits(device.rules, is_of_its_team, question)
    }

    /// The group of a device that has the rule with this source, such as `group hall rule 1`.
    pub fn group_of_rule(&self, tenant: u32, device: &str, source: &str) -> Option<GroupName> {
        let device = self.device(tenant, device)?;
        self.sets.group_of_rule(device.rules, source)
    }

    /// Number of the present holder of this name among all holders so far; 0: none.
    pub fn holder(&self, tenant: u32, name: &str) -> u64 {
        let number = match self.device(tenant, name) {
            Some(device) => Some(device.created_ms),
            None => self.user(tenant, name).map(|user| user.created_ms),
        };
        number.map_or(0, i64::unsigned_abs)
    }

    /// Id of the device whose number this name is. None: it is no number of a device of the
    /// tenant, or a name in itself, which takes precedence.
    pub fn device_numbered(&self, tenant: u32, name: &str) -> Option<&Arc<str>> {
        // Without zeros in front, as numbers are written.
        if !is_digits(name) || name.starts_with('0') {
            return None;
        }
        let (of, id) = self.numbers.get(name.parse().ok()?)?;
        let is_name =
            self.account_kind(tenant, name).is_some() || self.deleted.find(tenant, name).is_some();
        (*of == tenant && !is_name).then_some(id)
    }

    /// A device of a tenant has this id.
    pub fn is_device(&self, tenant: u32, id: &str) -> bool {
        self.device(tenant, id).is_some()
    }

    /// Rules of a user or device; none: the name is unknown. One that is not accepted has no
    /// rights.
    pub fn rules_of(&self, tenant: u32, name: &str) -> Option<&Arc<Rules>> {
        if let Some(device) = self.device(tenant, name) {
            let is_active = device.status == Status::Active;
            return Some(if is_active {
                self.sets.get(device.rules)
            } else {
                &self.closed
            });
        }
        let user = self.user(tenant, name)?;
        Some(if user.enabled {
            self.sets.get(user.rules)
        } else {
            &self.closed
        })
    }

    /// Whether a password is a user's; none: there is no such user. Takes as long as the hash does.
    /// The answer is a hash that ought to be renewed, if it is weak.
    ///
    /// # Errors
    /// It is not, or the user is not accepted.
    pub fn check_user(
        &self,
        tenant: u32,
        name: &str,
        client_id: &str,
        password: &[u8],
    ) -> Option<Result<Option<&PasswordHash>, Refusal>> {
        let user = self.user(tenant, name)?;
        if !user.hash.is_of(password) {
            let cause = RefusalCause::WrongPassword(PasswordSource::Registry);
            let detail = "wrong password, according to the registry";
            return Some(Err(Refusal::operators_only(cause, detail)));
        }
        Some(
            self.admits(tenant, name, client_id)
                .map(|()| user.hash.is_weak().then_some(&user.hash)),
        )
    }

    /// There are users, whose passwords take time.
    pub fn has_users(&self) -> bool {
        self.stranger.is_some()
    }

    /// Takes as long as a wrong password of a user does.
    pub fn pretend(&self, password: &[u8]) {
        if let Some(stranger) = &self.stranger {
            let _ = stranger.is_of(password);
        }
    }

    /// A secret of these tables for something else, the same after each start.
    pub fn key_for(&self, what: &[u8]) -> [u8; 32] {
        self.key.digest(what)
    }

    /// Bytes of memory that it takes, approximately.
    pub fn memory_bytes(&self) -> usize {
        let devices: usize = self.devices.values().map(SharedMap::len).sum();
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        self.users.len() * USER_BYTES
            + devices * DEVICE_BYTES
            + self.deleted.len() * NAME_BYTES
            + self.bans.len() * BAN_BYTES
            + self.tokens.memory_bytes()
            + uses.capacity() * size_of::<(Digest, (i64, i64))>()
    }

    /// All users and devices of a tenant, in no order.
    pub fn names(&self, tenant: u32) -> impl Iterator<Item = &str> {
        let users = self
            .users
            .iter()
            .filter(move |(_, user)| user.tenant == tenant);
        let devices = self.devices.get(&tenant);
        let devices = devices.into_iter().flat_map(SharedMap::iter);
        users
            .map(|(name, _)| &**name)
            .chain(devices.map(|(id, _)| &**id))
    }

    /// The hash of a user's password, as text.
    pub fn hash_of(&self, name: &str) -> Option<String> {
        self.users.get(name).map(|user| user.hash.text())
    }

    /// Returns what is kept of a user's password for SCRAM-SHA-256; none: there is no such user, or
    /// it is a device, which has no password.
    ///
    /// # Errors
    /// The user is not accepted.
    pub fn scram(
        &self,
        tenant: u32,
        name: &str,
        client_id: &str,
    ) -> Option<Result<Option<&Verifier>, Refusal>> {
        let user = self.user(tenant, name)?;
        let admitted = self.admits(tenant, name, client_id);
        Some(admitted.map(|()| user.scram.as_deref()))
    }

    /// Whether a secret is a device's, and which Client Identifier it has; the answer is when the
    /// credential ends, 0 for never. Quick.
    ///
    /// # Errors
    /// It is not, or the device is not accepted.
    pub fn check_device(
        &self,
        tenant: u32,
        id: &str,
        client_id: &str,
        secret: &[u8],
        now_ms: i64,
    ) -> Option<Result<i64, Refusal>> {
        let digest = self.key.digest(secret);
        let shown = (CredentialKind::Secret, &digest);
        let checked = self.check_credential(tenant, id, client_id, shown, now_ms);
        match checked {
            Some(Ok(_)) if secret.is_empty() => {
                let cause = RefusalCause::WrongSecret;
                Some(Err(
                    Refusal::operators_only(cause, "the secret is empty").about(id)
                ))
            }
            Some(Err(why)) if why.cause == RefusalCause::WrongSecret => {
                let (bare, around) = without_surroundings(secret);
                // Looked up for every secret, so that the time of the answer shows nothing.
                let digest = self.key.digest(bare);
                let shown = (CredentialKind::Secret, &digest);
                let without = self.check_credential(tenant, id, client_id, shown, now_ms);
                let is_right = matches!(without, Some(Ok(_))) && !bare.is_empty();
                Some(Err(match is_right {
                    true => {
                        let detail = format!(
                            "the secret for device {id} is right but for the {around} around it"
                        );
                        Refusal::operators_only(RefusalCause::SecretWithBlanks, detail).about(id)
                    }
                    false => why,
                }))
            }
            checked => checked,
        }
    }

    /// As [`Snapshot::check_device`], by the SHA-256 fingerprint of a certificate.
    ///
    /// # Errors
    /// It is not the device's, or the device is not accepted.
    pub fn check_certificate(
        &self,
        tenant: u32,
        id: &str,
        client_id: &str,
        fingerprint: &[u8; 32],
        now_ms: i64,
    ) -> Option<Result<i64, Refusal>> {
        let shown = (CredentialKind::Certificate, fingerprint);
        self.check_credential(tenant, id, client_id, shown, now_ms)
    }

    /// Certificates of the device are registered, or were: only such a one is its own.
    pub fn has_certificates(&self, tenant: u32, id: &str) -> bool {
        let is_one = |credential: &Credential| credential.kind == CredentialKind::Certificate;
        let device = self.device(tenant, id);
        device.is_some_and(|device| device.credentials.iter().any(is_one))
    }

    fn check_credential(
        &self,
        tenant: u32,
        id: &str,
        client_id: &str,
        (kind, digest): (CredentialKind, &Digest),
        now_ms: i64,
    ) -> Option<Result<i64, Refusal>> {
        let device = self.device(tenant, id)?;
        let mut found = None;
        for credential in &device.credentials {
            if is_same(&credential.digest, digest) && credential.kind == kind {
                found = Some(credential);
            }
        }
        let is_certificate = kind == CredentialKind::Certificate;
        let Some(credential) = found else {
            let refusal = match is_certificate {
                true => {
                    let detail = format!("its certificate is not registered for the device {id}");
                    Refusal::operators_only(RefusalCause::CertificateNotRegistered, detail)
                }
                false => {
                    let detail = format!("wrong credential for device {id}");
                    Refusal::operators_only(RefusalCause::WrongSecret, detail)
                }
            };
            return Some(Err(refusal.about(id)));
        };
        if !credential.is_good(now_ms) {
            let detail = format!("this credential of the device {id} has expired, or is revoked");
            let cause = match is_certificate {
                true => RefusalCause::CertificateNotRegistered,
                false => RefusalCause::CredentialExpired,
            };
            return Some(Err(Refusal::operators_only(cause, detail).about(id)));
        }
        let admitted = self.admits(tenant, id, client_id);
        if admitted.is_ok() {
            let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
            let used = uses.entry(credential.digest).or_default();
            *used = (now_ms, used.1 + 1);
        }
        Some(admitted.map(|()| credential.expires_ms))
    }

    /// This secret of a device has been used for the first time, as far as the tables know. Until
    /// that is written, a repeated request gets another secret.
    pub fn is_first_use(&self, tenant: u32, id: &str, secret: &[u8]) -> bool {
        let credential = self.secret_of(tenant, id, secret);
        credential.is_some_and(|credential| !credential.used.0.load(Ordering::Relaxed))
    }

    /// Whether this is a valid secret of a device.
    pub fn is_secret_of(&self, tenant: u32, id: &str, secret: &[u8], now_ms: i64) -> bool {
        let credential = self.secret_of(tenant, id, secret);
        credential.is_some_and(|credential| credential.is_good(now_ms))
    }

    /// Marks the use of this secret as written.
    pub fn use_is_written(&self, tenant: u32, id: &str, secret: &[u8]) {
        if let Some(credential) = self.secret_of(tenant, id, secret) {
            credential.used.0.store(true, Ordering::Relaxed);
        }
    }

    fn secret_of(&self, tenant: u32, id: &str, secret: &[u8]) -> Option<&Credential> {
        let digest = self.key.digest(secret);
        let mut all = self.device(tenant, id)?.credentials.iter();
        all.find(|credential| {
            credential.kind == CredentialKind::Secret && is_same(&credential.digest, &digest)
        })
    }

    /// Takes over the uses that older snapshots of the same tables have noted.
    #[must_use]
    pub fn with_uses_of(mut self, older: &Self) -> Self {
        if self.is_of_same_tables(older) {
            self.uses = Arc::clone(&older.uses);
        }
        self
    }

    /// Uses of devices' credentials since this was last asked, for
    /// [`Registry::write_secret_uses`](crate::Registry::write_secret_uses). What the gate remembers
    /// for a while is not counted each time.
    pub fn take_uses(&self) -> Vec<CredentialUse> {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let uses = std::mem::take(&mut *uses).into_iter();
        let use_of = |(digest, (at_ms, uses)): (Digest, _)| CredentialUse {
            id: digest_text(&digest),
            at_ms,
            uses,
        };
        uses.map(use_of).collect()
    }

    /// The users and devices that were deleted and can be restored.
    #[cfg(test)]
    pub(crate) fn all_deleted(&self) -> &Deleted {
        &self.deleted
    }

    /// The user or device that had this name in a tenant, was deleted, and can be restored.
    pub fn deleted(&self, tenant: u32, name: &str) -> Option<AccountKind> {
        self.deleted.find(tenant, name)
    }

    /// Whether a client that has proved a name, or the key of a team token, is accepted, with this
    /// Client Identifier.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, tenant: u32, name: &str, client_id: &str) -> Result<(), Refusal> {
        let refused = |cause, detail: String, about: &str| {
            Err(Refusal::operators_only(cause, detail).about(about))
        };
        if let Some(device) = self.device(tenant, name) {
            let (cause, what) = match device.status {
                Status::Active if client_id == name => return Ok(()),
                Status::Active if self.sets.client_ids(device.rules) != ClientIds::Id => {
                    return self.expect_of_no_device(tenant, client_id);
                }
                Status::Active => {
                    let assigned = match client_id.starts_with(ASSIGNED) {
                        true => ", which the node has assigned, since the client sent an empty one",
                        false => "",
                    };
                    let detail = format!(
                        "the Client Identifier of the device {name} must be {name}, since its \
                         topics are named after it; it is {client_id:?}{assigned}"
                    );
                    return refused(RefusalCause::NotItsClientId, detail, name);
                }
                Status::Inactive => (RefusalCause::DeviceInactive, "is inactive"),
                Status::Maintenance => (
                    RefusalCause::DeviceMaintenance,
                    "has the status maintenance",
                ),
            };
            return refused(cause, format!("device {name} {what}"), name);
        }
        if let Some(admitted) = self.admits_token(tenant, name, client_id) {
            return admitted;
        }
        self.expect_of_no_device(tenant, client_id)?;
        if self.user(tenant, name).is_some_and(|user| !user.enabled) {
            let detail = format!("user {name} is disabled");
            return refused(RefusalCause::UserDisabled, detail, name);
        }
        if let Some(known) = self.deleted.find(tenant, name) {
            let detail = format!("{} {name} was deleted", known.word());
            return refused(RefusalCause::Deleted, detail, name);
        }
        if tenant == COMMON_TENANT
            && let Some((_, team)) = name.rsplit_once('@')
            && self.tenants.deleted.contains(team)
        {
            let detail = format!("{name} is of the team {team}, which was deleted");
            return refused(RefusalCause::TeamDeleted, detail, team);
        }
        Ok(())
    }

    /// Else the first client would keep the device out.
    fn expect_of_no_device(&self, tenant: u32, client_id: &str) -> Result<(), Refusal> {
        if self.device(tenant, client_id).is_none() {
            return Ok(());
        }
        let detail = format!("the Client Identifier {client_id} is the device's of that id alone");
        Err(Refusal::operators_only(RefusalCause::ClientIdOfDevice, detail).about(client_id))
    }

    /// Sessions that a device may have, if it may use any Client Identifier; 0: it may not.
    pub fn sessions_max(&self, tenant: u32, id: &str) -> u32 {
        let device = self.device(tenant, id);
        let client_ids = device.map(|device| self.sets.client_ids(device.rules));
        match client_ids {
            Some(ClientIds::Any { sessions_max }) => sessions_max,
            Some(ClientIds::Id) | None => 0,
        }
    }

    /// The mark of a device's secret in
    /// [`RevokedClients::Credential`](martlet_permission::RevokedClients::Credential).
    pub fn mark_of_secret(&self, secret: &[u8]) -> CredentialMark {
        CredentialMark::of_digest(&self.key.digest(secret))
    }

    /// Identifies the tables. A copy of them has it too.
    pub fn identity(&self) -> String {
        self.key.identity()
    }

    /// Read from the same tables, or from a copy of them.
    pub fn is_of_same_tables(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}
