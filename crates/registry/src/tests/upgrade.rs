//! Tables of an earlier version, with rows in them, become those of this one.

use sqlx::{AnyConnection, Connection as _};

use super::{all, postgres};
use crate::snapshot::tests::TemporaryDirectory;
use crate::sql::Engine;
use crate::{
    COMMON_TENANT, DeviceChange, DeviceRef, Expected, Location, NewTeam, Registry, RegistryError,
    Snapshot, Visibility, migrations, wait,
};

/// Two teams and a deleted one, with devices, as the version before team tokens left them.
const ROWS: &str = "\
INSERT INTO teams (id, name, description, tenant, revision, created_ms, updated_ms, deleted_ms) \
    VALUES ('t-late', 'late', '', 0, 1, 20, 20, 0), ('t-early', 'early', '', 0, 1, 10, 10, 0), \
    ('t-gone', 'gone', '', 0, 1, 15, 30, 30); \
INSERT INTO devices (number, tenant, id, name, type, status, description, location, \
    firmware_version, hardware_version, owner, team, search, revision, created_ms, updated_ms, \
    last_seen_ms, deleted_ms, kind, last_message_ms, last_telemetry_ms) VALUES \
    (1, 0, 'pump', 'Pump', 'device', 'active', '', '', '', '', '', 't-early', 'pump', 1, 10, 10, \
    5, 0, 'meter', 6, 7), \
    (2, 0, 'valve', 'Valve', 'iotflow', 'active', '', '', '', '', '', 't-late', 'valve', 1, 20, \
    20, 0, 0, '', 0, 0), \
    (3, 0, 'free', 'Free', 'device', 'active', '', '', '', '', '', '', 'free', 1, 30, 30, 0, 0, \
    '', 0, 0); \
UPDATE counters SET last = 3 WHERE name = 'device'; \
INSERT INTO settings (name, value) VALUES ('in_use', 'yes')";

/// Integrations and rules of a team, as the version before names within teams left them.
const NAMES: &str = "\
INSERT INTO teams (id, name, description, tenant, revision, created_ms, updated_ms, deleted_ms) \
    VALUES ('t-1', 'north', '', 7, 1, 20, 20, 0); \
INSERT INTO added_integrations (node, kind, name, team, settings, created_ms, changed_ms, \
    changed_by) VALUES ('n', 'bridge', 'up', 't-1', '{}', 1, 1, 'x'), \
    ('n', 'webhook', 'own', '', '{}', 1, 1, 'x'); \
INSERT INTO integration_states (node, kind, name, state, reason, changed_ms) VALUES \
    ('n', 'bridge', 'up', 'paused', '', 5), ('n', 'webhook', 'own', 'paused', '', 5); \
INSERT INTO bridge_subscriptions (node, bridge, filter, qos) VALUES ('n', 'up', 'a', 1); \
INSERT INTO message_rules (name, team, definition, revision, created_ms, changed_ms, changed_by) \
    VALUES ('hot', 't-1', '{}', 3, 1, 1, 'x'); \
INSERT INTO settings (name, value) VALUES ('in_use', 'yes')";

/// Makes tables of a version, with these rows.
async fn write(location: &Location, version: i64, rows: &'static str) {
    sqlx::any::install_default_drivers();
    let (url, engine) = match location {
        Location::File(path) => (
            format!("sqlite://{}?mode=rwc", path.display()),
            Engine::Sqlite,
        ),
        Location::Url(url) => (url.whole().to_owned(), Engine::Postgres),
    };
    let mut connection = AnyConnection::connect(&url).await.expect("it is there");
    if engine == Engine::Postgres {
        let schema = "CREATE SCHEMA martlet; SET search_path = martlet, pg_temp";
        let done = sqlx::raw_sql(schema).execute(&mut connection).await;
        done.expect("the schema is made");
    }
    migrations::run_to(&mut connection, engine, version).await;
    let done = sqlx::raw_sql(rows).execute(&mut connection).await;
    done.expect("they are written");
    connection.close().await.expect("it is closed");
}

