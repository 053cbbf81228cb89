//! The tables as they were when they were read: who is let in and what they may do, answered from
//! memory. Rules are shared by all who have the role or the type.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::TryStreamExt as _;
use martlet_access::hash::PasswordHash;
use martlet_access::scram::Verifier;
use martlet_access::{RuleLine, administrator_rules, default_rules, device_rules};
use martlet_broker::{Actions, Rule, Rules};
use sqlx::{AnyConnection, Row as _};

use crate::bans::Bans;
use crate::changes::{Changes, Seen, changes_since, seen};
use crate::credentials::{CredentialKind, CredentialRow, CredentialUse, rows_of};
use crate::database::{file_of, is_in_use};
use crate::devices::status_of;
use crate::rule_sets::{
    ADMINISTRATOR_ROLE, DEVICE_TYPE, Owner, RuleSet, RulesPlace, USER_ROLE, read_rule_sets,
};
use crate::secret::{Digest, DigestKey, digest_text, is_same, read_digest};
use crate::shared_map::SharedMap;
use crate::sql::Fault;
use crate::users::{UserRow, user_row, user_rows};
use crate::{Ban, Location, Registry, RegistryError, Status, now_ms};

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// These are not their credentials.
    Wrong(String),
    /// They are, or need not be looked at, and the client is not let in all the same.
    NotNow(String),
}

/// Whose name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// A user's.
    User,
    /// A device's.
    Device,
}

/// All of what decides.
#[derive(Debug)]
pub struct Snapshot {
    location: Location,
    origin: Origin,
    seen: Seen,
    read_ms: i64,
    /// When the first credential ends that was good then.
    changes_ms: i64,
    in_use: bool,
    key: DigestKey,
    /// By role, for users to come.
    roles: Arc<RuleSets>,
    sets: Arc<DeviceSets>,
    users: SharedMap<Arc<str>, Arc<UserEntry>>,
    /// By tenant and id.
    devices: Devices,
    /// Of teams that own one.
    tenants: Arc<Tenants>,
    bans: Bans,
    /// What nobody has who is not let in.
    closed: Arc<Rules>,
    /// Who is not known takes as long as who is.
    stranger: Option<PasswordHash>,
    uses: Arc<Uses>,
}

/// Credentials of devices that were used since it was last asked: when the last time was, and how
/// often.
type Uses = Mutex<HashMap<Digest, (i64, i64)>>;

type RuleSets = HashMap<String, Arc<Rules>>;

type Combined = HashMap<(String, Vec<usize>), Arc<Rules>>;

type Devices = SharedMap<u32, SharedMap<Arc<str>, Arc<DeviceEntry>>>;

/// Which database it was that was read: one that takes its place is another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    /// Device and inode of the file; none: it was not there, or it is none.
    file: Option<(u64, u64)>,
    /// What was made up with the tables; empty where there is a file.
    mark: String,
}

/// What devices may do, by type and groups. Devices of the same share it.
#[derive(Debug, Default)]
struct DeviceSets {
    types: RuleSets,
    /// Those that have rules, in the order of their names.
    groups: Vec<(String, Vec<Rule>)>,
    /// By id, where they stand there.
    places: HashMap<String, usize>,
    /// By type and the places of groups, as far as some device has needed it.
    combined: Mutex<Combined>,
}

/// Tenants of teams.
#[derive(Debug, Default)]
struct Tenants {
    by_name: HashMap<String, u32>,
    by_id: HashMap<String, u32>,
}

/// What has become of the tables since they were read.
#[derive(Debug)]
pub enum Renewed {
    /// They are as they were.
    Same,
    /// Something is different.
    Changed(Changed),
    /// They have to be read as a whole.
    Everything,
}

/// What is different in tables that were renewed.
#[derive(Debug)]
pub struct Changed {
    /// As they are now.
    pub tables: Arc<Snapshot>,
    /// These users and devices are other ones, and nobody else.
    pub names: Vec<Arc<str>>,
    /// Bans that were not there before.
    pub bans: Vec<Ban>,
}

#[derive(Debug)]
struct UserEntry {
    created_ms: i64,
    hash: PasswordHash,
    password_set_ms: i64,
    scram: Option<Box<Verifier>>,
    enabled: bool,
    tenant: u32,
    rules: Arc<Rules>,
}

#[derive(Debug)]
struct DeviceEntry {
    created_ms: i64,
    rules: Arc<Rules>,
    credentials: Box<[Credential]>,
    status: Status,
}

#[derive(Clone, Debug)]
struct Credential {
    kind: CredentialKind,
    digest: Digest,
    /// 0 is never.
    expires_ms: i64,
}

impl Credential {
    fn is_good(&self, now_ms: i64) -> bool {
        self.expires_ms == 0 || self.expires_ms > now_ms
    }
}

impl Snapshot {
    /// Reads the tables at a place; none if it is a file that is not there.
    ///
    /// # Errors
    /// They cannot be read, or mean nothing in part.
    pub async fn load(location: impl Into<Location>) -> Result<Option<Self>, RegistryError> {
        let location = location.into();
        if let Some(path) = location.file()
            && !crate::database::is_there(path)?
        {
            return Ok(None);
        }
        let mut registry = Registry::open(location).await?;
        let snapshot = Self::read(&mut registry).await?;
        registry.close().await?;
        Ok(Some(snapshot))
    }

    /// Reads all tables as they are at one moment.
    ///
    /// # Errors
    /// They cannot be read, or mean nothing in part.
    pub async fn read(registry: &mut Registry) -> Result<Self, RegistryError> {
        let key = registry.digest_key().await?;
        let (location, place) = (registry.location().clone(), registry.place().to_owned());
        // Before it is read: one that takes its place meanwhile is another.
        let file = location.file().and_then(file_of);
        let mut all = registry.begin_reading().await?;
        let read = Self::read_tables(&mut all, location, &place, key, file).await;
        let ended = all.rollback().await.map_err(Fault::Sql);
        let read = read.and_then(|read| ended.map(|()| read));
        read.map_err(|fault| fault.at(&place))
    }

