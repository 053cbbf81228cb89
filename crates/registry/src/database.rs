//! The file `martlet.db`: its owner's alone, brought to this program's version when it is opened.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::any::install_default_drivers;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Any, AnyConnection, Connection as _, SqlSafeStr as _, Transaction};

use crate::RegistryError;
use crate::secret::DigestKey;

/// Its name in the data directory.
pub const FILE: &str = "martlet.db";

/// SQLite gives `-wal` and `-shm` the mode of the file itself.
const MODE: u32 = 0o600;

/// Numbers of migrations, names, and what they do. None is ever changed once it is released.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "users, devices, roles",
        include_str!("../migrations/0001_users_devices_roles.sql"),
    ),
    (2, "changes", include_str!("../migrations/0002_changes.sql")),
];

/// The tables, opened for reading and changing.
#[derive(Debug)]
pub struct Registry {
    path: Arc<Path>,
    pub(crate) connection: AnyConnection,
    /// A verifier for SCRAM-SHA-256 is stored beside the hash of each password that is set.
    pub(crate) with_scram: bool,
}

impl Registry {
    /// Opens the database at `path`, which is made if it is not there, and runs the migrations that
    /// it lacks.
    ///
    /// # Errors
    /// It cannot be used, or is of a newer version.
    pub async fn open(path: &Path) -> Result<Self, RegistryError> {
        let file_error = |error| RegistryError::File {
            path: path.to_owned(),
            error,
        };
        let mut options = OpenOptions::new();
        let made = options.write(true).create_new(true).mode(MODE).open(path);
        match made {
            Ok(file) => give_to_owner_of_directory(&file, path).map_err(file_error)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(file_error(error)),
        }
        let whole = std::path::absolute(path).map_err(file_error)?;
        install_default_drivers();
        Self::connect(path, &url(&whole)?).await
    }

    /// Tables as they are before anybody was added, in memory.
    ///
    /// # Errors
    /// There is no memory.
    pub async fn empty() -> Result<Self, RegistryError> {
        install_default_drivers();
        Self::connect(Path::new(FILE), "sqlite::memory:").await
    }

    async fn connect(path: &Path, url: &str) -> Result<Self, RegistryError> {
        let connected = AnyConnection::connect(url).await;
        let mut connection = connected.map_err(database_error(path))?;
        for pragma in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"] {
            let done = sqlx::raw_sql(pragma).execute(&mut connection).await;
            done.map_err(database_error(path))?;
        }
        migrate(path, &mut connection).await?;
        Ok(Self {
            path: path.into(),
            connection,
            with_scram: false,
        })
    }

    /// Whether a verifier for SCRAM-SHA-256 is stored beside the hash of each password that is set
    /// from now on; at first it is not.
    pub fn keep_scram(&mut self, keeps: bool) {
        self.with_scram = keeps;
    }

    /// Closes it; what was changed is in the file itself then, not in the log beside it.
    ///
    /// # Errors
    /// The database cannot write.
    pub async fn close(self) -> Result<(), RegistryError> {
        let path = Arc::clone(&self.path);
        self.connection.close().await.map_err(database_error(&path))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of what follows is done, or nothing; nobody else writes meanwhile.
    pub(crate) async fn begin(&mut self) -> Result<Transaction<'_, Any>, RegistryError> {
        let begun = self.connection.begin_with("BEGIN IMMEDIATE").await;
        begun.map_err(database_error(&self.path))
    }

    /// What is read from now on is as it is at this moment.
    pub(crate) async fn begin_reading(&mut self) -> Result<(), RegistryError> {
        let begun = sqlx::raw_sql("BEGIN").execute(&mut self.connection).await;
        begun.map(drop).map_err(database_error(&self.path))
    }

    pub(crate) async fn end_reading(&mut self) -> Result<(), RegistryError> {
        let ended = sqlx::raw_sql("COMMIT").execute(&mut self.connection).await;
        ended.map(drop).map_err(database_error(&self.path))
    }

    pub(crate) fn shared_path(&self) -> Arc<Path> {
        Arc::clone(&self.path)
    }
}

/// There is such a file. That its directory is none is for others to say.
pub(crate) fn is_there(path: &Path) -> Result<bool, RegistryError> {
    match path.try_exists() {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        found => found.map_err(|error| RegistryError::File {
            path: path.to_owned(),
            error,
        }),
    }
}

/// A copy of the database at `path` as it is at this moment, without a name; none if it is not
/// there.
///
/// # Errors
/// It cannot be read, or no copy can be made beside it.
pub async fn copy_of(path: &Path) -> Result<Option<File>, RegistryError> {
    let file_error = |error| RegistryError::File {
        path: path.to_owned(),
        error,
    };
    if !is_there(path)? {
        return Ok(None);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".copy-{}", std::process::id()));
    let copy = PathBuf::from(name);
    let mut options = OpenOptions::new();
    // What a process of this number left that was killed.
    let _ = fs::remove_file(&copy);
    match options.write(true).create_new(true).mode(MODE).open(&copy) {
        // Where nothing can be written nobody is writing.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            return File::open(path).map(Some).map_err(file_error);
        }
        made => drop(made.map_err(file_error)?),
    }
    let made = write_copy(path, &copy).await;
    let opened = File::open(&copy);
    let _ = fs::remove_file(&copy);
    made?;
    opened.map(Some).map_err(file_error)
}