async fn upgraded(location: &Location) -> Result<(), RegistryError> {
    write(location, 15, ROWS).await;
    let mut registry = Registry::open(location).await?;
    let device = registry
        .device(&Visibility::All, DeviceRef::Id("pump"))
        .await?;
    assert_eq!((device.number, &*device.kind), (1, "meter"));
    assert_eq!((&*device.team, device.last_seen_ms), ("t-early", 5));
    assert_eq!((device.last_message_ms, device.last_telemetry_ms), (6, 7));
    // Teams have numbers by their age, and a new one has the next.
    let tables = Snapshot::read(&mut registry).await?;
    let team_of = |tables: &Snapshot, id: &str| tables.login_numbers(COMMON_TENANT, id, id).team;
    assert_eq!(team_of(&tables, "pump"), 1);
    assert_eq!(team_of(&tables, "valve"), 3, "a deleted team keeps its own");
    assert_eq!(team_of(&tables, "free"), 0);
    let team = NewTeam {
        name: "new".to_owned(),
        ..NewTeam::default()
    };
    registry.add_team(&all(), team).await?;
    let change = DeviceChange {
        team: Some("new".to_owned()),
        ..DeviceChange::default()
    };
    registry
        .change_device(&all(), DeviceRef::Id("free"), change, Expected::any())
        .await?;
    let token = registry.add_team_token(&all(), "early", "panel").await?;
    assert_eq!(token.token.number, 1);
    let tables = Snapshot::read(&mut registry).await?;
    assert_eq!(team_of(&tables, "free"), 4);
    let (key, secret) = (token.key.text(), token.secret.text().as_bytes());
    let checked = |id: &str| tables.check_team_token(COMMON_TENANT, key, id, secret);
    assert!(checked("pump").is_some_and(|found| found.is_ok()));
    assert!(checked("valve").is_some_and(|found| found.is_err()));
    registry.restore_team(&all(), "gone").await?;
    registry.close().await?;
    // The second start finds nothing to do.
    Registry::open(location).await?.close().await
}

#[test]
fn teams_and_devices_of_the_version_before_team_tokens_are_kept_in_sqlite() {
    let place = TemporaryDirectory::new("upgrade");
    wait(upgraded(&place.db().into())).expect("they are brought to this version");
}

#[test]
fn teams_and_devices_of_the_version_before_team_tokens_are_kept_in_postgresql() {
    let location = Location::Url(postgres::new_database());
    wait(upgraded(&location)).expect("they are brought to this version");
}

async fn renamed(location: &Location) -> Result<(), RegistryError> {
    write(location, 30, NAMES).await;
    let mut registry = Registry::open(location).await?;
    let states = [
        ("bridge", "north/up", true),
        ("bridge", "up", false),
        ("webhook", "own", true),
    ];
    for (kind, name, is_there) in states {
        let state = registry.integration_state("n", kind, name).await?;
        assert_eq!(state.is_some(), is_there, "{kind}/{name}");
    }
    let subscriptions = registry.bridge_subscriptions("n").await?;
    assert_eq!(subscriptions[0].bridge, "north/up");
    let added = registry.added_integrations(&Visibility::All, "n").await?;
    assert_eq!((&*added[0].name, &*added[0].team_name), ("up", "north"));
    let rules = registry.stored_rules(&Visibility::All).await?;
    assert_eq!((&*rules[0].name, rules[0].revision), ("hot", 3));
    Ok(())
}

#[test]
fn names_of_integrations_of_teams_are_qualified_in_sqlite() {
    let place = TemporaryDirectory::new("names");
    wait(renamed(&place.db().into())).expect("they are brought to this version");
}

#[test]
fn names_of_integrations_of_teams_are_qualified_in_postgresql() {
    let location = Location::Url(postgres::new_database());
    wait(renamed(&location)).expect("they are brought to this version");
}
