//! The schema of the tables in PostgreSQL, tables that earlier versions made elsewhere, and
//! databases that other programs use too.

use sqlx::{AnyConnection, Connection as _};

use super::{all, both, new_device, postgres};
use crate::snapshot::tests::TemporaryDirectory;
use crate::sql::Engine;
use crate::{
    Contents, DatabaseUrl, DeviceFilter, DeviceOrder, DeviceSecret, Import, Location, NewDevice,
    OtherSystem, Owner, PageRequest, Refused, Registry, RegistryError, Remedies as _, Remedy,
    Renewed, RowOutcome, Secret, Snapshot, Visibility, contents, iotflow_devices, migrations,
    service_mqtt_devices, wait,
};

/// As IoTFlow's models make them in PostgreSQL.
const IOTFLOW: &str = "\
CREATE TABLE users (id SERIAL NOT NULL, user_id VARCHAR(32) NOT NULL, \
    username VARCHAR(80) NOT NULL, email VARCHAR(120) NOT NULL, \
    password_hash VARCHAR(128) NOT NULL, is_active BOOLEAN, is_admin BOOLEAN, \
    created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, \
    last_login TIMESTAMP WITH TIME ZONE, PRIMARY KEY (id), UNIQUE (user_id), UNIQUE (username), \
    UNIQUE (email)); \
CREATE TABLE devices (id SERIAL NOT NULL, name VARCHAR(100) NOT NULL, description TEXT, \
    device_type VARCHAR(50) NOT NULL, api_key VARCHAR(64) NOT NULL, status VARCHAR(20) NOT NULL, \
    location VARCHAR(200), firmware_version VARCHAR(20), hardware_version VARCHAR(20), \
    created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, \
    last_seen TIMESTAMP WITH TIME ZONE, user_id INTEGER, PRIMARY KEY (id), UNIQUE (api_key), \
    FOREIGN KEY(user_id) REFERENCES users (id)); \
CREATE TABLE device_configurations (id SERIAL NOT NULL, device_id INTEGER NOT NULL, \
    config_key VARCHAR(100) NOT NULL, config_value TEXT, data_type VARCHAR(20), is_active BOOLEAN, \
    created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, PRIMARY KEY (id), \
    CONSTRAINT uq_device_config UNIQUE (device_id, config_key), \
    FOREIGN KEY(device_id) REFERENCES devices (id)); \
INSERT INTO users (user_id, username, email, password_hash) VALUES ('u', 'ann', 'a@b', 'x'); \
INSERT INTO devices (name, device_type, api_key, status, user_id) VALUES \
    ('pump', 'sensor', 'abcdefghijklmnopqrstuvwxyz012345', 'active', 1), \
    ('valve', 'actuator', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ012345', 'maintenance', NULL); \
INSERT INTO device_configurations (device_id, config_key, config_value, data_type, is_active) \
    VALUES (1, 'interval', '60', 'integer', TRUE), (1, 'verbose', 'True', 'boolean', FALSE)";

/// As Service-MQTT makes it.
const SERVICE_MQTT: &str = "\
CREATE TABLE devices (id text, device_type text, mqtt_user text, mqtt_password text, \
    created_at timestamptz, PRIMARY KEY (id)); \
INSERT INTO devices VALUES \
    ('ABCDEFGHIJKLMNOP', 'car', 'ABCDEFGHIJKLMNOP', 'abcdefghijklmnop', now())";

async fn connect(url: &DatabaseUrl) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let connected = AnyConnection::connect(url.whole()).await;
    connected.expect("the server runs")
}

async fn run(connection: &mut AnyConnection, sql: &'static str) {
    let done = sqlx::raw_sql(sql).execute(connection).await;
    done.expect("it is done");
}

/// Tables of the schema `public` and of `martlet`.
async fn tables(connection: &mut AnyConnection) -> (Vec<String>, Vec<String>) {
    let mut found = Vec::new();
    for schema in ["public", "martlet"] {
        let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY 1";
        let query = sqlx::query_scalar::<_, String>(sql).bind(schema);
        found.push(query.fetch_all(&mut *connection).await.expect("a list"));
    }
    let own = found.pop().unwrap_or_default();
    (found.pop().unwrap_or_default(), own)
}

