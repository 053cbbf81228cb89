//! The tables are opened here, brought to this program's version, and changed in transactions: in a
//! file that is its owner's alone, or in a database that may be started anew meanwhile.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use martlet_access::IotflowBase;
use martlet_permission::Share;
use sqlx::any::install_default_drivers;
use sqlx::{Any, AnyConnection, Connection as _, Transaction};

use crate::audit::entry::{self, NewAuditEntry};
use crate::migrations::{self, migrate};
use crate::postgres::{self, PING_MAX};
use crate::secret::DigestKey;
use crate::sql::{Engine, Fault, Sql, signed, unsigned};
use crate::table_change::MessagesOfChanges;
use crate::writing::begin_writing;
use crate::{Actor, Location, Refused, RegistryError, now_ms};

/// Name of the file in the data directory.
pub const FILE: &str = "martlet.db";

/// SQLite gives `-wal` and `-shm` the mode of the file itself.
const MODE: u32 = 0o600;

/// The tables, opened for reading and changing.
pub struct Registry {
    location: Location,
    place: Arc<str>,
    /// Which file that was when it was opened; none: it is no file.
    file: Option<(u64, u64)>,
    pub(crate) connection: AnyConnection,
    key: Option<DigestKey>,
    /// All changes are undone when it is closed.
    is_dry_run: bool,
    pub(crate) settings: RegistrySettings,
}

/// How the tables are kept.
#[derive(Clone, Debug, Default)]
pub struct RegistrySettings {
    /// A verifier for SCRAM-SHA-256 is stored beside the hash of each password that is set.
    pub keeps_scram: bool,
    /// Where the topics of IoTFlow begin in the rules of roles and types that come with the
    /// program.
    pub iotflow_base: IotflowBase,
    /// Devices that one user may own; none: as many as they like.
    pub devices_per_user_max: Option<u64>,
    /// How much of what all teams share one team may have.
    pub team_share: Share,
    /// Makes the messages that follow from changes; none: nothing follows.
    pub messages_of_changes: Option<Arc<dyn MessagesOfChanges>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.place).finish()
    }
}

/// A write transaction: all of it is done, or nothing. There is no other writer meanwhile.
pub(crate) struct Work<'a> {
    pub(crate) all: Transaction<'a, Any>,
    pub(crate) engine: Engine,
    pub(crate) now_ms: i64,
    pub(crate) actor: Actor,
    pub(crate) devices_per_user_max: Option<u64>,
    team_share: Share,
    pub(crate) messages_of_changes: Option<Arc<dyn MessagesOfChanges>>,
    place: Arc<str>,
}

/// Reading under way. In PostgreSQL it is always a transaction: only there the schema of the tables
/// is looked in, so that nothing is left behind on a connection that a pooler lends to others.
pub(crate) struct Reading<'a> {
    on: On<'a>,
    place: Arc<str>,
}

enum On<'a> {
    Connection(&'a mut AnyConnection),
    Transaction(Transaction<'a, Any>),
}

impl Reading<'_> {
    /// Returns the connection that statements are run on.
    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        match &mut self.on {
            On::Connection(connection) => connection,
            On::Transaction(all) => all,
        }
    }

    /// Ends it, and answers what was read.
    pub(crate) async fn end<T, E>(self, read: Result<T, E>) -> Result<T, RegistryError>
    where
        Fault: From<E>,
    {
        let ended = match self.on {
            On::Connection(_) => Ok(()),
            On::Transaction(all) if read.is_ok() => all.commit().await,
            On::Transaction(all) => all.rollback().await,
        };
        let read = read.map_err(|fault| Fault::from(fault).at(&self.place))?;
        ended.map_err(|error| Fault::Sql(error).at(&self.place))?;
        Ok(read)
    }
}

impl Registry {
    /// Opens the tables at a place, makes them if they are not there, and runs the migrations that
    /// they lack.
    ///
    /// # Errors
    /// They cannot be used, or are of a newer version.
    pub async fn open(location: impl Into<Location>) -> Result<Self, RegistryError> {
        let location = location.into();
        let place: Arc<str> = location.to_string().into();
        install_default_drivers();
        let connection = match &location {
            Location::File(path) => {
                make_file(path)?;
                let whole = std::path::absolute(path).map_err(file_error(path))?;
                connect_sqlite(&place, &sqlite_url(&whole)?).await?
            }
            Location::Url(url) => postgres::connect(&place, url.whole()).await?,
        };
        Self::of(location, place, connection).await
    }

