//! The tables of users, devices and the rest, while the node runs: callers read them here, and
//! what is changed is in force when the call returns.
//!
//! One connection writes and one reads, so that a long list does not hold up a change; a third
//! checks passwords, which takes long by intent; by a fourth the node follows what has changed. A
//! change is completed once it has begun, even if the caller has disconnected. The file is made by
//! the first change, not by looking.

mod administration;
mod callers;
mod error;
mod keep_notes;
mod known;
mod last_activity;
mod notes;
mod presence;
mod recall;
mod recall_log;
mod why;
mod without_rights;

pub use callers::by_what;
pub use presence::PresenceInTables;
pub(crate) use recall::{Account, Deleted, Spent};
pub(crate) use recall_log::{Joined, TypeChange};

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use martlet_access::IotflowBase;
use martlet_broker::Share;
use martlet_registry::{
    AuditKept, Location, MessagesOfChanges, Registry, RegistryError, RegistrySettings, Renewed,
    Snapshot,
};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::callers::CallersError;
use crate::event_outbox::EventOutbox;
use crate::{Control, ReloadOf};
use administration::can_be_administered;
pub use error::SharedRegistryError;
use error::is_fault;
use known::KnownCallers;
use notes::Notes;
use without_rights::WithoutRights;

/// Names the warning that the tables cannot be used.
const WARNING: &str = "registry";

/// End of that warning.
const IN_MEMORY: &str = " Logins use the copy in memory.";

/// How often is looked whether another node has changed them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time limits of reading what has changed, and of reading everything. Logins use the copy in
/// memory meanwhile.
const RENEW_MAX: Duration = Duration::from_secs(5);
const READ_ALL_MAX: Duration = Duration::from_secs(60);

/// Work with the tables.
pub type Work<'r, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'r>>;

/// Work with the tables that fails in its own way.
pub(crate) type WorkOf<'r, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'r>>;

/// An error of work with the tables, which look at the errors of the registry.
pub(crate) trait WorkError: From<SharedRegistryError> + Send + 'static {
    /// The error of the registry, if it is one.
    fn of_registry(&self) -> Option<&RegistryError>;
}

impl WorkError for SharedRegistryError {
    fn of_registry(&self) -> Option<&RegistryError> {
        match self {
            Self::Registry(error) => Some(error),
            _ => None,
        }
    }
}

/// Work that fails as the tables do.
fn of_tables<T: 'static>(work: Work<'_, T>) -> WorkOf<'_, T, SharedRegistryError> {
    Box::pin(async move { Ok(work.await?) })
}

fn registry_error<T, E: WorkError>(done: &Result<T, E>) -> Option<&RegistryError> {
    done.as_ref().err().and_then(WorkError::of_registry)
}