/// The tables in `public`, as a version before types of other products left them.
async fn write_old(url: &DatabaseUrl) {
    let mut connection = connect(url).await;
    migrations::run_to(&mut connection, Engine::Postgres, 10).await;
    let sql = "INSERT INTO device_types (name, is_builtin, created_ms) VALUES ('meter', 0, 3); \
               INSERT INTO devices (number, tenant, id, name, type, status, description, location, \
               firmware_version, hardware_version, owner, team, search, revision, created_ms, \
               updated_ms, last_seen_ms, deleted_ms) VALUES \
               (1, 0, 'a', 'First', 'device', 'active', '', '', '', '', '', '', 'a', 1, 10, \
               10, 0, 0), \
               (2, 0, 'b', 'Second', 'meter', 'active', '', '', '', '', '', '', 'b', 1, 20, \
               20, 0, 0), \
               (3, 0, 'summary', 'Third', 'device', 'active', '', '', '', '', '', '', 'c', 1, 30, \
               30, 0, 0); \
               UPDATE counters SET last = 3 WHERE name = 'device'; \
               INSERT INTO settings (name, value) VALUES ('in_use', 'yes')";
    run(&mut connection, sql).await;
    connection.close().await.expect("it is closed");
}

async fn devices(registry: &mut Registry) -> Result<Vec<(String, String, i64)>, RegistryError> {
    let (filter, order, page) = (
        DeviceFilter::default(),
        DeviceOrder::Id,
        PageRequest::first(10),
    );
    let found = registry
        .list_devices(&Visibility::All, &filter, order, &page)
        .await?;
    let found = found.items.into_iter();
    Ok(found
        .map(|one| (one.id, one.device_type, one.number))
        .collect())
}

#[test]
fn tables_of_an_earlier_version_are_moved_from_public() {
    let url = postgres::new_database();
    wait(async {
        write_old(&url).await;
        let mut other = connect(&url).await;
        run(&mut other, "CREATE TABLE secrets_of_others (id INTEGER)").await;
        let identity = {
            let sql = "SELECT value FROM settings WHERE name = 'database'";
            let found = sqlx::query_scalar::<_, String>(sql).fetch_one(&mut other);
            found.await.expect("it has one")
        };
        let found = contents(&url.clone().into()).await?;
        assert!(found.is_ours && found.system.is_none());

        // Two nodes and more at once.
        std::thread::scope(|scope| {
            let open = || wait(async { Registry::open(url.clone()).await?.close().await });
            let all: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            for one in all {
                one.join().expect("no panic").expect("it is opened");
            }
        });
        let mut registry = Registry::open(url.clone()).await?;
        let (public, own) = tables(&mut other).await;
        assert_eq!(public, ["secrets_of_others"]);
        assert!(own.contains(&"devices".to_owned()) && own.contains(&"audit".to_owned()));
        // What the type permitted is kept, and a reserved id is gone.
        let row = |id: &str, of: &str, number| (id.to_owned(), of.to_owned(), number);
        let expected = [
            row("a", "device-before-v11", 1),
            row("b", "meter", 2),
            row("summary-1", "device-before-v11", 3),
        ];
        assert_eq!(devices(&mut registry).await?, expected);
        let kept = registry.rule_set(Owner::DeviceType, "device-before-v11");
        assert_eq!(kept.await?.rules.len(), 19);
        let snapshot = Snapshot::read(&mut registry).await?;
        let sql = "SELECT value FROM martlet.settings WHERE name = 'database'";
        let found = sqlx::query_scalar::<_, String>(sql).fetch_one(&mut other);
        assert_eq!(found.await.expect("it has one"), identity);

        // Somebody changes a row by hand, with a search path of theirs.
        let by_hand = "UPDATE martlet.devices SET status = 'inactive' WHERE id = 'a'; \
                       INSERT INTO martlet.device_credentials SELECT 'c', 1, '', 'secret', \
                       repeat('A', 43), 1, 0, 0, 0, 0; UPDATE martlet.settings SET value = value";
        run(&mut other, by_hand).await;
        let Renewed::Changed(changed) = snapshot.renew_from(&mut registry).await? else {
            panic!("something has changed");
        };
        assert!(changed.names.iter().any(|name| &**name == "a"));
        registry.close().await
    })
    .expect("they are moved");
}

