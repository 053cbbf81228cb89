//! The tables of users, devices and the rest, while the node runs: callers read them here, and
//! what is changed is in force when the call returns.
//!
//! One connection writes and one reads, so that a long list does not hold up a change; a third
//! checks passwords, which takes long by intent; by a fourth the node follows what has changed. A
//! change is completed once it has begun, even if the caller has disconnected. The file is made by
//! the first change, not by looking.

mod known;
mod notes;
mod presence;
mod recall;

pub use presence::PresenceInTables;

use known::Known;
use notes::Notes;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use martlet_access::IotflowBase;
use martlet_broker::TenantId;
use martlet_registry::{
    Actor, ApiKey, ApiRole, AuditKept, AuditLine, Location, NewAuditEntry, NewUser, Registry,
    RegistryError, Renewed, Scope, Snapshot, User,
};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::directory::{
    Account, AuditEntry, Directory, DirectoryError, FirstAdministrator, Looked,
};
use crate::principal::{Principal, PrincipalKind, Role, Scopes};
use crate::wall_clock::now_signed_ms;
use crate::{Control, ReloadOf};

/// Names the warning that the tables cannot be used.
const WARNING: &str = "registry";

/// How often is looked whether another node has changed them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who follows what has changed waits no longer for it: what is in memory goes on deciding. To read
/// all of it takes its time.
const RENEW_MAX: Duration = Duration::from_secs(5);
const READ_ALL_MAX: Duration = Duration::from_secs(60);

/// What is done with the tables.
pub type Work<'r, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'r>>;

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// The tables say so, or cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The database has not answered in time.
    #[error("{0}: no answer in {secs} s", secs = .1.as_secs())]
    Late(Location, Duration),
    /// It is done, and the node does not go by it yet.
    #[error("it is written, and not in force yet: the node could not read it: {0}")]
    NotInForce(String),
    /// It was broken off.
    #[error("the change was broken off")]
    BrokenOff,
}

impl TablesError {
    /// The database is at fault, not what was asked for.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Registry(error) => is_fault(error),
            Self::Late(..) | Self::NotInForce(_) | Self::BrokenOff => true,
        }
    }

    /// Text for callers: the message of the database is in the log.
    pub fn told(&self) -> String {
        match self {
            Self::Registry(error) if is_fault(error) => CANNOT.to_owned(),
            Self::Late(..) => CANNOT.to_owned(),
            _ => self.to_string(),
        }
    }
}

/// What is told of a database that cannot be used.
const CANNOT: &str = "the tables of users and devices cannot be used now: GET /api/v1/health (martlet health) and \
     the node's log say why";

fn is_fault(error: &RegistryError) -> bool {
    !matches!(
        error,
        RegistryError::Refused(_)
            | RegistryError::NotFound(_)
            | RegistryError::Exists(_)
            | RegistryError::Stale { .. }
            | RegistryError::NameTaken(_)
            | RegistryError::LimitReached(_)
    )
}

/// Where the database was at fault nobody knows in the middle of what the connection is: SQLite,
/// for one, ends a transaction by itself when the disk is full.
fn forget_broken<T>(opened: &mut Opened, done: &Result<T, RegistryError>) {
    if done.as_ref().is_err_and(is_fault) {
        *opened = Opened::Not;
    }
}

/// How the tables are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablesSettings {
    /// Where they are.
    pub location: Location,
    /// Passwords that are set are kept for SCRAM too.
    pub keeps_scram: bool,
    /// Where the topics of IoTFlow begin in rules that come with the program.
    pub iotflow_base: IotflowBase,
    /// Devices that one user may own; none: as many as they like.
    pub devices_per_user_max: Option<u64>,
    /// How much of the audit log is kept.
    pub audit: AuditKept,
}

/// A connection, when there is one.
#[derive(Debug, Default)]
enum Opened {
    #[default]
    Not,
    /// There is no file: these are empty.
    Empty(Registry),
    Whole(Registry),
}

