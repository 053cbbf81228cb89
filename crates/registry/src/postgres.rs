//! PostgreSQL: connecting, transactions, and the schema of the tables.
//!
//! All tables are in the schema `martlet`, whatever else is in the database. `search_path` and the
//! other settings are set with `SET LOCAL` at the beginning of each transaction, and everything is
//! read and written in transactions. So a connection keeps no settings, and a pooler may lend it to
//! another program, or another one to this program, between two transactions.

use std::io;
use std::time::Duration;

use sqlx::{Any, AnyConnection, AssertSqlSafe, Connection as _, Row as _, Transaction};

use crate::sql::Fault;
use crate::{Refused, RegistryError};

/// Time without an answer to a connection attempt after which the database counts as unreachable.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Time without an answer likewise, for a connection that is there, and on which nothing else is
/// under way.
pub(crate) const PING_MAX: Duration = Duration::from_secs(5);

/// Name of the schema.
pub(crate) const SCHEMA: &str = "martlet";

/// Lock that one writer holds until the end of its transaction, as in SQLite.
const WRITER_LOCK: &str = "SELECT pg_advisory_xact_lock(7235126411286897002)";

/// Settings of a transaction. A client that vanishes in the middle must not keep others from
/// writing. A plan from when there were few rows must not be kept. No statement here is worth being
/// compiled: triggers, which do without sequential scans, were.
macro_rules! settings {
    () => {
        "SET LOCAL search_path = martlet, pg_temp; SET LOCAL client_min_messages = warning; \
         SET LOCAL statement_timeout = '60s'; SET LOCAL plan_cache_mode = force_custom_plan; \
         SET LOCAL jit = off; SET LOCAL idle_in_transaction_session_timeout = '60s'"
    };
}

const BEGIN: &str = concat!("BEGIN; ", settings!());

const BEGIN_SNAPSHOT: &str = concat!(
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ",
    settings!()
);

/// Our tables and functions by the migration that makes them: earlier versions created them in the
/// first schema of the search path, which is `public` by default.
const MADE_BY: &[(i64, &[&str])] = &[
    (
        1,
        &[
            "settings",
            "roles",
            "device_types",
            "rules",
            "users",
            "devices",
            "device_credentials",
        ],
    ),
    (2, &["changes", "change_counter"]),
    (
        3,
        &[
            "counters",
            "teams",
            "team_members",
            "api_keys",
            "device_tags",
            "device_groups",
            "group_devices",
            "device_configuration",
            "provisioning_keys",
            "bans",
            "presence",
            "idempotency_keys",
        ],
    ),
    (4, &["audit"]),
    (8, &["integration_states", "dead_letters"]),
    (9, &["secrets"]),
    (18, &["added_integrations", "bridge_subscriptions"]),
    (19, &["message_log"]),
];

const FUNCTIONS: &[(i64, &[&str])] = &[
    (2, &["changes_add(text, text[])"]),
    (
        4,
        &[
            "changes_of_all()",
            "changes_of_users()",
            "changes_of_bans()",
            "changes_of_devices()",
            "changes_of_device_rows()",
            "changes_of_owned_rows()",
            "changes_of_owned()",
        ],
    ),
];

/// Connects. Nothing is set on the connection.
pub(crate) async fn connect(place: &str, url: &str) -> Result<AnyConnection, RegistryError> {
    let late = |_| sqlx::Error::Io(io::ErrorKind::TimedOut.into());
    let connected = tokio::time::timeout(CONNECT_MAX, AnyConnection::connect(url)).await;
    connected
        .map_err(late)
        .and_then(|done| done)
        .map_err(|error| Fault::Sql(error).at(place))
}

/// Begins a transaction.
pub(crate) async fn begin(
    connection: &mut AnyConnection,
) -> Result<Transaction<'_, Any>, sqlx::Error> {
    connection.begin_with(BEGIN).await
}

/// Begins a transaction that sees the tables as they are at one moment.
pub(crate) async fn begin_snapshot(
    connection: &mut AnyConnection,
) -> Result<Transaction<'_, Any>, sqlx::Error> {
    connection.begin_with(BEGIN_SNAPSHOT).await
}

/// Begins a transaction without other writers.
pub(crate) async fn begin_writing(
    connection: &mut AnyConnection,
) -> Result<Transaction<'_, Any>, sqlx::Error> {
    let mut all = begin(connection).await?;
    sqlx::raw_sql(WRITER_LOCK).execute(&mut *all).await?;
    Ok(all)
}

/// Makes the schema if it is missing, and moves the tables into it that an earlier version made
/// elsewhere.
pub(crate) async fn prepare_schema(
    on: &mut AnyConnection,
    first_checksum: &[u8],
) -> Result<(), Fault> {
    if has_tables(on).await? {
        return Ok(());
    }
    look_elsewhere(on).await?;
    let old = old_tables(on, first_checksum).await?;
    let search_path = "SET LOCAL search_path = martlet, pg_temp";
    sqlx::raw_sql(search_path).execute(&mut *on).await?;
    if !has_schema(on).await? {
        make_schema(on).await?;
    }
    match old {
        Some((schema, version)) => move_from(on, &schema, version).await,
        None => Ok(()),
    }
}