    /// Reads what has changed, which takes as long as that is much.
    ///
    /// # Errors
    /// The tables cannot be read, or mean nothing in part.
    pub async fn renew(&self) -> Result<Renewed, RegistryError> {
        if self.is_replaced() {
            return Ok(Renewed::Everything);
        }
        let mut registry = Registry::open(&self.location).await?;
        let renewed = self.renew_from(&mut registry).await;
        registry.close().await?;
        renewed
    }

    /// Another file has come to the place of the one that was read.
    fn is_replaced(&self) -> bool {
        let path = self.location.file();
        path.is_some_and(|path| self.origin.file.is_none() || self.origin.file != file_of(path))
    }

    /// As [`Snapshot::renew`], by a registry that is open already at the same place.
    ///
    /// # Errors
    /// The tables cannot be read, or mean nothing in part.
    pub async fn renew_from(&self, registry: &mut Registry) -> Result<Renewed, RegistryError> {
        if self.is_replaced() {
            return Ok(Renewed::Everything);
        }
        let place = registry.place().to_owned();
        let mut all = registry.begin_reading().await?;
        let renewed = self.read_changes(&mut all, &place).await;
        let ended = all.rollback().await.map_err(Fault::Sql);
        let renewed = renewed.and_then(|renewed| ended.map(|()| renewed));
        renewed.map_err(|fault| fault.at(&place))
    }

    async fn read_changes(&self, on: &mut AnyConnection, place: &str) -> Result<Renewed, Fault> {
        if self.location.file().is_none() && mark_of(on).await? != self.origin.mark {
            return Ok(Renewed::Everything);
        }
        let Changes::Of {
            users: changed_users,
            devices: changed_devices,
            bans: changed_bans,
            seen,
        } = changes_since(on, &self.seen).await?
        else {
            return Ok(Renewed::Everything);
        };
        if changed_users.is_empty() && changed_devices.is_empty() && changed_bans.is_empty() {
            return Ok(Renewed::Same);
        }
        let (mut users, mut devices) = (self.users.clone(), self.devices.clone());
        let mut bans = self.bans.clone();
        let mut changes_ms = self.changes_ms;
        let read_ms = now_ms();
        let mut names = Vec::new();
        for name in changed_users {
            let name: Arc<str> = name.into();
            match user_row(on, &name).await? {
                Some(row) => users.insert(
                    Arc::clone(&name),
                    Arc::new(user_entry(row, &self.roles, place)?),
                ),
                None => users.remove(&name),
            };
            names.push(name);
        }
        for (tenant, id) in changed_devices {
            let id: Arc<str> = id.into();
            let mut of_tenant = devices.remove(&tenant).unwrap_or_default();
            match device_row(on, tenant, &id).await? {
                None => of_tenant.remove(&id),
                Some((row, groups)) => {
                    let mut entry = device_entry(&row, groups, &self.sets, place)?;
                    let credentials = rows_of(on, row.number).await?;
                    let credentials = credentials.iter();
                    let credentials = credentials.map(|held| credential(held, &id, place));
                    entry.credentials = credentials.collect::<Result<_, _>>()?;
                    let ends = entry.credentials.iter().map(|held| held.expires_ms);
                    changes_ms = ends
                        .filter(|ends| *ends > read_ms)
                        .fold(changes_ms, i64::min);
                    of_tenant.insert(Arc::clone(&id), Arc::new(entry))
                }
            };
            devices.insert(tenant, of_tenant);
            names.push(id);
        }
        let mut new_bans = Vec::new();
        for id in changed_bans {
            new_bans.extend(bans.read_one(on, &id).await?);
        }
        let newest = users.values().next().map(|user| &user.hash);
        let stranger = newest.map(|newest| self.stranger.as_ref().unwrap_or(newest).clone());
        let snapshot = Self {
            location: self.location.clone(),
            origin: self.origin.clone(),
            seen,
            read_ms,
            changes_ms,
            in_use: self.in_use,
            key: self.key.clone(),
            roles: Arc::clone(&self.roles),
            sets: Arc::clone(&self.sets),
            users,
            devices,
            tenants: Arc::clone(&self.tenants),
            bans,
            closed: Arc::clone(&self.closed),
            stranger,
            uses: Arc::clone(&self.uses),
        };
        Ok(Renewed::Changed(Changed {
            tables: Arc::new(snapshot),
            names,
            bans: new_bans,
        }))
    }

    async fn read_tables(
        on: &mut AnyConnection,
        location: Location,
        place: &str,
        key: DigestKey,
        file: Option<(u64, u64)>,
    ) -> Result<Self, Fault> {
        let mark = match location.file() {
            Some(_) => String::new(),
            None => mark_of(on).await?,
        };
        let seen = seen(on).await?;
        let roles = read_rule_sets(on, Owner::Role, place).await?;
        let roles = compiled(Owner::Role, roles, place)?;
        let sets = DeviceSets::read(on, place).await?;
        let mut users = SharedMap::default();
        let mut stranger = None;
        for row in user_rows(on).await? {
            let name: Arc<str> = row.user.name.as_str().into();
            let entry = user_entry(row, &roles, place)?;
            stranger.get_or_insert_with(|| entry.hash.clone());
            users.insert(name, Arc::new(entry));
        }
        let read_ms = now_ms();
        let mut groups = read_places(on, &sets, place).await?;
        let mut numbered = HashMap::new();
        let take = |row: DeviceRow| {
            let groups = groups.remove(&row.number).unwrap_or_default();
            let entry = device_entry(&row, groups, &sets, place)?;
            numbered.insert(row.number, (row.tenant, row.id, entry));
            Ok(())
        };
        each_device(on, place, take).await?;
        let mut changes_ms = i64::MAX;
        let take = |row: CredentialRow| {
            // Nearly all have one.
            if let Some((_, id, device)) = numbered.get_mut(&row.device) {
                let held = credential(&row, id, place)?;
                if held.expires_ms > read_ms {
                    changes_ms = changes_ms.min(held.expires_ms);
                }
                let mut all = std::mem::take(&mut device.credentials).into_vec();
                all.reserve_exact(1);
                all.push(held);
                device.credentials = all.into();
            }
            Ok(())
        };
        each_credential(on, place, take).await?;
        let mut by_tenant: HashMap<u32, SharedMap<Arc<str>, Arc<DeviceEntry>>> = HashMap::new();
        for (tenant, id, entry) in numbered.into_values() {
            let of_tenant = by_tenant.entry(tenant).or_default();
            of_tenant.insert(Arc::from(id), Arc::new(entry));
        }
        let mut devices = Devices::default();
        for (tenant, of_tenant) in by_tenant {
            devices.insert(tenant, of_tenant);
        }
        Ok(Self {
            in_use: is_in_use(on).await?,
            tenants: Arc::new(read_tenants(on).await?),
            bans: Bans::read(on).await?,
            origin: Origin { file, mark },
            location,
            seen,
            key,
            read_ms,
            changes_ms,
            roles: Arc::new(roles),
            sets: Arc::new(sets),
            users,
            devices,
            closed: Arc::new(Rules::closed()),
            stranger,
            uses: Arc::default(),
        })
    }