    /// Opens the tables in a file to read them: as [`Registry::open`], and where the file system
    /// allows no changes, as they are there.
    ///
    /// # Errors
    /// They cannot be read, or are of another version and cannot be brought to this one.
    pub async fn open_to_read(path: &Path) -> Result<Self, RegistryError> {
        let failed = match Self::open(path).await {
            Err(failed @ (RegistryError::File { .. } | RegistryError::Database { .. })) => failed,
            opened => return opened,
        };
        match is_unchangeable(path) {
            true => Self::open_unchangeable(path).await,
            false => Err(failed),
        }
    }

    async fn open_unchangeable(path: &Path) -> Result<Self, RegistryError> {
        let location = Location::File(path.to_owned());
        let place: Arc<str> = location.to_string().into();
        install_default_drivers();
        let whole = std::path::absolute(path).map_err(file_error(path))?;
        // Where no log lies beside it, SQLite would want to make one.
        let how = match has_log(path) {
            true => "?mode=ro",
            false => "?mode=ro&immutable=true",
        };
        let connected = AnyConnection::connect(&format!("{}{how}", sqlite_url(&whole)?)).await;
        let mut connection = connected.map_err(|error| Fault::Sql(error).at(&place))?;
        let mut versions = migrations::versions(&mut connection)
            .await
            .map_err(|error| Fault::Sql(error).at(&place))?
            .into_iter();
        let expected = migrations::known_versions();
        if let Some(version) = versions
            .clone()
            .find(|found| expected.clone().all(|known| known != *found))
        {
            let place = place.to_string();
            return Err(RegistryError::Newer { place, version });
        }
        if !versions.by_ref().eq(expected) {
            return Err(Refused::OlderVersion(place.to_string()).into());
        }
        Ok(Self {
            file: file_of(path),
            location,
            place,
            connection,
            key: None,
            is_dry_run: false,
            settings: RegistrySettings::default(),
        })
    }

    /// Empty tables in memory.
    ///
    /// # Errors
    /// There is no memory.
    pub async fn empty() -> Result<Self, RegistryError> {
        install_default_drivers();
        let connection = connect_sqlite(FILE, "sqlite::memory:").await?;
        Self::of(Location::File(FILE.into()), FILE.into(), connection).await
    }

    async fn of(
        location: Location,
        place: Arc<str>,
        mut connection: AnyConnection,
    ) -> Result<Self, RegistryError> {
        migrate(&place, engine_of(&location), &mut connection).await?;
        Ok(Self {
            file: location.file().and_then(file_of),
            location,
            place,
            connection,
            key: None,
            is_dry_run: false,
            settings: RegistrySettings::default(),
        })
    }

    /// Returns the registry with other settings.
    pub fn with(self, settings: RegistrySettings) -> Self {
        Self { settings, ..self }
    }