/// The tables of a node that runs.
pub struct Tables {
    settings: TablesSettings,
    control: Arc<Control>,
    writer: Mutex<Opened>,
    reader: Mutex<Opened>,
    passwords: Mutex<Opened>,
    follower: Mutex<Opened>,
    notes: Notes,
    /// Told when something was changed, or may have been.
    changes: tokio::sync::watch::Sender<()>,
    known: Known,
    /// Which tables these are, once they were opened.
    identity: OnceLock<String>,
    /// Once there was an administrator, no link makes one before a restart.
    had_administrator: AtomicBool,
    /// There is or was one, or a key of one: the node is never open again.
    is_claimed: AtomicBool,
}

impl Tables {
    /// Approximate number of bytes of lines of the audit log that wait to be written.
    pub fn notes_bytes(&self) -> usize {
        self.notes.memory_bytes()
    }

    /// Of a node. Nothing is opened yet.
    pub fn new(settings: TablesSettings, control: Arc<Control>) -> Self {
        Self {
            settings,
            control,
            writer: Mutex::default(),
            reader: Mutex::default(),
            passwords: Mutex::default(),
            follower: Mutex::default(),
            notes: Notes::default(),
            changes: tokio::sync::watch::Sender::default(),
            known: Known::default(),
            identity: OnceLock::new(),
            had_administrator: AtomicBool::new(false),
            is_claimed: AtomicBool::new(false),
        }
    }