async fn write_copy(path: &Path, copy: &Path) -> Result<(), RegistryError> {
    let text = copy.to_str().ok_or_else(|| {
        RegistryError::Refused(format!("{}: its path is not UTF-8", copy.display()))
    })?;
    let mut registry = Registry::open(path).await?;
    let query = sqlx::query("VACUUM INTO $1").bind(text.to_owned());
    let done = query.execute(&mut registry.connection).await;
    done.map_err(database_error(path))?;
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

/// From now on clients have to say who they are, also after the last user and the last device are
/// removed: a node does not open its doors by that.
pub(crate) async fn set_in_use(all: &mut Transaction<'_, Any>) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO settings (name, value) VALUES ('in_use', 'yes') ON CONFLICT DO NOTHING";
    sqlx::query(sql).execute(&mut **all).await.map(drop)
}

pub(crate) async fn is_in_use(registry: &mut Registry) -> Result<bool, RegistryError> {
    let sql = "SELECT value FROM settings WHERE name = 'in_use'";
    let found = sqlx::query_scalar::<_, String>(sql);
    let found = found.fetch_optional(&mut registry.connection).await;
    found
        .map(|found| found.is_some())
        .map_err(database_error(&registry.path))
}

/// The key of the digests of credentials, made when it is first asked for.
pub(crate) async fn digest_key(registry: &mut Registry) -> Result<DigestKey, RegistryError> {
    let failed = database_error(&registry.path);
    let select = "SELECT value FROM settings WHERE name = 'digest_key'";
    let known = sqlx::query_scalar::<_, String>(select);
    let known = known.fetch_optional(&mut registry.connection).await;
    let text = match known.map_err(&failed)? {
        Some(text) => text,
        None => {
            let sql = "INSERT INTO settings (name, value) VALUES ('digest_key', $1) \
                       ON CONFLICT DO NOTHING";
            let made = sqlx::query(sql).bind(DigestKey::new_text()?);
            let made = made.execute(&mut registry.connection).await;
            made.map_err(&failed)?;
            // Another process may have been first.
            let found = sqlx::query_scalar::<_, String>(select);
            let found = found.fetch_one(&mut registry.connection).await;
            found.map_err(&failed)?
        }
    };
    DigestKey::read(&text).ok_or_else(|| RegistryError::Damaged {
        path: registry.path.to_path_buf(),
        what: "the key of the devices' credentials is none".to_owned(),
    })
}

/// Runs what is missing. Of processes that come at once one does, and the others wait for it.
async fn migrate(path: &Path, connection: &mut AnyConnection) -> Result<(), RegistryError> {
    if is_of_this_version(connection).await {
        return Ok(());
    }
    let failed = database_error(path);
    let begun = connection.begin_with("BEGIN IMMEDIATE").await;
    let mut all = begun.map_err(&failed)?;
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        Migration::new(
            *version,
            (*name).into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    let done = migrator.run_direct(None, &mut *all, false).await;
    done.map_err(|error| {
        let path = path.to_owned();
        match error {
            MigrateError::VersionMissing(version) => RegistryError::Newer { path, version },
            MigrateError::Execute(error) => RegistryError::Database { path, error },
            error => RegistryError::Migration {
                path,
                why: error.to_string(),
            },
        }
    })?;
    all.commit().await.map_err(failed)
}

/// All migrations have been run, and no others. Where there is no such table yet there are none.
async fn is_of_this_version(connection: &mut AnyConnection) -> bool {
    let sql = "SELECT version FROM _sqlx_migrations ORDER BY version";
    let known = sqlx::query_scalar::<_, i64>(sql)
        .fetch_all(connection)
        .await;
    let expected = MIGRATIONS.iter().map(|(version, ..)| version);
    known.is_ok_and(|known| known.iter().eq(expected))
}

/// An absolute path as SQLite's driver takes it.
fn url(path: &Path) -> Result<String, RegistryError> {
    let text = path.to_str().ok_or_else(|| {
        RegistryError::Refused(format!("{}: its path is not UTF-8", path.display()))
    })?;
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

pub(crate) fn database_error(path: &Path) -> impl Fn(sqlx::Error) -> RegistryError + use<> {
    let path: PathBuf = path.to_owned();
    move |error| RegistryError::Database {
        path: path.clone(),
        error,
    }
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
                .enable_time()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(work),
                Err(error) => Err(RegistryError::Refused(format!("no runtime: {error}"))),
            }
        });
        done.join()
            .unwrap_or_else(|_| Err(RegistryError::Refused("the database's thread ended".into())))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::snapshot::tests::Place;

    #[test]
    fn the_file_is_its_owners_alone_and_its_path_may_have_any_letters() {
        let place = Place::new("odd ?#%20 name");
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
        let place = Place::new("newer");
        let opened = wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
                       execution_time) VALUES (900, 'later', TRUE, x'00', 1)";
            let done = sqlx::raw_sql(sql).execute(&mut registry.connection).await;
            done.map_err(database_error(registry.path()))?;
            registry.close().await?;
            Registry::open(&place.db()).await
        });
        let told = opened.map(drop).unwrap_err();
        assert!(
            matches!(told, RegistryError::Newer { version: 900, .. }),
            "{told}"
        );
    }

    #[test]
    fn who_opens_it_first_makes_the_tables_and_the_others_wait() {
        let place = Place::new("race");
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
        let place = Place::new("damaged");
        fs::write(
            place.db(),
            "this is a text, and long enough to be looked at",
        )
        .unwrap();
        let told = wait(Registry::open(&place.db())).map(drop).unwrap_err();
        assert!(told.to_string().contains("martlet.db"), "{told}");
    }
}