#[test]
fn tables_of_other_programs_are_left_as_they_are() {
    for (ddl, system) in [
        (IOTFLOW, OtherSystem::IotFlow),
        (SERVICE_MQTT, OtherSystem::ServiceMqtt),
    ] {
        let url = postgres::new_database();
        wait(async {
            let mut other = connect(&url).await;
            run(&mut other, ddl).await;
            // Another program that keeps its migrations in the same way.
            let migrations = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, \
                              description TEXT NOT NULL, checksum BYTEA NOT NULL); \
                              INSERT INTO _sqlx_migrations VALUES (1, 'x', '\\x00')";
            run(&mut other, migrations).await;
            let location = Location::from(url.clone());
            let expected = Contents {
                is_ours: false,
                has_others: true,
                system: Some(system),
            };
            assert_eq!(contents(&location).await?, expected);
            let (before, own) = tables(&mut other).await;
            assert!(own.is_empty(), "looking makes nothing");
            let mut registry = Registry::open(&location).await?;
            registry.add_device("d").await?;
            assert_eq!(devices(&mut registry).await?.len(), 1);
            // The user of these tests is called as the schema is.
            let snapshot = Snapshot::read(&mut registry).await?;
            assert!(snapshot.names(0).any(|name| name == "d"));
            let (after, own) = tables(&mut other).await;
            assert_eq!(after, before);
            assert!(own.len() > 20, "{own:?}");
            assert_eq!(
                contents(&location).await?,
                Contents {
                    is_ours: true,
                    ..expected
                }
            );
            registry.close().await
        })
        .expect("they are used side by side");
    }
}

#[test]
fn a_connection_keeps_no_settings() {
    let url = postgres::new_database();
    wait(async {
        let mut registry = Registry::open(url).await?;
        registry.add_device("d").await?;
        let _ = Snapshot::read(&mut registry).await?;
        assert_eq!(registry.devices().await?.len(), 1);
        assert!(
            registry
                .device(&Visibility::All, "none".into())
                .await
                .is_err()
        );
        assert!(registry.add_device("d").await.is_err());
        for (name, expected) in [
            ("search_path", "\"$user\", public"),
            ("statement_timeout", "0"),
            ("jit", "on"),
        ] {
            let sql = "SELECT current_setting($1)";
            let query = sqlx::query_scalar::<_, String>(sql).bind(name);
            let found = query.fetch_one(&mut registry.connection).await;
            assert_eq!(found.expect("it is set"), expected, "{name}");
        }
        // Nor does it need any, as behind a pooler.
        run(&mut registry.connection, "SET search_path = pg_temp").await;
        assert_eq!(registry.devices().await?.len(), 1);
        registry.add_device("e").await?;
        registry.close().await
    })
    .expect("it is used");
}

#[test]
fn a_user_who_may_not_make_the_schema_is_told_what_to_run() {
    let url = postgres::new_database();
    wait(async {
        let mut owner = connect(&url).await;
        run(&mut owner, "CREATE ROLE weak LOGIN").await;
        let weak = DatabaseUrl::parse(&url.whole().replace("martlet@", "weak@"))?;
        let found = Registry::open(weak.clone()).await.map(drop).unwrap_err();
        let found = found.to_string();
        assert!(
            found.contains("CREATE SCHEMA martlet AUTHORIZATION \"weak\""),
            "{found}"
        );
        run(&mut owner, "CREATE SCHEMA martlet AUTHORIZATION weak").await;
        let mut registry = Registry::open(weak).await?;
        registry.add_device("d").await?;
        registry.close().await
    })
    .expect("it is used");
}