    /// There is, or was, a user or a device.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }

    /// What was read.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// When what it says is not so any more, by itself: a credential ends. Milliseconds since the
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

    /// All tenants but the common one.
    pub fn tenants(&self) -> impl Iterator<Item = u32> {
        self.tenants.by_name.values().copied()
    }

    /// The team that owns a tenant; none: nobody, as the common one.
    pub fn team_of(&self, tenant: u32) -> Option<&str> {
        let mut all = self.tenants.by_name.iter();
        let found = all.find(|(_, own)| **own == tenant);
        found.map(|(team, _)| &**team)
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

    /// The tenant in which a user is; none: there is no such user.
    pub fn tenant_of(&self, user: &str) -> Option<u32> {
        self.users.get(user).map(|user| user.tenant)
    }

    /// Bans that these tables have and older ones had not, as they stand here.
    pub fn new_bans(&self, older: &Self) -> Vec<Ban> {
        let new = self.bans.all().filter(|ban| !older.bans.has(&ban.id));
        new.cloned().collect()
    }

    /// The ban that keeps a client out, by what it says of itself and where it comes from.
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

    /// Whose name this is in a tenant; none: nobody's.
    pub fn known(&self, tenant: u32, name: &str) -> Option<Known> {
        if self.device(tenant, name).is_some() {
            return Some(Known::Device);
        }
        self.user(tenant, name).map(|_| Known::User)
    }

    /// Where the rules of this user or device stand; none: nobody has that name.
    pub fn rules_place(&self, tenant: u32, name: &str) -> Option<RulesPlace> {
        if let Some(device) = self.device(tenant, name) {
            let name = self.sets.type_of(&device.rules)?;
            let owner = Owner::DeviceType;
            return Some(RulesPlace { owner, name });
        }
        let user = self.user(tenant, name)?;
        let mut roles = self.roles.iter();
        let (name, _) = roles.find(|(_, rules)| Arc::ptr_eq(rules, &user.rules))?;
        Some(RulesPlace {
            owner: Owner::Role,
            name: name.clone(),
        })
    }

    /// Which of those who had this name one after the other it is of now; 0: nobody.
    pub fn holder(&self, tenant: u32, name: &str) -> u64 {
        let number = match self.device(tenant, name) {
            Some(device) => Some(device.created_ms),
            None => self.user(tenant, name).map(|user| user.created_ms),
        };
        number.map_or(0, i64::unsigned_abs)
    }

    /// A device of a tenant has this id.
    pub fn is_device(&self, tenant: u32, id: &str) -> bool {
        self.device(tenant, id).is_some()
    }

    /// What somebody may do; none: nobody has that name. Who is not let in may do nothing.
    pub fn rules_of(&self, tenant: u32, name: &str) -> Option<&Arc<Rules>> {
        if let Some(device) = self.device(tenant, name) {
            let is_active = device.status == Status::Active;
            return Some(if is_active {
                &device.rules
            } else {
                &self.closed
            });
        }
        let user = self.user(tenant, name)?;
        Some(if user.enabled {
            &user.rules
        } else {
            &self.closed
        })
    }

    /// Whether a password is a user's; none: there is no such user. Takes as long as the hash does.
    /// The answer is a hash that ought to be renewed, if it is weak.
    ///
    /// # Errors
    /// It is not, or the user is not let in.
    pub fn check_user(
        &self,
        tenant: u32,
        name: &str,
        client_id: &str,
        password: &[u8],
    ) -> Option<Result<Option<&PasswordHash>, Refusal>> {
        let user = self.user(tenant, name)?;
        if !user.hash.is_of(password) {
            let why = "the password is not that of the registry".to_owned();
            return Some(Err(Refusal::Wrong(why)));
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

    /// What is kept of a user's password for SCRAM-SHA-256; none: there is no such user, or it is a
    /// device, which has no password.
    ///
    /// # Errors
    /// The user is not let in.
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
    /// It is not, or the device is not let in.
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
        self.check_credential(tenant, id, client_id, shown, now_ms)
    }

    /// As [`Snapshot::check_device`], by the SHA-256 fingerprint of a certificate.
    ///
    /// # Errors
    /// It is not the device's, or the device is not let in.
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
        let Some(credential) = found else {
            let why = format!("that is no credential of the device {id}");
            return Some(Err(Refusal::Wrong(why)));
        };
        if !credential.is_good(now_ms) {
            return Some(Err(Refusal::NotNow(format!(
                "this credential of the device {id} has expired, or is revoked"
            ))));
        }
        let admitted = self.admits(tenant, id, client_id);
        if admitted.is_ok() {
            let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
            let used = uses.entry(credential.digest).or_default();
            *used = (now_ms, used.1 + 1);
        }
        Some(admitted.map(|()| credential.expires_ms))
    }

    /// Uses of devices' credentials since this was last asked, for
    /// [`Registry::write_secret_uses`](crate::Registry::write_secret_uses). What the gate remembers
    /// for a while is not counted each time.
    pub fn take_uses(&self) -> Vec<CredentialUse> {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let uses = std::mem::take(&mut *uses).into_iter();
        let told = |(digest, (at_ms, uses)): (Digest, _)| CredentialUse {
            id: digest_text(&digest),
            at_ms,
            uses,
        };
        uses.map(told).collect()
    }

    /// Whether somebody who has proved a name is let in, by this Client Identifier.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, tenant: u32, name: &str, client_id: &str) -> Result<(), Refusal> {
        if let Some(device) = self.device(tenant, name) {
            if device.status != Status::Active {
                return Err(Refusal::NotNow(format!(
                    "device {name} is {}",
                    device.status
                )));
            }
            if client_id != name {
                return Err(Refusal::NotNow(format!(
                    "the Client Identifier of the device {name} must be {name}, which its topics \
                     go by; it is {client_id:?}"
                )));
            }
        } else if self.device(tenant, client_id).is_some() {
            // Else whoever comes first keeps the device out.
            return Err(Refusal::NotNow(format!(
                "the Client Identifier {client_id} is the device's of that id alone"
            )));
        } else if self.user(tenant, name).is_some_and(|user| !user.enabled) {
            return Err(Refusal::NotNow(format!("user {name} is disabled")));
        }
        Ok(())
    }

