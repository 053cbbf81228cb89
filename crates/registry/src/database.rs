//! The tables are opened here, brought to this program's version, and changed in transactions: in a
//! file that is its owner's alone, or in a database that may be started anew meanwhile.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use martlet_access::IotflowBase;
use martlet_permission::Share;
use sqlx::any::install_default_drivers;
use sqlx::{Any, AnyConnection, Connection as _, Transaction};

use crate::audit::entry::{self, NewAuditEntry};
use crate::migrations::{self, migrate};
use crate::object::{Object, push_insert, push_row, push_update};
use crate::postgres::{self, PING_MAX};
use crate::secret::DigestKey;
use crate::sql::{Engine, Fault, Sql, unsigned};
use crate::sqlite_file::{
    copy_for_dry_run, file_error, file_of, has_log, is_there, is_unchangeable, is_unwritable,
    make_copy, make_file, sqlite_url, vacuum_into, with_end,
};
use crate::table_change::MessagesOfChanges;
use crate::writing::begin_writing;
use crate::{Actor, Location, Refused, RegistryError, now_ms};

/// Name of the file in the data directory.
pub const FILE: &str = "martlet.db";

/// The tables, opened for reading and changing.
pub struct Registry {
    location: Location,
    place: Arc<str>,
    /// Which file that was when it was opened; none: it is no file.
    file: Option<(u64, u64)>,
    pub(crate) connection: AnyConnection,
    key: Option<DigestKey>,
    /// All is one transaction, which is undone when it is closed.
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
    /// gone when it is closed. It changes a copy of an SQLite file. In PostgreSQL it is one
    /// transaction, and others cannot change anything meanwhile.
    ///
    /// # Errors
    /// The file cannot be copied, or the database cannot be changed.
    pub async fn begin_dry_run(&mut self) -> Result<(), RegistryError> {
        if let Location::File(path) = &self.location {
            self.connection = copy_for_dry_run(path, &self.place, &mut self.connection).await?;
            return Ok(());
        }
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
    /// Whether a team that has `own` of the objects that all teams share may add one, where there
    /// are `all` of at most `max`. Objects of no team are made by callers that see all teams, and
    /// have no share.
    pub(crate) fn is_in_share(&self, team: &str, own: i64, all: i64, max: i64) -> bool {
        let share = self.team_share.beside(unsigned(all - own), unsigned(max));
        team.is_empty() || unsigned(own) < share
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
    /// Adds an object to its table. `beside` are columns that no field has, with their texts.
    pub(crate) async fn insert<O: Object>(
        &mut self,
        object: &O,
        beside: &[(&'static str, &str)],
    ) -> Result<(), sqlx::Error> {
        let mut sql = self.sql("");
        push_insert::<O>(&mut sql, beside.iter().map(|(column, _)| *column));
        let texts = beside.iter().map(|(_, text)| (*text).to_owned());
        push_row(&mut sql, object, texts);
        sql.execute(&mut self.all).await.map(drop)
    }

    /// Writes a changed object, whose `key` is a column that names it.
    pub(crate) async fn update<O: Object>(
        &mut self,
        object: &O,
        key: &'static str,
        name: &str,
    ) -> Result<(), sqlx::Error> {
        let mut sql = self.sql("");
        push_update(&mut sql, object);
        sql.push(" WHERE ").push(key).push(" = ");
        sql.bind(name.to_owned());
        sql.execute(&mut self.all).await.map(drop)
    }

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

async fn write_copy(path: &Path, copy: &Path) -> Result<(), RegistryError> {
    let mut registry = Registry::open_to_read(path).await?;
    vacuum_into(copy, &registry.place, &mut registry.connection).await?;
    registry.close().await
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
    use std::path::PathBuf;

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