    /// Begins a dry run: this registry alone sees what it changes from now on, and all of it is
    /// undone when it is closed. Others cannot change anything meanwhile.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn begin_dry_run(&mut self) -> Result<(), RegistryError> {
        let (engine, place) = (self.engine(), Arc::clone(&self.place));
        let begun = begin_writing(self.connected().await?, engine).await;
        let all = begun.map_err(|error| Fault::Sql(error).at(&place))?;
        // The end of the connection undoes it. Dropping it would do so now.
        std::mem::forget(all);
        self.is_dry_run = true;
        Ok(())
    }

    /// Closes it; what was changed is in the file itself then, not in the log beside it.
    ///
    /// # Errors
    /// The database cannot write.
    pub async fn close(self) -> Result<(), RegistryError> {
        let closed = self.connection.close().await;
        closed.map_err(|error| Fault::Sql(error).at(&self.place))
    }

    /// There is or was a user or a device.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn is_in_use(&mut self) -> Result<bool, RegistryError> {
        let mut reading = self.reading().await?;
        let found = is_in_use(reading.connection()).await;
        reading.end(found).await
    }

    /// Another file has come to the place of the one that is open, or none is there any more.
    pub fn is_replaced(&self) -> bool {
        self.location.file().and_then(file_of) != self.file
    }

    /// Where they are.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// As errors name it.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Identifies these tables at any place. A copy of them has it too.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn identity(&mut self) -> Result<String, RegistryError> {
        Ok(self.digest_key().await?.identity())
    }

    pub(crate) fn engine(&self) -> Engine {
        engine_of(&self.location)
    }

    /// The connection; one that has broken, as when the database was started anew, is opened again.
    async fn connected(&mut self) -> Result<&mut AnyConnection, RegistryError> {
        // A new connection would not be in the transaction of a dry run.
        if let (Location::Url(url), false) = (&self.location, self.is_dry_run) {
            let alive = tokio::time::timeout(PING_MAX, self.connection.ping()).await;
            if !matches!(alive, Ok(Ok(()))) {
                self.connection = postgres::connect(&self.place, url.whole()).await?;
                self.key = None;
                // Another database may have come to its place.
                migrate(&self.place, Engine::Postgres, &mut self.connection).await?;
            }
        }
        Ok(&mut self.connection)
    }

    /// Begins reading. Each statement sees what is there when it begins;
    /// [`Self::consistent_reading`] is for what must be of one moment.
    pub(crate) async fn reading(&mut self) -> Result<Reading<'_>, RegistryError> {
        let (engine, place) = (self.engine(), Arc::clone(&self.place));
        let is_dry_run = self.is_dry_run;
        let connection = self.connected().await?;
        let on = match engine {
            _ if is_dry_run => On::Connection(connection),
            Engine::Sqlite => On::Connection(connection),
            Engine::Postgres => {
                let begun = postgres::begin(connection).await;
                On::Transaction(begun.map_err(|error| Fault::Sql(error).at(&place))?)
            }
        };
        Ok(Reading { on, place })
    }

    /// Begins a change.
    pub(crate) async fn begin(&mut self, actor: &Actor) -> Result<Work<'_>, RegistryError> {
        let engine = self.engine();
        let devices_per_user_max = self.settings.devices_per_user_max;
        let team_share = self.settings.team_share;
        let messages_of_changes = self.settings.messages_of_changes.clone();
        let place = Arc::clone(&self.place);
        let is_dry_run = self.is_dry_run;
        let connection = self.connected().await?;
        let begun = match is_dry_run {
            true => connection.begin().await,
            false => begin_writing(connection, engine).await,
        };
        Ok(Work {
            all: begun.map_err(|error| Fault::Sql(error).at(&place))?,
            engine,
            now_ms: now_ms(),
            actor: actor.clone(),
            devices_per_user_max,
            team_share,
            messages_of_changes,
            place,
        })
    }

    /// Begins a read transaction. All its statements see the same state.
    pub(crate) async fn consistent_reading(&mut self) -> Result<Reading<'_>, RegistryError> {
        let (engine, place) = (self.engine(), Arc::clone(&self.place));
        let is_dry_run = self.is_dry_run;
        let connection = self.connected().await?;
        if is_dry_run {
            let on = On::Connection(connection);
            return Ok(Reading { on, place });
        }
        let begun = match engine {
            Engine::Sqlite => connection.begin_with("BEGIN").await,
            Engine::Postgres => postgres::begin_snapshot(connection).await,
        };
        let begun = begun.map_err(|error| Fault::Sql(error).at(&place))?;
        let on = On::Transaction(begun);
        Ok(Reading { on, place })
    }

    /// The key of the digests of credentials, made when it is first asked for.
    pub(crate) async fn digest_key(&mut self) -> Result<DigestKey, RegistryError> {
        self.connected().await?;
        if let Some(key) = &self.key {
            return Ok(key.clone());
        }
        let place = Arc::clone(&self.place);
        let mut reading = self.reading().await?;
        let text = digest_key_text(reading.connection()).await;
        let text = reading.end(text).await?;
        let key = DigestKey::read(&text).ok_or_else(|| RegistryError::Damaged {
            place: place.to_string(),
            what: "the key of the devices' credentials is invalid".to_owned(),
        })?;
        self.key = Some(key.clone());
        Ok(key)
    }
}

