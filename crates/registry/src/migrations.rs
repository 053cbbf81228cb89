//! The steps from one version of the tables to the next, and running those that are missing.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, SqlSafeStr as _};

use crate::postgres;
use crate::sql::{Engine, Fault};
use crate::writing::begin_writing;
use crate::{Refused, RegistryError};

/// A step from one version of the tables to the next.
struct Step {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

/// None is ever changed once it is released.
const MIGRATIONS: &[Step] = &[
    Step {
        version: 1,
        name: "users, devices, roles",
        sqlite: include_str!("../migrations/0001_users_devices_roles.sql"),
        postgres: include_str!("../migrations/0001_users_devices_roles.sql"),
    },
    Step {
        version: 2,
        name: "changes",
        sqlite: include_str!("../migrations/0002_changes.sql"),
        postgres: include_str!("../migrations/0002_changes.postgres.sql"),
    },
    Step {
        version: 3,
        name: "teams, devices, keys",
        sqlite: include_str!("../migrations/0003_teams_devices_keys.sql"),
        postgres: include_str!("../migrations/0003_teams_devices_keys.sql"),
    },
    Step {
        version: 4,
        name: "audit and triggers",
        sqlite: include_str!("../migrations/0004_audit_and_triggers.sqlite.sql"),
        postgres: include_str!("../migrations/0004_audit_and_triggers.postgres.sql"),
    },
    Step {
        version: 5,
        name: "presence of nodes",
        sqlite: include_str!("../migrations/0005_presence_of_nodes.sql"),
        postgres: include_str!("../migrations/0005_presence_of_nodes.sql"),
    },
    Step {
        version: 6,
        name: "claimed",
        sqlite: include_str!("../migrations/0006_claimed.sql"),
        postgres: include_str!("../migrations/0006_claimed.sql"),
    },
    Step {
        version: 7,
        name: "no counter of tenants",
        sqlite: include_str!("../migrations/0007_no_tenant_counter.sql"),
        postgres: include_str!("../migrations/0007_no_tenant_counter.sql"),
    },
    Step {
        version: 8,
        name: "integrations",
        sqlite: include_str!("../migrations/0008_integrations.sql"),
        postgres: include_str!("../migrations/0008_integrations.sql"),
    },
    Step {
        version: 9,
        name: "secrets",
        sqlite: include_str!("../migrations/0009_secrets.sql"),
        postgres: include_str!("../migrations/0009_secrets.sql"),
    },
    Step {
        version: 10,
        name: "letters sent again",
        sqlite: include_str!("../migrations/0010_letters_sent_again.sql"),
        postgres: include_str!("../migrations/0010_letters_sent_again.sql"),
    },
    Step {
        version: 11,
        name: "types for other products",
        sqlite: include_str!("../migrations/0011_types_for_other_products.sql"),
        postgres: include_str!("../migrations/0011_types_for_other_products.sql"),
    },
    Step {
        version: 12,
        name: "reserved ids",
        sqlite: include_str!("../migrations/0012_reserved_ids.sqlite.sql"),
        postgres: include_str!("../migrations/0012_reserved_ids.postgres.sql"),
    },
    Step {
        version: 13,
        name: "kind",
        sqlite: include_str!("../migrations/0013_kind.sql"),
        postgres: include_str!("../migrations/0013_kind.sql"),
    },
    Step {
        version: 14,
        name: "client ids",
        sqlite: include_str!("../migrations/0014_client_ids.sql"),
        postgres: include_str!("../migrations/0014_client_ids.sql"),
    },
    Step {
        version: 15,
        name: "last messages",
        sqlite: include_str!("../migrations/0015_last_messages.sql"),
        postgres: include_str!("../migrations/0015_last_messages.sql"),
    },
    Step {
        version: 16,
        name: "team tokens",
        sqlite: include_str!("../migrations/0016_team_tokens.sqlite.sql"),
        postgres: include_str!("../migrations/0016_team_tokens.postgres.sql"),
    },
    Step {
        version: 17,
        name: "teams of users",
        sqlite: include_str!("../migrations/0017_teams_of_users.sqlite.sql"),
        postgres: include_str!("../migrations/0017_teams_of_users.postgres.sql"),
    },
    Step {
        version: 18,
        name: "added integrations",
        sqlite: include_str!("../migrations/0018_added_integrations.sql"),
        postgres: include_str!("../migrations/0018_added_integrations.sql"),
    },
    Step {
        version: 19,
        name: "message log",
        sqlite: include_str!("../migrations/0019_message_log.sql"),
        postgres: include_str!("../migrations/0019_message_log.sql"),
    },
    Step {
        version: 20,
        name: "inactive devices",
        sqlite: include_str!("../migrations/0020_inactive_devices.sql"),
        postgres: include_str!("../migrations/0020_inactive_devices.sql"),
    },
    Step {
        version: 21,
        name: "commands",
        sqlite: include_str!("../migrations/0021_commands.sql"),
        postgres: include_str!("../migrations/0021_commands.sql"),
    },
    Step {
        version: 22,
        name: "twins",
        sqlite: include_str!("../migrations/0022_twins.sql"),
        postgres: include_str!("../migrations/0022_twins.sql"),
    },
    Step {
        version: 23,
        name: "rules and alarms",
        sqlite: include_str!("../migrations/0023_rules_and_alarms.sql"),
        postgres: include_str!("../migrations/0023_rules_and_alarms.sql"),
    },
    Step {
        version: 24,
        name: "firmware",
        sqlite: include_str!("../migrations/0024_firmware.sql"),
        postgres: include_str!("../migrations/0024_firmware.sql"),
    },
    Step {
        version: 25,
        name: "group twins",
        sqlite: include_str!("../migrations/0025_group_twins.sqlite.sql"),
        postgres: include_str!("../migrations/0025_group_twins.postgres.sql"),
    },
    Step {
        version: 26,
        name: "alarm watches",
        sqlite: include_str!("../migrations/0026_alarm_watches.sql"),
        postgres: include_str!("../migrations/0026_alarm_watches.sql"),
    },
    Step {
        version: 27,
        name: "command hops",
        sqlite: include_str!("../migrations/0027_command_hops.sql"),
        postgres: include_str!("../migrations/0027_command_hops.sql"),
    },
    Step {
        version: 28,
        name: "goodbye",
        sqlite: include_str!("../migrations/0028_goodbye.sql"),
        postgres: include_str!("../migrations/0028_goodbye.sql"),
    },
    Step {
        version: 29,
        name: "offline devices",
        sqlite: include_str!("../migrations/0029_offline_devices.sql"),
        postgres: include_str!("../migrations/0029_offline_devices.sql"),
    },
    Step {
        version: 30,
        name: "kept telemetry",
        sqlite: include_str!("../migrations/0030_kept_telemetry.sql"),
        postgres: include_str!("../migrations/0030_kept_telemetry.sql"),
    },
    Step {
        version: 31,
        name: "outbox",
        sqlite: include_str!("../migrations/0031_outbox.sql"),
        postgres: include_str!("../migrations/0031_outbox.sql"),
    },
    Step {
        version: 32,
        name: "names within teams",
        sqlite: include_str!("../migrations/0032_names_within_teams.sql"),
        postgres: include_str!("../migrations/0032_names_within_teams.sql"),
    },
    Step {
        version: 33,
        name: "checksums of letters",
        sqlite: include_str!("../migrations/0033_checksums_of_letters.sql"),
        postgres: include_str!("../migrations/0033_checksums_of_letters.sql"),
    },
];

impl Step {
    fn migration(&self, engine: Engine) -> Migration {
        let sql = match engine {
            Engine::Sqlite => self.sqlite,
            Engine::Postgres => self.postgres,
        };
        Migration::new(
            self.version,
            self.name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    }
}

/// Checksum of the first step. It distinguishes our tables from those of another program that keeps
/// its migrations in the same way.
pub(crate) fn first_checksum(engine: Engine) -> Vec<u8> {
    let first = MIGRATIONS.first();
    first.map_or_else(Vec::new, |step| step.migration(engine).checksum.to_vec())
}

/// Versions of all steps.
pub(crate) fn known_versions() -> impl Iterator<Item = i64> + Clone {
    MIGRATIONS.iter().map(|step| step.version)
}

/// Runs what is missing. Of processes that come at once one does, and the others wait for it.
pub(crate) async fn migrate(
    place: &str,
    engine: Engine,
    connection: &mut AnyConnection,
) -> Result<(), RegistryError> {
    if is_of_this_version(engine, connection).await {
        return Ok(());
    }
    let failed = |error| Fault::Sql(error).at(place);
    let mut all = begin_writing(connection, engine).await.map_err(failed)?;
    let prepared = match engine {
        Engine::Sqlite => Ok(()),
        Engine::Postgres => {
            let first = first_checksum(engine);
            postgres::prepare_schema(&mut all, &first).await
        }
    };
    prepared.map_err(|fault| fault.at(place))?;
    let migrations = MIGRATIONS.iter().map(|step| step.migration(engine));
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // The writer's lock is held already.
    migrator.set_locking(false);
    let done = migrator.run_direct(None, &mut *all, false).await;
    done.map_err(|error| {
        let place = place.to_owned();
        match error {
            MigrateError::VersionMissing(version) => RegistryError::Newer { place, version },
            MigrateError::Execute(error) => RegistryError::Database { place, error },
            error => RegistryError::Migration {
                place,
                why: error.to_string(),
            },
        }
    })?;
    if engine == Engine::Postgres {
        let bound = postgres::bind_functions(&mut all).await;
        bound.map_err(|fault| fault.at(place))?;
    }
    all.commit().await.map_err(failed)
}

/// Rejects a file of SQLite that has tables and none of ours: they would get into each other's way.
pub(crate) async fn expect_no_others(place: &str, on: &mut AnyConnection) -> Result<(), Fault> {
    let sql = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' \
               AND NOT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations')";
    let others: i64 = sqlx::query_scalar(sql).fetch_one(on).await?;
    if others == 0 {
        return Ok(());
    }
    Err(Refused::OtherProgram(place.to_owned()).into())
}

/// All migrations have been run, and no others. Where there is no such table yet there are none.
async fn is_of_this_version(engine: Engine, connection: &mut AnyConnection) -> bool {
    let found = match engine {
        Engine::Sqlite => versions(connection).await,
        Engine::Postgres => match postgres::begin(connection).await {
            Ok(mut all) => {
                let found = versions(&mut all).await;
                let ended = all.rollback().await;
                found.and_then(|found| ended.map(|()| found))
            }
            Err(error) => Err(error),
        },
    };
    found.is_ok_and(|found| found.into_iter().eq(known_versions()))
}

/// The migrations that have been run.
pub(crate) async fn versions(connection: &mut AnyConnection) -> Result<Vec<i64>, sqlx::Error> {
    let sql = "SELECT version FROM _sqlx_migrations ORDER BY version";
    sqlx::query_scalar(sql).fetch_all(connection).await
}

/// Runs the steps up to one, where unqualified names lead, as an earlier version did.
#[cfg(test)]
pub(crate) async fn run_to(connection: &mut AnyConnection, engine: Engine, version: i64) {
    let migrations = MIGRATIONS.iter().map(|step| step.migration(engine));
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.set_locking(false);
    let done = migrator.run_direct(Some(version), connection, false).await;
    done.expect("they are run");
}