#[test]
fn devices_of_other_systems_are_read() {
    let (iotflow, service) = (postgres::new_database(), postgres::new_database());
    wait(async {
        run(&mut connect(&iotflow).await, IOTFLOW).await;
        let found = iotflow_devices(&iotflow.clone().into()).await?;
        let devices: Vec<_> = found
            .devices
            .iter()
            .map(|one| (one.number, &*one.name, &*one.status, &*one.owner))
            .collect();
        let expected = [
            (1, "pump", "active", "ann"),
            (2, "valve", "maintenance", ""),
        ];
        assert_eq!(devices, expected);
        let settings: Vec<_> = found.devices[0]
            .settings
            .iter()
            .map(|one| (&*one.key, &*one.value, one.is_active))
            .collect();
        assert_eq!(
            settings,
            [("interval", "60", true), ("verbose", "True", false)]
        );
        let users: Vec<_> = found
            .users
            .iter()
            .map(|one| (&*one.name, one.is_active))
            .collect();
        assert_eq!((users, found.left_out), (vec![("ann", true)], Vec::new()));

        run(&mut connect(&service).await, SERVICE_MQTT).await;
        let found = service_mqtt_devices(&service.clone().into()).await?;
        assert_eq!(found.devices[0].user_name, "ABCDEFGHIJKLMNOP");
        let found = iotflow_devices(&service.into())
            .await
            .map(drop)
            .unwrap_err();
        let system = Remedy::Import(Some(OtherSystem::ServiceMqtt));
        assert_eq!(found.remedies(), [system], "{found}");
        Ok(())
    })
    .expect("they are read");
}

#[test]
fn a_file_of_another_program_is_refused() {
    let place = TemporaryDirectory::new("others-file");
    wait(async {
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}?mode=rwc", place.db().display());
        let mut connection = AnyConnection::connect(&url).await.expect("a file");
        run(
            &mut connection,
            "CREATE TABLE devices (id INTEGER, name TEXT)",
        )
        .await;
        connection.close().await.expect("it is closed");
        let found = contents(&place.db().into()).await?;
        assert!(found.has_others && !found.is_ours);
        let found = Registry::open(&place.db()).await.map(drop).unwrap_err();
        assert!(found.to_string().contains("another program"), "{found}");
        Ok(())
    })
    .expect("it is told");
}

both!(devices_bring_their_numbers, registry, {
    let numbered = |number: i64| NewDevice {
        number: Some(number),
        secret: DeviceSecret::Shared(Secret::given("abcdefghijklmnop").expect("long enough")),
        ..NewDevice::new(&number.to_string())
    };
    registry.add_device("first").await?;
    let rows = vec![
        numbered(5),
        new_device("x"),
        numbered(9),
        numbered(7),
        numbered(1),
        numbered(2_000_000_000),
        new_device("y"),
        numbered(12),
    ];
    let tried = registry.try_devices(&all(), rows.clone()).await?;
    let outcomes = registry
        .add_devices(&all(), rows, Import::EachByItself)
        .await?;
    let results = |outcomes: &[RowOutcome]| -> Vec<_> {
        let results = outcomes.iter().map(|one| match one {
            RowOutcome::Added(added) => Ok(added.number),
            RowOutcome::Refused(why) => Err(matches!(
                why,
                Refused::IdOfDigits(..) | Refused::NumberGiven(..) | Refused::NumberTooLarge(..)
            )),
            other => panic!("{other:?}"),
        });
        results.collect()
    };
    let expected = [
        Ok(5),
        Ok(6),
        Ok(9),
        Err(true),
        Err(true),
        Err(true),
        Ok(10),
        Ok(12),
    ];
    assert_eq!(results(&tried), expected);
    assert_eq!(results(&outcomes), expected);
    // A second time they are there already.
    let again = registry
        .add_devices(&all(), vec![numbered(5)], Import::EachByItself)
        .await?;
    assert!(matches!(again[..], [RowOutcome::Exists(_)]), "{again:?}");
    // A number is never used again.
    registry.purge_device(&all(), "12".into(), false).await?;
    let again = registry
        .add_devices(&all(), vec![numbered(12)], Import::EachByItself)
        .await?;
    assert!(matches!(again[..], [RowOutcome::Refused(_)]), "{again:?}");
});