    /// Tells the tables from all others: a copy of them has it too.
    pub fn identity(&self) -> String {
        self.key.identity()
    }

    /// Read from the same tables, or from a copy of them.
    pub fn is_of_same_tables(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    /// Who may have been let in by these tables and would not be by newer ones, by what they proved
    /// then; of one tenant.
    pub fn no_longer_valid(&self, tenant: u32, newer: &Self) -> Vec<&str> {
        let is_gone = |name: &&str| self.is_gone(tenant, newer, name);
        self.names(tenant).filter(is_gone).collect()
    }

    /// Whether that is so of this user or device.
    pub fn is_gone(&self, tenant: u32, newer: &Self, name: &str) -> bool {
        self.is_user_gone(tenant, newer, name) || self.is_device_gone(tenant, newer, name)
    }

    /// Devices that these tables have and newer ones have not, by tenant and id; of these names
    /// alone, if any are given. One that was added anew is another.
    pub fn devices_gone(&self, newer: &Self, of: Option<&[Arc<str>]>) -> Vec<(u32, Arc<str>)> {
        let tenants = self.tenants().chain([crate::COMMON_TENANT]);
        let mut gone = Vec::new();
        for tenant in tenants {
            let is_gone = |id: &&Arc<str>| {
                self.device(tenant, id).is_some_and(|old| {
                    let newer = newer.device(tenant, id);
                    newer.is_none_or(|newer| newer.created_ms != old.created_ms)
                })
            };
            let found: Vec<_> = match (of, self.devices.get(&tenant)) {
                (Some(names), _) => names.iter().filter(is_gone).cloned().collect(),
                (None, Some(all)) => all
                    .iter()
                    .map(|(id, _)| id)
                    .filter(is_gone)
                    .cloned()
                    .collect(),
                (None, None) => Vec::new(),
            };
            gone.extend(found.into_iter().map(|id| (tenant, id)));
        }
        gone
    }

    /// The same of users, by name.
    pub fn users_gone(&self, newer: &Self, of: Option<&[Arc<str>]>) -> Vec<(u32, Arc<str>)> {
        let is_gone = |name: &Arc<str>| {
            let old = self.users.get(name)?;
            let now = newer.users.get(name);
            let is_there = now.is_some_and(|now| now.created_ms == old.created_ms);
            (!is_there).then(|| (old.tenant, Arc::clone(name)))
        };
        match of {
            Some(names) => names.iter().filter_map(is_gone).collect(),
            None => self
                .users
                .iter()
                .filter_map(|(name, _)| is_gone(name))
                .collect(),
        }
    }

    fn is_user_gone(&self, tenant: u32, newer: &Self, name: &str) -> bool {
        let Some(old) = self.user(tenant, name) else {
            return false;
        };
        let is_good = |new: &Arc<UserEntry>| {
            Arc::ptr_eq(old, new) || new.enabled && new.password_set_ms == old.password_set_ms
        };
        old.enabled && !newer.user(tenant, name).is_some_and(is_good)
    }

    fn is_device_gone(&self, tenant: u32, newer: &Self, id: &str) -> bool {
        let Some(old) = self.device(tenant, id) else {
            return false;
        };
        let is_good = |new: &Arc<DeviceEntry>| {
            let has = |credential: &Credential| {
                let mut all = new.credentials.iter();
                all.any(|new| new.digest == credential.digest && new.is_good(newer.read_ms))
            };
            let mut before = old.credentials.iter();
            new.status == Status::Active && before.all(|old| !old.is_good(self.read_ms) || has(old))
        };
        old.status == Status::Active && !newer.device(tenant, id).is_some_and(is_good)
    }
}

fn damaged(place: &str, what: String) -> RegistryError {
    RegistryError::Damaged {
        place: place.to_owned(),
        what,
    }
}

/// What was made up with the tables of PostgreSQL.
async fn mark_of(on: &mut AnyConnection) -> Result<String, Fault> {
    let sql = "SELECT value FROM settings WHERE name = 'database'";
    let found = sqlx::query_scalar::<_, String>(sql).fetch_optional(on);
    Ok(found.await?.unwrap_or_default())
}

async fn read_tenants(on: &mut AnyConnection) -> Result<Tenants, Fault> {
    let sql = "SELECT id, name, tenant FROM teams WHERE tenant > 0 AND deleted_ms = 0";
    let mut tenants = Tenants::default();
    for row in sqlx::query(sql).fetch_all(on).await? {
        let tenant: i64 = row.try_get("tenant")?;
        let tenant = u32::try_from(tenant).unwrap_or(u32::MAX);
        tenants.by_name.insert(row.try_get("name")?, tenant);
        tenants.by_id.insert(row.try_get("id")?, tenant);
    }
    Ok(tenants)
}

impl DeviceSets {
    async fn read(on: &mut AnyConnection, place: &str) -> Result<Self, Fault> {
        let types = read_rule_sets(on, Owner::DeviceType, place).await?;
        let rules = read_rule_sets(on, Owner::Group, place).await?;
        let mut rules: HashMap<String, Vec<RuleLine>> = rules
            .into_iter()
            .filter(|set| !set.rules.is_empty())
            .map(|set| (set.name, set.rules))
            .collect();
        let mut sets = Self {
            types: compiled(Owner::DeviceType, types, place)?,
            ..Self::default()
        };
        let sql = "SELECT id, name FROM device_groups ORDER BY name, id";
        for row in sqlx::query(sql).fetch_all(on).await? {
            let (id, name): (String, String) = (row.try_get("id")?, row.try_get("name")?);
            if let Some(lines) = rules.remove(&id) {
                let source = |number| format!("group {name} rule {number}");
                sets.places.insert(id.clone(), sets.groups.len());
                sets.groups.push((id, rules_of_lines(&lines, source)));
            }
        }
        Ok(sets)
    }