/// Drops the connection after a fault of the database: the state of its transaction is not known.
/// SQLite, for one, ends a transaction by itself when the disk is full.
fn forget_broken(opened: &mut Opened, error: Option<&RegistryError>) {
    if error.is_some_and(is_fault) {
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
    /// How much of what all teams share one team may have.
    pub team_share: Share,
    /// How much of the audit log is kept.
    pub audit: AuditKept,
    /// Days after which a deleted device, user or team is removed for good; none: never.
    pub deleted_kept_days: Option<u32>,
}

impl TablesSettings {
    /// Settings that the tables themselves keep to.
    pub fn of_registry(&self) -> RegistrySettings {
        RegistrySettings {
            keeps_scram: self.keeps_scram,
            iotflow_base: self.iotflow_base.clone(),
            devices_per_user_max: self.devices_per_user_max,
            team_share: self.team_share,
            messages_of_changes: None,
        }
    }
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
pub struct SharedRegistry {
    settings: TablesSettings,
    control: Arc<Control>,
    outbox: Arc<EventOutbox>,
    writer: Mutex<Opened>,
    reader: Mutex<Opened>,
    passwords: Mutex<Opened>,
    follower: Mutex<Opened>,
    notes: Notes,
    /// When they failed last, unless they have answered since then.
    failed_at: std::sync::Mutex<Option<Instant>>,
    /// Notified when something was changed, or may have been.
    changes: tokio::sync::watch::Sender<()>,
    known: KnownCallers,
    without_rights: WithoutRights,
    /// Which tables these are, once they were opened.
    identity: OnceLock<String>,
    /// Once there was an administrator, no link makes one before a restart.
    had_administrator: AtomicBool,
    /// There is or was one, or a key of one: the node is never open again.
    is_claimed: AtomicBool,
}

impl SharedRegistry {
    /// The control plane of the node.
    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// Approximate number of bytes of lines of the audit log that wait to be written.
    pub fn notes_bytes(&self) -> usize {
        self.notes.memory_bytes()
    }

    /// The outbox of the node.
    pub fn outbox(&self) -> &Arc<EventOutbox> {
        &self.outbox
    }

    /// The tables of a node. Nothing is opened yet.
    pub fn new(settings: TablesSettings, control: Arc<Control>, outbox: EventOutbox) -> Self {
        Self {
            settings,
            control,
            outbox: Arc::new(outbox),
            writer: Mutex::default(),
            reader: Mutex::default(),
            passwords: Mutex::default(),
            follower: Mutex::default(),
            notes: Notes::default(),
            failed_at: std::sync::Mutex::default(),
            changes: tokio::sync::watch::Sender::default(),
            known: KnownCallers::default(),
            without_rights: WithoutRights::default(),
            identity: OnceLock::new(),
            had_administrator: AtomicBool::new(false),
            is_claimed: AtomicBool::new(false),
        }
    }

    /// Reads from the tables; where there are none it is as if they were empty.
    ///
    /// # Errors
    /// The work's, or they cannot be opened.
    pub async fn read<T: 'static>(
        &self,
        work: impl for<'r> FnOnce(&'r mut Registry) -> Work<'r, T> + Send,
    ) -> Result<T, SharedRegistryError> {
        self.read_by(&self.reader, work).await
    }

    /// As [`SharedRegistry::read`], for work that fails in its own way.
    pub(crate) async fn read_as<T, E: WorkError>(
        &self,
        work: impl for<'r> FnOnce(&'r mut Registry) -> WorkOf<'r, T, E> + Send,
    ) -> Result<T, E> {
        self.read_by_as(&self.reader, work).await
    }

    async fn read_by<T: 'static>(
        &self,
        by: &Mutex<Opened>,
        work: impl for<'r> FnOnce(&'r mut Registry) -> Work<'r, T> + Send,
    ) -> Result<T, SharedRegistryError> {
        self.read_by_as(by, |registry| of_tables(work(registry)))
            .await
    }

    async fn read_by_as<T, E: WorkError>(
        &self,
        by: &Mutex<Opened>,
        work: impl for<'r> FnOnce(&'r mut Registry) -> WorkOf<'r, T, E> + Send,
    ) -> Result<T, E> {
        let started_at = Instant::now();
        let mut opened = by.lock().await;
        self.check_answers_since(started_at)?;
        let done = match self.open_to_read(&mut opened).await {
            Ok(registry) => work(registry).await,
            Err(error) => Err(SharedRegistryError::from(error).into()),
        };
        let error = registry_error(&done);
        forget_broken(&mut opened, error);
        // Before the next one has its turn.
        self.report_health(error);
        drop(opened);
        done
    }

    /// Entry of a caller in the tables or, while they are unreachable, the last known one.
    async fn or_kept<T>(
        &self,
        kept: Option<T>,
        started_at: impl Future<Output = Result<Option<T>, SharedRegistryError>> + Send,
    ) -> Result<Option<T>, CallersError> {
        if kept.is_some() && self.known.is_pausing(Instant::now()) {
            return Ok(kept);
        }
        match started_at.await {
            Err(error) if error.is_fault() && kept.is_some() => {
                self.known.fail(Instant::now());
                Ok(kept)
            }
            found => Ok(found?),
        }
    }

    /// A key or a user was changed: neither is known any more by what was true before.
    pub fn forget_callers(&self) {
        self.known.forget();
        self.notify_changed();
    }

    /// Something was changed, here or by another process.
    pub fn notify_changed(&self) {
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

    /// Changes since they were read so.
    ///
    /// # Errors
    /// They cannot be read, or not in time.
    pub async fn renew(&self, seen: &Arc<Snapshot>) -> Result<Renewed, SharedRegistryError> {
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
    pub async fn read_all(&self) -> Result<Snapshot, SharedRegistryError> {
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
    pub async fn are_in_use(&self) -> Result<bool, SharedRegistryError> {
        let found = self.follow(RENEW_MAX, |registry| Box::pin(registry.is_in_use()));
        found.await
    }

    /// Somebody can administer the node by the API.
    ///
    /// # Errors
    /// They cannot be read, or not in time.
    pub async fn can_be_administered(&self) -> Result<bool, SharedRegistryError> {
        let found = self.follow(RENEW_MAX, |registry| {
            Box::pin(can_be_administered(registry))
        });
        found.await
    }

    async fn follow<T: 'static>(
        &self,
        at_most: Duration,
        work: impl for<'r> FnOnce(&'r mut Registry) -> Work<'r, T> + Send,
    ) -> Result<T, SharedRegistryError> {
        let done = tokio::time::timeout(at_most, self.read_by(&self.follower, work)).await;
        match done {
            Ok(done) => done,
            Err(_) => {
                // What it was in the middle of is not known.
                *self.follower.lock().await = Opened::Not;
                let error = SharedRegistryError::Late(self.settings.location.clone(), at_most);
                self.warn(&error.to_string(), "its database did not answer in time");
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
    ) -> Result<T, SharedRegistryError> {
        self.write_as(true, |registry| of_tables(work(registry)))
            .await
    }

    /// Writes what changes no rights.
    ///
    /// # Errors
    /// The work's, or they cannot be opened.
    pub async fn note<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl for<'r> FnOnce(&'r mut Registry) -> Work<'r, T> + Send + 'static,
    ) -> Result<T, SharedRegistryError> {
        self.write_as(false, |registry| of_tables(work(registry)))
            .await
    }

    /// As [`SharedRegistry::change`] (`is_taken_over`) or [`SharedRegistry::note`], for work that
    /// fails in its own way.
    pub(crate) async fn write_as<T: Send + 'static, E: WorkError>(
        self: &Arc<Self>,
        is_taken_over: bool,
        work: impl for<'r> FnOnce(&'r mut Registry) -> WorkOf<'r, T, E> + Send + 'static,
    ) -> Result<T, E> {
        let (own, runtime) = (Arc::clone(self), Handle::current());
        // On a thread of its own: a password's hash takes long. And the caller may disconnect.
        let done = tokio::task::spawn_blocking(move || {
            runtime.block_on(own.write_locked(is_taken_over, work))
        });
        done.await
            .unwrap_or_else(|_| Err(SharedRegistryError::BrokenOff.into()))
    }

    async fn write_locked<T, E: WorkError>(
        &self,
        is_taken_over: bool,
        work: impl for<'r> FnOnce(&'r mut Registry) -> WorkOf<'r, T, E>,
    ) -> Result<T, E> {
        let started_at = Instant::now();
        let mut writer = self.writer.lock().await;
        self.check_answers_since(started_at)?;
        let done = match self.open_to_write(&mut writer).await {
            Ok(registry) => work(registry).await,
            Err(error) => Err(SharedRegistryError::from(error).into()),
        };
        self.outbox.ended(done.is_ok());
        let error = registry_error(&done);
        let is_broken = error.is_some_and(is_fault);
        forget_broken(&mut writer, error);
        // Before the next one has its turn.
        self.report_health(error);
        drop(writer);
        if is_taken_over && done.is_ok() {
            self.forget_callers();
        }
        // What failed in the middle may have changed something.
        if is_taken_over && (done.is_ok() || is_broken) {
            let read = self.control.reload(ReloadOf::SharedRegistry).await;
            if let (Err(why), Ok(_)) = (read, &done) {
                return Err(SharedRegistryError::NotInForce(why).into());
            }
        }
        done
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
        if is_there && let Err(error) = self.open_to_write(opened).await {
            // A file that this user may only read: a node that has opened it once could write.
            let is_of_file = matches!(
                error,
                RegistryError::File { .. } | RegistryError::Database { .. }
            );
            let Some(path) = self.settings.location.file() else {
                return Err(error);
            };
            if !is_of_file || self.identity.get().is_some() {
                return Err(error);
            }
            let registry = Registry::open_to_read(path).await.map_err(|_| error)?;
            *opened = Opened::Whole(registry.with(self.settings.of_registry()));
        }
        match opened {
            Opened::Empty(registry) | Opened::Whole(registry) => Ok(registry),
            Opened::Not => Err(RegistryError::System("the tables are not open".to_owned())),
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
            let outbox: Arc<dyn MessagesOfChanges> = Arc::clone(&self.outbox) as _;
            *opened = Opened::Whole(registry.with(RegistrySettings {
                messages_of_changes: Some(outbox),
                ..self.settings.of_registry()
            }));
        }
        match opened {
            Opened::Whole(registry) => Ok(registry),
            Opened::Not | Opened::Empty(_) => {
                Err(RegistryError::System("the tables are not open".to_owned()))
            }
        }
    }

    /// While a database does not answer, all waiting calls fail when the first one fails. Otherwise
    /// each would wait for it as long, one after the other.
    fn check_answers_since(&self, started_at: Instant) -> Result<(), SharedRegistryError> {
        let failed_at = *self
            .failed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_elsewhere = matches!(self.settings.location, Location::Url(_));
        match failed_at.filter(|failed_at| is_elsewhere && *failed_at > started_at) {
            None => Ok(()),
            Some(_) => Err(SharedRegistryError::Late(
                self.settings.location.clone(),
                started_at.elapsed(),
            )),
        }
    }

    fn report_health(&self, error: Option<&RegistryError>) {
        let error = error.filter(|error| is_fault(error));
        let failed_at = error.is_some().then(Instant::now);
        *self
            .failed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = failed_at;
        match error {
            None => self.control.health.withdraw(WARNING),
            Some(error) => self.warn(&error.to_string(), error.public_cause()),
        }
    }

    fn warn(&self, error: &str, public_cause: &str) {
        tracing::error!(error, "the tables of users and devices cannot be used");
        // A caller that may see health may not see the address of a database, and its user.
        let why = match self.settings.location {
            Location::File(_) => error,
            Location::Url(_) => public_cause,
        };
        let text = format!("The tables of users and devices cannot be used: {why}.{IN_MEMORY}");
        self.control.health.warn_logged_as(WARNING, text);
    }

    /// A sentence about why they cannot be used; none: they can.
    pub fn trouble(&self) -> Option<String> {
        let text = self.control.health.report_under(WARNING)?;
        Some(text.trim_end_matches(IN_MEMORY).to_owned())
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
                        "a device was renamed, because its id is reserved for paths of the API: \
                         give it its new id as Client Identifier and user name"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "which devices were renamed cannot be read"),
        }
    }

    /// Polls whether another node has changed the tables of a shared database. Files are watched
    /// elsewhere.
    pub async fn watch(&self) {
        if self.settings.location.file().is_some() {
            return;
        }
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Errors are in health, and the result of reading is in the log.
            let has_changed = match self.held() {
                Some(seen) => {
                    let renewed = self.renew(&seen).await;
                    renewed.is_ok_and(|renewed| !matches!(renewed, Renewed::Same))
                }
                None => {
                    let is_asked = self.control.user_configuration().tables_unasked.is_none();
                    is_asked && self.are_in_use().await.unwrap_or(false)
                }
            };
            if has_changed {
                let _ = self.control.reload(ReloadOf::SharedRegistry).await;
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
                tracing::warn!(%error, "the registry could not be closed");
            }
        }
    }
}

impl std::fmt::Debug for SharedRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SharedRegistry")
            .field(&self.settings.location)
            .finish()
    }
}