impl Work<'_> {
    /// How many of the objects that all teams share one team may have, so that no team takes them
    /// all. Those that belong to no team are made by callers that see all teams, and are not
    /// limited.
    pub(crate) fn share_of(&self, team: &str, max: i64) -> i64 {
        match team {
            "" => max,
            _ => signed(self.team_share.of(unsigned(max))),
        }
    }

    /// Ends the change, or undoes it.
    pub(crate) async fn end<T>(self, done: Result<T, Fault>) -> Result<T, RegistryError> {
        match done {
            Ok(value) => {
                let ended = self.all.commit().await;
                ended.map_err(|error| Fault::Sql(error).at(&self.place))?;
                Ok(value)
            }
            Err(fault) => {
                // Dropping it undoes it, too.
                let _ = self.all.rollback().await;
                Err(fault.at(&self.place))
            }
        }
    }

    pub(crate) fn sql(&self, text: &'static str) -> Sql {
        Sql::new(self.engine, text)
    }

    /// Where the tables are, as errors name it.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The device number that is taken next.
    pub(crate) async fn next_number(&mut self) -> Result<i64, sqlx::Error> {
        let sql = "SELECT last FROM counters WHERE name = 'device'";
        let last: i64 = sqlx::query_scalar(sql).fetch_one(&mut *self.all).await?;
        Ok(last + 1)
    }

    /// Takes `many` device numbers that were never used and will not be used again. Returns the
    /// first.
    pub(crate) async fn take_numbers(&mut self, many: i64) -> Result<i64, sqlx::Error> {
        let sql = "UPDATE counters SET last = last + $1 WHERE name = 'device' RETURNING last";
        let query = sqlx::query_scalar::<_, i64>(sql).bind(many);
        Ok(query.fetch_one(&mut *self.all).await? - many + 1)
    }

    /// Has this device number be the one that is taken next, unless it was taken.
    pub(crate) async fn skip_numbers_to(&mut self, next: i64) -> Result<(), sqlx::Error> {
        let sql = "UPDATE counters SET last = $1 WHERE name = 'device' AND last < $1";
        let query = sqlx::query(sql).bind(next - 1);
        query.execute(&mut *self.all).await.map(drop)
    }

    /// Writes the audit log; `changed` is a JSON object without secrets.
    pub(crate) async fn audit(
        &mut self,
        action: &str,
        (kind, id): (&str, &str),
        team: &str,
        changed: serde_json::Value,
    ) -> Result<(), Fault> {
        let entry = NewAuditEntry {
            team: team.to_owned(),
            action: action.to_owned(),
            object_kind: kind.to_owned(),
            object_id: id.to_owned(),
            changed: changed.to_string(),
            outcome: "done".to_owned(),
        };
        self.write_audit(&[entry]).await
    }

    pub(crate) async fn write_audit(&mut self, entries: &[NewAuditEntry]) -> Result<(), Fault> {
        let engine = self.engine;
        let new = |text| Sql::new(engine, text);
        Ok(entry::write(&mut self.all, new, &self.actor, entries).await?)
    }

    /// Requires credentials of clients from now on, also after the last user and the last device
    /// are removed: that does not open the node.
    pub(crate) async fn set_in_use(&mut self) -> Result<(), sqlx::Error> {
        let sql = "INSERT INTO settings (name, value) VALUES ('in_use', 'yes') \
                   ON CONFLICT DO NOTHING";
        sqlx::query(sql).execute(&mut *self.all).await.map(drop)
    }
}

fn engine_of(location: &Location) -> Engine {
    match location {
        Location::File(_) => Engine::Sqlite,
        Location::Url(_) => Engine::Postgres,
    }
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> RegistryError {
    |error| RegistryError::File {
        path: path.to_owned(),
        error,
    }
}

fn make_file(path: &Path) -> Result<(), RegistryError> {
    let mut options = OpenOptions::new();
    let created = options.write(true).create_new(true).mode(MODE).open(path);
    match created {
        Ok(file) => give_to_owner_of_directory(&file, path).map_err(file_error(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(file_error(path)(error)),
    }
}

async fn connect_sqlite(place: &str, url: &str) -> Result<AnyConnection, RegistryError> {
    let failed = |error| Fault::Sql(error).at(place);
    let mut connection = AnyConnection::connect(url).await.map_err(failed)?;
    // Before anything is changed in it.
    let expected = migrations::expect_no_others(place, &mut connection).await;
    expected.map_err(|fault| fault.at(place))?;
    for pragma in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"] {
        let done = sqlx::raw_sql(pragma).execute(&mut connection).await;
        done.map_err(failed)?;
    }
    Ok(connection)
}

impl Fault {
    pub(crate) fn at(self, place: &str) -> RegistryError {
        match self {
            Self::Told(error) => error,
            Self::Sql(error) => {
                let of_file = needs_a_writable_file(&error).then_some(Path::new(place));
                let of_file = of_file.filter(|path| path.is_file());
                let place = place.to_owned();
                let why = of_file.and_then(why_not_writable);
                why.unwrap_or(RegistryError::Database { place, error })
            }
        }
    }
}

/// SQLITE_READONLY and SQLITE_CANTOPEN, with what extends them.
fn needs_a_writable_file(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    let code = code.and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 8 | 14))
}