    /// The type of who has these rules.
    fn type_of(&self, rules: &Arc<Rules>) -> Option<String> {
        let mut types = self.types.iter();
        if let Some((name, _)) = types.find(|(_, of_type)| Arc::ptr_eq(of_type, rules)) {
            return Some(name.clone());
        }
        let combined = self.combined.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = combined.iter();
        let found = all.find(|(_, combined)| Arc::ptr_eq(combined, rules));
        found.map(|((device_type, _), _)| device_type.clone())
    }

    /// What a device of this type and these groups may do; none: there is no such type.
    fn rules(
        &self,
        device_type: &str,
        mut groups: Vec<usize>,
        place: &str,
    ) -> Result<Option<Arc<Rules>>, RegistryError> {
        let Some(of_type) = self.types.get(device_type) else {
            return Ok(None);
        };
        if groups.is_empty() {
            return Ok(Some(Arc::clone(of_type)));
        }
        groups.sort_unstable();
        let key = (device_type.to_owned(), groups);
        let mut combined = self.combined.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = combined.get(&key) {
            return Ok(Some(Arc::clone(known)));
        }
        let mut all = of_type.rules().to_vec();
        for at in &key.1 {
            all.extend(self.groups[*at].1.iter().cloned());
        }
        let rules = Rules::compile(all, Actions::NONE)
            .map_err(|error| damaged(place, format!("device type {device_type}: {error}")))?;
        let rules = Arc::new(rules);
        combined.insert(key, Arc::clone(&rules));
        Ok(Some(rules))
    }
}

/// A device, as the gate knows it.
struct DeviceRow {
    number: i64,
    tenant: u32,
    id: String,
    device_type: String,
    status: Status,
    created_ms: i64,
}

/// A device with the ids of its groups; none: there is no such device.
async fn device_row(
    on: &mut AnyConnection,
    tenant: u32,
    id: &str,
) -> Result<Option<(DeviceRow, Vec<String>)>, Fault> {
    let sql = "SELECT number, type, status, created_ms FROM devices WHERE tenant = $1 AND id = $2 AND \
               deleted_ms = 0";
    let query = sqlx::query(sql).bind(i64::from(tenant)).bind(id.to_owned());
    let Some(row) = query.fetch_optional(&mut *on).await? else {
        return Ok(None);
    };
    let status: String = row.try_get("status")?;
    let device = DeviceRow {
        number: row.try_get("number")?,
        tenant,
        id: id.to_owned(),
        device_type: row.try_get("type")?,
        status: status_of(id, &status)?,
        created_ms: row.try_get("created_ms")?,
    };
    let sql = "SELECT group_id FROM group_devices WHERE device = $1";
    let groups = sqlx::query_scalar(sql).bind(device.number).fetch_all(on);
    Ok(Some((device, groups.await?)))
}

/// All devices as the gate knows them, by and by: there may be many.
async fn each_device(
    on: &mut AnyConnection,
    place: &str,
    mut take: impl FnMut(DeviceRow) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let sql = "SELECT string_agg(CAST(number AS TEXT) || $1 || CAST(tenant AS TEXT) || $1 || id \
               || $1 || type || $1 || status || $1 || CAST(created_ms AS TEXT), $2) AS lines \
               FROM devices WHERE deleted_ms = 0 \
               GROUP BY number % 64";
    let take = |[number, tenant, id, device_type, status, created_ms]: [&str; 6]| {
        let of = || damaged(place, format!("device {id} has no number"));
        take(DeviceRow {
            number: number.parse().map_err(|_| of())?,
            tenant: tenant.parse().map_err(|_| of())?,
            id: id.to_owned(),
            device_type: device_type.to_owned(),
            status: status_of(id, status)?,
            created_ms: created_ms.parse().map_err(|_| of())?,
        })
    };
    each_line(on, place, sql, take).await
}

/// Credentials that are not revoked, by and by.
async fn each_credential(
    on: &mut AnyConnection,
    place: &str,
    mut take: impl FnMut(CredentialRow) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let sql = "SELECT string_agg(CAST(device AS TEXT) || $1 || kind || $1 || digest || $1 || \
               CAST(CASE WHEN revoked_ms > 0 THEN 1 ELSE expires_ms END AS TEXT), $2) AS lines \
               FROM device_credentials WHERE revoked_ms = 0 OR kind = 'certificate' \
               GROUP BY device % 64";
    let take = |[device, kind, digest, expires_ms]: [&str; 4]| {
        let of = || {
            damaged(
                place,
                format!("a credential of device {device} ends at no time"),
            )
        };
        take(CredentialRow {
            device: device.parse().map_err(|_| of())?,
            kind: match kind {
                "certificate" => CredentialKind::Certificate,
                _ => CredentialKind::Secret,
            },
            digest: digest.to_owned(),
            expires_ms: expires_ms.parse().map_err(|_| of())?,
        })
    };
    each_line(on, place, sql, take).await
}

/// The ids of those groups of each device that have rules.
async fn read_places(
    on: &mut AnyConnection,
    sets: &DeviceSets,
    place: &str,
) -> Result<HashMap<i64, Vec<String>>, Fault> {
    let mut groups: HashMap<i64, Vec<String>> = HashMap::new();
    if sets.groups.is_empty() {
        return Ok(groups);
    }
    let sql = "SELECT string_agg(CAST(device AS TEXT) || $1 || group_id, $2) AS lines FROM \
               group_devices WHERE group_id IN \
               (SELECT owner FROM rules WHERE owner_kind = 'group') GROUP BY device % 64";
    let take = |[device, group]: [&str; 2]| {
        let of = || {
            damaged(
                place,
                format!("group {group} has a device without a number"),
            )
        };
        let device = device.parse().map_err(|_| of())?;
        groups.entry(device).or_default().push(group.to_owned());
        Ok(())
    };
    each_line(on, place, sql, take).await?;
    Ok(groups)
}

/// Rows as lines of text, of which the database gives many in one: a row of its own takes the
/// driver several times as long as the database needs to find it.
async fn each_line<const N: usize>(
    on: &mut AnyConnection,
    place: &str,
    sql: &'static str,
    mut take: impl FnMut([&str; N]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let query = sqlx::query(sql).bind(FIELD_END.to_string());
    let mut rows = query.bind(LINE_END.to_string()).fetch(on);
    while let Some(row) = rows.try_next().await? {
        let lines: String = row.try_get("lines")?;
        for line in lines.split(LINE_END) {
            let mut fields = [""; N];
            let mut found = line.split(FIELD_END);
            fields.fill_with(|| found.next().unwrap_or_default());
            if found.next().is_some() {
                let what = format!("a control character where none can be: {line:?}");
                return Err(damaged(place, what).into());
            }
            take(fields)?;
        }
    }
    Ok(())
}

/// Neither is in a name, an id or a digest.
const LINE_END: char = '\u{1e}';
const FIELD_END: char = '\u{1f}';

fn user_entry(row: UserRow, roles: &RuleSets, place: &str) -> Result<UserEntry, RegistryError> {
    let name = row.user.name;
    let hash = PasswordHash::parse(&row.password_hash)
        .map_err(|expected| damaged(place, format!("user {name}: expected {expected}")))?;
    let rules = roles.get(&*row.user.role);
    let rules = rules.ok_or_else(|| damaged(place, format!("user {name} has no role")))?;
    let scram = match row.scram_verifier.as_str() {
        "" => None,
        text => Some(Box::new(Verifier::parse(text).map_err(|expected| {
            damaged(place, format!("user {name}: expected {expected}"))
        })?)),
    };
    Ok(UserEntry {
        scram,
        hash,
        created_ms: row.user.created_ms,
        password_set_ms: row.password_set_ms,
        enabled: row.user.enabled,
        tenant: row.user.tenant,
        rules: Arc::clone(rules),
    })
}

/// Without its credentials.
fn device_entry(
    row: &DeviceRow,
    groups: Vec<String>,
    sets: &DeviceSets,
    place: &str,
) -> Result<DeviceEntry, RegistryError> {
    let groups = groups.iter().filter_map(|id| sets.places.get(id).copied());
    let groups = groups.collect();
    let rules = sets.rules(&row.device_type, groups, place)?;
    let rules = rules.ok_or_else(|| damaged(place, format!("device {} has no type", row.id)))?;
    Ok(DeviceEntry {
        created_ms: row.created_ms,
        rules,
        credentials: Box::default(),
        status: row.status,
    })
}

fn credential(row: &CredentialRow, id: &str, place: &str) -> Result<Credential, RegistryError> {
    let digest = read_digest(&row.digest)
        .ok_or_else(|| damaged(place, format!("a credential of {id} is none")))?;
    Ok(Credential {
        kind: row.kind,
        digest,
        expires_ms: row.expires_ms,
    })
}

/// The rules of each, by name.
fn compiled(owner: Owner, sets: Vec<RuleSet>, place: &str) -> Result<RuleSets, RegistryError> {
    let mut all = HashMap::new();
    for set in sets {
        let rules = match (owner, &*set.name) {
            (Owner::Role, ADMINISTRATOR_ROLE) => administrator_rules(),
            (Owner::Role, USER_ROLE) => default_rules(),
            (Owner::DeviceType, DEVICE_TYPE) => device_rules(),
            (_, name) => {
                let source = |number| format!("{} {name} rule {number}", owner.word());
                let rules = compile(&set.rules, source);
                Arc::new(
                    rules
                        .map_err(|why| damaged(place, format!("{} {name}: {why}", owner.word())))?,
                )
            }
        };
        all.insert(set.name, rules);
    }
    Ok(all)
}

/// What no rule permits is forbidden, subscribing too.
pub(crate) fn compile(
    lines: &[RuleLine],
    source: impl Fn(usize) -> String,
) -> Result<Rules, String> {
    Rules::compile(rules_of_lines(lines, source), Actions::NONE)
        .map_err(|error| format!("rule {}: {error}", error.rule + 1))
}

fn rules_of_lines(lines: &[RuleLine], source: impl Fn(usize) -> String) -> Vec<Rule> {
    let rules = lines.iter().enumerate().map(|(number, line)| Rule {
        actions: line.actions,
        allows: line.allows,
        filter: line.filter.clone(),
        source: source(number + 1).into(),
    });
    rules.collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use martlet_broker::Names;

    use super::*;
    use crate::wait;

    /// A directory that is gone with the test.
    pub(crate) struct Place(PathBuf);

    impl Place {
        pub(crate) fn new(name: &str) -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("martlet-registry-{}-{number} {name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(crate) fn db(&self) -> PathBuf {
            self.0.join(crate::FILE)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn rule(line: &str) -> RuleLine {
        RuleLine::parse(line).unwrap()
    }

    #[test]
    fn a_users_role_is_what_they_may_do() {
        let place = Place::new("users");
        let snapshot = wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            assert!(!Snapshot::read(&mut registry).await?.is_in_use());
            let rules = [
                rule("topic deny a/secret"),
                rule("topic read a/#"),
                rule("pattern write own/%u/#"),
            ];
            registry.add_rule_set(Owner::Role, "reader", &rules).await?;
            let told = registry.rule_sets(Owner::Role).await?;
            let told = told.iter().find(|set| set.name == "reader");
            assert_eq!(told.map(|set| &*set.rules), Some(&rules[..]));
            registry.add_user("ann", "reader", "secret").await?;
            registry.add_user("root", "administrator", "secret").await?;
            let again = registry.add_user("ann", "user", "other").await;
            assert!(
                again
                    .unwrap_err()
                    .to_string()
                    .contains("martlet user passwd ann")
            );
            let unknown = registry.add_user("bob", "nothing", "x").await;
            assert!(unknown.unwrap_err().to_string().contains("no role nothing"));
            let used = registry.remove_rule_set(Owner::Role, "reader").await;
            assert!(used.unwrap_err().to_string().starts_with("ann has"));
            Snapshot::read(&mut registry).await
        })
        .unwrap();
        assert!(snapshot.is_in_use());
        assert!(
            snapshot
                .check_user(0, "ann", "c", b"secret")
                .unwrap()
                .is_ok()
        );
        assert!(
            snapshot
                .check_user(0, "ann", "c", b"Secret")
                .unwrap()
                .is_err()
        );
        assert!(snapshot.check_user(0, "bob", "c", b"x").is_none());
        let names = Names {
            client_id: "c",
            user_name: "ann",
        };
        let rules = snapshot.rules_of(0, "ann").unwrap();
        assert!(rules.topic(Actions::RECEIVE, "a/b", names).allowed);
        assert!(!rules.topic(Actions::RECEIVE, "a/secret", names).allowed);
        assert!(rules.topic(Actions::PUBLISH, "own/ann/x", names).allowed);
        assert!(!rules.topic(Actions::PUBLISH, "own/bob/x", names).allowed);
        assert!(rules.filter("a/#", names).allowed && !rules.filter("#", names).allowed);
        let everything = snapshot.rules_of(0, "root").unwrap();
        assert!(everything.filter("$SYS/#", names).allowed);
    }

    #[test]
    fn a_device_has_its_secrets_its_client_identifier_and_its_status() {
        let place = Place::new("devices");
        let (first, second, snapshot) = wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            let first = registry.add_device("d1", None, "device").await?;
            let clash = registry.add_user("d1", "user", "x").await;
            assert!(clash.unwrap_err().to_string().contains("a device d1"));
            assert!(registry.add_device("a/b", None, "device").await.is_err());
            let second = registry.rotate("d1", Duration::from_secs(60)).await?;
            Ok((first, second, Snapshot::read(&mut registry).await?))
        })
        .unwrap();
        let check = |client_id: &str, secret: &Secret, now: i64| {
            let found = snapshot.check_device(0, "d1", client_id, secret.text().as_bytes(), now);
            found.unwrap()
        };
        let now = now_ms();
        assert_eq!(check("d1", &second, now), Ok(0));
        let ends = check("d1", &first, now).unwrap();
        assert!((now..=now + 60_000).contains(&ends), "{ends} {now}");
        assert!(
            matches!(check("d1", &first, ends), Err(Refusal::NotNow(why)) if why.contains("has expired"))
        );
        assert!(
            matches!(check("d2", &second, now), Err(Refusal::NotNow(why)) if why.contains("Client Identifier"))
        );
        assert!(matches!(
            snapshot.admits(0, "ann", "d1"),
            Err(Refusal::NotNow(_))
        ));
        assert_eq!(snapshot.admits(0, "ann", "d2"), Ok(()));
        let wrong = snapshot.check_device(0, "d1", "d1", b"guess", now).unwrap();
        assert!(matches!(wrong, Err(Refusal::Wrong(_))));
        assert!(
            snapshot
                .check_device(0, "d2", "d2", b"guess", now)
                .is_none()
        );
    }