    /// Reads from the tables; where there are none it is as if they were empty.
    ///
    /// # Errors
    /// The work's, or they cannot be opened.
    pub async fn read<T>(
        &self,
        work: impl for<'r> FnOnce(&'r mut Registry) -> Work<'r, T> + Send,
    ) -> Result<T, TablesError> {
        self.read_by(&self.reader, work).await
    }

    async fn read_by<T>(
        &self,
        by: &Mutex<Opened>,
        work: impl for<'r> FnOnce(&'r mut Registry) -> Work<'r, T> + Send,
    ) -> Result<T, TablesError> {
        let mut opened = by.lock().await;
        let done = match self.open_to_read(&mut opened).await {
            Ok(registry) => work(registry).await,
            Err(error) => Err(error),
        };
        forget_broken(&mut opened, &done);
        drop(opened);
        self.tell_health(done.as_ref().err());
        Ok(done?)
    }

    /// Entry of a caller in the tables or, while they are unreachable, the last known one.
    async fn or_kept<T>(
        &self,
        kept: Option<T>,
        asked: impl Future<Output = Result<Option<T>, TablesError>> + Send,
    ) -> Result<Option<T>, DirectoryError> {
        if kept.is_some() && self.known.is_pausing(Instant::now()) {
            return Ok(kept);
        }
        match asked.await {
            Err(error) if error.is_fault() && kept.is_some() => {
                self.known.fail(Instant::now());
                Ok(kept)
            }
            found => Ok(found?),
        }
    }

    /// A key or a user was changed: neither is known any more by what was true before.
    pub fn forget_known(&self) {
        self.known.forget();
        self.tell_changed();
    }

    /// Something was changed, here or by another process.
    pub fn tell_changed(&self) {
        self.changes.send_replace(());
    }

    /// Sees each time after this that something was changed.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Where they are.
    pub fn location(&self) -> &Location {
        &self.settings.location
    }

    /// The file is there, or it is none.
    pub fn are_there(&self) -> bool {
        self.location().file().is_none_or(Path::exists)
    }

    /// What has changed since they were read so.
    ///
    /// # Errors
    /// They cannot be read, or not in time.
    pub async fn renew(&self, seen: &Arc<Snapshot>) -> Result<Renewed, TablesError> {
        let seen = Arc::clone(seen);
        let renewed = self.follow(RENEW_MAX, move |registry| {
            Box::pin(async move { seen.renew_from(registry).await })
        });
        renewed.await
    }

    /// All of them, as they are now.
    ///
    /// # Errors
    /// They cannot be read, or not in time.
    pub async fn read_all(&self) -> Result<Snapshot, TablesError> {
        let read = self.follow(READ_ALL_MAX, |registry| Box::pin(Snapshot::read(registry)));
        let read = read.await?;
        Ok(match self.held() {
            Some(held) => read.with_uses_of(&held),
            None => read,
        })
    }

    /// There is, or was, a user or a device.
    ///
    /// # Errors
    /// They cannot be read, or not in time.
    pub async fn are_in_use(&self) -> Result<bool, TablesError> {
        let found = self.follow(RENEW_MAX, |registry| Box::pin(registry.is_in_use()));
        found.await
    }

    /// Somebody can administer the node by the API.
    ///
    /// # Errors
    /// They cannot be read, or not in time.
    pub async fn can_be_administered(&self) -> Result<bool, TablesError> {
        let found = self.follow(RENEW_MAX, |registry| {
            Box::pin(can_be_administered(registry))
        });
        found.await
    }

    async fn follow<T>(
        &self,
        at_most: Duration,
        work: impl for<'r> FnOnce(&'r mut Registry) -> Work<'r, T> + Send,
    ) -> Result<T, TablesError> {
        let done = tokio::time::timeout(at_most, self.read_by(&self.follower, work)).await;
        match done {
            Ok(done) => done,
            Err(_) => {
                // What it was in the middle of is not known.
                *self.follower.lock().await = Opened::Not;
                let error = TablesError::Late(self.settings.location.clone(), at_most);
                self.warn(&error.to_string());
                Err(error)
            }
        }
    }

    /// Changes the tables. When it returns the change is in force: clients without rights are out.
    ///
    /// # Errors
    /// The work's, or they cannot be opened; or it is written, and not in force.
    pub async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl for<'r> FnOnce(&'r mut Registry) -> Work<'r, T> + Send + 'static,
    ) -> Result<T, TablesError> {
        self.write(true, work).await
    }

    /// Writes what changes no rights.
    ///
    /// # Errors
    /// The work's, or they cannot be opened.
    pub async fn note<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl for<'r> FnOnce(&'r mut Registry) -> Work<'r, T> + Send + 'static,
    ) -> Result<T, TablesError> {
        self.write(false, work).await
    }

    async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        is_taken_over: bool,
        work: impl for<'r> FnOnce(&'r mut Registry) -> Work<'r, T> + Send + 'static,
    ) -> Result<T, TablesError> {
        let (own, runtime) = (Arc::clone(self), Handle::current());
        // On a thread of its own: a password's hash takes long. And the caller may disconnect.
        let done = tokio::task::spawn_blocking(move || {
            runtime.block_on(own.write_here(is_taken_over, work))
        });
        done.await.unwrap_or(Err(TablesError::BrokenOff))
    }

    async fn write_here<T>(
        &self,
        is_taken_over: bool,
        work: impl for<'r> FnOnce(&'r mut Registry) -> Work<'r, T>,
    ) -> Result<T, TablesError> {
        let mut writer = self.writer.lock().await;
        let done = match self.open_to_write(&mut writer).await {
            Ok(registry) => work(registry).await,
            Err(error) => Err(error),
        };
        forget_broken(&mut writer, &done);
        drop(writer);
        if is_taken_over && done.is_ok() {
            self.forget_known();
        }
        self.tell_health(done.as_ref().err());
        // What failed in the middle may have changed something.
        if is_taken_over && done.as_ref().err().is_none_or(is_fault) {
            let read = self.control.reload(ReloadOf::Tables).await;
            if let (Err(why), Ok(_)) = (read, &done) {
                return Err(TablesError::NotInForce(why));
            }
        }
        Ok(done?)
    }

    async fn open_to_read<'o>(
        &self,
        opened: &'o mut Opened,
    ) -> Result<&'o mut Registry, RegistryError> {
        let is_there = match self.settings.location.file() {
            // A writer knows what happened to a file that existed.
            _ if self.identity.get().is_some() => true,
            None => true,
            Some(path) => path.try_exists().unwrap_or(true),
        };
        if !is_there && !matches!(opened, Opened::Empty(_)) {
            *opened = Opened::Empty(Registry::empty().await?);
        }
        match is_there {
            true => self.open_to_write(opened).await,
            false => match opened {
                Opened::Empty(registry) | Opened::Whole(registry) => Ok(registry),
                Opened::Not => Err(RegistryError::Refused("it is not opened".to_owned())),
            },
        }
    }

    async fn open_to_write<'o>(
        &self,
        opened: &'o mut Opened,
    ) -> Result<&'o mut Registry, RegistryError> {
        let is_open = match opened {
            Opened::Whole(registry) => !registry.is_replaced(),
            Opened::Not | Opened::Empty(_) => false,
        };
        if !is_open {
            // A write creates the file, but not in place of one that existed.
            if self.identity.get().is_some() && !self.are_there() {
                return Err(RegistryError::Gone {
                    place: self.settings.location.to_string(),
                });
            }
            let mut registry = Registry::open(&self.settings.location).await?;
            let identity = registry.identity().await?;
            if *self.identity.get_or_init(|| identity.clone()) != identity {
                return Err(RegistryError::Others {
                    place: self.settings.location.to_string(),
                });
            }
            registry.keep_scram(self.settings.keeps_scram);
            registry.set_iotflow_base(self.settings.iotflow_base.clone());
            registry.limit_devices_per_user(self.settings.devices_per_user_max);
            *opened = Opened::Whole(registry);
        }
        match opened {
            Opened::Whole(registry) => Ok(registry),
            Opened::Not | Opened::Empty(_) => {
                Err(RegistryError::Refused("it is not opened".to_owned()))
            }
        }
    }

    fn tell_health(&self, error: Option<&RegistryError>) {
        match error.filter(|error| is_fault(error)) {
            None => self.control.health.withdraw(WARNING),
            Some(error) => self.warn(&error.to_string()),
        }
    }

    fn warn(&self, error: &str) {
        tracing::error!(error, "the tables of users and devices cannot be used");
        // A caller that may see health may not see the address of a database, and its user.
        let why = match self.settings.location {
            Location::File(_) => error,
            Location::Url(_) => "the database does not answer as it should, and the log says more",
        };
        let text = format!(
            "The tables of users and devices cannot be used, and what is in memory goes on \
             deciding: {why}."
        );
        self.control.health.warn_as(WARNING, text);
    }

    /// As they decide now; none: they are not in use.
    fn held(&self) -> Option<Arc<Snapshot>> {
        self.control.policy()?.tables().cloned()
    }

    /// Warns of devices that an upgrade has renamed, until they have been connected by their new
    /// id.
    pub async fn warn_of_renamed(&self) {
        let renamed = self.read(|registry| Box::pin(registry.renamed_devices()));
        match renamed.await {
            Ok(renamed) => {
                for device in renamed {
                    tracing::warn!(
                        device = device.new_id,
                        old_id = device.old_id,
                        "a device was renamed, since its id is a word of the API's paths: give it \
                         its new id as Client Identifier and user name"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "which devices were renamed cannot be read"),
        }
    }

    /// Looks again and again whether another node has changed the tables of a database that they
    /// share. Files are watched by who watches all of them.
    pub async fn watch(&self) {
        if self.settings.location.file().is_some() {
            return;
        }
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // What is wrong is in health, and what came of reading in the log.
            let has_changed = match self.held() {
                Some(seen) => {
                    let renewed = self.renew(&seen).await;
                    renewed.is_ok_and(|renewed| !matches!(renewed, Renewed::Same))
                }
                None => {
                    let is_asked = self.control.user_places().tables_unasked.is_none();
                    is_asked && self.are_in_use().await.unwrap_or(false)
                }
            };
            if has_changed {
                let _ = self.control.reload(ReloadOf::Tables).await;
            }
        }
    }

    /// Keeps no connection open any more: what was written is in the file itself then.
    pub async fn close(self: &Arc<Self>) {
        // What the database does not take in time is lost.
        let _ = tokio::time::timeout(RENEW_MAX, self.write_notes()).await;
        for one in [&self.writer, &self.reader, &self.passwords, &self.follower] {
            if let Opened::Whole(registry) = std::mem::take(&mut *one.lock().await)
                && let Err(error) = registry.close().await
            {
                tracing::warn!(%error, "closing the tables");
            }
        }
    }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tables")
            .field(&self.settings.location)
            .finish()
    }
}