/// Has unqualified names lead until the end of the transaction where they lead if nothing is set,
/// but not to our schema. It is among those schemas if the user is called as it is.
pub(crate) async fn look_elsewhere(on: &mut AnyConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("SET LOCAL search_path TO DEFAULT")
        .execute(&mut *on)
        .await?;
    let others = "SELECT set_config('search_path', coalesce((SELECT string_agg(quote_ident(name), ', ') \
                  FROM unnest(current_schemas(false)) AS found (name) WHERE name <> 'martlet'), \
                  'public'), true)";
    sqlx::raw_sql(others).execute(on).await.map(drop)
}

/// The schema exists.
pub(crate) async fn has_schema(on: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)";
    sqlx::query_scalar(sql).bind(SCHEMA).fetch_one(on).await
}

/// Our tables are in it.
async fn has_tables(on: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let sql = "SELECT to_regclass('martlet._sqlx_migrations') IS NOT NULL";
    sqlx::query_scalar(sql).fetch_one(on).await
}

/// Schema in which an earlier version made our tables, and the version of them. It is one of the
/// search path, and not our own. Our tables are recognised by the checksum of their first
/// migration.
pub(crate) async fn old_tables(
    on: &mut AnyConnection,
    first_checksum: &[u8],
) -> Result<Option<(String, i64)>, Fault> {
    let table = "SELECT pg_namespace.nspname::text AS schema_name FROM pg_catalog.pg_class \
                 JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace \
                 WHERE pg_class.oid = to_regclass('_sqlx_migrations') \
                 AND has_table_privilege(pg_class.oid, 'SELECT')";
    let schema: Option<String> = sqlx::query_scalar(table).fetch_optional(&mut *on).await?;
    let Some(schema) = schema.filter(|schema| schema != SCHEMA) else {
        return Ok(None);
    };
    let sql = format!(
        "SELECT version, checksum FROM {}._sqlx_migrations ORDER BY version",
        quoted(&schema)
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *on).await?;
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return Ok(None);
    };
    let is_ours = first.try_get::<i64, _>("version")? == 1
        && first.try_get::<Vec<u8>, _>("checksum")? == first_checksum;
    let version = last.try_get("version")?;
    Ok(is_ours.then_some((schema, version)))
}

async fn make_schema(on: &mut AnyConnection) -> Result<(), Fault> {
    let sql = "SELECT has_database_privilege(current_database(), 'CREATE'), \
               current_user::text, current_database()::text";
    let row = sqlx::query(sql).fetch_one(&mut *on).await?;
    if !row.try_get::<bool, _>(0)? {
        let (user, database): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let refused = Refused::Schema {
            schema: SCHEMA,
            quoted: quoted(&user),
            user,
            database,
        };
        return Err(refused.into());
    }
    sqlx::raw_sql("CREATE SCHEMA martlet").execute(on).await?;
    Ok(())
}

async fn move_from(on: &mut AnyConnection, schema: &str, version: i64) -> Result<(), Fault> {
    let statements = |by: &[(i64, &'static [&'static str])]| {
        let statements = by.iter().filter(|(since, _)| *since <= version);
        let names = statements.flat_map(|(_, names)| names.iter().copied());
        names.collect::<Vec<_>>()
    };
    let mut sql = String::new();
    let old = quoted(schema);
    for table in statements(MADE_BY).into_iter().chain(["_sqlx_migrations"]) {
        sql.push_str(&format!("ALTER TABLE {old}.{table} SET SCHEMA {SCHEMA}; "));
    }
    for function in statements(FUNCTIONS) {
        sql.push_str(&format!(
            "ALTER FUNCTION {old}.{function} SET SCHEMA {SCHEMA}; "
        ));
    }
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(on).await?;
    Ok(())
}

/// Functions of triggers find the tables for every user and search path.
pub(crate) async fn bind_functions(on: &mut AnyConnection) -> Result<(), Fault> {
    let sql = "DO $$ DECLARE found RECORD; BEGIN \
               FOR found IN SELECT oid::regprocedure AS name FROM pg_catalog.pg_proc \
               WHERE pronamespace = 'martlet'::regnamespace \
               AND coalesce(array_to_string(proconfig, ' '), '') NOT LIKE '%search_path%' LOOP \
               EXECUTE format('ALTER FUNCTION %s SET search_path = martlet, pg_temp', found.name); \
               END LOOP; END $$";
    sqlx::raw_sql(sql).execute(on).await?;
    Ok(())
}

/// A name, quoted for a statement.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