    use crate::Secret;

    #[test]
    fn who_is_not_let_in_any_more_is_named_and_nobody_else() {
        let place = Place::new("revoked");
        wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            for name in ["removed", "changed", "disabled", "renewed", "stays"] {
                registry.add_user(name, "user", "secret").await?;
            }
            for id in ["d-removed", "d-inactive", "d-rotated", "d-grace", "d-stays"] {
                registry.add_device(id, None, "device").await?;
            }
            let before = Snapshot::read(&mut registry).await?;
            registry.remove_user("removed").await?;
            registry.set_password("changed", "other").await?;
            registry.set_user("disabled", None, Some(false)).await?;
            let hash = before.users.get("renewed").unwrap().hash.clone();
            registry.renew_hash("renewed", &hash, b"secret").await?;
            registry
                .set_user("stays", Some("administrator"), None)
                .await?;
            registry.remove_device("d-removed").await?;
            let inactive = Some(Status::Inactive);
            registry
                .set_device("d-inactive", inactive, None, None)
                .await?;
            registry.rotate("d-rotated", Duration::ZERO).await?;
            registry.rotate("d-grace", Duration::from_secs(60)).await?;
            let after = Snapshot::read(&mut registry).await?;
            let mut gone = before.no_longer_valid(0, &after);
            gone.sort_unstable();
            let expected = [
                "changed",
                "d-inactive",
                "d-removed",
                "d-rotated",
                "disabled",
                "removed",
            ];
            assert_eq!(gone, expected);
            assert_eq!(after.no_longer_valid(0, &after), Vec::<&str>::new());
            assert!(after.users.get("renewed").unwrap().hash != hash);
            assert!(
                after
                    .check_user(0, "renewed", "c", b"secret")
                    .unwrap()
                    .is_ok()
            );
            let why = after.check_user(0, "disabled", "c", b"secret").unwrap();
            assert!(matches!(why, Err(Refusal::NotNow(_))));
            assert!(
                !after
                    .rules_of(0, "d-inactive")
                    .unwrap()
                    .filter(
                        "d/d-inactive/#",
                        Names {
                            client_id: "d-inactive",
                            user_name: "d-inactive",
                        }
                    )
                    .allowed
            );
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn many_devices_are_read_together_and_none_is_left_out() {
        let place = Place::new("many");
        let (secrets, snapshot) = wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            let mut secrets = Vec::new();
            for number in 0..500 {
                let id = format!("d {number} \u{e4}|;");
                let secret = registry.add_device(&id, None, "device").await?;
                secrets.push((id, secret));
            }
            Ok((secrets, Snapshot::read(&mut registry).await?))
        })
        .unwrap();
        assert_eq!(snapshot.names(0).count(), secrets.len());
        for (id, secret) in &secrets {
            let found = snapshot.check_device(0, id, id, secret.text().as_bytes(), now_ms());
            assert_eq!(found, Some(Ok(0)), "{id}");
        }
    }

    /// What two readings say of everybody.
    fn said(snapshot: &Snapshot) -> Vec<(String, bool, usize, bool)> {
        let mut names: Vec<_> = snapshot.names(0).map(str::to_owned).collect();
        names.sort_unstable();
        let said = |name: String| {
            let device = snapshot.device(0, &name);
            let is_let_in = snapshot.admits(0, &name, &name).is_ok();
            let rules = snapshot.rules_of(0, &name).unwrap().rules().len();
            let credentials = device.map_or(0, |device| device.credentials.len());
            let text = format!("{name} {:?} {rules}", snapshot.hash_of(&name));
            (text, is_let_in, credentials, snapshot.has_users())
        };
        names.into_iter().map(said).collect()
    }

    #[test]
    fn what_is_read_of_changes_is_what_is_read_of_everything() {
        let place = Place::new("changes");
        wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            for number in 0..5 {
                registry
                    .add_user(&format!("u{number}"), "user", "x")
                    .await?;
                let id = format!("d{number}");
                registry.add_device(&id, None, "device").await?;
            }
            let mut held = Arc::new(Snapshot::read(&mut registry).await?);
            assert!(matches!(held.renew().await?, Renewed::Same));
            for step in 0..12 {
                let mut expected = vec!["d1"];
                match step {
                    0 => drop(registry.rotate("d1", Duration::from_secs(60)).await?),
                    1 => {
                        let status = Some(Status::Inactive);
                        registry.set_device("d1", status, None, None).await?;
                    }
                    2 => registry.remove_device("d1").await?,
                    3 => drop(registry.add_device("d1", None, "device").await?),
                    4 => registry.set_password("u1", "other").await?,
                    5 => registry.set_user("u1", None, Some(false)).await?,
                    6 => registry.remove_user("u1").await?,
                    7 => registry.add_user("u1", "administrator", "y").await?,
                    // By hand, and two at once.
                    8 => {
                        let sql = "UPDATE users SET enabled = 0 WHERE name = 'u1'; \
                                   UPDATE devices SET status = 'maintenance' WHERE id = 'd1'";
                        let done = sqlx::raw_sql(sql).execute(&mut registry.connection).await;
                        done.map_err(|error| Fault::Sql(error).at("it"))?;
                        expected = vec!["d1", "u1"];
                    }
                    _ => {
                        registry.remove_user(&format!("u{}", step - 7)).await?;
                        expected = vec!["u2", "u3", "u4"];
                        expected.retain(|name| *name == format!("u{}", step - 7));
                    }
                }
                if (4..8).contains(&step) {
                    expected = vec!["u1"];
                }
                let Renewed::Changed(changed) = held.renew().await? else {
                    panic!("{step}: everything");
                };
                let (newer, names) = (changed.tables, changed.names);
                let mut names: Vec<_> = names.iter().map(|name| &**name).collect();
                names.sort_unstable();
                assert_eq!(names, expected, "{step}");
                let whole = Snapshot::read(&mut registry).await?;
                assert_eq!(said(&newer), said(&whole), "{step}");
                // Who looks too early reads for nothing.
                assert!(newer.changes_ms <= whole.changes_ms, "{step}");
                let mut gone = held.no_longer_valid(0, &newer);
                let mut gone_of_whole = held.no_longer_valid(0, &whole);
                gone.sort_unstable();
                gone_of_whole.sort_unstable();
                assert_eq!(gone, gone_of_whole, "{step}");
                held = newer;
            }
            registry.add_rule_set(Owner::Role, "r", &[]).await?;
            assert!(matches!(held.renew().await?, Renewed::Everything));
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn another_database_or_too_much_that_was_missed_is_read_as_a_whole() {
        let place = Place::new("others");
        wait(async {
            let failed = |error| Fault::Sql(error).at("it");
            let mut registry = Registry::open(&place.db()).await?;
            registry.add_device("d", None, "device").await?;
            let held = Snapshot::read(&mut registry).await?;
            let forget = "DELETE FROM changes WHERE number = (SELECT MAX(number) FROM changes)";
            let done = sqlx::raw_sql(forget)
                .execute(&mut registry.connection)
                .await;
            done.map_err(&failed)?;
            assert!(matches!(held.renew().await?, Renewed::Everything));
            let held = Snapshot::read(&mut registry).await?;
            // As many changes as before, but others.
            registry.rotate("d", Duration::ZERO).await?;
            let other = Snapshot {
                seen: Seen::default(),
                ..held
            };
            assert!(matches!(other.renew().await?, Renewed::Everything));
            let held = Snapshot::read(&mut registry).await?;
            let mark = "UPDATE changes SET mark = 'another'";
            let done = sqlx::raw_sql(mark).execute(&mut registry.connection).await;
            done.map_err(&failed)?;
            assert!(matches!(held.renew().await?, Renewed::Everything));
            let held = Snapshot::read(&mut registry).await?;
            for round in 0..2_100 {
                let done = sqlx::raw_sql(match round % 2 {
                    0 => "UPDATE devices SET status = 'inactive'",
                    _ => "UPDATE devices SET status = 'active'",
                });
                let done = done.execute(&mut registry.connection).await;
                done.map_err(&failed)?;
            }
            assert!(matches!(held.renew().await?, Renewed::Everything));
            let held = Snapshot::read(&mut registry).await?;
            registry.close().await?;
            let copy = place.db().with_extension("copy");
            std::fs::copy(place.db(), &copy).unwrap();
            std::fs::rename(&copy, place.db()).unwrap();
            assert!(matches!(held.renew().await?, Renewed::Everything));
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_node_stays_closed_when_the_last_user_is_removed() {
        let place = Place::new("last");
        let snapshot = wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            registry.add_user("one", "user", "secret").await?;
            registry.remove_user("one").await?;
            registry.close().await?;
            Snapshot::load(&place.db()).await
        });
        let snapshot = snapshot.unwrap().unwrap();
        assert!(snapshot.is_in_use() && snapshot.known(0, "one").is_none());
    }
}