impl From<TablesError> for DirectoryError {
    fn from(error: TablesError) -> Self {
        Self::Unavailable(error.told())
    }
}

fn role_of(role: ApiRole) -> Option<Role> {
    match role {
        ApiRole::Administrator => Some(Role::Administrator),
        ApiRole::Operator => Some(Role::Operator),
        ApiRole::Viewer => Some(Role::Viewer),
        ApiRole::None => None,
    }
}

/// Rights of a user who logs in: by a role for all teams, or else by the role in the first of their
/// teams. None: no rights.
async fn account(registry: &mut Registry, user: User) -> Result<Option<Account>, RegistryError> {
    if !user.enabled || user.deleted_ms > 0 {
        return Ok(None);
    }
    // Another user of the name is not this one, though its revision is the same.
    let made = u64::try_from(user.created_ms).unwrap_or(0) << 20;
    let generation = made.wrapping_add(u64::try_from(user.revision).unwrap_or(0));
    let name = user.name;
    if let Some(role) = role_of(user.api_role) {
        return Ok(Some(Account {
            name,
            role,
            team: None,
            tenant: TenantId::default(),
            generation,
        }));
    }
    let teams = registry.teams_of(&name).await?;
    let first = teams.into_iter().find_map(|member| {
        let role = role_of(member.role)?;
        Some((role, member.team))
    });
    let Some((role, team)) = first else {
        return Ok(None);
    };
    Ok(Some(Account {
        name,
        role,
        tenant: tenant_of(registry, &team).await?,
        team: Some(team),
        generation,
    }))
}