/// Why a file cannot be written to. SQLite reports only that it cannot open it, or that it is
/// read-only. This is the system's error for the file, or for its directory, in which SQLite
/// creates others. None if both can be written to.
fn why_not_writable(path: &Path) -> Option<RegistryError> {
    let open = OpenOptions::new().read(true).write(true).open(path);
    let created = match open {
        Ok(_) => {
            let trial = with_end(path, &format!(".trial-{}", std::process::id()));
            make_copy(&trial).inspect(|()| drop(fs::remove_file(&trial)))
        }
        Err(error) => Err(error),
    };
    let error = created.err()?;
    let what_to_do = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "mount its file system for writing",
        io::ErrorKind::PermissionDenied => {
            "give the user of this process the right to write to it and to its directory"
        }
        _ => return Some(file_error(path)(error)),
    };
    let text = format!("cannot be opened for writing: {error}; {what_to_do}");
    Some(file_error(path)(io::Error::new(error.kind(), text)))
}

/// Device and inode.
pub(crate) fn file_of(path: &Path) -> Option<(u64, u64)> {
    let found = path.metadata().ok()?;
    Some((found.dev(), found.ino()))
}

/// Whether there is such a file. Other code reports a missing directory.
pub(crate) fn is_there(path: &Path) -> Result<bool, RegistryError> {
    match path.try_exists() {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        found => found.map_err(file_error(path)),
    }
}

/// A copy of the database at `path` as it is at this moment, without a name; none if it is not
/// there.
///
/// # Errors
/// It cannot be read, or no copy can be made beside it.
pub async fn copy_of(path: &Path) -> Result<Option<File>, RegistryError> {
    if !is_there(path)? {
        return Ok(None);
    }
    let beside = with_end(path, &format!(".copy-{}", std::process::id()));
    // What a process of this number left that was killed.
    let _ = fs::remove_file(&beside);
    let created = make_copy(&beside).map(|()| beside);
    let copy = match created {
        Err(error) if is_unwritable(&error) && !has_log(path) => {
            return File::open(path).map(Some).map_err(file_error(path));
        }
        // What is in the log belongs to it too.
        Err(error) if is_unwritable(&error) => {
            let name = format!("{FILE}.copy-{}", std::process::id());
            let elsewhere = std::env::temp_dir().join(name);
            make_copy(&elsewhere).map_err(file_error(&elsewhere))?;
            elsewhere
        }
        created => created.map_err(file_error(path))?,
    };
    let created = write_copy(path, &copy).await;
    let opened = File::open(&copy);
    let _ = fs::remove_file(&copy);
    created?;
    opened.map(Some).map_err(file_error(path))
}

/// A new file that only this user may read.
fn make_copy(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let created = options.write(true).create_new(true).mode(MODE).open(path);
    created.map(drop)
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Changes that are not in the file itself yet lie beside it.
fn has_log(path: &Path) -> bool {
    let log = with_end(path, "-wal").metadata();
    log.is_ok_and(|log| log.len() > 0)
}

fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

/// Nothing can be made beside the file. What is tried leaves nothing.
fn is_unchangeable(path: &Path) -> bool {
    let trial = with_end(path, &format!(".trial-{}", std::process::id()));
    let created = make_copy(&trial);
    if created.is_ok() {
        let _ = fs::remove_file(&trial);
    }
    created.is_err_and(|error| is_unwritable(&error))
}

async fn write_copy(path: &Path, copy: &Path) -> Result<(), RegistryError> {
    let text = copy.to_str();
    let text = text.ok_or_else(|| Refused::Path(copy.to_owned()))?;
    let mut registry = Registry::open_to_read(path).await?;
    let query = sqlx::query("VACUUM INTO $1").bind(text.to_owned());
    let done = query.execute(&mut registry.connection).await;
    done.map_err(|error| Fault::Sql(error).at(registry.place()))?;
    registry.close().await
}

/// Root makes it for the user that the node runs as.
fn give_to_owner_of_directory(file: &File, path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).metadata()?;
    match parent.uid() == file.metadata()?.uid() {
        true => Ok(()),
        false => fchown(file, Some(parent.uid()), Some(parent.gid())),
    }
}

