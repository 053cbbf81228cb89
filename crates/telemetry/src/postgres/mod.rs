//! PostgreSQL: plain rows, in the schema `martlet_telemetry`.
//!
//! Several nodes may write to one database. The creation of roll-ups excludes writers by a lock
//! that is held until the end of a transaction.

pub(crate) mod maintain;
pub(crate) mod read;
pub(crate) mod write;

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::DatabaseUrl;
use crate::{Settings, StorageError};

/// Version of the tables.
const VERSION: i64 = 1;
/// The tables.
const SCHEMA: &str = include_str!("schema.sql");
/// The table of tenants.
const TENANTS: &str = include_str!("tenants.sql");

/// Lock for creating the tables, until the end of the transaction.
const SCHEMA_LOCK: &str = "SELECT pg_advisory_xact_lock(5129873164420718337)";
/// Shared lock of writers. A commit is synced, even if the database is configured otherwise.
const WRITE_LOCK: &str = "SELECT pg_advisory_xact_lock_shared(5129873164420718338); \
    SELECT set_config('synchronous_commit', 'on', TRUE) \
    WHERE current_setting('synchronous_commit') = 'off'";
/// Exclusive lock for creating roll-ups.
const ROLL_LOCK: &str = "SELECT pg_advisory_xact_lock(5129873164420718338)";

fn options(url: &DatabaseUrl) -> Result<PgConnectOptions, StorageError> {
    let options = PgConnectOptions::from_str(url.whole());
    // The driver's error may contain a part of the password.
    let options = options.map_err(|_| {
        StorageError::Location(format!(
            "{url}: not a URL of a database; use postgres://USER:PASSWORD@HOST:PORT/DATABASE"
        ))
    })?;
    Ok(options.disable_statement_logging())
}

/// Runs a database operation with a time limit.
async fn within<T>(
    most: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(most, work).await {
        Ok(done) => done,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Connects, and creates the tables if they are missing.
async fn connect(url: &DatabaseUrl, connect_max: Duration) -> Result<PgConnection, StorageError> {
    let place = url.to_string();
    let options = options(url)?;
    let work = async {
        let mut connection = options.connect().await?;
        let version = prepare(&mut connection).await?;
        Ok::<_, sqlx::Error>((connection, version))
    };
    let done = within(connect_max, work).await;
    match done.map_err(|error| StorageError::of_sql(&place, error))? {
        (connection, VERSION) => Ok(connection),
        (_, found) => {
            let known = VERSION;
            Err(StorageError::Newer {
                place,
                found,
                known,
            })
        }
    }
}

/// Creates the tables if they are missing. Returns their version.
async fn prepare(on: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let mut work = on.begin().await?;
    sqlx::raw_sql(SCHEMA_LOCK).execute(&mut *work).await?;
    if !has_table(&mut work, "martlet_telemetry.version").await? {
        let quiet = "SET LOCAL client_min_messages = warning";
        sqlx::raw_sql(quiet).execute(&mut *work).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut *work).await?;
        make_hypertable(&mut work).await?;
    }
    if !has_table(&mut work, "martlet_telemetry.tenants").await? {
        sqlx::raw_sql(TENANTS).execute(&mut *work).await?;
    }
    let version = sqlx::query_scalar("SELECT max(number) FROM martlet_telemetry.version");
    let version = version.fetch_one(&mut *work).await?;
    work.commit().await?;
    Ok(version)
}

async fn has_table(on: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let found = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(name);
    found.fetch_one(on).await
}

/// With TimescaleDB, stores the points in chunks of a week.
async fn make_hypertable(on: &mut PgConnection) -> Result<(), sqlx::Error> {
    let found = "SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb')";
    if sqlx::query_scalar::<_, bool>(found)
        .fetch_one(&mut *on)
        .await?
    {
        let sql = "SELECT create_hypertable('martlet_telemetry.points', 'time', \
                   chunk_time_interval => 604800000000)";
        sqlx::raw_sql(sql).execute(on).await?;
    }
    Ok(())
}

/// Read connections, opened on demand.
fn readers(url: &DatabaseUrl, settings: &Settings) -> Result<PgPool, StorageError> {
    Ok(PgPoolOptions::new()
        .max_connections(settings.readers_max.max(1))
        .min_connections(0)
        .idle_timeout(Some(Duration::from_secs(60)))
        .acquire_timeout(settings.connect_max)
        .connect_lazy_with(options(url)?))
}