/// What the owner of a key may do: by a role for everybody, or by theirs in the key's team. Who has
/// neither has no use of a key.
async fn scopes_of(
    registry: &mut Registry,
    owner: &str,
    team: &str,
) -> Result<Scopes, RegistryError> {
    let user = registry.user(&Scope::All, owner).await?;
    let own = role_of(user.api_role).map_or(Scopes::NONE, Role::scopes);
    let of_team = registry.teams_of(owner).await?.into_iter();
    let of_team = of_team.filter(|member| member.team == team);
    let of_team = of_team.filter_map(|member| role_of(member.role));
    Ok(of_team.fold(own, |all, role| all.or(role.scopes())))
}

/// The tenant that is a team's own; the common one, if it owns none.
async fn tenant_of(registry: &mut Registry, team: &str) -> Result<TenantId, RegistryError> {
    let team = registry.team(&Scope::All, team).await?;
    Ok(TenantId(team.tenant))
}

/// As [`account`], by name.
async fn account_named(
    registry: &mut Registry,
    name: &str,
) -> Result<Option<Account>, RegistryError> {
    match registry.user(&Scope::All, name).await {
        Ok(user) => account(registry, user).await,
        Err(RegistryError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// There is, or was, a key that may do everything.
async fn has_administrators_key(registry: &mut Registry) -> Result<bool, RegistryError> {
    let keys = registry.api_keys(&Scope::All).await?;
    Ok(keys.iter().any(may_do_everything))
}

/// Somebody can administer the node by the API: a user, or who has a key that belongs to no user.
async fn can_be_administered(registry: &mut Registry) -> Result<bool, RegistryError> {
    if registry.has_administrator().await? {
        return Ok(true);
    }
    let now_ms = now_signed_ms();
    let keys = registry.api_keys(&Scope::All).await?;
    Ok(keys.iter().any(|key| {
        let is_valid = key.revoked_ms == 0 && (key.expires_ms == 0 || key.expires_ms > now_ms);
        is_valid && key.owner.is_empty() && may_do_everything(key)
    }))
}

fn may_do_everything(key: &ApiKey) -> bool {
    let scopes = key.scopes.iter();
    let scopes = scopes.filter_map(|scope| Scopes::parse(scope).ok());
    key.team.is_empty() && scopes.fold(Scopes::NONE, Scopes::or) == Scopes::all()
}

/// Kind of a caller's name, as in the audit log.
pub fn by_what(kind: &PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Socket => "admin.sock",
        PrincipalKind::ApiKey { .. } => "api key",
        PrincipalKind::User { .. } => "session",
        PrincipalKind::Device { .. } => "device",
        PrincipalKind::Anonymous => "nothing",
    }
}

async fn make_first(
    registry: &mut Registry,
    name: &str,
    password: &str,
) -> Result<FirstAdministrator, RegistryError> {
    if registry.has_administrator().await? {
        return Ok(FirstAdministrator::NotFirst);
    }
    let actor = Actor {
        who: format!("user:{name}"),
        by: "setup link".to_owned(),
        address: String::new(),
        request_id: String::new(),
        scope: Scope::All,
    };
    let user = NewUser {
        api_role: ApiRole::Administrator,
        ..NewUser::new(name)
    };
    let made = registry.create_user(&actor, user, password).await;
    let made = match made {
        Err(RegistryError::Exists(why)) => {
            // A user of MQTT, whom the holder of the link cannot take over.
            return Ok(FirstAdministrator::Refused(format!(
                "{why}: choose another name"
            )));
        }
        Err(error) if !is_fault(&error) => {
            return Ok(FirstAdministrator::Refused(error.to_string()));
        }
        made => made?,
    };
    match account(registry, made).await? {
        Some(account) => Ok(FirstAdministrator::Made(account)),
        None => Ok(FirstAdministrator::NotFirst),
    }
}

/// The least that a password of the panel has: it is tried from anywhere.
const PASSWORD_MIN: usize = 10;

impl Directory for Arc<Tables> {
    fn api_key<'a>(&'a self, key: &'a [u8]) -> Looked<'a, Option<Principal>> {
        Box::pin(async move {
            let Ok(text) = std::str::from_utf8(key).map(str::to_owned) else {
                return Ok(None);
            };
            let kept = self.known.key(key, now_signed_ms());
            let found = self.read(move |registry| {
                Box::pin(async move {
                    let Some(key) = registry.api_key_of(&text, now_signed_ms()).await? else {
                        return Ok(None);
                    };
                    let tenant = match &*key.team {
                        "" => TenantId::default(),
                        team => tenant_of(registry, team).await?,
                    };
                    let most = match &*key.owner {
                        "" => Scopes::all(),
                        owner => scopes_of(registry, owner, &key.team).await?,
                    };
                    Ok(Some((key, tenant, most)))
                })
            });
            let principal = |(key, tenant, most): (ApiKey, TenantId, Scopes)| {
                self.notes.use_key(&key.id);
                let names = key.scopes.iter();
                let scopes = names.filter_map(|name| Scopes::parse(name).ok());
                let scopes = scopes.fold(Scopes::NONE, Scopes::or).and(most);
                let team = (!key.team.is_empty()).then_some(key.team);
                let principal = Principal {
                    kind: PrincipalKind::ApiKey { id: key.id },
                    scopes: match team {
                        Some(_) => scopes.and(Scopes::of_team(tenant)),
                        None => scopes,
                    },
                    team,
                    tenant,
                };
                (principal, key.expires_ms)
            };
            let asked = async {
                let found = found.await?.map(principal);
                self.known.tell_key(key, found.clone());
                Ok(found.map(|(principal, _)| principal))
            };
            self.or_kept(kept, asked).await
        })
    }

    fn check_password<'a>(
        &'a self,
        name: &'a str,
        password: &'a str,
    ) -> Looked<'a, Option<Account>> {
        Box::pin(async move {
            let (own, runtime) = (Self::clone(self), Handle::current());
            let (name, password) = (name.to_owned(), password.to_owned());
            // The hash takes long, and must not hold up others.
            let checked = tokio::task::spawn_blocking(move || {
                runtime.block_on(own.read_by(&own.passwords, move |registry| {
                    Box::pin(async move {
                        match registry.log_in(&name, &password).await? {
                            Some(user) => account(registry, user).await,
                            None => Ok(None),
                        }
                    })
                }))
            });
            let checked = checked.await.unwrap_or(Err(TablesError::BrokenOff));
            Ok(checked?)
        })
    }

    fn account<'a>(&'a self, name: &'a str) -> Looked<'a, Option<Account>> {
        Box::pin(async move {
            let of = name.to_owned();
            let found = self
                .read(move |registry| Box::pin(async move { account_named(registry, &of).await }));
            let asked = async {
                let found = found.await?;
                self.known.tell_account(name, found.clone());
                Ok(found)
            };
            self.or_kept(self.known.account(name), asked).await
        })
    }

    fn is_claimed(&self) -> Looked<'_, bool> {
        Box::pin(async move {
            if self.is_claimed.load(Ordering::Relaxed) {
                return Ok(true);
            }
            let found = self.read(|registry| {
                Box::pin(async move {
                    Ok(registry.is_claimed().await? || has_administrators_key(registry).await?)
                })
            });
            let found = found.await?;
            if found {
                self.is_claimed.store(true, Ordering::Relaxed);
            }
            Ok(found)
        })
    }

    fn has_administrator(&self) -> Looked<'_, bool> {
        Box::pin(async move {
            if self.had_administrator.load(Ordering::Relaxed) {
                return Ok(true);
            }
            let found = self.read(|registry| Box::pin(registry.has_administrator()));
            let found = found.await?;
            if found {
                self.had_administrator.store(true, Ordering::Relaxed);
            }
            Ok(found)
        })
    }

    fn make_first_administrator<'a>(
        &'a self,
        name: &'a str,
        password: &'a str,
    ) -> Looked<'a, FirstAdministrator> {
        Box::pin(async move {
            if password.chars().count() < PASSWORD_MIN {
                let why = format!("the password needs {PASSWORD_MIN} characters or more");
                return Ok(FirstAdministrator::Refused(why));
            }
            let (name, password) = (name.to_owned(), password.to_owned());
            let made = self.change(move |registry| {
                Box::pin(async move { make_first(registry, &name, &password).await })
            });
            Ok(made.await?)
        })
    }

    fn audit(&self, entry: AuditEntry) -> Looked<'_, ()> {
        Box::pin(async move {
            let by = match entry.principal.split_once(':') {
                Some(("key", _)) => "api key",
                Some(("user", _)) => "session",
                Some(("device", _)) => "device",
                _ if entry.principal == "admin.sock" => "admin.sock",
                _ => "nothing",
            };
            let actor = Actor {
                who: entry.principal,
                by: by.to_owned(),
                address: entry.address.unwrap_or_default(),
                request_id: entry.request_id,
                scope: Scope::All,
            };
            let (at_ms, is_soon) = (entry.at_ms, entry.is_soon);
            let outcome = match entry.status {
                status @ 500.. => format!("status {status}"),
                _ => "done".to_owned(),
            };
            let (method, path) = entry.action.split_once(' ').unwrap_or_default();
            let entry = NewAuditEntry {
                team: String::new(),
                action: format!("http.{}", method.to_ascii_lowercase()),
                object_kind: "route".to_owned(),
                object_id: path.to_owned(),
                changed: entry.changed,
                outcome,
            };
            let line = AuditLine {
                actor,
                at_ms,
                entry,
            };
            let written = self.write_line(line, is_soon).await;
            written.map_err(DirectoryError::Unavailable)
        })
    }
}