pub(crate) async fn is_in_use(on: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let sql = "SELECT value FROM settings WHERE name = 'in_use'";
    let found = sqlx::query_scalar::<_, String>(sql).fetch_optional(on);
    Ok(found.await?.is_some())
}

pub(crate) async fn digest_key_text(on: &mut AnyConnection) -> Result<String, Fault> {
    let select = "SELECT value FROM settings WHERE name = 'digest_key'";
    let known = sqlx::query_scalar::<_, String>(select);
    if let Some(text) = known.fetch_optional(&mut *on).await? {
        return Ok(text);
    }
    let sql = "INSERT INTO settings (name, value) VALUES ('digest_key', $1) ON CONFLICT DO NOTHING";
    let created = sqlx::query(sql).bind(DigestKey::new_text()?);
    created.execute(&mut *on).await?;
    // Another process may have been first.
    Ok(sqlx::query_scalar(select).fetch_one(on).await?)
}

/// An absolute path as SQLite's driver takes it.
pub(crate) fn sqlite_url(path: &Path) -> Result<String, RegistryError> {
    let text = path.to_str();
    let text = text.ok_or_else(|| Refused::Path(path.to_owned()))?;
    let mut url = "sqlite://".to_owned();
    for byte in text.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                url.push(char::from(byte));
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    Ok(url)
}

/// Waits for work on the database where nothing is asynchronous, as while a node reads its
/// configuration. It has a thread of its own, since the caller's may drive a runtime.
///
/// # Errors
/// The work's, or no thread could be started.
pub fn wait<T: Send>(
    work: impl Future<Output = Result<T, RegistryError>> + Send,
) -> Result<T, RegistryError> {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(work),
                Err(error) => Err(RegistryError::System(format!("no runtime: {error}"))),
            }
        });
        done.join()
            .unwrap_or_else(|_| Err(RegistryError::System("the database's thread ended".into())))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::snapshot::tests::TemporaryDirectory;

    #[test]
    fn the_file_is_its_owners_alone_and_its_path_may_have_any_letters() {
        let place = TemporaryDirectory::new("odd ?#%20 name");
        wait(async {
            let registry = Registry::open(&place.db()).await?;
            for end in ["", "-wal", "-shm"] {
                let path = PathBuf::from(format!("{}{end}", place.db().display()));
                let found = path.metadata().expect("it is there");
                assert_eq!(found.permissions().mode() & 0o777, 0o600, "{end}");
            }
            registry.close().await
        })
        .unwrap();
        assert!(place.db().is_file());
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let place = TemporaryDirectory::new("newer");
        let opened = wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
                       execution_time) VALUES (900, 'later', TRUE, x'00', 1)";
            let done = sqlx::raw_sql(sql).execute(&mut registry.connection).await;
            done.map_err(|error| Fault::Sql(error).at(registry.place()))?;
            registry.close().await?;
            Registry::open(&place.db()).await
        });
        let why = opened.map(drop).unwrap_err();
        assert!(
            matches!(why, RegistryError::Newer { version: 900, .. }),
            "{why}"
        );
    }

    #[test]
    fn who_opens_it_first_makes_the_tables_and_the_others_wait() {
        let place = TemporaryDirectory::new("race");
        std::thread::scope(|scope| {
            let open = || {
                let work = async { Registry::open(&place.db()).await?.close().await };
                wait(work)
            };
            let all: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            for one in all {
                one.join().expect("no panic").expect("it is opened");
            }
        });
    }

    #[test]
    fn what_is_no_database_is_an_error() {
        let place = TemporaryDirectory::new("damaged");
        fs::write(
            place.db(),
            "this is a text, and long enough to be looked at",
        )
        .unwrap();
        let why = wait(Registry::open(&place.db())).map(drop).unwrap_err();
        assert!(why.to_string().contains("martlet.db"), "{why}");
    }
}
